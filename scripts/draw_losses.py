"""Draw what α and γ do to a loss, and what imbalance does to a sum, for docs/explanation.

usage: python scripts/draw_losses.py [FOLDER]
"""

import sys
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from seg.files import replacing
from seg.losses import FocalLoss

matplotlib.use("agg")
from matplotlib import pyplot as plt

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "explanation"
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
ALPHAS = (1.0, 3.0, 10.0)
RATIOS = (1, 10, 100, 1000)
"""Pixels of background for one pixel of crack."""
EASY, HARD = 0.9, 0.2
"""Probability of the truth for a pixel of background and for one of crack."""


def losses(p_t: Tensor, gamma: float, alpha: float = 1.0) -> Tensor:
    """Focal losses of pixels (P,) of class 1, of which the network is sure by p_t (P,)."""
    logits = torch.stack([torch.zeros_like(p_t), torch.logit(p_t)])[None]  # (1, 2, P)
    target = torch.ones(1, len(p_t), dtype=torch.long)
    return FocalLoss(alpha=[1.0, alpha], gamma=gamma, reduction="none")(logits, target)[0]


def share_of_crack(ratio: float, gamma: float, alpha: float = 1.0) -> float:
    """Share of the whole loss that falls on one pixel of crack among `ratio` of background."""
    easy, hard = losses(torch.tensor([EASY, HARD], dtype=torch.float64), gamma).tolist()
    return alpha * hard / (alpha * hard + ratio * easy)


def draw_focal() -> plt.Figure:
    """The loss of a pixel by γ, and by α."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    p = torch.linspace(0.01, 0.999, 400, dtype=torch.float64)
    for gamma in GAMMAS:
        left.plot(p, losses(p, gamma), label=f"γ = {gamma:g}")
    for alpha in ALPHAS:
        right.plot(p, losses(p, 0.0, alpha), label=f"α = {alpha:g}")
    left.set(title="γ: less of what is easy", ylim=(0, 5), ylabel="loss of the pixel")
    right.set(title="α: more of one class", ylim=(0, 15))
    for ax in (left, right):
        ax.set(xlabel="probability of the true class, p_t", xlim=(0, 1))
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    return figure


def draw_imbalance() -> plt.Figure:
    """Share of the loss that a hard pixel of crack has among easy ones of background."""
    settings = [
        ("cross-entropy", 0.0, 1.0),
        ("γ = 2", 2.0, 1.0),
        ("α = 100", 0.0, 100.0),
        ("α = 100, γ = 2", 2.0, 100.0),
    ]
    figure, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for number, (label, gamma, alpha) in enumerate(settings):
        shares = [100 * share_of_crack(ratio, gamma, alpha) for ratio in RATIOS]
        places = [place + (number - 1.5) * 0.2 for place in range(len(RATIOS))]
        ax.bar(places, shares, width=0.2, label=label)
    ax.set_xticks(range(len(RATIOS)), [f"1 : {ratio}" for ratio in RATIOS])
    ax.set(xlabel="pixels of crack : background", ylabel="share of the loss on crack, %")
    ax.set_ylim(0, 100)
    ax.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 1.25))
    return figure


def main() -> None:
    """Writes both pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, figure in (("focal_loss", draw_focal()), ("imbalance", draw_imbalance())):
        with replacing(folder / f"{name}.png") as path:
            figure.savefig(path, format="png", dpi=90)


if __name__ == "__main__":
    main()
