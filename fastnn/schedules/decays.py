"""Schedules that go one way: decays, and values given by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .arithmetic import power
from .base import Formula, writable


@writable
@dataclass(frozen=True, repr=False)
class Linear(Formula):
    """From `start` to `end` in equal steps, and `end` from then on.

    The value of step k is start + (end - start) k / steps.

    Parameters
    ----------
    start, end : float, default 1 and 0
        The values of step 0 and of step `steps`.
    steps : int, optional
        At least 1; None is the length of the fit.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import Linear
    >>> Linear(0.5, 0.1, 4).values(0, 6)
    array([0.5, 0.4, 0.3, 0.2, 0.1, 0.1])
    """

    start: float = 1.0
    end: float = 0.0
    steps: int | None = None

    def __post_init__(self):
        self._numbers("start", "end")
        if self.steps is not None:
            self._whole("steps")

    def _at(self, step):
        between = self.start + (self.end - self.start) * (step / self.steps)
        return np.where(step < self.steps, between, self.end)


@writable
@dataclass(frozen=True, repr=False)
class Polynomial(Formula):
    """From `start` to `end` along a power of the remaining time, and `end` from then on.

    The value of step k is end + (start - end) (1 - k / steps)^power, as in PyTorch's PolynomialLR
    and Keras's PolynomialDecay.

    Parameters
    ----------
    start, end : float, default 1 and 0
        The values of step 0 and of step `steps`.
    steps : int, optional
        At least 1; None is the length of the fit.
    power : float, default 1
        Above 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import Polynomial
    >>> Polynomial(0.8, steps=4, power=2).values(0, 6)
    array([0.8 , 0.45, 0.2 , 0.05, 0.  , 0.  ])
    """

    start: float = 1.0
    end: float = 0.0
    steps: int | None = None
    power: float = 1.0

    def __post_init__(self):
        self._numbers("start", "end")
        self._numbers("power", positive=True)
        if self.steps is not None:
            self._whole("steps")

    def _at(self, step):
        left = 1 - np.minimum(step / self.steps, 1)
        if self.power != 1:
            left = power(left, self.power)
        return np.where(step < self.steps, self.end + (self.start - self.end) * left, self.end)


@writable
@dataclass(frozen=True, repr=False)
class TimeDecay(Formula):
    """Inverse time decay, or one that divides again and again; it has no end.

    The value of step k is start / (1 + decay k). With `compound` each value is the one before
    divided by 1 + decay, so it is start / (1 + decay)^k. For a decay per epoch:
    ``PerEpoch(TimeDecay(decay=0.1))``.

    Parameters
    ----------
    start : float, default 1
        The value of step 0.
    decay : float
        At least 0.
    compound : bool, default False

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import TimeDecay
    >>> TimeDecay(0.6, decay=1).values(0, 4)
    array([0.6 , 0.3 , 0.2 , 0.15])
    >>> TimeDecay(0.6, decay=1, compound=True).values(0, 4)
    array([0.6  , 0.3  , 0.15 , 0.075])
    """

    start: float = 1.0
    decay: float = field(kw_only=True)
    compound: bool = field(default=False, kw_only=True)

    def __post_init__(self):
        self._numbers("start")
        self._numbers("decay", least=0)
        self._flag("compound")

    def _at(self, step):
        if self.compound:
            return self.start * power(1 + self.decay, -step)
        return self.start / (1 + self.decay * step)


@writable
@dataclass(frozen=True, repr=False)
class StepDecay(Formula):
    """A constant that is multiplied by a factor every so many steps; it has no end.

    The value of step k is start factor^floor(k / every), as of PyTorch's StepLR. For a decay every
    10 epochs: ``PerEpoch(StepDecay(factor=0.5, every=10))``.

    Parameters
    ----------
    start : float, default 1
        The value of step 0.
    factor : float
        Above 0.
    every : int
        Steps between two changes, at least 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import StepDecay
    >>> StepDecay(0.8, factor=0.5, every=2).values(0, 5)
    array([0.8, 0.8, 0.4, 0.4, 0.2])
    """

    start: float = 1.0
    factor: float = field(kw_only=True)
    every: int = field(kw_only=True)

    def __post_init__(self):
        self._numbers("start")
        self._numbers("factor", positive=True)
        self._whole("every")

    def _at(self, step):
        return self.start * power(self.factor, np.floor(step / self.every))


@writable
@dataclass(frozen=True, repr=False)
class Exponential(Formula):
    """A constant factor at every step: start rate^k; it has no end.

    PyTorch's ExponentialLR is ``PerEpoch(Exponential(rate=gamma))``, where its scheduler steps
    once per epoch.

    Parameters
    ----------
    start : float, default 1
        The value of step 0.
    rate : float
        Above 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import Exponential
    >>> Exponential(0.8, rate=0.5).values(1, 3)
    array([0.4, 0.2, 0.1])
    """

    start: float = 1.0
    rate: float = field(kw_only=True)

    def __post_init__(self):
        self._numbers("start")
        self._numbers("rate", positive=True)

    def _at(self, step):
        return self.start * power(self.rate, step)


@writable
@dataclass(frozen=True, repr=False)
class Values(Formula):
    """Values given one by one; there are no others.

    A list, tuple or array given in place of a schedule becomes one. For a value per epoch:
    ``PerEpoch(Values([...]))``.

    Parameters
    ----------
    numbers : array_like, shape (n,)
        The value of each step.

    Raises
    ------
    ValueError, TypeError
        If there are none, or they are not finite numbers.

    Examples
    --------
    >>> from fastnn.schedules import Values
    >>> Values([0.1, 0.2, 0.05]).values(1, 2)
    array([0.2 , 0.05])
    """

    numbers: tuple[float, ...]

    def __post_init__(self):
        try:
            given = np.asarray(self.numbers)
        except ValueError:  # rows of unequal lengths
            given = np.empty((0, 0))
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iuf"):
            raise TypeError(f"the values of a schedule must be a list of numbers, not {given!r}")
        if not given.size:
            raise ValueError("the values of a schedule are none: give one for each step")
        given = given.astype(np.float64)
        if not np.isfinite(given).all():
            at = int(np.argmin(np.isfinite(given)))
            raise ValueError(f"the value of step {at} must be finite, not {given[at]}")
        object.__setattr__(self, "numbers", tuple(given.tolist()))

    def _at(self, step):
        return np.array(self.numbers)[step.astype(np.int64)]

    @property
    def length(self):
        return len(self.numbers)

    def extremes(self):
        return {"least value": min(self.numbers), "largest value": max(self.numbers)}

    def config(self):
        return {"schedule": "Values", "numbers": list(self.numbers)}

    def __repr__(self):
        if len(self.numbers) <= 8:
            return f"Values({list(self.numbers)})"
        first = ", ".join(map(repr, self.numbers[:3]))
        return f"<Values [{first}, ...] of {len(self.numbers)} steps>"
