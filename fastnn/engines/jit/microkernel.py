"""The micro-kernels of the matrix product, as LLVM vector code.

A micro-kernel keeps a tile of the result in registers while it passes over k. Its width is that of
the processor's vectors; the bits of a result do not depend on it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .simd import emit_loop, fused, prefetch, word
from .vectors import REAL, at_offset, broadcast, lane_mask, lanes, masked_load, masked_store

_WORD = ir.IntType(64)


class Matrix(NamedTuple):
    """A matrix of contiguous rows: element [i, j] is ``at[i*row + j]``."""

    at: Any  # pointer to the first element
    row: int  # elements from one row to the next; 0 repeats one row


class Strided(NamedTuple):
    """The left operand of a product: element [i, k] is ``at[i*row + k*step]``."""

    at: Any
    row: int
    step: int


def _moved(emit_step):
    """``moved(matrix, count)``: a Matrix or Strided `count` steps further, as an intrinsic.

    ``emit_step(builder, matrix)`` emits the number of elements of a step.
    """

    @intrinsic
    def moved(typingctx, matrix, count):
        width = word(matrix[0].dtype.bitwidth // 8)

        def codegen(context, builder, sig, args):
            matrix, count = args
            elements = builder.mul(count, emit_step(builder, matrix))
            at = builder.add(builder.extract_value(matrix, 0), builder.mul(elements, width))
            return builder.insert_value(matrix, at, 0)

        return matrix(matrix, types.int64), codegen

    return moved


#: ``from_row(matrix, i)``: the matrix without its first i rows.
from_row = _moved(lambda builder, matrix: builder.extract_value(matrix, 1))
#: ``from_column(matrix, j)``: the matrix without its first j columns.
from_column = _moved(lambda builder, matrix: word(1))
#: ``from_step(left, k)``: the left operand without its first k columns.
from_step = _moved(lambda builder, left: builder.extract_value(left, 2))


def make_micro_kernel(
    n_rows: int,
    n_vectors: int,
    masked: bool = False,
    packs: bool = False,
    prefetches: bool = False,
    half: bool = False,
):
    """A micro-kernel for n_rows rows and n_vectors vectors, as an intrinsic.

    ``micro_kernel(c, first, a, b, depth, columns, adds, other, next_c)`` computes, in registers,
    for r < n_rows and all columns j of the vectors,

        t[r, j] = fma(a[r, k], b[k, j], t[r, j])    for k = 0, 1, ... depth-1 in that order.

    t starts as first[r, j]; at the end it is stored in c[r, j], or added to it if `adds` is 1.
    c, first, b and other are Matrix, a is Strided, next_c is a pointer.

    masked      the last vector ends with column `columns` - 1; the lanes behind are neither read
                nor written
    packs       the rows of b are also copied to other.at, one after another
    prefetches  prefetches row k of `other` in step k, and first the tile of c at next_c, unless
                that is c.at
    half        the vectors have half the size
    Reads a, b, first and, with adds, c; writes c, which may overlap first alone.
    """

    @intrinsic
    def micro_kernel(typingctx, c, first, a, b, depth, columns, adds, other, next_c):
        real = next_c.dtype
        n = lanes(real) // 2 if half else lanes(real)
        width = real.bitwidth // 8
        element = REAL[real]
        vector = ir.VectorType(element, n)
        places = [(r, v) for r in range(n_rows) for v in range(n_vectors)]

        def codegen(context, builder, sig, args):
            def unpacked(matrix):
                """The address and the strides in bytes."""
                fields = [builder.extract_value(matrix, i) for i in range(len(matrix.type))]
                return fields[0], *(builder.mul(stride, word(width)) for stride in fields[1:])

            (c, c_row), (first, first_row), (a, a_row, a_step), (b, b_row) = map(unpacked, args[:4])
            depth, columns, adds = args[4:7]
            other, other_row = unpacked(args[7])
            next_c = args[8]
            mask = None
            if masked:
                mask = lane_mask(builder, builder.sub(columns, word((n_vectors - 1) * n)), n)

            def load(base, v):
                pointer = at_offset(builder, base, v * n * width, vector)
                if masked and v == n_vectors - 1:
                    return masked_load(builder, pointer, mask, vector, width)
                return builder.load(pointer, align=width)

            def store(value, base, v):
                pointer = at_offset(builder, base, v * n * width, vector)
                if masked and v == n_vectors - 1:
                    masked_store(builder, value, pointer, mask, width)
                else:
                    builder.store(value, pointer, align=width)

            def rows_of(base, stride):
                return [builder.add(base, builder.mul(stride, word(r))) for r in range(n_rows)]

            a_rows = _row_offsets(builder, a_row, n_rows)
            starts = [load(base, v) for base in rows_of(first, first_row) for v in range(n_vectors)]

            if prefetches:
                with builder.if_then(builder.icmp_signed("!=", next_c, c)):
                    for row in rows_of(next_c, c_row):
                        for v in range(n_vectors):
                            prefetch(builder, builder.add(row, word(v * n * width)))

            def advance(a_at, b_at, other_at, *chains):
                b_vectors = [load(b_at, v) for v in range(n_vectors)]
                if packs:
                    for v, value in enumerate(b_vectors):
                        store(value, other_at, v)
                if prefetches:
                    prefetch(builder, other_at)
                sums = []
                for r in range(n_rows):
                    at = a_at if r == 0 else builder.add(a_at, a_rows[r](builder))
                    pointer = builder.inttoptr(at, element.as_pointer())
                    factor = broadcast(builder, builder.load(pointer), vector)
                    for v in range(n_vectors):
                        sums.append(fused(builder, factor, b_vectors[v], chains[len(sums)]))
                return (
                    builder.add(a_at, a_step),
                    builder.add(b_at, b_row),
                    builder.add(other_at, word(n_vectors * n * width) if packs else other_row),
                    *sums,
                )

            _, _, _, *results = emit_loop(builder, depth, (a, b, other, *starts), advance)
            c_rows = rows_of(c, c_row)
            with builder.if_else(builder.icmp_signed("!=", adds, word(0))) as (then, otherwise):
                with then:
                    for (r, v), t in zip(places, results, strict=True):
                        store(builder.fadd(load(c_rows[r], v), t), c_rows[r], v)
                with otherwise:
                    for (r, v), t in zip(places, results, strict=True):
                        store(t, c_rows[r], v)
            return context.get_dummy_value()

        i = types.int64
        return types.none(c, first, a, b, i, i, i, other, next_c), codegen

    return micro_kernel


def _row_offsets(builder, stride, n_rows):
    """For each row a function that emits its offset from the first one at the place of use.

    The odd multiples of the stride stay in registers; the others are those times 2, 4 or 8, which
    x86 addressing modes can express. An empty piece of assembly hides the odd multiples from LLVM,
    which would otherwise add the stride again and again, in one dependent chain.
    """
    hide = ir.FunctionType(_WORD, [_WORD])
    odd = {
        r: builder.asm(hide, "", "=r,0", [builder.mul(stride, word(r))], False)
        for r in range(1, n_rows, 2)
    }

    def offset(r):
        shift = (r & -r).bit_length() - 1 if r else 0
        root = odd.get(r >> shift)
        return lambda builder: builder.shl(root, word(shift)) if shift else root

    return [offset(r) for r in range(n_rows)]
