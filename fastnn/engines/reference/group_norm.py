"""Group normalisation in rows (Y. Wu and K. He, 2018); with one group, layer normalisation."""

from __future__ import annotations

import numpy as np

from ...tables import NONE
from .activation import activate


def moments(x, groups):
    """Mean and biased variance of each group of columns in each row, (m, groups), in float64"""
    x = x.reshape(len(x), groups, -1).astype(np.float64)
    mean = x.mean(axis=2)
    return mean, ((x - mean[:, :, None]) ** 2).mean(axis=2)


def normalised(x, mean, inv):
    """xhat = (x - mean) inv, with the mean and inv (m, groups) of each group"""
    grouped = x.reshape(*mean.shape, -1)
    return ((grouped - mean[:, :, None]) * inv[:, :, None]).reshape(x.shape)


def group_norm_inputs(xhat, g, inv):
    """dx = inv (g - mean(g) - xhat mean(g xhat)) over each group, with g = dz gamma"""
    grouped, h = (v.reshape(*inv.shape, -1) for v in (g, xhat))
    wide = grouped.astype(np.float64)
    means = [v.mean(axis=2, keepdims=True).astype(g.dtype) for v in (wide, wide * h)]
    return (inv[:, :, None] * (grouped - means[0] - h * means[1])).reshape(g.shape)


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """z = xhat gamma + beta, a = act(z); the mean and inv of every group are saved"""
    x, groups = p.value(op, "x"), int(op.arg2)
    mean, variance = moments(x, groups)
    inv = (1 / np.sqrt(variance + op.arg1)).astype(x.dtype)
    rounded = mean.astype(x.dtype)
    z = normalised(x, rounded, inv)
    p.note(index, "mean", rounded)
    p.note(index, "variance", variance.astype(x.dtype))
    p.note(index, "normalised", z)
    saved = p.saved(op, 2 * groups)
    if saved is not None:
        saved[:, 0::2], saved[:, 1::2] = rounded, inv
    if op.w != NONE:
        z = z * p.parameter(index, "w") + p.parameter(index, "b")
    p.write(index, "z", z)
    p.write(index, "a", activate(op.code, z, op.arg0))


def backward(p, index, op):
    """dx, and dgamma = sum of dz xhat, dbeta = sum of dz over the rows, in float64"""
    x, dz = p.value(op, "x"), p.gradient(index)
    saved = p.saved(op, 2 * int(op.arg2))
    inv = saved[:, 1::2]
    xhat = normalised(x, saved[:, 0::2], inv)
    if op.dx != NONE:
        g = dz if op.w == NONE else dz * p.parameter(index, "w")
        p.send(index, group_norm_inputs(xhat, g, inv))
    if op.w != NONE:
        wide = dz.astype(np.float64)
        p.add_gradient(index, "w", (wide * xhat).sum(axis=0))
        p.add_gradient(index, "b", wide.sum(axis=0))
