"""Gaussian noise: a = x + std z with standard normal z, in training only."""

from __future__ import annotations

from ... import random
from ...tables import NONE


def forward(p, index, op):
    """a = x + std z in training, x in predictions"""
    x = p.value(op, "x")
    if not p.training:
        p.write(index, "a", x)
        return
    z = random.element_normals(p.seed, op.stream, p.step, p.m, op.n_out, p.first_row)
    p.write(index, "a", x + (op.arg0 * z).astype(x.dtype))


def backward(p, index, op):
    """dx = da"""
    if op.dx != NONE:
        p.send(index, p.gradient(index))
