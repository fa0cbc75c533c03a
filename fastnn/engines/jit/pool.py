"""Numba's own thread pool, for use where the C engine's is missing."""

from __future__ import annotations

import contextlib

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .. import threads
from .kernels import address


@contextlib.contextmanager
def launch(dtype, n_threads: int):
    """Context with n_threads ready: yields the launcher's address, or 0 if no pool can be had."""
    with threads.numba_pool(n_threads) as ready:
        yield address("launch", dtype) if ready else 0


@intrinsic
def pool_size(typingctx):
    """The threads that Numba's pool has for this thread.

    Numba's own function would leave an address of this process in the code that is kept on disk.
    """

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.IntType(64), [])
        name = "get_num_threads"
        size = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return builder.sext(builder.trunc(size, ir.IntType(32)), kind.return_type)

    return types.int64(), codegen


@intrinsic
def set_pool_size(typingctx, threads):
    """Set the threads that Numba's pool has for this thread, at most those it was started with."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
        function = cgutils.get_or_insert_function(builder.module, kind, "set_num_threads")
        builder.call(function, [builder.trunc(args[0], ir.IntType(32))])
        return context.get_dummy_value()

    return types.none(types.int64), codegen
