"""A schedule that follows what the epochs gave: lower rates once nothing improves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..names import unknown
from .base import Formula, writable


@dataclass(frozen=True)
class Plateau:
    """How far a :class:`ReduceOnPlateau` has got.

    Attributes
    ----------
    value : float
        Its value in the next epoch.
    best : float or None
        The best value of its metric; None before the first.
    waited : int
        Epochs since the best one.
    cooling : int
        Epochs that do not count yet.
    """

    value: float
    best: float | None = None
    waited: int = 0
    cooling: int = 0


_MODES, _THRESHOLD_MODES = ("auto", "min", "max"), ("rel", "abs")


@writable
@dataclass(frozen=True, repr=False)
class ReduceOnPlateau(Formula):
    """A constant that is multiplied by a factor after epochs without improvement.

    It follows the values of the fit's epochs, so it goes with ``fit(schedule=...)`` and not with a
    hyperparameter. It observes the epochs whose last step it governs: behind a :class:`Warmup`,
    those after it. As of PyTorch's ReduceLROnPlateau, except that the relative threshold
    is a share of the magnitude, so that it is right for a loss below 0, too.

    Parameters
    ----------
    start : float, default 1
        The value of the first epochs.
    factor : float, default 0.1
        Above 0 and below 1.
    patience : int, default 10
        Epochs without improvement that are accepted; the one after them reduces the value.
    metric : str, default "loss"
        A key of the history: "val_loss", for example.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; "auto" is "max" for accuracies and those metrics of
        which more is better.
    threshold : float, default 1e-4
        An improvement is better than the best by more than this, at least 0.
    threshold_mode : {"rel", "abs"}
        "rel" multiplies the threshold by the magnitude of the best.
    cooldown : int, default 0
        Epochs after a reduction that are not counted.
    least : float, default 0
        The value is not reduced below this; at least 0, at most `start`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. A fit raises ValueError if its epochs
        have no value of this name.

    Examples
    --------
    >>> from fastnn import SGD, Dense, Sequential
    >>> from fastnn.schedules import ReduceOnPlateau
    >>> history = Sequential([Dense(1)]).fit([[0.0], [1.0]], [0.0, 1.0], optimizer=SGD(1e-9),
    ...     epochs=5, schedule=ReduceOnPlateau(factor=0.5, patience=1), progress=False)
    >>> history["lr"]
    [1e-09, 1e-09, 1e-09, 5e-10, 5e-10]
    """

    start: float = 1.0
    factor: float = 0.1
    patience: int = 10
    metric: str = "loss"
    mode: str = "auto"
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    least: float = 0.0

    def __post_init__(self):
        self._numbers("start")
        self._numbers("factor", positive=True, below=1)
        self._numbers("threshold", "least", least=0)
        self._whole("patience", "cooldown", least=0)
        if not isinstance(self.metric, str):
            raise TypeError(f"metric must be a name such as 'val_loss', not {self.metric!r}")
        if self.mode not in _MODES:
            raise unknown("mode of a ReduceOnPlateau", self.mode, _MODES)
        if self.threshold_mode not in _THRESHOLD_MODES:
            raise unknown("threshold_mode", self.threshold_mode, _THRESHOLD_MODES)
        if self.least > self.start:
            raise ValueError(f"least is {self.least}, above start, which is {self.start}")

    def resolved(self, span):
        return self if span.plateau is None else _Held(self, span.plateau.value)

    def _at(self, step):
        return np.full(len(step), self.start)

    def check_metric(self, known) -> None:
        """Refuse a metric that is not among the values of the epochs.

        Raises
        ------
        ValueError
        """
        known = list(known)
        if self.metric not in known:
            hint = (
                "; give validation_data"
                if self.metric.startswith("val_") and not any(k.startswith("val_") for k in known)
                else ""
            )
            raise ValueError(
                f"{self!r} follows {self.metric!r}, but the values of an epoch are "
                f"{', '.join(map(repr, known))}{hint}"
            )

    def observe(
        self, state: Plateau | None, values: Mapping[str, float], direction: str = "min"
    ) -> Plateau:
        """How far it has got after an epoch with these values.

        `direction` is that in which its metric gets better, "min" or "max".
        """
        self.check_metric(values)
        state = Plateau(self.start) if state is None else state
        value = float(values[self.metric])
        best, waited = state.best, state.waited + 1
        if self._is_better(value, best, direction if self.mode == "auto" else self.mode):
            best, waited = value, 0
        cooling = state.cooling
        if cooling > 0:
            cooling, waited = cooling - 1, 0
        found = Plateau(state.value, best, waited, cooling)
        if waited > self.patience:
            reduced = max(state.value * self.factor, self.least)
            found = replace(found, value=reduced, waited=0, cooling=self.cooldown)
        return found

    def _is_better(self, value: float, best: float | None, direction: str) -> bool:
        if best is None:
            return not np.isnan(value)
        margin = self.threshold * (abs(best) if self.threshold_mode == "rel" else 1)
        return value > best + margin if direction == "max" else value < best - margin


@dataclass(frozen=True, repr=False)
class _Held(Formula):
    """A ReduceOnPlateau between two epochs."""

    schedule: ReduceOnPlateau
    value: float

    def leaf_at(self, step):
        return self.schedule

    def _at(self, step):
        return np.full(len(step), self.value)

    def __repr__(self):
        return repr(self.schedule)
