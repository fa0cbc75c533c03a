"""A prepared fit or prediction: engine, workspace, rows and training state, bound once.

Python calls the engine once per slice of about 100 ms. The slicing does not change the results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from . import interrupts
from .checks import is_finite
from .engines.protocol import Engine
from .engines.workspace import Data, Steps, Workspace
from .optimizer import Optimizer
from .schedules import Schedule
from .scheduling import Scheduled
from .tables import COMMON, HYPER, KC
from .training_state import TrainingState
from .update import Update

#: Seconds of work per call of the engine.
SLICE_SECONDS = 0.1

#: Workspace elements of a chunk of rows in bulk prediction, and its minimum rows: few enough for
#: bounded memory near the size of L2, enough to occupy every thread.
CHUNK_ELEMENTS, CHUNK_ROWS = 1 << 19, 1024

#: Multiply-adds of the first call of a bulk prediction, before it is known how long chunks take.
_FIRST_WORK = 1 << 30

#: Batches, and products of rows with parameters, in a second before it is known: few enough.
_FIRST_PACE, _FIRST_PRODUCTS = 640, 6e8

#: Most workspace elements of a batch, beyond which its gradient is summed in pieces: near the size
#: of L2, where the values of a piece stay.
PIECE_ELEMENTS = 1 << 19

#: Steps whose hyperparameters are computed at once where every step is a call.
_AHEAD = 64

_AVERAGE = COMMON.index("average")


class Slices:
    """Cuts runs of batches into ranges that should take SLICE_SECONDS each.

    It remembers how long batches take from one run to the next; `size` is the first guess.
    """

    def __init__(self, size: int = 1):
        self.size = size

    def note(self, batches: int, seconds: float) -> None:
        """Remember how long some batches took."""
        wanted = batches * SLICE_SECONDS / max(seconds, 1e-9)
        self.size = int(max(1, min(wanted, max(8 * batches, self.size))))

    def of(
        self, end: int, first: int = 0, next_cut: Callable[[int], int] | None = None
    ) -> Iterator[tuple[int, int]]:
        """Ranges of the batches first, ..., end - 1. A pending Ctrl-C is raised between two.

        ``next_cut(first)`` is the number at which a range from `first` on must end, at the latest.
        """
        while first < end:
            last = min(first + self.size, end)
            if next_cut is not None:
                last = min(last, next_cut(first))
            began = time.perf_counter()
            yield first, last
            self.note(last - first, time.perf_counter() - began)
            interrupts.check()
            first = last


def chunk_rows(plan, n_rows: int) -> int:
    """Rows of a chunk in bulk prediction."""
    if n_rows <= CHUNK_ROWS:
        return n_rows
    return min(max(CHUNK_ROWS, CHUNK_ELEMENTS // plan.prediction.per_sample), n_rows)


def _first_chunks(ws: Workspace, data: Data) -> int:
    """Chunks in the first call of a bulk prediction: some hundredths of a second of work."""
    return max(1, _FIRST_WORK // max(1, ws.plan.n_params * data.batch_size))


def _first_batches(ws: Workspace) -> int:
    """Batches in the first call of a fit."""
    pace = min(_FIRST_PACE, _FIRST_PRODUCTS / max(1, ws.plan.n_params * ws.rows))
    return max(1, int(pace * SLICE_SECONDS)) if ws.plan.user_loss is None else 1


def piece_rows(plan, n_rows: int) -> int:
    """Rows of a piece of a batch of `n_rows`: all of them, or as many blocks of KC as fit."""
    if plan.whole_batches:
        return n_rows
    blocks = max(1, PIECE_ELEMENTS // plan.training.per_sample // KC)
    return min(blocks * KC, n_rows)


def with_schedules(plan, hyper: np.ndarray, first: int, schedules=None) -> np.ndarray:
    """The hyperparameters of the steps from `first` on, with a column for each schedule.

    `schedules` are those of the plan as a fit resolves them.
    """
    if not plan.schedules:
        return hyper
    schedules = plan.schedules if schedules is None else schedules
    columns = [schedule.values(first, len(hyper)) for schedule in schedules]
    return np.ascontiguousarray(np.column_stack([hyper, *columns]), np.float64)


def forward(engine: Engine, ws: Workspace, data: Data, out: np.ndarray, function: str) -> None:
    """Write the outputs of all rows into `out`."""
    if len(out) <= data.batch_size:
        engine.forward(ws, data, out, function)
    else:
        _forward_in_chunks(engine, ws, data, out, function)


@interrupts.deferred
def _forward_in_chunks(
    engine: Engine, ws: Workspace, data: Data, out: np.ndarray, function: str
) -> None:
    for first, last in Slices(_first_chunks(ws, data)).of(data.n_batches):
        engine.forward(ws, data, out, function, first, last)


@interrupts.deferred
def evaluate(engine: Engine, ws: Workspace, data: Data) -> tuple[float, float]:
    """(sum of losses, n_correct) over all rows; the loss is NaN if it is not finite."""
    results = np.zeros((data.n_batches, 2))
    for first, last in Slices(_first_chunks(ws, data)).of(data.n_batches):
        if not engine.evaluate(ws, data, results[first:last], first, last):
            return np.nan, 0.0
    loss, n_correct = np.add.reduce(results).tolist()
    return loss, n_correct


def metrics(engine: Engine, ws: Workspace, data: Data, prefix: str = "") -> dict[str, float]:
    """The loss of some rows, and their accuracy if they are classified, by name."""
    loss, n_correct = evaluate(engine, ws, data)
    values = {f"{prefix}loss": loss / data.weight_sum if ws.plan.mean else loss}
    if data.metric:
        values[f"{prefix}accuracy"] = n_correct / data.n_rows
    return values


@interrupts.deferred
def loss_and_grad(
    engine: Engine, ws: Workspace, data: Data, steps: Steps | None = None,
    slices: Slices | None = None,
) -> tuple[float, float]:  # fmt: skip
    """(sum of losses, n_correct) of all rows as one batch; writes its gradient to ``ws.grad``.

    The batches of `data` are its pieces; `slices` remembers how long they took in other batches.
    """
    results = np.zeros(2)
    for first, last in (slices or Slices()).of(data.n_batches):
        engine.loss_and_grad(ws, data, results, first, last, steps)
        if not np.isfinite(results[0]):
            break
    loss, n_correct = results.tolist()
    return loss, n_correct


class Fit:
    """A prepared fit.

    Parameters
    ----------
    engine : Engine
    ws : Workspace
        For training; its parameters, state and slots are trained in place.
    state : TrainingState
        Its counters advance; its slots and state are those of `ws`.

    Attributes
    ----------
    seed : int
        The network's seed.
    data : Data
        The training rows; set before each fit, and its order before each epoch.
    epoch_first, epoch_batches : int
        The first batch that the present epoch runs, which is not 0 where it is resumed; and how
        many it has: all, but in a last epoch that a number of steps ends.
    lr_factor : float
        A factor of the learning rates of the steps to come.
    results : ndarray, shape (n_batches, 2)
        (sum of losses, n_correct) of each batch of the epoch.
    steps_done : int
        Steps since the fit began.
    scheduled : Scheduled
        What follows a schedule; set before each fit.
    rate : float
        The learning rate of the last step, or of the one whose loss was not finite.
    pace : Slices
        How long batches take.
    """

    data: Data
    results: np.ndarray
    scheduled: Scheduled

    def __init__(self, engine: Engine, ws: Workspace, state: TrainingState):
        self.engine, self.ws, self.state, self.seed = engine, ws, state, 0
        self.steps_done, self.rate, self.lr_factor = 0, 0.0, 1.0
        self.epoch_first, self.epoch_batches, self._planned = 0, 0, 0
        self._ahead: Any = None
        self.release()
        self._start: tuple[np.ndarray, ...] = ()
        self._scheduled, self._rates = np.empty((0, 0)), np.empty(0)
        self._total_steps = state.total_steps
        self.pace, self._pieces = Slices(_first_batches(ws)), Slices()

    def begin(
        self, data: Data, shuffle: bool, seed: int, n_steps: int | None,
        schedule: Schedule | None = None, metrics=None, n_batches: int | None = None,
    ) -> None:  # fmt: skip
        """Set the rows of a fit, and compile and bind kernels, so that no epoch has to.

        `n_steps` is None if it is not known; `schedule` multiplies the learning rate; `metrics`
        are the names of an epoch's values. `n_batches` are those of an epoch, or 0 if that is not
        known; by default those of `data`.

        Raises
        ------
        ValueError
            If a schedule is shorter than the training; nothing is changed then.
        """
        n_batches = data.n_batches if n_batches is None else n_batches
        self.scheduled = Scheduled(
            self.state, self.ws.plan.schedules, schedule, n_batches, n_steps, metrics
        )
        self.data, self.seed = data, seed
        self.ws.threads_used.clear()
        self.results = np.zeros((data.n_batches, 2))
        self.steps_done, self.lr_factor, self.epoch_batches = 0, 1.0, data.n_batches
        self._start = tuple(np.empty_like(array) for array in self.trained)
        self.bind(data, shuffle)

    def bind(self, data: Data, shuffle: bool) -> None:
        """Compile and bind the kernels for such data."""
        columns = len(HYPER[self.ws.update.rule]) + len(self.ws.plan.schedules)
        no_steps = Steps(np.zeros((0, columns)))
        gradients_alone = self.state.optimizer.full_batch
        if self.in_pieces or gradients_alone:
            data = data.one_batch(0, self.ws.rows)
        if shuffle and data.order is None:
            data = replace(data, order=np.zeros(data.n_rows, np.int64))
        if self.in_pieces or gradients_alone:
            self.engine.loss_and_grad(self.ws, data, np.zeros(2), 0, 0)
            if not gradients_alone:
                self.engine.update(self.ws, no_steps)
        else:
            self.engine.run_batches(self.ws, data, no_steps, np.zeros((0, 2)), 0, 0)

    def release(self) -> None:
        """Forget the rows, which belong to the caller."""
        self.data, self.results = Data(np.empty((0, 0))), np.empty((0, 2))

    def resume(self, steps: int, results: np.ndarray, rate: float, lr_factor: float) -> None:
        """Go on after so many steps of a fit; `results` are those of an epoch under way."""
        self.steps_done, self.rate, self.lr_factor = steps, rate, lr_factor
        if len(results) > len(self.results):  # an epoch of batches whose number is not known
            self.results = np.zeros((2 * len(results), 2))
        self.results[: len(results)] = results
        self._total_steps = self.state.total_steps - len(results)

    def begin_epoch(
        self, order: np.ndarray | None, first: int = 0, end: int | None = None,
        start: tuple[np.ndarray, ...] | None = None,
    ) -> None:  # fmt: skip
        """Save what :meth:`roll_back` restores, and set the order of the rows.

        Its batches are `first`, ..., ``end - 1``; those before have been run already, and `start`
        is what :attr:`epoch_start` was.

        Raises
        ------
        ValueError
            If a schedule gives a number that is out of range in a step of the epoch.
        """
        self.data.order, self.epoch_first = order, first
        self.epoch_batches = self.data.n_batches if end is None else end
        # All of the epoch's, so that a schedule that fails does so between two epochs.
        self.plan_steps(first, self.epoch_batches - first)
        self._total_steps = self.state.total_steps - first
        for kept, array in zip(self._start, start or self.trained, strict=True):
            kept[:] = array

    def plan_steps(self, first: int, count: int) -> None:
        """Compute what follows schedules in the next steps, from batch `first` of the epoch on.

        Raises
        ------
        ValueError
            As :meth:`begin_epoch`.
        """
        self._planned, self._ahead = first, None
        self._scheduled = with_schedules(
            self.ws.plan, np.empty((count, 0)), self.state.total_steps, self.scheduled.operations
        )
        self._rates = self.scheduled.begin_epoch(self.state, count)

    @property
    def epoch_start(self) -> tuple[np.ndarray, ...]:
        """Parameters, state and average as they were at the start of the epoch."""
        return self._start

    @property
    def batches_done(self) -> int:
        """Completed steps of the epoch."""
        return self.state.total_steps - self._total_steps

    def roll_back(self) -> None:
        """Restore parameters, state and average of the epoch's start, and reset the slots."""
        for kept, array in zip(self._start, self.trained, strict=True):
            array[:] = kept
        self.state.optimizer.reset(self.ws.slots)
        self.state.step, self.state.total_steps = 0, self._total_steps
        self.state.optimizer_epoch, self.state.schedule_step = self.state.epoch, 0

    @property
    def threads_used(self) -> dict[int, int]:
        """How many minibatches ran in how many threads since the fit began."""
        return {n: count for n, count in sorted(self.ws.threads_used.items()) if count}

    @property
    def is_finite(self) -> bool:
        """Whether all parameters, statistics, averages and slots are finite."""
        return all(is_finite(array) for array in (*self.trained, *self.ws.slots) if array.size)

    @property
    def trained(self) -> tuple[np.ndarray, ...]:
        """What steps change besides the slots."""
        return self.ws.params, self.ws.state, self.ws.average

    @property
    def in_pieces(self) -> bool:
        """Whether a batch is larger than the workspace: its gradient is summed in pieces."""
        return min(self.data.batch_size, self.data.n_rows) > self.ws.rows

    def steps(self, first: int, last: int, place: int | None = None) -> int:
        """Train on the minibatches first, ..., last-1; returns how many.

        They are fewer than last - first only if the loss of the next one is not finite. `place` is
        the number of the first one in the epoch, where the data are not all rows of it.
        """
        place = first if place is None else place
        state, count = self.state, last - first
        hyper, rates = self._next_hyper(place, count, count if place == first else _AHEAD)
        if state.average is not None:
            ends = place + count == self.epoch_batches
            hyper[:, _AVERAGE] = state.average.shares(state, count, ends)
        steps = Steps(hyper, self.seed, state.total_steps)
        if self.in_pieces:
            return self._steps_in_pieces(steps, first, place, rates)
        self.ws.completed = 0
        try:
            return self.engine.run_batches(
                self.ws, self.data, steps, self.results[place : place + count], first, last
            )
        finally:  # a user's loss may have raised an exception after some steps
            self.count(self.ws.completed, _last_rate(rates, self.ws.completed))

    def _next_hyper(self, place: int, count: int, ahead: int) -> tuple[np.ndarray, np.ndarray]:
        """Hyperparameters and rates of `count` steps; those of `ahead` are computed at once."""
        step = self.state.step
        known = self._ahead is not None and self._ahead[0] == (self.lr_factor, step - place)
        if not known or not self._ahead[1] <= place <= self._ahead[1] + len(self._ahead[2]) - count:
            first = place - self._planned
            rates = self._rates[first : first + ahead] * self.lr_factor
            hyper = self.scheduled.optimizer.hyper(step + 1, rates)
            if self.ws.plan.schedules:
                hyper = np.column_stack([hyper, self._scheduled[first : first + ahead]])
            self._ahead = (self.lr_factor, step - place), place, hyper, rates
        _, first, hyper, rates = self._ahead
        rows = slice(place - first, place - first + count)
        return hyper[rows], rates[rows]

    def hyper_of_next(self) -> tuple[np.ndarray, np.ndarray]:
        """The hyperparameters of the step that :meth:`plan_steps` has planned, and its rate."""
        return self._next_hyper(self._planned, 1, 1)

    def make_room(self, rows: int) -> None:
        """Let the workspace take batches of so many rows; nothing that is trained changes."""
        old, plan = self.ws, self.ws.plan
        if rows <= old.rows or (piece_rows(plan, rows) == old.rows and rows <= old.total_rows):
            return
        rows += rows // 4  # for the next one that is larger
        ws = Workspace(plan, old.params, old.state, piece_rows(plan, rows), old.update, rows)
        ws.slots, ws.average, ws.threads_used = old.slots, old.average, old.threads_used
        self.ws = ws

    def count(self, steps: int, rate: float) -> None:
        """Count completed steps; `rate` is the learning rate of the last one tried."""
        self.rate = rate
        if steps:
            self.state.progress = self.scheduled.progress
        self.state.step += steps
        self.state.total_steps += steps
        self.steps_done += steps

    def _steps_in_pieces(self, steps: Steps, first: int, place: int, rates: np.ndarray) -> int:
        """Steps on batches from number `first` on that are larger than the workspace."""
        for done in range(len(steps.hyper)):
            step = Steps(steps.hyper[done : done + 1], steps.seed, steps.first + done)
            if not self._step_in_pieces(step, first + done, place + done):
                self.count(0, float(rates[done]))
                return done
            self.count(1, float(rates[done]))
        return len(steps.hyper)

    def _step_in_pieces(self, steps: Steps, index: int, place: int) -> bool:
        """One step, unless the loss is not finite; threads_used counts it once."""
        used = self.ws.threads_used
        before, statistics = used.copy(), self.ws.state.copy()
        batch = self.data.one_batch(index, self.ws.rows)
        try:
            results = loss_and_grad(self.engine, self.ws, batch, steps, self._pieces)
        except BaseException:  # between two small batches, of which the first has changed them
            self.ws.state[:] = statistics
            raise
        self.results[place] = results
        if not math.isfinite(results[0]):
            return False
        self.engine.update(self.ws, steps)
        pieces = used - before
        if pieces:  # always, but for the numpy engine
            used.clear()
            used.update(before)
            used[max(pieces, key=lambda n: pieces[n])] += 1
        return True

    def slices(self, next_cut=None) -> Iterator[tuple[int, int]]:
        """Ranges of the epoch's minibatches; see :meth:`Slices.of`."""
        return self.pace.of(self.epoch_batches, self.epoch_first, next_cut)


def small_batches(plan, batch_size: int, accumulate: int) -> int | None:
    """Rows of the small batches of which a step's batch consists, if these must be kept apart.

    Where operations treat rows one by one, their gradients add up to that of one large batch, and
    that is what is run: it has the same gradient, and takes one call.
    """
    return batch_size if accumulate > 1 and plan.whole_batches else None


def _last_rate(rates: np.ndarray, completed: int) -> float:
    """The learning rate of the last step, or of the one that was not completed."""
    return float(rates[min(completed, len(rates) - 1)])


def prepare(
    last: Fit | None, state: TrainingState | None, engine: Engine, plan, params: np.ndarray,
    statistics: np.ndarray, optimizer: Optimizer, update: Update, batch_size: int,
    small: int | None = None,
) -> Fit:  # fmt: skip
    """A fit ready to begin.

    Parameters
    ----------
    last : Fit or None
        The last fit of the network; it is returned if it can run these batches.
    state : TrainingState or None
        The state of training; an optimizer of the same rule keeps its slots.
    engine : Engine
    plan : Plan
    params, statistics : ndarray
        The flat vectors, trained in place.
    optimizer : Optimizer
    update : Update
        What a step of it does.
    batch_size : int
        Rows of a step.
    small : int, optional
        Rows of the small batches of which it consists.
    """
    rows = piece_rows(plan, batch_size) if small is None else min(small, batch_size)
    state = None if state is None else state.with_optimizer(optimizer)
    continues = state is not None and state.optimizer == optimizer
    if last is not None and continues and last.engine is engine:
        ws = last.ws
        same = ws.is_for(plan, params, statistics) and ws.rows == rows
        if same and ws.update == update and ws.total_rows >= batch_size:
            assert state is not None
            last.state = state  # that of a fit which failed before its first step may differ
            return last
    ws = Workspace(plan, params, statistics, rows, update, batch_size)
    new = TrainingState(optimizer, ws.slots, statistics)
    if state is not None:
        new.epoch, new.total_steps = state.epoch, state.total_steps
        new.optimizer_epoch, new.progress = state.epoch, state.progress
    if state is not None and continues:
        ws.slots[:] = state.slots
        new.step, new.schedule_step = state.step, state.schedule_step
        new.optimizer_epoch = state.optimizer_epoch
        new.average = state.average if update.averages else None
    else:
        optimizer.reset(ws.slots)
    return Fit(engine, ws, new)
