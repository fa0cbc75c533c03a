"""exp, tanh and log from arithmetic alone, so that every machine gives the same bits.

Each works on one real of either width. Loops over them are vectorised by LLVM, and because every
multiply-add is explicit, an element has the same bits in a vector as alone.

Method: x = n ln 2 + r with |r| <= ln(2)/2; e^r - 1 by its Taylor series; then 2^n in two factors,
so that results below the normal range round once (W. J. Cody and W. Waite, Software Manual for
the Elementary Functions, 1980, ch. 6).
"""

from __future__ import annotations

import math

import numpy as np

from .kernels import subroutine
from .memory import like
from .simd import bits_of, fma, make_constant, make_polynomial, real_of, times_power_of_two

_log2_e = make_constant(1 / math.log(2), 1 / math.log(2))
# ln 2 in two parts; the first has so few bits that its product with n is exact.
_ln2_high = make_constant(0.693359375, float.fromhex("0x1.62e42feep-1"))
_ln2_low = make_constant(-2.12194440054690583e-4, float.fromhex("0x1.a39ef35793c76p-33"))
# Adding and subtracting 1.5 * 2^(bits of the mantissa) rounds to a whole number, ties to even.
_rounder = make_constant(1.5 * 2.0**23, 1.5 * 2.0**52)
# Beyond these exp is 0 or infinite, and within them n fits in the two factors of 2^n.
_lowest = make_constant(-104.0, -746.0)
_highest = make_constant(89.0, 710.0)
# tanh is 1 to the last bit from here on.
_saturated = make_constant(10.0, 20.0)
# 1/k!, down to k = 2.
_exp_tail = make_polynomial(
    tuple(1 / math.factorial(k) for k in range(7, 1, -1)),
    tuple(1 / math.factorial(k) for k in range(13, 1, -1)),
)
# 2/(2k+1), down to k = 1, for the series of log((1+s)/(1-s)).
_log_tail = make_polynomial((), tuple(2 / (2 * k + 1) for k in range(10, 0, -1)))


@subroutine
def _reduce(x):
    """(n + rounder, e^r - 1) for x = n ln 2 + r."""
    shifted = fma(x, _log2_e(x), _rounder(x))
    n = shifted - _rounder(x)
    r = fma(-n, _ln2_high(x), x)
    r = fma(-n, _ln2_low(x), r)
    return shifted, fma(r * r, _exp_tail(r), r)


@subroutine
def exp(x):
    """e^x; NaN stays NaN."""
    x = _lowest(x) if x < _lowest(x) else x
    x = _highest(x) if x > _highest(x) else x
    shifted, q = _reduce(x)
    return times_power_of_two(q + like(x, 1), shifted)


@subroutine
def sigmoid(x):
    """1 / (1 + e^-x), from e^-|x|, which cannot overflow."""
    e = exp(-abs(x))
    share = like(x, 1) / (like(x, 1) + e)
    return share if x >= like(x, 0) else (e * share if x < like(x, 0) else x)


@subroutine
def tanh(x):
    """(e^2|x| - 1) / (e^2|x| + 1) with the sign of x, from e^2|x| - 1, exact near 0."""
    y = abs(x)
    y = _saturated(x) if y > _saturated(x) else y
    shifted, q = _reduce(y + y)
    scale = times_power_of_two(like(x, 1), shifted)
    e = fma(scale, q, scale - like(x, 1))
    t = e / (e + like(x, 2))
    return -t if x < like(x, 0) else t


@subroutine
def log(x):
    """The natural logarithm of a positive, normal, finite float64.

    x = 2^n f with f in [sqrt(1/2), sqrt(2)), then log f = 2 artanh((f-1)/(f+1)) by its series.
    """
    pattern = bits_of(x) - bits_of(math.sqrt(0.5))
    n = pattern >> 52
    f = real_of(bits_of(math.sqrt(0.5)) + (pattern & ((1 << 52) - 1)))
    s = (f - 1.0) / (f + 1.0)
    z = s * s
    series = fma(s * z, _log_tail(z), 2.0 * s)
    return fma(np.float64(n), _ln2_high(x), fma(np.float64(n), _ln2_low(x), series))


@subroutine
def log1p(x):
    """log(1 + x) for a float64 in [0, 1], exact for small x."""
    u = 1.0 + x
    return log(u) + (x - (u - 1.0)) / u
