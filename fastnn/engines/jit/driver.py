"""The driver walks a bound program over a range of minibatches; the launcher splits a call.

These two are all that knows about parallelism. A leaf sees (context, part, parts) and does its
share; whether the parts run side by side or one after another cannot change a bit of the result.
"""

from __future__ import annotations

from numba import get_thread_id, prange

from ..tables import CALL, HYPER_COLUMNS, MOST_PARTS, ROW, Status
from .kernels import driver, launcher, subroutine
from .memory import address_of, call_launch, call_leaf, doubles, integers, reals
from .simd import flush_denormals, restore_denormals

_CALL_BYTES = CALL.itemsize
_ROW_BYTES = ROW.itemsize
_HYPER_BYTES = HYPER_COLUMNS * 8
_RESULT_BYTES = 2 * 8
_OK = int(Status.OK)
_MOST = MOST_PARTS


def _words(field):
    return CALL.fields[field][1] // 8


_LEAF, _INNER, _ROW = _words("leaf"), _words("inner"), _words("row")
_FIXED, _PER_ROW = _words("fixed"), _words("per_row")


@subroutine
def run_part(leaf, ctx, part, parts, thread):
    """Call a leaf for one part; note its status, and that and where it ran.

    A function of its own, because Numba takes stores through our pointers for dead code when
    they stand in a parallel loop.
    """
    ran, ran_on = integers(ctx, ctx.ran), integers(ctx, ctx.ran_on)
    ran[part] = ran[part] + 1
    ran_on[part] = thread
    integers(ctx, ctx.statuses)[part] = call_leaf(leaf, (address_of(ctx), part, parts))


@subroutine
def run_part_on_thread(leaf, ctx, part, parts, thread):
    """:func:`run_part` on a thread of the pool, whose arithmetic may be set in any way."""
    before = flush_denormals()
    run_part(leaf, ctx, part, parts, thread)
    restore_denormals(before)


@subroutine
def sum_of_statuses(ctx, parts):
    """0 if every part succeeded."""
    statuses = integers(ctx, ctx.statuses)
    status = 0
    for part in range(parts):
        status += statuses[part]
    return status


@launcher
def launch(leaf, ctx, parts):
    """Run the parts of a leaf on the threads of Numba's pool; the sum of their statuses.

    Each status has a place of its own: a reduction in the loop would allocate memory.
    """
    for part in prange(parts):
        run_part_on_thread(leaf, ctx, part, parts, get_thread_id())
    return sum_of_statuses(ctx, parts)


@subroutine
def run_batches(ctx, calls, n_calls, first, last):
    """:func:`drive` within its floating-point mode."""
    for batch in range(first, last):
        ctx.start = batch * ctx.batch_size
        ctx.m = min(ctx.batch_size, ctx.n_samples - ctx.start)
        ctx.mass = ctx.m
        ctx.scale = 1.0 / ctx.m if ctx.mean else 1.0
        if ctx.gathers:
            ctx.input = address_of(reals(ctx, ctx.work) + ctx.gather * ctx.capacity)
        else:
            ctx.input = address_of(reals(ctx, ctx.X) + ctx.start * ctx.n_inputs)
        for index in range(n_calls):
            entry = integers(ctx, calls + index * _CALL_BYTES)
            cost = doubles(ctx, calls + index * _CALL_BYTES)
            ctx.row = ctx.rows + entry[_ROW] * _ROW_BYTES
            ctx.inner = entry[_INNER]
            parts = min(ctx.parts, _MOST)
            work = cost[_FIXED] + cost[_PER_ROW] * ctx.m
            if work < parts * ctx.grain:
                parts = max(1, int(work / ctx.grain))
            if parts > 1 and ctx.launch:
                status = call_launch(ctx.launch, (entry[_LEAF], address_of(ctx), parts))
            else:
                for part in range(parts):
                    run_part(entry[_LEAF], ctx, part, parts, -1)
                status = sum_of_statuses(ctx, parts)
            if status != _OK:
                return status
        ctx.hyper += _HYPER_BYTES
        ctx.result += _RESULT_BYTES
    return _OK


@driver
def drive(ctx, calls, n_calls, first, last):
    """Run a program on the batches first, ..., last-1, with denormal numbers taken for zeros.

    ctx     the context; its per-call and per-batch fields are written here
    calls   address of n_calls entries of CALL
    Returns 0, or the status of the first call that failed; then ctx.start tells the batch.
    hyper and result must point at the row of batch `first`, and move on with the batches.
    """
    before = flush_denormals()
    status = run_batches(ctx, calls, n_calls, first, last)
    restore_denormals(before)
    return status
