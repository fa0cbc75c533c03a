"""Scale: a = x gamma (+ beta), with learned numbers for each column."""

from __future__ import annotations

import numpy as np

from ...tables import NONE


def forward(p, index, op):
    """a = x gamma + beta"""
    a = p.value(op, "x") * p.parameter(index, "w")
    p.write(index, "a", a if op.b == NONE else a + p.parameter(index, "b"))


def backward(p, index, op):
    """dx = da gamma, dgamma = sum of da x and dbeta = sum of da over the rows, in float64"""
    x, da = p.value(op, "x"), p.gradient(index)
    if op.dx != NONE:
        p.send(index, da * p.parameter(index, "w"))
    wide = da.astype(np.float64)
    p.add_gradient(index, "w", (wide * x).sum(axis=0))
    if op.b != NONE:
        p.add_gradient(index, "b", wide.sum(axis=0))
