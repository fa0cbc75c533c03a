"""Loss heads: the loss of every row of the batch, and the gradient where backward starts.

Each reads the output of the last row, a (m, n_out), and the targets t (m, n_out). It writes the
loss of each row in float64, times the row's weight, and da = scale weight dC/da, which the
epilogue turns into the last row's dz. The cross entropies take logits: their gradient is a - y,
and nothing overflows. All are split by rows.
"""

from __future__ import annotations

import numpy as np

from ..tables import PACK_BYTES, Loss, Status
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
from .elementary import exp, log, log1p, sigmoid
from .kernels import leaf, subroutine
from .memory import address_of, doubles, like, reals, row_at
from .products import ROW_BYTES, buffer, epilogue, share
from .reductions import dot_of, maximum_of, size_of, sum_of
from .simd import hidden

_MSE = int(Loss.mse)
_NOT_FINITE = int(Status.NOT_FINITE)
_SUM_BLOCK = 128
#: Rows of a batch that a loss works on at a time.
_ROWS = 64
#: Losses of a row that are kept until they are added.
_SOME = 4096


@subroutine
def weight_of(ctx, i):
    """The weight of row i of the batch."""
    return doubles(ctx, ctx.row_weight)[i] if ctx.weights else 1.0


@subroutine
def finish(ctx, row, first, rows):
    """Turn some rows of the head's da into the dz of the plan row below."""
    below = row_at(ctx, ctx.rows + row.below * ROW_BYTES)
    at, n = first * row.n_in, row.n_in
    z, a, da = buffer(ctx, below.z), buffer(ctx, below.a), buffer(ctx, row.dx)
    epilogue(ctx, z + at, a + at, da + at, rows, n, n, below)


@leaf
def squared_error(ctx, part, parts):
    """l_i = sum over j of (a_ij - t_ij)^2, for mse divided by n_out."""
    row = row_at(ctx, ctx.row)
    i, i_end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    while i < i_end:
        rows = min(_ROWS, i_end - i)
        squared_error_of_rows(ctx, row, i, rows)
        finish(ctx, row, i, rows)
        i += rows
    return 0


@subroutine
def squared_error_of_rows(ctx, row, first, rows):
    """The losses of some rows from `first` on, and their da."""
    n = row.n_in
    a, t = buffer(ctx, row.x) + first * n, buffer(ctx, ctx.target) + first * n
    da, loss = buffer(ctx, row.dx) + first * n, doubles(ctx, ctx.row_loss) + first
    share_of_output = 1.0 / n if row.code == _MSE else 1.0
    for j in range(rows * n):
        da[j] = a[j] - t[j]
    if n == 1:
        for i in range(rows):
            loss[i] = np.float64(da[i]) * np.float64(da[i])
    else:
        for i in range(rows):
            loss[i] = dot_of(da + i * n, da + i * n, n)
    for i in range(rows):
        weight = share_of_output * weight_of(ctx, first + i)
        factor = like(a, 2.0 * ctx.scale * weight)
        loss[i] = loss[i] * weight
        for j in range(i * n, i * n + n):
            da[j] = factor * da[j]


@leaf
def binary_cross_entropy(ctx, part, parts):
    """l_i = sum over j of max(z, 0) - z t + log(1 + e^-|z|), from logits."""
    row = row_at(ctx, ctx.row)
    i, i_end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    while i < i_end:
        rows = min(_ROWS, i_end - i)
        binary_cross_entropy_of_rows(ctx, part, row, i, rows)
        finish(ctx, row, i, rows)
        i += rows
    return 0


@subroutine
def binary_cross_entropy_of_rows(ctx, part, row, first, rows):
    """The losses of some rows from `first` on, and their da; simple loops fill the lanes."""
    n = row.n_in
    z, t = buffer(ctx, row.x) + first * n, buffer(ctx, ctx.target) + first * n
    da, loss = buffer(ctx, row.dx) + first * n, doubles(ctx, ctx.row_loss) + first
    losses = doubles(ctx, ctx.pack + part * PACK_BYTES)
    keep, add = like(z, 1.0 - row.arg0), like(z, row.arg0 / 2)
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
                some = min(_SOME, end - j)
                for k in range(some):
                    losses[k] = loss_of_logit(
                        np.float64(z[j + k]), np.float64(t[j + k] * keep + add)
                    )
                total += sum_of(losses, some)
                j += some
            loss[i] = total
    for i in range(rows):
        weight = weight_of(ctx, first + i)
        factor = like(z, ctx.scale * weight)
        loss[i] = loss[i] * weight
        for j in range(i * n, i * n + n):
            da[j] = factor * da[j]


@subroutine
def loss_of_logit(x, t):
    """max(x, 0) - x t + log(1 + e^-|x|) in float64."""
    rise = 0.0 if x < 0.0 else x
    return rise - x * t + log1p(exp(-abs(x)))


@leaf
def cross_entropy(ctx, part, parts):
    """l_i = sum over j of t_ij (log sum e^z - z_ij), with the row's maximum subtracted first.

    One simple loop after another over a block of rows, so that each fills the lanes even where
    rows are short.
    """
    row = row_at(ctx, ctx.row)
    i, i_end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    while i < i_end:
        # A block costs the same however few rows it has.
        if row.n_in <= SHORT and i_end - i > ROWS // 2:
            rows = min(ROWS, i_end - i)
            cross_entropy_of_short_rows(ctx, part, row, i, rows)
        else:
            rows = min(_ROWS, i_end - i)
            cross_entropy_of_rows(ctx, row, i, rows)
        finish(ctx, row, i, rows)
        i += rows
    return 0


@subroutine
def cross_entropy_of_short_rows(ctx, part, row, first, rows):
    """The same as :func:`cross_entropy_of_rows` by columns, for ROWS rows at most."""
    n = row.n_in
    size = n * ROWS
    d = reals(ctx, ctx.pack + part * PACK_BYTES)
    t, factor, reciprocal = d + SHORT * ROWS, d + 2 * SHORT * ROWS, d + (2 * SHORT + 1) * ROWS
    sums = doubles(ctx, address_of(d + 3 * SHORT * ROWS))
    losses, mass, weight = sums + SHORT * ROWS, sums + 2 * SHORT * ROWS, sums + 3 * SHORT * ROWS
    # Read once: for all that LLVM knows, a store to a column could change the row.
    smoothing, scale = row.arg0, ctx.scale
    kept, spread, count = 1.0 - smoothing, smoothing / n, hidden(ROWS)
    keep, add = like(d, kept), like(d, spread)
    to_columns(d, buffer(ctx, row.x) + first * n, rows, n)
    to_columns(t, buffer(ctx, ctx.target) + first * n, rows, n)
    subtract_maximum(d, factor, n)
    dots_of_columns(losses, t, d, n)
    if smoothing != 0.0:
        sums_of_columns(sums, d, n)
        for i in range(count):
            losses[i] = kept * losses[i]
        for i in range(count):
            sums[i] = spread * sums[i]
        add_columns(losses, (losses, sums))
    sums_of_columns(mass, t, n)
    for i in range(count):
        mass[i] = kept * mass[i] + smoothing
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
    _weighted_loss(losses, (losses, mass, sums, weight))
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
    from_columns(buffer(ctx, row.dx) + first * n, d, rows, n)


@on_columns
def _weighted_loss(builder, loss, mass, logarithm, weight):
    """(mass log s - loss) weight"""
    return builder.fmul(builder.fsub(builder.fmul(mass, logarithm), loss), weight)


@on_columns
def _gradient(builder, e, t, reciprocal, factor):
    """factor (e / s - t)"""
    return builder.fmul(factor, builder.fsub(builder.fmul(e, reciprocal), t))


@subroutine
def cross_entropy_of_rows(ctx, row, first, rows):
    """The losses of some rows from `first` on, and their da."""
    n = row.n_in
    z, t = buffer(ctx, row.x) + first * n, buffer(ctx, ctx.target) + first * n
    da = buffer(ctx, row.dx) + first * n
    loss = doubles(ctx, ctx.row_loss) + first
    keep, add = like(z, 1.0 - row.arg0), like(z, row.arg0 / n)
    # With d = z - max z and s = sum of e^d: l = (sum of t) log s - sum of t d.
    for i in range(rows):
        at = i * n
        highest = maximum_of(z + at, n)
        for j in range(at, at + n):
            da[j] = z[j] - highest
        loss[i] = dot_of(t + at, da + at, n)
        if row.arg0 != 0.0:
            loss[i] = (1.0 - row.arg0) * loss[i] + row.arg0 / n * sum_of(da + at, n)
    for j in range(rows * n):
        da[j] = exp(da[j])
    for i in range(rows):
        at = i * n
        total = sum_of(da + at, n)
        mass = (1.0 - row.arg0) * sum_of(t + at, n) + row.arg0
        weight = weight_of(ctx, first + i)
        factor, part_of_total = like(z, ctx.scale * weight), like(z, 1.0 / total)
        for j in range(at, at + n):
            da[j] = factor * (da[j] * part_of_total - (t[j] * keep + add))
        loss[i] = (mass * log(total) - loss[i]) * weight


@leaf
def penalise(ctx, part, parts):
    """penalties[k] = sum over j of l1 |w_kj| + l2 w_kj^2 for the rows k of W; split by rows."""
    row = row_at(ctx, ctx.row)
    n = row.n_out
    w = reals(ctx, ctx.params) + row.w
    penalties = doubles(ctx, ctx.penalties)
    for k in range(share(row.n_in, 1, part, parts), share(row.n_in, 1, part + 1, parts)):
        penalty = row.arg2 * dot_of(w + k * n, w + k * n, n)
        if row.arg1 != 0.0:
            penalty += row.arg1 * size_of(w + k * n, n)
        penalties[k] = penalty
    return 0


@subroutine
def sum_in_blocks(values, n):
    """The sum of n doubles: in blocks of consecutive ones, then the blocks in order."""
    total = 0.0
    i = 0
    while i < n:
        block = 0.0
        for k in range(i, min(i + _SUM_BLOCK, n)):
            block += values[k]
        total += block
        i += _SUM_BLOCK
    return total


@leaf
def add_penalty(ctx, part, parts):
    """result[0] += the penalty of a row, in proportion to the rows of the batch; part 0 works."""
    if part > 0:
        return 0
    row = row_at(ctx, ctx.row)
    weight = ctx.mass if ctx.mean else np.float64(ctx.m) / np.float64(ctx.n_samples)
    result = doubles(ctx, ctx.result)
    result[0] = result[0] + weight * sum_in_blocks(doubles(ctx, ctx.penalties), row.n_in)
    return 0 if result[0] - result[0] == 0.0 else _NOT_FINITE


@leaf
def sum_rows(ctx, part, parts):
    """result = (sum of row_loss, sum of row_hit); part 0 works.

    Returns NOT_FINITE if the loss is infinite or not a number.
    """
    if part > 0:
        return 0
    result = doubles(ctx, ctx.result)
    result[0] = sum_in_blocks(doubles(ctx, ctx.row_loss), ctx.m)
    hit = doubles(ctx, ctx.row_hit)
    hits = 0.0
    for i in range(ctx.m):
        hits += hit[i]
    result[1] = hits
    return 0 if result[0] - result[0] == 0.0 else _NOT_FINITE
