import csv

import matplotlib
import numpy as np
import pytest
from PIL import Image

from seg.report import curves
from seg.report.curves import plot_curves

pytestmark = pytest.mark.slow


def write_csv(path, rows):
    columns = dict.fromkeys(column for row in rows for column in row)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws rows and returns the figure that was saved; the picture is really written."""
    figures = []
    save = curves._save

    def keep(figure, output):
        figures.append(figure)
        save(figure, output)

    monkeypatch.setattr(curves, "_save", keep)

    def drawn(rows):
        output = tmp_path / "run" / "curves.png"
        assert plot_curves(write_csv(tmp_path / "metrics.csv", rows), output)
        assert np.asarray(Image.open(output)).std() > 0
        return figures[-1]

    return drawn


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


ROWS = [
    {"epoch": 0, "step": 0, "train/loss": 3.0},
    {"epoch": 0, "step": 1, "train/loss": 1.0},
    {"epoch": 0, "step": 1, "val/loss": 1.5, "val/miou": 0.25, "val/iou/sky": 0.5},
    {"epoch": 1, "step": 2, "train/loss": 0.5},
    {"epoch": 1, "step": 3, "val/loss": 1.0, "val/miou": 0.5, "val/iou/sky": 0.75},
]


def test_losses_and_scores_are_drawn_over_the_epochs(draw):
    left, right = draw(ROWS).axes
    assert lines(left) == {"training": [[0, 2.0], [1, 0.5]], "validation": [[0, 1.5], [1, 1.0]]}
    assert lines(right) == {"sky": [[0, 0.5], [1, 0.75]], "mean": [[0, 0.25], [1, 0.5]]}


def test_the_epoch_loss_counts_where_both_were_logged(draw):
    rows = [{"epoch": 0, "train/loss_step": 9.0}, {"epoch": 0, "train/loss_epoch": 2.0}]
    assert lines(draw(rows).axes[0]) == {"training": [[0, 2.0]]}


def test_the_step_loss_is_averaged_where_it_is_all_there_is(draw):
    rows = [{"epoch": 3, "train/loss_step": 9.0}, {"epoch": 3, "train/loss_step": 1.0}]
    assert lines(draw(rows).axes[0]) == {"training": [[3, 5.0]]}


def test_the_last_validation_of_an_epoch_counts(draw):
    rows = [{"epoch": 0, "val/miou": 0.1}, {"epoch": 0, "val/miou": 0.4}]
    assert lines(draw(rows).axes[1]) == {"mean": [[0, 0.4]]}


def test_a_class_that_is_absent_for_a_while_leaves_a_gap(draw):
    rows = [{"epoch": e, "val/iou/pole": v} for e, v in enumerate([0.1, "nan", 0.3])]
    values = np.array(lines(draw(rows).axes[1])["pole"])[:, 1]
    np.testing.assert_array_equal(values, [0.1, np.nan, 0.3])


def test_an_infinite_loss_does_not_spoil_the_scale(draw):
    rows = [{"epoch": e, "val/loss": v} for e, v in enumerate(["inf", 1.0, 2.0])]
    assert draw(rows).axes[0].get_ylim()[1] < 3


@pytest.mark.parametrize("name", ["$x_1$", "$\\nonsense{$", "_hidden", "дорога", "a/b", "a_b^c"])
def test_class_names_are_shown_letter_by_letter(name, draw):
    legend = draw([{"epoch": 0, f"val/iou/{name}": 0.5}]).axes[1].get_legend()
    (text,) = legend.get_texts()
    assert text.get_text().strip() == name
    assert not text.get_parse_math()


def test_thirty_classes_differ_and_their_legend_fits_beside_the_panel(draw):
    figure = draw(
        [{"epoch": e, **{f"val/iou/class {i}": i / 30 for i in range(30)}} for e in (0, 1)]
    )
    axes = figure.axes[1]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 30
    legend, panel = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert legend.x0 >= panel.x1
    assert legend.x1 <= figure.bbox.x1
    assert legend.y0 >= 0
    assert legend.y1 <= figure.bbox.y1


@pytest.mark.parametrize("text", ["", "epoch,step,train/loss\n", "epoch,step,lr\n0,0,0.1\n"])
def test_a_file_with_nothing_to_draw_gives_no_picture(text, tmp_path):
    (tmp_path / "metrics.csv").write_text(text)
    assert plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png") is False
    assert not (tmp_path / "curves.png").exists()


def test_drawing_leaves_the_global_settings_of_matplotlib_alone(draw):
    # as they are stored: asking for the backend would choose one
    before = dict(dict.items(matplotlib.rcParams))
    draw(ROWS)
    assert dict(dict.items(matplotlib.rcParams)) == before
