"""Public path of `seg.evaluation.metrics` and `seg.evaluation.records`."""

from seg.evaluation.metrics import ConfusionMatrix, Scores
from seg.evaluation.records import named_scores, per_class_records, score_names

__all__ = ["ConfusionMatrix", "Scores", "named_scores", "per_class_records", "score_names"]
