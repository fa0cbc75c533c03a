"""Schedules made of others: warm-up, sequences, and schedules that count epochs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..checks import whole_number
from .base import (
    WRITABLE,
    Declared,
    Function,
    Schedule,
    Span,
    check_within,
    exact_values,
    writable,
)
from .decays import Values
from .plateau import ReduceOnPlateau


def follows(value) -> bool:
    """Whether a hyperparameter is given as a schedule, or as something that :func:`get` takes.

    Not as a tuple, which is more likely PyTorch's pair of betas.
    """
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Schedule | list) or callable(value)


def get(given) -> Schedule:
    """A schedule; a function of the step, or a list of values, as one.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.
    """
    if isinstance(given, type) and issubclass(given, Schedule):
        raise TypeError(f"a schedule is made with its arguments: write {given.__name__}(...)")
    if isinstance(given, Schedule):
        return given
    if isinstance(given, list | tuple | np.ndarray):
        return Values(given)  # type: ignore[arg-type]
    if not callable(given):
        raise TypeError(
            "a schedule must be one of fastnn.schedules, a function of the step, or a list of "
            f"values, not {given!r}"
        )
    return Function(given)


def of_hyperparameter(given, what: str) -> Schedule:
    """The schedule of a hyperparameter or of a layer's rate, from what :func:`get` takes.

    Raises
    ------
    TypeError, ValueError
        If it is none, or follows the values of epochs, which only fit's own schedule can.
    """
    schedule = get(given)
    if any(isinstance(leaf, ReduceOnPlateau) for leaf in schedule.leaves()):
        raise ValueError(
            f"{what} cannot follow {schedule!r}: a ReduceOnPlateau goes with fit(schedule=...), "
            "where it multiplies the learning rate"
        )
    return schedule


def from_config(config: dict) -> Schedule:
    """The schedule for what :meth:`Schedule.config` returned.

    Raises
    ------
    KeyError, TypeError, ValueError
        If `config` describes no schedule.
    """
    arguments = dict(config)
    return WRITABLE[arguments.pop("schedule")].from_arguments(arguments)


class Composition(Declared):
    """Base of the schedules that are made of others."""

    def _check_parts(self) -> None:
        """Refuse what no fit could follow."""
        if sum(isinstance(leaf, ReduceOnPlateau) for leaf in self.leaves()) > 1:
            raise ValueError("a schedule can have only one ReduceOnPlateau: leave the others out")

    def extremes(self):
        found: dict[str, float] = {}
        for leaf in self.leaves():
            for name, value in leaf.extremes().items():
                found[f"{name} of {leaf!r}"] = value
        return found


@writable
@dataclass(frozen=True, repr=False)
class Warmup(Composition):
    """A linear rise to the first value of another schedule, which begins after it.

    For k < steps the value of step k is v (f + (1 - f) k / steps), where v is the first value of
    `inner` and f is `start_factor`; then come the values of `inner` from its first one on. So does
    PyTorch's SequentialLR of a LinearLR and another scheduler.

    Parameters
    ----------
    inner : Schedule, callable or array_like
        If its length is that of the fit, it takes the steps that the warm-up leaves.
    steps : int
        Steps of the rise, at least 1.
    start_factor : float, optional
        At least 0; by default 1 / steps, so that the first step moves the weights too: one at the
        rate 0 would only fill the optimizer's averages.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn.schedules import Cosine, Warmup
    >>> Warmup(Cosine(0.4, steps=3), 4).values(0, 7).round(12)
    array([0.1  , 0.175, 0.25 , 0.325, 0.4  , 0.3  , 0.1  ])
    >>> Warmup(Cosine(0.4, steps=3), 4, start_factor=0).values(0, 4)
    array([0. , 0.1, 0.2, 0.3])
    """

    inner: Schedule
    steps: int
    start_factor: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "inner", get(self.inner))
        self._whole("steps")
        if self.start_factor is not None:
            self._numbers("start_factor", least=0)
        self._check_parts()

    @property
    def parts(self):
        return (self.inner,)

    @property
    def lasts_a_fit(self):
        return self.inner.lasts_a_fit

    @property
    def length(self):
        return None if self.inner.length is None else self.steps + self.inner.length

    def leaf_at(self, step):
        return self if step < self.steps else self.inner.leaf_at(step - self.steps)

    def resolved(self, span):
        return replace(self, inner=self.inner.resolved(span.part(self.steps, None)))

    def values(self, first_step, count):
        check_within(self, first_step + count)
        n_rising = min(max(self.steps - first_step, 0), count)
        found = np.empty(count)
        if n_rising:
            factor = 1 / self.steps if self.start_factor is None else self.start_factor
            step = np.arange(first_step, first_step + n_rising, dtype=np.float64)
            peak = exact_values(self.inner, 0, 1)[0]
            found[:n_rising] = peak * (factor + (1 - factor) * (step / self.steps))
        if n_rising < count:
            first = first_step + n_rising - self.steps
            found[n_rising:] = exact_values(self.inner, first, count - n_rising)
        return found

    def config(self):
        return {
            "schedule": "Warmup", "inner": self.inner.config(), "steps": self.steps,
            "start_factor": self.start_factor,
        }  # fmt: skip

    @classmethod
    def from_arguments(cls, arguments):
        return cls(**{**arguments, "inner": from_config(arguments["inner"])})


@writable
@dataclass(frozen=True, repr=False)
class Sequence(Composition):
    """Schedules one after another; each begins with its own step 0.

    Parameters
    ----------
    given : iterable of (schedule, steps)
        How many steps each takes. A schedule with ``steps=None`` takes those of its part. The last
        one may have None, which is all the steps that it has, or the rest of the fit.

    Raises
    ------
    ValueError, TypeError
        If a part is no such pair, or a schedule is shorter than its part.

    Examples
    --------
    >>> from fastnn.schedules import Cosine, Linear, Sequence
    >>> Sequence([(Linear(0.1, 0.4), 3), (Cosine(0.4, steps=3), None)]).values(0, 6).round(12)
    array([0.1, 0.2, 0.3, 0.4, 0.3, 0.1])
    """

    given: tuple[tuple[Schedule, int | None], ...]

    def __post_init__(self):
        if isinstance(self.given, str) or not isinstance(self.given, Iterable):
            raise TypeError(f"a Sequence takes pairs (schedule, steps), not {self.given!r}")
        pairs = list(self.given)
        if not pairs:
            raise ValueError("a Sequence needs at least one pair (schedule, steps)")
        found = []
        for index, pair in enumerate(pairs):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise TypeError(f"part {index} must be a pair (schedule, steps), not {pair!r}")
            schedule, steps = get(pair[0]), pair[1]
            if steps is None and index + 1 < len(pairs):
                raise ValueError(f"part {index} needs its steps: only the last one may have None")
            if steps is not None:
                steps = whole_number(steps, f"steps of part {index}")
                if schedule.length is not None and schedule.length < steps:
                    raise ValueError(
                        f"part {index}, {schedule!r}, has {schedule.length} steps where its part "
                        f"has {steps}: give both the same number"
                    )
            found.append((schedule, steps))
        object.__setattr__(self, "given", tuple(found))
        self._check_parts()

    @property
    def parts(self):
        return tuple(schedule for schedule, _ in self.given)

    @property
    def lasts_a_fit(self):
        schedule, steps = self.given[-1]
        return steps is None and schedule.lasts_a_fit

    @property
    def length(self):
        before = sum(steps or 0 for _, steps in self.given[:-1])
        schedule, steps = self.given[-1]
        last = schedule.length if steps is None else steps
        return None if last is None else before + last

    def _with_begins(self):
        """(schedule, step at which its part begins, steps of the part or None) of each part."""
        begin = 0
        for schedule, steps in self.given:
            yield schedule, begin, steps
            begin += steps or 0

    def leaf_at(self, step):
        *_, (schedule, begin) = [(s, b) for s, b, _ in self._with_begins() if b <= step]
        return schedule.leaf_at(step - begin)

    def resolved(self, span):
        found = [(s.resolved(span.part(b, n)), n) for s, b, n in self._with_begins()]
        return replace(self, given=tuple(found))

    def values(self, first_step, count):
        check_within(self, first_step + count)
        found = np.empty(count)
        for schedule, begin, steps in self._with_begins():
            if steps is not None and schedule.lasts_a_fit and not has_epochs(schedule):
                schedule = schedule.resolved(Span(0, steps))
            low = max(first_step, begin)
            high = first_step + count
            high = high if steps is None else min(high, begin + steps)
            if low < high:
                found[low - first_step : high - first_step] = exact_values(
                    schedule, low - begin, high - low
                )
        return found

    def config(self):
        parts = [{"of": schedule.config(), "steps": steps} for schedule, steps in self.given]
        return {"schedule": "Sequence", "parts": parts}

    @classmethod
    def from_arguments(cls, arguments):
        (pairs,) = arguments.values()
        return cls(tuple((from_config(pair["of"]), pair["steps"]) for pair in pairs))

    def __repr__(self):
        return f"Sequence({list(self.given)!r})"


@writable
@dataclass(frozen=True, repr=False)
class PerEpoch(Composition):
    """A schedule that counts epochs: its step k is the number of the epoch, held throughout it.

    Every number of steps in `inner` is then a number of epochs. Behind a warm-up or in a
    :class:`Sequence`, the epoch in which it begins is its epoch 0. What an epoch is follows from
    the fit; values without one are refused.

    Parameters
    ----------
    inner : Schedule, callable or array_like
        Its length may be that of the fit.

    Raises
    ------
    ValueError, TypeError
        If `inner` is no schedule, or contains a PerEpoch itself.

    Examples
    --------
    >>> from fastnn import SGD, Dense, Sequential
    >>> from fastnn.schedules import PerEpoch, StepDecay
    >>> decay = PerEpoch(StepDecay(factor=0.5, every=2))
    >>> history = Sequential([Dense(1)]).fit([[0.0], [1.0]], [0.0, 1.0], optimizer=SGD(0.1),
    ...     epochs=5, batch_size=1, schedule=decay, progress=False)
    >>> history["lr"]
    [0.1, 0.1, 0.05, 0.05, 0.025]
    """

    inner: Schedule

    def __post_init__(self):
        object.__setattr__(self, "inner", get(self.inner))
        if has_epochs(self.inner):
            raise ValueError(f"{self.inner!r} counts epochs already: leave one PerEpoch out")
        self._check_parts()

    @property
    def parts(self):
        return (self.inner,)

    @property
    def lasts_a_fit(self):
        return self.inner.lasts_a_fit

    def resolved(self, span):
        first = int(span.epoch_of(span.offset))
        last = int(span.epoch_of(max(span.end - 1, span.offset)))
        inner = self.inner.resolved(Span(0, last - first + 1, plateau=span.plateau))
        return _InEpochs(inner, span, first)

    def leaf_at(self, step):
        raise self._without_fit()

    def values(self, first_step, count):
        raise self._without_fit()

    def _without_fit(self) -> ValueError:
        return ValueError(f"{self!r} counts epochs, so it has values only in a fit")

    def config(self):
        return {"schedule": "PerEpoch", "inner": self.inner.config()}

    @classmethod
    def from_arguments(cls, arguments):
        return cls(**{**arguments, "inner": from_config(arguments["inner"])})


@dataclass(frozen=True, repr=False)
class _InEpochs(Composition):
    """A PerEpoch in the fit of a span; it begins in the epoch `begin`."""

    inner: Schedule
    span: Span
    begin: int

    @property
    def parts(self):
        return (self.inner,)

    @property
    def length(self):
        if self.inner.length is None:
            return None
        return self.span.first_step_of(self.begin + self.inner.length) - self.span.offset

    def _epochs(self, steps: np.ndarray) -> np.ndarray:
        return self.span.epoch_of(self.span.offset + steps) - self.begin

    def leaf_at(self, step):
        return self.inner.leaf_at(int(self._epochs(np.asarray(step))))

    def values(self, first_step, count):
        if not count:
            return np.empty(0)
        check_within(self, first_step + count)
        epochs = self._epochs(np.arange(first_step, first_step + count))
        low, high = int(epochs[0]), int(epochs[-1])
        return exact_values(self.inner, low, high - low + 1)[epochs - low]

    def __repr__(self):
        return f"PerEpoch({self.inner!r})"


def has_epochs(schedule: Schedule) -> bool:
    """Whether a schedule, or a part of it, counts epochs."""
    return isinstance(schedule, PerEpoch) or any(map(has_epochs, schedule.parts))
