"""How a run went: loss and IoU over the epochs, drawn from Lightning's metrics.csv."""

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import __version_info__, colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator

from seg.files import replacing
from seg.report.fonts import shown_names

_TRAINING_LOSS = ("train/loss_epoch", "train/loss", "train/loss_step")
"""Names of the training loss, the one to prefer first."""
_CLASS_PREFIX = "val/iou/"
_LINE_STYLES = ("-", "--", ":")
_ROWS_PER_LEGEND_COLUMN = 16
_DPI = 120
_SHAPES_TEXT = __version_info__[:2] >= (3, 11)

Curve = dict[int, float]
"""A value an epoch."""


def plot_curves(metrics_csv: str | Path, output: str | Path) -> bool:
    """Draws training and validation loss, and the IoU of every class with their mean.

    A training loss logged at every step is averaged over its epoch; of several validations in an
    epoch the last counts. What was not logged is left out.

    Args:
        metrics_csv: What Lightning's CSVLogger wrote.
        output: The PNG file; its folder is made if missing.

    Returns:
        Whether there was anything to draw; if not, no file is written.
    """
    logged = _read(metrics_csv)
    training = next((logged[name] for name in _TRAINING_LOSS if name in logged), {})
    losses = {
        "training": _per_epoch(training, fmean),
        "validation": _per_epoch(logged.get("val/loss", {}), _last),
    }
    losses = {name: curve for name, curve in losses.items() if curve}
    mean = _per_epoch(logged.get("val/miou", {}), _last)
    classes = {
        name.removeprefix(_CLASS_PREFIX): _per_epoch(values, _last)
        for name, values in logged.items()
        if name.startswith(_CLASS_PREFIX)
    }
    if not (losses or mean or classes):
        return False
    figure = Figure(figsize=(13, 5), dpi=_DPI, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    _draw_losses(left, losses)
    _draw_scores(right, classes, mean)
    _save(figure, output)
    return True


def _read(metrics_csv: str | Path) -> dict[str, dict[int, list[float]]]:
    """All values of every column that has some, by epoch, in the order they were logged."""
    logged: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    with Path(metrics_csv).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            epoch = row.pop("epoch", None)
            for name, text in row.items():
                if epoch and text:
                    logged[name][int(float(epoch))].append(float(text))
    return logged


def _per_epoch(values: dict[int, list[float]], reduce: Callable[[Sequence[float]], float]) -> Curve:
    return {epoch: reduce(values[epoch]) for epoch in sorted(values)}


def _last(values: Sequence[float]) -> float:
    return values[-1]


def _draw_losses(axes: Axes, losses: dict[str, Curve]) -> None:
    for name, curve in losses.items():
        _draw(axes, curve, name, color="C0" if name == "training" else "C3", linewidth=1.8)
    _label(axes, "loss")
    if losses:
        axes.legend(frameon=False)


def _draw_scores(axes: Axes, classes: dict[str, Curve], mean: Curve) -> None:
    palette = colormaps["tab10"]
    for index, (name, curve) in enumerate(classes.items()):
        style = _LINE_STYLES[index // palette.N % len(_LINE_STYLES)]
        color = palette(index % palette.N)
        _draw(axes, curve, name, color=color, linestyle=style, linewidth=1.2)
    if mean:
        _draw(axes, mean, "mean", color="black", linewidth=3)
    _label(axes, "IoU on the validation split")
    axes.set_ylim(-0.02, 1.02)
    if axes.lines:
        _legend(axes, [*classes, *(["mean"] if mean else [])])


def _draw(axes: Axes, curve: Curve, name: str, **style: Any) -> None:
    finite = [value if math.isfinite(value) else math.nan for value in curve.values()]
    size = 3 if len(curve) > 1 else 6
    axes.plot(list(curve), finite, label=name, marker="o", markersize=size, **style)


def _label(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes, names: Sequence[str]) -> None:
    """Draws a legend beside `axes` with the names letter by letter.

    Left alone, matplotlib reads mathematics between dollars, and in front of an underscore (hence
    the space) drops the name.
    """
    shown = shown_names(names, _SHAPES_TEXT)
    legend = axes.legend(
        axes.lines,
        [f" {name.text}" for name in shown],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        fontsize="small",
        frameon=False,
        ncols=-(-len(names) // _ROWS_PER_LEGEND_COLUMN),
    )
    for text, name in zip(legend.get_texts(), shown, strict=True):
        text.set_parse_math(False)
        if name.font is not None:
            text.set_fontproperties(FontProperties(fname=name.font, size=text.get_fontsize()))


def _save(figure: Figure, output: str | Path) -> None:
    with replacing(output) as temporary:
        # savefig would draw it twice
        FigureCanvasAgg(figure).print_png(temporary)  # type: ignore[no-untyped-call]
