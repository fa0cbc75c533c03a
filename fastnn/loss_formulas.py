"""Losses as functions of given outputs, where engines work on logits: rows and derivatives.

Every formula takes targets y and outputs a (m, n) as predicted, in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ShapeError
from .ops.loss import check_outputs
from .tables import Loss
from .targets import LABELS, ZERO_OR_ONE


def prepare(loss, y, a) -> tuple[np.ndarray, np.ndarray]:
    """Targets and outputs (m, n) in float64, for what a loss of given outputs is called with.

    Class numbers become one-hot codes, and targets with several outputs each are repeated.

    Raises
    ------
    ShapeError, ValueError
        As for :meth:`fastnn.losses.LossFunction.__call__`.
    """
    y, a = np.asarray(y), np.asarray(a, dtype=np.float64)
    given, per_target = y, loss.n_per_target
    if per_target > 1 and a.ndim == 2:
        check_outputs(loss.code, a.shape[1], per_target)
        if y.shape == (len(a), a.shape[1] // per_target) or y.shape == (len(a),):
            y = loss.spread(y.reshape(len(a), -1))
    elif loss.code in LABELS[True] and _are_labels(y, a):
        from .coding import one_hot

        y = one_hot(y, a.shape[1])
    if y.shape != a.shape or (per_target > 1 and y is given):
        each = f", which are {per_target} for each target" if per_target > 1 else ""
        raise ShapeError(
            f"targets of shape {given.shape} do not fit outputs of shape {a.shape}{each}"
        )
    if loss.code in ZERO_OR_ONE and not ((y == 0) | (y == 1)).all():
        raise ValueError(f"the targets of {loss.name} must be 0 or 1")
    y = y.astype(np.float64)
    y, a = (v.reshape(-1, 1) if v.ndim < 2 else v.reshape(len(v), -1) for v in (y, a))
    return y, a


def _are_labels(y, a) -> bool:
    """Whether y is m class numbers for m rows of several outputs."""
    several = a.ndim == 2 and a.shape[1] > 1
    return several and y.shape == a.shape[:1] and y.dtype.kind in "iu"


def ratio(x, y) -> np.ndarray:
    """x / y, and 0 where x is 0."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.divide(x, y, out=np.zeros_like(x), where=x != 0)


def cross_entropy(y, a):
    """-sum of y log a for each row."""
    from scipy.special import xlogy  # slow to import, and no fit needs it

    return -xlogy(y, a).sum(axis=1)


def cross_entropy_derivative(y, a):
    """-y / a"""
    return -ratio(y, a)


def binary_cross_entropy(y, a):
    """-sum of y log a + (1 - y) log (1 - a) for each row."""
    from scipy.special import xlog1py, xlogy

    return -(xlogy(y, a) + xlog1py(1 - y, -a)).sum(axis=1)


def binary_cross_entropy_derivative(y, a):
    """-y / a + (1 - y) / (1 - a)"""
    return ratio(1 - y, 1 - a) - ratio(y, a)


def poisson(y, a):
    """The sum of a - y log a for each row."""
    from scipy.special import xlogy

    return (a - xlogy(y, a)).sum(axis=1)


def poisson_derivative(y, a):
    """1 - y / a"""
    return 1 - ratio(y, a)


def gaussian_nll(y, a):
    """The sum of (log (2 pi v) + (y - m)^2 / v) / 2 for each row, with a = (m, v)."""
    c = a.shape[1] // 2
    mean, variance = a[:, :c], a[:, c:]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.log(2 * np.pi * variance) + (y[:, :c] - mean) ** 2 / variance
    return terms.sum(axis=1) / 2


def gaussian_nll_derivative(y, a):
    """(m - y) / v, and (1 - (y - m)^2 / v) / (2 v)"""
    c = a.shape[1] // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        error, variance = a[:, :c] - y[:, :c], a[:, c:]
        by_variance = (1 - error**2 / variance) / (2 * variance)
        return np.concatenate([error / variance, by_variance], axis=1)


def _true_class(y, a):
    """The probability of the true class (m, 1), and its derivative by a (m, n)."""
    if a.shape[1] == 1:
        return y * a + (1 - y) * (1 - a), 2 * y - 1
    return (y * a).sum(axis=1, keepdims=True), y


def focal(y, a, gamma):
    """-(1 - p)^gamma log p for the probability p of the true class of each row."""
    p, _ = _true_class(y, a)
    with np.errstate(divide="ignore"):
        return (-((1 - p) ** gamma) * np.log(p))[:, 0]


def focal_derivative(y, a, gamma):
    """gamma (1 - p)^(gamma - 1) log p - (1 - p)^gamma / p, by the output of the true class."""
    p, towards = _true_class(y, a)
    with np.errstate(divide="ignore", invalid="ignore"):
        # (1 - p)^gamma log p / (1 - p) is 0 at p = 1, or -1 where gamma is 1.
        share = np.where(p < 1, np.log(p) / (1 - p), -1)
        return towards * ((1 - p) ** gamma * (gamma * share - 1 / p))


#: For each loss whose outputs engines do not see: (the rows' losses, the derivative).
FORMULAS: dict[Loss, tuple[Any, Any]] = {
    Loss.binary_cross_entropy: (binary_cross_entropy, binary_cross_entropy_derivative),
    Loss.cross_entropy: (cross_entropy, cross_entropy_derivative),
    Loss.poisson: (poisson, poisson_derivative),
    Loss.gaussian_nll: (gaussian_nll, gaussian_nll_derivative),
    Loss.focal: (focal, focal_derivative),
}
