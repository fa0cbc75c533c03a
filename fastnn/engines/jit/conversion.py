"""Conversion of elements of any type to the network's, a vector at a time.

Rows of X are often short; LLVM's own vectorised loops would leave most of their elements to a
scalar remainder.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .kernels import subroutine
from .memory import Half
from .vectors import REAL, at_offset, broadcast, lane_mask, masked_load, masked_store

#: Elements converted at once, on every processor.
LANES = 16


@subroutine
def convert(y, x, factor, n):
    """y[j] = factor x[j] for j < n, where x has any type of FEATURE_TYPES."""
    j = 0
    while j + LANES <= n:
        _convert_all(y + j, x + j, factor, LANES)
        j += LANES
    if j < n:
        _convert_some(y + j, x + j, factor, n - j)


def _conversion(masked):
    """The step of :func:`convert` for LANES elements, or with `masked` for the first of them."""

    @intrinsic
    def step(typingctx, y, x, factor, count):
        real = y.dtype
        element = ir.IntType(16) if isinstance(x.dtype, Half) else _llvm_type(x.dtype)
        size = 2 if isinstance(x.dtype, Half) else x.dtype.bitwidth // 8
        width = real.bitwidth // 8

        def codegen(context, builder, sig, args):
            y, x, factor, count = args
            source, wanted = ir.VectorType(element, LANES), ir.VectorType(REAL[real], LANES)
            place, result = at_offset(builder, x, 0, source), at_offset(builder, y, 0, wanted)
            if masked:
                mask = lane_mask(builder, count, LANES)
                value = masked_load(builder, place, mask, source, size)
            else:
                value = builder.load(place, align=size)
            value = _as_real(builder, value, sig.args[1].dtype, wanted)
            value = builder.fmul(broadcast(builder, factor, wanted), value)
            if masked:
                masked_store(builder, value, result, mask, width)
            else:
                builder.store(value, result, align=width)
            return context.get_dummy_value()

        return types.none(y, x, factor, count), codegen

    return step


_convert_all, _convert_some = _conversion(masked=False), _conversion(masked=True)


def _llvm_type(number):
    return REAL[number] if number in REAL else ir.IntType(number.bitwidth)


def _as_real(builder, value, number, wanted):
    """A vector of numbers converted to the vector type `wanted`."""
    if isinstance(number, Half):
        value, number = _single_of_half(builder, value), types.float32
    if number in REAL:
        have, want = (4 if t == ir.FloatType() else 8 for t in (value.type.element, wanted.element))
        if have == want:
            return value
        return builder.fpext(value, wanted) if have < want else builder.fptrunc(value, wanted)
    return builder.sitofp(value, wanted) if number.signed else builder.uitofp(value, wanted)


def _single_of_half(builder, half):
    """float16 bit patterns converted to float32, exactly, by integer arithmetic.

    A float16 has a sign, 5 bits of exponent with bias 15 and 10 bits of mantissa; a float32 has 8
    bits of exponent with bias 127 and 23 of mantissa.
    """
    words, singles = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.FloatType(), LANES)

    def number(value):
        return ir.Constant(words, [value] * LANES)

    half = builder.zext(half, words)
    sign = builder.shl(builder.and_(half, number(0x8000)), number(16))
    size = builder.and_(half, number(0x7FFF))
    exponent = builder.and_(size, number(0x7C00))
    normal = builder.add(builder.shl(size, number(13)), number((127 - 15) << 23))
    beyond = builder.add(normal, number((255 - 31 - (127 - 15)) << 23))
    mantissa = builder.uitofp(size, singles)
    tiny = builder.fmul(mantissa, ir.Constant(singles, [2.0**-24] * LANES))
    result = builder.select(builder.icmp_unsigned("==", exponent, number(0x7C00)), beyond, normal)
    is_tiny = builder.icmp_unsigned("==", exponent, number(0))
    result = builder.select(is_tiny, builder.bitcast(tiny, words), result)
    return builder.bitcast(builder.or_(result, sign), singles)
