"""The code that the compiled engines share: binding a plan to addresses, calling the driver.

A compiled engine maps names of kernels to addresses; one of the functions is the driver. Binding
turns the calls of a program (:mod:`.program`) into a table of addresses of this process, which
lives in ``Workspace.programs``, never in a file.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from .. import random
from ..errors import EngineError
from ..tables import CALL, CALL_FIELDS, CONTEXT, MAX_NC, MOST_PARTS, NONE, Status
from . import boundary, compilation, threads
from .csr import CSR
from .images import ImageFunctions
from .program import GUESS, Program, Task, Variant, calls_of
from .user_loss import UserLoss
from .workspace import Data, Steps

#: Multiply-adds of a batch below which more threads cannot help on any machine: about 2 us, in
#: which the threads would meet several times.
LEAST_WORK = 100_000.0

#: Parts of each call, for tests; None takes the number of threads.
PARTS: int | None = None

#: Most rows that :class:`_FewRows` accepts.
_FEW_ROWS = 16

#: Counters of the longest digit by which keys are sorted.
_DIGITS = 1 << 11

_SHUFFLE = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 5)
_DRIVER = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3)


class CompiledEngine(ImageFunctions):
    """An engine whose kernels are machine code.

    Parameters
    ----------
    name : str
        The engine's public name.
    address : callable
        ``address(kernel, dtype)`` returns the address of a compiled function.
    launch : callable
        ``launch(dtype, n_threads)`` is a context manager that prepares n_threads threads and
        yields the address of the launcher, or 0 for one thread.
    shuffle : callable, optional
        The ``address`` of another engine, whose function shuffles; by default this one's.
    """

    def __init__(self, name, address, launch, shuffle=None):
        self.name = name
        self.address = address
        self._launch = launch
        self._shuffle = shuffle or address

    # -- the engine's functions: see protocol.py ----------------------------------------------

    def forward(self, ws, data, out, function="logits", first=0, last=None):
        bound = ws.programs.get(self.name)
        few = None if bound is None else bound.few.get(function)
        if few is not None and first == 0 and last in (None, 1) and few.accepts(data, out):
            few.forward(ws, data.X, out)
            return
        last = data.n_batches if last is None else last
        layout = ws.layout
        boundary.check_array(
            out, "out", ws.params.dtype, data.n_rows * ws.plan.n_outputs, written=True
        )
        offset = layout.output if function == "output" else layout.logits
        variant = self._variant(Task.PREDICT, ws, data)._replace(function=function)
        bound = self._drive(ws, variant, data, first, last, _Arrays(out=out, output=offset))
        if few is None and variant.features is None:
            program = bound.programs[variant]
            bound.few[function] = _FewRows(ws, program, bound.context, offset)

    def evaluate(self, ws, data, results, first=0, last=None):
        last = data.n_batches if last is None else last
        variant = self._variant(Task.EVALUATE, ws, data)
        return not self._drive(ws, variant, data, first, last, _Arrays(results=results)).status

    def loss_and_grad(self, ws, data, results, first=0, last=None, steps=None):
        last = data.n_batches if last is None else last
        variant = self._variant(Task.GRADIENT, ws, data)._replace(separate=data.separate)
        penalty = 1.0 if ws.plan.mean else data.share
        arrays = _Arrays(steps, results, None, NONE, 1, data.weight_sum, penalty)
        if self._drive(ws, variant, data, first, last, arrays).status:
            ws.grad.fill(np.nan)

    def update(self, ws, steps):
        self._drive(ws, Variant(Task.UPDATE), None, 0, len(steps.hyper), _Arrays(steps=steps))

    def run_batches(self, ws, data, steps, results, first, last):
        variant = self._variant(Task.TRAIN, ws, data)
        self._drive(ws, variant, data, first, last, _Arrays(steps=steps, results=results))
        return ws.completed

    def permutations(self, seed, stream, first, count, n):
        seed = random.check_seed(seed)
        orders = np.empty((count, n), np.int64)
        if not (0 <= stream < 1 << 32 and 0 <= first <= first + count < 1 << 63):
            raise ValueError(f"no orders {first} to {first + count} of stream {stream}")
        if orders.size:
            keys, place = np.empty(n + 1, np.uint64), np.empty(_DIGITS, np.int64)
            shuffle = _SHUFFLE(self._shuffle("shuffle", np.dtype(np.float32)))
            shuffle(
                _address(orders), _address(keys), _address(place), _signed(seed), stream, first,
                count, n,
            )  # fmt: skip
        return orders

    # -- binding and calling ------------------------------------------------------------------

    @staticmethod
    def _variant(task: Task, ws, data) -> Variant:
        gathers = _gathers(ws, data)
        indices = data.X.indices.dtype if isinstance(data.X, CSR) else None
        if task is Task.PREDICT:
            return Variant(task, gathers, indices=indices)
        return Variant(task, gathers, data.weights is not None, data.metric, indices=indices)

    def _drive(self, ws, variant: Variant, data, first: int, last: int, arrays: _Arrays) -> _Bound:
        """Fill the context and run a program; afterwards the status is OK or NOT_FINITE.

        An exception of a user's loss is raised here, once no thread runs any more.
        """
        task = variant.task
        if data is not None:
            boundary.check_data(ws, data, first, last, task is not Task.PREDICT)
            if arrays.accumulates:
                boundary.check_pieces(ws, data)
        steps, results = arrays.steps, arrays.results
        hyper = None if steps is None else steps.hyper
        n_results = 1 if arrays.accumulates else last - first
        n_steps = 1 if arrays.accumulates else last - first
        steps_of = ws if task in (Task.TRAIN, Task.UPDATE) else None
        boundary.check_steps(ws.plan, steps_of, hyper, n_steps, results, n_results)
        bound = ws.programs.get(self.name)
        program = None if bound is None else bound.programs.get(variant)
        if bound is None or program is None:
            with compilation.reported():
                bound = bound or self._context(ws)
                program = self._bind(ws, bound, variant)
        data = _NO_DATA if data is None else data
        rows = min(data.batch_size, data.n_rows)
        n_rows = data.n_rows
        epoch_rows = n_rows if arrays.accumulates else data.epoch_rows or n_rows
        limit = 1
        if program.work(rows) >= LEAST_WORK:
            limit = min(threads.get_num_threads(), MOST_PARTS)
        context = bound.context
        context.begin_call(
            _address(hyper), 0 if hyper is None else hyper.shape[1], _address(results),
            *_addresses(data.X), _address(data.Y), _address(data.labels), _address(data.weights),
            _address(data.order), _address(arrays.out),
            ws.layout.logits if arrays.output == NONE else arrays.output,
            len(data.X), n_rows, epoch_rows, data.batch_size, int(variant.features is not None),
            data.scale, arrays.accumulates, arrays.total_weight, arrays.total_penalty,
            _signed(steps.seed) if steps else 0, steps.first if steps else 0,
            int(ws.layout.training), ws.pack_for(PARTS or limit), 0, 1, PARTS or 1,
        )  # fmt: skip
        if limit > 1:
            # Among the batches of several epochs, those with fewer rows are few.
            several = task is Task.UPDATE or epoch_rows < n_rows
            full = last if several else min(last, n_rows // data.batch_size or 1)
            with threads.Sharing():
                bound.status = self._run(ws, bound, program, rows, limit, (first, full, last))
        else:
            table = program.address(PARTS or 1, rows)
            bound.status = context.drive(context.address, table, program.n_calls, first, last)
            bound.threads_used[1] += last - first
        if bound.status not in _EXPECTED:
            raise EngineError(_error_message(self.name, bound.status, task))
        start = context["start"] if bound.status else 0
        ws.completed = (data.batch_of(start) if bound.status else last) - first
        if bound.status and bound.user_loss is not None:
            if bound.status == Status.STOPPED:
                bound.user_loss.raise_error()
            bound.user_loss.raise_of_rows(min(data.batch_size, data.n_rows - start))
        return bound

    def _run(
        self, ws, bound: _Bound, program: Program, rows: int, limit: int,
        batches: tuple[int, int, int],
    ) -> int:  # fmt: skip
        """Run a program in the number of threads that proves fastest; returns the status.

        The batches are first, ..., last-1, of which those from `full` on have fewer rows.
        """
        first, full, last = batches
        # Runs that are compared must have the same share of steps that take longer.
        every = 1 if ws.update is None else ws.update.every
        if full - first >= every:
            full -= (full - first) % every
        if PARTS is not None:
            status, _, _ = self._launched(ws, bound, program, rows, (first, last), limit)
            return status
        while first < last:
            tuner = program.tuner(rows, threads.share_of(limit))
            if first >= full:  # what they take says nothing of the others
                n_threads, count = tuner.threads, last - first
            else:
                n_threads, count = tuner.next(full - first)
                count = min(-(-count // every) * every, full - first)
            stop = first + count
            status, ran, seconds = self._launched(
                ws, bound, program, rows, (first, stop), n_threads
            )
            if status:
                return status
            if ran != n_threads:
                tuner.give_up(count, seconds)
            elif first < full:
                tuner.record(n_threads, count, seconds)
            first = stop
        return 0

    def _launched(
        self, ws, bound: _Bound, program: Program, rows: int, batches: tuple[int, int],
        n_threads: int,
    ) -> tuple[int, int, float]:  # fmt: skip
        """Run some batches in so many threads: (the status, threads that ran, seconds)."""
        context, (first, last) = bound.context, batches
        parts = PARTS or n_threads
        n_threads = min(n_threads, parts)
        table = program.address(parts, rows)
        began = time.perf_counter()
        if n_threads > 1:
            with self._launch(ws.params.dtype, n_threads) as launch:
                context.set_threads(launch, n_threads, parts)
                status = context.drive(context.address, table, program.n_calls, first, last)
            n_threads = context["threads"]
        else:
            context.set_threads(0, 1, parts)
            status = context.drive(context.address, table, program.n_calls, first, last)
        seconds = time.perf_counter() - began
        bound.threads_used[n_threads] += last - first
        return status, n_threads, seconds

    def _context(self, ws) -> _Bound:
        """The context of a workspace, with the fields that no call changes."""
        dtype, layout = ws.params.dtype, ws.layout
        context = _Context(_DRIVER(self.address("drive", dtype)))
        n_matrices = 0 if ws.update is None else len(ws.update.matrices)
        context.set(
            ops=layout.ops, params=ws.params, grad=ws.grad, slots=ws.slots, state=ws.state,
            constants=ws.plan.constants, n_params=ws.plan.n_params, n_state=ws.plan.n_state,
            groups=ws.groups, n_groups=len(ws.groups) - n_matrices, n_matrices=n_matrices,
            norms=layout.norms, average=ws.average, work=ws.work,
            capacity=ws.capacity, gathered=layout.gathered, targets=layout.targets,
            batch=ws.batch, scratch=ws.scratch, row_loss=ws.row_loss,
            row_correct=ws.row_correct, ran=ws.ran, ran_on=ws.ran_on,
            n_inputs=ws.plan.n_inputs, n_outputs=ws.plan.n_outputs,
            mean=int(ws.plan.mean), penalty_is_row=int(ws.plan.penalty_is_row),
            one=_ones[dtype], zeros=_zeros[dtype],
            product=self.address("product", dtype), transpose=self.address("transpose", dtype),
            product_upper=self.address("product_upper", dtype) if n_matrices else 0,
            walk=self.address("walk", dtype),
            team=ws.team, yields=threads.yield_address(),
        )  # fmt: skip
        bound = ws.programs[self.name] = _Bound(context, ws.threads_used)
        return bound

    def _bind(self, ws, bound: _Bound, variant: Variant) -> Program:
        """The calls with the addresses of this process; the workspace stores them."""
        task = variant.task
        boundary.check_workspace(ws)
        trains = task in (Task.TRAIN, Task.GRADIENT, Task.UPDATE)
        if trains != ws.layout.training:
            purpose = "training" if ws.layout.training else "prediction"
            raise ValueError(f"a workspace for {purpose} cannot {task.value}")
        if trains:
            boundary.check_training(ws, task is not Task.GRADIENT)
        if task in (Task.TRAIN, Task.GRADIENT, Task.EVALUATE) and ws.plan.loss is None:
            raise ValueError("the plan has no loss")
        if task not in (Task.PREDICT, Task.UPDATE) and ws.plan.user_loss is not None:
            bound.user_loss = bound.user_loss or UserLoss(ws)
            bound.context.set(user_loss=bound.user_loss.address)
        dtype = ws.params.dtype
        calls = list(calls_of(ws, variant))
        table = np.zeros(len(calls), CALL)
        for entry, call in zip(table, calls, strict=True):
            entry["kernel"] = self.address(call.kernel, dtype)
            entry["inner"] = self.address(call.inner, dtype) if call.inner else 0
            entry["op"] = call.op
        program = bound.programs[variant] = Program(calls, table)
        return program


def _gathers(ws, data) -> np.dtype | None:
    """The dtype of X if batches are gathered, or None if they are read in place."""
    X = data.X
    if (
        data.order is None and data.scale == 1 and X.dtype == ws.params.dtype
        and not isinstance(X, CSR)
    ):  # fmt: skip
        return None
    return X.dtype


# -- objects that a workspace stores --------------------------------------------------------------


@dataclass
class _Arrays:
    """The arrays and numbers of one call of the driver, besides the rows."""

    steps: Steps | None = None
    results: np.ndarray | None = None
    out: np.ndarray | None = None
    output: int = NONE
    accumulates: int = 0
    total_weight: float = 0.0
    total_penalty: float = 0.0


class _Context:
    """A record of CONTEXT whose fields are set by name, arrays as their addresses."""

    def __init__(self, drive):
        self.drive = drive
        self._record = np.zeros(1, CONTEXT)
        self.address = self._record.ctypes.data
        self._memory = self._record.view(np.uint8).data
        #: Identifies the call that the record holds, if it can be repeated as is.
        self.filled_for: object = None

    def set(self, **values) -> None:
        for name, value in values.items():
            self._record[name] = _address(value) if isinstance(value, np.ndarray) else value

    def begin_call(self, *values) -> None:
        """Set all of CALL_FIELDS in a tenth of the time of setting each by name."""
        self.filled_for = None
        _CALL.pack_into(self._memory, _CALL_PLACE, *values)

    def set_threads(self, launch: int, n_threads: int, parts: int) -> None:
        """Set how the next run is launched, which begin_call leaves to one thread."""
        _THREADS.pack_into(self._memory, _THREADS_PLACE, launch, n_threads, parts)

    def __getitem__(self, name: str) -> int:
        return int(self._record[0][name])


@dataclass
class _Bound:
    """The context and the programs of an engine for the arrays of a workspace."""

    context: _Context
    threads_used: Counter[int]
    programs: dict[Variant, Program] = field(default_factory=dict)
    few: dict[str, _FewRows] = field(default_factory=dict)
    user_loss: UserLoss | None = None
    status: int = 0


class _FewRows:
    """The forward pass of at most _FEW_ROWS rows in one part, through buffers of fixed address.

    Otherwise, determining an array's address and filling the context take as long as the forward
    pass of a small network.
    """

    def __init__(self, ws, program: Program, context: _Context, output: int):
        dtype = ws.params.dtype
        self._X = np.zeros((_FEW_ROWS, ws.plan.n_inputs), dtype)
        self._out = np.zeros((_FEW_ROWS, ws.plan.n_outputs), dtype)
        self._context = context
        self._arrays = *_addresses(self._X), 0, 0, 0, 0, _address(self._out), output
        self._max_rows = sum(program.work(m) < GUESS for m in range(1, _FEW_ROWS + 1))
        table = program.address(1, 1)
        self._drive = functools.partial(
            context.drive, context.address, table, program.n_calls, 0, 1
        )
        self._known: tuple = ()

    def accepts(self, data: Data, out: np.ndarray) -> bool:
        """Whether the rows are few enough, need no conversion, and match the plan."""
        X = data.X
        if data.scale != 1 or data.order is not None or len(X) > data.batch_size:
            return False
        if isinstance(X, CSR):
            return False
        arrays = X.shape, out.shape, X.dtype, out.dtype
        if arrays == self._known:
            return True
        m, dtype = len(X), self._X.dtype
        shapes = (m, self._X.shape[1]), (m, self._out.shape[1])
        if m > self._max_rows or arrays != (*shapes, dtype, dtype):
            return False
        self._known = arrays
        return True

    def forward(self, ws, X: np.ndarray, out: np.ndarray) -> None:
        m, context = len(X), self._context
        self._X[:m] = X
        pack = ws.pack_for(1)
        if context.filled_for != (self, m, pack):
            context.begin_call(
                0, 0, 0, *self._arrays, m, m, m, m, 0, 1.0, 0, 0.0, 0.0, 0, 0, 0, pack, 0, 1, 1
            )
            context.filled_for = self, m, pack
        self._drive()
        out[:] = self._out[:m]


def _address(array: np.ndarray | None) -> int:
    if array is None:
        return 0
    try:
        # In a third of the time of array.ctypes. mypy does not know that an array is a buffer.
        return ctypes.addressof(_BYTE.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, or empty
        # Not __array_interface__, in which NumPy discards exceptions of signal handlers.
        return array.ctypes.data


def _addresses(X: np.ndarray | CSR) -> tuple[int, int, int, int]:
    """The fields X, indices, indptr and n_stored of a context."""
    if isinstance(X, CSR):
        n_stored = min(len(X.values), len(X.indices))
        return _address(X.values), _address(X.indices), _address(X.indptr), n_stored
    return _address(X), 0, 0, 0


def _signed(seed: int) -> int:
    """An unsigned 64-bit seed as the signed integer with the same bits."""
    return seed - (1 << 64) if seed >= 1 << 63 else seed


def _error_message(engine: str, status: int, task: Task) -> str:
    if status == Status.BAD_INDEX:
        return (
            "a label or an entry of the order is out of range, or an index of a sparse X "
            f"(engine {engine}, {task.value})"
        )
    return f"the {engine} engine stopped with status {status} in {task.value}"


_BYTE = ctypes.c_char
_CALL = struct.Struct("=" + "".join("d" if CONTEXT[f] == np.float64 else "q" for f in CALL_FIELDS))
_CALL_PLACE = (CONTEXT.names or ()).index(CALL_FIELDS[0]) * 8
_THREADS = struct.Struct("=qqq")
_THREADS_PLACE = (CONTEXT.names or ()).index("launch") * 8
_EXPECTED = (int(Status.OK), int(Status.NOT_FINITE), int(Status.STOPPED))
_NO_DATA = Data(np.zeros((1, 1), np.float32), batch_size=1)
_ones = {np.dtype(t): np.ones(1, t) for t in (np.float32, np.float64)}
_zeros = {np.dtype(t): np.zeros(MAX_NC, t) for t in (np.float32, np.float64)}
