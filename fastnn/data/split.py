"""Split rows into a training and a test set."""

from __future__ import annotations

import numpy as np

from .. import random
from ..checks import real_number


def stratified_split(labels, test_share: float = 0.25, seed: int = 0):
    """Row numbers of a training and a test set with the same proportions of the classes.

    Parameters
    ----------
    labels : array_like, shape (m,)
    test_share : float, default 0.25
        Fraction of each class that goes into the test set, above 0 and below 1. The count is
        rounded; a class of two or more rows has at least one row in each set.
    seed : int, default 0

    Returns
    -------
    train, test : ndarray of int64
        In random order.

    Raises
    ------
    ValueError, TypeError
        If `test_share` is not between 0 and 1, the seed is not a whole number, or most labels
        occur once, as where y is continuous.

    Examples
    --------
    >>> from fastnn.data import stratified_split
    >>> train, test = stratified_split([0, 0, 0, 0, 1, 1, 1, 1])
    >>> len(train), len(test)
    (6, 2)
    """
    real_number(test_share, "test_share", positive=True, below=1)
    seed = random.check_seed(seed)
    labels = np.asarray(labels)
    is_test, order = _drawn(labels, len(labels), test_share, seed)
    if 2 * len(alone := _alone(labels)) > len(labels):
        raise ValueError(
            f"{len(alone)} of the {len(labels)} labels occur once, such as {alone[0]!r}, and one "
            "row cannot be in both sets: give classes. For numbers these may be ranges of equal "
            "counts, np.digitize(y, np.quantile(y, [0.25, 0.5, 0.75])); where there are none, give "
            "np.zeros(len(y))"
        )
    return order[~is_test[order]], order[is_test[order]]


def split_rows(labels, n_rows: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a training and a validation part.

    Parameters
    ----------
    labels : ndarray, shape (n_rows,), or None
        Classes, whose proportions both parts have; None draws from all rows alike.
    n_rows : int
    share : float
        Fraction of the rows, or of each class, that goes into the validation part, above 0 and
        below 1; rounded. A class of two or more rows has at least one row in each part, and a
        single row of a class stays in the training part.
    seed : int
        With labels, the parts are those of :func:`stratified_split`.

    Returns
    -------
    train, validation : ndarray of int64
        In ascending order.

    Raises
    ------
    ValueError
        If one of them would be empty.

    Examples
    --------
    >>> from fastnn.data.split import split_rows
    >>> train, validation = split_rows(None, 10, 0.2, seed=0)
    >>> len(train), len(validation)
    (8, 2)
    """
    chosen, _ = _drawn(labels, n_rows, share, seed)
    count = int(np.count_nonzero(chosen))
    if not 0 < count < n_rows:
        raise ValueError(
            f"a share of {share:g} of {n_rows} row{'s' * (n_rows > 1)} leaves no row for "
            f"{'training' if count else 'validation'}"
            + (": every class has a single row" if labels is not None and n_rows > 1 else "")
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _alone(labels: np.ndarray) -> list:
    """The labels that a single row has."""
    distinct, counts = np.unique(labels, return_counts=True)
    return distinct[counts == 1].tolist()


def _drawn(labels, n_rows: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are drawn, (n_rows,) of bool, and the random order in which they were."""
    order = random.permutation(seed, random.Stream.SPLIT, 0, n_rows)
    chosen = np.zeros(n_rows, bool)
    if labels is None:
        chosen[order[: round(share * n_rows)]] = True
        return chosen, order
    # The members of each class one after another, in random order.
    _, positions, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    members = order[np.argsort(positions, kind="stable")]
    for end, n in zip(np.cumsum(counts).tolist(), counts.tolist(), strict=True):
        count = min(max(round(share * n), 1), n - 1)
        chosen[members[end - n : end - n + count]] = True
    return chosen, order
