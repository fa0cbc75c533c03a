"""The arrays that a plan runs on: flat vectors, and one workspace sized before the loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .tables import MOST_PARTS, MOST_SLABS, NONE, PACK_BYTES, SLAB_ROWS, SLAB_WEIGHTS, Op

#: Row capacities are multiples of this, so that every buffer starts on a cache line.
ROW_STEP = 16
_ALIGNMENT = 64


def aligned_zeros(size: int, dtype) -> np.ndarray:
    """A zeroed vector whose first element lies on a cache line."""
    dtype = np.dtype(dtype)
    raw = np.zeros(size * dtype.itemsize + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size * dtype.itemsize].view(dtype)


def transposes_gradient(row, capacity: int) -> bool:
    """Whether dX = dZ Wt of a dense row transposes dZ and the result, and not W, which is more.

    row is a row of a plan, capacity the rows of the largest batch.
    """
    return capacity * (int(row["n_in"]) + int(row["n_out"])) < int(row["n_in"]) * int(row["n_out"])


def sums_in_slabs(row, capacity: int) -> bool:
    """Whether dW of a dense row is summed in slabs where a batch has rows enough for two."""
    return row["n_in"] * row["n_out"] <= SLAB_WEIGHTS and capacity >= 2 * SLAB_ROWS


def _scratch(plan, capacity: int) -> int:
    """Elements that the backward pass takes beside its per-sample buffers."""
    most = 0
    for row in plan.rows:
        n_in, n_out = int(row["n_in"]), int(row["n_out"])
        if row["scratch"] != NONE:
            most = max(most, min(capacity * (n_in + n_out), n_in * n_out))
        if row["op"] == Op.DENSE and sums_in_slabs(row, capacity):
            most = max(most, min(MOST_SLABS, capacity // SLAB_ROWS) * (n_in + 1) * n_out)
    return most


class Workspace:
    """Everything that an engine reads and writes while it runs a plan.

    Parameters
    ----------
    plan : Plan
        The lowered network.
    params : ndarray, shape (plan.n_params,)
        The flat parameter vector, in the network's dtype; the engine works on it in place.
    rows : int
        The largest batch it must hold.
    n_slots : int or None
        Flat vectors of the optimizer (:data:`fastnn.engines.tables.SLOTS`); None where only
        forward passes will run, which need no gradient either.

    Attributes
    ----------
    grad : ndarray, shape (n_params,)
        The gradient that ``loss_and_grad`` leaves.
    slots : ndarray, shape (n_slots, n_params)
        The state of the optimizer.
    work : ndarray, shape (plan.per_sample * capacity,)
        Per-sample buffers; any call may overwrite any of it.
    ran, ran_on : ndarray, shape (MOST_PARTS,)
        How often part p of a call has run, and on which thread of the pool it ran last (-1: never
        on the pool), for tests of threading.
    """

    def __init__(self, plan, params: np.ndarray, rows: int, n_slots: int | None = None):
        self.plan = plan
        self.params = params
        self.capacity = -(-max(rows, 1) // ROW_STEP) * ROW_STEP
        dtype = params.dtype
        self.grad = aligned_zeros(0 if n_slots is None else plan.n_params, dtype)
        n_slots = n_slots or 0
        self.slots = aligned_zeros(n_slots * plan.n_params, dtype).reshape(n_slots, plan.n_params)
        self.work = aligned_zeros(plan.per_sample * self.capacity, dtype)
        self.scratch = aligned_zeros(_scratch(plan, self.capacity), dtype)
        self.row_loss = aligned_zeros(self.capacity, np.float64)
        self.row_hit = aligned_zeros(self.capacity, np.float64)
        self.row_weight = aligned_zeros(self.capacity, np.float64)
        self.penalties = aligned_zeros(plan.widest_penalty, np.float64)
        self.pack = aligned_zeros(0, np.uint8)
        self._pack_address = 0
        self.ran = np.zeros(MOST_PARTS, np.int64)
        self.statuses = np.zeros(MOST_PARTS, np.int64)
        self.ran_on = np.full(MOST_PARTS, -1, np.int64)
        self.bound: dict = {}

    def pack_for(self, parts: int) -> int:
        """The address of room for so many parts to copy panels together; it grows with them."""
        if self.pack.size < parts * PACK_BYTES:
            self.pack = aligned_zeros(parts * PACK_BYTES, np.uint8)
            self._pack_address = self.pack.ctypes.data
        return self._pack_address

    def buffer(self, offset: int, m: int, columns: int) -> np.ndarray:
        """The first m rows of the per-sample buffer at an offset, as a view (m, columns)."""
        start = offset * self.capacity
        return self.work[start : start + m * columns].reshape(m, columns)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays but the parameters."""
        return sum(array.nbytes for array in (self.grad, self.slots, *self.temporary()))

    def temporary(self) -> tuple[np.ndarray, ...]:
        """The arrays whose contents no call may rely on."""
        rows = (self.row_loss, self.row_hit, self.row_weight)
        return (self.work, self.scratch, self.penalties, *rows)


@dataclass
class Data:
    """Rows to run on, converted and checked.

    X is (n, n_inputs), contiguous, of a type in FEATURE_TYPES; engines convert it row by row to
    the network's dtype and multiply it by `scale`. The targets are int32 class numbers in
    `labels`, or values in Y (n, n_outputs), or neither for a forward pass.
    """

    X: np.ndarray
    Y: np.ndarray | None = None
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None  # (n,) float64, at least 0
    order: np.ndarray | None = None
    batch_size: int = 0
    scale: float = 1.0
    hits: str | None = None  # how a row counts as right: "class", "sign", or not at all

    def __post_init__(self):
        self.batch_size = self.batch_size or max(len(self.X), 1)

    def features(self, rows, dtype) -> np.ndarray:
        """Some rows of X in the network's dtype, scaled."""
        x = self.X[rows].astype(dtype, copy=False)
        return x if self.scale == 1 else x * dtype.type(self.scale)

    @property
    def mass(self) -> float:
        """The sum of the weights, or the number of rows."""
        return float(len(self.X) if self.weights is None else self.weights.sum())

    @property
    def n_batches(self) -> int:
        return -(-len(self.X) // self.batch_size)
