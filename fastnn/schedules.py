"""Schedules: numbers that change from step to step, such as the rate of a dropout.

A step is one minibatch. Steps count from 0 over the whole training, so a resumed fit continues
where the last one ended.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from .checks import real_number, whole_number


class Schedule:
    """Base of the schedules."""

    def values(self, first_step: int, count: int) -> np.ndarray:
        """The values of the steps first_step, ..., first_step + count - 1.

        Returns
        -------
        ndarray of float64, shape (count,)
            Each depends on its step alone.
        """
        raise TypeError(f"{type(self).__name__} must define values")

    def config(self) -> dict:
        """The name and arguments, as written to files."""
        if _CLASSES.get(type(self).__name__) is not type(self):
            raise TypeError(
                f"{type(self).__name__} cannot be written to a file: use a schedule of "
                "fastnn.schedules, such as Linear"
            )
        return {"schedule": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Linear(Schedule):
    """From `start` to `end` in equal steps, and `end` from then on.

    Parameters
    ----------
    start, end : float
        The values of step 0 and of step `steps`.
    steps : int
        At least 1.

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

    start: float
    end: float
    steps: int

    def __post_init__(self):
        object.__setattr__(self, "start", real_number(self.start, "start"))
        object.__setattr__(self, "end", real_number(self.end, "end"))
        object.__setattr__(self, "steps", whole_number(self.steps, "steps"))

    def values(self, first_step, count):
        step = np.arange(first_step, first_step + count, dtype=np.float64)
        between = self.start + (self.end - self.start) * (step / self.steps)
        return np.where(step < self.steps, between, self.end)

    def __repr__(self):
        return f"Linear({self.start!r}, {self.end!r}, {self.steps})"


class Function(Schedule):
    """Any function of the number of the step; it cannot be written to a file.

    Parameters
    ----------
    function : callable
        ``function(step)`` returns a number.

    Examples
    --------
    >>> from fastnn.schedules import Function
    >>> Function(lambda step: 0.5**step).values(1, 3)
    array([0.5  , 0.25 , 0.125])
    """

    def __init__(self, function):
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"a schedule must be a function of the step, not {function!r}")
        self.function = function

    def values(self, first_step, count):
        steps = range(first_step, first_step + count)
        found = [self.function(step) for step in steps]
        for step, value in zip(steps, found, strict=True):
            try:
                real_number(value, f"the schedule {self.function!r} at step {step}")
            except TypeError as error:
                raise ValueError(str(error)) from None
        return np.array(found, np.float64)

    def config(self):
        raise TypeError(
            f"the function {self.function!r} cannot be written to a file: use a schedule of "
            "fastnn.schedules, such as Linear(0.5, 0.1, steps=1000)"
        )

    def __eq__(self, other):
        return type(other) is Function and other.function == self.function

    def __hash__(self):
        return hash(self.function)

    def __repr__(self):
        return repr(self.function)


_CLASSES: dict[str, type] = {"Linear": Linear}


def get(given) -> Schedule:
    """A schedule, or a function of the step as one.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if isinstance(given, type) and issubclass(given, Schedule):
        raise TypeError(f"a schedule is made with its arguments: write {given.__name__}(...)")
    return given if isinstance(given, Schedule) else Function(given)


def checked_values(schedule: Schedule, what: str, first: int, count: int, **limits) -> np.ndarray:
    """The values of a schedule, each within the limits of :func:`fastnn.checks.real_number`.

    Raises
    ------
    ValueError
        If one is not; the message names its step.
    """
    found = np.asarray(schedule.values(first, count), np.float64)
    least, below = limits.get("least", -np.inf), limits.get("below", np.inf)
    wrong = ~(np.isfinite(found) & (found >= least) & (found < below))
    if wrong.any():
        at = int(np.argmax(wrong))
        real_number(float(found[at]), f"{what}, from {schedule!r}, at step {first + at}", **limits)
    return found


def from_config(config: dict) -> Schedule:
    """The schedule for what :meth:`Schedule.config` returned.

    Raises
    ------
    KeyError, TypeError, ValueError
        If `config` describes no schedule.
    """
    arguments = dict(config)
    return _CLASSES[arguments.pop("schedule")](**arguments)
