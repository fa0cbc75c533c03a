"""The real handwritten digits of the first example."""

from __future__ import annotations

from importlib.resources import files

import numpy as np


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1797 real handwritten digits of UCI's Optical Recognition of Handwritten Digits.

    Returns
    -------
    X : ndarray of uint8, shape (1797, 64)
        Images of 8x8 pixels, row by row, with values from 0 to 16.
    y : ndarray of int64, shape (1797,)
        The digit that each image shows.

    Notes
    -----
    E. Alpaydin and C. Kaynak, 1998, https://doi.org/10.24432/C50P49, as bundled by scikit-learn;
    licensed CC BY 4.0.

    Examples
    --------
    >>> from fastnn.data import load_digits
    >>> X, y = load_digits()
    >>> X.shape, y[:5]
    ((1797, 64), array([0, 1, 2, 3, 4]))
    """
    with files(__package__).joinpath("digits.npz").open("rb") as file:
        arrays = np.load(file)
        return arrays["X"], arrays["y"].astype(np.int64)
