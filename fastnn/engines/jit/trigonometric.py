"""sin and cos of every real, in either width, from basic arithmetic alone.

An angle x is reduced to q quarter turns and a remainder r with |r| <= pi/4. A small x is its own
remainder. Otherwise x = M 2^E with an integer M. The bits of 2/pi at 2^(2-E) and above only add
whole turns to M 2^E (2/pi), so the 192 bits from there on give q and r to full precision (M. Payne
and R. Hanek, Radian reduction for trigonometric functions, SIGNUM Newsletter 18, 1983). All is
computed in float64 and without branches, so that loops vectorise.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .kernels import formula
from .memory import like
from .simd import fma, make_polynomial, word

# 64 zeros and the first 1280 bits of 2/pi.
_TWO_OVER_PI = bytes(8) + bytes.fromhex(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561"
    "b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484"
    "e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b"
    "3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d"
)
_WORDS = [int.from_bytes(_TWO_OVER_PI[i : i + 8], "big") for i in range(0, len(_TWO_OVER_PI), 8)]
_MANTISSA = 52
#: Larger angles, beyond an eighth of a turn, are reduced.
_EIGHTH = math.pi / 4
_QUARTER = math.pi / 2
_QUARTER_LOW = float.fromhex("0x1.1a62633145c07p-54")

# (sin r - r) / r^3 and (cos r - 1 + r^2/2) / r^4 by powers of r^2.
_sine_tail = make_polynomial(
    (), tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(8, 0, -1))
)
_cosine_tail = make_polynomial(
    (), tuple((-1) ** k / math.factorial(2 * k) for k in range(8, 1, -1))
)


@intrinsic
def _turns_of(typingctx, x):
    """(q, h, l) for a finite x above an eighth of a turn: x is q + h + l quarter turns.

    |h + l| <= 1/2; q is an integer in float64, correct modulo 4.
    """
    i64, real = ir.IntType(64), ir.DoubleType()

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], i64)
        exponent = builder.and_(builder.lshr(bits, word(_MANTISSA)), word(0x7FF))
        mantissa = builder.and_(bits, word((1 << _MANTISSA) - 1))
        mantissa = builder.or_(mantissa, word(1 << _MANTISSA))
        # The first bit needed, 2^(2-E), after the 64 zeros; E is exponent - 1075.
        first = builder.add(exponent, word(64 - 1075 - 2))
        index, shift = builder.lshr(first, word(6)), builder.and_(first, word(63))
        table = _table(builder)
        words = [_word_at(builder, table, builder.add(index, word(k))) for k in range(4)]
        w0, w1, w2 = (_joined(builder, a, b, shift) for a, b in itertools.pairwise(words))
        # The two leading words of the mantissa times w0 w1 w2, modulo whole turns.
        low = builder.add(_high_word(builder, mantissa, w2), builder.mul(mantissa, w1))
        carry = builder.zext(builder.icmp_unsigned("<", low, builder.mul(mantissa, w1)), i64)
        high = builder.add(builder.mul(mantissa, w0), _high_word(builder, mantissa, w1))
        high = builder.add(high, carry)
        # Two bits of quarter turns; the bits after them are the remainder, as a signed number.
        rest = builder.or_(builder.shl(high, word(2)), builder.lshr(low, word(62)))
        quarters = builder.add(builder.lshr(high, word(62)), builder.lshr(rest, word(63)))
        h = builder.sitofp(rest, real)
        lost = builder.sub(rest, builder.fptosi(h, i64))
        tail = builder.uitofp(builder.shl(low, word(2)), real)
        tail = builder.fmul(tail, ir.Constant(real, 2.0**-64))
        tail = builder.fadd(builder.sitofp(lost, real), tail)
        scale = ir.Constant(real, 2.0**-64)
        parts = (
            builder.sitofp(quarters, real),
            builder.fmul(h, scale),
            builder.fmul(tail, scale),
        )
        return context.make_tuple(builder, sig.return_type, parts)

    return types.UniTuple(types.float64, 3)(types.float64), codegen


def _table(builder):
    """The address of the words of 2/pi in the compiled code."""
    array = ir.Constant(ir.ArrayType(ir.IntType(64), len(_WORDS)), _WORDS)
    table = cgutils.global_constant(builder.module, "fastnn_two_over_pi", array)
    return builder.gep(table, [word(0), word(0)])


def _word_at(builder, table, index):
    # Angles that are infinite, NaN or not reduced have no words there; their result is not used.
    inside = builder.icmp_unsigned("<", index, word(len(_WORDS)))
    return builder.load(builder.gep(table, [builder.select(inside, index, word(0))]))


def _joined(builder, a, b, shift):
    """The 64 bits of a and b that begin at bit `shift` of a."""
    behind = builder.lshr(builder.lshr(b, word(1)), builder.sub(word(63), shift))
    return builder.or_(builder.shl(a, shift), behind)


def _high_word(builder, a, b):
    """The upper 64 bits of a product, from 32-bit products, which vector units have."""
    half, low = word(32), word(0xFFFFFFFF)
    a1, a0 = builder.lshr(a, half), builder.and_(a, low)
    b1, b0 = builder.lshr(b, half), builder.and_(b, low)
    middle = builder.add(builder.mul(a1, b0), builder.lshr(builder.mul(a0, b0), half))
    other = builder.add(builder.mul(a0, b1), builder.and_(middle, low))
    upper = builder.add(builder.mul(a1, b1), builder.lshr(middle, half))
    return builder.add(upper, builder.lshr(other, half))


@formula
def _reduced(x):
    """(q, r, rounding error of r) for |x|."""
    y = abs(x)
    q, high, low = _turns_of(y)
    r = high * _QUARTER
    lost = fma(high, _QUARTER, -r) + fma(high, _QUARTER_LOW, low * _QUARTER)
    near = y <= _EIGHTH
    # Add again, because `lost` may exceed the last bit of r.
    total = r + lost
    lost = lost - (total - r)
    return (0.0 if near else q), (y if near else total), (0.0 if near else lost)


@formula
def _sine_and_cosine(r, lost):
    """(sin, cos) of r + lost, within an eighth of a turn of 0."""
    z = r * r
    sine = r + fma(r * z, _sine_tail(z), lost)
    half = 0.5 * z
    near = 1.0 - half
    cosine = near + (((1.0 - near) - half) + fma(z * z, _cosine_tail(z), -(r * lost)))
    return sine, cosine


@formula
def _of_turns(q, r, lost):
    """sin of q quarter turns and r + lost, where q is an integer from 0 to 7."""
    sine, cosine = _sine_and_cosine(r, lost)
    q = q - 4.0 if q >= 4.0 else q
    value = cosine if (q == 1.0) | (q == 3.0) else sine
    return -value if q >= 2.0 else value


@formula
def sin(x):
    """The sine; NaN for infinities and NaN."""
    y = np.float64(x)
    q, r, lost = _reduced(y)
    value = _of_turns(q, r, lost)
    value = -value if y < 0.0 else value
    # Tiny arguments are their own sine; the sum with `lost` would change -0 and denormals.
    value = y if abs(y) < 1e-30 else value
    return like(x, value if abs(y) < math.inf else y - y)


@formula
def cos(x):
    """The cosine; NaN for infinities and NaN."""
    y = np.float64(x)
    q, r, lost = _reduced(y)
    value = _of_turns(q + 1.0, r, lost)
    return like(x, value if abs(y) < math.inf else y - y)
