"""Augmentation: batches that are changed at random before they are trained on.

The argument ``augment`` of :meth:`fastnn.Sequential.fit` takes one of these objects, a function
``augment(batch, rng)`` of your own, or a list of both. They never see validation rows, and they see
what the preprocessing layers at the beginning of the network give: after ``Standardize()`` zero is
a mean, not black.

=========================================  ======================================================
``Images(shape, shift=2, rotate=10, ...)`` images in the rows: all below in one interpolation
``Shift``, ``Rotate``, ``Scale``, ``Flip`` moved, turned, enlarged, mirrored
``Crop(shape, padding)``                   a random part of the padded image
``Elastic(shape, alpha, sigma)``           bent by smooth random displacements
``Cutout(shape, size)``                    a square of it is blank
``Noise(std)``                             normal noise, for any data
``Mixup(alpha)``                           weighted means of two rows and of their targets
=========================================  ======================================================

All of them return new arrays, and can be called on any rows: ``Rotate((28, 28), 10)(X, rng)``. The
bits are those of the random numbers of ``rng``, which NumPy may change from version to version.
"""

from __future__ import annotations

from typing import Any

from .images import Images
from .rows import Mixup, Noise
from .variants import Crop, Cutout, Elastic, Flip, Rotate, Scale, Shift

__all__ = [
    "Crop", "Cutout", "Elastic", "Flip", "Images", "Mixup", "Noise", "Rotate", "Scale", "Shift",
]  # fmt: skip


def get(given) -> tuple[Any, ...]:
    """The augmentations of a fit, from what its argument `augment` is.

    Raises
    ------
    TypeError
        If one is neither callable nor an object with ``augment_pairs``.

    Examples
    --------
    >>> from fastnn import augmentation
    >>> augmentation.get(augmentation.Noise(0.1))
    (Noise(std=0.1),)
    """
    several = given if isinstance(given, list | tuple) else (given,)
    for one in several:
        if isinstance(one, type) or not (callable(one) or hasattr(one, "augment_pairs")):
            raise TypeError(
                "augment must be a function of (batch, rng) that returns the batch to train on, an "
                f"object with augment_pairs(X, y, rng), or a list of them, not {one!r}"
            )
    return tuple(several)
