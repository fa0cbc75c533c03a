"""Check backpropagation against central differences of the loss."""

from __future__ import annotations

import numpy as np

from .checks import real_number
from .model import Sequential


def numerical_gradient(
    net: Sequential, X, y, loss="auto", sample_weight=None, step=1e-5
) -> np.ndarray:
    """The gradient by central differences, (C(w + step) - C(w - step)) / (2 step), in float64.

    It takes two passes over X per parameter: use it with small networks and few rows.

    Parameters
    ----------
    net : Sequential
        It must have parameters; it is not modified.
    X : array_like, shape (m, n_inputs)
    y : array_like, shape (m,) or (m, n_outputs)
    loss, sample_weight
        As for :meth:`Sequential.loss_and_grad`.
    step : float, default 1e-5

    Returns
    -------
    ndarray of float64, shape (number of parameters,)
        In the order of ``flat_params``.

    Raises
    ------
    NotFittedError, ShapeError, ValueError, TypeError
        As for :meth:`Sequential.loss_and_grad`.

    Examples
    --------
    >>> from fastnn import Dense, Sequential, numerical_gradient
    >>> net = Sequential([Dense(1, init="zeros")], n_inputs=1)
    >>> numerical_gradient(net, [[2.0], [4.0]], [1.0, 3.0], loss="mse").round(6)
    array([-14.,  -4.])
    """
    step = real_number(step, "step", positive=True)
    copy = net.copy("float64")
    params = copy.flat_params
    gradient = np.empty(params.size)
    for i in range(params.size):
        value = params[i]
        params[i] = value + step
        above, _ = copy.loss_and_grad(X, y, loss, sample_weight)
        params[i] = value - step
        below, _ = copy.loss_and_grad(X, y, loss, sample_weight)
        params[i] = value
        gradient[i] = (above - below) / (2 * step)
    return gradient


def check_gradients(net: Sequential, X, y, loss="auto", sample_weight=None, step=1e-5) -> float:
    """The largest relative error of backpropagation against central differences.

    A correct gradient of a smooth network gives about 1e-8, a wrong one about 1. If a weighted sum
    is near the kink of ReLU or another piecewise function, the differences themselves are wrong.

    Parameters
    ----------
    net : Sequential
        It must have parameters; it is not modified.
    X : array_like, shape (m, n_inputs)
    y : array_like, shape (m,) or (m, n_outputs)
    loss, sample_weight
        As for :meth:`Sequential.loss_and_grad`.
    step : float, default 1e-5

    Returns
    -------
    float
        The largest |g - n| / max(|g|, |n|, f), where g is the gradient by backpropagation, n the
        one by differences and f a thousandth of the largest element of both.

    Raises
    ------
    NotFittedError, ShapeError, ValueError, TypeError
        As for :meth:`Sequential.loss_and_grad`.

    Examples
    --------
    >>> from fastnn import Dense, Sequential, check_gradients
    >>> net = Sequential([Dense(3, "tanh"), Dense(2)], n_inputs=2)
    >>> check_gradients(net, [[0.5, 1.0], [-1.0, 2.0]], [0, 1]) < 1e-6
    True
    """
    numeric = numerical_gradient(net, X, y, loss, sample_weight, step)
    _, gradient = net.copy("float64").loss_and_grad(X, y, loss, sample_weight)
    floor = 1e-3 * max(np.abs(numeric).max(), np.abs(gradient).max(), 1e-12)
    size = np.maximum(np.maximum(np.abs(numeric), np.abs(gradient)), floor)
    return float((np.abs(gradient - numeric) / size).max())
