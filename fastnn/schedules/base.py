"""The base of the schedules: numbers that change from step to step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from ..checks import real_number, true_or_false, whole_number
from ..described import Public

if TYPE_CHECKING:
    from .plateau import Plateau

#: The last step that a schedule may be asked for; float64 holds all up to it.
_LAST_STEP = 2**53


@dataclass(frozen=True)
class Span:
    """The steps of a schedule that one fit takes.

    All numbers count from the step at which the outermost schedule began.

    Attributes
    ----------
    first, end : int
        The fit takes the steps first, ..., end - 1.
    batches : int
        Steps of an epoch of the fit.
    epochs : int
        Epochs completed before the fit.
    offset : int
        The step at which the part of a composition begins that looks at this span.
    plateau : Plateau, optional
        How far a :class:`ReduceOnPlateau` has got.
    """

    first: int
    end: int
    batches: int = 1
    epochs: int = 0
    offset: int = 0
    plateau: Plateau | None = None

    @property
    def steps(self) -> int:
        """Steps from the beginning of the part to the end of the fit, or of the part."""
        return self.end - self.offset

    def part(self, begin: int, steps: int | None) -> Span:
        """The span of a part that begins `begin` steps later and takes `steps`, or the rest."""
        offset = self.offset + begin
        return replace(self, offset=offset, end=self.end if steps is None else offset + steps)

    def epoch_of(self, step):
        """The number of the epoch in which a step lies, for a number or an array of them."""
        step = np.asarray(step)
        inside = self.epochs + (step - self.first) // self.batches
        before = step * self.epochs // max(self.first, 1)  # if its epochs were equally long
        return np.where(step >= self.first, inside, before)

    def first_step_of(self, epoch: int) -> int:
        """The first step of an epoch that is not before this fit's."""
        return self.first + (epoch - self.epochs) * self.batches


_MACHINERY = (
    "check_metric", "config", "ends", "extremes", "from_arguments", "lasts_a_fit", "leaf_at",
    "leaves", "observe", "parts", "resolved",
)  # fmt: skip


class Schedule(metaclass=Public, hides=_MACHINERY):
    """Base of the schedules.

    One of your own defines :meth:`values`; it cannot be written to a file.
    """

    def values(self, first_step: int, count: int) -> np.ndarray:
        """The values of the steps first_step, ..., first_step + count - 1, counted from 0.

        Returns
        -------
        ndarray of float64, shape (count,)
            Each depends on its step alone.
        """
        raise TypeError(f"{type(self).__name__} must define values")

    @property
    def length(self) -> int | None:
        """How many steps have a value; None if all have, or the length is that of a fit."""
        return None

    @property
    def lasts_a_fit(self) -> bool:
        """Whether its length is that of the fit that uses it, as ``steps=None`` says."""
        return False

    @property
    def parts(self) -> tuple[Schedule, ...]:
        """The schedules that this one is made of."""
        return ()

    def leaves(self) -> Iterator[Schedule]:
        """The schedules that it is made of, down to those that have no parts."""
        for part in self.parts:
            yield from part.leaves()
        if not self.parts:
            yield self

    def leaf_at(self, step: int) -> Schedule:
        """The one of :meth:`leaves` that a step follows."""
        return self

    def resolved(self, span: Span) -> Schedule:
        """This schedule with every length and epoch as a number of steps of a fit."""
        return self

    def extremes(self) -> dict[str, float]:
        """Arguments between which all values lie, or between which and 0; {} if none are known."""
        return {}

    def plot(self, path=None, steps: int | None = None):
        """Plot the values over the steps (extra ``plot``).

        Parameters
        ----------
        path : str or path, optional
            File to write; its extension selects the format.
        steps : int, optional
            How many; by default the schedule's own length, or 1000. A :class:`PerEpoch` is shown
            over epochs.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from ..plots import schedule_curve

        return schedule_curve(self, path, steps)

    def config(self) -> dict:
        """The name and arguments, as written to files."""
        if WRITABLE.get(type(self).__name__) is not type(self):
            raise TypeError(
                f"{type(self).__name__} cannot be written to a file: use a schedule of "
                "fastnn.schedules, such as Linear"
            )
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {"schedule": type(self).__name__, **arguments}

    @classmethod
    def from_arguments(cls, arguments: dict) -> Self:
        """The schedule for the arguments that :meth:`config` returned beside its name."""
        return cls(**arguments)


#: The classes that can be written to files, by name.
WRITABLE: dict[str, type[Schedule]] = {}


def writable(cls):
    """Enter a class of schedules into those that can be written to files."""
    WRITABLE[cls.__name__] = cls
    return cls


@dataclass(frozen=True, repr=False)
class Declared(Schedule):
    """Base of the schedules that are declared by their arguments; these show how to make it."""

    def _numbers(self, *names: str, **limits) -> None:
        for name in names:
            object.__setattr__(self, name, real_number(getattr(self, name), name, **limits))

    def _whole(self, *names: str, **limits) -> None:
        for name in names:
            object.__setattr__(self, name, whole_number(getattr(self, name), name, **limits))

    def _flag(self, name: str) -> None:
        true_or_false(getattr(self, name), name)

    def __repr__(self):
        shown, positional = [], True
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is not MISSING and value == field.default:
                positional = False
                continue
            positional = positional and not field.kw_only
            shown.append(repr(value) if positional else f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class Formula(Declared):
    """Base of the schedules that are a formula of the number of the step.

    With an argument `steps`, None is the length of the fit.
    """

    #: Whether steps beyond `steps` have no value.
    ends: ClassVar[bool] = False

    steps: int | None

    def _at(self, step: np.ndarray) -> np.ndarray:
        """The values of steps; each operation rounds alike on every machine (arithmetic.py)."""
        raise TypeError(f"{type(self).__name__} must define _at")

    def values(self, first_step, count):
        first_step = whole_number(first_step, "first_step", 0, _LAST_STEP)
        count = whole_number(count, "count", 0, _LAST_STEP - first_step)
        if self.lasts_a_fit:
            raise ValueError(
                f"{self!r} lasts as long as the fit that uses it, and has no values without one: "
                "give it its steps, steps=1000 for example"
            )
        check_within(self, first_step + count)
        return self._at(np.arange(first_step, first_step + count, dtype=np.float64))

    @property
    def lasts_a_fit(self):
        return any(field.name == "steps" for field in fields(self)) and self.steps is None

    @property
    def length(self):
        return self.steps if self.ends else None

    def resolved(self, span):
        if not self.lasts_a_fit:
            return self
        if span.steps < 1:
            raise ValueError(
                f"no step of the fit is left for {self!r}: what comes before it takes "
                f"{span.offset} steps, and the fit has {span.end}; train longer, or shorten that"
            )
        return replace(self, steps=span.steps)  # type: ignore[call-arg]

    def extremes(self):
        names = {field.name for field in fields(self)} & {"start", "end", "peak"}
        return {name: getattr(self, name) for name in sorted(names)}


class Function(Schedule):
    """Any function of the number of the step; it cannot be written to a file.

    A function given in place of a schedule becomes one. Two are equal if their functions are.

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


def check_within(schedule: Schedule, end: int) -> None:
    """Refuse the steps before `end` if the schedule is shorter.

    Raises
    ------
    ValueError
    """
    length = schedule.length
    if length is not None and end > length:
        raise ValueError(f"{schedule!r} has {length} steps, so step {end - 1} has no value")


def exact_values(schedule: Schedule, first: int, count: int) -> np.ndarray:
    """``schedule.values(first, count)``, whose shape is checked.

    Raises
    ------
    ValueError
        If it is another.
    """
    found = np.asarray(schedule.values(first, count), np.float64)
    if found.shape != (count,):
        raise ValueError(f"{schedule!r} gives {found.shape} values for {count} steps")
    return found


def checked_values(schedule: Schedule, what: str, first: int, count: int, **limits) -> np.ndarray:
    """The values of a schedule, each within the limits of :func:`fastnn.checks.real_number`.

    Raises
    ------
    ValueError
        If one is not; the message names its step.
    """
    found = exact_values(schedule, first, count)
    least, below = limits.get("least", -np.inf), limits.get("below", np.inf)
    wrong = ~(np.isfinite(found) & (found >= least) & (found < below))
    if wrong.any():
        at = int(np.argmax(wrong))
        real_number(float(found[at]), f"{what}, from {schedule!r}, at step {first + at}", **limits)
    return found
