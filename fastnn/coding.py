"""One-hot coding of class numbers, and its inverse."""

from __future__ import annotations

import numpy as np

from .checks import whole_number
from .errors import ShapeError


def one_hot(labels, n: int | None = None) -> np.ndarray:
    """Rows of zeros with a 1 in the column of the label.

    Parameters
    ----------
    labels : array_like of whole numbers, shape (m,)
        From 0 to n - 1.
    n : int, optional
        Number of classes; by default the largest label + 1.

    Returns
    -------
    ndarray of float64, shape (m, n)

    Raises
    ------
    TypeError
        If the labels are not whole numbers.
    ValueError
        If a label is negative or not below n.

    Examples
    --------
    >>> from fastnn import one_hot
    >>> one_hot([0, 2], 3)
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ShapeError(f"labels must have one dimension, not {labels.ndim}")
    if labels.dtype.kind not in "iub" and labels.size:
        raise TypeError(f"labels must be whole numbers, not {labels.dtype}")
    labels = labels.astype(np.int64)
    if n is None:
        n = int(labels.max()) + 1 if labels.size else 0
    else:
        n = whole_number(n, "n")
    if labels.size and not (labels.min() >= 0 and labels.max() < n):
        raise ValueError(
            f"labels must be from 0 to {n - 1}, not from {labels.min()} to {labels.max()}"
        )
    rows = np.zeros((len(labels), n))
    rows[np.arange(len(labels)), labels] = 1
    return rows


def from_one_hot(rows) -> np.ndarray:
    """The column of the largest element of each row: the inverse of :func:`one_hot`.

    Logits and their softmax give the same column.

    Parameters
    ----------
    rows : array_like, shape (m, n)
        One-hot codes, probabilities or logits.

    Returns
    -------
    ndarray of int64, shape (m,)

    Raises
    ------
    ShapeError
        If there are not two dimensions, or no columns.

    Examples
    --------
    >>> from fastnn import from_one_hot
    >>> from_one_hot([[0.1, 0.7, 0.2]])
    array([1])
    """
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ShapeError(f"rows must be a matrix with columns, not of shape {rows.shape}")
    return rows.argmax(axis=1)
