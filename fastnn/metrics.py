"""Metrics of predictions."""

from __future__ import annotations


def get(items, target, loss, n_outputs) -> tuple:
    """The metrics that the argument of fit means."""
    return tuple(items)


def direction(name: str, metrics=()) -> str:
    """Whether a smaller or a larger value of an epoch is better: "min" or "max"."""
    return "max" if "accuracy" in name else "min"
