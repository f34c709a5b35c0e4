"""What a training step costs on one rank and on two, what it sends, and how fast loaders read.

    python scripts/bench_scaling.py

One rank of two threads and two ranks of one thread, over gloo, take the same batches of one size in
turns: all that is compared was measured in one run. It prints

    step         median time of an optimiser step; forward, backward, gradients sent, AdamW
    naive        the same with the mean of the ranks' own mean losses, which is not the batch's; the
                 ratio is of processor time. On a machine with other work it varies by more than
                 the exact divisor costs, which is why that is timed by itself
    exact        what the exact divisor adds to a step: the sums over the labels and over the ranks,
                 timed by themselves after a barrier, as a share of the step
    sent         bytes that a rank gives to collectives in a step, by name, from torch's profiler
    loader       images read, decoded and augmented a second by 1 and by 2 worker processes, and
                 what is read of every file before the first step
    checkpoint   size of network and AdamW's state as a file, and the time to write and sync it
"""

import argparse
import os
import socket
import statistics
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from bench_files import KINDS, reading
from bench_measure import machine, seconds
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from seg.distributed.ranks import Ranks
from seg.losses import CrossEntropyLoss
from seg.training.step import Share, step_loss

CPU = torch.device("cpu")
CLASSES = 19
BYTES = {"float": 4, "double": 8, "long int": 8, "unsigned char": 1, "c10::BFloat16": 2}
Place = tuple[int, int, int]  # rank, ranks, port


def main() -> None:
    """Prints all of it."""
    options = parse()
    print(f"{machine(CPU)}; medians of {options.rounds} rounds")
    print(
        f"Unet({options.encoder}), {CLASSES} classes, batch {options.batch_size} of crops ", end=""
    )
    print(f"{options.crop} x {options.crop}, fp32\n")
    steps(options)
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            print(f"{kind}: {reading(kind, Path(folder), options.images)}")
        checkpoint(options, Path(folder) / "last.ckpt")


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=8, help="over all ranks; even")
    parser.add_argument("--crop", type=int, default=192, help="a multiple of 32")
    parser.add_argument("--images", type=int, default=64, help="files that the loaders read")
    return parser.parse_args()


def steps(options: argparse.Namespace) -> None:
    """Steps of one rank and of two in turns, and what they send."""
    worlds = [World(1, options), World(2, options)]
    calls = [(world, call) for call in ("step", "naive", "exact") for world in worlds]
    times: dict[tuple[World, str], list[float]] = {key: [] for key in calls}
    processor: dict[tuple[World, str], list[float]] = {key: [] for key in calls}
    for number in range(options.rounds + 1):
        for world, call in calls:
            answers = world.ask(call)
            if number > 0:  # the first is the warm-up
                times[world, call].append(max(wall for wall, _ in answers))
                processor[world, call].append(sum(used for _, used in answers))
    median = {key: statistics.median(values) for key, values in times.items()}
    for world in worlds:
        step, exact = (median[world, call] for call in ("step", "exact"))
        used = [statistics.median(processor[world, call]) for call in ("step", "naive")]
        name = f"{world.size} rank{'s' if world.size > 1 else ''} x {2 // world.size} threads"
        print(f"{name:<20} step {1000 * step:7.1f} ms  / naive {used[0] / used[1]:.3f}", end="")
        print(f"  exact {1000 * exact:.2f} ms = {100 * exact / step:.2f} % of a step")
    ratio = median[worlds[1], "step"] / median[worlds[0], "step"]
    print(f"step of 2 ranks / of 1 rank: {ratio:.2f}")
    for name, size in worlds[1].ask("sent")[0].items():
        print(f"sent of a step: {name:<16} {size:>12,} bytes")
    for world in worlds:
        world.close()


class World:
    """Processes of one process group that do what they are asked, all at once."""

    def __init__(self, size: int, options: argparse.Namespace) -> None:
        self.size = size
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        context = mp.get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(size):
            mine, theirs = context.Pipe()
            arguments = ((rank, size, port), theirs, options)
            process = context.Process(target=work, args=arguments, daemon=True)
            process.start()
            self.pipes.append(mine)
            self.processes.append(process)

    def ask(self, call: str) -> list:
        """The answers of all ranks."""
        for pipe in self.pipes:
            pipe.send(call)
        return [pipe.recv() for pipe in self.pipes]

    def close(self) -> None:
        """End the processes."""
        self.ask("close")
        for process in self.processes:
            process.join()


def work(place: Place, pipe: Connection, options: argparse.Namespace) -> None:
    """A rank: answers calls by their time or, for "sent", by bytes."""
    rank, size, port = place
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), KINETO_LOG_LEVEL="99")
    torch.set_num_threads(2 // size)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    trainer = Trainer(rank, size, options)
    calls = {"step": trainer.step, "naive": trainer.naive, "exact": trainer.exact}
    while (call := pipe.recv()) != "close":
        dist.barrier()
        used = time.process_time()
        answer = trainer.sent() if call == "sent" else seconds(calls[call], CPU)
        pipe.send(answer if call == "sent" else (answer, time.process_time() - used))
    dist.destroy_process_group()
    pipe.send(None)


class Trainer:
    """A network on this rank's share of one batch; 10 % of the pixels are ignored."""

    def __init__(self, rank: int, size: int, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.network, self.optimizer = network_and_optimizer(options.encoder)
        self.model: nn.Module = self.network
        if size > 1:
            self.model = DistributedDataParallel(self.network)
        shape = (options.batch_size // size, options.crop, options.crop)
        images = torch.rand(shape[0], 3, *shape[1:]).to(memory_format=torch.channels_last)
        target = torch.randint(CLASSES, shape, dtype=torch.uint8)
        target[torch.rand(shape) < 0.1] = 255
        self.loss = CrossEntropyLoss()
        self.share = Share(images, target, Ranks(size))

    def step(self) -> None:
        """A step with the loss of the whole batch."""
        parts = {"": (1.0, self.loss)}
        loss = step_loss(self.network, self.model, parts, self.share, CLASSES).loss
        self.update(loss)

    def naive(self) -> None:
        """A step with this rank's own mean."""
        self.update(self.loss(self.model(self.share.images), self.share.target))

    def update(self, loss: Tensor) -> None:
        """Backward pass and optimiser."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def exact(self) -> None:
        """What `step` does and `naive` does not: divisor, its sum, and the sum of the losses."""
        divisor = self.loss.divisor(self.share.target, CLASSES)
        self.share.ranks.sum(torch.stack([divisor]))
        self.share.ranks.sum(torch.zeros(1, dtype=torch.float64))

    def sent(self) -> dict[str, int]:
        """Bytes given to each kind of collective in one step."""
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as record:
            self.step()
        sizes: Counter[str] = Counter()
        for event in record.profiler.kineto_results.events():
            if event.name().startswith("gloo:"):
                for shape, dtype in zip(event.shapes(), event.dtypes(), strict=True):
                    sizes[event.name()] += int(np.prod(shape)) * BYTES[dtype]
        return dict(sizes)


def network_and_optimizer(encoder: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A U-Net, channels-last, and its AdamW."""
    network = smp.Unet(encoder, encoder_weights=None, classes=CLASSES)
    network = network.to(memory_format=torch.channels_last)
    return network, torch.optim.AdamW(network.parameters(), lr=1e-3)


def checkpoint(options: argparse.Namespace, path: Path) -> None:
    """Size and time of a file with weights and both moments."""
    network, optimizer = network_and_optimizer(options.encoder)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()

    def save() -> None:
        state = {"state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}
        with path.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    times = [seconds(save, CPU) for _ in range(3)]
    count = sum(p.numel() for p in network.parameters())
    size = path.stat().st_size
    print(f"checkpoint: {count / 1e6:.1f} M parameters, {size / 1e6:.0f} MB, ", end="")
    print(f"{size / count:.1f} bytes a parameter, {statistics.median(times):.2f} s")


if __name__ == "__main__":
    main()
