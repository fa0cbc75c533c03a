"""The driver runs a bound program over a range of minibatches, on one thread or on several.

A kernel sees (context, part, parts) and does its share. Every thread walks the whole program with a
context of its own. How many threads and parts there are cannot change a bit of the result.
"""

from __future__ import annotations

from typing import NamedTuple

from numba import prange

from ...tables import CALL, OP, Split, Status
from .context import share
from .kernels import driver, kernel, launcher, subroutine
from .memory import address_of, call_kernel, call_launch, integers, reals
from .pool import pool_size, set_pool_size
from .simd import flush_denormals, restore_denormals
from .team import (
    FAILED,
    LEFT,
    copy_of,
    join_team,
    meet,
    note_status,
    reset_team,
    store,
    worst_status,
)

_CALL_BYTES = CALL.itemsize
_OP_BYTES = OP.itemsize
_RESULT_BYTES = 2 * 8
_OK = int(Status.OK)
#: What the first thread leaves at LEFT.
_THREADS, _START, _STEP, _HYPER, _RESULT = range(5)
_ALONE, _EACH = int(Split.alone), int(Split.each)


def _place(field):
    """Index of a field in an entry of CALL."""
    return CALL.fields[field][1] // 8


_KERNEL, _INNER, _OP = _place("kernel"), _place("inner"), _place("op")
_SPLIT, _MEETS = _place("split"), _place("meets")


class Walker(NamedTuple):
    """A thread of a run, and its parts of every split call: part, ..., end-1."""

    thread: int
    threads: int
    part: int
    end: int


@subroutine
def run_thread(function, ctx, thread, threads):
    """Call a function on a thread of the pool, whose floating-point mode is unknown.

    This is a separate function because Numba removes stores through our pointers as dead code when
    they stand in a parallel loop.
    """
    before = flush_denormals()
    note_status(ctx, call_kernel(function, (address_of(ctx), thread, threads)))
    restore_denormals(before)


@launcher
def launch(function, ctx, threads):
    """Call a function with (ctx, thread, threads) on threads of Numba's pool; the worst status.

    There are no more threads than the pool has; it may also run them one after another.
    """
    before = pool_size()
    threads = min(threads, before)
    set_pool_size(threads)
    for thread in prange(threads):
        run_thread(function, ctx, thread, threads)
    set_pool_size(before)
    return worst_status(ctx)


@subroutine
def begin_batch(ctx, batch):
    """Set the context's per-batch fields. No batch has rows of two epochs."""
    ctx.start = batch * ctx.batch_size
    end = ctx.n_rows
    if ctx.batch_size <= ctx.epoch_rows < ctx.n_rows:
        each = (ctx.epoch_rows + ctx.batch_size - 1) // ctx.batch_size
        epoch = batch // each
        ctx.start = epoch * ctx.epoch_rows + (batch - epoch * each) * ctx.batch_size
        end = (epoch + 1) * ctx.epoch_rows
    ctx.m = min(ctx.batch_size, end - ctx.start)
    ctx.weight_sum = ctx.total_weight if ctx.accumulates else 1.0 * ctx.m
    ctx.scale = 1.0
    if ctx.mean:
        ctx.scale = 1.0 / ctx.weight_sum if ctx.weight_sum > 0.0 else 0.0
    ctx.penalty_scale = 1.0 if ctx.mean else ctx.m / ctx.epoch_rows
    if ctx.penalty_is_row:
        ctx.penalty_scale = ctx.scale
    elif ctx.accumulates:
        ctx.penalty_scale = ctx.total_penalty
    if ctx.gathers:
        ctx.input = address_of(reals(ctx, ctx.work) + ctx.gathered * ctx.capacity)
    else:
        ctx.input = address_of(reals(ctx, ctx.X) + ctx.start * ctx.n_inputs)


@subroutine
def run_call(ctx, call, walker):
    """Run a thread's share of one entry of a program; the worst status."""
    entry = integers(ctx, call)
    function, split = entry[_KERNEL], entry[_SPLIT]
    ctx.op = ctx.ops + entry[_OP] * _OP_BYTES
    ctx.inner = entry[_INNER]
    ctx.split = split
    if split == _ALONE:
        return _OK if walker.thread else call_kernel(function, (address_of(ctx), 0, 1))
    if split == _EACH:
        return call_kernel(function, (address_of(ctx), walker.thread, walker.threads))
    worst = _OK
    for part in range(walker.part, walker.end):
        worst = max(worst, call_kernel(function, (address_of(ctx), part, ctx.parts)))
    return worst


@subroutine
def walk_batches(ctx, walker):
    """Walk the program over all batches: (the thread's worst status, split calls that it ran).

    The others learn of a status that is not OK at the next meeting; until then this thread only
    comes to the meetings.
    """
    several, met, ran, worst = walker.threads > 1, 0, 0, _OK
    for batch in range(ctx.first, ctx.last):
        rows = ctx.m
        begin_batch(ctx, batch)
        # With another number of rows each thread has others than in the batch before.
        if several and batch > ctx.first and ctx.m != rows:
            met += 1
            if meet(ctx, walker.threads, met):
                return worst, ran
        for index in range(ctx.n_calls):
            call = ctx.calls + index * _CALL_BYTES
            if several and integers(ctx, call)[_MEETS]:
                met += 1
                if meet(ctx, walker.threads, met):
                    return worst, ran
            if worst == _OK:
                worst = run_call(ctx, call, walker)
                ran += integers(ctx, call)[_SPLIT] < _ALONE
                if worst != _OK:
                    if walker.thread == 0:
                        integers(ctx, ctx.team + LEFT)[_START] = ctx.start
                    if not several:
                        return worst, ran
                    store(ctx.team + FAILED, 1)
        if not ctx.accumulates:
            ctx.hyper += ctx.hyper_columns * 8
            ctx.result += _RESULT_BYTES
            ctx.step += 1
    return worst, ran


@subroutine
def end_walk(ctx, walker, ran):
    """Note which parts ran; the first thread leaves what the driver needs."""
    times, places = integers(ctx, ctx.ran), integers(ctx, ctx.ran_on)
    for part in range(walker.part, walker.end):
        times[part] = times[part] + ran
        places[part] = walker.thread if walker.threads > 1 else -1
    if walker.thread == 0:
        left = integers(ctx, ctx.team + LEFT)
        left[_THREADS] = walker.threads
        left[_STEP] = ctx.step
        left[_HYPER] = ctx.hyper
        left[_RESULT] = ctx.result


@kernel
def walk(shared, thread, threads):
    """What every thread of a run calls: its share of all batches; its status."""
    ctx = copy_of(shared)
    if threads > 1:
        threads = join_team(ctx, threads)
        if threads == 0:
            return _OK
        if threads == 1:
            thread = 0
    part, end = share(ctx.parts, 1, thread, threads)
    walker = Walker(thread, threads, part, end)
    status, ran = walk_batches(ctx, walker)
    end_walk(ctx, walker, ran)
    return status


@driver
def drive(ctx, calls, n_calls, first, last):
    """Run a program on the batches first, ..., last-1, with denormals flushed to zero.

    ctx     the context; its threads become those that ran
    calls   address of n_calls entries of CALL
    Returns 0, or the worst status; if the loss is not finite, ctx.start tells its batch.
    hyper, result and step are those of batch `first`, and advance with the batches, except over the
    pieces of one batch.
    """
    before = flush_denormals()
    ctx.calls = calls
    ctx.n_calls = n_calls
    ctx.first = first
    ctx.last = last
    if ctx.threads > 1 and ctx.launch:
        reset_team(ctx)
        status = call_launch(ctx.launch, (ctx.walk, address_of(ctx), ctx.threads))
    else:
        status = call_kernel(ctx.walk, (address_of(ctx), 0, 1))
    left = integers(ctx, ctx.team + LEFT)
    ctx.threads = left[_THREADS]
    ctx.step = left[_STEP]
    ctx.hyper = left[_HYPER]
    ctx.result = left[_RESULT]
    if status != _OK:
        ctx.start = left[_START]
    restore_denormals(before)
    return status
