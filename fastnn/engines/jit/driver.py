"""The driver walks a bound program over a range of minibatches; the launcher splits a call.

Only these two know about parallelism. A kernel sees (context, part, parts) and does its share;
whether the parts run side by side or one after another changes no bit of the result.
"""

from __future__ import annotations

from numba import get_thread_id, prange

from ...tables import CALL, MOST_PARTS, OP, Status
from .kernels import driver, launcher, subroutine
from .memory import address_of, call_kernel, call_launch, doubles, integers, reals
from .simd import flush_denormals, restore_denormals

_CALL_BYTES = CALL.itemsize
_OP_BYTES = OP.itemsize
_RESULT_BYTES = 2 * 8
_OK = int(Status.OK)
_MOST = MOST_PARTS


def _place(field):
    """Index of a field in an entry of CALL."""
    return CALL.fields[field][1] // 8


_KERNEL, _INNER, _OP = _place("kernel"), _place("inner"), _place("op")
_FIXED, _PER_ROW = _place("fixed"), _place("per_row")


@subroutine
def run_part(kernel, ctx, part, parts, thread):
    """Call a kernel for one part; record its status, and that and where it ran.

    This is a separate function because Numba removes stores through our pointers as dead code when
    they stand in a parallel loop.
    """
    ran, ran_on = integers(ctx, ctx.ran), integers(ctx, ctx.ran_on)
    ran[part] = ran[part] + 1
    ran_on[part] = thread
    status = call_kernel(kernel, (address_of(ctx), part, parts))
    integers(ctx, ctx.statuses)[part] = status
    return status


@subroutine
def run_part_on_thread(kernel, ctx, part, parts, thread):
    """:func:`run_part` on a thread of the pool, whose floating-point mode is unknown."""
    before = flush_denormals()
    run_part(kernel, ctx, part, parts, thread)
    restore_denormals(before)


@subroutine
def worst_status(ctx, parts):
    """The largest status of the parts; 0 if all succeeded."""
    statuses = integers(ctx, ctx.statuses)
    status = 0
    for part in range(parts):
        status = max(status, statuses[part])
    return status


@launcher
def launch(kernel, ctx, parts):
    """Run the parts of a kernel on the threads of Numba's pool; the worst of their statuses.

    Each part writes its own status: a reduction in the loop would allocate memory.
    """
    for part in prange(parts):
        run_part_on_thread(kernel, ctx, part, parts, get_thread_id())
    return worst_status(ctx, parts)


@subroutine
def begin_batch(ctx, batch):
    """Set the context's per-batch fields."""
    ctx.start = batch * ctx.batch_size
    ctx.m = min(ctx.batch_size, ctx.n_rows - ctx.start)
    ctx.weight_sum = ctx.total_weight if ctx.accumulates else 1.0 * ctx.m
    ctx.scale = 1.0
    if ctx.mean:
        ctx.scale = 1.0 / ctx.weight_sum if ctx.weight_sum > 0.0 else 0.0
    ctx.penalty_scale = 1.0 if ctx.mean else ctx.m / ctx.n_rows
    if ctx.accumulates:
        ctx.penalty_scale = ctx.total_penalty
    if ctx.gathers:
        ctx.input = address_of(reals(ctx, ctx.work) + ctx.gathered * ctx.capacity)
    else:
        ctx.input = address_of(reals(ctx, ctx.X) + ctx.start * ctx.n_inputs)


@subroutine
def run_call(ctx, call):
    """Run one entry of a program, in as many parts as its cost is worth; its status."""
    entry, cost = integers(ctx, call), doubles(ctx, call)
    ctx.op = ctx.ops + entry[_OP] * _OP_BYTES
    ctx.inner = entry[_INNER]
    parts = min(ctx.parts, _MOST)
    work = cost[_FIXED] + cost[_PER_ROW] * ctx.m
    if work < parts * ctx.grain:
        parts = max(1, int(work / ctx.grain))
    if parts > 1 and ctx.launch:
        return call_launch(ctx.launch, (entry[_KERNEL], address_of(ctx), parts))
    worst = _OK
    for part in range(parts):
        worst = max(worst, run_part(entry[_KERNEL], ctx, part, parts, -1))
    return worst


@subroutine
def run_batches(ctx, calls, n_calls, first, last):
    """:func:`drive` without its floating-point mode."""
    for batch in range(first, last):
        begin_batch(ctx, batch)
        for index in range(n_calls):
            status = run_call(ctx, calls + index * _CALL_BYTES)
            if status != _OK:
                return status
        if not ctx.accumulates:
            ctx.hyper += ctx.hyper_columns * 8
            ctx.result += _RESULT_BYTES
            ctx.step += 1
    return _OK


@driver
def drive(ctx, calls, n_calls, first, last):
    """Run a program on the batches first, ..., last-1, with denormals flushed to zero.

    ctx     the context; its per-call and per-batch fields are written here
    calls   address of n_calls entries of CALL
    Returns 0, or the status of the first call that failed; then ctx.start tells the batch.
    hyper, result and step are those of batch `first`, and advance with the batches, except over the
    pieces of one batch.
    """
    before = flush_denormals()
    status = run_batches(ctx, calls, n_calls, first, last)
    restore_denormals(before)
    return status
