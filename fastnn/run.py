"""A prepared fit or prediction: engine, workspace, rows and training state, bound once.

Between Python and an engine passes one call per slice of about 100 ms. How a run is sliced changes
nothing in its results.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from . import interrupts
from .checks import is_finite
from .engines.protocol import Engine
from .engines.tables import HYPER, KC
from .engines.workspace import Data, Steps, Workspace
from .optimizers import Optimizer

#: Seconds of work per call of the engine.
SLICE_SECONDS = 0.1

#: Elements of workspace of a chunk of rows in bulk prediction, and its least rows: they bound the
#: memory, stay near the caches, and give every thread enough to do.
CHUNK_ELEMENTS, CHUNK_ROWS = 1 << 19, 1024

#: Elements of workspace of a piece of a batch whose gradient is summed in pieces.
PIECE_ELEMENTS = 1 << 22


def slices(n: int) -> Iterator[tuple[int, int]]:
    """Ranges of n batches, each of which should take SLICE_SECONDS.

    A pending Ctrl-C is raised between two of them.
    """
    first, size = 0, 1
    while first < n:
        last = min(first + size, n)
        began = time.perf_counter()
        yield first, last
        seconds = time.perf_counter() - began
        interrupts.check()
        wanted = (last - first) * SLICE_SECONDS / max(seconds, 1e-9)
        size = int(max(1, min(wanted, 8 * (last - first))))
        first = last


def chunk_rows(plan, n_rows: int) -> int:
    """Rows of a chunk in bulk prediction."""
    if n_rows <= CHUNK_ROWS:
        return n_rows
    return min(max(CHUNK_ROWS, CHUNK_ELEMENTS // plan.prediction.per_sample), n_rows)


def piece_rows(plan, n_rows: int) -> int:
    """Rows of a piece of a batch of `n_rows`: all of them, or as many blocks of KC as fit."""
    blocks = max(1, PIECE_ELEMENTS // plan.training.per_sample // KC)
    return min(blocks * KC, n_rows)


def forward(engine: Engine, ws: Workspace, data: Data, out: np.ndarray, function: str) -> None:
    """Write the outputs of all rows into `out`."""
    if len(out) <= data.batch_size:
        engine.forward(ws, data, out, function)
        return
    for first, last in slices(data.n_batches):
        engine.forward(ws, data, out, function, first, last)


def evaluate(engine: Engine, ws: Workspace, data: Data) -> tuple[float, float]:
    """(sum of losses, n_correct) over all rows; the loss is NaN if it is not finite."""
    results = np.zeros((data.n_batches, 2))
    for first, last in slices(data.n_batches):
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


def loss_and_grad(engine: Engine, ws: Workspace, data: Data) -> tuple[float, float]:
    """(sum of losses, n_correct) of all rows as one batch; leaves its gradient in ``ws.grad``.

    The batches of `data` are its pieces.
    """
    results = np.zeros(2)
    for first, last in slices(data.n_batches):
        engine.loss_and_grad(ws, data, results, first, last)
    loss, n_correct = results.tolist()
    return loss, n_correct


@dataclass
class TrainingState:
    """What training carries from step to step besides the parameters.

    With it and the parameters, a later fit goes on as if there had been no pause.

    Attributes
    ----------
    optimizer : Optimizer
    slots : ndarray, shape (n_slots, n_params)
        What the optimizer remembers.
    state : ndarray, shape (n_state,)
        Running statistics.
    step, epoch : int
        How many of each are done.
    """

    optimizer: Optimizer
    slots: np.ndarray
    state: np.ndarray
    step: int = 0
    epoch: int = 0


class Fit:
    """A prepared fit.

    Parameters
    ----------
    engine : Engine
    ws : Workspace
        For training; its parameters, state and slots are trained in place.
    state : TrainingState
        Counted on; its slots and state are those of `ws`.
    seed : int
        Of the network.

    Attributes
    ----------
    data : Data
        The training rows; set before each fit, and its order before each epoch.
    results : ndarray, shape (n_batches, 2)
        (sum of losses, n_correct) of each batch of the epoch.
    """

    def __init__(self, engine: Engine, ws: Workspace, state: TrainingState, seed: int):
        self.engine, self.ws, self.state, self.seed = engine, ws, state, seed
        self.data = Data(np.empty((0, 0)))
        self.results = np.empty((0, 2))
        self._start: tuple[np.ndarray, ...] = ()

    def fits(self, engine: Engine, plan, rows: int, batch_size: int) -> bool:
        """Whether it can run minibatches of that size, in pieces of `rows`, for a plan."""
        ws = self.ws
        return (
            self.engine is engine
            and ws.plan is plan
            and ws.rows == rows
            and ws.total_rows >= batch_size
        )

    def begin(self, data: Data, shuffle: bool) -> None:
        """Take the rows of a fit; compiles and binds what they need, which no epoch then does."""
        self.data = data
        self.results = np.zeros((data.n_batches, 2))
        self._start = tuple(array.copy() for array in (self.ws.params, self.ws.state))
        rule = self.state.optimizer.rule
        nothing = Steps(rule, np.zeros((0, len(HYPER[rule]))))
        if self._in_pieces:
            data = data.one_batch(0, self.ws.capacity)
        if shuffle:
            data = replace(data, order=np.zeros(data.n_rows, np.int64))
        if self._in_pieces:
            self.engine.loss_and_grad(self.ws, data, np.zeros(2), 0, 0)
        else:
            self.engine.run_batches(self.ws, data, nothing, np.zeros((0, 2)), 0, 0)

    def begin_epoch(self, order: np.ndarray | None) -> None:
        """Remember where the epoch begins, and take the order of its rows."""
        self.data.order = order
        for kept, array in zip(self._start, (self.ws.params, self.ws.state), strict=True):
            kept[:] = array

    def roll_back(self) -> None:
        """Go back to the parameters and state of the epoch's beginning, with empty slots."""
        for kept, array in zip(self._start, (self.ws.params, self.ws.state), strict=True):
            array[:] = kept
        self.ws.slots.fill(0)
        self.state.step = 0

    @property
    def is_finite(self) -> bool:
        """Whether all parameters, statistics and slots are finite."""
        ws = self.ws
        return all(is_finite(array.reshape(-1)) for array in (ws.params, ws.state, ws.slots))

    @property
    def _in_pieces(self) -> bool:
        """Whether a batch is larger than the workspace: its gradient is summed in pieces."""
        return min(self.data.batch_size, self.data.n_rows) > self.ws.capacity

    def steps(self, first: int, last: int) -> int:
        """Train on the minibatches first, ..., last-1; returns how many.

        They are fewer than asked for only where the loss of the next one is not finite.
        """
        state = self.state
        rates = np.full(last - first, state.optimizer.lr)
        hyper = state.optimizer.hyper(state.step + 1, rates)
        steps = Steps(state.optimizer.rule, hyper, self.seed, state.step)
        if self._in_pieces:
            done = self._step_in_pieces(steps, first)
        else:
            done = self.engine.run_batches(
                self.ws, self.data, steps, self.results[first:last], first, last
            )
        state.step += done
        return done

    def _step_in_pieces(self, steps: Steps, index: int) -> int:
        """One step on a batch that is larger than the workspace."""
        batch = self.data.one_batch(index, self.ws.capacity)
        self.results[index] = loss_and_grad(self.engine, self.ws, batch)
        if not np.isfinite(self.results[index, 0]):
            return 0
        self.engine.update(self.ws, steps)
        return 1

    def slices(self) -> Iterator[tuple[int, int]]:
        """Ranges of the epoch's minibatches; one at a time where they are run in pieces."""
        n = self.data.n_batches
        return ((i, i + 1) for i in range(n)) if self._in_pieces else slices(n)
