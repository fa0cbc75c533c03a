"""Losses: by name, as objects, and as functions of given outputs with ``.derivative``.

==========================  =====================================================
name                        loss of m rows with targets y and outputs a
==========================  =====================================================
``mse``                     mean over rows and outputs of (a - y)^2
``sse``                     sum over rows and outputs of (a - y)^2
``binary_cross_entropy``    mean over rows of the sum over outputs of
                            -(y log a + (1-y) log (1-a)), a = sigmoid(z)
``cross_entropy``           mean over rows of -sum over classes of y log a, a = softmax(z)
``Custom(function)``        mean over rows of a function of your own
==========================  =====================================================

In training the cross entropies work on the logits z, where their derivative is a - y.

Penalties (l1, l2) are added to the loss of every minibatch. ``sse`` is a sum over rows, so a
minibatch of m of the fit's n rows counts m/n of the penalties, in loss and gradient: an epoch
counts them once. The other losses are means over rows and count them in full.

Examples
--------
>>> import numpy as np
>>> from fastnn import losses
>>> y, a = np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
>>> losses.mse(y, a), losses.mse.derivative(y, a)
(0.25, array([[ 0.5, -0.5]]))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import engines
from .checks import real_number
from .errors import ShapeError
from .names import unknown
from .ops.loss import mean
from .tables import Loss

_quiet = np.errstate(under="ignore")


@dataclass(frozen=True)
class LossFunction:
    """A loss.

    Attributes
    ----------
    code : Loss
        Its code in the engines' tables.
    label_smoothing : float
        Fraction of the targets that is spread evenly over the classes.

    Examples
    --------
    >>> from fastnn import losses
    >>> losses.sse([1.0, 2.0], [1.5, 2.0])
    0.25
    """

    code: Loss
    label_smoothing: float = 0.0

    @property
    def name(self) -> str:
        """The public name."""
        return self.code.name

    @property
    def mean(self) -> bool:
        """True for a mean over rows, False for a sum."""
        return mean(self.code)

    @_quiet
    def __call__(self, y, a) -> float:
        """The loss of given outputs.

        Parameters
        ----------
        y, a : array_like, shape (m, n) or (m,) for one output
            Targets, and outputs as predicted (probabilities for the cross entropies). For
            several outputs y may be m class numbers instead.

        Returns
        -------
        float
            The mean over the m rows; for ``sse`` the sum.

        Raises
        ------
        ShapeError
            If the shapes differ.
        """
        y, a = self._prepare(y, a)
        rows = self._rows(y, a)
        return float(rows.mean() if self.mean else rows.sum())

    @_quiet
    def derivative(self, y, a) -> np.ndarray:
        """The derivative of each row's loss with respect to its outputs.

        It lacks the factor 1/m of a mean over m rows, which the study notes put into dW and db.

        Parameters
        ----------
        y, a : array_like, shape (m, n) or (m,) for one output

        Returns
        -------
        ndarray, the shape of a

        Raises
        ------
        ShapeError
            If the shapes differ.
        """
        shape = np.shape(a)
        y, a = self._prepare(y, a)
        return self._derivative(y, a).reshape(shape)

    def _prepare(self, y, a):
        y, a = np.asarray(y), np.asarray(a, dtype=np.float64)
        if a.ndim == 2 and a.shape[1] > 1 and y.shape == a.shape[:1] and y.dtype.kind in "iu":
            from .coding import one_hot

            y = one_hot(y, a.shape[1])
        if y.shape != a.shape:
            raise ShapeError(f"targets of shape {y.shape} do not fit outputs of shape {a.shape}")
        y = y.astype(np.float64)
        y, a = (v.reshape(-1, 1) if v.ndim < 2 else v.reshape(len(v), -1) for v in (y, a))
        if self.label_smoothing:
            y = engines.reference.loss.smooth(self.code, y, self.label_smoothing)
        return y, a

    def _rows(self, y, a) -> np.ndarray:
        if self.code in (Loss.mse, Loss.sse):
            return engines.reference.loss.LOSSES[self.code](a, y)[0]
        from scipy.special import xlog1py, xlogy  # slow to import, and no fit needs it

        rows = -xlogy(y, a)
        if self.code == Loss.binary_cross_entropy:
            rows -= xlog1py(1 - y, -a)
        return rows.sum(axis=1)

    def _derivative(self, y, a) -> np.ndarray:
        if self.code in (Loss.mse, Loss.sse):
            return engines.reference.loss.LOSSES[self.code](a, y)[1]
        derivative = -_ratio(y, a)
        if self.code == Loss.binary_cross_entropy:
            derivative += _ratio(1 - y, 1 - a)
        return derivative

    def config(self) -> dict:
        """The name and arguments, as written to files."""
        return {"name": self.name, "label_smoothing": self.label_smoothing}

    def __repr__(self) -> str:
        smoothing = f"(label_smoothing={self.label_smoothing:g})" if self.label_smoothing else ""
        return self.name + smoothing


def _ratio(x, y) -> np.ndarray:
    """x / y, and 0 where x is 0."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.divide(x, y, out=np.zeros_like(x), where=x != 0)


class CrossEntropy(LossFunction):
    """-sum over classes of y log a, mean over rows, on logits in training: dz = a - y.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        In [0, 1): the targets become y (1 - e) + e / n for n classes (C. Szegedy et al.,
        Rethinking the Inception Architecture, 2016, section 7).

    Raises
    ------
    ValueError, TypeError
        If it is out of range or not a number.

    Examples
    --------
    >>> from fastnn.losses import CrossEntropy
    >>> round(CrossEntropy()([0, 1], [[0.5, 0.5], [0.5, 0.5]]), 4)
    0.6931
    """

    def __init__(self, label_smoothing=0.0):
        super().__init__(Loss.cross_entropy, _smoothing(label_smoothing))


class BinaryCrossEntropy(LossFunction):
    """-(y log a + (1-y) log (1-a)), summed over outputs, mean over rows, on logits in training.

    Several outputs are independent: labels of which several may apply to a row, or one class
    against the rest for each output.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        In [0, 1): the targets become y (1 - e) + e / 2.

    Raises
    ------
    ValueError, TypeError
        If it is out of range or not a number.

    Examples
    --------
    >>> from fastnn.losses import BinaryCrossEntropy
    >>> BinaryCrossEntropy().derivative([1.0, 0.0], [0.5, 0.5])
    array([-2.,  2.])
    """

    def __init__(self, label_smoothing=0.0):
        super().__init__(Loss.binary_cross_entropy, _smoothing(label_smoothing))


def _smoothing(value) -> float:
    return real_number(value, "label_smoothing", least=0, below=1)


mse = LossFunction(Loss.mse)
#: A minibatch of m of the fit's n rows counts m/n of the penalties.
sse = LossFunction(Loss.sse)
binary_cross_entropy = BinaryCrossEntropy()
cross_entropy = CrossEntropy()

_BY_NAME: dict[str, LossFunction] = {
    code.name: globals()[code.name] for code in Loss if code != Loss.custom
}
NAMES = tuple(_BY_NAME)


def get(loss) -> LossFunction:
    """Look up a loss by name; a loss is returned as is.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If the argument is neither a name nor a loss.

    Examples
    --------
    >>> from fastnn import losses
    >>> losses.get("mse") is losses.mse
    True
    """
    if isinstance(loss, LossFunction):
        return loss
    if not isinstance(loss, str):
        raise TypeError(
            f"loss must be one of the names {', '.join(NAMES)}, or Custom(function), not {loss!r}"
        )
    if loss not in NAMES:
        raise unknown("loss", loss, ["auto", *NAMES])
    return _BY_NAME[loss]


def __getattr__(name: str):
    """``losses.Custom``, whose module needs this one."""
    if name == "Custom":
        from .custom_loss import Custom

        return Custom
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def from_config(config: dict) -> LossFunction:
    """The loss for what :meth:`LossFunction.config` returned."""
    smoothing = config["label_smoothing"]
    if not smoothing:
        return get(config["name"])
    classes = {"cross_entropy": CrossEntropy, "binary_cross_entropy": BinaryCrossEntropy}
    return classes[config["name"]](smoothing)
