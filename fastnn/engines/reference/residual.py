"""Residual: z = x + x2, the sum of a branch and its shortcut, then a = act(z)."""

from __future__ import annotations

from ...tables import NONE
from .activation import activate


def forward(p, index, op):
    """z = x + x2, a = act(z)"""
    z = p.value(op, "x") + p.value(op, "x2")
    p.write(index, "z", z)
    p.write(index, "a", activate(op.code, z, op.arg0))


def backward(p, index, op):
    """dx = dz and dx2 = dz"""
    dz = p.gradient(index)
    for number, gradient in enumerate((op.dx, op.dx2)):
        if gradient != NONE:
            p.send(index, dz, number)
