"""The PReLU operation: a = x where x > 0, else slope x; one learned slope, or one per column.

K. He et al., Delving deep into rectifiers, 2015, section 2.1.
"""

from __future__ import annotations

import numpy as np

from ...tables import KC
from .context import buffer, derivative_below, is_continued, op_of, rows_of_part, share
from .kernels import kernel, subroutine
from .memory import doubles, like, reals
from .reductions import sum_of
from .simd import fma


@kernel
def prelu_forward(ctx, part, parts):
    """a = x where x > 0, else slope x; x and a are (m, n_out); split by rows of the batch."""
    op = op_of(ctx)
    n = op.n_out
    x, a, slopes = buffer(ctx, op.x), buffer(ctx, op.a), reals(ctx, ctx.params) + op.w
    zero = like(x, 0)
    begin, end = rows_of_part(ctx, part, parts)
    if op.arg0 != 0.0:
        slope = slopes[0]
        for i in range(begin * n, end * n):
            scaled = slope * x[i]
            a[i] = x[i] if x[i] > zero else scaled
    else:
        for i in range(begin, end):
            xi, ai = x + i * n, a + i * n
            for j in range(n):
                scaled = slopes[j] * xi[j]
                ai[j] = xi[j] if xi[j] > zero else scaled
    return 0


@kernel
def prelu_inputs(ctx, part, parts):
    """dx = da where x > 0, else slope da; turned into dz of the operation below.

    Added to dx if op.adds. x, da and dx are (m, n_out); split by rows of the batch.
    """
    op = op_of(ctx)
    n = op.n_out
    x, da, dx = buffer(ctx, op.x), buffer(ctx, op.da), buffer(ctx, op.dx)
    slopes = reals(ctx, ctx.params) + op.w
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin, end):
        at = i * n
        if op.arg0 != 0.0:
            gradient_with_one_slope(dx + at, x + at, da + at, slopes[0], n, op.adds)
        else:
            gradient_with_slopes(dx + at, x + at, da + at, slopes, n, op.adds)
    derivative_below(ctx, dx, op.below, n, begin, end)
    return 0


@subroutine
def gradient_with_one_slope(dx, x, da, slope, n, adds):
    """dx = da where x > 0, else slope da, for n elements."""
    zero = like(x, 0)
    if adds:
        for j in range(n):
            scaled = slope * da[j]
            dx[j] = dx[j] + (da[j] if x[j] > zero else scaled)
    else:
        for j in range(n):
            scaled = slope * da[j]
            dx[j] = da[j] if x[j] > zero else scaled


@subroutine
def gradient_with_slopes(dx, x, da, slopes, n, adds):
    """dx = da where x > 0, else slope da, for a row of n elements."""
    zero = like(x, 0)
    if adds:
        for j in range(n):
            scaled = slopes[j] * da[j]
            dx[j] = dx[j] + (da[j] if x[j] > zero else scaled)
    else:
        for j in range(n):
            scaled = slopes[j] * da[j]
            dx[j] = da[j] if x[j] > zero else scaled


@kernel
def prelu_slopes(ctx, part, parts):
    """d slope_j = sum of da_ij min(x_ij, 0) over the rows i; x and da are (m, n_out).

    Summed in float64: blocks of KC rows, and the blocks in order. Of the 2 n_out doubles at
    op.batch, the first half holds the sums, to which a continued piece adds, and the second half
    those of a block. Writes the gradient of the slopes unless one is shared. Split by columns.
    """
    op = op_of(ctx)
    n, m = op.n_out, ctx.m
    x, da = buffer(ctx, op.x), buffer(ctx, op.da)
    totals = doubles(ctx, ctx.batch) + op.batch
    block = totals + n
    zero = like(x, 0)
    begin, end = share(n, 16, part, parts)
    if not is_continued(ctx):
        for j in range(begin, end):
            totals[j] = 0.0
    for first in range(0, m, KC):
        for j in range(begin, end):
            block[j] = 0.0
        for i in range(first, min(first + KC, m)):
            xi, di = x + i * n, da + i * n
            for j in range(begin, end):
                negative = zero if xi[j] > zero else xi[j]
                block[j] = fma(np.float64(di[j]), np.float64(negative), block[j])
        for j in range(begin, end):
            totals[j] = totals[j] + block[j]
    if op.arg0 == 0.0:
        slopes = reals(ctx, ctx.grad) + op.w
        for j in range(begin, end):
            slopes[j] = like(x, totals[j])
    return 0


@kernel
def prelu_shared_slope(ctx, part, parts):
    """The gradient of a shared slope: the sum over prelu_slopes' columns; not split."""
    op = op_of(ctx)
    grad = reals(ctx, ctx.grad) + op.w
    grad[0] = like(grad, sum_of(doubles(ctx, ctx.batch) + op.batch, op.n_out))
    return 0
