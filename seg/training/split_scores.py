"""The loss and the scores of a whole split, added up over batches and ranks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seg.constants import IGNORE_INDEX
from seg.evaluation.metrics import ConfusionMatrix, Scores
from seg.evaluation.records import named_scores, score_names
from seg.evaluation.term_sums import TermSums
from seg.inference import labels
from seg.inference.stripes import LowLogits
from seg.training.step import Parts
from seg.training.telemetry import with_total


class SplitScores(nn.Module):
    """Adds up a split's confusion counts and the terms of its loss.

    The loss is no part of it, but given with each call: a module that holds both would have its
    buffers twice in its state_dict.

    Args:
        parts: The losses and their factors.
        class_names: The C names.
        num_rare: Over how many of the rarest classes miou_rare is the mean.
    """

    def __init__(self, parts: Parts, class_names: Sequence[str], num_rare: int) -> None:
        super().__init__()
        self._class_names = class_names
        self._num_rare = num_rare
        losses = [part for _, part in parts.values()]
        self._num_terms = [loss.num_terms(loss.channels(len(class_names))) for loss in losses]
        self.confusion = ConfusionMatrix(len(class_names))
        self.loss_terms = TermSums(sum(self._num_terms))

    def names(self, parts: Parts) -> list[str]:
        """What `finish` names."""
        of_parts = [f"loss/{name}" for name in parts if name]
        return ["loss", *of_parts, *score_names(self._class_names)]

    def update(
        self, parts: Parts, low: LowLogits, bias: Tensor | None, batch: Mapping[str, Any]
    ) -> Tensor:
        """Add a batch; pixels whose prediction is 255 are left out of the counts.

        Args:
            parts: As in the constructor.
            low: Logits at the size of the masks; where the losses allow it, a few rows of them are
                held at a time.
            bias: What is added to them before a label is decided, (C,).
            batch: Has the `mask`, class ids (N, H, W) or 255, and where they are known the `name`
                of each image.

        Returns:
            The labels (N, H, W), uint8.
        """
        mask = batch["mask"]
        losses = [part for _, part in parts.values()]
        if not all(loss.adds_up for loss in losses):
            low = LowLogits(low.whole(), low.size, low.size)
        prediction = torch.empty_like(mask, dtype=torch.uint8)
        for images, rows, logits in low.stripes():
            target = mask[images, rows]
            self.loss_terms.update(torch.cat([loss.terms(logits, target) for loss in losses]))
            prediction[images, rows] = labels(logits, bias)
        counted = mask.masked_fill(prediction == IGNORE_INDEX, IGNORE_INDEX)
        names = batch.get("name", ["image"] * len(mask))
        self.confusion.update(prediction, counted, names)
        return prediction

    def finish(self, parts: Parts) -> tuple[Scores, dict[str, Any]]:
        """The scores, and the loss and the scores by the names that are logged; begins anew.

        Every rank must ask for them.
        """
        terms = torch.split(self.loss_terms.compute(), self._num_terms)
        losses = [part.value(sums) for (_, part), sums in zip(parts.values(), terms, strict=True)]
        scores = self.confusion.scores()
        for metric in (self.confusion, self.loss_terms):
            metric.reset()
        values = with_total("loss", parts, losses)
        return scores, values | named_scores(scores, self._class_names, self._num_rare)
