"""Optimizers: their hyperparameters, and the columns of these that engines read.

Those with a step size for each parameter are in :mod:`fastnn.adaptive`.
"""

from __future__ import annotations

from . import schedules
from .adaptive import Adadelta, Adagrad, Adam, AdamW, Nadam, RAdam, RMSprop
from .checks import real_number, true_or_false
from .lbfgs import LBFGS
from .muon import Muon
from .names import find
from .optimizer import Optimizer, declaration
from .tables import Rule


@declaration
class SGD(Optimizer):
    """Gradient descent, with momentum: v = momentum v - lr g, then w = w + v.

    ``batch_size`` of fit is the number of rows of a gradient: None is batch descent, 1 stochastic
    descent, other values minibatch descent.

    Parameters
    ----------
    lr : float or schedule, default 0.01
        The learning rate, above 0. The velocity contains it, so a change takes effect gradually
        (as in scikit-learn and Keras). PyTorch multiplies the velocity by the present rate, which
        is the same as long as the rate does not change.
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


@declaration
class Lion(Optimizer):
    """Lion: steps of one size, lr, in the direction of a momentum's sign.

    w = w - lr (sign(beta1 m + (1-beta1) g) + weight_decay w), then m = beta2 m + (1-beta2) g
    (X. Chen et al., arXiv 2302.06675, program 1); sign(0) = 0.
    Good rates are 3 to 10 times smaller than Adam's, and weight decays larger by as much.

    Parameters
    ----------
    lr : float or schedule, default 0.0001
        The learning rate, above 0.
    beta1 : float or schedule, default 0.9
        Share of m in the direction of the step, in [0, 1).
    beta2 : float, default 0.99
        Decay rate of the moving average m, in [0, 1).
    weight_decay, clip_norm, clip_value, lr_factors, decay_factors
        As for :class:`fastnn.optimizer.Optimizer`; the decay is decoupled, as in AdamW.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number.

    Examples
    --------
    >>> from fastnn import Lion
    >>> Lion(weight_decay=0.1)
    Lion(lr=0.0001, beta1=0.9, beta2=0.99, weight_decay=0.1)
    """

    lr: float | schedules.Schedule = 0.0001  # type: ignore[misc]
    beta1: float | schedules.Schedule = 0.9
    beta2: float = 0.99

    decoupled = True

    def __post_init__(self):
        super().__post_init__()
        self._check("beta1", least=0, below=1)
        real_number(self.beta2, "beta2", least=0, below=1)

    @property
    def rule(self) -> Rule:
        return Rule.lion

    def _own(self, own, columns, first_step):
        own[:, 0] = self.values("beta1", first_step - 1, len(own), least=0, below=1)
        own[:, 1] = self.beta2


_BY_NAME: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adadelta": Adadelta,
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
    "lbfgs": LBFGS,
    "lion": Lion,
    "muon": Muon,
    "nadam": Nadam,
    "radam": RAdam,
    "rmsprop": RMSprop,
}

#: All classes of optimizers.
ALL = tuple(_BY_NAME.values())


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
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        name = optimizer.__name__
        raise TypeError(
            f"optimizer must be an object, not a class: write {name}(), or {name} with arguments"
        )
    if not isinstance(optimizer, str):
        raise TypeError(
            f"optimizer must be a name or an optimizer such as Adam(1e-3), not {optimizer!r}"
        )
    return _BY_NAME[find("optimizer", optimizer, _BY_NAME)]()
