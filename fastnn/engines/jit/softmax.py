"""The softmax operation, each row shifted by its maximum so that nothing overflows."""

from __future__ import annotations

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
from .context import buffer, derivative_below, op_of, pack_of, rows_of_part
from .elementary import exp
from .kernels import kernel, subroutine
from .memory import address_of, doubles, like, reals
from .reductions import dot_of, maximum_of, sum_of


@kernel
def softmax_forward(ctx, part, parts):
    """a = softmax of each row of x; x and a are (m, n_out); split by rows of the batch."""
    op = op_of(ctx)
    n = op.n_out
    begin, end = rows_of_part(ctx, part, parts)
    x, a = buffer(ctx, op.x) + begin * n, buffer(ctx, op.a) + begin * n
    softmax(ctx, part, x, a, end - begin, n)
    return 0


@kernel
def softmax_inputs(ctx, part, parts):
    """dx = a (da - sum of da a), added to dx if op.adds, turned into dz of the operation below.

    a, da and dx are (m, n_out); split by rows of the batch.
    """
    op = op_of(ctx)
    n = op.n_out
    a, da, dx = buffer(ctx, op.a), buffer(ctx, op.da), buffer(ctx, op.dx)
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin, end):
        at = i * n
        total = like(a, dot_of(da + at, a + at, n))
        if op.adds:
            for j in range(at, at + n):
                dx[j] = dx[j] + a[j] * (da[j] - total)
        else:
            for j in range(at, at + n):
                dx[j] = a[j] * (da[j] - total)
        derivative_below(ctx, dx, op.below, n, i, i + 1)
    return 0


@subroutine
def softmax(ctx, part, z, a, rows, n):
    """a = e^(z - max z) / its sum, for `rows` rows of n elements."""
    if n > SHORT:
        softmax_of_rows(z, a, rows, n)
        return
    columns = reals(ctx, pack_of(ctx, part))
    sums = doubles(ctx, address_of(columns + (SHORT + 1) * ROWS))
    i = 0
    while rows - i > ROWS // 2:
        some = min(ROWS, rows - i)
        softmax_of_short_rows(columns, sums, z + i * n, a + i * n, some, n)
        i += some
    softmax_of_rows(z + i * n, a + i * n, rows - i, n)


@subroutine
def softmax_of_short_rows(x, sums, z, a, rows, n):
    """:func:`softmax_of_rows` by columns, for ROWS rows at most; overwrites x and sums."""
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
    """Softmax of `rows` rows, in one simple loop over all of them after another."""
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
