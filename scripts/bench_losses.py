"""Time and memory of every loss, ours and others', forward and backward, side by side in one run.

    python scripts/bench_losses.py  # everything
    python scripts/bench_losses.py --only 'cross|focal' --shapes 4x19x512x512 --markdown

For each shape and dtype it prints a table; a loss whose package is not installed says so. Columns:

    ms             median of the rounds, in which the rows take turns after a warm-up
    / weighted     over F.cross_entropy(weight=..., ignore_index=...), eager, in the same table
    / plain        over F.cross_entropy without weights, eager
    / floor        over 1.5 copies of the logits: to read them twice and write a gradient once
    peak           memory at its peak, the gradient included, in multiples of the logits' bytes

Labels are int64 ids, 10 % of them ignored; a loss that cannot ignore gets class 0 there. Losses on
one logit a pixel have tables of their own, over the binary cross-entropy with and without
`pos_weight`. It runs on a CUDA device if there is one.

So that it ends in time, a row that takes over 2 s is not compiled and gets the rounds that fit
into 8 s, 3 at most, as its note says; one over 8 s runs once after its warm-up. Compiling is given
up after a minute, and only the first of the shapes has compiled rows of other packages. It takes
some 3 s a row the first time; later runs find the cache of torch.compile.
"""

import argparse
import os
import re
import statistics
import warnings
from dataclasses import dataclass

import torch
import torch._dynamo.utils
from bench_measure import Call, cores, interleaved, machine, peak_bytes, seconds, time_limit
from bench_rows import Case, Loss, Maker, contenders, references
from torch import Tensor

SHAPES = ["4x19x512x512", "2x150x512x512", "8x2x512x512", "4x19x512x512:channels_last"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODES = ["eager", "compiled"]
SLOW = 2.0  # seconds a call
SLOW_BUDGET = 8.0  # seconds for all rounds of a slow row
SLOW_ROUNDS = 3
COMPILE_LIMIT = 60  # seconds
COPY = "floor: 1.5 copies"


@dataclass
class Row:
    """One line of a table: a step to time, or in the note why there is none."""

    name: str
    mode: str
    step: Call | None = None
    rounds: int = 0
    seconds: float = 0.0  # of the warm-up
    peak: float = 0.0  # multiples of the logits' bytes
    note: str = ""
    ms: float = 0.0


def main() -> None:
    """Prints the machine, and a table for each shape and dtype."""
    options = parse()
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no workers beside what is timed
    torch._dynamo.config.recompile_limit = 256  # our losses share one `forward`
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # rather than eager unawares
    warnings.simplefilter("ignore")
    torch.set_num_threads(min(torch.get_num_threads(), cores()))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{machine(device)}; medians of {options.rounds} rounds")
    for shape, channels_last in options.shapes:
        # one logit a pixel lies in memory alike in both layouts
        sizes = [shape] if channels_last else [shape, (shape[0], 1, *shape[2:])]
        for size in sizes:
            for dtype in options.dtypes:
                case = Case(size, channels_last, DTYPES[dtype], device)
                first = (shape, channels_last) == options.shapes[0]
                title = "×".join(map(str, size)) + (" channels_last" if channels_last else "")
                lines = table(measure(case, options, compile_all=first), options.markdown)
                print(f"\n{title}, {dtype}\n", *lines, sep="\n", flush=True)


def parse() -> argparse.Namespace:
    """The options, with each shape as its size and whether it is channels_last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", type=parse_shape, metavar="NxCxHxW[:channels_last]")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--only", default="", metavar="NAME_PATTERN", help="regular expression")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--markdown", action="store_true", help="tables fit for a README")
    parser.set_defaults(shapes=[parse_shape(text) for text in SHAPES])
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected at least 1")
    return options


def parse_shape(text: str) -> tuple[tuple[int, ...], bool]:
    """The size and whether it is channels_last, of a text such as 4x19x512x512:channels_last."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)x(\d+)(:channels_last)?", text)
    sizes = [int(size) for size in match.groups()[:4]] if match else [0]
    if match is None or min(sizes) < 1 or sizes[1] < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NxCxHxW with C >= 2")
    return tuple(sizes), match[5] is not None


def measure(case: Case, options: argparse.Namespace, compile_all: bool) -> list[Row]:
    """The rows of one table, timed: a copy, the two eager references, and all others."""
    torch.compiler.reset()
    binary = case.channels == 1
    rows = [copy_row(case, options.rounds)]
    compiled: list[Row] = []
    for name, maker in references(binary).items():
        pair = prepare(name, maker, case, options.rounds, ["eager", *options.modes])
        rows, compiled = rows + pair[:1], compiled + pair[1:]
    rows += compiled
    for name, maker in contenders(binary).items():
        all_modes = compile_all or name.startswith("seg ")
        modes = [mode for mode in options.modes if all_modes or mode == "eager"]
        if modes and re.search(options.only, name, re.IGNORECASE):
            rows += prepare(name, maker, case, options.rounds, modes)
    timed = {f"{row.mode} {row.name}": row for row in rows if row.step is not None}
    calls = {key: row.step for key, row in timed.items() if row.step is not None}
    rounds = {key: row.rounds for key, row in timed.items()}
    for key, times in interleaved(calls, rounds, case.logits.device).items():
        timed[key].ms = 1000 * (statistics.median(times) if times else timed[key].seconds)
    rows[0].ms *= 1.5  # a copy reads once and writes once
    return rows


def copy_row(case: Case, rounds: int) -> Row:
    """The memory floor: a copy of the logits into memory that is there already."""
    source = case.logits.detach()
    destination = source.clone()
    return Row(COPY, "", lambda: destination.copy_(source), rounds)


def prepare(name: str, maker: Maker, case: Case, rounds: int, modes: list[str]) -> list[Row]:
    """Warms a loss up and measures its memory, in each of the modes."""
    try:
        loss, target = maker(case)
    except ModuleNotFoundError:
        return [Row(name, "", note="not installed")]
    except Exception as error:
        return [Row(name, "", note=reason(error))]
    eager = warmed(Row(name, "eager"), loss, target, case, rounds)
    rows = [eager] if "eager" in modes else []
    if "compiled" in modes:
        rows.append(compile_row(name, eager, loss, target, case, rounds))
    return rows


def compile_row(name: str, eager: Row, loss: Loss, target: Tensor, case: Case, rounds: int) -> Row:
    """The compiled row of a loss, unless its eager one says that it is not worth the wait."""
    if eager.step is None:
        return Row(name, "compiled", note="fails eager")
    if eager.seconds > SLOW:
        return Row(name, "compiled", note=f"not compiled: over {SLOW:g} s eager")
    torch._dynamo.utils.counters.clear()
    row = Row(name, "compiled")
    try:
        with time_limit(COMPILE_LIMIT, "compiling"):
            compiled = torch.compile(loss, dynamic=False)
            step(compiled, target, case)()
    except Exception as error:
        row.note = reason(error)
        return row
    breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
    row.note = f"graph breaks: {breaks}" if breaks else ""
    return warmed(row, compiled, target, case, rounds)


def step(loss: Loss, target: Tensor, case: Case) -> Call:
    """A call of forward and backward, as inside a network: nothing is accumulated in `.grad`."""

    def run() -> None:
        torch.autograd.grad(loss(case.logits, target), case.logits)

    return run


def warmed(row: Row, loss: Loss, target: Tensor, case: Case, rounds: int) -> Row:
    """The row with its step, its peak memory and as many rounds as its time allows."""
    run, device = step(loss, target, case), case.logits.device
    size = case.logits.numel() * case.logits.element_size()
    spent: list[float] = []
    try:
        row.peak = peak_bytes(lambda: spent.append(seconds(run, device)), device) / size
    except Exception as error:
        row.note = reason(error)
        return row
    row.step, row.seconds, row.rounds = run, spent[0], rounds
    if row.seconds > SLOW:  # if it was no accident
        row.seconds = min(row.seconds, seconds(run, device))
    if row.seconds > SLOW:
        row.rounds = min(rounds, SLOW_ROUNDS, int(SLOW_BUDGET / row.seconds))
        row.note = f"rounds: {row.rounds}" if row.rounds else "1 run"
    return row


def reason(error: Exception) -> str:
    """The first line of an error, short enough for a table."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return f"fails: {type(error).__name__}: {text[:60]}".replace("|", "/")


def table(rows: list[Row], markdown: bool) -> list[str]:
    """The lines of a table; the first three rows are the copy and the references."""
    floor, weighted, plain = (row.ms or float("nan") for row in rows[:3])
    lines = [["loss", "mode", "ms", "/ weighted", "/ plain", "/ floor", "peak", "note"]]
    for row in rows:
        ratios = [f"{row.ms / base:.2f}" for base in (weighted, plain, floor)]
        peak = f"{row.peak:.2f}" if row.peak else ""
        figures = [f"{row.ms:.2f}", *ratios, peak] if row.step else [""] * 5
        lines.append([row.name, row.mode, *figures, row.note])
    if markdown:
        rule = ["---", "---", *["---:"] * 5, "---"]
        return ["| " + " | ".join(cells) + " |" for cells in (lines[0], rule, *lines[1:])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(align(cells, widths)).rstrip() for cells in lines]


def align(cells: list[str], widths: list[int]) -> list[str]:
    """Cells padded to the widths of their columns, figures to the right."""
    padded = zip(cells, widths, strict=True)
    return [c.rjust(w) if 2 <= i <= 6 else c.ljust(w) for i, (c, w) in enumerate(padded)]


if __name__ == "__main__":
    main()
