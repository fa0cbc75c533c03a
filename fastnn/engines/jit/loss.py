"""The losses: the loss of every row of the batch, and the gradient where backward starts.

Each kernel reads the output of the last operation, a (m, n), and the targets t (m, n). It writes
the loss of each row in float64, times the row's weight, and da = scale weight dC/da, which the
epilogue turns into dz of the operation below. The cross entropies take logits: their gradient is
a - t, and nothing overflows. All are split by rows.
"""

from __future__ import annotations

import numpy as np

from ...tables import Loss, Status
from .columns import (
    ROWS,
    SHORT,
    add_columns,
    copy,
    dots_of_columns,
    from_columns,
    invert,
    on_columns,
    subtract_maximum,
    sums_of_columns,
    to_columns,
)
from .context import (
    buffer,
    derivative_below,
    is_continued,
    op_of,
    pack_of,
    rows_of_part,
    sample_of,
)
from .elementary import exp, log, log1p, sigmoid
from .kernels import kernel, subroutine
from .memory import address_of, doubles, like, reals
from .reductions import dot_of, maximum_of, sum_in_blocks, sum_of
from .simd import hidden

_MSE, _SQUARED_ERROR = int(Loss.mse), int(Loss.squared_error)
_NOT_FINITE = int(Status.NOT_FINITE)
#: Rows that a loss works on at a time.
BLOCK_ROWS = 64
#: Losses of the elements of a row that are held before they are added.
_HELD = 4096


@subroutine
def weight_of(ctx, i):
    """The weight of row i of the batch, whose targets have been gathered."""
    return doubles(ctx, ctx.weights)[sample_of(ctx, i)] if ctx.weights else 1.0


@subroutine
def weigh_rows(ctx, op, first, rows, of_loss, of_gradient):
    """Multiply the losses of some rows by of_loss weight, their da by of_gradient weight scale.

    Without weights in one loop over all rows, which may be of one element.
    """
    n = op.n_in
    da, loss = buffer(ctx, op.dx) + first * n, doubles(ctx, ctx.row_loss) + first
    if not ctx.weights:
        factor = like(da, ctx.scale * of_gradient)
        for i in range(rows):
            loss[i] = loss[i] * of_loss
        for j in range(rows * n):
            da[j] = factor * da[j]
        return
    for i in range(rows):
        weight = weight_of(ctx, first + i)
        factor = like(da, ctx.scale * (of_gradient * weight))
        loss[i] = loss[i] * (of_loss * weight)
        for j in range(i * n, i * n + n):
            da[j] = factor * da[j]


@subroutine
def squared_error_of_rows(ctx, part, op, first, rows):
    """l_i = sum over j of (a_ij - t_ij)^2, for mse divided by n_out, squared_error by 2; and da.

    The factor arg0 of squared_error multiplies the loss alone, not its derivative.
    """
    n = op.n_in
    a, t = buffer(ctx, op.x) + first * n, buffer(ctx, ctx.targets) + first * n
    da, loss = buffer(ctx, op.dx) + first * n, doubles(ctx, ctx.row_loss) + first
    halved = op.code == _SQUARED_ERROR
    share_of_output = 1.0 / n if op.code == _MSE else 0.5 if halved else 1.0
    factor_of_loss = op.arg0 if halved else 1.0
    for j in range(rows * n):
        da[j] = a[j] - t[j]
    if n == 1:
        for i in range(rows):
            loss[i] = np.float64(da[i]) * np.float64(da[i])
    else:
        for i in range(rows):
            loss[i] = dot_of(da + i * n, da + i * n, n)
    weigh_rows(ctx, op, first, rows, share_of_output * factor_of_loss, 2.0 * share_of_output)


@subroutine
def binary_cross_entropy_of_rows(ctx, part, op, first, rows):
    """l_i = sum over j of max(z, 0) - z t + log(1 + e^-|z|), from logits; and da."""
    n = op.n_in
    z, t = buffer(ctx, op.x) + first * n, buffer(ctx, ctx.targets) + first * n
    da, loss = buffer(ctx, op.dx) + first * n, doubles(ctx, ctx.row_loss) + first
    losses = doubles(ctx, pack_of(ctx, part))
    keep, add = like(z, 1.0 - op.arg0), like(z, op.arg0 / 2)
    for j in range(rows * n):
        da[j] = sigmoid(z[j]) - (t[j] * keep + add)
    if n == 1:
        for i in range(rows):
            loss[i] = loss_of_logit(np.float64(z[i]), np.float64(t[i] * keep + add))
    else:
        for i in range(rows):
            total = 0.0
            j, end = i * n, i * n + n
            while j < end:
                some = min(_HELD, end - j)
                for k in range(some):
                    losses[k] = loss_of_logit(
                        np.float64(z[j + k]), np.float64(t[j + k] * keep + add)
                    )
                total += sum_of(losses, some)
                j += some
            loss[i] = total
    weigh_rows(ctx, op, first, rows, 1.0, 1.0)


@subroutine
def loss_of_logit(x, t):
    """max(x, 0) - x t + log(1 + e^-|x|) in float64."""
    rise = 0.0 if x < 0.0 else x
    return rise - x * t + log1p(exp(-abs(x)))


@subroutine
def cross_entropy_of_short_rows(ctx, part, op, first, rows):
    """:func:`cross_entropy_of_rows` by columns, for ROWS rows at most."""
    n = op.n_in
    size = n * ROWS
    d = reals(ctx, pack_of(ctx, part))
    t, factor, reciprocal = d + SHORT * ROWS, d + 2 * SHORT * ROWS, d + (2 * SHORT + 1) * ROWS
    sums = doubles(ctx, address_of(d + 3 * SHORT * ROWS))
    losses, target_sum = sums + SHORT * ROWS, sums + 2 * SHORT * ROWS
    weight = sums + 3 * SHORT * ROWS
    # Read once: LLVM cannot exclude that a store to a column changes the operation.
    smoothing, scale = op.arg0, ctx.scale
    kept, spread, count = 1.0 - smoothing, smoothing / n, hidden(ROWS)
    keep, add = like(d, kept), like(d, spread)
    to_columns(d, buffer(ctx, op.x) + first * n, rows, n)
    to_columns(t, buffer(ctx, ctx.targets) + first * n, rows, n)
    subtract_maximum(d, factor, n)
    dots_of_columns(losses, t, d, n)
    if smoothing != 0.0:
        sums_of_columns(sums, d, n)
        for i in range(count):
            losses[i] = kept * losses[i]
        for i in range(count):
            sums[i] = spread * sums[i]
        add_columns(losses, (losses, sums))
    sums_of_columns(target_sum, t, n)
    for i in range(count):
        target_sum[i] = kept * target_sum[i] + smoothing
    for j in range(size):
        d[j] = exp(d[j])
    sums_of_columns(sums, d, n)
    invert(reciprocal, (sums,))
    for i in range(count):
        sums[i] = log(sums[i])
    for i in range(count):
        weight[i] = 1.0
    if ctx.weights:
        for i in range(rows):
            weight[i] = weight_of(ctx, first + i)
    _weighted_loss(losses, (losses, target_sum, sums, weight))
    for i in range(count):
        weight[i] = scale * weight[i]
    copy(factor, (weight,))
    for j in range(size):
        t[j] = t[j] * keep + add
    for j in range(0, size, ROWS):
        _gradient(d + j, (d + j, t + j, reciprocal, factor))
    loss = doubles(ctx, ctx.row_loss) + first
    for i in range(rows):
        loss[i] = losses[i]
    from_columns(buffer(ctx, op.dx) + first * n, d, rows, n)


@on_columns
def _weighted_loss(builder, loss, target_sum, logarithm, weight):
    """(target_sum log s - loss) weight"""
    return builder.fmul(builder.fsub(builder.fmul(target_sum, logarithm), loss), weight)


@on_columns
def _gradient(builder, e, t, reciprocal, factor):
    """factor (e / s - t)"""
    return builder.fmul(factor, builder.fsub(builder.fmul(e, reciprocal), t))


@subroutine
def cross_entropy_of_rows(ctx, part, op, first, rows):
    """l_i = sum over j of t_ij (log sum e^z - z_ij), the row's maximum subtracted first; and da.

    Several simple loops over all rows: rows do not wait for their own stores, and logarithms fill
    the lanes. With d = z - max z and s = sum of e^d: l = (sum of t) log s - sum of t d.
    """
    n = op.n_in
    z, t = buffer(ctx, op.x) + first * n, buffer(ctx, ctx.targets) + first * n
    da = buffer(ctx, op.dx) + first * n
    loss = doubles(ctx, ctx.row_loss) + first
    totals = doubles(ctx, pack_of(ctx, part))
    logarithms = totals + BLOCK_ROWS
    smoothing = op.arg0
    keep, add = like(z, 1.0 - smoothing), like(z, smoothing / n)
    for i in range(rows):
        totals[i] = np.float64(maximum_of(z + i * n, n))
    for i in range(rows):
        highest = like(z, totals[i])
        for j in range(i * n, i * n + n):
            da[j] = z[j] - highest
    for i in range(rows):
        loss[i] = dot_of(t + i * n, da + i * n, n)
        if smoothing != 0.0:
            loss[i] = (1.0 - smoothing) * loss[i] + smoothing / n * sum_of(da + i * n, n)
    for j in range(rows * n):
        da[j] = exp(da[j])
    for i in range(rows):
        totals[i] = sum_of(da + i * n, n)
    for i in range(rows):
        logarithms[i] = log(totals[i])
    for i in range(rows):
        # The one-hot code of a label has the sum 1.
        target_sum = 1.0 if ctx.labels and n > 1 else sum_of(t + i * n, n)
        target_sum = (1.0 - smoothing) * target_sum + smoothing
        loss[i] = (target_sum * logarithms[i] - loss[i]) * weight_of(ctx, first + i)
    for i in range(rows):
        factor = like(z, ctx.scale * weight_of(ctx, first + i))
        part_of_total = like(z, 1.0 / totals[i])
        for j in range(i * n, i * n + n):
            da[j] = factor * (da[j] * part_of_total - (t[j] * keep + add))


def make_head(name, rows_of, at_a_time):
    """The kernel that calls rows_of(ctx, part, op, first, rows) for blocks of the part's rows.

    It turns their da into dz of the operation below.
    """

    def head(ctx, part, parts):
        op = op_of(ctx)
        i, end = rows_of_part(ctx, part, parts)
        while i < end:
            rows = min(at_a_time, end - i)
            rows_of(ctx, part, op, i, rows)
            derivative_below(ctx, buffer(ctx, op.dx), op.below, op.n_in, i, i + rows)
            i += rows
        return 0

    head.__name__ = name
    return kernel(head)


make_head("squared_error", squared_error_of_rows, BLOCK_ROWS)
make_head("binary_cross_entropy", binary_cross_entropy_of_rows, BLOCK_ROWS)
make_head("cross_entropy", cross_entropy_of_rows, BLOCK_ROWS)
# The same bits for rows of at most SHORT elements: faster unless rows are few.
make_head("cross_entropy_short", cross_entropy_of_short_rows, ROWS)


@kernel
def sum_rows(ctx, part, parts):
    """result = (sum of row_loss, sum of row_correct), continued from piece to piece; not split.

    Returns NOT_FINITE if the loss is infinite or not a number.
    """
    result, correct = doubles(ctx, ctx.result), doubles(ctx, ctx.row_correct)
    loss, n_correct = 0.0, 0.0
    if is_continued(ctx):
        loss, n_correct = result[0], result[1]
    result[0] = sum_in_blocks(loss, doubles(ctx, ctx.row_loss), ctx.m)
    for i in range(ctx.m):
        n_correct += correct[i]
    result[1] = n_correct
    return 0 if result[0] - result[0] == 0.0 else _NOT_FINITE
