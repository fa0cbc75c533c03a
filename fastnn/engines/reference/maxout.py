"""Maxout: the largest of some pieces of each unit (I. Goodfellow et al., 2013)."""

from __future__ import annotations

import numpy as np

from ...tables import NONE


def pieces(x, units):
    """The pieces of each row: (m, pieces, units)"""
    return x.reshape(len(x), -1, units)


def maxout(x, units):
    """a_j = max over k of x_(k units + j); NaN if any of them is"""
    return pieces(x, units).max(axis=1)


def maxout_inputs(x, da):
    """dx = da for the first piece that is the largest, 0 for the others"""
    parts = pieces(x, da.shape[1])
    largest = parts >= parts.max(axis=1, keepdims=True)
    first = largest & (largest.cumsum(axis=1) == 1)
    return np.where(first, da[:, None, :], 0).reshape(x.shape)


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """a = maxout(x)"""
    p.write(index, "a", maxout(p.value(op, "x"), op.n_out))


def backward(p, index, op):
    """dx: each da goes to the piece that won"""
    if op.dx != NONE:
        p.send(index, maxout_inputs(p.value(op, "x"), p.gradient(index)))
