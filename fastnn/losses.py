"""Losses: by name, as objects, and as functions of given outputs with ``.derivative``.

==========================  =====================================================
name                        loss of m rows with targets y and outputs a
==========================  =====================================================
``mse``                     mean over rows and outputs of (a - y)^2
``sse``                     sum over rows and outputs of (a - y)^2
``squared_error``           mean over rows of the sum over outputs of (a - y)^2 / 2
``mae``                     mean over rows and outputs of |a - y|
``huber``                   mean over rows and outputs of (a - y)^2 / 2 where
                            |a - y| <= delta, else delta (|a - y| - delta / 2)
``quantile``                mean over rows and outputs of max(q e, (q-1) e), e = y - a
``poisson``                 mean over rows of the sum over outputs of a - y log a, a = e^z
``gaussian_nll``            mean over rows of the sum over targets of
                            (log (2 pi v) + (y - m)^2 / v) / 2, mean m, variance v = e^s
``hinge``                   mean over rows of the sum over outputs of max(0, 1 - s a),
                            with s = -1 for y = 0 and s = 1 for y = 1
``squared_hinge``           mean over rows of the sum over outputs of max(0, 1 - s a)^2
``binary_cross_entropy``    mean over rows of the sum over outputs of
                            -(y log a + (1-y) log (1-a)), a = sigmoid(z)
``cross_entropy``           mean over rows of -sum over classes of y log a, a = softmax(z)
``focal``                   mean over rows of -(1 - p)^gamma log p, with the output p
                            of the true class
``Custom(function)``        mean over rows of a function of your own
==========================  =====================================================

:class:`Huber`, :class:`Quantile`, :class:`Focal`, :class:`SquaredError`, :class:`CrossEntropy` and
:class:`BinaryCrossEntropy` take arguments; their names stand for delta 1, the median, gamma 2,
factor 1 and no label smoothing.

Some losses contain the output function, here applied to z or s, so the network ends without one.
In training they work on the logits: the derivative of the cross entropies is then a - y, that of
``poisson`` too. `predict` applies the function: it returns rates for ``poisson``; for
``gaussian_nll``, whose 2 c outputs for c targets are first all means, then all log variances, it
returns the means and then the variances. ``poisson`` leaves out the constant log y!;
``gaussian_nll`` is the whole negative log-likelihood, like PyTorch's with ``full=True``.

Penalties (l1, l2) are added to the loss of every minibatch. ``sse`` is a sum over rows, so a
minibatch of m of the fit's n rows counts m/n of the penalties, in loss and gradient: an epoch
counts them once. The other losses are means over rows and count them in full. Networks with
``penalties="per_row"`` count them like one more row of each minibatch.

Examples
--------
>>> import numpy as np
>>> from fastnn import losses
>>> y, a = np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
>>> losses.mse(y, a), losses.mse.derivative(y, a)
(0.25, array([[ 0.5, -0.5]]))
"""

from __future__ import annotations

import itertools
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import described, engines, loss_formulas
from .checks import real_number
from .described import Public
from .names import find
from .ops.loss import mean
from .tables import Loss

_quiet = np.errstate(under="ignore")


#: What help() does not show.
_MACHINERY = (
    "argument", "code", "config", "derivative_of_rows", "mean", "n_per_target", "quantiles",
    "spread",
)  # fmt: skip


@dataclass(frozen=True)
class LossFunction(metaclass=Public, hides=_MACHINERY):
    """A loss.

    Attributes
    ----------
    name : str
        The public name.
    label_smoothing : float
        Fraction of the targets that is spread evenly over the classes.

    Examples
    --------
    >>> from fastnn import losses
    >>> losses.sse([1.0, 2.0], [1.5, 2.0])
    0.25
    """

    code: Loss
    argument: float = 0.0
    quantiles: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The public name."""
        return self.code.name

    @property
    def mean(self) -> bool:
        """True for a mean over rows, False for a sum."""
        return mean(self.code)

    @property
    def label_smoothing(self) -> float:
        """Fraction of the targets that is spread evenly over the classes."""
        return 0.0

    @property
    def n_per_target(self) -> int:
        """How many outputs a column of targets has: a mean and a variance, or quantiles."""
        return 2 if self.code == Loss.gaussian_nll else len(self.quantiles) or 1

    def spread(self, y: np.ndarray) -> np.ndarray:
        """Targets (m, c) repeated to as many columns as outputs: those of engines.

        Output j k + i of k quantiles is quantile i of target j. Output j of ``gaussian_nll`` is
        the mean of target j, output c + j its variance.
        """
        if self.n_per_target == 1:
            return y
        if self.code == Loss.gaussian_nll:
            return np.tile(y, (1, 2))
        return np.repeat(y, self.n_per_target, axis=1)

    @_quiet
    def __call__(self, y, a) -> float:
        """The loss of given outputs.

        Parameters
        ----------
        y, a : array_like, shape (m, n) or (m,) for one output
            Targets, and outputs as predicted (probabilities for the cross entropies, rates,
            means and variances). For several outputs of a classification y may be m class
            numbers instead. For several quantiles and ``gaussian_nll``, a has that many times
            the columns of y.

        Returns
        -------
        float
            The mean over the m rows; for ``sse`` the sum.

        Raises
        ------
        ShapeError
            If the shapes do not fit.
        ValueError
            If targets of a hinge or focal loss are neither 0 nor 1.
        """
        y, a = loss_formulas.prepare(self, y, a)
        rows = self._rows(self._smoothed(y), a)
        return float(rows.mean() if self.mean else rows.sum())

    @_quiet
    def derivative(self, y, a) -> np.ndarray:
        """The derivative of each row's loss with respect to its outputs.

        It lacks the factor 1/m of a mean over m rows, which is in dW and db of :meth:`trace
        <fastnn.Sequential.trace>`.

        Parameters
        ----------
        y, a : array_like, shape (m, n) or (m,) for one output

        Returns
        -------
        ndarray, the shape of a

        Raises
        ------
        ShapeError, ValueError
            As for the loss itself.
        """
        shape = np.shape(a)
        y, a = loss_formulas.prepare(self, y, a)
        return self._derivative(self._smoothed(y), a).reshape(shape)

    @_quiet
    def derivative_of_rows(self, y: np.ndarray, a: np.ndarray) -> np.ndarray:
        """:meth:`derivative` for targets as engines read them, with as many columns as outputs."""
        y, a = y.astype(np.float64), a.astype(np.float64)
        return self._derivative(self._smoothed(y), a)

    def _smoothed(self, y):
        if not self.label_smoothing:
            return y
        return engines.reference.loss.smooth(self.code, y, self.label_smoothing)

    def _rows(self, y, a) -> np.ndarray:
        arguments = self._arguments(a.shape[1])
        if self.code in loss_formulas.FORMULAS:
            return loss_formulas.FORMULAS[self.code][0](y, a, *arguments)
        return engines.reference.loss.LOSSES[self.code](a, y, *arguments)[0]

    def _derivative(self, y, a) -> np.ndarray:
        arguments = self._arguments(a.shape[1])
        if self.code in loss_formulas.FORMULAS:
            return loss_formulas.FORMULAS[self.code][1](y, a, *arguments)
        return engines.reference.loss.LOSSES[self.code](a, y, *arguments)[1]

    def _arguments(self, n_outputs: int) -> tuple:
        """What the formulas take besides targets and outputs."""
        return ()

    def config(self) -> dict[str, Any]:
        """The name and arguments, as written to files."""
        return {"name": self.name, "label_smoothing": self.label_smoothing}

    def __repr__(self) -> str:
        smoothing = f"(label_smoothing={self.label_smoothing:g})" if self.label_smoothing else ""
        return self.name + smoothing


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

    @property
    def label_smoothing(self) -> float:
        return self.argument


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

    @property
    def label_smoothing(self) -> float:
        return self.argument


def _smoothing(value) -> float:
    return real_number(value, "label_smoothing", least=0, below=1)


class Huber(LossFunction):
    """Squares of small errors, sizes of large ones; mean over rows and outputs.

    e^2 / 2 for |e| <= delta, else delta (|e| - delta / 2), with e = a - y (P. J. Huber, Robust
    estimation of a location parameter, 1964).

    Parameters
    ----------
    delta : float, default 1.0
        Above 0, in the unit of y.

    Raises
    ------
    ValueError, TypeError
        If it is out of range or not a number.

    Examples
    --------
    >>> from fastnn.losses import Huber
    >>> Huber(2.0).derivative([0.0, 0.0], [1.0, 5.0])
    array([1., 2.])
    """

    def __init__(self, delta=1.0):
        super().__init__(Loss.huber, argument=real_number(delta, "delta", positive=True))

    @property
    def delta(self) -> float:
        """The size of an error from which on it counts linearly."""
        return self.argument

    def _arguments(self, n_outputs):
        return (self.argument,)

    def config(self):
        return {"name": self.name, "delta": self.delta}

    def __repr__(self) -> str:
        return f"{self.name}(delta={self.delta:g})"


class Quantile(LossFunction):
    """max(q e, (q - 1) e) with e = y - a: the output learns the quantile q of y given X.

    Mean over rows and outputs (R. Koenker and G. Bassett, Regression quantiles, 1978).

    Parameters
    ----------
    q : float or sequence of float, default 0.5
        In (0, 1). Several, in ascending order, are learned at once: for k of them and c columns
        of y the network has c k outputs, of which number j k + i is quantile i of column j.
        `predict` returns all, (m, c k).

    Raises
    ------
    ValueError, TypeError
        If one is out of range or not a number, or they do not ascend.

    Examples
    --------
    >>> from fastnn.losses import Quantile
    >>> round(Quantile(0.9)([1.0, 1.0], [0.0, 2.0]), 3)
    0.5
    >>> Quantile([0.1, 0.9]).derivative([1.0], [[0.0, 2.0]])
    array([[-0.05,  0.05]])
    """

    def __init__(self, q=0.5):
        single = isinstance(q, (numbers.Real, str)) or not hasattr(q, "__iter__")
        values = tuple(_quantile(value) for value in ([q] if single else q))
        if not values:
            raise ValueError("q must hold at least one quantile")
        if any(b <= a for a, b in itertools.pairwise(values)):
            raise ValueError(f"the quantiles q must ascend, each once, not {list(values)}")
        several = values if len(values) > 1 else ()
        super().__init__(Loss.quantile, argument=0.0 if several else values[0], quantiles=several)

    @property
    def q(self) -> tuple[float, ...]:
        """The quantiles."""
        return self.quantiles or (self.argument,)

    def _arguments(self, n_outputs):
        return (np.tile(self.q, n_outputs // self.n_per_target),)

    def config(self):
        return {"name": self.name, "q": list(self.q)}

    def __repr__(self) -> str:
        return f"{self.name}(q={list(self.q) if self.quantiles else self.argument})"


class Focal(LossFunction):
    """-(1 - p)^gamma log p for the probability p of the true class, mean over rows, on logits.

    Rows that are classified well count little (T.-Y. Lin et al., Focal Loss for Dense Object
    Detection, 2017, eq. 4). With one output, p follows by the sigmoid from labels of two classes;
    with several, by the softmax from labels or one-hot rows. Its weights alpha of the classes are
    sample weights here.

    Parameters
    ----------
    gamma : float, default 2.0
        At least 0, which gives the cross-entropy.

    Raises
    ------
    ValueError, TypeError
        If it is out of range or not a number.

    Examples
    --------
    >>> from fastnn.losses import Focal, cross_entropy
    >>> round(Focal(2.0)([0, 1], [[0.9, 0.1], [0.5, 0.5]]), 4)
    0.0872
    >>> Focal(0.0)([0], [[0.9, 0.1]]) == cross_entropy([0], [[0.9, 0.1]])
    True
    """

    def __init__(self, gamma=2.0):
        super().__init__(Loss.focal, argument=real_number(gamma, "gamma", least=0))

    @property
    def gamma(self) -> float:
        """The exponent of 1 - p."""
        return self.argument

    def _arguments(self, n_outputs):
        return (self.argument,)

    def config(self):
        return {"name": self.name, "gamma": self.gamma}

    def __repr__(self) -> str:
        return f"{self.name}(gamma={self.gamma:g})"


class SquaredError(LossFunction):
    """Half the squared error: the sum over outputs of (a - y)^2 / 2, mean over rows; dz = a - y.

    Parameters
    ----------
    factor : float, default 1.0
        Above 0. It multiplies the loss that is reported, and not the gradient: 1/n for n outputs
        is what scikit-learn's MLPRegressor does.

    Raises
    ------
    ValueError, TypeError
        If it is out of range or not a number.

    Examples
    --------
    >>> from fastnn.losses import SquaredError
    >>> SquaredError()([[1.0, 2.0]], [[2.0, 4.0]])
    2.5
    """

    def __init__(self, factor=1.0):
        super().__init__(Loss.squared_error, real_number(factor, "factor", positive=True))

    @property
    def factor(self) -> float:
        """What the reported loss is multiplied by."""
        return self.argument

    def _arguments(self, n_outputs):
        return (self.argument,)

    def config(self):
        return {"name": self.name, "factor": self.factor}

    def __repr__(self) -> str:
        return self.name + (f"(factor={self.factor:g})" if self.factor != 1 else "")


def _quantile(value) -> float:
    return real_number(value, "q", below=1, positive=True)


mse = LossFunction(Loss.mse)
#: A minibatch of m of the fit's n rows counts m/n of the penalties.
sse = LossFunction(Loss.sse)
binary_cross_entropy = BinaryCrossEntropy()
cross_entropy = CrossEntropy()
squared_error = SquaredError()
mae = LossFunction(Loss.mae)
huber = Huber()
quantile = Quantile()
poisson = LossFunction(Loss.poisson)
hinge = LossFunction(Loss.hinge)
squared_hinge = LossFunction(Loss.squared_hinge)
focal = Focal()
gaussian_nll = LossFunction(Loss.gaussian_nll)

_BY_NAME: dict[str, LossFunction] = {
    code.name: globals()[code.name] for code in Loss if code != Loss.custom
}
NAMES = tuple(_BY_NAME)


def get(loss) -> LossFunction:
    """Look up a loss by name; a loss is returned as is.

    A name of Keras, PyTorch or scikit-learn that means the same is taken, in any spelling.

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
    >>> losses.get("sparse_categorical_crossentropy"), losses.get("mean_squared_error")
    (cross_entropy, mse)
    """
    if isinstance(loss, LossFunction):
        return loss
    if isinstance(loss, type) and issubclass(loss, LossFunction):
        raise TypeError(f"loss must be an object, not a class: write {loss.__name__}(...)")
    if callable(loss):
        name = getattr(loss, "__name__", "function")
        raise TypeError(f"a loss of your own is an object: write losses.Custom({name})")
    if not isinstance(loss, str):
        raise TypeError(
            f"loss must be one of the names {', '.join(NAMES)}, or Custom(function), not {loss!r}"
        )
    if loss == Loss.custom.name:
        raise ValueError("a loss of your own is an object: losses.Custom(function)")
    name = find("loss", loss, ["auto", *NAMES])
    if name == "auto":
        raise ValueError("'auto' is what fit infers from the targets: name a loss here")
    return _BY_NAME[name]


def __getattr__(name: str):
    """``losses.Custom``, whose module needs this one."""
    if name == "Custom":
        from .custom_loss import Custom

        return Custom
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_CLASSES: dict[str, Any] = {
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "huber": Huber,
    "quantile": Quantile,
    "focal": Focal,
    "squared_error": SquaredError,
}


def from_config(config: dict) -> LossFunction:
    """The loss for what :meth:`LossFunction.config` returned.

    Raises
    ------
    ValueError, TypeError
        If it is not a config of a loss.
    """
    arguments = {key: value for key, value in config.items() if key != "name"}
    loss = get(config["name"])
    if arguments.keys() != loss.config().keys() - {"name"}:
        raise ValueError(f"the arguments of {loss.name} are {', '.join(loss.config())}")
    if loss.name in _CLASSES and loss.config() != config:
        loss = _CLASSES[loss.name](**arguments)
    if loss.config() != config:
        raise ValueError(f"the loss {loss.name} takes no other arguments than {loss.config()}")
    return loss


described.describe(_BY_NAME, __doc__, described.loss)
