"""Augmentation: batches changed at random before they are trained on."""

from __future__ import annotations

from typing import Any


def get(given) -> tuple[Any, ...]:
    """The augmentations of a fit, from what its argument `augment` is.

    Raises
    ------
    TypeError
        If one is neither callable nor an object with ``augment_pairs``.
    """
    several = given if isinstance(given, list | tuple) else (given,)
    for one in several:
        if isinstance(one, type) or not (callable(one) or hasattr(one, "augment_pairs")):
            raise TypeError(
                "augment must be a function of (batch, rng) that returns the batch to train on, an "
                f"object with augment_pairs(X, y, rng), or a list of them, not {one!r}"
            )
    return tuple(several)
