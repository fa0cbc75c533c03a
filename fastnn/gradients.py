"""Check backpropagation against central differences of the loss."""

from __future__ import annotations

import numpy as np

from .checks import real_number
from .model import Sequential

#: Relative errors below it need no explanation.
_GOOD = 1e-5


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
    above, below = _losses_beside(net.copy("float64"), X, y, loss, sample_weight, step)
    return (above - below) / (2 * step)


def _losses_beside(copy: Sequential, X, y, loss, weight, step) -> tuple[np.ndarray, np.ndarray]:
    """The losses with each parameter `step` larger and `step` smaller."""
    step = real_number(step, "step", positive=True)
    params = copy.flat_params
    above, below = np.empty(params.size), np.empty(params.size)
    for i in range(params.size):
        value = params[i]
        params[i] = value + step
        above[i], _ = copy.loss_and_grad(X, y, loss, weight)
        params[i] = value - step
        below[i], _ = copy.loss_and_grad(X, y, loss, weight)
        params[i] = value
    return above, below


class GradientCheck(float):
    """The largest relative error of a gradient: a float that knows where it is.

    Attributes
    ----------
    parameter : str
        The parameter with this error, such as "0.W[1, 2]".
    gradient, difference : float
        Its derivative by backpropagation and by differences.
    at_kink : bool
        Whether the loss has a kink or a jump there, within the step: the derivative by
        backpropagation is then one of those on both sides of it, or between them, and the
        differences are wrong.
    elsewhere : float
        The largest error of the parameters without a kink.

    Examples
    --------
    >>> from fastnn import Dense, Sequential, check_gradients
    >>> net = Sequential([Dense(1, "relu", init=1.0)], n_inputs=1)
    >>> check_gradients(net, [[0.0]], [1.0], loss="mse")  # z = 0
    1 in 0.b[0]: backpropagation gives 0, differences -0.999995, since the loss has a kink there; \
elsewhere 0
    """

    parameter: str
    gradient: float
    difference: float
    at_kink: bool
    elsewhere: float

    def __repr__(self) -> str:
        shown = f"{self:.3g} in {self.parameter}"
        if self < _GOOD:
            return shown
        shown += f": backpropagation gives {self.gradient:.6g}, differences {self.difference:.6g}"
        if self.at_kink:
            shown += f", since the loss has a kink there; elsewhere {self.elsewhere:.3g}"
        return shown

    __str__ = __repr__


def check_gradients(
    net: Sequential, X, y, loss="auto", sample_weight=None, step=1e-5
) -> GradientCheck:
    """The largest relative error of backpropagation against central differences.

    A correct gradient of a smooth network gives about 1e-8, a wrong one about 1. If a weighted sum
    is near the kink of ReLU or another piecewise function, the differences themselves are wrong,
    and the result says so.

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
    GradientCheck
        A float, the largest |g - n| / max(|g|, |n|, f), where g is the gradient by backpropagation,
        n the one by differences and f a thousandth of the largest element of both. It is printed
        with the parameter where it is, and :class:`fastnn.gradients.GradientCheck` has more.

    Raises
    ------
    NotFittedError, ShapeError, ValueError, TypeError
        As for :meth:`Sequential.loss_and_grad`.

    Examples
    --------
    >>> from fastnn import Dense, Sequential, check_gradients
    >>> net = Sequential([Dense(3, "tanh"), Dense(2)], n_inputs=2)
    >>> found = check_gradients(net, [[0.5, 1.0], [-1.0, 2.0]], [0, 1])
    >>> found < 1e-6, found.at_kink
    (True, False)
    """
    copy = net.copy("float64")
    above, below = _losses_beside(copy, X, y, loss, sample_weight, step)
    here, gradient = copy.loss_and_grad(X, y, loss, sample_weight)
    numeric = (above - below) / (2 * step)
    floor = 1e-3 * max(np.abs(numeric).max(), np.abs(gradient).max(), 1e-12)
    size = np.maximum(np.maximum(np.abs(numeric), np.abs(gradient)), floor)
    errors = np.abs(gradient - numeric) / size
    kinks = (errors >= _GOOD) & _is_between(gradient, (here - below) / step, (above - here) / step)
    worst = int(errors.argmax())
    found = GradientCheck(errors[worst])
    found.parameter = _name_of(net, worst)
    found.gradient, found.difference = float(gradient[worst]), float(numeric[worst])
    found.at_kink, found.elsewhere = bool(kinks[worst]), float(errors.max(where=~kinks, initial=0))
    return found


def _is_between(gradient, left, right) -> np.ndarray:
    """Whether a derivative is one of those to the left and to the right, or between them.

    Where a loss is smooth the two differ by its curvature times the step, and a wrong derivative is
    far outside.
    """
    slack = 0.01 * np.abs(right - left)
    low, high = np.minimum(left, right), np.maximum(left, right)
    return (low - slack <= gradient) & (gradient <= high + slack)


def _name_of(net: Sequential, place: int) -> str:
    """An element of the flat vector by its parameter and its place there."""
    record = next(p for p in net.plan.parameters if p.offset <= place < p.offset + p.size)
    inside = np.unravel_index(place - record.offset, record.shape)
    return f"{record.name}[{', '.join(map(str, inside))}]"
