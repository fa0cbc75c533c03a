"""Dense: z = x W + b, then a = act(z)."""

from __future__ import annotations

import numpy as np

from ...tables import NONE
from .activation import activate, like
from .batch_norm import folded


def dense(x, w, b=None):
    """z = x W + b"""
    return x @ w if b is None else x @ w + b


def dense_weights(x, dz):
    """dW = xt dz, and db = the column sums of dz"""
    return x.T @ dz, dz.sum(axis=0)


def dense_inputs(dz, w):
    """dx = dz Wt"""
    return dz @ w.T


def penalty(w, l1, l2):
    """l1 sum |w| + l2 sum w^2"""
    w = w.astype(np.float64)
    return l1 * np.abs(w).sum() + l2 * np.square(w).sum()


def penalty_derivative(w, l1, l2):
    """l1 sign(w) + 2 l2 w"""
    return like(l1, w) * np.sign(w) + like(2 * l2, w) * w


def limit_norms(w, limit):
    """w_j limit / |w_j| for every column w_j with |w_j| > limit"""
    norms = np.sqrt(np.square(w, dtype=np.float64).sum(axis=0))
    factors = np.divide(limit, norms, out=np.ones_like(norms), where=norms > limit)
    return w * factors.astype(w.dtype)


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """z = x W + b, a = act(z)"""
    b = None if op.b == NONE else p.parameter(index, "b")
    z = dense(p.value(op, "x"), p.parameter(index, "w"), b)
    if op.fold != NONE and not op.arg3:
        z = folded(p, op.fold, z)
    p.write(index, "z", z)
    a = activate(op.code, z, op.arg0)
    if op.fold != NONE and op.arg3:
        a = folded(p, op.fold, a)
    p.write(index, "a", a)


def loss_terms(p, index, op):
    """The penalty on W."""
    return penalty(p.parameter(index, "w"), op.arg1, op.arg2) if op.arg1 or op.arg2 else 0.0


def backward(p, index, op):
    """dW = xt dz, to which the penalties add their derivative, db, and dx = dz Wt"""
    w, dz = p.parameter(index, "w"), p.gradient(index)
    dw, db = dense_weights(p.value(op, "x"), dz)
    p.add_gradient(index, "w", dw)
    if (op.arg1 or op.arg2) and not p.continues:
        factor = p.penalty_scale
        p.add_to_gradient(index, "w", penalty_derivative(w, op.arg1 * factor, op.arg2 * factor))
    if op.b != NONE:
        p.add_gradient(index, "b", db)
    if op.dx != NONE:
        p.send(index, dense_inputs(dz, w))


def after_step(p, index, op):
    """Max-norm: no unit's weights have a larger norm than the limit."""
    if op.constants != NONE:
        w = p.parameter(index, "w")
        w[:] = limit_norms(w, p.ws.plan.constants[op.constants])
