"""Passes over the rows of a strip of columns: sums in registers, and formulas element by element.

A strip is a few vectors wide. LLVM would keep the sums of a loop over rows in memory, because it
cannot exclude that they overlap with the rows, and would check each row for overlaps.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from . import isa
from .simd import call_llvm, emit_loop, word
from .vectors import REAL, at_offset, broadcast, lane_mask, lanes, masked_load, masked_store

#: Columns of a wide strip and of the last ones: four vectors of doubles, or one.
WIDE, LAST = 4 * isa.vector_bytes() // 8, isa.vector_bytes() // 8

#: Columns that :func:`on_lanes` takes at a time.
SOME = 16


def as_double(builder, vector):
    """A vector in float64."""
    doubles = ir.VectorType(ir.DoubleType(), vector.type.count)
    return vector if vector.type == doubles else builder.fpext(vector, doubles)


def rounded(builder, vector, real):
    """A vector of float64 in the LLVM type of a network."""
    kind = ir.VectorType(real, vector.type.count)
    return vector if vector.type == kind else builder.fptrunc(vector, kind)


def root(builder, vector):
    """The square root."""
    name = f"llvm.sqrt.v{vector.type.count}f{64 if vector.type.element == ir.DoubleType() else 32}"
    return call_llvm(builder, name, vector.type, [vector])


class _Vectors:
    """Loads and stores of some vectors side by side, the only one of which may be masked."""

    def __init__(self, builder, real, count, columns=None):
        self.builder, self.count, self.width = builder, count, real.bitwidth // 8
        self.type = ir.VectorType(REAL[real], lanes(real))
        self.mask = None if columns is None else lane_mask(builder, columns, self.type.count)

    def _at(self, address, v):
        return at_offset(self.builder, address, v * self.type.count * self.width, self.type)

    def load(self, address):
        if self.mask is None:
            places = [self._at(address, v) for v in range(self.count)]
            return [self.builder.load(place, align=self.width) for place in places]
        place = self._at(address, 0)
        return [masked_load(self.builder, place, self.mask, self.type, self.width)]

    def store(self, address, vectors):
        for v, vector in enumerate(vectors):
            place = self._at(address, v)
            if self.mask is None:
                self.builder.store(vector, place, align=self.width)
            else:
                masked_store(self.builder, vector, place, self.mask, self.width)


class _Widened(_Vectors):
    """Vectors that are loaded with as many lanes as one of float64, and converted."""

    def __init__(self, builder, real, count, columns=None):
        super().__init__(builder, real, count)
        self.type = ir.VectorType(REAL[real], LAST)
        self.mask = None if columns is None else lane_mask(builder, columns, LAST)

    def load(self, address):
        return [as_double(self.builder, vector) for vector in super().load(address)]


def make_sums(n_sums: int, add, wide: bool):
    """Sums over the rows of a wide strip, or of the last one, as an intrinsic.

    ``sums(totals, matrices, mean, first, rows, stride, columns)`` adds to the WIDE doubles from
    ``totals + s*WIDE`` on, for s < n_sums, the sums over some rows from `first` on, which are
    `stride` elements apart. ``add(builder, values, mean, sums)`` gives the next sums of a vector
    of each matrix, in float64.
    """
    count = 4 if wide else 1

    @intrinsic
    def sums(typingctx, totals, matrices, mean, first, rows, stride, columns):
        n_matrices, real = len(matrices), matrices[0].dtype

        def codegen(context, builder, sig, args):
            totals, matrices, mean, first, rows, stride, columns = args
            values = _Widened(builder, real, count, None if wide else columns)
            wides = _Widened(builder, types.float64, count)
            means = wides.load(mean)
            step_bytes = builder.mul(stride, word(real.bitwidth // 8))

            def advance(*state):
                places, chains = state[:n_matrices], state[n_matrices:]
                rows_of = [values.load(place) for place in places]
                following = []
                for v in range(count):
                    of_vector = chains[v * n_sums : (v + 1) * n_sums]
                    following += add(builder, [row[v] for row in rows_of], means[v], of_vector)
                return *(builder.add(place, step_bytes) for place in places), *following

            zeros = [ir.Constant(wides.type, None)] * (count * n_sums)
            skip = builder.mul(first, step_bytes)
            starts = [builder.add(at, skip) for at in cgutils.unpack_tuple(builder, matrices)]
            chains = emit_loop(builder, rows, (*starts, *zeros), advance)[n_matrices:]
            for s in range(n_sums):
                place = builder.add(totals, word(s * WIDE * 8))
                before = wides.load(place)
                wides.store(
                    place, [builder.fadd(before[v], chains[v * n_sums + s]) for v in range(count)]
                )
            return context.get_dummy_value()

        i = types.int64
        return types.none(totals, matrices, mean, i, i, i, i), codegen

    return sums


def make_map(formula, n_vectors: int):
    """A formula for each element of some vectors, or with n_vectors 0 of part of one; an intrinsic.

    ``map(out, matrices, factors, rows, stride, columns)`` writes, for rows that are `stride`
    elements apart, ``formula(builder, values, factors)`` of a vector of each matrix and of each
    array of factors, which are the same for all rows. `out` may be one of the matrices.
    """

    @intrinsic
    def map_rows(typingctx, out, matrices, factors, rows, stride, columns):
        n_matrices, n_factors, real = len(matrices), len(factors), out.dtype

        def codegen(context, builder, sig, args):
            out, matrices, factors, rows, stride, columns = args
            count = n_vectors or 1
            vectors = _Vectors(builder, real, count, None if n_vectors else columns)
            fixed = [
                vectors.load(builder.extract_value(factors, index)) for index in range(n_factors)
            ]
            step_bytes = builder.mul(stride, word(real.bitwidth // 8))

            def advance(to, *places):
                values = [vectors.load(place) for place in places]
                vectors.store(
                    to,
                    [
                        formula(builder, [row[v] for row in values], [f[v] for f in fixed])
                        for v in range(count)
                    ],
                )
                return tuple(builder.add(place, step_bytes) for place in (to, *places))

            starts = [builder.extract_value(matrices, index) for index in range(n_matrices)]
            emit_loop(builder, rows, (out, *starts), advance)
            return context.get_dummy_value()

        i = types.int64
        return types.none(out, matrices, factors, i, i, i), codegen

    return map_rows


def on_lanes(emit):
    """A statement on up to SOME consecutive elements, as an intrinsic.

    ``statement(outs, sources, scalars, columns)`` writes to the arrays `outs` what
    ``emit(builder, sources, scalars, real)`` gives: vectors of float64, like what it gets, of which
    `real` is the LLVM type of the network. They are rounded to the types of `outs`.
    """

    @intrinsic
    def statement(typingctx, outs, sources, scalars, columns):
        def codegen(context, builder, sig, args):
            mask = lane_mask(builder, args[3], SOME)

            def place(pointers, values, index):
                kind = pointers[index].dtype
                vector = ir.VectorType(REAL[kind], SOME)
                at = at_offset(builder, builder.extract_value(values, index), 0, vector)
                return at, vector, kind.bitwidth // 8

            doubles = ir.VectorType(ir.DoubleType(), SOME)
            taken = []
            for index in range(len(sources)):
                at, vector, width = place(sources, args[1], index)
                taken.append(as_double(builder, masked_load(builder, at, mask, vector, width)))
            numbers = [
                broadcast(builder, builder.extract_value(args[2], index), doubles)
                for index in range(len(scalars))
            ]
            for index, value in enumerate(emit(builder, taken, numbers, REAL[outs[-1].dtype])):
                at, vector, width = place(outs, args[0], index)
                masked_store(builder, rounded(builder, value, vector.element), at, mask, width)
            return context.get_dummy_value()

        return types.none(outs, sources, scalars, types.int64), codegen

    return statement
