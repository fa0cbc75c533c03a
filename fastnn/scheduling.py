"""What follows a schedule in a fit: the learning rate, other hyperparameters, rates of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .optimizer import Optimizer
from .schedules import ReduceOnPlateau, Schedule, checked_values
from .schedules.base import Span
from .schedules.compositions import has_epochs
from .schedules.plateau import Plateau

if TYPE_CHECKING:
    from .training_state import TrainingState

#: Steps of a fit that ends after some time.
ENDLESS = 1 << 60

#: Steps whose hyperparameters are checked at once.
_CHECKED = 1 << 12


@dataclass(frozen=True)
class Progress:
    """How far the schedule that was given to fit has got.

    Attributes
    ----------
    schedule : Schedule
    step, epoch : int
        The numbers of completed steps and epochs of the training at which it began.
    plateau : Plateau, optional
        What a :class:`ReduceOnPlateau` in it has seen.
    """

    schedule: Schedule
    step: int
    epoch: int
    plateau: Plateau | None = None


class Scheduled:
    """The schedules of one fit, resolved: each knows how many steps and epochs there are.

    Parameters
    ----------
    state : TrainingState
        As it is before the fit; it is not changed.
    operations : sequence
        The schedules of the plan.
    schedule : Schedule or None
        What multiplies the learning rate.
    batches : int
        Steps of an epoch; 0 if their number is not known.
    n_steps : int or None
        Steps of the fit, if their number is known.
    metrics : mapping of str to {"min", "max"}, optional
        The names of the values of an epoch, and in which direction they get better.

    Attributes
    ----------
    optimizer : Optimizer
        With resolved schedules.
    operations : tuple
        The resolved schedules of the plan.
    progress : Progress or None
        How far `schedule` has got.
    directions : dict of str to {"min", "max"}
        The names of the values of an epoch, and in which direction they get better.

    Raises
    ------
    ValueError
        If a schedule is shorter than the training or needs a number of steps that is not known, or
        a metric is unknown.
    """

    def __init__(
        self, state: TrainingState, operations: Sequence[Any], schedule: Schedule | None,
        batches: int, n_steps: int | None, metrics=None,
    ):  # fmt: skip
        n_steps = ENDLESS if n_steps is None else n_steps
        done = state.epoch - state.optimizer_epoch
        first = state.step - state.schedule_step
        span = Span(first, first + n_steps, batches, done)
        self.optimizer = _resolved_optimizer(state.optimizer, span, state.schedule_step)
        total = state.total_steps
        span = Span(total, total + n_steps, batches, state.epoch)
        self.operations = tuple(
            rates.with_schedule(resolve(rates.schedule, f"the rate of layer {rates.layer}", span))
            for rates in operations
        )
        self.progress: Progress | None = None
        self.directions = dict(metrics or {})
        if schedule is not None:
            self._begin(schedule, state, n_steps, batches, metrics)
        # The values of lr are checked in any case.
        self._checks = any(
            name != "lr" and follows_schedule(value) for name, value in vars(self.optimizer).items()
        )

    def _begin(self, schedule: Schedule, state: TrainingState, n_steps, batches, metrics) -> None:
        last = state.progress
        continues = last is not None and last.schedule == schedule and not schedule.lasts_a_fit
        for leaf in schedule.leaves():
            if isinstance(leaf, ReduceOnPlateau) and metrics is not None:
                leaf.check_metric(metrics)
        if not continues or last is None:
            last = Progress(schedule, state.total_steps, state.epoch)
        self.progress = last
        first = state.total_steps - last.step
        self._span = Span(first, first + n_steps, batches, state.epoch - last.epoch, 0)
        self._follow_plateau()

    def resume(self, plateau: Plateau | None) -> None:
        """Go on with what a :class:`ReduceOnPlateau` has seen."""
        if self.progress is not None:
            self.progress = replace(self.progress, plateau=plateau)
            self._follow_plateau()

    def _follow_plateau(self) -> None:
        assert self.progress is not None
        span = replace(self._span, plateau=self.progress.plateau)
        self._factors = resolve(self.progress.schedule, "the schedule", span)

    def _rates(self, state: TrainingState, count: int) -> np.ndarray:
        rates = self.optimizer.rates(state.step, count)
        if self.progress is None:
            return rates
        first = state.total_steps - self.progress.step
        factors = checked_values(self._factors, "the schedule of fit", first, count, least=0)
        with np.errstate(over="ignore"):
            rates = rates * factors
        if not np.isfinite(rates).all():
            at = int(np.argmin(np.isfinite(rates)))
            raise ValueError(
                f"the learning rate at step {first + at} is infinite: it is that of the optimizer "
                f"times {factors[at]:g}, from {self.progress.schedule!r}"
            )
        return rates

    def begin_epoch(self, state: TrainingState, count: int) -> np.ndarray:
        """The learning rates of an epoch's steps; all other hyperparameters of it are checked.

        Raises
        ------
        ValueError
            If a schedule gives a number that is out of range; the message names its step.
        """
        rates = self._rates(state, count)
        for first in range(0, count, _CHECKED) if self._checks else ():
            self.optimizer.hyper(state.step + 1 + first, rates[first : first + _CHECKED])
        return rates

    def end_epoch(self, state: TrainingState, values: dict[str, float]) -> None:
        """Let a :class:`ReduceOnPlateau` see the values of an epoch, which has been counted.

        Raises
        ------
        ValueError
            If its metric is not among them.
        """
        if self.progress is None:
            return
        leaf = self._factors.leaf_at(state.total_steps - self.progress.step - 1)
        if isinstance(leaf, ReduceOnPlateau):
            plateau = leaf.observe(
                self.progress.plateau, values, self.directions.get(leaf.metric, "min")
            )
            self.progress = replace(self.progress, plateau=plateau)
            state.progress = self.progress
            self._follow_plateau()


@dataclass(frozen=True)
class _Later(Schedule):
    """A schedule whose step 0 is a later one, since it began with a later fit."""

    schedule: Schedule
    begin: int

    def values(self, first_step, count):
        return self.schedule.values(first_step - self.begin, count)

    @property
    def length(self):
        length = self.schedule.length
        return None if length is None else self.begin + length

    def leaf_at(self, step):
        return self.schedule.leaf_at(step - self.begin)

    def __repr__(self):
        return repr(self.schedule)


def resolve(schedule: Schedule, what: str, span: Span) -> Schedule:
    """A schedule in the fit of a span; one that lasts a fit begins with it.

    Raises
    ------
    ValueError
        If it is shorter than the training.
    """
    if span.end - span.first >= ENDLESS and (schedule.lasts_a_fit or schedule.length is not None):
        raise ValueError(
            f"{what}, {schedule!r}, needs a number of steps, which this fit does not know: give "
            "steps or epochs (with an iterable of batches that has no length, steps), or a "
            "schedule without an end"
        )
    if not span.batches and has_epochs(schedule):
        raise ValueError(
            f"{what}, {schedule!r}, counts epochs, but how many batches an epoch has is not known: "
            "give batches with a length, such as a list, or a schedule that counts steps"
        )
    if schedule.lasts_a_fit:
        begun = replace(span, first=0, end=span.end - span.first, epochs=0)
        found: Schedule = _Later(schedule.resolved(begun), span.first)
    else:
        found = schedule.resolved(span)
    length = found.length
    if length is not None and length < span.end:
        before = f", {span.first} of them before this fit" if span.first else ""
        raise ValueError(
            f"{what}, {schedule!r}, has {length} steps, but the training takes {span.end}{before}: "
            "give it as many steps, steps=None for those of each fit, or train for fewer epochs"
            f"{_about_epochs(schedule, span)}"
        )
    return found


def _about_epochs(schedule: Schedule, span: Span) -> str:
    """What else may be meant, for a schedule that is too short."""
    if has_epochs(schedule):
        return f". An epoch has {span.batches} steps"
    enough = schedule.length is not None and schedule.length * span.batches >= span.end
    if enough and not schedule.parts:
        return "; if its steps are epochs, put it in PerEpoch(...)"
    return ""


def follows_schedule(value) -> bool:
    """Whether a hyperparameter is a schedule, or an optimizer with one."""
    if isinstance(value, Optimizer):
        return any(map(follows_schedule, vars(value).values()))
    return isinstance(value, Schedule)


def _resolved_optimizer(optimizer: Optimizer, span: Span, begin: int) -> Optimizer:
    """The optimizer with resolved schedules, whose step 0 is its own step `begin`.

    It is the same one if it has none.
    """
    found: dict[str, Any] = {}
    for name, value in vars(optimizer).items():
        if isinstance(value, Schedule):
            resolved = resolve(value, name, span)
            found[name] = _Later(resolved, begin) if begin else resolved
        elif isinstance(value, Optimizer):
            inner = _resolved_optimizer(value, span, begin)
            if inner is not value:
                found[name] = inner
    return replace(optimizer, **found) if found else optimizer
