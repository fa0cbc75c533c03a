"""What the compiled engines share: binding a plan to addresses, and calling the driver.

A compiled engine is a function from names of leaves to addresses, and a driver at one of them.
Binding turns the rows of a plan into programs, lists of calls:

    train     gather, targets, forward, loss, sums, backward, update     (one minibatch step)
    gradient  targets, forward, loss, sums, backward
    evaluate  targets, forward, loss, sums
    predict   forward, store

The bound tables hold addresses of this process and live in ``Workspace.bound``, never in a file.
"""

from __future__ import annotations

import ctypes
import struct

import numpy as np

from ..errors import EngineError
from . import boundary, threads
from .tables import (
    CALL,
    CALL_FIELDS,
    CONTEXT,
    FEW_OUTPUTS,
    MOST_COLUMNS,
    MOST_PARTS,
    MOST_SLABS,
    NONE,
    SLOTS,
    Act,
    Loss,
    Op,
    Rule,
    Status,
)
from .workspace import Data, sums_in_slabs, transposes_gradient

#: Arithmetic operations that are worth a part: about 30 us of one core's work.
GRAIN = 600_000.0

# Rough costs of an element in multiply-adds: where it is moved, brought from a shuffled row, or
# goes through an exponential.
_MOVE, _GATHER, _EXP = 2.0, 16.0, 60.0

# Those of a parameter in an optimizer's step; Adam has a root and a quotient.
_STEP = {Rule.sgd: 8.0, Rule.momentum: 12.0, Rule.nesterov: 12.0, Rule.adam: 40.0}

# That of bringing a weight from the third cache, which is all that few rows wait for.
_FETCH = 4.0

_LOSS_LEAVES = {
    Loss.mse: "squared_error",
    Loss.sse: "squared_error",
    Loss.binary_cross_entropy: "binary_cross_entropy",
    Loss.cross_entropy: "cross_entropy",
}
_STORE_LEAVES = {
    "logits": "store_output",
    "output": "store_output",
    "sigmoid": "store_sigmoid",
    "softmax": "store_softmax",
}
_HIT_LEAVES = {"class": "mark_hits_by_class", "sign": "mark_hits_by_sign"}
_DRIVER = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3)


class CompiledEngine:
    """An engine whose leaves are machine code.

    Parameters
    ----------
    name : str
        The engine's public name.
    address : callable
        ``address(leaf, dtype)`` gives the address of a compiled function.
    launch : callable
        ``launch(dtype, n_threads)`` is a context manager; within it so many threads are ready,
        and it gives the address of the parallel launcher, or 0 where a plain loop must do.
    """

    def __init__(self, name, address, launch):
        self.name = name
        self._address = address
        self._launch = launch

    # -- the engine's functions; reference.py has the same ------------------------------------

    def forward(self, ws, data, out, function="logits"):
        """Write the outputs of all rows into `out`, which is (n, n_outputs).

        `function` is "logits", "output" (after the last activation), or "sigmoid" or "softmax"
        of the logits.
        """
        few = ws.bound.get((self.name, function))
        if few is not None and few.take(data):
            few.forward(ws, data.X, out)
            return

        def calls():
            yield from _gather_calls(ws, data)
            yield from _forward_calls(ws.plan)
            yield _STORE_LEAVES[function], None, 0, 0.0, _EXP * ws.plan.n_outputs

        boundary.check_array(
            out, "out", ws.params.dtype, len(data.X) * ws.plan.n_outputs, written=True
        )
        source = ws.plan.output if function == "output" else ws.plan.logits
        gathers, dtype = _feed(ws, data)
        key = "predict", function, gathers, dtype
        self._drive(ws, key, calls, data, 0, data.n_batches, out=out, source=source)
        if few is None and not gathers:
            program, context = ws.bound[self.name, key], ws.bound[self.name]
            ws.bound[self.name, function] = _FewRows(ws, program, context, source)

    def evaluate(self, ws, data):
        """(sum of the rows' losses, number of hits) over all rows; NaN if it is not finite."""
        results = np.zeros((data.n_batches, 2))

        def calls():
            yield from _to_loss(ws, data)

        status = self._drive(
            ws, ("evaluate", *_kind(ws, data)), calls, data, 0, data.n_batches, results=results
        )
        loss, hits = results.sum(axis=0)
        return (np.nan if status else loss), hits

    def loss_and_grad(self, ws, data):
        """The sum of the rows' losses of one batch; leaves the gradient in ws.grad."""
        results = np.zeros((1, 2))

        def calls():
            yield from _to_loss(ws, data)
            yield from _backward_calls(ws.plan, ws.capacity)

        if self._drive(ws, ("gradient", *_kind(ws, data)), calls, data, 0, 1, results=results):
            ws.grad.fill(np.nan)
        return results[0, 0]

    def update(self, ws, rule, hyper):
        """One optimizer step from ws.grad, with the hyperparameters of that step."""

        def calls():
            yield _update(ws.plan, rule)

        self._drive(ws, ("update", rule), calls, None, 0, 1, hyper=hyper)

    def run_batches(self, ws, data, rule, hyper, results, first, last):
        """Train on the minibatches first, ..., last-1 of an epoch.

        hyper is (last - first, HYPER_COLUMNS); results, (last - first, 2), takes each batch's
        sum of losses and number of hits. Returns how many batches were trained on: fewer than
        asked for only where the loss of the next one is not finite.
        """

        def calls():
            yield from _to_loss(ws, data)
            yield from _backward_calls(ws.plan, ws.capacity)
            yield _update(ws.plan, rule)

        key = ("train", *_kind(ws, data), rule)
        if self._drive(ws, key, calls, data, first, last, hyper=hyper, results=results):
            return ws.bound[self.name]["start"] // data.batch_size - first
        return last - first

    # -- binding and calling ------------------------------------------------------------------

    def _drive(
        self, ws, key, calls, data, first, last, hyper=None, results=None, out=None, source=None
    ):  # fmt: skip
        """Fill the context and run a program; the status is OK or NOT_FINITE."""
        if data is not None:
            boundary.check_data(ws, data, first, last, key[0] != "predict")
        if hyper is not None or results is not None:
            boundary.check_steps(hyper, results, last - first)
        bound = ws.bound.get((self.name, key)) or self._bind(ws, key, calls)
        context = ws.bound.get(self.name) or self._context(ws)
        rows = min(data.batch_size, len(data.X)) if data else 1
        parts = n_threads = 1
        if bound.most_work(rows) >= 2 * GRAIN:
            n_threads = threads.get_num_threads()
            parts = min(PARTS or n_threads, MOST_PARTS)
        pack, source = ws.pack_for(parts), ws.plan.logits if source is None else source
        data = data or _NO_DATA
        context.begin_call(
            _address(hyper), _address(results), _address(data.X), _address(data.Y),
            _address(data.labels), _address(data.weights), _address(data.order), _address(out),
            source, len(data.X), data.batch_size, _feed(ws, data)[0], data.scale, pack,
            0, parts, GRAIN,
        )  # fmt: skip
        if parts > 1:
            with self._launch(ws.params.dtype, n_threads) as launch:
                context.set(launch=launch)
                status = context.drive(context.address, *bound.call, first, last)
        else:
            status = context.drive(context.address, *bound.call, first, last)
        if status not in _EXPECTED:
            raise EngineError(f"the {self.name} engine stopped with status {status} in {key}")
        return status

    def _context(self, ws) -> _Context:
        """The context of a workspace, with all that stays the same."""
        dtype = ws.params.dtype
        context = _Context(_DRIVER(self._address("drive", dtype)))
        context.set(
            rows=ws.plan.rows, params=ws.params, grad=ws.grad, slots=ws.slots,
            n_params=ws.plan.n_params, work=ws.work, capacity=ws.capacity, gather=ws.plan.input,
            target=ws.plan.target, scratch=ws.scratch, row_loss=ws.row_loss, row_hit=ws.row_hit,
            row_weight=ws.row_weight, penalties=ws.penalties, ran=ws.ran, ran_on=ws.ran_on,
            statuses=ws.statuses, n_inputs=ws.plan.n_inputs, n_outputs=ws.plan.n_outputs,
            mean=int(ws.plan.mean), one=_ones[dtype], zeros=_zeros[dtype],
            product=self._address("product", dtype),
        )  # fmt: skip
        ws.bound[self.name] = context
        return context

    def _bind(self, ws, key, calls) -> _Program:
        """The calls with the addresses of this process, kept with the workspace."""
        boundary.check_workspace(ws)
        if key[0] in ("train", "gradient", "update"):
            boundary.check_training(ws, None if key[0] == "gradient" else SLOTS[key[-1]])
        if key[0] in ("train", "gradient", "evaluate") and ws.plan.rows[-1]["op"] != Op.LOSS:
            raise ValueError("the plan has no loss")
        dtype = ws.params.dtype
        entries = list(calls())
        table = np.zeros(len(entries), CALL)
        for entry, (leaf, inner, row, fixed, per_row) in zip(table, entries, strict=True):
            entry["leaf"] = self._address(leaf, dtype)
            entry["inner"] = self._address(inner, dtype) if inner else 0
            entry["row"], entry["fixed"], entry["per_row"] = row, fixed, per_row
        program = _Program(table)
        ws.bound[self.name, key] = program
        return program


class _Program:
    """A table of calls, and the costs that decide whether any of them is worth splitting."""

    def __init__(self, table: np.ndarray):
        self.table = table
        self.call = (table.ctypes.data, len(table))
        self._costs = [(float(entry["fixed"]), float(entry["per_row"])) for entry in table]
        self._most_work: dict[int, float] = {}

    def most_work(self, rows: int) -> float:
        """Arithmetic operations of the largest call with so many rows of a batch."""
        known = self._most_work.get(rows)
        if known is None:
            known = max(fixed + per_row * rows for fixed, per_row in self._costs)
            self._most_work = {rows: known}
        return known


class _Context:
    """A record of CONTEXT whose fields are set by name, arrays as their addresses."""

    def __init__(self, drive):
        self.drive = drive
        self._record = np.zeros(1, CONTEXT)
        self.address = self._record.ctypes.data
        self._memory = self._record.view(np.uint8).data

    def set(self, **values) -> None:
        for name, value in values.items():
            self._record[name] = _address(value) if isinstance(value, np.ndarray) else value

    def begin_call(self, *values) -> None:
        """Set all of CALL_FIELDS, which takes a tenth of the time of one by one."""
        _CALL.pack_into(self._memory, _CALL_PLACE, *values)

    def __getitem__(self, name: str) -> int:
        return int(self._record[0][name])


class _FewRows:
    """The forward pass of a few rows in one part, through buffers whose addresses are known.

    To ask an array for its address takes as long as a small network.
    """

    def __init__(self, ws, program: _Program, context: _Context, source: int):
        dtype = ws.params.dtype
        self._X = np.zeros((_FEW_ROWS, ws.plan.n_inputs), dtype)
        self._out = np.zeros((_FEW_ROWS, ws.plan.n_outputs), dtype)
        self._program, self._context = program, context
        self._addresses = _address(self._X), 0, 0, 0, 0, _address(self._out), source
        self._most = _FEW_ROWS if program.most_work(_FEW_ROWS) < 2 * GRAIN else 0

    def take(self, data: Data) -> bool:
        """Whether the rows are few enough, and need no conversion."""
        X = data.X
        return len(X) <= self._most and X.dtype == self._X.dtype and data.scale == 1

    def forward(self, ws, X: np.ndarray, out: np.ndarray) -> None:
        m, context = len(X), self._context
        self._X[:m] = X
        context.begin_call(0, 0, *self._addresses, m, m, 0, 1.0, ws.pack_for(1), 0, 1, GRAIN)
        context.drive(context.address, *self._program.call, 0, 1)
        out[:] = self._out[:m]


def _address(array: np.ndarray | None) -> int:
    if array is None:
        return 0
    try:
        # A third of the time of the other way. (An array is a buffer, which mypy cannot know.)
        return ctypes.addressof(_BYTE.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, or empty
        return array.__array_interface__["data"][0]


_BYTE = ctypes.c_char


_CALL = struct.Struct("=" + "".join("d" if CONTEXT[f] == np.float64 else "q" for f in CALL_FIELDS))
_CALL_PLACE = (CONTEXT.names or ()).index(CALL_FIELDS[0]) * 8

_EXPECTED = (Status.OK, Status.NOT_FINITE)


#: Most rows that :class:`_FewRows` takes.
_FEW_ROWS = 16

#: Parts of every call, whatever the number of threads; None lets the threads decide.
PARTS: int | None = None

_NO_DATA = Data(np.zeros((1, 1), np.float32), batch_size=1)

_ones = {np.dtype(t): np.ones(1, t) for t in (np.float32, np.float64)}
_zeros = {np.dtype(t): np.zeros(MOST_COLUMNS, t) for t in (np.float32, np.float64)}


# A call is (leaf, inner, row, fixed cost, cost per row of the batch).


def _feed(ws, data):
    """Whether batches are gathered, and the type that they are gathered from."""
    gathers = data.order is not None or data.X.dtype != ws.params.dtype or data.scale != 1
    return gathers, data.X.dtype


def _kind(ws, data):
    """What a program depends on besides the plan."""
    return data.hits, data.weights is not None, *_feed(ws, data)


def _gather_calls(ws, data):
    gathers, dtype = _feed(ws, data)
    if gathers:
        yield f"gather_{dtype.name}", None, 0, 0.0, _GATHER * ws.plan.n_inputs


def _to_loss(ws, data):
    plan = ws.plan
    yield from _gather_calls(ws, data)
    yield "gather_targets", None, 0, 0.0, _MOVE * plan.n_outputs
    if data.weights is not None:
        yield "gather_weights", None, 0, 0.0, 0.0
    yield from _forward_calls(plan)
    index = len(plan.rows) - 1
    head = plan.rows[index]
    n = float(head["n_in"])
    yield _LOSS_LEAVES[Loss(head["code"])], _slope(plan, head), index, 0.0, _EXP * n
    if data.hits:
        yield _HIT_LEAVES[data.hits], None, index, 0.0, _MOVE * n
    yield "sum_rows", None, index, 0.0, 0.0
    for index, row in enumerate(plan.rows):
        if row["op"] == Op.DENSE and (row["arg1"] or row["arg2"]):
            yield "penalise", None, index, _MOVE * float(row["n_in"] * row["n_out"]), 0.0
            yield "add_penalty", None, index, 0.0, 0.0


def _forward_calls(plan):
    for index, row in enumerate(plan.rows):
        n = float(row["n_out"])
        inner = Act(row["code"]).name if row["code"] != Act.identity else None
        if row["op"] == Op.DENSE:
            leaf = "narrow_forward" if n <= FEW_OUTPUTS else "dense_forward"
            size = row["n_in"] * n
            yield leaf, inner, index, _FETCH * size, size
        elif row["op"] == Op.ACTIVATION:
            yield "activation_forward", inner, index, 0.0, _EXP * n
        elif row["op"] == Op.SOFTMAX:
            yield "softmax_forward", None, index, 0.0, _EXP * n


_INPUT_LEAVES = {
    Op.DENSE: "dense_inputs",
    Op.ACTIVATION: "activation_inputs",
    Op.SOFTMAX: "softmax_inputs",
}


def _backward_calls(plan, capacity):
    for index in range(len(plan.rows) - 2, -1, -1):
        row = plan.rows[index]
        size = float(row["n_out"])
        if row["op"] == Op.DENSE:
            leaf = "narrow_weights" if size <= FEW_OUTPUTS else "dense_weights"
            size *= row["n_in"]
            if sums_in_slabs(row, capacity):
                yield "slab_weights", None, index, 0.0, size
                yield "add_slabs", None, index, _MOVE * MOST_SLABS * size, 0.0
            else:
                yield leaf, None, index, 0.0, size
        if row["dx"] == NONE:
            break
        leaf = _INPUT_LEAVES[Op(row["op"])]
        if row["op"] == Op.DENSE:
            if transposes_gradient(row, capacity):
                yield "transpose_gradient", None, index, 0.0, _MOVE * float(row["n_out"])
                leaf = "dense_inputs_transposed"
            else:
                yield "transpose_weights", None, index, _MOVE * size, 0.0
        yield leaf, _slope(plan, row), index, 0.0, size


def _slope(plan, row):
    """The epilogue that turns the gradient written by a row into the dz of the row below."""
    below = plan.rows[row["below"]]
    return f"{Act(below['code']).name}_slope" if below["code"] != Act.identity else None


def _update(plan, rule):
    return Rule(rule).name, None, 0, _STEP[rule] * plan.n_params, 0.0
