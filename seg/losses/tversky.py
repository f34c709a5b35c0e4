"""Dice, Jaccard and Tversky: losses on the overlap of whole regions, class by class."""

import math
from functools import partial

import torch
from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.distributed.ranks import Ranks
from seg.exact_sums import widened
from seg.losses.arguments import number
from seg.losses.base import SegmentationLoss
from seg.losses.batch_sums import share_of
from seg.losses.kernels.choice import kernels_for
from seg.losses.reduction import Reduction, mean_of, reduce_losses
from seg.losses.targets import (
    Logits,
    Target,
    images_that_count,
    one_hot,
    softmax_inputs,
    takes_one_sample,
)


def dice_loss(
    logits: Logits,
    target: Target,
    per_image: bool = False,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Soft Dice loss: 1 - 2 Σ p q / (Σ p + Σ q), averaged over the classes that occur.

    It is the Tversky loss with α = β = 1/2; see `tversky_loss` for the arguments.

    Reference:
        Milletari et al., V-Net, 2016, section 3, without squares in the denominator.
    """
    return tversky_loss(logits, target, 0.5, 0.5, 1.0, per_image, ignore_index, reduction)


def jaccard_loss(
    logits: Logits,
    target: Target,
    per_image: bool = False,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Soft IoU loss: 1 - Σ p q / (Σ p + Σ q - Σ p q), averaged over the classes that occur.

    It is the Tversky loss with α = β = 1; see `tversky_loss` for the arguments.

    Reference:
        Rahman & Wang, Optimizing Intersection-Over-Union in Deep Neural Networks, 2016, eq. 3.
    """
    return tversky_loss(logits, target, 1.0, 1.0, 1.0, per_image, ignore_index, reduction)


@takes_one_sample
def tversky_loss(
    logits: Logits,
    target: Target,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    per_image: bool = False,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
) -> Tensor:
    """Focal Tversky loss: (1 - TI_c)^(1/γ) averaged over the classes c that occur.

    TI_c = TP / (TP + α FP + β FN) with the soft counts TP = Σ p_c q_c, FP = Σ p_c (1 - q_c) and
    FN = Σ (1 - p_c) q_c over the pixels that count, of the batch or of one image. A class without
    a pixel there is left out of the mean; no constant is added to the counts.

    Args:
        logits: Unnormalised scores, classes at dim 1, of which p is the softmax.
        target: Class ids in [0, C) of any integer dtype, or class probabilities q; in both,
            `ignore_index` marks what to ignore.
        alpha: Weight α >= 0 of false positives.
        beta: Weight β >= 0 of false negatives.
        gamma: Focusing exponent γ > 0; 1 is the Tversky loss. The slope by TI_c is
            (1 - TI_c)^(1/γ - 1) / γ: below 1 classes that overlap badly lead, above 1, as at the
            paper's 4/3, those that overlap well.
        per_image: Whether to count in each image instead of in the whole batch.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` or `sum` over the images, or `none` for the loss of each image (N,). Over
            the batch there is one loss, with `none` (1,). It is 0 where every pixel is ignored; an
            image of which every pixel is ignored is left out of the mean.

    Raises:
        ValueError: If the shapes do not pair, the classes seem to be last, a label is no class, or
            a weight or the exponent is out of range.

    Reference:
        Salehi et al., Tversky Loss Function for Image Segmentation, 2017, eq. 3;
        Abraham & Khan, A Novel Focal Tversky Loss Function, 2019, eq. 4.
    """
    alpha, beta, gamma = _check(alpha, beta, gamma)
    sums = overlap_sums(logits, target, ignore_index)
    losses, weights = _losses(sums if per_image else sums.sum(0, True), alpha, beta, gamma)
    return reduce_losses(losses, weights, reduction)


class TverskyLoss(SegmentationLoss):
    """Tversky loss: for rare classes that are missed more often than they are invented.

    Args:
        alpha: Weight of false positives, 0 or more.
        beta: Weight of false negatives, 0 or more; above alpha it raises recall.
        gamma: Focusing exponent above 0: 1 is plain; below 1 classes that overlap badly have the
            larger gradient, above 1, as at the usual 4/3 of focal Tversky, those that overlap well.
        per_image: Whether to count in each image instead of in the whole batch.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the images (or of the batch), their `sum`, or `none`.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        per_image: bool = False,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.alpha, self.beta, self.gamma = _check(alpha, beta, gamma)
        self.per_image = per_image

    def element_losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of every image (N,) or of the batch (1,), and whether anything counts in it."""
        sums = overlap_sums(logits, target, self.ignore_index)
        return self._losses(sums if self.per_image else sums.sum(0, True))

    def terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Per image as for pixels; per batch the overlaps (3 C,), of which the loss is no sum."""
        if self.per_image:
            return super().terms(logits, target)
        return overlap_sums(logits, target, self.ignore_index).sum(0).flatten()

    @property
    def adds_up(self) -> bool:
        """As in `SegmentationLoss`."""
        return type(self) in (TverskyLoss, DiceLoss, JaccardLoss) and not self.per_image

    def value(self, terms: Tensor) -> Tensor:
        """The mean loss of what `terms` were added up over, a scalar."""
        if self.per_image:
            return super().value(terms)
        return self._losses(terms.view(1, 3, -1))[0][0]

    def class_terms(self, logits: Tensor, target: Tensor) -> Tensor:
        """Per image what each class adds, and the number of images; per batch the overlaps."""
        sums = widened(overlap_sums(logits, target, self.ignore_index))
        if not self.per_image:
            return sums.sum(0).flatten()
        count = widened((sums[:, 2] > 0).any(1).sum()).view(1)
        return torch.cat([self._class_losses(sums).sum(0), count])

    def class_losses(self, terms: Tensor) -> Tensor:
        """As in `SegmentationLoss`."""
        if self.per_image:
            return super().class_losses(terms)
        return self._class_losses(terms.view(1, 3, -1))[0]

    def divisor(self, target: Tensor, channels: int) -> Tensor | None:
        """Per image the number of images that count; per batch None, as the overlaps decide."""
        return images_that_count(target, self.ignore_index) if self.per_image else None

    def rank_share(self, logits: Tensor, target: Tensor, ranks: Ranks) -> Tensor:
        """Per image as for pixels; per batch from the overlaps of all ranks."""
        if self.per_image:
            return super().rank_share(logits, target, ranks)
        return share_of(self.value(ranks.sum(self.terms(logits, target))), ranks)

    def num_terms(self, channels: int) -> int:
        """The length of `terms` for logits of so many channels."""
        return 2 if self.per_image else 3 * channels

    def _losses(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        return _losses(sums, self.alpha, self.beta, self.gamma)

    def _class_losses(self, sums: Tensor) -> Tensor:
        losses, present = _class_losses(sums, self.alpha, self.beta, self.gamma)
        return mean_of(losses, present.sum(1, keepdim=True))


class DiceLoss(TverskyLoss):
    """Dice loss: for rare classes; each class counts the same, however few pixels it has.

    Args:
        per_image: Whether to count in each image instead of in the whole batch.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the images (or of the batch), their `sum`, or `none`.
    """

    def __init__(
        self,
        per_image: bool = False,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(0.5, 0.5, 1.0, per_image, ignore_index, reduction)


class JaccardLoss(TverskyLoss):
    """Jaccard loss: like Dice, but of the IoU; its gradient is larger where classes overlap well.

    Args:
        per_image: Whether to count in each image instead of in the whole batch.
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the images (or of the batch), their `sum`, or `none`.
    """

    def __init__(
        self,
        per_image: bool = False,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(1.0, 1.0, 1.0, per_image, ignore_index, reduction)


def overlap_sums(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Of each image and class: Σ p q, Σ p and Σ q over the pixels that count, (N, 3, C)."""
    plain = partial(_plain_sums, target, ignore_index)
    kernels = kernels_for(logits, target)
    return kernels.overlap_sums(logits, target, ignore_index, plain) if kernels else plain(logits)


def _plain_sums(target: Tensor, ignore_index: int, logits: Tensor) -> Tensor:
    n, c, pixels = *logits.shape[:2], math.prod(logits.shape[2:])
    logits, target, ignored = softmax_inputs(logits, target, ignore_index)
    p = logits.softmax(1)
    q = target if target.is_floating_point() else one_hot(target, logits)
    ignored = ignored.reshape(n, 1, pixels)
    p, q = (_image_first(x, n, c, pixels).masked_fill(ignored, 0) for x in (p, q))
    return torch.stack([(p * q).sum(2), p.sum(2), q.sum(2)], 1)


def _image_first(x: Tensor, n: int, c: int, pixels: int) -> Tensor:
    """(N, C, *d), or (N P, C) of the images' pixels, as (N, C, P)."""
    return x.reshape(n, pixels, c).transpose(1, 2) if x.ndim == 2 else x.reshape(n, c, pixels)


def _losses(sums: Tensor, alpha: float, beta: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Losses (M,) of the sums (M, 3, C) of M images or batches, and whether anything counts."""
    losses, present = _class_losses(sums, alpha, beta, gamma)
    return mean_of(losses.sum(1), present.sum(1)), present.any(1)


def _class_losses(sums: Tensor, alpha: float, beta: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Loss (M, C) of every class, 0 of those that do not occur, and whether they do."""
    both, p, q = sums.unbind(1)
    present = q > 0
    missed = alpha * (p - both) + beta * (q - both)
    losses = mean_of(missed, both + missed)  # 1 - TI, (m, c)
    if gamma != 1:
        # the slope is infinite at 0, where nothing is left to learn
        losses = losses.clamp_min(torch.finfo(losses.dtype).tiny).pow(1 / gamma)
    return losses.masked_fill(~present, 0), present


def _check(alpha: float, beta: float, gamma: float) -> tuple[float, float, float]:
    """The two weights and the exponent as floats."""
    alpha, beta, gamma = number("alpha", alpha), number("beta", beta), number("gamma", gamma)
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}={value}: expected a finite weight >= 0, such as 0.5.")
    if alpha == beta == 0:
        raise ValueError("alpha=0 and beta=0: no error counts; make one of them positive.")
    if not 0 < gamma < float("inf"):
        raise ValueError(f"gamma={gamma}: expected a finite exponent > 0, such as 4/3.")
    return alpha, beta, gamma
