"""PReLU: a = x where x > 0, else alpha x, with learned slopes (K. He et al., 2015, eq. 1)."""

from __future__ import annotations

import numpy as np

from ...tables import NONE


def prelu(x, alpha):
    """a = x where x > 0, else alpha x"""
    return np.where(x > 0, x, alpha * x)


def prelu_slopes(x, da):
    """dalpha = sum over the rows of da x where x <= 0 (eq. 8), in float64"""
    return (da.astype(np.float64) * np.where(x > 0, 0, x)).sum(axis=0)


def prelu_inputs(x, alpha, da):
    """dx = da where x > 0, else alpha da"""
    return np.where(x > 0, da, alpha * da)


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """a = prelu(x)"""
    p.write(index, "a", prelu(p.value(op, "x"), p.parameter(index, "w")))


def backward(p, index, op):
    """dalpha, summed over the units too if they share one slope, and dx"""
    x, da = p.value(op, "x"), p.gradient(index)
    slopes = prelu_slopes(x, da)
    p.add_gradient(index, "w", slopes.sum(keepdims=True) if op.arg0 else slopes)
    if op.dx != NONE:
        p.send(index, prelu_inputs(x, p.parameter(index, "w"), da))
