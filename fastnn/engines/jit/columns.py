"""Short rows side by side: a block of rows is transposed, so that each row has its own lane.

A row of few classes is shorter than a vector, so its maximum, sums and logarithm would leave most
lanes idle. Here element j of all rows of a block is a column of ROWS consecutive elements, and
every step works on a whole column. The sums have the bits of :mod:`.reductions`.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .kernels import subroutine
from .reductions import FEW
from .simd import call_llvm, fused
from .vectors import LANE, REAL, at_offset, broadcast, lane_mask

#: Rows of a block, and elements of the longest short row.
ROWS, SHORT = 16, 16


def on_columns(emit):
    """A statement on columns, as an intrinsic.

    ``statement(out, sources)`` writes ``emit(builder, *columns)`` to the column `out`, where the
    columns begin at the sources. `emit` may mix the network's type and float64; its result is
    rounded to that of `out`. Not a loop, because LLVM cannot exclude that two columns overlap.
    """

    @intrinsic
    def statement(typingctx, out, sources):
        def codegen(context, builder, sig, args):
            def column(pointer, address):
                vector = ir.VectorType(REAL[pointer.dtype], ROWS)
                return at_offset(builder, address, 0, vector), pointer.dtype.bitwidth // 8

            values = []
            for index, pointer in enumerate(sources):
                place, width = column(pointer, builder.extract_value(args[1], index))
                values.append(builder.load(place, align=width))
            value = emit(builder, *values)
            place, width = column(out, args[0])
            if value.type != place.type.pointee:
                value = builder.fptrunc(value, place.type.pointee)
            builder.store(value, place, align=width)
            return context.get_dummy_value()

        return types.none(out, sources), codegen

    return statement


def double(builder, vector):
    """The column in float64."""
    doubles = ir.VectorType(ir.DoubleType(), ROWS)
    return vector if vector.type == doubles else builder.fpext(vector, doubles)


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def _inverse(builder, x):
    return builder.fdiv(ir.Constant(x.type, [1.0] * ROWS), x)


copy = on_columns(lambda builder, x: x)
invert = on_columns(_inverse)
divide = on_columns(lambda builder, x, y: builder.fdiv(x, y))
subtract = on_columns(lambda builder, x, y: builder.fsub(x, y))
_maximum = on_columns(_larger)
_widen = on_columns(double)
add_columns = on_columns(lambda builder, total, x: builder.fadd(total, double(builder, x)))
_multiply = on_columns(lambda builder, x, y: builder.fmul(double(builder, x), double(builder, y)))
_fuse = on_columns(
    lambda builder, x, y, total: fused(builder, double(builder, x), double(builder, y), total)
)


def _moves_column(name, emit):
    """An intrinsic that moves a column from or to strided elements of `rows` rows."""

    @intrinsic
    def move(typingctx, column, strided, stride, rows):
        real = column.dtype
        width = real.bitwidth // 8
        vector = ir.VectorType(REAL[real], ROWS)
        addresses = ir.VectorType(ir.PointerType(REAL[real]), ROWS)
        words = ir.VectorType(ir.IntType(64), ROWS)

        def codegen(context, builder, sig, args):
            column, strided, stride, rows = args
            steps = ir.Constant(words, [width * i for i in range(ROWS)])
            offsets = builder.mul(broadcast(builder, stride, words), steps)
            places = builder.inttoptr(
                builder.add(broadcast(builder, strided, words), offsets), addresses
            )
            full = f"llvm.masked.{name}.v{ROWS}f{8 * width}.v{ROWS}p0"
            mask = lane_mask(builder, rows, ROWS)
            place = at_offset(builder, column, 0, vector)
            emit(builder, full, places, mask, place, width)
            return context.get_dummy_value()

        return types.none(column, column, types.int64, types.int64), codegen

    return move


def _emit_gather(builder, name, places, mask, place, width):
    vector = place.type.pointee
    args = [places, ir.Constant(LANE, width), mask, ir.Constant(vector, None)]
    builder.store(call_llvm(builder, name, vector, args), place, align=width)


def _emit_scatter(builder, name, places, mask, place, width):
    args = [builder.load(place, align=width), places, ir.Constant(LANE, width), mask]
    call_llvm(builder, name, ir.VoidType(), args)


#: column[i] = strided[i*stride] for i < rows, and 0 for the other rows.
_gather = _moves_column("gather", _emit_gather)
#: strided[i*stride] = column[i] for i < rows.
_scatter = _moves_column("scatter", _emit_scatter)


@subroutine
def to_columns(columns, source, rows, n):
    """columns[j*ROWS + i] = source[i*n + j] for i < rows, and 0 for the other rows."""
    for j in range(n):
        _gather(columns + j * ROWS, source + j, n, rows)


@subroutine
def from_columns(out, columns, rows, n):
    """out[i*n + j] = columns[j*ROWS + i] for i < rows."""
    for j in range(n):
        _scatter(columns + j * ROWS, out + j, n, rows)


@subroutine
def subtract_maximum(x, highest, n):
    """Subtract from every element the maximum of its row; leaves the maxima in `highest`."""
    copy(highest, (x,))
    for j in range(ROWS, n * ROWS, ROWS):
        _maximum(highest, (highest, x + j))
    for j in range(0, n * ROWS, ROWS):
        subtract(x + j, (x + j, highest))


@subroutine
def sums_of_columns(sums, x, n):
    """sums[i] = the sum of row i of x in float64; `sums` has room for n columns."""
    if n <= FEW:
        for i in range(ROWS):
            sums[i] = 0.0
        for j in range(0, n * ROWS, ROWS):
            add_columns(sums, (sums, x + j))
    else:
        for j in range(0, n * ROWS, ROWS):
            _widen(sums + j, (x + j,))
        _join(sums, n)


@subroutine
def dots_of_columns(sums, x, y, n):
    """sums[i] = the dot product of rows i of x and y in float64; `sums` has room for n columns."""
    if n <= FEW:
        for i in range(ROWS):
            sums[i] = 0.0
        for j in range(0, n * ROWS, ROWS):
            _fuse(sums, (x + j, y + j, sums))
    else:
        for j in range(0, n * ROWS, ROWS):
            _multiply(sums + j, (x + j, y + j))
        _join(sums, n)


@subroutine
def _join(sums, n):
    """Add columns l and l + 8, then l and l + 4, and so on, as far as there are columns."""
    half = SHORT // 2
    while half > 0:
        for j in range(min(half, n - half)):
            add_columns(sums + j * ROWS, (sums + j * ROWS, sums + (half + j) * ROWS))
        half //= 2
