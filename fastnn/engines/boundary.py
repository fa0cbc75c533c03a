"""Checks, in Python, of everything that compiled code receives: machine code checks nothing.

A plan and the arrays of its workspace are checked once, when a program is bound to them, and must
not be replaced afterwards; the arrays of a call are checked on every call. A damaged table, or an
array of the wrong type, size or layout, raises an error here instead of causing an out-of-bounds
write.
"""

from __future__ import annotations

import numpy as np

from ..ops import BY_KIND
from ..ops.dense import OPERATION as DENSE
from ..ops.operation import EDGES, Record, is_value
from ..random import Stream
from ..tables import (
    FEATURE_TYPES,
    GROUP,
    HYPER,
    INDEX_TYPES,
    INPUT,
    KC,
    MOST_TURNS,
    NONE,
    OP,
    STORED_TYPES,
)  # fmt: skip
from .csr import CSR

#: Larger sizes are damage: no machine has the memory.
_MOST = 1 << 48

_FEATURE_TYPES = frozenset(FEATURE_TYPES)
_FLOAT64, _INT32, _INT64 = (np.dtype(name) for name in ("float64", "int32", "int64"))


def check_array(array, name: str, dtype, least: int, written: bool = False) -> None:
    """Refuse `array` unless it is contiguous, aligned, of `dtype`, and has `least` elements.

    Raises
    ------
    TypeError
        If it is not an array, or of another dtype.
    ValueError
        If it is too small, strided or misaligned, or is written to but read-only.
    """
    if isinstance(array, np.ndarray) and array.dtype == dtype and array.size >= least:
        flags = array.flags
        if flags.carray if written else flags.c_contiguous and flags.aligned:
            return
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name} must be an array of {np.dtype(dtype)}, not {found}")
    if array.size < least:
        raise ValueError(f"{name} has {array.size} elements, but {least} are needed")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name} must be contiguous and aligned")
    raise ValueError(f"{name} is read-only")


def check_workspace(ws) -> None:
    """Check the arrays of a workspace, and its layout.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_array` and :func:`check_layout`.
    """
    plan, layout, dtype, capacity = ws.plan, ws.layout, ws.params.dtype, ws.capacity
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"params must be float32 or float64, not {dtype}")
    if capacity < 1:
        raise ValueError(f"a workspace needs at least 1 row, not {capacity}")
    check_array(ws.params, "params", dtype, plan.n_params)
    check_array(ws.state, "state", dtype, plan.n_state, written=layout.training)
    check_array(plan.constants, "constants", np.float64, 0)
    check_array(ws.work, "work", dtype, layout.per_sample * capacity, written=True)
    check_array(ws.batch, "batch", np.float64, layout.per_batch, written=True)
    check_array(ws.scratch, "scratch", dtype, layout.scratch, written=True)
    for name in ("row_loss", "row_correct"):
        check_array(getattr(ws, name), name, np.float64, capacity, written=True)
    check_layout(plan, layout, capacity, ws.total_rows)


def check_training(ws, steps: bool) -> None:
    """Check the arrays that a backward pass writes, and if it `steps`, those of the update.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_array`, or if the workspace has no update, or one of another plan.
    """
    n_params, dtype = ws.plan.n_params, ws.params.dtype
    check_array(ws.grad, "grad", dtype, n_params, written=True)
    if not steps:
        return
    if ws.update is None:
        raise ValueError("the workspace has no update, so it cannot take steps")
    check_array(ws.params, "params", dtype, n_params, written=True)
    check_array(ws.slots, "slots", dtype, ws.update.n_slots * n_params, written=True)
    if ws.update.averages:
        check_array(ws.average, "average", dtype, n_params + ws.plan.n_state, written=True)
    check_array(ws.groups, "groups", GROUP, 0)
    end, n_matrices = 0, len(ws.update.matrices)
    groups = ws.groups.tolist()
    for index, (begin, next_end, *factors) in enumerate(groups):
        end = 0 if index == len(groups) - n_matrices else end  # the matrices begin anew
        if not (end <= begin <= next_end <= n_params and np.isfinite(factors).all()):
            raise ValueError(f"the groups of the update do not fit {n_params} parameters")
        end = next_end
    check_matrices(ws, groups[len(groups) - n_matrices :])
    norms = ws.update.per_batch(n_params)
    if norms and not 0 <= ws.layout.norms <= ws.layout.per_batch - norms:
        raise ValueError(f"norms is {ws.layout.norms}, but {norms} numbers are needed there")


def check_matrices(ws, groups) -> None:
    """Check the matrices that Muon orthogonalises, which have these groups.

    Raises
    ------
    ValueError
        If one is no weight matrix of a dense operation, or the scratch space is too small.
    """
    update, ops = ws.update, ws.layout.ops
    if len(groups) != len(update.matrices):
        raise ValueError(f"{len(update.matrices)} matrices of the update have {len(groups)} groups")
    for (index, _), (begin, end, *_) in zip(update.matrices, groups, strict=True):
        op = Record(*ops[index].item()) if 0 <= index < len(ops) else None
        if (
            op is None
            or op.kind != DENSE.kind
            or (op.w, op.n_in * op.n_out) != (begin, end - begin)
        ):
            raise ValueError(
                f"the update's matrix {begin} to {end} is not that of operation {index}"
            )
    if update.matrices and not 1 <= update.turns <= MOST_TURNS:
        raise ValueError(f"the update has {update.turns} Newton-Schulz steps")
    needed = update.scratch(ops)
    if needed > ws.layout.scratch:
        raise ValueError(f"scratch has {ws.layout.scratch} elements, but the update needs {needed}")


def check_layout(plan, layout, capacity: int, rows: int) -> None:
    """Check that every offset of a layout lies within its array.

    Parameters
    ----------
    plan : Plan
    layout : Layout
    capacity : int
        Rows of the largest batch.
    rows : int
        Rows of a batch that runs in pieces, else `capacity`.

    Raises
    ------
    TypeError
        If its table does not have the dtype :data:`fastnn.tables.OP`.
    ValueError
        If a code is unknown, a size is not positive, or an offset is out of range.
    """
    check_array(layout.ops, "the plan's table", OP, 1)
    if layout.ops.ndim != 1:
        raise ValueError("the plan's table must have one dimension")
    # Python's integers: no sum or product of damaged fields can overflow.
    records = [Record(*values) for values in layout.ops.tolist()]
    Door(plan, layout, records, capacity, rows).check()


class Door:
    """The checks of a layout's operations, with the sizes of its spaces."""

    def __init__(self, plan, layout, records: list[Record], capacity: int, rows: int):
        self.plan, self.layout, self.records = plan, layout, records
        self.capacity, self.rows = capacity, rows

    def check(self) -> None:
        plan, layout = self.plan, self.layout
        for name, columns in (
            ("gathered", plan.n_inputs),
            ("targets", plan.n_outputs),
            ("logits", plan.n_outputs),
            ("output", plan.n_outputs),
        ):
            if not 1 <= columns <= _MOST:
                raise ValueError(f"a plan for {columns} columns of {name} is damaged")
            self._within(getattr(layout, name), columns, layout.per_sample, name)
        for index, op in enumerate(self.records):
            try:
                self._operation(index, op)
            except ValueError as error:
                raise ValueError(f"operation {index} of the plan is damaged: {error}") from None
        body = self.records[:-1] if plan.loss is not None else self.records
        if not body or body[-1].n_out != plan.n_outputs:
            raise ValueError(
                f"the plan's last operation does not give its {plan.n_outputs} outputs"
            )

    # -- checks that operations call ----------------------------------------------------------

    def parameter(self, offset: int, size: int, name: str) -> None:
        """Refuse a parameter outside the flat vector."""
        self._within(offset, size, self.plan.n_params, name)

    def state(self, offset: int, size: int, name: str) -> None:
        """Refuse statistics outside the flat state vector."""
        self._within(offset, size, self.plan.n_state, name)

    def per_batch(self, offset: int, size: int) -> None:
        """Refuse sums outside the per-batch space."""
        self._within(offset, size, self.layout.per_batch, "batch")

    def is_head(self, op: Record) -> None:
        """Refuse a loss that is not the last operation, or whose width is not the output's."""
        if op is not self.records[-1] or self.plan.loss is None:
            raise ValueError("it is a loss, but not the last operation")
        if op.n_in != self.plan.n_outputs:
            raise ValueError(f"n_in is {op.n_in}")

    # -- checks of every operation ------------------------------------------------------------

    def _operation(self, index: int, op: Record) -> None:
        home = BY_KIND.get(op.kind)
        if home is None:
            raise ValueError(f"kind is {op.kind}")
        for name in ("n_in", "n_out"):
            if not 1 <= getattr(op, name) <= _MOST:
                raise ValueError(f"{name} is {getattr(op, name)}")
        if op.code not in home.codes:
            raise ValueError(f"code is {op.code}")
        if op.n_in != op.n_out and not home.columns_may_differ:
            raise ValueError(f"it turns {op.n_in} columns into {op.n_out}")
        if op.n_edges != home.n_values:
            raise ValueError(f"it reads {op.n_edges} values instead of {home.n_values}")
        for number in range(op.n_edges):
            self._edge(index, op, number)
        is_head = self.plan.loss is not None and index == len(self.records) - 1
        if not is_head:
            self._buffer(op, "a", op.n_out)
            self._z(op, home)
            if op.da != NONE:
                self._buffer(op, "da", op.n_out)
            elif op.dx != NONE or op.dx2 != NONE:
                raise ValueError("it has a gradient to pass on, but none of its own")
        self._saved(op, home)
        self._scratch(op, home)
        if op.hyper != NONE and not 1 <= op.hyper <= len(self.plan.schedules):
            raise ValueError(f"hyper is {op.hyper}")
        if op.stream != NONE and not Stream.OPERATION <= op.stream < 1 << 32:
            raise ValueError(f"stream is {op.stream}")
        if op.fold != NONE:
            self._fold(index, op, home)
        self._constants(op, home.n_constants(op))
        home.check(op, self)

    def _edge(self, index: int, op: Record, number: int) -> None:
        x, dx, adds, below = op.edge(number)
        names = EDGES[number]
        if not is_value(x):
            raise ValueError(f"{names[0]} is {x}")
        if adds not in (0, 1):
            raise ValueError(f"{names[2]} is {adds}")
        if x == INPUT:
            if op.n_in != self.plan.n_inputs:
                raise ValueError(f"it reads {op.n_in} of {self.plan.n_inputs} inputs")
            if below != NONE or dx != NONE:
                raise ValueError(f"it reads the input, but {names[3]} is {below}")
            return
        if not 0 <= below < index:
            raise ValueError(f"{names[3]} is {below}")
        writer = self.records[below]
        if writer.n_out != op.n_in or writer.a != x:
            raise ValueError(f"it reads {op.n_in} columns that operation {below} does not write")
        self._buffer(op, names[0], op.n_in)
        if dx != NONE:
            self._buffer(op, names[1], op.n_in)
            if writer.da != dx:
                raise ValueError(f"{names[1]} is not the gradient of operation {below}")

    def _z(self, op: Record, home) -> None:
        if op.z == INPUT:
            if op.x != INPUT or not home.z_is_input():
                raise ValueError("z is the input, which it does not read")
        else:
            self._buffer(op, "z", op.n_out)

    def _saved(self, op: Record, home) -> None:
        size = home.saved(op) if self.layout.training and op.da != NONE else 0
        if size:
            self._buffer(op, "saved", size)
        elif op.saved != NONE:
            raise ValueError(f"saved is {op.saved}, but it leaves nothing for a backward pass")

    def _fold(self, index: int, op: Record, home) -> None:
        """Refuse a fold unless an operation and the one above it name each other."""
        if self.layout.training or not 0 <= op.fold < len(self.records):
            raise ValueError(f"fold is {op.fold}")
        other = self.records[op.fold]
        lower, upper = (other, op) if home.folds else (op, other)
        below = op.fold if home.folds else index
        takes, folds = BY_KIND.get(lower.kind), BY_KIND.get(upper.kind)
        if (
            other.fold != index
            or takes is None or not takes.takes_fold(lower)
            or folds is None or not folds.folds
            or upper.below != below or upper.x != lower.a or upper.a != lower.a
        ):  # fmt: skip
            raise ValueError(f"fold is {op.fold}, which cannot be computed together with it")

    def _scratch(self, op: Record, home) -> None:
        if not self.layout.training:
            return
        self._within(0, home.temporary(op, self.capacity), self.layout.scratch, "scratch")
        kept = home.kept(op, self.capacity, self.rows)
        if kept or op.scratch != NONE:
            if not kept:
                raise ValueError(f"scratch is {op.scratch}, but it needs none")
            self._within(op.scratch, kept, self.layout.scratch, "scratch")

    def _constants(self, op: Record, size: int) -> None:
        if size:
            self._within(op.constants, size, self.plan.constants.size, "constants")
        elif op.constants != NONE:
            raise ValueError(f"constants is {op.constants}, but it reads none")

    def _buffer(self, op: Record, name: str, columns: int) -> None:
        self._within(getattr(op, name), columns, self.layout.per_sample, name)

    @staticmethod
    def _within(offset: int, size: int, total: int, name: str) -> None:
        if not 0 <= offset <= total - size:
            raise ValueError(f"{name} is {offset}, with {size} elements of {total}")


def check_data(ws, data, first: int, last: int, needs_targets: bool) -> None:
    """Check the rows that a program will run on, and the range of batches.

    The order's entries, the labels and the indices of a sparse X are checked by the kernels that
    read them.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_array`, or if the shapes do not fit the plan and the workspace.
    """
    X, plan, batch_size = data.X, ws.plan, data.batch_size
    if isinstance(X, CSR):
        check_stored(X)
    elif not isinstance(X, np.ndarray) or X.dtype not in _FEATURE_TYPES:
        raise TypeError(f"X must be an array of one of {[t.name for t in FEATURE_TYPES]}")
    if X.ndim != 2 or X.shape[1] != plan.n_inputs:
        raise ValueError(f"X has the shape {X.shape}, but the plan reads {plan.n_inputs} columns")
    if isinstance(X, np.ndarray) and not (X.flags.c_contiguous and X.flags.aligned):
        raise ValueError("X must be contiguous and aligned")
    n = data.n_rows
    if not batch_size >= 1 or (batch_size > ws.capacity and n > ws.capacity):
        raise ValueError(f"batches of {batch_size} rows in room for {ws.capacity}")
    n_batches = -(-n // batch_size)
    if data.epoch_rows is not None:
        if n % data.rows_of_each:
            raise ValueError(f"{n} rows are no whole number of epochs of {data.epoch_rows}")
        n_batches = data.n_batches
    if not 0 <= first <= last <= n_batches:
        raise ValueError(f"batches {first} to {last} of {n_batches}")
    if data.order is not None:
        check_array(data.order, "order", _INT64, 1)
    if not needs_targets:
        return
    n = len(X)
    if data.labels is not None:
        check_array(data.labels, "labels", _INT32, n)
    else:
        check_array(data.Y, "Y", ws.params.dtype, n * plan.n_outputs)
    if data.weights is not None:
        check_array(data.weights, "weights", _FLOAT64, n)


def check_stored(X: CSR) -> None:
    """Check the arrays of a sparse X, but not what they hold.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_array`.
    """
    values, indices, indptr = X.values, X.indices, X.indptr
    if not isinstance(values, np.ndarray) or values.dtype not in STORED_TYPES:
        raise TypeError(f"the values of X must be one of {[t.name for t in STORED_TYPES]}")
    if not isinstance(indices, np.ndarray) or indices.dtype not in INDEX_TYPES:
        raise TypeError(f"the indices of X must be one of {[t.name for t in INDEX_TYPES]}")
    check_array(values, "the values of X", values.dtype, 0)
    check_array(indices, "the indices of X", indices.dtype, 0)
    check_array(indptr, "indptr of X", indices.dtype, 2)
    if any(array.ndim != 1 for array in (values, indices, indptr)):
        raise ValueError("the arrays of a sparse X must have one dimension")


def check_pieces(ws, data) -> None:
    """Check that the batches of a run can be pieces of one batch.

    Small batches of their own may have any number of rows, and their own statistics.

    Raises
    ------
    ValueError
        If a piece would end within a block of rows that is summed as a whole, an operation needs
        all rows of a batch, or the workspace is for fewer rows.
    """
    in_pieces = data.n_rows > data.batch_size and not data.separate
    if ws.plan.whole_batches and in_pieces:
        raise ValueError(f"{data.n_rows} rows in pieces, but an operation needs all of them")
    if data.batch_size % KC and in_pieces:
        raise ValueError(f"pieces of {data.batch_size} rows: they must be multiples of {KC}")
    if data.n_rows > ws.total_rows:
        raise ValueError(f"{data.n_rows} rows in pieces, in room for {ws.total_rows}")


def check_steps(plan, ws, hyper, n_steps: int, results, n_results: int) -> None:
    """Check `hyper`, (n_steps, columns), and `results`, (n_results, 2), if they are given.

    The columns are those of the workspace's update, if one is given, and of the plan's schedules.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_array`, or if it has too few columns.
    """
    if hyper is not None:
        steps = ws is not None and ws.update is not None
        columns = len(plan.schedules) + (len(HYPER[ws.update.rule]) if steps else 0)
        check_array(hyper, "hyper", _FLOAT64, n_steps * columns)
        if hyper.ndim != 2 or (steps and hyper.shape[1] != columns):
            raise ValueError(f"hyper has the shape {hyper.shape}, but a step has {columns} numbers")
    elif ws is not None:
        raise TypeError("a step needs hyperparameters")
    if results is not None:
        check_array(results, "results", _FLOAT64, n_results * 2, written=True)
