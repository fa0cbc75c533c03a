"""The arrays that a plan runs on: flat vectors, and one workspace sized before the loop."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ops.operation import Table
from ..tables import GROUP, MOST_PARTS, PACK_BYTES, TEAM_STEP, TEAM_WORDS
from .csr import CSR

#: Row capacities are multiples of this, so that every buffer starts on a cache line.
ROW_STEP = 16
_ALIGNMENT = 64
_NO_GROUPS = np.zeros(0, GROUP)


def aligned_zeros(size: int, dtype, alignment: int = _ALIGNMENT) -> np.ndarray:
    """A zeroed vector that starts on a cache line (64 bytes)."""
    dtype = np.dtype(dtype)
    raw = np.zeros(size * dtype.itemsize + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size * dtype.itemsize].view(dtype)


class _Packs(threading.local):
    """The packing buffers of a Python thread, which hold nothing from one run to the next."""

    def __init__(self):
        self.array = aligned_zeros(0, np.uint8)
        self.address = 0

    def grow(self, parts: int) -> None:
        self.array = aligned_zeros(parts * PACK_BYTES, np.uint8)
        self.address = self.array.ctypes.data


_packs = _Packs()


class Workspace:
    """Everything that an engine reads and writes while it runs a plan.

    Parameters
    ----------
    plan : Plan
        The lowered network.
    params : ndarray, shape (plan.n_params,)
        The flat parameter vector, in the network's dtype; engines update it in place.
    state : ndarray, shape (plan.n_state,)
        The flat state vector, likewise.
    rows : int
        Rows of the largest batch.
    update : Update, optional
        What a step of the optimizer does (:class:`fastnn.update.Update`); None where there is none.
    total_rows : int, optional
        Rows of a batch that runs in pieces of `rows`; by default there are no pieces.
    training : bool, optional
        Whether it computes gradients; by default if there is an update.

    Attributes
    ----------
    rows, capacity : int
        Rows of the largest batch, and these rounded up to a multiple of ROW_STEP.
    layout : Layout
        The layout of training or prediction, for these rows.
    table : ops.operation.Table
        Its operations as Python numbers.
    grad : ndarray, shape (n_params,)
        The gradient that ``loss_and_grad`` writes.
    slots : ndarray, shape (n_slots, n_params)
        The state of the optimizer.
    groups : ndarray of tables.GROUP
        The ranges of the parameters that the optimizer treats alike, and those of matrices.
    average : ndarray, shape (n_params + n_state,) or (0,)
        The average of the parameters and of the statistics, if the update has one.
    work : ndarray, shape (layout.per_sample * capacity,)
        Per-sample buffers; any call may overwrite any of it.
    batch : ndarray of float64, shape (layout.per_batch,)
        Per-batch sums.
    ran, ran_on : ndarray, shape (MOST_PARTS,)
        How many split calls part p has run, and which of several threads ran it last (-1: none,
        there was only one), for tests of threading.
    completed : int
        How many batches of the last `run_batches` were trained on, also if it raised an exception.
    threads_used : Counter
        How many batches ran in how many threads, for compiled engines.
    programs : dict
        The programs of each engine for these arrays, by its name; addresses of this process.
    """

    def __init__(
        self, plan, params: np.ndarray, state: np.ndarray, rows: int, update: Any = None,
        total_rows: int | None = None, training: bool | None = None,
    ):  # fmt: skip
        self.plan = plan
        self.update = update
        self.params = params
        self.state = state
        self.rows = rows
        self.capacity = -(-max(rows, 1) // ROW_STEP) * ROW_STEP
        self.total_rows = max(total_rows or 0, self.capacity)
        training = update is not None if training is None else training
        base = plan.training if training else plan.prediction
        norms = 0 if update is None else update.per_batch(plan.n_params)
        temporary = 0 if update is None else update.scratch(base.ops)
        trains = update.trains if update is not None and training else None
        self.layout = base.sized(self.capacity, self.total_rows, norms, temporary, trains)
        self.table = Table(
            self.layout.ops, self.capacity, rows, self.layout.gathered, self.layout.targets,
            self.layout.training,
        )  # fmt: skip
        dtype = params.dtype
        self.grad = aligned_zeros(plan.n_params if training else 0, dtype)
        n_slots = 0 if update is None else update.n_slots
        self.groups = _NO_GROUPS if update is None else update.table()
        self.average = aligned_zeros(
            plan.n_params + plan.n_state if update is not None and update.averages else 0, dtype
        )
        self.slots = aligned_zeros(n_slots * plan.n_params, dtype).reshape(n_slots, plan.n_params)
        self.work = aligned_zeros(self.layout.per_sample * self.capacity, dtype)
        self.batch = aligned_zeros(self.layout.per_batch, np.float64)
        self.scratch = aligned_zeros(self.layout.scratch, dtype)
        self.row_loss = aligned_zeros(self.capacity, np.float64)
        self.row_correct = aligned_zeros(self.capacity, np.float64)
        self.pack = aligned_zeros(0, np.uint8)
        # A loss in Python may run another network in the middle of a run of this one.
        self._packs = _packs if plan.user_loss is None else _Packs()
        self.ran = np.zeros(MOST_PARTS, np.int64)
        self.team = aligned_zeros(TEAM_WORDS, np.int64, 8 * TEAM_STEP)
        self.ran_on = np.full(MOST_PARTS, -1, np.int64)
        self.completed = 0
        self.threads_used: Counter[int] = Counter()
        self.programs: dict[str, Any] = {}

    def is_for(self, plan, params: np.ndarray, state: np.ndarray) -> bool:
        """Whether it runs this plan on these very vectors."""
        return self.plan is plan and self.params is params and self.state is state

    def pack_for(self, parts: int) -> int:
        """The address of this thread's packing buffers for `parts` parts, for the next run."""
        packs = self._packs
        if packs.array.size < parts * PACK_BYTES:
            packs.grow(parts)
        self.pack = packs.array
        return packs.address

    def buffer(self, offset: int, m: int, columns: int) -> np.ndarray:
        """The first m rows of the per-sample buffer at an offset, as a view (m, columns)."""
        start = offset * self.capacity
        return self.work[start : start + m * columns].reshape(m, columns)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays except the parameters and the state."""
        kept = (self.grad, self.slots, self.average)
        return sum(array.nbytes for array in (*kept, *self.temporary()))

    def temporary(self) -> tuple[np.ndarray, ...]:
        """The arrays whose contents no run may assume.

        Between the pieces of one batch, `batch` and `scratch` hold running sums.
        """
        rows = (self.row_loss, self.row_correct)
        return (self.work, self.batch, self.scratch, self.pack, *rows)


@dataclass
class Data:
    """Rows to run on, checked.

    X is (n, n_inputs), contiguous, of a type in FEATURE_TYPES, or in compressed rows; engines
    convert it row by row to the network's dtype and multiply it by `scale`. The targets are int32
    class numbers in `labels`, or values in Y (n, n_outputs), or neither for a forward pass.
    """

    X: np.ndarray | CSR
    Y: np.ndarray | None = None
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None  # (n,) float64, at least 0
    order: np.ndarray | None = None  # int64 numbers of rows of X, in the order to take them
    batch_size: int = 0
    scale: float = 1.0
    share: float = 1.0  # m/n for a batch of m of the fit's n rows; sse scales penalties by it
    metric: str | None = None  # how accuracy is counted: by "class", by "sign", or not
    epoch_rows: int | None = None  # where these are one batch or several epochs: rows of an epoch
    some_rows: bool = False  # the order holds some rows, perhaps repeatedly, not each once
    separate: bool = False  # pieces of a batch are small batches, with statistics of their own

    def __post_init__(self):
        self.batch_size = self.batch_size or max(len(self.X), 1)

    def among(self, X: np.ndarray | CSR, rows: np.ndarray) -> Data:
        """The same data where they are some rows of X, by their numbers in it."""

        def spread(array: np.ndarray | None) -> np.ndarray | None:
            if array is None:
                return None
            found = np.zeros((len(X), *array.shape[1:]), array.dtype)
            found[rows] = array
            return found

        weights = spread(self.weights)
        return replace(
            self, X=X, order=rows, Y=spread(self.Y), labels=spread(self.labels), weights=weights,
            some_rows=True,
        )  # fmt: skip

    def features(self, rows, dtype) -> np.ndarray:
        """Some rows of X in the network's dtype, scaled."""
        X = self.X
        x = X.dense(rows) if isinstance(X, CSR) else X[rows]
        x = x.astype(dtype, copy=False)
        return x if self.scale == 1 else x * dtype.type(self.scale)

    @property
    def n_rows(self) -> int:
        """Rows to run on: all of X, or the entries of the order."""
        return len(self.X) if self.order is None else len(self.order)

    @functools.cached_property
    def weight_sum(self) -> float:
        """The sum of the weights, or the number of rows."""
        if self.weights is None:
            return float(self.n_rows)
        is_part = self.some_rows or (self.order is not None and len(self.order) != len(self.X))
        weights = self.weights[self.order] if is_part else self.weights
        return float(np.add.accumulate(weights)[-1])

    @property
    def n_batches(self) -> int:
        n_rows, each = self.n_rows, self.rows_of_each
        return n_rows // each * -(-each // self.batch_size) if n_rows else 0

    @property
    def rows_of_each(self) -> int:
        """Rows of each epoch that the order holds; all rows, unless it holds several epochs."""
        n_rows, each = self.n_rows, self.epoch_rows
        return n_rows if each is None or not self.batch_size <= each < n_rows else each

    def rows_of(self, index: int) -> slice:
        """The rows of a batch: entries of the order, or of X; none has rows of two epochs."""
        each = self.rows_of_each
        epoch, index = divmod(index, -(-each // self.batch_size))
        first, end = epoch * each + index * self.batch_size, (epoch + 1) * each
        return slice(first, min(first + self.batch_size, end))

    def batch_of(self, row: int) -> int:
        """The number of the batch that begins with a row."""
        each = self.rows_of_each
        epoch, row = divmod(row, each)
        return epoch * -(-each // self.batch_size) + row // self.batch_size

    def one_batch(self, index: int, piece: int) -> Data:
        """The rows of one batch, as batches of `piece` rows."""
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        n_rows = self.epoch_rows or self.n_rows
        share = min(self.batch_size, self.n_rows - rows.start) / n_rows
        if self.order is not None:
            return replace(self, order=self.order[rows], batch_size=piece, share=share)
        parts: dict[str, Any] = {
            name: None if array is None else array[rows]
            for name, array in (("Y", self.Y), ("labels", self.labels), ("weights", self.weights))
        }
        return replace(self, X=self.X[rows], batch_size=piece, share=share, **parts)


@dataclass(frozen=True)
class Steps:
    """What varies from step to step of a run of minibatches.

    Attributes
    ----------
    hyper : ndarray of float64, shape (n, len(HYPER[rule]) + len(plan.schedules))
        The hyperparameters of each step: those of the workspace's update, if it has one, then those
        of operations.
    seed : int
        The network's seed.
    first : int
        Number of the first step, from 0 over the whole training.
    """

    hyper: np.ndarray
    seed: int = 0
    first: int = 0
