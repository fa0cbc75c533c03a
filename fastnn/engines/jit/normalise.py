"""Columns shifted and scaled, z = (x - mean) scale + shift, in the network's type.

What a normalisation does once its statistics are known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...tables import NONE
from .context import op_number
from .kernels import subroutine
from .memory import reals
from .strips import make_map
from .vectors import vector_lanes


class Affine(NamedTuple):
    """mean, scale and shift of some columns."""

    mean: Any
    scale: Any
    shift: Any


def _affine(builder, values, factors):
    (x,), (mean, scale, shift) = values, factors
    return builder.fadd(builder.fmul(builder.fsub(x, mean), scale), shift)


_four, _two, _part = (make_map(_affine, count) for count in (4, 2, 0))


@subroutine
def normalise_rows(by, x, z, rows, columns, stride):
    """z = (x - mean) scale + shift for columns whose rows begin `stride` elements apart.

    z may be x.
    """
    n = vector_lanes(x)
    j = 0
    while j < columns:
        factors = by.mean + j, by.scale + j, by.shift + j
        left = columns - j
        if left >= 4 * n:
            _four(z + j, (x + j,), factors, rows, stride, left)
            j += 4 * n
        elif left >= 2 * n:
            _two(z + j, (x + j,), factors, rows, stride, left)
            j += 2 * n
        else:
            _part(z + j, (x + j,), factors, rows, stride, min(n, left))
            j += n


@subroutine
def prepared(ctx, op, j):
    """What an operation prepared for predictions, for at most NC columns from column j on."""
    mean = reals(ctx, ctx.batch + op.batch * 8) + j
    shift = reals(ctx, ctx.zeros) if op.b == NONE else reals(ctx, ctx.params) + (op.b + j)
    return Affine(mean, mean + op.n_out, shift)


@subroutine
def normalise_block(ctx, op, a, rows, columns, j):
    """Compute the operation that is folded into this one, in place.

    For a block of its output that begins with column j.
    """
    folded = op_number(ctx, op.fold)
    normalise_rows(prepared(ctx, folded, j), a, a, rows, columns, folded.n_out)
