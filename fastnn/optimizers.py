"""Optimizers: hyperparameters, and their values for each step of an engine.

They are declarations without state. The state of a rule is kept in flat vectors, the slots, each
as long as the parameters.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from .checks import real_number, true_or_false
from .names import unknown
from .tables import HYPER, Rule


class Optimizer:
    """Base of the optimizers.

    Attributes
    ----------
    lr : float
        The learning rate.
    """

    lr: float

    @property
    def rule(self) -> Rule:
        """The update rule that engines execute."""
        raise AttributeError("a subclass must define its rule")

    def hyper(self, first_step: int, rates: np.ndarray) -> np.ndarray:
        """The hyperparameters of consecutive steps.

        Parameters
        ----------
        first_step : int
            Number of the first step, counted from 1 over the whole training.
        rates : ndarray, shape (n,)
            The learning rate of each step.

        Returns
        -------
        ndarray of float64, shape (n, len(HYPER[rule]))
            In the order of :data:`fastnn.tables.HYPER`.
        """
        columns = np.empty((len(rates), len(HYPER[self.rule])))
        columns[:, 0] = rates
        return columns

    def config(self) -> dict:
        """Name and hyperparameters, as written to files."""
        return {"name": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, with momentum: v = momentum v - lr g, then w = w + v.

    ``batch_size`` of fit is the number of rows of a gradient: None is batch descent, 1 stochastic
    descent, other values minibatch descent.

    Parameters
    ----------
    lr : float, default 0.01
        The learning rate, above 0. The velocity contains it, so a change takes effect gradually
        (as in scikit-learn).
    momentum : float, default 0
        Fraction of the velocity that a step keeps, in [0, 1).
    nesterov : bool, default False
        Nesterov's momentum, w = w + momentum v - lr g (Y. Nesterov, 1983, in the form of
        I. Sutskever et al., 2013).

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number, or nesterov comes without momentum.

    Examples
    --------
    >>> from fastnn import SGD
    >>> SGD(0.1, momentum=0.9, nesterov=True)
    SGD(lr=0.1, momentum=0.9, nesterov=True)
    """

    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        real_number(self.lr, "lr", positive=True)
        real_number(self.momentum, "momentum", least=0, below=1)
        true_or_false(self.nesterov, "nesterov")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, such as 0.9")

    @property
    def rule(self) -> Rule:
        if self.nesterov:
            return Rule.nesterov
        return Rule.momentum if self.momentum else Rule.sgd

    def hyper(self, first_step, rates):
        columns = super().hyper(first_step, rates)
        columns[:, 1:] = self.momentum
        return columns


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: momentum and a step size for each parameter, both with bias correction.

    m = beta1 m + (1-beta1) g and v = beta2 v + (1-beta2) g^2; after step t,
    w = w - lr sqrt(1-beta2^t)/(1-beta1^t) m / (sqrt v + epsilon sqrt(1-beta2^t)),
    which is the published rule rearranged (D. P. Kingma and J. Ba, Adam, ICLR 2015, section 2).

    Parameters
    ----------
    lr : float, default 0.001
        The learning rate, above 0.
    beta1, beta2 : float, defaults 0.9 and 0.999
        Decay rates of the moving averages m and v, in [0, 1).
    epsilon : float, default 1e-8
        Added to the square root, above 0.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number.

    Examples
    --------
    >>> from fastnn import Adam
    >>> Adam(0.003)
    Adam(lr=0.003, beta1=0.9, beta2=0.999, epsilon=1e-08)
    """

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    rule: ClassVar[Rule] = Rule.adam

    def __post_init__(self):
        real_number(self.lr, "lr", positive=True)
        real_number(self.beta1, "beta1", least=0, below=1)
        real_number(self.beta2, "beta2", least=0, below=1)
        real_number(self.epsilon, "epsilon", positive=True)

    def hyper(self, first_step, rates):
        columns = super().hyper(first_step, rates)
        steps = np.arange(first_step, first_step + len(rates))
        first, second = _powers(self.beta1, steps), _powers(self.beta2, steps)
        correction = np.sqrt(1 - second)
        columns[:, 0] = rates * correction / (1 - first)
        columns[:, 1] = self.epsilon * correction
        columns[:, 2] = self.beta1
        columns[:, 3] = self.beta2
        return columns


def _powers(beta: float, steps: np.ndarray) -> np.ndarray:
    """beta**steps, or for large steps another number so small that 1 - it is 1.

    So nothing underflows in a long run; np.errstate would take longer than the powers.
    """
    if beta == 0.0:
        return np.zeros(len(steps))
    most = max(1, int(_NO_DIFFERENCE / math.log(beta)))
    return beta ** np.minimum(steps, most)


#: The logarithm of a number that makes no difference to 1, far above the smallest normal one.
_NO_DIFFERENCE = math.log(1e-60)

_BY_NAME = {"sgd": SGD, "adam": Adam}


def get(optimizer) -> Optimizer:
    """Look up an optimizer by name, with default hyperparameters; an optimizer is returned as is.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If the argument is neither a name nor an optimizer.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(
            f"optimizer must be a name or an optimizer such as Adam(1e-3), not {optimizer!r}"
        )
    if optimizer.lower() not in _BY_NAME:
        raise unknown("optimizer", optimizer, _BY_NAME)
    return _BY_NAME[optimizer.lower()]()
