"""Elementwise epilogues: each activation and its derivative, called per tile by address.

``name(z, a, da, count, row)`` finds the weighted sums in a and replaces them by act(z);
``name_slope`` turns da into dz = da act'(z). Both formulas are those of ``reference.py``.
The identity has neither: a row without activation has no epilogue.
"""

from __future__ import annotations

from ..reference import SELU_ALPHA, SELU_SCALE
from . import elementary
from .elementary import exp, expm1, log1p, normal_cdf, normal_density
from .kernels import inner
from .memory import like

_SELU_SHIFT = SELU_SCALE * SELU_ALPHA


@inner
def step(z, a, da, count, row):
    zero, one = like(a, 0), like(a, 1)
    for i in range(count):
        a[i] = one if a[i] > zero else zero
    return 0


@inner
def step_slope(z, a, da, count, row):
    zero = like(a, 0)
    for i in range(count):
        da[i] = zero
    return 0


@inner
def sigmoid(z, a, da, count, row):
    for i in range(count):
        a[i] = elementary.sigmoid(a[i])
    return 0


@inner
def sigmoid_slope(z, a, da, count, row):
    one = like(a, 1)
    for i in range(count):
        da[i] = da[i] * (a[i] * (one - a[i]))
    return 0


@inner
def tanh(z, a, da, count, row):
    for i in range(count):
        a[i] = elementary.tanh(a[i])
    return 0


@inner
def tanh_slope(z, a, da, count, row):
    one = like(a, 1)
    for i in range(count):
        da[i] = da[i] * (one - a[i] * a[i])
    return 0


@inner
def relu(z, a, da, count, row):
    """NaN stays NaN."""
    zero = like(a, 0)
    for i in range(count):
        a[i] = zero if a[i] <= zero else a[i]
    return 0


@inner
def relu_slope(z, a, da, count, row):
    zero = like(a, 0)
    for i in range(count):
        da[i] = da[i] if a[i] > zero else zero
    return 0


@inner
def leaky_relu(z, a, da, count, row):
    zero, slope = like(a, 0), like(a, row.arg0)
    for i in range(count):
        a[i] = a[i] if a[i] > zero else slope * a[i]
    return 0


@inner
def leaky_relu_slope(z, a, da, count, row):
    zero, slope = like(a, 0), like(a, row.arg0)
    for i in range(count):
        da[i] = da[i] if a[i] > zero else slope * da[i]
    return 0


@inner
def elu(z, a, da, count, row):
    zero, alpha = like(a, 0), like(a, row.arg0)
    for i in range(count):
        below = alpha * expm1(a[i])
        a[i] = a[i] if a[i] > zero else below
    return 0


@inner
def elu_slope(z, a, da, count, row):
    zero, one, alpha = like(a, 0), like(a, 1), like(a, row.arg0)
    for i in range(count):
        da[i] = da[i] * (one if a[i] > zero else a[i] + alpha)
    return 0


@inner
def selu(z, a, da, count, row):
    zero, scale, alpha = like(a, 0), like(a, SELU_SCALE), like(a, SELU_ALPHA)
    for i in range(count):
        below = alpha * expm1(a[i])
        a[i] = scale * (a[i] if a[i] > zero else below)
    return 0


@inner
def selu_slope(z, a, da, count, row):
    zero, scale, shift = like(a, 0), like(a, SELU_SCALE), like(a, _SELU_SHIFT)
    for i in range(count):
        da[i] = da[i] * (scale if a[i] > zero else a[i] + shift)
    return 0


@inner
def gelu(z, a, da, count, row):
    for i in range(count):
        a[i] = a[i] * normal_cdf(a[i])
    return 0


@inner
def gelu_slope(z, a, da, count, row):
    for i in range(count):
        da[i] = da[i] * (normal_cdf(z[i]) + z[i] * normal_density(z[i]))
    return 0


@inner
def silu(z, a, da, count, row):
    for i in range(count):
        a[i] = a[i] * elementary.sigmoid(a[i])
    return 0


@inner
def silu_slope(z, a, da, count, row):
    one = like(a, 1)
    for i in range(count):
        s = elementary.sigmoid(z[i])
        da[i] = da[i] * (s * (one + z[i] * (one - s)))
    return 0


@inner
def softplus(z, a, da, count, row):
    zero = like(a, 0)
    for i in range(count):
        rise = zero if a[i] < zero else a[i]
        a[i] = rise + log1p(exp(-abs(a[i])))
    return 0


@inner
def softplus_slope(z, a, da, count, row):
    for i in range(count):
        da[i] = da[i] * elementary.sigmoid(z[i])
    return 0


@inner
def mish(z, a, da, count, row):
    for i in range(count):
        a[i] = a[i] * elementary.tanh_of_softplus(a[i])
    return 0


@inner
def mish_slope(z, a, da, count, row):
    one = like(a, 1)
    for i in range(count):
        t = elementary.tanh_of_softplus(z[i])
        da[i] = da[i] * (t + z[i] * (one - t * t) * elementary.sigmoid(z[i]))
    return 0
