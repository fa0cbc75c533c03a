"""The maxout operation: a_j = the largest x_(k n + j) over the pieces k.

The first of equal pieces wins. A NaN in any piece makes a NaN, and then no piece has a gradient.
"""

from __future__ import annotations

from .context import buffer, derivative_below, op_of, pack_of, rows_of_part
from .kernels import kernel, subroutine
from .memory import like, reals

#: Units whose gradient is computed together.
_UNITS = 512


@kernel
def maxout_forward(ctx, part, parts):
    """a = the largest piece; x is (m, pieces n) and a is (m, n); split by rows of the batch."""
    op = op_of(ctx)
    x, a = buffer(ctx, op.x), buffer(ctx, op.a)
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin, end):
        largest_pieces(a + i * op.n_out, x + i * op.n_in, op.n_in, op.n_out, op.n_out)
    return 0


@subroutine
def largest_pieces(best, x, n_in, units, count):
    """best[j] = the largest piece of unit j for j < count; pieces begin `units` elements apart."""
    for j in range(count):
        best[j] = x[j]
    for at in range(units, n_in, units):
        piece = x + at
        for j in range(count):
            other = best[j] if piece[j] <= piece[j] else piece[j]
            best[j] = piece[j] if best[j] < piece[j] else other


@kernel
def maxout_inputs(ctx, part, parts):
    """dx = da for the piece that won, 0 for the others; turned into dz of the operation below.

    Added to dx if op.adds. x and dx are (m, pieces n), da is (m, n); split by rows of the batch.
    """
    op = op_of(ctx)
    units, n_in = op.n_out, op.n_in
    x, da, dx = buffer(ctx, op.x), buffer(ctx, op.da), buffer(ctx, op.dx)
    best = reals(ctx, pack_of(ctx, part))
    left = best + _UNITS
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin, end):
        for first in range(0, units, _UNITS):
            count = min(_UNITS, units - first)
            xi, di = x + (i * n_in + first), da + (i * units + first)
            largest_pieces(best, xi, n_in, units, count)
            for j in range(count):
                left[j] = di[j]
            for at in range(0, n_in, units):
                gradient_of_piece(dx + (i * n_in + first + at), xi + at, best, left, count, op.adds)
    derivative_below(ctx, dx, op.below, n_in, begin, end)
    return 0


@subroutine
def gradient_of_piece(dx, x, best, left, count, adds):
    """dx[j] = left[j] where the piece x wins, else 0; sets left[j] to 0 where it wins."""
    zero = like(x, 0)
    if adds:
        for j in range(count):
            dx[j] = dx[j] + (left[j] if best[j] <= x[j] else zero)
    else:
        for j in range(count):
            dx[j] = left[j] if best[j] <= x[j] else zero
    for j in range(count):
        left[j] = zero if best[j] <= x[j] else left[j]
