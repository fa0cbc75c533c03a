"""Elementwise epilogues: each activation and its derivative, called per tile by address.

``name(z, a, da, count, row)`` writes a = act(z); ``name_slope`` turns da into dz = da act'(z).
The identity has neither: a row without activation has no epilogue.
"""

from __future__ import annotations

from . import elementary
from .kernels import inner
from .memory import like


@inner
def sigmoid(z, a, da, count, row):
    """a = 1 / (1 + e^-z)"""
    for i in range(count):
        a[i] = elementary.sigmoid(z[i])
    return 0


@inner
def sigmoid_slope(z, a, da, count, row):
    """dz = da a (1 - a)"""
    one = like(a, 1)
    for i in range(count):
        da[i] = da[i] * (a[i] * (one - a[i]))
    return 0


@inner
def tanh(z, a, da, count, row):
    """a = tanh z"""
    for i in range(count):
        a[i] = elementary.tanh(z[i])
    return 0


@inner
def tanh_slope(z, a, da, count, row):
    """dz = da (1 - a^2)"""
    one = like(a, 1)
    for i in range(count):
        da[i] = da[i] * (one - a[i] * a[i])
    return 0


@inner
def relu(z, a, da, count, row):
    """a = max(0, z), and NaN stays NaN"""
    zero = like(a, 0)
    for i in range(count):
        a[i] = zero if z[i] <= zero else z[i]
    return 0


@inner
def relu_slope(z, a, da, count, row):
    """dz = da where a > 0, else 0"""
    zero = like(a, 0)
    for i in range(count):
        da[i] = da[i] if a[i] > zero else zero
    return 0
