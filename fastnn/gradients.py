"""Checking backpropagation against differences of the loss."""

from __future__ import annotations

import numpy as np

from .checks import real_number
from .model import Sequential


def numerical_gradient(
    net: Sequential, X, y, loss="auto", sample_weight=None, step=1e-5
) -> np.ndarray:
    """The gradient by central differences, (C(w + step) - C(w - step)) / (2 step), in float64.

    It takes two forward passes for each parameter, so it is for small networks and few rows.

    Parameters
    ----------
    net : Sequential
        With parameters; it is not changed.
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
    twin = net.copy("float64")
    params = twin.flat_params
    gradient = np.empty(params.size)
    for i in range(params.size):
        kept = params[i]
        params[i] = kept + step
        above, _ = twin.loss_and_grad(X, y, loss, sample_weight)
        params[i] = kept - step
        below, _ = twin.loss_and_grad(X, y, loss, sample_weight)
        params[i] = kept
        gradient[i] = (above - below) / (2 * step)
    return gradient


def check_gradients(net: Sequential, X, y, loss="auto", sample_weight=None, step=1e-5) -> float:
    """How far backpropagation is from central differences: the largest relative error.

    A right gradient of a smooth network gives about 1e-8; a wrong one gives about 1. Near a kink
    of ReLU and its kin the differences themselves are wrong.

    Parameters
    ----------
    net : Sequential
        With parameters; it is not changed.
    X : array_like, shape (m, n_inputs)
    y : array_like, shape (m,) or (m, n_outputs)
    loss, sample_weight
        As for :meth:`Sequential.loss_and_grad`.
    step : float, default 1e-5

    Returns
    -------
    float
        The largest |g - n| / max(|g|, |n|) of backpropagation's g and the differences' n, where
        numbers below a thousandth of the largest count as that.

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
