"""The threads of a run: how they come together, and how they meet.

Every thread walks the whole program and does its parts of each call. Where a call reads what
another thread wrote, they meet: none goes on before all have arrived. They do so by the words at
``ctx.team``, which they read and write atomically.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ...tables import TEAM_STEP
from .kernels import subroutine
from .memory import Struct
from .simd import MACHINE, call_llvm, word

#: The fields, each in a cache line of its own: threads that have come; one of the states below;
#: arrivals at all meetings so far; 2 * meetings that are over, + 1 at the last one if a status was
#: not OK; 1 if a thread had such a status; the worst status, of :func:`.driver.launch`; and what
#: the first thread leaves for the driver. It must not write to the shared context, which a thread
#: that comes too late may still be copying.
_JOINED, _FORMED, _ARRIVED, _RELEASED, FAILED, _WORST, LEFT = (8 * TEAM_STEP * i for i in range(7))
_WAITS, _RUNS, _IS_ONE = range(3)

_PAUSES_PER_LOOK = 16
#: Then the core goes to any other thread that waits for one.
_LOOKS_BEFORE_YIELD = 64
_PAUSES_BEFORE_YIELD = _PAUSES_PER_LOOK * _LOOKS_BEFORE_YIELD
#: The first to come looks so often for the others, about 1 ms, and then runs alone.
_LOOKS_FOR_THREADS = 2000

_WORD = ir.IntType(64)
#: LLVM's function for a pause, 10 to 50 ns, and its arguments. Most of ARM's processors ignore
#: their own hint for it, so there the instruction barrier is taken, for the whole system.
_PAUSES = {"x86_64": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.isb", (15,))}


def _word_at(builder, address):
    return builder.inttoptr(address, _WORD.as_pointer())


def _atomic_rmw(operation):
    """An intrinsic ``update(address, value)``: the word before the operation with the value."""

    @intrinsic
    def update(typingctx, address, value):
        def codegen(context, builder, sig, args):
            place = _word_at(builder, args[0])
            return builder.atomic_rmw(operation, place, args[1], "seq_cst")

        return types.int64(types.int64, types.int64), codegen

    return update


_add, _raise_to = _atomic_rmw("add"), _atomic_rmw("max")


@intrinsic
def _load(typingctx, address):
    """The word at an address; what its writer wrote before is seen, too."""

    def codegen(context, builder, sig, args):
        return builder.load_atomic(_word_at(builder, args[0]), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(typingctx, address, value):
    """Write a word, after everything written before."""

    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], _word_at(builder, args[0]), "release", 8)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), codegen


def _make_wait(pauses):
    """An intrinsic ``wait(yields)``: call the function at this address, or if it is 0 pause."""

    @intrinsic
    def wait(typingctx, yields):
        def codegen(context, builder, sig, args):
            with builder.if_else(builder.icmp_signed("!=", args[0], word(0))) as (then, otherwise):
                with then:
                    kind = ir.FunctionType(ir.IntType(32), [])
                    builder.call(builder.inttoptr(args[0], kind.as_pointer()), [])
                with otherwise:
                    for _ in range(pauses):
                        _pause(builder)
            return context.get_dummy_value()

        return types.none(types.int64), codegen

    return wait


def _pause(builder):
    """Tell the core that this thread only waits."""
    if MACHINE in _PAUSES:
        name, values = _PAUSES[MACHINE]
        words = [ir.Constant(ir.IntType(32), value) for value in values]
        call_llvm(builder, name, ir.VoidType(), words)


_wait, _wait_briefly = _make_wait(_PAUSES_PER_LOOK), _make_wait(1)


@intrinsic
def copy_of(typingctx, struct):
    """A copy of a record on the stack of the caller; call it once in a function."""
    assert isinstance(struct, Struct)

    def codegen(context, builder, sig, args):
        size = struct.layout.itemsize
        place = cgutils.alloca_once(builder, ir.ArrayType(_WORD, size // 8))
        cgutils.raw_memcpy(builder, place, _word_at(builder, args[0]), word(size), 1)
        return builder.ptrtoint(place, _WORD)

    return struct(struct), codegen


@subroutine
def reset_team(ctx):
    """Forget the last run."""
    for field in range(6):
        store(ctx.team + 8 * TEAM_STEP * field, 0)


@subroutine
def join_team(ctx, threads):
    """Come to a run of so many threads; how many will run it, or 0 if it runs without this one.

    All run, or the first to come alone: threads that never come (a busy core, a pool that runs
    them one after another) must not be waited for at a meeting.
    """
    looks = 0
    if _add(ctx.team + _JOINED, 1) > 0:
        while _load(ctx.team + _FORMED) == _WAITS:
            _wait(ctx.yields if looks >= _LOOKS_BEFORE_YIELD else 0)
            looks += 1
        return threads if _load(ctx.team + _FORMED) == _RUNS else 0
    while _load(ctx.team + _JOINED) < threads:
        if looks == _LOOKS_FOR_THREADS:
            store(ctx.team + _FORMED, _IS_ONE)
            return 1
        _wait(0)
        looks += 1
    store(ctx.team + _FORMED, _RUNS)
    return threads


@subroutine
def meet(ctx, threads, meeting):
    """Wait until all threads have come to their meeting of that number, from 1.

    Returns whether a status was not OK before it: the same answer for everybody.
    """
    if _add(ctx.team + _ARRIVED, 1) + 1 == meeting * threads:
        failed = _load(ctx.team + FAILED)
        store(ctx.team + _RELEASED, 2 * meeting + failed)
        return failed != 0
    looks = 0
    released = _load(ctx.team + _RELEASED)
    while released < 2 * meeting:
        _wait_briefly(ctx.yields if looks >= _PAUSES_BEFORE_YIELD else 0)
        looks += 1
        released = _load(ctx.team + _RELEASED)
    return (released & 1) != 0


@subroutine
def note_status(ctx, status):
    """Note what a thread returned."""
    _raise_to(ctx.team + _WORST, status)


@subroutine
def worst_status(ctx):
    """The largest status that was noted."""
    return _load(ctx.team + _WORST)
