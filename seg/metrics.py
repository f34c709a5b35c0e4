"""Public path of `seg.evaluation.metrics`."""

from seg.evaluation.metrics import (
    ConfusionMatrix,
    Scores,
    named_scores,
    per_class_records,
    score_names,
)

__all__ = ["ConfusionMatrix", "Scores", "named_scores", "per_class_records", "score_names"]
