"""Cosines, logarithms and powers of float64 arrays, from sums, products and quotients alone.

These are rounded alike everywhere, where the functions of NumPy and of the C library differ in the
last bit from one machine to another, or with an element's place in its array. So a schedule gives
the same bits on every machine and in every slice. The polynomials are Taylor's and err by one or
two units in the last place; a power errs by about the magnitude of its logarithm times as much.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

_PI = Fraction(314159265358979323846264338327950288419716939937511, 10**50)
_LN2 = Fraction(69314718055994530941723212145817656807550013436026, 10**50)

#: cos(pi x) in powers of x^2, and sin(pi x) / x: enough of them for |x| <= 1/4.
_COS = [float((-1) ** i * _PI ** (2 * i) / math.factorial(2 * i)) for i in range(10)]
_SIN = [float((-1) ** i * _PI ** (2 * i + 1) / math.factorial(2 * i + 1)) for i in range(10)]
#: 2^x in powers of x for |x| <= 1/2.
_EXP2 = [float(_LN2**i / math.factorial(i)) for i in range(18)]
#: log2((1 + x) / (1 - x)) / x in powers of x^2 for |x| <= 0.172.
_LOG2 = [float(2 / _LN2 / (2 * i + 1)) for i in range(12)]


def _polynomial(coefficients: list[float], x: np.ndarray) -> np.ndarray:
    found = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        found = found * x + coefficient
    return found


def cos_pi(x: np.ndarray) -> np.ndarray:
    """cos(pi x)."""
    x = np.abs(x - 2 * np.rint(x / 2))  # in [0, 1], without an error
    far = x > 0.5
    x = np.where(far, 1 - x, x)
    aside = 0.5 - x
    near_half = x > 0.25
    square = np.where(near_half, aside, x) ** 2
    found = np.where(near_half, aside * _polynomial(_SIN, square), _polynomial(_COS, square))
    return np.where(far, -found, found)


def log2(x: np.ndarray) -> np.ndarray:
    """The logarithm to base 2 of numbers above 0."""
    fraction, exponent = np.frexp(x)
    low = fraction < math.sqrt(0.5)
    fraction = np.where(low, 2 * fraction, fraction)
    ratio = (fraction - 1) / (fraction + 1)
    return (exponent - low) + ratio * _polynomial(_LOG2, ratio * ratio)


def power(base: float | np.ndarray, exponent: float | np.ndarray) -> np.ndarray:
    """``base**exponent``, where base, a number or an array, is at least 0; infinite if too large.

    Powers of 2 have no error, and whole powers of 0 and 1 are exact.
    """
    base = np.asarray(base, np.float64)
    is_zero = base == 0
    with np.errstate(over="ignore", under="ignore"):
        logarithm = np.clip(exponent * log2(np.where(is_zero, 1.0, base)), -1100, 1100)
        whole = np.rint(logarithm)
        found = np.ldexp(_polynomial(_EXP2, logarithm - whole), whole.astype(np.int32))
    return np.where(is_zero, np.where(exponent == 0, 1.0, 0.0), found)
