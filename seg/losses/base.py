"""What every loss is: a mean over elements, of which a subclass states the losses and weights."""

from torch import Tensor

from seg.constants import IGNORE_INDEX
from seg.losses.batch_sums import BatchSums
from seg.losses.reduction import Reduction, check_reduction
from seg.losses.targets import batched, unbatched


class SegmentationLoss(BatchSums):
    """A loss over logits (N, C, *d) and class ids (N, *d) or probabilities (N, C, *d).

    To add one, implement `element_losses`: the loss of every pixel, or image, and its weight in the
    mean. That alone makes it exact for any split of a batch. Where they apply:

    - `add_weights(name, values)` in `__init__`, for each argument of one weight a class: a buffer
      of that name, from values or from the counts of the data. `class_vector(name, buffer, logits)`
      of `seg.losses.arguments` refuses it for another number of classes.
    - An `nn.Parameter`, for what the loss learns itself: the module's optimiser trains it at the
      head's rate, without weight decay, and checkpoints hold it.
    - `divisor(target, channels)`, where the target alone decides Σ of the weights: micro-batches
      then go through the network once instead of twice.
    - `channels(num_classes)`, for another number of logits than classes.
    - `uses_positions = True`, if (N, C, P) is another loss than (N, C, *d).
    - `by_class = False`, if no class has a share of the loss.

    `BatchSums` says what a loss overrides that is no mean over elements.
    `seg.losses.check_loss` names the clauses of the contract that a loss breaks.

    Args:
        ignore_index: Target value of the pixels that never contribute.
        reduction: `mean` over the elements that count, their `sum`, or `none`.

    Example:
        >>> import torch
        >>> from seg.losses import cross_entropy
        >>> class Squared(SegmentationLoss):
        ...     def element_losses(self, logits, target):
        ...         options = {"ignore_index": self.ignore_index, "reduction": "none"}
        ...         losses = cross_entropy(logits, target, **options)
        ...         return losses**2, target != self.ignore_index
        >>> round(Squared()(torch.zeros(1, 2, 3), torch.tensor([[0, 1, 255]])).item(), 4)
        0.4805
    """

    uses_positions = False
    """Whether the value depends on where a pixel lies: (N, C, P) differs from (N, C, *d)."""

    def __init__(self, ignore_index: int = IGNORE_INDEX, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction

    @classmethod
    def channels(cls, num_classes: int) -> int:
        """Number of logits of a pixel that the loss needs for `num_classes` classes."""
        if num_classes < 2:
            raise ValueError(
                f"{num_classes} class: a softmax over it is 1 whatever the logits; add a "
                "background class."
            )
        return num_classes

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of logits (N, C, *d), reduced as `reduction` says, fp32 at least.

        Logits (C,) with a scalar target, or probabilities (C,), are one sample, as for torch.

        Raises:
            RuntimeError: If weights given by the name of a policy were not filled yet.
        """
        self._require_weights()
        if logits.ndim == 1:
            return unbatched(self(*batched(logits, target)))
        return self.reduced(logits, target, self.reduction)[0]

    def components(self) -> dict[str, tuple[float, "SegmentationLoss"]]:
        """Factor and loss of each part, by name; a loss that is no sum of losses is its own."""
        return {"": (1.0, self)}
