"""Sums, dot products and maxima of consecutive elements, over SUM_LANES virtual lanes.

Lane l takes the elements l, l + SUM_LANES, ... in that order; then lanes l and l + 8 are joined, l
and l + 4, and so on. So the bits do not depend on the width of the processor's vectors. Sums are
float64 in either type of network, but for the dot products of :func:`make_dots`.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .kernels import formula, subroutine
from .simd import call_llvm, emit_loop, fma, fused, word
from .vectors import LANE, REAL, at_offset, broadcast, lane_mask, masked_load, shuffle

#: Virtual lanes of a sum, on every processor. Changing it changes results bitwise.
SUM_LANES = 16

#: Up to so many elements, which would leave most lanes idle, are added one after another. Changing
#: it changes results bitwise.
FEW = 4

#: Doubles of a block of :func:`sum_in_blocks`. Changing it changes results bitwise.
_SUM_BLOCK = 128

_DOUBLES = ir.VectorType(ir.DoubleType(), SUM_LANES)


def _reduce(builder, pointers, real, count, start, take, join):
    """Emit the loop over `count` elements of some pointers, and the tree over the lanes.

    ``take(accumulator, vectors, mask)`` adds one vector of each; mask is None but for the last.
    """
    width = real.bitwidth // 8
    vector = ir.VectorType(REAL[real], SUM_LANES)

    def load(address, mask=None):
        pointer = at_offset(builder, address, 0, vector)
        if mask is not None:
            return masked_load(builder, pointer, mask, vector, width)
        return builder.load(pointer, align=width)

    def advance(total, *places):
        following = take(total, [load(place) for place in places], None)
        return following, *(builder.add(place, word(SUM_LANES * width)) for place in places)

    whole = builder.sdiv(count, word(SUM_LANES))
    total, *places = emit_loop(builder, whole, (start, *pointers), advance)
    mask = lane_mask(builder, builder.sub(count, builder.mul(whole, word(SUM_LANES))), SUM_LANES)
    total = take(total, [load(place, mask) for place in places], mask)
    return join_lanes(builder, total, join)


def join_lanes(builder, total, join):
    """Emit the tree over the lanes: l and l + 8, then l and l + 4, and so on."""
    n = SUM_LANES
    while n > 1:
        n //= 2
        low = shuffle(builder, total, total, list(range(n)))
        high = shuffle(builder, total, total, list(range(n, 2 * n)))
        total = join(low, high)
    return builder.extract_element(total, ir.Constant(LANE, 0))


def _as_doubles(builder, vector):
    return vector if vector.type == _DOUBLES else builder.fpext(vector, _DOUBLES)


def _adds(term):
    """The sum over the lanes of ``term(builder, doubles)``, as an intrinsic."""

    @intrinsic
    def sum_of_terms(typingctx, x, count):
        def codegen(context, builder, sig, args):
            def take(total, vectors, _):
                return builder.fadd(total, term(builder, _as_doubles(builder, vectors[0])))

            start = ir.Constant(_DOUBLES, None)
            return _reduce(builder, args[:1], x.dtype, args[1], start, take, builder.fadd)

        return types.float64(x, types.int64), codegen

    return sum_of_terms


def _magnitude(builder, doubles):
    return call_llvm(builder, f"llvm.fabs.v{SUM_LANES}f64", _DOUBLES, [doubles])


_sum_of_lanes, _size_of_lanes = _adds(lambda builder, doubles: doubles), _adds(_magnitude)


@intrinsic
def _dot_of_lanes(typingctx, x, y, count):
    def codegen(context, builder, sig, args):
        def take(total, vectors, _):
            a, b = (_as_doubles(builder, vector) for vector in vectors)
            return fused(builder, a, b, total)

        start = ir.Constant(_DOUBLES, None)
        return _reduce(builder, args[:2], x.dtype, args[2], start, take, builder.fadd)

    return types.float64(x, y, types.int64), codegen


@intrinsic
def _maximum_of_lanes(typingctx, x, count):
    def codegen(context, builder, sig, args):
        vector = ir.VectorType(REAL[x.dtype], SUM_LANES)
        lowest = ir.Constant(vector, [-math.inf] * SUM_LANES)

        def larger(a, b):
            return builder.select(builder.fcmp_ordered(">", b, a), b, a)

        def take(total, vectors, mask):
            value = vectors[0] if mask is None else builder.select(mask, vectors[0], lowest)
            return larger(total, value)

        return _reduce(builder, args[:1], x.dtype, args[1], lowest, take, larger)

    return x.dtype(x, types.int64), codegen


@formula
def sum_of(x, count):
    """The sum of x[i] for i < count, in float64."""
    if count > FEW:
        return _sum_of_lanes(x, count)
    total = 0.0
    for i in range(count):
        total += np.float64(x[i])
    return total


@formula
def size_of(x, count):
    """The sum of |x[i]| for i < count, in float64."""
    if count > FEW:
        return _size_of_lanes(x, count)
    total = 0.0
    for i in range(count):
        total += abs(np.float64(x[i]))
    return total


@formula
def dot_of(x, y, count):
    """The sum of x[i] y[i] for i < count, in float64."""
    if count > FEW:
        return _dot_of_lanes(x, y, count)
    total = 0.0
    for i in range(count):
        total = fma(np.float64(x[i]), np.float64(y[i]), total)
    return total


@formula
def maximum_of(x, count):
    """The largest x[i] for i < count, skipping a NaN but for the first element."""
    if count > FEW:
        return _maximum_of_lanes(x, count)
    largest = x[0]
    for i in range(1, count):
        largest = x[i] if x[i] > largest else largest
    return largest


@intrinsic
def first_at_least(typingctx, x, value, count):
    """The first i < count with x[i] >= value, or `count`."""
    real = x.dtype
    width = real.bitwidth // 8
    vector, bits = ir.VectorType(REAL[real], SUM_LANES), ir.IntType(SUM_LANES)

    def codegen(context, builder, sig, args):
        x, value, count = args
        least = broadcast(builder, value, vector)

        def first_lane(found, at):
            """`at` + the first lane that is found, or `count`."""
            lanes = builder.bitcast(found, bits)
            lane = builder.cttz(lanes, ir.Constant(ir.IntType(1), 0))
            place = builder.add(at, builder.zext(lane, word(0).type))
            none = builder.icmp_unsigned("==", lanes, ir.Constant(bits, 0))
            return builder.select(none, count, place)

        def earlier(a, b):
            return builder.select(builder.icmp_signed("<", b, a), b, a)

        def advance(first, at, address):
            values = builder.load(at_offset(builder, address, 0, vector), align=width)
            place = first_lane(builder.fcmp_ordered(">=", values, least), at)
            following = builder.add(at, word(SUM_LANES))
            return earlier(first, place), following, builder.add(address, word(SUM_LANES * width))

        whole = builder.sdiv(count, word(SUM_LANES))
        first, at, address = emit_loop(builder, whole, (count, word(0), x), advance)
        mask = lane_mask(builder, builder.sub(count, at), SUM_LANES)
        pointer = at_offset(builder, address, 0, vector)
        values = masked_load(builder, pointer, mask, vector, width)
        found = builder.and_(mask, builder.fcmp_ordered(">=", values, least))
        return earlier(first, first_lane(found, at))

    return types.int64(x, value, types.int64), codegen


@subroutine
def sum_in_blocks(start, values, n):
    """start + the sums of blocks of consecutive doubles, added in order."""
    total = start
    i = 0
    while i < n:
        block = 0.0
        for k in range(i, min(i + _SUM_BLOCK, n)):
            block += values[k]
        total += block
        i += _SUM_BLOCK
    return total


def make_dots(n_rows: int):
    """Dot products of `n_rows` rows with one vector, as an intrinsic.

    ``dots(sums, a, a_row, w, depth)`` continues, for r < n_rows and lanes l < SUM_LANES,

        sums[r*SUM_LANES + l] = fma(a[r*a_row + k], w[k], sums[r*SUM_LANES + l])

    over k = l, l + SUM_LANES, ... < depth, in that order. Reads a and w, writes sums.
    """

    @intrinsic
    def dots(typingctx, sums, a, a_row, w, depth):
        real = sums.dtype
        width = real.bitwidth // 8
        vector = ir.VectorType(REAL[real], SUM_LANES)

        def codegen(context, builder, sig, args):
            sums, a, a_row, w, depth = args
            a_row = builder.mul(a_row, word(width))
            places = [
                at_offset(builder, sums, r * SUM_LANES * width, vector) for r in range(n_rows)
            ]
            starts = [builder.load(place, align=width) for place in places]
            step_bytes = SUM_LANES * width

            def advance(a_at, w_at, chains, load):
                factor = load(w_at)
                at = a_at
                results = []
                for chain in chains:
                    results.append(fused(builder, load(at), factor, chain))
                    at = builder.add(at, a_row)
                return results

            def load_all(at):
                return builder.load(at_offset(builder, at, 0, vector), align=width)

            def step(a_at, w_at, *chains):
                ends = builder.add(a_at, word(step_bytes)), builder.add(w_at, word(step_bytes))
                return *ends, *advance(a_at, w_at, chains, load_all)

            whole = builder.sdiv(depth, word(SUM_LANES))
            a_at, w_at, *chains = emit_loop(builder, whole, (a, w, *starts), step)
            rest = builder.sub(depth, builder.mul(whole, word(SUM_LANES)))
            mask = lane_mask(builder, rest, SUM_LANES)

            def load_rest(at):
                return masked_load(builder, at_offset(builder, at, 0, vector), mask, vector, width)

            with builder.if_else(builder.icmp_signed(">", rest, word(0))) as (then, otherwise):
                with then:
                    results = advance(a_at, w_at, chains, load_rest)
                    for place, value in zip(places, results, strict=True):
                        builder.store(value, place, align=width)
                with otherwise:
                    for place, value in zip(places, chains, strict=True):
                        builder.store(value, place, align=width)
            return context.get_dummy_value()

        i = types.int64
        return types.none(sums, sums, i, sums, i), codegen

    return dots


@intrinsic
def sum_of_lanes(typingctx, sums):
    """The sum of SUM_LANES consecutive elements, by the tree over the lanes."""
    real = sums.dtype
    width = real.bitwidth // 8

    def codegen(context, builder, sig, args):
        vector = ir.VectorType(REAL[real], SUM_LANES)
        total = builder.load(at_offset(builder, args[0], 0, vector), align=width)
        return join_lanes(builder, total, builder.fadd)

    return real(sums), codegen
