"""The programs of the compiled engines: the calls of a layout, and how threads share them.

    train      gather, targets, forward, loss, sums, backward, statistics, step   (one minibatch)
    gradient   gather, targets, forward, loss, sums, backward
               and statistics, if its pieces are small batches of their own
    evaluate   gather, prepare, targets, forward, loss, sums
    predict    gather, prepare, forward, store
    update     step

Statistics are those that run over the batches; a step is the optimizer's and then what operations
change besides, such as norms.

Every thread runs its parts of all calls. The calls say what they read and write; from that follows
before which of them the threads must meet, and how much memory crosses between their cores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import numpy as np

from ..ops import BY_KIND
from ..ops.operation import CORRECT, EXP, MOVE, Access, Call
from ..tables import NONE, Rule, Split
from . import threads
from .tuning import Tuner

#: Multiply-adds of a batch for each thread with which measuring begins.
GUESS = 5_000_000.0

#: Cost of an element that is gathered from a shuffled row, in multiply-adds.
_GATHER = 16.0

#: Cost of a parameter in an optimizer step, in multiply-adds; most have a root and a division.
_STEP = {
    Rule.sgd: 8.0, Rule.momentum: 12.0, Rule.nesterov: 12.0, Rule.adam: 40.0, Rule.amsgrad: 45.0,
    Rule.adagrad: 38.0, Rule.rmsprop: 38.0, Rule.rmsprop_momentum: 40.0,
    Rule.rmsprop_centered: 40.0, Rule.rmsprop_centered_momentum: 45.0, Rule.nadam: 40.0,
    Rule.adadelta: 55.0, Rule.radam: 40.0, Rule.lion: 12.0, Rule.muon: 40.0,
}  # fmt: skip
#: The same for a parameter in an average.
_AVERAGE = 12.0

#: A product is split by columns if each part gets _LEAST_WIDTH columns and the weights have _MORE
#: times the elements of the values that are read and written; or if it gets _WIDE columns, which
#: lose nothing at the edges, and they have _LESS; or if it would get fewer than _ROWS_OF_PART rows.
_LEAST_WIDTH, _MORE, _WIDE, _LESS, _ROWS_OF_PART = 32, 1.2, 96, 0.4, 8

#: For how many sizes of a batch a program keeps tuners and tables: a prediction may have any.
_MOST_SIZES = 64

#: The newest tuner for batches of so much work, with whose number of threads the next one begins: a
#: search trains many networks of one shape, each for a moment.
_LAST_TUNERS: dict[tuple[float, float, int, int], Tuner] = {}
_MOST_ALIKE = 256

_STORE_KERNELS = {
    "logits": "store_output",
    "output": "store_output",
    "sigmoid": "store_sigmoid",
    "softmax": "store_softmax",
    "exp": "store_exp",
    "mean_variance": "store_mean_variance",
}


class Task(Enum):
    """What a program is for."""

    TRAIN = "train"
    GRADIENT = "gradient"
    EVALUATE = "evaluate"
    PREDICT = "predict"
    UPDATE = "update"


class Variant(NamedTuple):
    """What a program depends on besides the layout.

    Attributes
    ----------
    task : Task
    features : dtype or None
        The dtype of X if batches are gathered; None if they are read in place.
    weighted : bool
        Whether rows have weights.
    metric : str or None
        How accuracy is counted: "class", "sign" or None.
    function : str or None
        What a forward pass stores.
    separate : bool
        Whether the pieces of a gradient are small batches of their own.
    indices : dtype or None
        The dtype of the indices of a sparse X.
    """

    task: Task
    features: np.dtype | None = None
    weighted: bool = False
    metric: str | None = None
    function: str | None = None
    separate: bool = False
    indices: np.dtype | None = None


def calls_of(ws, variant: Variant) -> Iterator[Call]:
    """The calls of a program for a workspace, in order."""
    plan, table = ws.plan, ws.table
    needs = None if ws.update is None else ws.update.needs
    homes = [BY_KIND[record.kind] for record in table.records]
    body = range(len(table) - (plan.loss is not None))
    if variant.task is Task.UPDATE:
        yield from _step(ws, homes)
        return
    gathered = table.value(table.gathered, plan.n_inputs)
    targets = table.value(table.targets, plan.n_outputs)
    if variant.features is not None:
        yield _gather(variant, plan.n_inputs, gathered)
    if not table.training:
        for index in body:
            yield from homes[index].prepare(table, index)
    if variant.task is Task.PREDICT:
        for index in body:
            yield from homes[index].forward(table, index)
        kernel, cost = _STORE_KERNELS[variant.function or ""], EXP * plan.n_outputs
        output = ws.layout.output if variant.function == "output" else ws.layout.logits
        reads = (table.value(output, plan.n_outputs),)
        yield Call(kernel, None, 0, 0.0, cost, reads=reads)
        return
    yield Call("gather_targets", None, 0, 0.0, MOVE * plan.n_outputs, writes=(targets,))
    if variant.weighted:
        yield Call("sum_weights", None, 0, 0.0, 0.0, Split.each)
    for index, home in enumerate(homes):
        yield from home.forward(table, index)
    if variant.metric:
        logits = table.value(ws.layout.logits, plan.n_outputs)
        yield Call(
            f"mark_correct_by_{variant.metric}", None, 0, 0.0, MOVE * plan.n_outputs,
            reads=(logits, targets), writes=(CORRECT,),
        )  # fmt: skip
    for index in (len(table) - 1, *body):
        yield from homes[index].penalty(table, index)
    if variant.task is Task.EVALUATE:
        return
    for index in reversed(body):
        if table[index].da != NONE:
            yield from filter(needs, homes[index].backward(table, index))
    if variant.task is Task.TRAIN or variant.separate:
        for index in body:
            yield from filter(needs, homes[index].after_batch(table, index))
    if variant.task is Task.TRAIN:
        yield from _step(ws, homes)


def _gather(variant: Variant, n_inputs: int, gathered: Access) -> Call:
    """The call that makes a batch of rows of X."""
    assert variant.features is not None
    name, cost = f"gather_{variant.features.name}", _GATHER * n_inputs
    if variant.indices is not None:
        # Few elements are stored, whose number is not known here; the others are set to 0.
        name = f"gather_sparse_{variant.features.name}_{variant.indices.name}"
        cost = MOVE * n_inputs
    return Call(name, None, 0, 0.0, cost, writes=(gathered,))


def _step(ws, homes) -> Iterator[Call]:
    plan, update = ws.plan, ws.update
    yield from _clip(ws)
    rule = Rule.adam if update.rule == Rule.muon else update.rule
    if update.groups:
        yield _blocks(rule.name, ws, _STEP[update.rule], ("grad",), ("params", "slots"))
    for index, _ in update.matrices:
        yield from _orthogonalised(ws, index)
    for index, home in enumerate(homes):
        yield from filter(update.needs, home.after_step(ws.table, index))
    if update.averages:
        found = (Access("params", 0, plan.n_params), Access("state", 0, plan.n_state))
        average = (Access("average", 0, plan.n_params + plan.n_state),)
        cost = _AVERAGE * plan.n_params
        yield Call("average", None, 0, cost, 0.0, Split.blocks, (*found, *average), average)


def _orthogonalised(ws, index: int) -> Iterator[Call]:
    """The calls of Muon for the weight matrix of an operation."""
    op, norms = ws.table[index], ws.layout.norms
    size, n = op.n_in * op.n_out, min(op.n_in, op.n_out)
    weights, gradient, slots = (
        Access(space, op.w, op.w + size) for space in ("params", "grad", "slots")
    )
    sums = Access("batch", norms, norms + ws.update.per_batch(ws.plan.n_params))
    *pair, gram, factor = (
        Access("scratch", *range_) for range_ in ws.update.buffers(op.n_in, op.n_out)
    )

    def call(kernel, cost, reads, writes, back=False):
        name = f"muon_{kernel}_back" if back else f"muon_{kernel}"
        return Call(name, None, index, float(cost), 0.0, Split.blocks, reads, writes)

    first = pair[op.n_in < op.n_out]  # the direction as it is, or the one to transpose
    yield call("momentum", MOVE * size, (gradient, slots), (slots, first, sums))
    yield call("start", MOVE * size, (first, sums), (first, pair[0]))
    back = False
    for _ in range(ws.update.turns):
        y, other = pair[back], pair[not back]
        yield call("gram", size * n / 2, (y,), (gram,), back)
        yield call("factor", n * n * n / 2, (gram,), (factor,))
        yield call("turn", size * n, (y, factor), (other,), back)
        back = not back
    yield call("apply", 2 * MOVE * size, (weights, slots, pair[back]), (weights, slots), back)


def _clip(ws) -> Iterator[Call]:
    """The calls that limit the gradient."""
    if ws.update.clips == "norm":
        at = ws.layout.norms
        norms = Access("batch", at, at + ws.update.per_batch(ws.plan.n_params))
        whole = Access("grad", 0, ws.plan.n_params)
        cost = MOVE * ws.plan.n_params
        yield Call("square_sums", None, 0, cost, 0.0, Split.blocks, (whole,), (norms,))
        call = _blocks("clip_norm", ws, MOVE, ("grad",), ("grad",))
        yield call._replace(reads=(*call.reads, norms))
    elif ws.update.clips == "value":
        yield _blocks("clip_value", ws, MOVE, ("grad",), ("grad",))


def _blocks(kernel: str, ws, cost: float, reads, writes) -> Call:
    """A call that goes over whole vectors, of which every part has the same share as in others."""
    whole = {
        space: Access(space, 0, ws.plan.n_params, (Split.blocks,)) for space in (*reads, *writes)
    }
    return Call(
        kernel, None, 0, cost * ws.plan.n_params, 0.0, Split.blocks,
        tuple(whole[space] for space in reads), tuple(whole[space] for space in writes),
    )  # fmt: skip


def meetings(calls: list[Call]) -> list[bool]:
    """Before which calls the threads meet: those that conflict with one since the last meeting.

    Batch follows batch, so the first calls may conflict with the last ones.
    """
    meets = [False] * len(calls)
    since: list[Call] = []
    for _ in range(2):
        for index, call in enumerate(calls):
            if meets[index] or any(call.conflicts(before) for before in since):
                meets[index] = True
                since.clear()
            since.append(call)
    return meets


class Program:
    """A list of calls, and its tables of entries for each number of parts.

    Attributes
    ----------
    calls : list of Call
    n_calls : int
    """

    def __init__(self, calls: list[Call], table: np.ndarray):
        self.calls = calls
        self.n_calls = len(calls)
        self._fixed = sum(call.fixed for call in calls)
        self._per_row = sum(call.per_row for call in calls)
        table["split"] = [call.split for call in calls]
        self._table = table
        self._address = table.ctypes.data
        self._tables: dict[tuple[Split, ...], np.ndarray] = {}
        self._addresses: dict[tuple[int, int], int] = {}
        self._tuners: dict[tuple[int, int], Tuner] = {}

    def only(self, accepts) -> Program:
        """The calls that a function accepts, as a program of their own: for timing."""
        wanted = [bool(accepts(call)) for call in self.calls]
        calls = [call for call, keep in zip(self.calls, wanted, strict=True) if keep]
        return Program(calls, self._table[wanted])

    def work(self, rows: int) -> float:
        """Multiply-adds of a batch."""
        return self._fixed + self._per_row * rows

    def tuner(self, rows: int, limit: int) -> Tuner:
        """Chooses the number of threads for batches of so many rows."""
        tuner = self._tuners.get((rows, limit))
        if tuner is None:
            if len(self._tuners) >= _MOST_SIZES:
                self._tuners.clear()
            alike = self._fixed, self._per_row, rows, limit
            last = _LAST_TUNERS.pop(alike, None)  # the newest ones come last
            if last is None:
                guess = min(int(self.work(rows) / GUESS), threads.cpu_count())
            else:
                guess = last.threads
            tuner = self._tuners[rows, limit] = _LAST_TUNERS[alike] = Tuner(limit, guess)
            if len(_LAST_TUNERS) > _MOST_ALIKE:
                with contextlib.suppress(KeyError, RuntimeError):  # other threads do so, too
                    del _LAST_TUNERS[next(iter(_LAST_TUNERS))]
        return tuner

    def split_for(self, parts: int, rows: int) -> list[Call]:
        """The calls with the splits that suit so many parts of so many rows."""
        return [_with_split(call, parts, rows) for call in self.calls]

    def address(self, parts: int, rows: int) -> int:
        """The address of the table for so many parts of a batch of so many rows."""
        if parts == 1:
            return self._address
        known = self._addresses.get((parts, rows))
        if known is not None:
            return known
        calls = self.split_for(parts, rows)
        splits = tuple(call.split for call in calls)
        if splits not in self._tables:
            table = self._tables[splits] = self._table.copy()
            table["split"], table["meets"] = splits, meetings(calls)
        if len(self._addresses) >= _MOST_SIZES:
            self._addresses.clear()
        address = self._addresses[parts, rows] = self._tables[splits].ctypes.data
        return address


class Crossing(NamedTuple):
    """Cache lines that one call moves between cores, all parts together.

    Attributes
    ----------
    reads : float
        Lines read that another part wrote.
    writes : float
        Lines written that another part has read or written since: each must first be taken back,
        which costs most.
    """

    reads: float
    writes: float


def crossings(calls: list[Call], parts: int, rows: int, itemsize: int) -> list[Crossing]:
    """What crosses in each call, batch after batch, if no line is evicted.

    Parts that share a range in blocks are taken to share it alike in all calls.
    """
    found = []
    owners: dict[Access, tuple] = {}  # how a range was last written, and whether others read it
    for turn in range(2):
        for call in calls:
            reads = writes = 0.0
            for access in call.reads:
                if access in call.writes:
                    continue
                key, share = _key(access), _share(access, call.split)
                written, _ = owners.get(key, (None, False))
                if written is None:
                    continue
                lines = _lines(access, rows, itemsize)
                if share == "all":
                    reads += lines * (parts - 1)
                elif share != written:
                    reads += lines * (parts - 1) / parts
                if share != written:
                    owners[key] = written, True
            for access in call.writes:
                key, share = _key(access), _share(access, call.split)
                written, was_read = owners.get(key, (share, False))
                if was_read or written != share:
                    writes += _lines(access, rows, itemsize)
                owners[key] = share, False
            if turn:
                found.append(Crossing(reads, writes))
    return found


def _key(access: Access) -> Access:
    return access._replace(own=())


def _with_split(call: Call, parts: int, rows: int) -> Call:
    """The call, split by columns if that moves less memory between cores, or if rows are few.

    By rows, every part reads all weights, and each step takes them back to write them. By columns
    it is the values read and written that cross.
    """
    if not call.columns:
        return call
    weights, columns = call.per_row, call.columns
    values = rows * (columns + weights / columns)
    narrow = columns < _WIDE * parts
    less = weights > (_MORE if narrow else _LESS) * values and columns >= _LEAST_WIDTH * parts
    few = call.split == Split.rows and rows < _ROWS_OF_PART * parts
    return call._replace(split=Split.columns) if less or few else call


def _share(access: Access, split: Split) -> str:
    """Who touches a range: every part its share ("rows", "columns", "blocks"), one, or all."""
    if split in access.own or split == Split.alone:
        return split.name
    writes_blocks = access.space in ("params", "slots", "grad") and split == Split.blocks
    return "blocks" if writes_blocks else "all"


def _lines(access: Access, rows: int, itemsize: int) -> float:
    size = access.end - access.begin
    if access.space in ("losses", "correct"):
        return size * rows * 8 / 64
    if access.space in ("batch", "result"):
        return size * 8 / 64
    return size * itemsize * (rows if access.space == "value" else 1) / 64
