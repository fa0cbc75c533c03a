"""exp, tanh, erf and log from basic arithmetic alone, with the same bits on every machine.

Each takes one real of either width. LLVM vectorises loops over them; every multiply-add is
explicit, so an element has the same bits in a vector as alone.

Method of exp: x = n ln 2 + r with |r| <= ln(2)/2; e^r - 1 by its Taylor series; then 2^n in two
factors, so that results below the normal range round once (W. J. Cody and W. Waite, Software Manual
for the Elementary Functions, 1980, ch. 6).
"""

from __future__ import annotations

import math

import numpy as np

from .kernels import formula
from .memory import like
from .simd import bits_of, fma, make_constant, make_polynomial, real_of, times_power_of_two


def _density_series(k: int) -> float:
    """The coefficient of x^(2k) in the mean of the normal density between 0 and x."""
    return (-1) ** k / (2**k * math.factorial(k) * (2 * k + 1) * math.sqrt(2 * math.pi))


def _erf_series(k: int) -> float:
    """The coefficient of x^(2k) in erf(x) / x - 1."""
    coefficient = (-1) ** k * 2 / (math.factorial(k) * (2 * k + 1) * math.sqrt(math.pi))
    return coefficient - 1 if k == 0 else coefficient


_LEAST_NORMAL = float(np.finfo(np.float64).tiny)
_log2_e = make_constant(1 / math.log(2), 1 / math.log(2))
# ln 2 in two parts; the first has so few bits that its product with n is exact.
_ln2_high = make_constant(0.693359375, float.fromhex("0x1.62e42feep-1"))
_ln2_low = make_constant(-2.12194440054690583e-4, float.fromhex("0x1.a39ef35793c76p-33"))
# Adding and subtracting 1.5 * 2^(bits of the mantissa) rounds to an integer, ties to even.
_rounder = make_constant(1.5 * 2.0**23, 1.5 * 2.0**52)
# exp is 0 or infinite beyond these; between them n fits the two factors of 2^n.
_lowest = make_constant(-104.0, -746.0)
_highest = make_constant(89.0, 710.0)
# tanh rounds to 1 from here on.
_saturated = make_constant(10.0, 20.0)
# 1/k!, down to k = 2.
_exp_tail = make_polynomial(
    tuple(1 / math.factorial(k) for k in range(7, 1, -1)),
    tuple(1 / math.factorial(k) for k in range(13, 1, -1)),
)
# 2/(2k+1), down to k = 1, for the series of log((1+s)/(1-s)) with s up to 0.18, or up to 1/3.
_log_tail = make_polynomial((), tuple(2 / (2 * k + 1) for k in range(10, 0, -1)))
_log1p_tail = make_polynomial(
    tuple(2 / (2 * k + 1) for k in range(7, 0, -1)),
    tuple(2 / (2 * k + 1) for k in range(16, 0, -1)),
)
# (1 + 2u) e^(u^2) erfc(u) as a polynomial in (u - 3.75) / (u + 3.75), fitted at the Chebyshev
# nodes in 160 bits (M. M. Shepherd and J. G. Laframboise, Math. Comp. 36, 1981).
_erfc_scaled = make_polynomial(
    (
        -2.2874723359084774e-04, 3.967046382800549e-04, 1.6886622311156746e-03,
        -9.845491094959295e-03, 2.839648212065827e-02, -5.86459828677125e-02,
        9.2296367961203e-02, -1.0881458496174144e-01, 8.227741756036867e-02,
        3.586310101688852e-03, -1.4024060801000693e-01, 1.2375126184625718,
    ),
    (
        4.434959070009628e-10, 3.110310719839165e-10, -5.28428697963142e-09,
        -3.743568033634583e-09, 3.8965452548985966e-08, 2.3261913276696566e-08,
        -2.591069687796658e-07, -5.721597255990987e-08, 1.752057970166318e-06,
        -9.735619015182663e-07, -1.1444412439171722e-05, 2.2384240314224437e-05,
        5.1649211390702855e-05, -2.901540809795271e-04, 2.937136342850081e-04,
        1.7556258530017257e-03, -9.746579552504244e-03, 2.8362277418940665e-02,
        -5.8693398590212366e-02, 9.230432116037876e-02, -1.0880393014171785e-01,
        8.227673849014516e-02, 3.585415485463775e-03, -1.4024059858554697e-01,
        1.2375126308378275,
    ),
)  # fmt: skip
# (normal_cdf(x) - 1/2) / x for |x| up to 0.67, by powers of x^2.
_cdf_near_zero = make_polynomial(
    tuple(_density_series(k) for k in range(7, -1, -1)),
    tuple(_density_series(k) for k in range(12, -1, -1)),
)
# erf(x) / x - 1 for |x| up to 1, by powers of x^2.
_erf_near_zero = make_polynomial(
    tuple(_erf_series(k) for k in range(10, -1, -1)),
    tuple(_erf_series(k) for k in range(18, -1, -1)),
)
_root_half = make_constant(math.sqrt(0.5), math.sqrt(0.5))
_density_peak = make_constant(1 / math.sqrt(2 * math.pi), 1 / math.sqrt(2 * math.pi))


@formula
def _reduce(x):
    """(n + rounder, r, rounding error of r) for x = n ln 2 + r."""
    shifted = fma(x, _log2_e(x), _rounder(x))
    n = shifted - _rounder(x)
    high = fma(-n, _ln2_high(x), x)
    r = fma(-n, _ln2_low(x), high)
    return shifted, r, fma(-n, _ln2_low(x), high - r)


@formula
def exp(x):
    """e^x; NaN stays NaN."""
    x = _lowest(x) if x < _lowest(x) else x
    x = _highest(x) if x > _highest(x) else x
    shifted, r, _ = _reduce(x)
    q = fma(r * r, _exp_tail(r), r)
    return times_power_of_two(q + like(x, 1), shifted)


@formula
def sigmoid(x):
    """1 / (1 + e^-x), from e^-|x|, which cannot overflow."""
    e = exp(-abs(x))
    return (e if x < like(x, 0) else like(x, 1)) / (like(x, 1) + e)


@formula
def _expm1_within(x):
    """e^x - 1 for x so small that e^x and 2^n are in range."""
    shifted, r, lost = _reduce(x)
    q = r + fma(r * r, _exp_tail(r), lost)
    scale = times_power_of_two(like(x, 1), shifted)
    return fma(scale, q, scale - like(x, 1))


@formula
def expm1(x):
    """e^x - 1, accurate near 0; -1 far below 0, infinite above the range."""
    x = _lowest(x) if x < _lowest(x) else x
    x = _highest(x) if x > _highest(x) else x
    return _expm1_within(x)


@formula
def tanh(x):
    """(e^2|x| - 1) / (e^2|x| + 1) with the sign of x, from e = e^2|x| - 1, accurate near 0.

    Below 1/2 the rounding errors of e + 2 and of the quotient are added back, with 1 / (e + 2) =
    (1 - t) / 2; above, 1 - 2 / (e + 2) is accurate enough.
    """
    y = abs(x)
    y = _saturated(x) if y > _saturated(x) else y
    e = _expm1_within(y + y)
    one, two, half = like(x, 1), like(x, 2), like(x, 0.5)
    divisor = e + two
    part = (-two if e > two else e) / divisor
    rest = fma(-part, e - (divisor - two), fma(-part, divisor, e))
    below = fma(rest, fma(-half, part, half), part)
    t = one + part if e > two else below
    return -t if x < like(x, 0) else t


@formula
def tanh_of_softplus(x):
    """tanh(log(1 + e^x)) = ((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1), from e^-|x|."""
    e = exp(-abs(x))
    one, two = like(x, 1), like(x, 2)
    part = one + two * e if x >= like(x, 0) else e * (e + two)
    rest = two * e * e if x >= like(x, 0) else two
    return part / (part + rest)


@formula
def _erfc_times_exp_of_square(u):
    """e^(u^2) erfc(u) for u of at least 0."""
    t = (u - like(u, 3.75)) / (u + like(u, 3.75))
    return _erfc_scaled(t) / (like(u, 1) + like(u, 2) * u)


@formula
def normal_cdf(x):
    """The normal distribution function, erfc(-x / sqrt 2) / 2, accurate in both tails.

    Near 0 it is 1/2 plus the integral of the density's Taylor series.
    """
    limit = like(x, 40)
    u = (limit if abs(x) > limit else abs(x)) * _root_half(x)
    tail = like(x, 0.5) * _erfc_times_exp_of_square(u) * _exp_of_half_square(x)
    far = tail if x < like(x, 0) else like(x, 1) - tail
    return fma(x, _cdf_near_zero(x * x), like(x, 0.5)) if abs(x) < like(x, 0.67) else far


@formula
def normal_density(x):
    """e^(-x^2/2) / sqrt(2 pi)"""
    return _density_peak(x) * _exp_of_half_square(x)


@formula
def _exp_of_half_square(x):
    """e^(-x^2/2), with the rounding error of the square added back."""
    limit = like(x, 40)
    x = limit if abs(x) > limit else x
    half = like(x, 0.5)
    high = x * x
    low = fma(x, x, -high)
    e = exp(-half * high)
    return fma(-half * low, e, e)


@formula
def log(x):
    """The natural logarithm: -inf at 0, NaN below.

    x = 2^n f with f in [sqrt(1/2), sqrt(2)); log f = 2 artanh((f-1)/(f+1)) by its series, in
    float64 for either type.
    """
    y = np.float64(x)
    denormal = y < _LEAST_NORMAL
    pattern = bits_of(y * 2.0**54 if denormal else y) - bits_of(math.sqrt(0.5))
    n = np.float64(pattern >> 52) - (54.0 if denormal else 0.0)
    f = real_of(bits_of(math.sqrt(0.5)) + (pattern & ((1 << 52) - 1)))
    s = (f - 1.0) / (f + 1.0)
    z = s * s
    series = fma(s * z, _log_tail(z), 2.0 * s)
    value = fma(n, _ln2_high(y), fma(n, _ln2_low(y), series))
    value = value if y > 0.0 else (-math.inf if y == 0.0 else math.nan)
    return like(x, value if y < math.inf else y)


@formula
def erf(x):
    """The error function, by its Taylor series near 0, else 1 - erfc."""
    y = abs(x)
    limit = like(x, 20)
    u = limit if y > limit else y
    far = like(x, 1) - _erfc_times_exp_of_square(u) * exp(-(u * u))
    far = -far if x < like(x, 0) else far
    near = fma(x, _erf_near_zero(x * x), x)
    return near if y < like(x, 1) else far


@formula
def log1p(x):
    """log(1 + x) for x in [0, 1], as 2 artanh(x / (2 + x)), which is accurate for small x."""
    s = x / (like(x, 2) + x)
    z = s * s
    return fma(s * z, _log1p_tail(z), s + s)
