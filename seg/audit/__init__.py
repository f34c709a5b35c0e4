"""How imbalanced a data set is, and what follows from it."""

from seg.audit.facts import audit_data, split_facts
from seg.audit.recommend import Recommendation, recommend

__all__ = ["Recommendation", "audit_data", "recommend", "split_facts"]
