"""What compiled code is given: checked in Python, because machine code checks nothing.

A plan is checked once when a program is bound to it, arrays whenever they are handed over. A table
that was damaged, or an array of another type, size or layout, is an error here and can never
become a write outside of its array.
"""

from __future__ import annotations

import numpy as np

from .tables import (
    FEATURE_TYPES,
    HYPER_COLUMNS,
    INPUT,
    MOST_SLABS,
    NONE,
    ROW,
    SLAB_ROWS,
    Act,
    Loss,
    Op,
)
from .workspace import sums_in_slabs, transposes_gradient

#: Larger sizes than this are damage: products of two are still exact in 128 bits, and no machine
#: has the memory.
_MOST = 1 << 48

_FEATURE_TYPES = frozenset(FEATURE_TYPES)
_FLOAT64, _INT32, _INT64 = (np.dtype(name) for name in ("float64", "int32", "int64"))
_ELEMENTWISE = frozenset(int(act) for act in Act if act != Act.softmax)
_LOSSES = frozenset(int(loss) for loss in Loss)


def check_array(array, name: str, dtype, least: int, written: bool = False) -> None:
    """Refuse what is not a contiguous, aligned array of a type with at least so many elements.

    Raises
    ------
    TypeError
        If it is no array, or of another type.
    ValueError
        If it is too small, strided, misaligned, or to be written to and read-only.
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
    """Check the arrays of a workspace, and its plan.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_array` and :func:`check_plan`.
    """
    plan, dtype, capacity = ws.plan, ws.params.dtype, ws.capacity
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"params must be float32 or float64, not {dtype}")
    if capacity < 1:
        raise ValueError(f"a workspace for {capacity} rows holds nothing")
    check_array(ws.params, "params", dtype, plan.n_params)
    check_array(ws.work, "work", dtype, plan.per_sample * capacity, written=True)
    check_array(ws.scratch, "scratch", dtype, 0, written=True)
    for name in ("row_loss", "row_hit", "row_weight"):
        check_array(getattr(ws, name), name, np.float64, capacity, written=True)
    check_array(ws.penalties, "penalties", np.float64, plan.widest_penalty, written=True)
    check_plan(plan, capacity, ws.scratch.size, ws.penalties.size)


def check_training(ws, n_slots: int | None) -> None:
    """Check the arrays that a backward pass writes, and with slots those of an optimizer's step.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_array`.
    """
    check_array(ws.grad, "grad", ws.params.dtype, ws.plan.n_params, written=True)
    if n_slots is not None:
        check_array(ws.params, "params", ws.params.dtype, ws.plan.n_params, written=True)
        least = n_slots * ws.plan.n_params
        check_array(ws.slots, "slots", ws.params.dtype, least, written=True)


def check_plan(plan, capacity: int, scratch: int, penalties: int) -> None:
    """Check that everything a plan points at lies within its arrays.

    Parameters
    ----------
    plan : Plan
    capacity : int
        Rows of the largest batch.
    scratch, penalties : int
        Elements of the workspace's arrays of these names.

    Raises
    ------
    TypeError
        If its rows are no table of :data:`.tables.ROW`.
    ValueError
        If a code is unknown, a size is not positive, or an offset points outside.
    """
    check_array(plan.rows, "the plan's table", ROW, 1)
    if plan.rows.ndim != 1:
        raise ValueError("the plan's table must have one dimension")
    # Python's own integers: no sum or product of damaged fields can overflow.
    rows = [dict(zip(ROW.names or (), row, strict=True)) for row in plan.rows.tolist()]
    _Plan(plan, rows, capacity, scratch, penalties).check()


class _Plan:
    """The rules for a plan's rows, with what they are measured against."""

    def __init__(self, plan, rows: list[dict], capacity: int, scratch: int, penalties: int):
        self.plan, self.rows, self.capacity = plan, rows, capacity
        self.scratch, self.penalties = scratch, penalties

    def check(self) -> None:
        plan = self.plan
        for name, columns in (
            ("input", plan.n_inputs),
            ("target", plan.n_outputs),
            ("logits", plan.n_outputs),
            ("output", plan.n_outputs),
        ):
            if not 1 <= columns <= _MOST:
                raise ValueError(f"a plan for {columns} columns of {name} is damaged")
            self._within(getattr(plan, name), columns, plan.per_sample, name)
        for index, row in enumerate(self.rows):
            try:
                self._row(index, row)
            except ValueError as error:
                raise ValueError(f"row {index} of the plan is damaged: {error}") from None
        body = self.rows[:-1] if self.rows[-1]["op"] == Op.LOSS else self.rows
        if not body or body[-1]["n_out"] != plan.n_outputs:
            raise ValueError(f"the plan's last row does not give its {plan.n_outputs} outputs")

    def _row(self, index: int, row: dict) -> None:
        for name in ("n_in", "n_out"):
            if not 1 <= row[name] <= _MOST:
                raise ValueError(f"{name} is {row[name]}")
        if not NONE <= row["below"] < index:
            raise ValueError(f"below is {row['below']}")
        below = None if row["below"] == NONE else self.rows[row["below"]]
        if below is not None and below["n_out"] != row["n_in"]:
            raise ValueError(f"it reads {row['n_in']} columns of a row of {below['n_out']}")
        self._buffer(row, "x", row["n_in"], input_too=True)
        if row["dx"] != NONE:
            self._buffer(row, "dx", row["n_in"])
            if below is None:
                raise ValueError("there is no row below that its dx is for")
        if row["op"] == Op.LOSS:
            self._head(index, row)
            return
        if row["op"] not in (Op.DENSE, Op.ACTIVATION, Op.SOFTMAX):
            raise ValueError(f"op is {row['op']}")
        known = {Act.identity} if row["op"] == Op.SOFTMAX else _ELEMENTWISE
        if row["code"] not in known:
            raise ValueError(f"code is {row['code']}")
        self._buffer(row, "a", row["n_out"])
        self._buffer(row, "da", row["n_out"])
        self._buffer(row, "z", row["n_out"], input_too=row["op"] == Op.ACTIVATION)
        if row["op"] == Op.DENSE:
            self._dense(row)
        elif row["n_in"] != row["n_out"]:
            raise ValueError(f"it turns {row['n_in']} columns into {row['n_out']}")

    def _head(self, index: int, row: dict) -> None:
        if index != len(self.rows) - 1:
            raise ValueError("it is a loss head, but not the last row")
        if row["code"] not in _LOSSES:
            raise ValueError(f"code is {row['code']}")
        if row["below"] == NONE or row["dx"] == NONE or row["x"] == INPUT:
            raise ValueError("a loss head needs a row below")
        if row["n_in"] != self.plan.n_outputs:
            raise ValueError(f"n_in is {row['n_in']}")

    def _dense(self, row: dict) -> None:
        n_in, n_out = row["n_in"], row["n_out"]
        self._within(row["w"], n_in * n_out, self.plan.n_params, "w")
        self._within(row["b"], n_out, self.plan.n_params, "b")
        if row["dx"] != NONE:
            by_gradient = transposes_gradient(row, self.capacity)
            size = self.capacity * (n_in + n_out) if by_gradient else n_in * n_out
            self._within(row["scratch"], size, self.scratch, "scratch")
        if sums_in_slabs(row, self.capacity):
            slabs = min(MOST_SLABS, self.capacity // SLAB_ROWS)
            self._within(0, slabs * (n_in + 1) * n_out, self.scratch, "scratch")
        if row["arg1"] or row["arg2"]:
            self._within(0, n_in, self.penalties, "penalties")

    def _buffer(self, row: dict, name: str, columns: int, input_too: bool = False) -> None:
        if input_too and row[name] == INPUT:
            if columns != self.plan.n_inputs:
                raise ValueError(f"it reads {columns} of {self.plan.n_inputs} inputs")
            return
        self._within(row[name], columns, self.plan.per_sample, name)

    @staticmethod
    def _within(offset: int, size: int, total: int, name: str) -> None:
        if not 0 <= offset <= total - size:
            raise ValueError(f"{name} is {offset}, with {size} elements of {total}")


def check_data(ws, data, first: int, last: int, needs_targets: bool) -> None:
    """Check the rows that a program will run on, and that there are the batches of a range.

    The order's entries and the labels are checked where the C engine reads them.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_array`, or if the shapes do not fit the plan and the workspace.
    """
    X, plan, batch_size = data.X, ws.plan, data.batch_size
    if not isinstance(X, np.ndarray) or X.dtype not in _FEATURE_TYPES:
        raise TypeError(f"X must be an array of one of {[t.name for t in FEATURE_TYPES]}")
    if X.ndim != 2 or X.shape[1] != plan.n_inputs:
        raise ValueError(f"X has the shape {X.shape}, but the plan reads {plan.n_inputs} columns")
    if not X.flags.c_contiguous or not X.flags.aligned:
        raise ValueError("X must be contiguous and aligned")
    n = X.shape[0]
    if not batch_size >= 1 or (batch_size > ws.capacity and n > ws.capacity):
        raise ValueError(f"batches of {batch_size} rows in room for {ws.capacity}")
    if not 0 <= first <= last <= -(-n // batch_size):
        raise ValueError(f"batches {first} to {last} of {-(-n // batch_size)}")
    if data.order is not None:
        check_array(data.order, "order", _INT64, n)
    if not needs_targets:
        return
    if data.labels is not None:
        check_array(data.labels, "labels", _INT32, n)
    else:
        check_array(data.Y, "Y", ws.params.dtype, n * plan.n_outputs)
    if data.weights is not None:
        check_array(data.weights, "weights", _FLOAT64, n)


def check_steps(hyper, results, steps: int) -> None:
    """Check the arrays with a row for each step, where they are given.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_array`.
    """
    if hyper is not None:
        check_array(hyper, "hyper", _FLOAT64, steps * HYPER_COLUMNS)
    if results is not None:
        check_array(results, "results", _FLOAT64, steps * 2, written=True)
