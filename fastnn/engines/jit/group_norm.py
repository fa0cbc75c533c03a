"""The group normalisation operation: z = (x - mean) inv gamma + beta in groups of columns.

A segment is a group of one row. x is (m, n), so segments of n / groups elements lie one after
another, and segment s belongs to group s % groups. Its mean and inv = 1 / sqrt(variance + epsilon),
rounded to the network's type, are elements 2 s and 2 s + 1 of what is saved.
"""

from __future__ import annotations

import math

import numpy as np

from ...tables import NONE
from .context import (
    apply_epilogue,
    buffer,
    derivative_below,
    op_of,
    pack_of,
    rows_of_part,
)
from .kernels import kernel, subroutine
from .memory import address_of, doubles, like, reals
from .runs import (
    sum_of_differences,
    sum_of_squares,
    sum_rows_of_columns,
    sums_of_gradient,
    sums_of_plain_gradient,
)
from .simd import fma

#: Most segments of a block, and their elements, which stay in L1 unless it is one segment.
_SEGMENTS, _BLOCK_ELEMENTS = 16, 2048


@subroutine
def block_of(columns):
    """How many segments a block has."""
    return max(1, min(_SEGMENTS, _BLOCK_ELEMENTS // columns))


@kernel
def group_norm_forward(ctx, part, parts):
    """z = (x - mean) inv gamma + beta, then a = act(z) by the epilogue; split by rows.

    x, z and a are (m, n), gamma and beta (n,); saves mean and inv (m, groups, 2) if that is laid
    out.
    """
    op = op_of(ctx)
    groups = int(op.arg2)
    columns = op.n_out // groups
    begin, end = rows_of_part(ctx, part, parts)
    step = block_of(columns)
    sums = doubles(ctx, pack_of(ctx, part))
    first = begin * groups
    while first < end * groups:
        count = min(step, end * groups - first)
        at = first * columns
        x, z, a = buffer(ctx, op.x) + at, buffer(ctx, op.z) + at, buffer(ctx, op.a) + at
        moments = reals(ctx, address_of(sums + _SEGMENTS))
        if op.saved != NONE:
            moments = buffer(ctx, op.saved) + 2 * first
        moments_of(op, x, moments, sums, columns, count)
        normalise_block(ctx, op, x, a, moments, first, count)
        if op.z != op.a:
            for i in range(count * columns):
                z[i] = a[i]
        apply_epilogue(ctx, z, a, a, 1, count * columns, count * columns, op)
        first += count
    return 0


@subroutine
def moments_of(op, x, moments, sums, columns, count):
    """Mean and inv of `count` segments of x; overwrites sums."""
    for s in range(count):
        sums[s] = sum_of_differences(x + s * columns, x[s * columns], columns)
    for s in range(count):
        mean = np.float64(x[s * columns]) + sums[s] / columns
        moments[2 * s] = like(x, mean)
    for s in range(count):
        sums[s] = sum_of_squares(x + s * columns, moments[2 * s], columns)
    for s in range(count):
        inv = 1.0 / math.sqrt(sums[s] / columns + op.arg1)
        moments[2 * s + 1] = like(x, inv)


@subroutine
def normalise_block(ctx, op, x, out, moments, first, count):
    """out = (x - mean) inv gamma + beta for `count` segments; x and out begin at the first one."""
    groups = int(op.arg2)
    columns = op.n_out // groups
    params = reals(ctx, ctx.params)
    gamma, beta = params + op.w, params + op.b
    j = first % groups * columns
    for s in range(count):
        mean, inv = moments[2 * s], moments[2 * s + 1]
        xs, outs = x + s * columns, out + s * columns
        if op.w == NONE:
            for k in range(columns):
                outs[k] = (xs[k] - mean) * inv
        else:
            gs, bs = gamma + j, beta + j
            for k in range(columns):
                outs[k] = fma((xs[k] - mean) * inv, gs[k], bs[k])
        j = 0 if j + columns == op.n_out else j + columns


@kernel
def group_norm_inputs(ctx, part, parts):
    """dx = inv (g - mean(g) - xhat mean(g xhat)) over each segment, with g = dz gamma.

    Added to dx if op.adds, and turned into dz of the operation below. x, dz and dx are (m, n);
    split by rows of the batch.
    """
    op = op_of(ctx)
    groups = int(op.arg2)
    columns = op.n_out // groups
    begin, end = rows_of_part(ctx, part, parts)
    step = block_of(columns)
    sums = doubles(ctx, pack_of(ctx, part))
    gamma = reals(ctx, ctx.params) + op.w
    first = begin * groups
    while first < end * groups:
        count = min(step, end * groups - first)
        at = first * columns
        x, dz = buffer(ctx, op.x) + at, buffer(ctx, op.da) + at
        saved = buffer(ctx, op.saved) + 2 * first
        j = first % groups * columns
        for s in range(count):
            i = s * columns
            if op.w != NONE:
                sums_of_gradient(sums + 2 * s, dz + i, gamma + j, x + i, saved[2 * s], columns)
            else:
                sums_of_plain_gradient(sums + 2 * s, dz + i, dz, x + i, saved[2 * s], columns)
            j = 0 if j + columns == op.n_out else j + columns
        gradient_of_block(ctx, op, sums, first, count)
        first += count
    derivative_below(ctx, buffer(ctx, op.dx), op.below, op.n_out, begin, end)
    return 0


@subroutine
def gradient_of_block(ctx, op, sums, first, count):
    """dx of `count` segments, from the sums of g and of g (x - mean) of each."""
    groups = int(op.arg2)
    columns = op.n_out // groups
    at = first * columns
    x, dz, dx = buffer(ctx, op.x) + at, buffer(ctx, op.da) + at, buffer(ctx, op.dx) + at
    saved = buffer(ctx, op.saved) + 2 * first
    gamma = reals(ctx, ctx.params) + op.w
    j = first % groups * columns
    for s in range(count):
        inv = np.float64(saved[2 * s + 1])
        slope = sums[2 * s + 1] / columns * inv * inv * inv
        means = like(x, sums[2 * s] / columns), like(x, slope)
        i = s * columns
        weights = gamma + j if op.w != NONE else reals(ctx, 0)
        gradient_of_segment(dx + i, dz + i, weights, x + i, saved + 2 * s, means, columns, op.adds)
        j = 0 if j + columns == op.n_out else j + columns


@subroutine
def gradient_of_segment(dx, dz, gamma, x, moments, means, count, adds):
    """dx = (g - means[0]) inv - (x - mean) means[1] for a segment, added to dx if `adds`."""
    mean, inv = moments[0], moments[1]
    if address_of(gamma):
        if adds:
            for k in range(count):
                g = fma(dz[k], gamma[k], -means[0])
                dx[k] = dx[k] + fma(g, inv, -((x[k] - mean) * means[1]))
        else:
            for k in range(count):
                g = fma(dz[k], gamma[k], -means[0])
                dx[k] = fma(g, inv, -((x[k] - mean) * means[1]))
    elif adds:
        for k in range(count):
            dx[k] = dx[k] + fma(dz[k] - means[0], inv, -((x[k] - mean) * means[1]))
    else:
        for k in range(count):
            dx[k] = fma(dz[k] - means[0], inv, -((x[k] - mean) * means[1]))


@kernel
def group_norm_parameters(ctx, part, parts):
    """dgamma_j = sum over i of dz_ij xhat_ij and dbeta_j = sum over i of dz_ij; split by columns.

    x and dz are (m, n), the gradients (n,).
    """
    op = op_of(ctx)
    groups = int(op.arg2)
    sum_rows_of_columns(ctx, buffer(ctx, op.saved), 2 * groups, groups, part, parts)
    return 0
