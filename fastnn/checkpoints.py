"""Checkpoints of a fit: when they are written, what they hold, and how a fit goes on from one."""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import checkpoint_files, safe_writes
from .averages import AverageState
from .checkpoint_files import Expected, Reached, callback_name, packed
from .checks import real_number, whole_number
from .schedules.plateau import Plateau
from .scheduling import Progress

if TYPE_CHECKING:
    from .run import Fit
    from .settings import Settings
    from .training import Training

#: What a step changes besides the slots, in the order of :attr:`fastnn.run.Fit.epoch_start`.
_TRAINED = "params", "state", "average"

_COUNTERS = "step", "total_steps", "epoch", "optimizer_epoch", "schedule_step"

log = logging.getLogger("fastnn")


def period(every) -> tuple[int | None, float | None]:
    """(epochs, seconds) from one checkpoint to the next, for ``checkpoint_every``; one is None.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(every, str):
        return whole_number(every, "checkpoint_every"), None
    number = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*s\s*", every)
    if number is None:
        raise ValueError(
            f"checkpoint_every must be a number of epochs or seconds such as '60s', not {every!r}"
        )
    return None, real_number(float(number[1]), "checkpoint_every", positive=True)


def path_of(given) -> Path:
    """The absolute path of a checkpoint.

    Raises
    ------
    TypeError, ValueError
    """
    try:
        text = os.fsdecode(given)
    except TypeError:
        raise TypeError(f"checkpoint must be a path, not {given!r}") from None
    if not text:
        raise ValueError("checkpoint must be the path of a file, not ''")
    return Path(os.path.abspath(text))


class Keeper:
    """The checkpoints of one fit.

    Parameters
    ----------
    expected : Expected
        The fit as it is prepared. If it resumes and there is a file, the state of its training
        becomes that with which the fit of the file began.

    Attributes
    ----------
    reached : Reached or None
        What the fit has reached that goes on.

    Raises
    ------
    CheckpointError, OSError
        If the file is damaged, that of another fit, or cannot be read.
    """

    def __init__(self, expected: Expected):
        settings = expected.settings
        self.path = settings.checkpoint
        self._epochs, self._seconds = period(settings.checkpoint_every)
        self._about, self._n_steps = expected.about, expected.n_steps
        self._written: tuple | None = None
        self._due = 0.0
        self.reached: Reached | None = None
        if resumes(settings):
            self.reached = checkpoint_files.read(self.path, expected)
            self._set_counters(expected.fit, settings)

    def _set_counters(self, fit: Fit, settings: Settings) -> None:
        """Set the counters to those at which the fit began, from which schedules are resolved."""
        assert self.reached is not None
        counters, state, progress = self.reached.counters, fit.state, self.reached.progress
        for name in _COUNTERS:
            setattr(state, name, counters[name])
        state.step -= counters["steps_done"]
        state.total_steps -= counters["steps_done"]
        state.epoch -= counters["epochs_done"]
        if progress is not None:
            begun = progress["step"], progress["epoch"]
            state.progress = Progress(settings.schedule, *begun, _plateau(progress))
        if self.reached.average is not None:
            about = {k: v for k, v in self.reached.average.items() if k != "lowest"}
            state.average = AverageState(settings.average, fit.ws.average, **about)

    def restore(self, training: Training) -> None:
        """Go on from where the fit of the file had got, if there was one."""
        if self.reached is not None:
            _restore(training, self.reached)
            self._written = self._position(training)

    def begin(self, training: Training) -> None:
        """Write the first checkpoint of a fit, before its first step.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        safe_writes.clean(self.path)
        if self.reached is None:
            self._write(training, capture(training))
        self.reached = None
        self._due = time.monotonic() + (self._seconds or 0)

    def between_steps(self, training: Training) -> None:
        """Write a checkpoint if one is due, between two steps of an epoch."""
        if self._seconds is not None and time.monotonic() >= self._due:
            self.save(training)

    def between_epochs(self, training: Training) -> None:
        """Write a checkpoint if one is due, after an epoch."""
        if self._epochs is None:
            self.between_steps(training)
        elif training.epochs_done % self._epochs == 0:
            self.save(training)

    def end(self, training: Training) -> None:
        """Write what the last checkpoint does not have."""
        if self._written != self._position(training):
            self.save(training)

    def save(self, training: Training) -> None:
        """Write a checkpoint; if it cannot be written, warn and keep the last one."""
        reached = capture(training)
        try:
            self._write(training, reached)
        except (OSError, ValueError) as error:
            message = (
                f"the checkpoint after {training.step} steps could not be written to "
                f"{str(self.path)!r}: {error}; the fit goes on, and an older checkpoint is kept"
            )
            log.warning(message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        if self._seconds is not None:
            self._due = time.monotonic() + self._seconds

    def _write(self, training: Training, reached: Reached) -> None:
        began = time.perf_counter()
        if checkpoint_files.write(self.path, self._about, self._n_steps, reached):
            self._written = self._position(training)
            seconds = time.perf_counter() - began
            log.debug("checkpoint after %d steps in %.3f s", training.step, seconds)

    @staticmethod
    def _position(training: Training) -> tuple:
        return training.step, training.epochs_done, training.stopped


def resumes(settings: Settings) -> bool:
    """Whether a fit goes on from a checkpoint."""
    return settings.resume and os.path.exists(settings.checkpoint)


def capture(training: Training) -> Reached:
    """What a fit has reached; its arrays are those of the fit, and not copied."""
    fit, history, state = training.fit, training.history, training.fit.state
    counters = {name: getattr(state, name) for name in _COUNTERS}
    counters |= {
        "steps_done": fit.steps_done,
        "epochs_done": training.epochs_done,
        "rows_trained": history.rows_trained,
        "n_rows": history.n_rows,
    }
    ws = fit.ws
    arrays = {"params": ws.params, "state": ws.state, "average": ws.average, "slots": ws.slots}
    if training.batches is not None:
        arrays |= _named("start", fit.epoch_start)
        arrays["results"] = fit.results[: training.batches]
    for at, values in enumerate(history.values()):
        arrays[f"history.{at}"] = np.array(values, np.float64)
    scheduled, average, watch = fit.scheduled.progress, training.average, training.watch
    progress = None
    if scheduled is not None:
        plateau = None if scheduled.plateau is None else vars(scheduled.plateau)
        progress = {"step": scheduled.step, "epoch": scheduled.epoch, "plateau": plateau}
    averaged, watched = None, None
    if average is not None:
        averaged, best = average.reached()
        arrays |= {} if best is None else {"average.best": best}
    if watch is not None:
        watched = {"best": watch.best, "best_epoch": watch.best_epoch, "waited": watch.waited}
        arrays |= {} if watch.weights is None else _named("watch", watch.weights)
    elapsed, epoch_seconds = training.seconds_so_far()
    return Reached(
        counters, training.batches,
        {"rate": fit.rate, "lr_factor": fit.lr_factor, "elapsed": elapsed,
         "epoch_seconds": epoch_seconds},
        training.stopped, {str(n): count for n, count in fit.threads_used.items()},
        list(history), progress, averaged, watched, _states(training.settings.callbacks),
        {name: array for name, array in arrays.items() if array.size},
    )  # fmt: skip


def _named(prefix: str, arrays: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    return {f"{prefix}.{name}": array for name, array in zip(_TRAINED, arrays, strict=True)}


def _states(callbacks) -> list[list]:
    """The class and the state of each callback that has one.

    Raises
    ------
    TypeError
        If JSON cannot hold it.
    """
    found = []
    for callback in callbacks:
        name, state = callback_name(callback), callback.state_dict()
        if not isinstance(state, dict):
            raise TypeError(f"state_dict of {name} must return a dict, not {state!r}")
        if state:
            found.append([name, packed(state, f"the state_dict of {name}")])
    return found


def _restore(training: Training, reached: Reached) -> None:
    fit, history, arrays = training.fit, training.history, reached.arrays
    waiting = list(training.settings.callbacks)
    for name, state in reached.callbacks:
        callback = next(one for one in waiting if callback_name(one) == name)
        waiting.remove(callback)
        callback.load_state_dict(state)
    ws, counters, numbers = fit.ws, reached.counters, reached.numbers
    for name in (*_TRAINED, "slots"):
        _fill(getattr(ws, name), arrays, name)
    fit.scheduled.resume(None if reached.progress is None else _plateau(reached.progress))
    for name in _COUNTERS:
        setattr(fit.state, name, counters[name])
    results = arrays.get("results", np.empty((0, 2)))
    fit.resume(counters["steps_done"], results, numbers["rate"], numbers["lr_factor"])
    ws.threads_used.update({int(n): count for n, count in reached.threads_used.items()})
    lists = [arrays[f"history.{at}"].tolist() for at in range(len(reached.history))]
    history.restore(dict(zip(reached.history, lists, strict=True)), counters["rows_trained"])
    history.n_rows = max(history.n_rows, counters["n_rows"])  # of batches it may not be known yet
    if training.average is not None and reached.average is not None:
        training.average.restore(reached.average["lowest"], arrays.get("average.best"))
    watch = training.watch
    if watch is not None and reached.watch is not None:
        watch.best, watch.waited = reached.watch["best"], reached.watch["waited"]
        watch.best_epoch = reached.watch["best_epoch"]
        if watch.best_epoch is not None and watch.rule.restore_best:
            watch.weights = _trained(fit, arrays, "watch")
    start = None if reached.batches is None else _trained(fit, arrays, "start")
    training.resume(
        counters["epochs_done"], start, reached.stopped,
        numbers["elapsed"], numbers["epoch_seconds"],
    )  # fmt: skip


def _plateau(progress: dict) -> Plateau | None:
    plateau = progress["plateau"]
    return None if plateau is None else Plateau(**plateau)


def _trained(fit: Fit, arrays: dict, prefix: str) -> tuple[np.ndarray, ...]:
    """The arrays of a name; those without elements are in no file."""
    copies = tuple(np.empty_like(getattr(fit.ws, name)) for name in _TRAINED)
    for name, copy in zip(_TRAINED, copies, strict=True):
        _fill(copy, arrays, f"{prefix}.{name}")
    return copies


def _fill(array: np.ndarray, arrays: dict, name: str) -> None:
    if array.size:
        array[...] = arrays[name]
