"""The base of the optimizers: what all of them have, and their values for each step."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from numbers import Integral
from typing import ClassVar, dataclass_transform

import numpy as np

from . import schedules
from .checks import real_number
from .described import Public
from .tables import COMMON, HYPER, Rule

_MACHINERY = (
    "config", "decay_factors", "decoupled", "full_batch", "hyper", "rates", "reset", "rule",
    "values",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, repr=False)
class Optimizer(metaclass=Public, hides=_MACHINERY):
    """Base of the optimizers: declarations without state.

    The state of a rule is kept in flat vectors, the slots, each as long as the parameters.

    Parameters
    ----------
    weight_decay : float or schedule, default 0
        Pulls the weight matrices towards 0, but no biases and no parameters of normalisations.
        SGD, Adagrad, RMSprop, Adam, Nadam, Adadelta and RAdam add weight_decay W to the gradient,
        as in PyTorch; AdamW, Lion and Muon subtract lr weight_decay W from W besides.
    clip_norm : float, optional
        The largest Euclidean norm of the gradient of all trained parameters together; a longer one
        is multiplied by clip_norm / norm. It comes before the weight decay, and so does clip_value.
        (PyTorch's clip_grad_norm_ adds 1e-6 to the norm.)
    clip_value : float, optional
        The largest absolute value of an element of the gradient; a larger one is set to it.
    lr_factors, decay_factors : mapping, optional
        Factors of the learning rate and of the weight decay, by layer (2 or "2", "2.0" within a
        :class:`Residual`) or parameter ("2.W"). The longest name that fits counts. A learning rate
        factor of 0 freezes, as `freeze` of fit does. A layer's decay factor is that of its weight
        matrices; only a parameter's own name makes others decay.

    Raises
    ------
    ValueError, TypeError
        If a hyperparameter is out of range or not a number.
    """

    weight_decay: float | schedules.Schedule = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    lr_factors: Mapping | None = None
    decay_factors: Mapping | None = None

    #: Whether the weight decay is kept out of the gradient.
    decoupled: ClassVar[bool] = False
    #: Whether it takes all rows at once, and several times in a step.
    full_batch: ClassVar[bool] = False

    lr: ClassVar[float | schedules.Schedule]

    def __post_init__(self):
        self._check("lr", positive=True)
        self._check("weight_decay", least=0)
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                real_number(getattr(self, name), name, positive=True)
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value cannot both be given: leave one out")
        for name in ("lr_factors", "decay_factors"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _checked_factors(given, name))

    def _check(self, name: str, **limits) -> None:
        """Check a hyperparameter; if it follows a schedule, each value is checked at its step."""
        value = getattr(self, name)
        if schedules.follows(value):
            object.__setattr__(self, name, schedules.of_hyperparameter(value, name))
        else:
            real_number(value, name, **limits)

    @property
    def rule(self) -> Rule:
        """The update rule that engines execute."""
        raise AttributeError("a subclass must define its rule")

    def values(self, name: str, first: int, count: int, **limits) -> np.ndarray:
        """A hyperparameter in the steps first, ..., first + count - 1, counted from 0.

        Returns
        -------
        ndarray of float64, shape (count,)

        Raises
        ------
        ValueError
            If a schedule gives a number that is infinite, NaN or out of the limits, as
            :func:`fastnn.checks.real_number` has them.
        """
        value = getattr(self, name)
        if not isinstance(value, schedules.Schedule):
            return np.full(count, float(value))
        return schedules.checked_values(value, name, first, count, **limits)

    def rates(self, first: int, count: int) -> np.ndarray:
        """The learning rate in the steps first, ..., first + count - 1, counted from 0."""
        return self.values("lr", first, count, least=0)

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
            In the order of :data:`fastnn.tables.HYPER`; the share of the average is 0.
        """
        n = len(rates)
        columns = np.zeros((n, len(HYPER[self.rule])))
        columns[:, 0] = rates
        if self.weight_decay != 0:
            decay = self.values("weight_decay", first_step - 1, n, least=0)
            if self.decoupled:
                columns[:, COMMON.index("decoupled")] = decay * rates
            else:
                columns[:, COMMON.index("coupled")] = decay
        clip = self.clip_norm if self.clip_norm is not None else self.clip_value
        if clip is not None:
            columns[:, COMMON.index("clip")] = clip
        self._own(columns[:, len(COMMON) :], columns, first_step)
        return columns

    def _own(self, own: np.ndarray, columns: np.ndarray, first_step: int) -> None:
        """Set the rule's own columns, and what it changes in the others."""

    def reset(self, slots: np.ndarray) -> None:
        """Set the slots (n_slots, n_params) to what they are before the first step."""
        slots.fill(0)

    def config(self) -> dict:
        """Name and hyperparameters, as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if isinstance(value, schedules.Schedule):
                values[name] = value.config()
        return {"name": type(self).__name__, **values}

    def __repr__(self) -> str:
        own = [field for field in fields(self) if field.name not in _COMMON_FIELDS]
        common = [
            field for field in fields(self)
            if field.name in _COMMON_FIELDS and getattr(self, field.name) != field.default
        ]  # fmt: skip
        shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in own + common)
        return f"{type(self).__name__}({shown})"


_COMMON_FIELDS = frozenset(field.name for field in fields(Optimizer))


#: What arguments are called elsewhere.
_CALLED_HERE = {
    "learning_rate": "lr", "learning_rate_init": "lr", "eps": "epsilon", "betas": "beta1 and beta2",
    "beta_1": "beta1", "beta_2": "beta2", "clipnorm": "clip_norm", "global_clipnorm": "clip_norm",
    "clipvalue": "clip_value", "decay": "weight_decay", "alpha": "rho", "use_nesterov": "nesterov",
    "nesterovs_momentum": "nesterov", "initial_accumulator_value": "initial_accumulator",
}  # fmt: skip


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def declaration(cls):
    """The class of an optimizer: a frozen dataclass whose errors say what to write instead."""
    made = dataclass(frozen=True, repr=False)(cls)
    made.__setattr__ = _refuse_change  # type: ignore[assignment]
    made.__init__ = _with_hints(made.__init__)
    return made


def _with_hints(init):
    """The constructor, which names the argument that one of another library is here."""

    @functools.wraps(init)
    def initialise(self, *arguments, **options):
        for name in options:
            here = _CALLED_HERE.get(name, "")
            mine = {own.name for own in fields(self)}
            if name not in mine and here.split(" and ")[0] in mine:
                what = here.replace(" and ", "=..., ")
                raise TypeError(f"{type(self).__name__} has no {name}: write {what}=...")
        init(self, *arguments, **options)

    return initialise


def _refuse_change(self, name: str, value) -> None:
    """Say how to train on with another hyperparameter."""
    name = _CALLED_HERE.get(name, name)
    try:
        hint = f"give the next fit {replace(self, **{name: value})!r}"
    except (TypeError, ValueError):
        hint = "give the next fit a new one"
    if name == "lr":
        hint += "; within a fit, schedule= and lr_factor of its training change the rate"
    raise FrozenInstanceError(f"{name} of an optimizer cannot be assigned to: {hint}")


def _checked_factors(given, what: str) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be a mapping such as {{'0': 0.1}}, not {given!r}")
    found = {}
    for name, factor in given.items():
        if isinstance(name, bool) or not isinstance(name, str | Integral):
            raise TypeError(f"{what} must name layers or parameters, such as '0', not {name!r}")
        found[str(name)] = real_number(factor, f"the factor of {str(name)!r} in {what}", least=0)
    return found
