"""Optimizers that have a step size for each parameter, from the squares of its gradients."""

from __future__ import annotations

from dataclasses import field

import numpy as np

from . import schedules
from .checks import real_number, true_or_false
from .optimizer import Optimizer, declaration
from .powers import consecutive_powers, powers
from .tables import Rule

#: Nadam's product of momentums is kept for every so many steps; between them it is computed again.
_KEPT_EVERY = 4096

#: A number that makes no difference to 1.
_SMALL = 1e-60


@declaration
class Adagrad(Optimizer):
    """Adagrad: s = s + g^2, then w = w - lr g / (sqrt s + epsilon).

    J. Duchi, E. Hazan and Y. Singer, JMLR 12 (2011), with the diagonal of the matrix (figure 1).
    The steps only become shorter. PyTorch's lr_decay is a schedule of the learning rate,
    lr / (1 + lr_decay k) in step k = 0, 1, ...; Keras starts with an accumulator of 0.1.

    Parameters
    ----------
    lr : float or schedule, default 0.01
        The learning rate, above 0.
    initial_accumulator : float, default 0
        The value that s starts with, at least 0.
    epsilon : float, default 1e-10
        Added to the square root, above 0.
    weight_decay, clip_norm, clip_value, lr_factors, decay_factors
        As for :class:`fastnn.optimizer.Optimizer`.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number.

    Examples
    --------
    >>> from fastnn import Adagrad
    >>> Adagrad(0.05)
    Adagrad(lr=0.05, initial_accumulator=0.0, epsilon=1e-10)
    """

    lr: float | schedules.Schedule = 0.01  # type: ignore[misc]
    initial_accumulator: float = 0.0
    epsilon: float = 1e-10

    def __post_init__(self):
        super().__post_init__()
        real_number(self.initial_accumulator, "initial_accumulator", least=0)
        real_number(self.epsilon, "epsilon", positive=True)

    @property
    def rule(self) -> Rule:
        return Rule.adagrad

    def reset(self, slots):
        slots.fill(self.initial_accumulator)

    def _own(self, own, columns, first_step):
        own[:, 0] = self.epsilon


@declaration
class RMSprop(Optimizer):
    """RMSprop: v = rho v + (1-rho) g^2, then w = w - lr g / sqrt(v + epsilon).

    G. Hinton, Neural networks for machine learning (2012), lecture 6e. With a momentum, the
    velocity is b = momentum b - lr g / sqrt(v + epsilon), and w = w + b. As in :class:`SGD` and in
    Keras, the velocity contains the learning rate; PyTorch multiplies by it afterwards, which makes
    a difference only where the rate changes. PyTorch's defaults are lr=0.01, rho=0.99 (its alpha)
    and eps_inside=False.

    Parameters
    ----------
    lr : float or schedule, default 0.001
        The learning rate, above 0.
    rho : float, default 0.9
        Decay rate of the moving average v, in [0, 1).
    epsilon : float, default 1e-8
        Added to v, above 0.
    momentum : float or schedule, default 0
        Fraction of the velocity that a step keeps, in [0, 1).
    centered : bool, default False
        Divide by an estimate of the standard deviation, sqrt(v - a^2 + epsilon) with
        a = rho a + (1-rho) g (A. Graves, arXiv 1308.0850, section 4.2).
        A difference below 0, from rounding, counts as 0.
    eps_inside : bool, default True
        Whether epsilon is added to v; otherwise to its square root, as in PyTorch.
    weight_decay, clip_norm, clip_value, lr_factors, decay_factors
        As for :class:`fastnn.optimizer.Optimizer`.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number.

    Examples
    --------
    >>> from fastnn import RMSprop
    >>> RMSprop(0.01, rho=0.99, eps_inside=False)
    RMSprop(lr=0.01, rho=0.99, epsilon=1e-08, momentum=0.0, centered=False, eps_inside=False)
    """

    lr: float | schedules.Schedule = 0.001  # type: ignore[misc]
    rho: float = 0.9
    epsilon: float = 1e-8
    momentum: float | schedules.Schedule = 0.0
    centered: bool = False
    eps_inside: bool = True

    def __post_init__(self):
        super().__post_init__()
        real_number(self.rho, "rho", least=0, below=1)
        real_number(self.epsilon, "epsilon", positive=True)
        self._check("momentum", least=0, below=1)
        true_or_false(self.centered, "centered")
        true_or_false(self.eps_inside, "eps_inside")

    @property
    def rule(self) -> Rule:
        if self.centered:
            return Rule.rmsprop_centered_momentum if self.momentum else Rule.rmsprop_centered
        return Rule.rmsprop_momentum if self.momentum else Rule.rmsprop

    def _own(self, own, columns, first_step):
        own[:, 0] = self.rho
        own[:, 1 if self.eps_inside else 2] = self.epsilon
        if self.momentum:
            own[:, 3] = self.values("momentum", first_step - 1, len(own), least=0, below=1)


@declaration
class Adadelta(Optimizer):
    """Adadelta: steps as long as the mean of the last ones, in the units of the parameters.

    v = rho v + (1-rho) g^2, d = sqrt(u + epsilon) / sqrt(v + epsilon) g,
    u = rho u + (1-rho) d^2 and w = w - lr d (M. D. Zeiler, arXiv 1212.5701, algorithm 1, which has
    no lr). The defaults are PyTorch's; Keras has lr=0.001, rho=0.95 and epsilon=1e-7.

    Parameters
    ----------
    lr : float or schedule, default 1
        Factor of the steps, above 0.
    rho : float, default 0.9
        Decay rate of both moving averages, in [0, 1).
    epsilon : float, default 1e-6
        Added to both averages, above 0. It decides how long the first steps are.
    weight_decay, clip_norm, clip_value, lr_factors, decay_factors
        As for :class:`fastnn.optimizer.Optimizer`.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number.

    Examples
    --------
    >>> from fastnn import Adadelta
    >>> Adadelta(rho=0.95)
    Adadelta(lr=1.0, rho=0.95, epsilon=1e-06)
    """

    lr: float | schedules.Schedule = 1.0  # type: ignore[misc]
    rho: float = 0.9
    epsilon: float = 1e-6

    def __post_init__(self):
        super().__post_init__()
        real_number(self.rho, "rho", least=0, below=1)
        real_number(self.epsilon, "epsilon", positive=True)

    @property
    def rule(self) -> Rule:
        return Rule.adadelta

    def _own(self, own, columns, first_step):
        own[:, 0] = self.epsilon
        own[:, 1] = self.rho


@declaration
class _Moments(Optimizer):
    """Base of Adam and its relatives: m = beta1 m + (1-beta1) g, v = beta2 v + (1-beta2) g^2."""

    lr: float | schedules.Schedule = 0.001  # type: ignore[misc]
    beta1: float | schedules.Schedule = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self):
        super().__post_init__()
        self._check("beta1", least=0, below=1)
        real_number(self.beta2, "beta2", least=0, below=1)
        real_number(self.epsilon, "epsilon", positive=True)

    def _own(self, own, columns, first_step):
        own[:, 0] = self.epsilon
        own[:, 1] = self.values("beta1", first_step - 1, len(own), least=0, below=1)
        own[:, 2] = self.beta2


@declaration
class Adam(_Moments):
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
        Added to the square root, above 0. Keras has 1e-7.
    amsgrad : bool, default False
        Divide by the root of the largest v so far in place of v (S. J. Reddi, S. Kale and
        S. Kumar, ICLR 2018, algorithm 2). As in PyTorch, the bias of the largest v is corrected as
        that of v is; the paper corrects none.
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
    Adam(lr=0.003, beta1=0.9, beta2=0.999, epsilon=1e-08, amsgrad=False)
    """

    amsgrad: bool = False

    def __post_init__(self):
        super().__post_init__()
        true_or_false(self.amsgrad, "amsgrad")

    @property
    def rule(self) -> Rule:
        return Rule.amsgrad if self.amsgrad else Rule.adam

    def _own(self, own, columns, first_step):
        super()._own(own, columns, first_step)
        n = len(own)
        correction = np.sqrt(1 - consecutive_powers(self.beta2, first_step, n))
        if isinstance(self.beta1, float | int):
            power = consecutive_powers(self.beta1, first_step, n, squared=True)
        else:
            power = powers(own[:, 1], np.arange(first_step, first_step + n))
        columns[:, 0] = columns[:, 0] * correction / (1 - power)
        own[:, 0] = self.epsilon * correction


@declaration
class AdamW(Adam):
    """Adam with decoupled weight decay: w = w - lr weight_decay w before the step of :class:`Adam`.

    I. Loshchilov and F. Hutter, ICLR 2019, algorithm 2, with the learning rate as its schedule
    multiplier, as in PyTorch and Keras. Only weight matrices decay, here as in all optimizers;
    PyTorch's AdamW decays whatever it is given.

    Parameters
    ----------
    lr, beta1, beta2, epsilon, amsgrad
        As for :class:`Adam`.
    weight_decay : float or schedule, default 0.01
        The decay of the weight matrices, at least 0; a step multiplies it by lr.
    clip_norm, clip_value, lr_factors, decay_factors
        As for :class:`fastnn.optimizer.Optimizer`.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number.

    Examples
    --------
    >>> from fastnn import AdamW
    >>> AdamW(0.003, weight_decay=0.1)
    AdamW(lr=0.003, beta1=0.9, beta2=0.999, epsilon=1e-08, amsgrad=False, weight_decay=0.1)
    """

    weight_decay: float | schedules.Schedule = field(default=0.01, kw_only=True)

    decoupled = True


@declaration
class Nadam(_Moments):
    """Nadam: Adam with Nesterov's momentum.

    With mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), P_t = mu_1 mu_2 ... mu_t, and m and v as in
    :class:`Adam`, step t is w = w - lr ((1-mu_t)/(1-P_t) g + mu_{t+1}/(1-P_{t+1}) m) /
    (sqrt(v / (1-beta2^t)) + epsilon): T. Dozat, Incorporating Nesterov momentum into Adam (2016),
    as PyTorch has it. If beta1 follows a schedule, its value of step t is also the one in mu_{t+1}.

    Parameters
    ----------
    lr : float or schedule, default 0.002
        The learning rate, above 0. Keras has 0.001.
    beta1 : float or schedule, default 0.9
        Decay rate of the moving average m, and what mu rises to, in [0, 1).
    beta2 : float, default 0.999
        Decay rate of the moving average v, in [0, 1).
    epsilon : float, default 1e-8
        Added to the square root, above 0.
    momentum_decay : float, default 0.004
        How fast mu rises from half of beta1, at least 0.
    weight_decay, clip_norm, clip_value, lr_factors, decay_factors
        As for :class:`fastnn.optimizer.Optimizer`.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number.

    Examples
    --------
    >>> from fastnn import Nadam
    >>> Nadam()
    Nadam(lr=0.002, beta1=0.9, beta2=0.999, epsilon=1e-08, momentum_decay=0.004)
    """

    lr: float | schedules.Schedule = 0.002  # type: ignore[misc]
    momentum_decay: float = 0.004

    def __post_init__(self):
        super().__post_init__()
        real_number(self.momentum_decay, "momentum_decay", least=0)
        object.__setattr__(self, "_products", {0: 1.0})

    @property
    def rule(self) -> Rule:
        return Rule.nadam

    def _own(self, own, columns, first_step):
        super()._own(own, columns, first_step)
        steps = np.arange(first_step, first_step + len(own))
        mu, product = self._momentums(first_step - 1, len(own)), self._product(steps)
        following = own[:, 1] * _rise(steps + 1, self.momentum_decay)
        correction = np.sqrt(1 - powers(self.beta2, steps))
        columns[:, 0] *= correction
        own[:, 0] *= correction
        own[:, 3] = (1 - mu) / (1 - product)
        own[:, 4] = following / (1 - product * following)

    def _momentums(self, first: int, count: int) -> np.ndarray:
        """mu of the steps first + 1, ..., first + count."""
        beta1 = self.values("beta1", first, count, least=0, below=1)
        return beta1 * _rise(np.arange(first + 1, first + count + 1), self.momentum_decay)

    def _product(self, steps: np.ndarray) -> np.ndarray:
        """mu_1 ... mu_t for consecutive steps t, multiplied in this order wherever they begin."""
        if not len(steps):
            return np.ones(0)
        done = (int(steps[0]) - 1) // _KEPT_EVERY * _KEPT_EVERY
        kept: dict[int, float] = self._products  # type: ignore[attr-defined]
        known = done
        while known not in kept:
            known -= _KEPT_EVERY
        for start in range(known, done, _KEPT_EVERY):
            found = kept[start]
            if found:
                found = _running_product(found, self._momentums(start, _KEPT_EVERY))[-1]
            kept[start + _KEPT_EVERY] = float(found)
        mus = self._momentums(done, int(steps[-1]) - done)
        # What makes no difference to 1 must not underflow where it is multiplied.
        return np.maximum(_running_product(kept[done], mus)[-len(steps) :], _SMALL)


def _rise(steps: np.ndarray, decay: float) -> np.ndarray:
    """Nadam's momentum in some steps, as a fraction of beta1."""
    return 1 - 0.5 * powers(0.96**decay, steps) if decay else np.full(len(steps), 0.5)


def _running_product(start: float, factors: np.ndarray) -> np.ndarray:
    """start f_1, start f_1 f_2, ..., for factors below 1."""
    with np.errstate(under="ignore"):
        return np.multiply.accumulate(np.concatenate([[start], factors]))[1:]


@declaration
class RAdam(_Moments):
    """RAdam: Adam without step sizes of parameters until these are reliable.

    With rho_inf = 2/(1-beta2) - 1 and rho_t = rho_inf - 2 t beta2^t / (1-beta2^t), and m and v as
    in :class:`Adam`, step t is w = w - lr r m / (1-beta1^t) sqrt(1-beta2^t) / (sqrt v + epsilon)
    if rho_t > 5, where r^2 = (rho_t-4)(rho_t-2) rho_inf / ((rho_inf-4)(rho_inf-2) rho_t), and
    w = w - lr m / (1-beta1^t) otherwise (L. Liu et al., ICLR 2020, algorithm 2, which changes at
    4 and has no epsilon; 5 is that of the authors' code and of PyTorch).

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
    >>> from fastnn import RAdam
    >>> RAdam(0.01, beta2=0.99)
    RAdam(lr=0.01, beta1=0.9, beta2=0.99, epsilon=1e-08)
    """

    @property
    def rule(self) -> Rule:
        return Rule.radam

    def _own(self, own, columns, first_step):
        super()._own(own, columns, first_step)
        steps = np.arange(first_step, first_step + len(own))
        columns[:, 0] /= 1 - powers(own[:, 1], steps)
        power = powers(self.beta2, steps)
        longest = 2 / (1 - self.beta2) - 1
        length = longest - 2 * steps * power / (1 - power)
        reliable = length > 5
        length = length[reliable]
        square = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        own[:, 3] = ~reliable
        own[reliable, 4] = np.sqrt(square * (1 - power[reliable]))
