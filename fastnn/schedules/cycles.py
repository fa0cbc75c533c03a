"""Schedules of cosines and cycles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..checks import real_number
from ..names import unknown
from .arithmetic import cos_pi, log2, power
from .base import Formula, writable


def _half_cosine(t: np.ndarray) -> np.ndarray:
    """From 1 at t = 0 to 0 at t = 1."""
    return (1 + cos_pi(t)) / 2


@writable
@dataclass(frozen=True, repr=False)
class Cosine(Formula):
    """From `start` towards `end` along half a cosine.

    The value of step k is end + (start - end) (1 + cos(pi k / steps)) / 2, as of PyTorch's
    CosineAnnealingLR up to T_max - 1 (I. Loshchilov and F. Hutter, SGDR, ICLR 2017, formula 5).
    Steps from `steps` on have no value.

    Parameters
    ----------
    start, end : float, default 1 and 0
        The values of step 0, and of step `steps` if it had one.
    steps : int, optional
        At least 1; None is the length of the fit.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import Cosine
    >>> Cosine(0.4, steps=3).values(0, 3).round(12)
    array([0.4, 0.3, 0.1])
    """

    start: float = 1.0
    end: float = 0.0
    steps: int | None = None

    ends = True

    def __post_init__(self):
        self._numbers("start", "end")
        if self.steps is not None:
            self._whole("steps")

    def _at(self, step):
        return self.end + (self.start - self.end) * _half_cosine(step / self.steps)


@writable
@dataclass(frozen=True, repr=False)
class FlatCosine(Formula):
    """`start` for a share of the steps, then half a cosine towards `end`.

    Steps from `steps` on have no value.

    Parameters
    ----------
    start, end : float, default 1 and 0
        The values of step 0, and of step `steps` if it had one.
    steps : int, optional
        At least 1; None is the length of the fit.
    flat : float, default 0.7
        The share of the steps that have the value `start`, at least 0 and below 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import FlatCosine
    >>> FlatCosine(0.4, steps=6, flat=0.5).values(0, 6).round(12)
    array([0.4, 0.4, 0.4, 0.4, 0.3, 0.1])
    """

    start: float = 1.0
    end: float = 0.0
    steps: int | None = None
    flat: float = 0.7

    ends = True

    def __post_init__(self):
        self._numbers("start", "end")
        self._numbers("flat", least=0, below=1)
        if self.steps is not None:
            self._whole("steps")

    def _at(self, step):
        t = np.maximum(step / self.steps - self.flat, 0) / (1 - self.flat)
        return self.end + (self.start - self.end) * _half_cosine(t)


@writable
@dataclass(frozen=True, repr=False)
class CosLog4(Formula):
    """Four waves between 0 and `peak`, each twice as long as the one before.

    The value of step k is peak (1 - cos(2 pi log2(1 + 15 t))) / 2 with t = k / steps: 0 at t = 0,
    1/15, 3/15, 7/15 and 1, at the top between (D. Holzmüller et al., Better by default,
    NeurIPS 2024, section 3, there coslog4). Steps from `steps` on have no value.

    Parameters
    ----------
    peak : float, default 1
        The largest value.
    steps : int, optional
        At least 1; None is the length of the fit.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import CosLog4
    >>> CosLog4(steps=15).values(0, 8).round(3)
    array([0.   , 0.   , 0.93 , 0.   , 0.718, 0.93 , 0.324, 0.   ])
    """

    peak: float = 1.0
    steps: int | None = None

    ends = True

    def __post_init__(self):
        self._numbers("peak")
        if self.steps is not None:
            self._whole("steps")

    def _at(self, step):
        return self.peak * (1 - cos_pi(2 * log2(1 + 15 * (step / self.steps)))) / 2


@writable
@dataclass(frozen=True, repr=False)
class WarmRestarts(Formula):
    """Half cosines from `start` towards `end`, one after another; they have no end.

    In a cycle of T steps the value of step k is end + (start - end) (1 + cos(pi k / T)) / 2; T is
    T_0, then T_0 T_mult, T_0 T_mult^2, ..., as of PyTorch's CosineAnnealingWarmRestarts
    (I. Loshchilov and F. Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017).

    Parameters
    ----------
    start, end : float, default 1 and 0
        The value at the beginning of each cycle, and the one that it tends to.
    T_0 : int
        Steps of the first cycle, at least 1.
    T_mult : int, default 1
        How many times as long each cycle is as the one before, at least 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import WarmRestarts
    >>> WarmRestarts(0.4, T_0=2, T_mult=2).values(0, 8).round(3)
    array([0.4  , 0.2  , 0.4  , 0.341, 0.2  , 0.059, 0.4  , 0.385])
    """

    start: float = 1.0
    end: float = 0.0
    T_0: int = field(kw_only=True)
    T_mult: int = field(default=1, kw_only=True)

    def __post_init__(self):
        self._numbers("start", "end")
        self._whole("T_0", "T_mult")

    def _at(self, step):
        if self.T_mult == 1:
            t = np.mod(step, self.T_0) / self.T_0
            return self.end + (self.start - self.end) * _half_cosine(t)
        begins = [0]
        lengths = [self.T_0]
        while step.size and begins[-1] + lengths[-1] <= step[-1]:
            begins.append(begins[-1] + lengths[-1])
            lengths.append(lengths[-1] * self.T_mult)
        cycle = np.searchsorted(np.array(begins, np.float64), step, side="right") - 1
        t = (step - np.array(begins, np.float64)[cycle]) / np.array(lengths, np.float64)[cycle]
        return self.end + (self.start - self.end) * _half_cosine(t)


_MODES = ("triangular", "triangular2", "exp_range")


@writable
@dataclass(frozen=True, repr=False)
class Cyclic(Formula):
    """Triangles between `start` and `peak`, one after another; they have no end.

    As PyTorch's CyclicLR (L. N. Smith, Cyclical learning rates for training neural networks, 2015).
    The momentum that goes with it has a peak below its start, such as
    ``Cyclic(0.95, peak=0.85, up=1000)``.

    Parameters
    ----------
    start : float, default 1
        The value at the beginning of each triangle.
    peak : float
        The value in its middle.
    up : int
        Steps from `start` to `peak`, at least 1.
    down : int, optional
        Steps from `peak` to `start`, at least 1; by default as many as `up`.
    mode : {"triangular", "triangular2", "exp_range"}
        "triangular2" halves peak - start after every triangle, "exp_range" multiplies it by
        gamma^k at step k.
    gamma : float, default 1
        Above 0 and at most 1; for "exp_range".

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import Cyclic
    >>> Cyclic(0.1, peak=0.3, up=2).values(0, 6)
    array([0.1, 0.2, 0.3, 0.2, 0.1, 0.2])
    >>> Cyclic(0.1, peak=0.3, up=2, mode="triangular2").values(4, 4)
    array([0.1 , 0.15, 0.2 , 0.15])
    """

    start: float = 1.0
    peak: float = field(kw_only=True)
    up: int = field(kw_only=True)
    down: int | None = field(default=None, kw_only=True)
    mode: str = field(default="triangular", kw_only=True)
    gamma: float = field(default=1.0, kw_only=True)

    def __post_init__(self):
        self._numbers("start", "peak")
        self._whole("up")
        if self.down is not None:
            self._whole("down")
        if self.mode not in _MODES:
            raise unknown("mode of a Cyclic", self.mode, _MODES)
        self._numbers("gamma", positive=True)
        if self.gamma > 1 or (self.gamma != 1 and self.mode != "exp_range"):
            raise ValueError(
                f"gamma must be at most 1, and goes with mode='exp_range', not {self.gamma} with "
                f"mode={self.mode!r}"
            )

    def _at(self, step):
        down = self.up if self.down is None else self.down
        inside = np.mod(step, self.up + down)
        rises = inside <= self.up
        height = np.where(rises, inside / self.up, 1 - (inside - self.up) / down)
        if self.mode == "triangular2":
            height = height * power(0.5, np.floor(step / (self.up + down)))
        elif self.mode == "exp_range":
            height = height * power(self.gamma, step)
        return self.start + (self.peak - self.start) * height


_STRATEGIES = ("cosine", "linear")


@writable
@dataclass(frozen=True, repr=False)
class OneCycle(Formula):
    """Up to a peak, then down far below the start.

    From peak / div to peak in the first share `pct_start` of the steps, then to
    peak / (div final_div) at the last one, as of PyTorch's OneCycleLR (L. N. Smith and N. Topin,
    Super-convergence, 2017). Steps from `steps` on have no value. :meth:`momentum` is the momentum
    that goes with it.

    Parameters
    ----------
    peak : float, default 1
        The largest value.
    steps : int, optional
        At least 1; None is the length of the fit.
    pct_start : float, default 0.3
        The share of the steps that rise, at least 0 and at most 1.
    div : float, default 25
        How many times the first value goes into the peak, above 0.
    final_div : float, default 1e4
        How many times the last value goes into the first, above 0.
    strategy : {"cosine", "linear"}
        The form of both parts.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn import SGD
    >>> from fastnn.schedules import OneCycle
    >>> cycle = OneCycle(0.5, steps=10)
    >>> cycle.values(0, 10).round(3)
    array([0.02 , 0.26 , 0.5  , 0.475, 0.406, 0.306, 0.194, 0.094, 0.025,
           0.   ])
    >>> cycle.momentum().values(0, 4).round(3)
    array([0.95 , 0.9  , 0.85 , 0.855])
    >>> optimizer = SGD(cycle, momentum=cycle.momentum())
    """

    peak: float = 1.0
    steps: int | None = None
    pct_start: float = 0.3
    div: float = 25.0
    final_div: float = 1e4
    strategy: str = "cosine"

    ends = True

    def __post_init__(self):
        self._numbers("peak")
        if self.steps is not None:
            self._whole("steps")
        self._numbers("pct_start", least=0)
        if self.pct_start > 1:
            raise ValueError(f"pct_start is a share, at most 1, not {self.pct_start}")
        self._numbers("div", "final_div", positive=True)
        if self.strategy not in _STRATEGIES:
            raise unknown("strategy of a OneCycle", self.strategy, _STRATEGIES)

    def momentum(self, start: float = 0.95, low: float = 0.85) -> OneCycle:
        """The momentum that goes with this cycle: down from `start` as it rises, then back.

        Parameters
        ----------
        start, low : float
            Above 0.

        Raises
        ------
        ValueError, TypeError
            If a number is not above 0.
        """
        start = real_number(start, "start", positive=True)
        low = real_number(low, "low", positive=True)
        return replace(self, peak=low, div=low / start, final_div=1.0)

    def _at(self, step):
        first = self.peak / self.div
        last = self.length - 1
        top = self.pct_start * self.length - 1
        rising = step / top if top > 0 else np.ones_like(step)
        falling = (step - top) / (last - top) if last > top else np.ones_like(step)
        up = self._between(first, self.peak, np.minimum(rising, 1))
        down = self._between(self.peak, first / self.final_div, np.clip(falling, 0, 1))
        return np.where(step <= top, up, down)

    def _between(self, start: float, end: float, t: np.ndarray) -> np.ndarray:
        left = _half_cosine(t) if self.strategy == "cosine" else 1 - t
        return end + (start - end) * left
