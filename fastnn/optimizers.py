"""Optimizers: their hyperparameters, and the columns of these that engines read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from . import schedules
from .checks import real_number, true_or_false
from .names import unknown
from .optimizer import Optimizer, powers
from .tables import Rule


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Gradient descent, with momentum: v = momentum v - lr g, then w = w + v.

    ``batch_size`` of fit is the number of rows of a gradient: None is batch descent, 1 stochastic
    descent, other values minibatch descent.

    Parameters
    ----------
    lr : float or schedule, default 0.01
        The learning rate, above 0. The velocity contains it, so a change takes effect gradually
        (as in scikit-learn).
    momentum : float or schedule, default 0
        Fraction of the velocity that a step keeps, in [0, 1).
    nesterov : bool, default False
        Nesterov's momentum, w = w + momentum v - lr g (Y. Nesterov, 1983, in the form of
        I. Sutskever et al., 2013).
    weight_decay, clip_norm, clip_value, lr_factors, decay_factors
        As for :class:`fastnn.optimizer.Optimizer`.

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

    lr: float | schedules.Schedule = 0.01  # type: ignore[misc]
    momentum: float | schedules.Schedule = 0.0
    nesterov: bool = False

    def __post_init__(self):
        super().__post_init__()
        self._check("momentum", least=0, below=1)
        true_or_false(self.nesterov, "nesterov")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, such as 0.9")

    @property
    def rule(self) -> Rule:
        if self.nesterov:
            return Rule.nesterov
        return Rule.momentum if self.momentum else Rule.sgd

    def _own(self, own, columns, first_step):
        own[:] = self.values("momentum", first_step - 1, len(own), least=0, below=1)[:, None]


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """Adam: momentum and a step size for each parameter, both with bias correction.

    m = beta1 m + (1-beta1) g and v = beta2 v + (1-beta2) g^2; after step t,
    w = w - lr sqrt(1-beta2^t)/(1-beta1^t) m / (sqrt v + epsilon sqrt(1-beta2^t)),
    which is the published rule rearranged (D. P. Kingma and J. Ba, Adam, ICLR 2015, section 2).

    Parameters
    ----------
    lr : float or schedule, default 0.001
        The learning rate, above 0.
    beta1 : float or schedule, default 0.9
        Decay rate of the moving average m, in [0, 1).
    beta2 : float, default 0.999
        Decay rate of the moving average v, in [0, 1).
    epsilon : float, default 1e-8
        Added to the square root, above 0.
    weight_decay, clip_norm, clip_value, lr_factors, decay_factors
        As for :class:`fastnn.optimizer.Optimizer`.

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

    lr: float | schedules.Schedule = 0.001  # type: ignore[misc]
    beta1: float | schedules.Schedule = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    rule: ClassVar[Rule] = Rule.adam

    def __post_init__(self):
        super().__post_init__()
        self._check("beta1", least=0, below=1)
        real_number(self.beta2, "beta2", least=0, below=1)
        real_number(self.epsilon, "epsilon", positive=True)

    def _own(self, own, columns, first_step):
        steps = np.arange(first_step, first_step + len(own))
        beta1 = self.values("beta1", first_step - 1, len(own), least=0, below=1)
        correction = np.sqrt(1 - powers(self.beta2, steps))
        columns[:, 0] = columns[:, 0] * correction / (1 - powers(beta1, steps))
        own[:, 0] = self.epsilon * correction
        own[:, 1] = beta1
        own[:, 2] = self.beta2


@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """Adam with a decoupled weight decay."""

    decoupled: ClassVar[bool] = True


_BY_NAME = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


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
    from .muon import Muon  # which is made of AdamW

    by_name: dict[str, type[Optimizer]] = {**_BY_NAME, "muon": Muon}
    if optimizer.lower() not in by_name:
        raise unknown("optimizer", optimizer, by_name)
    return by_name[optimizer.lower()]()
