"""Figures as JSON holds them."""

from typing import Any


def without_nan(value: Any) -> Any:
    """A value of primitives, lists and dicts with None for NaN, and for an interval of NaN."""
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        parts = [without_nan(part) for part in value]
        return None if parts == [None, None] else parts
    return None if value != value else value  # NaN is the only number unlike itself
