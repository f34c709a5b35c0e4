"""Time and peak memory of a call, for the benchmarks beside this file.

Peak memory is what the tensors allocated at their peak during a call, above what was there before
it, to the byte. On a CPU it is added up from the allocator's own record, which torch's profiler
keeps: it holds every tensor, also the scratch of an `autograd.Function` and of compiled code. The
resident memory of the process shows the same only if malloc returns each block to the system at
once (MALLOC_MMAP_THRESHOLD_=65536), and leaves out pages that are allocated but not written.
"""

import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from types import FrameType

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


def peak_bytes(call: Call, device: torch.device) -> int:
    """Bytes of tensors at their peak during the call, above what was allocated before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before: int = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports its start and its end
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    # a positive size is an allocation, a negative one a release
    sizes: list[int] = [e.nbytes() for e in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(sizes, initial=0))


def seconds(call: Call, device: torch.device) -> float:
    """Wall-clock time of one call, up to the end of its work on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def interleaved(
    calls: dict[str, Call], rounds: dict[str, int], device: torch.device
) -> dict[str, list[float]]:
    """Times of every call, one of each a round, so that a slow moment of the machine hits all.

    Args:
        calls: What to time, by name; each must have run once before.
        rounds: In how many of the rounds each takes part.
        device: Where the calls work.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(max(rounds.values())):
        for name, call in calls.items():
            if number < rounds[name]:
                times[name].append(seconds(call, device))
    return times


@contextmanager
def time_limit(limit: int, what: str) -> Iterator[None]:
    """Raises a TimeoutError in the block once it has run for `limit` seconds."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{what} takes over {limit} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine(device: torch.device) -> str:
    """What the figures hold for: torch, device and threads, in one line."""
    threads = f"{torch.get_num_threads()} of {cores()} cores"
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"torch {torch.__version__}, {_cpu_name()}, threads on {threads}{gpu}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
