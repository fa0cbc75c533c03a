"""Sums, dot products and maxima of consecutive elements, over SUM_LANES virtual lanes.

Lane l takes the elements l, l + SUM_LANES, ... in that order; then lanes l and l + 8 are joined, l
and l + 4, and so on. So the bits do not depend on the width of the processor's vectors. Sums are
float64 in either type of network.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .kernels import formula
from .simd import call_llvm, fma, fused, word
from .tiles import LANE, REAL, SUM_LANES, at_offset, lane_mask, masked_load, shuffle

#: So few elements would leave most lanes idle: a rule for the bits.
FEW = 4

_DOUBLES = ir.VectorType(ir.DoubleType(), SUM_LANES)
_WORD = ir.IntType(64)


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

    whole = builder.sdiv(count, word(SUM_LANES))
    before = builder.block
    loop, after = builder.append_basic_block("lanes"), builder.append_basic_block("tail")
    builder.cbranch(builder.icmp_signed(">", whole, word(0)), loop, after)
    builder.position_at_end(loop)
    left, total = builder.phi(_WORD), builder.phi(start.type)
    places = [builder.phi(_WORD) for _ in pointers]
    following = [
        builder.sub(left, word(1)),
        take(total, [load(place) for place in places], None),
        *(builder.add(place, word(SUM_LANES * width)) for place in places),
    ]
    for phi, first, value in zip(
        [left, total, *places], [whole, start, *pointers], following, strict=True
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed(">", following[0], word(0)), loop, after)

    builder.position_at_end(after)
    ends = []
    for first, value in zip([start, *pointers], following[1:], strict=True):
        end = builder.phi(first.type)
        end.add_incoming(first, before)
        end.add_incoming(value, loop)
        ends.append(end)
    mask = lane_mask(builder, builder.sub(count, builder.mul(whole, word(SUM_LANES))), SUM_LANES)
    total = take(ends[0], [load(place, mask) for place in ends[1:]], mask)
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
    """The largest x[i] for i < count; a NaN behind the first is passed over."""
    if count > FEW:
        return _maximum_of_lanes(x, count)
    largest = x[0]
    for i in range(1, count):
        largest = x[i] if x[i] > largest else largest
    return largest
