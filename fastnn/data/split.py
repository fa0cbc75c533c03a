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
        If `test_share` is not between 0 and 1, or the seed is not a whole number.

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
    order = random.permutation(seed, random.Stream.SPLIT, 0, len(labels))
    is_test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        count = min(max(round(test_share * len(members)), 1), len(members) - 1)
        is_test[members[:count]] = True
    return order[~is_test[order]], order[is_test[order]]
