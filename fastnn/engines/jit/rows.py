"""Leaves of the rows without weights: activations that stand alone, and softmax."""

from __future__ import annotations

from ..tables import PACK_BYTES
from .columns import (
    ROWS,
    SHORT,
    copy,
    divide,
    from_columns,
    subtract_maximum,
    sums_of_columns,
    to_columns,
)
from .elementary import exp
from .kernels import leaf, subroutine
from .memory import address_of, doubles, like, reals, row_at
from .products import ROW_BYTES, buffer, epilogue, share
from .reductions import dot_of, maximum_of, sum_of


@leaf
def activation_forward(ctx, part, parts):
    """a = act(x) by the epilogue; x and a are (m, n_out); split by rows of the batch."""
    row = row_at(ctx, ctx.row)
    n = row.n_out
    begin, end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    x, a = buffer(ctx, row.x) + begin * n, buffer(ctx, row.a) + begin * n
    for i in range((end - begin) * n):
        a[i] = x[i]
    epilogue(ctx, x, a, a, end - begin, n, n, row)
    return 0


@leaf
def activation_inputs(ctx, part, parts):
    """dx = dz, turned into the dz of the row below by the epilogue; split by rows."""
    row = row_at(ctx, ctx.row)
    n = row.n_out
    begin, end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    dz, dx = buffer(ctx, row.da) + begin * n, buffer(ctx, row.dx) + begin * n
    for i in range((end - begin) * n):
        dx[i] = dz[i]
    below = row_at(ctx, ctx.rows + row.below * ROW_BYTES)
    z, a = buffer(ctx, below.z) + begin * n, buffer(ctx, below.a) + begin * n
    epilogue(ctx, z, a, dx, end - begin, n, n, below)
    return 0


@subroutine
def softmax(ctx, part, z, a, rows, n):
    """a = e^(z - max z) / sum of it, for some rows of n."""
    if n > SHORT:
        softmax_of_rows(z, a, rows, n)
        return
    columns = reals(ctx, ctx.pack + part * PACK_BYTES)
    sums = doubles(ctx, address_of(columns + (SHORT + 1) * ROWS))
    i = 0
    while rows - i > ROWS // 2:
        some = min(ROWS, rows - i)
        softmax_of_short_rows(columns, sums, z + i * n, a + i * n, some, n)
        i += some
    softmax_of_rows(z + i * n, a + i * n, rows - i, n)


@subroutine
def softmax_of_short_rows(x, sums, z, a, rows, n):
    """The same as :func:`softmax_of_rows` by columns, for ROWS rows at most.

    x and sums are room for the columns and their sums.
    """
    total = x + SHORT * ROWS
    to_columns(x, z, rows, n)
    subtract_maximum(x, total, n)
    for j in range(n * ROWS):
        x[j] = exp(x[j])
    sums_of_columns(sums, x, n)
    copy(total, (sums,))
    for j in range(0, n * ROWS, ROWS):
        divide(x + j, (x + j, total))
    from_columns(a, x, rows, n)


@subroutine
def softmax_of_rows(z, a, rows, n):
    """Softmax of some rows, one simple loop over all of them after another."""
    for i in range(0, rows * n, n):
        highest = maximum_of(z + i, n)
        for j in range(i, i + n):
            a[j] = z[j] - highest
    for j in range(rows * n):
        a[j] = exp(a[j])
    for i in range(0, rows * n, n):
        total = like(z, sum_of(a + i, n))
        for j in range(i, i + n):
            a[j] = a[j] / total


@leaf
def softmax_forward(ctx, part, parts):
    """a = softmax of each row of x; x and a are (m, n_out); split by rows of the batch."""
    row = row_at(ctx, ctx.row)
    n = row.n_out
    begin, end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    x, a = buffer(ctx, row.x) + begin * n, buffer(ctx, row.a) + begin * n
    softmax(ctx, part, x, a, end - begin, n)
    return 0


@leaf
def softmax_inputs(ctx, part, parts):
    """dx = a (da - sum of da a), turned into the dz of the row below by the epilogue."""
    row = row_at(ctx, ctx.row)
    n = row.n_out
    a, da, dx = buffer(ctx, row.a), buffer(ctx, row.da), buffer(ctx, row.dx)
    below = row_at(ctx, ctx.rows + row.below * ROW_BYTES)
    zb, ab = buffer(ctx, below.z), buffer(ctx, below.a)
    for i in range(share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)):
        at = i * n
        total = like(a, dot_of(da + at, a + at, n))
        for j in range(n):
            dx[at + j] = a[at + j] * (da[at + j] - total)
        epilogue(ctx, zb + at, ab + at, dx + at, 1, n, n, below)
    return 0
