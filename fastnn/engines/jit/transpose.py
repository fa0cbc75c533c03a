"""The transpose of a matrix, in register blocks."""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .kernels import subroutine, takes_record
from .memory import Pointer, call_with_record
from .simd import word
from .vectors import REAL, at_offset, lanes, shuffle, vector_lanes


@intrinsic
def transpose_block(typingctx, out, out_row, source, source_row):
    """out[j*out_row + i] = source[i*source_row + j] for a block of vector_lanes squared.

    In registers: for s = 1, 2, 4, ... rows i and i+s exchange half of their lanes.
    """
    real = out.dtype
    n = lanes(real)
    width = real.bitwidth // 8
    vector = ir.VectorType(REAL[real], n)

    def codegen(context, builder, sig, args):
        out, out_row, source, source_row = args

        def pointer(base, stride, i):
            offset = builder.mul(builder.mul(stride, word(width)), word(i))
            return at_offset(builder, builder.add(base, offset), 0, vector)

        rows = [builder.load(pointer(source, source_row, i), align=width) for i in range(n)]
        s = 1
        while s < n:
            low = [lane if not lane & s else n + lane - s for lane in range(n)]
            high = [lane + s if not lane & s else n + lane for lane in range(n)]
            for i in range(n):
                if not i & s:
                    a, b = rows[i], rows[i + s]
                    rows[i], rows[i + s] = (
                        shuffle(builder, a, b, low),
                        shuffle(builder, a, b, high),
                    )
            s *= 2
        for i, row in enumerate(rows):
            builder.store(row, pointer(out, out_row, i), align=width)
        return context.get_dummy_value()

    i = types.int64
    return types.none(out, i, source, i), codegen


class Transpose(NamedTuple):
    """The arguments of :func:`transpose`."""

    out: Any
    out_row: int
    source: Any
    source_row: int
    rows: int
    columns: int


def transpose_type(real):
    """The Numba type of a Transpose for networks of an element type."""
    pointer = Pointer(real)
    fields = (pointer, types.int64, pointer, types.int64, types.int64, types.int64)
    return types.NamedTuple(fields, Transpose)


@takes_record(transpose_type)
def transpose(record):
    """out[j*out_row + i] = source[i*source_row + j] for i < rows, j < columns."""
    out, out_row, source, source_row, rows, columns = record[0]
    n = vector_lanes(out)
    i = 0
    while i < rows:
        j = 0
        if rows - i >= n:
            while columns - j >= n:
                transpose_block(
                    out + (j * out_row + i), out_row, source + (i * source_row + j), source_row
                )
                j += n
        for r in range(i, min(i + n, rows)):
            for c in range(j, columns):
                out[c * out_row + r] = source[r * source_row + c]
        i += n
    return 0


@subroutine
def transpose_matrix(ctx, out, out_row, source, source_row, rows, columns):
    """Call :func:`transpose` by its address, so that it is compiled once."""
    record = Transpose(out, out_row, source, source_row, rows, columns)
    return call_with_record(ctx.transpose, record)
