"""The BatchNorm operation: z = gamma (x - mean) / sqrt(variance + epsilon) + beta, a = act(z).

S. Ioffe and C. Szegedy, Batch Normalization, 2015, algorithms 1 and 2.

In training a part takes some columns, strip by strip; the later passes over the rows of a strip
find it in a cache. Sums are float64; they ascend within blocks of KC rows, and then over the
blocks. The forward pass leaves, for each column, the mean, 1 / sqrt(variance + epsilon), and the
unbiased variance or -1 where a single row was normalised by the running statistics.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from ...tables import KC, NONE
from .context import (
    apply_epilogue,
    buffer,
    is_continued,
    op_number,
    op_of,
    pack_of,
    rows_of_part,
)
from .kernels import kernel, subroutine
from .memory import doubles, like, reals
from .normalise import Affine, normalise_rows, prepared
from .product import block_columns, columns_of_part
from .simd import fused
from .strips import LAST, SOME, WIDE, as_double, make_map, make_sums, on_lanes, root, rounded
from .vectors import vector_lanes


class Room(NamedTuple):
    """Arrays for the columns of a strip, in the packing buffers."""

    mean: Any
    sums: Any  # 2 WIDE doubles
    middle: Any  # from here on reals: the mean,
    scale: Any
    shift: Any
    second: Any
    gamma: Any  # where there is none; or of a continued piece, its gradient
    beta: Any


@subroutine
def room_of(ctx, part):
    """The Room of a part."""
    at = pack_of(ctx, part)
    numbers, room = doubles(ctx, at), reals(ctx, at + 3 * WIDE * 8)
    return Room(
        numbers, numbers + WIDE, room, room + WIDE, room + 2 * WIDE, room + 3 * WIDE,
        room + 4 * WIDE, room + 5 * WIDE,
    )  # fmt: skip


@subroutine
def parameters_of(ctx, op, space, room, j):
    """(gamma, beta) from column j on, or 1 and 0 in the room if there are none."""
    if op.w == NONE:
        one, zero = like(room.gamma, 1), like(room.gamma, 0)
        for k in range(WIDE):
            room.gamma[k] = one
            room.beta[k] = zero
        return room.gamma, room.beta
    parameters = reals(ctx, space)
    return parameters + (op.w + j), parameters + (op.b + j)


def _add(builder, values, mean, sums):
    return [builder.fadd(sums[0], values[0])]


def _add_squares(builder, values, mean, sums):
    d = builder.fsub(values[0], mean)
    return [fused(builder, d, d, sums[0])]


def _add_gradients(builder, values, mean, sums):
    x, dz = values
    d = builder.fsub(x, mean)
    return [builder.fadd(sums[0], dz), fused(builder, dz, d, sums[1])]


def _mean(builder, sources, scalars, real):
    return [builder.fdiv(sources[0], scalars[0])]


def _statistics(builder, sources, scalars, real):
    """(mean, inverse, unbiased variance, then middle, scale, shift)"""
    (mean, total, gamma, beta), (m, epsilon, unbias) = sources, scalars
    variance = builder.fdiv(total, m)
    one = ir.Constant(mean.type, [1.0] * SOME)
    inverse = builder.fdiv(one, root(builder, builder.fadd(variance, epsilon)))
    factor = builder.fmul(gamma, inverse)
    rest = builder.fsub(as_double(builder, rounded(builder, mean, real)), mean)
    shift = builder.fadd(beta, builder.fmul(rest, factor))  # with what middle rounds off
    return [mean, inverse, builder.fmul(variance, unbias), mean, factor, shift]


def _gradients(builder, sources, scalars, real):
    """(dgamma, dbeta, then middle, scale, first, second)"""
    (mean, inverse, dz, dz_x, gamma), (share,) = sources, scalars
    dgamma = builder.fmul(dz_x, inverse)
    second = builder.fmul(builder.fmul(dgamma, inverse), share)
    rest = builder.fsub(as_double(builder, rounded(builder, mean, real)), mean)
    first = builder.fadd(builder.fmul(dz, share), builder.fmul(rest, second))
    return [dgamma, dz, mean, builder.fmul(gamma, inverse), first, second]


def _send(builder, values, factors):
    """dx = scale (dz - first - (x - middle) second)"""
    (x, dz, *old), (middle, scale, first, second) = values, factors
    along = builder.fmul(builder.fsub(x, middle), second)
    sent = builder.fmul(scale, builder.fsub(builder.fsub(dz, first), along))
    return builder.fadd(old[0], sent) if old else sent


_mean_of, _statistics_of, _gradients_of = (
    on_lanes(emit) for emit in (_mean, _statistics, _gradients)
)
_four, _two, _part = (make_map(_send, count) for count in (4, 2, 0))


def make_sum_over_rows(n_sums, add):
    """The sums of the columns of a strip: over blocks of KC rows, and the blocks in order."""
    wide, last = make_sums(n_sums, add, True), make_sums(n_sums, add, False)

    def sum_over_rows(totals, matrices, mean, m, stride, columns):
        for k in range(n_sums * WIDE):
            totals[k] = 0.0
        i = 0
        while i < m:
            rows = min(KC, m - i)
            if columns == WIDE:
                wide(totals, matrices, mean, i, rows, stride, columns)
            else:
                last(totals, matrices, mean, i, rows, stride, columns)
            i += rows

    return subroutine(sum_over_rows)


_sums, _squares, _sums_of_gradients = (
    make_sum_over_rows(*of) for of in ((1, _add), (1, _add_squares), (2, _add_gradients))
)


@subroutine
def statistics_of_columns(ctx, op, x, room, j, columns):
    """The means into the room, and the sums of squared deviations from them.

    For a single row, the running statistics.
    """
    if ctx.m > 1:
        m = np.float64(ctx.m)
        _sums(room.sums, (x,), room.mean, ctx.m, op.n_out, columns)
        for k in range(0, columns, SOME):
            _mean_of((room.mean + k,), (room.sums + k,), (m,), columns - k)
        _squares(room.sums, (x,), room.mean, ctx.m, op.n_out, columns)
    else:
        running = reals(ctx, ctx.state) + (op.state + j)
        for k in range(columns):
            room.mean[k] = np.float64(running[k])
            room.sums[k] = np.float64(running[op.n_out + k])


@subroutine
def forward_of_strip(ctx, op, room, j, columns):
    """z for the columns j, ..., j + columns - 1; leaves their statistics."""
    n, m = op.n_out, np.float64(ctx.m)
    x, z = buffer(ctx, op.x) + j, buffer(ctx, op.z) + j
    statistics_of_columns(ctx, op, x, room, j, columns)
    gamma, beta = parameters_of(ctx, op, ctx.params, room, j)
    left = doubles(ctx, ctx.batch) + (op.batch + j)
    unbias = m / (m - 1.0) if ctx.m > 1 else 0.0
    for k in range(0, columns, SOME):
        outs = (left + k, left + (n + k), left + (2 * n + k),
                room.middle + k, room.scale + k, room.shift + k)  # fmt: skip
        sources = room.mean + k, room.sums + k, gamma + k, beta + k
        _statistics_of(outs, sources, (m, op.arg1, unbias), columns - k)
    if ctx.m == 1:
        for k in range(columns):
            left[2 * n + k] = -1.0
    by = Affine(room.middle, room.scale, room.shift)
    normalise_rows(by, x, z, ctx.m, columns, n)


@subroutine
def backward_of_strip(ctx, op, room, j, columns):
    """dgamma and dbeta, to which a continued piece adds, and dx for some columns from j on."""
    n, m = op.n_out, ctx.m
    x, dz = buffer(ctx, op.x) + j, buffer(ctx, op.da) + j
    left = doubles(ctx, ctx.batch) + (op.batch + j)
    for k in range(columns):
        room.mean[k] = left[k]
    _sums_of_gradients(room.sums, (x, dz), room.mean, m, n, columns)
    dgamma, dbeta = parameters_of(ctx, op, ctx.grad, room, j)
    adds = is_continued(ctx) and op.w != NONE
    to_gamma, to_beta = (room.gamma, room.beta) if adds else (dgamma, dbeta)
    gamma, _ = parameters_of(ctx, op, ctx.params, room, j)
    share = 1.0 / np.float64(m) if m > 1 else 0.0  # running statistics are constant
    for k in range(0, columns, SOME):
        outs = (to_gamma + k, to_beta + k,
                room.middle + k, room.scale + k, room.shift + k, room.second + k)  # fmt: skip
        sums = room.sums + k, room.sums + (WIDE + k)
        sources = room.mean + k, left + (n + k), *sums, gamma + k
        _gradients_of(outs, sources, (share,), columns - k)
    if adds:
        for k in range(columns):
            dgamma[k] = dgamma[k] + room.gamma[k]
            dbeta[k] = dbeta[k] + room.beta[k]
    if op.dx != NONE:
        send(op, (x, dz), buffer(ctx, op.dx) + j, room, m, columns)


@subroutine
def send(op, matrices, dx, room, m, columns):
    """dx = scale (dz - first - (x - middle) second), or dx + that."""
    factors = room.middle, room.scale, room.shift, room.second
    if op.adds:
        _send_columns((*matrices, dx), dx, factors, m, op.n_out, columns)
    else:
        _send_columns(matrices, dx, factors, m, op.n_out, columns)


@subroutine
def _send_columns(matrices, dx, factors, m, n, columns):
    if columns < WIDE:
        _part(dx, matrices, factors, m, n, columns)
    elif 2 * vector_lanes(dx) == WIDE:
        _two(dx, matrices, factors, m, n, columns)
    else:
        _four(dx, matrices, factors, m, n, columns)


@kernel
def batch_norm_forward(ctx, part, parts):
    """z by the statistics of the batch, then a = act(z) by the epilogue; all are (m, n_out).

    Writes 3 n_out doubles at op.batch; split by columns.
    """
    op = op_of(ctx)
    n, room = op.n_out, room_of(ctx, part)
    begin, end = columns_of_part(ctx, n, part, parts)
    j = begin
    while j < end:
        columns = WIDE if end - j >= WIDE else min(LAST, end - j)
        forward_of_strip(ctx, op, room, j, columns)
        j += columns
    z, a = buffer(ctx, op.z) + begin, buffer(ctx, op.a) + begin
    if op.z != op.a:
        for i in range(ctx.m):
            source, out = z + i * n, a + i * n
            for k in range(end - begin):
                out[k] = source[k]
    apply_epilogue(ctx, z, a, a, ctx.m, end - begin, n, op)
    return 0


@kernel
def batch_norm_backward(ctx, part, parts):
    """dgamma and dbeta (n_out,), and dx, turned into dz of the operation below.

    Added to dx if op.adds. x, dz and dx are (m, n_out); split by columns.
    """
    op = op_of(ctx)
    n, room = op.n_out, room_of(ctx, part)
    begin, end = columns_of_part(ctx, n, part, parts)
    j = begin
    while j < end:
        columns = WIDE if end - j >= WIDE else min(LAST, end - j)
        backward_of_strip(ctx, op, room, j, columns)
        j += columns
    if ctx.inner:
        below = op_number(ctx, op.below)
        z, a = buffer(ctx, below.z) + begin, buffer(ctx, below.a) + begin
        apply_epilogue(ctx, z, a, buffer(ctx, op.dx) + begin, ctx.m, end - begin, n, below)
    return 0


@kernel
def batch_norm_statistics(ctx, part, parts):
    """running = momentum running + (1 - momentum) batch, unless the batch was a single row.

    Split by columns.
    """
    op = op_of(ctx)
    n = op.n_out
    mean = doubles(ctx, ctx.batch) + op.batch
    unbiased, running = mean + 2 * n, reals(ctx, ctx.state) + op.state
    momentum, rest = op.arg2, 1.0 - op.arg2
    begin, end = columns_of_part(ctx, n, part, parts)
    if begin < end and unbiased[begin] < 0.0:
        return 0
    for j in range(begin, end):
        old, variance = np.float64(running[j]), np.float64(running[n + j])
        running[j] = like(running, momentum * old + rest * mean[j])
        running[n + j] = like(running, momentum * variance + rest * unbiased[j])
    return 0


@kernel
def batch_norm_prepare(ctx, part, parts):
    """mean and scale = gamma / sqrt(variance + epsilon) of the running statistics, for predictions.

    n_out reals each at op.batch; split by columns.
    """
    op = op_of(ctx)
    n = op.n_out
    running, coefficients = reals(ctx, ctx.state) + op.state, prepared(ctx, op, 0)
    gamma = reals(ctx, ctx.params) + op.w
    begin, end = columns_of_part(ctx, n, part, parts)
    for j in range(begin, end):
        inverse = 1.0 / math.sqrt(np.float64(running[n + j]) + op.arg1)
        factor = inverse if op.w == NONE else np.float64(gamma[j]) * inverse
        coefficients.mean[j] = running[j]
        coefficients.scale[j] = like(running, factor)
    return 0


@kernel
def batch_norm_apply(ctx, part, parts):
    """z by what batch_norm_prepare left, then a = act(z) by the epilogue, for predictions.

    Where no operation below computes it; x, z and a are (m, n_out); split by rows of the batch.
    """
    op = op_of(ctx)
    n = op.n_out
    begin, end = rows_of_part(ctx, part, parts)
    rows, at = end - begin, begin * n
    x, z, a = buffer(ctx, op.x) + at, buffer(ctx, op.z) + at, buffer(ctx, op.a) + at
    j = 0
    while j < n:
        columns = min(block_columns(x), n - j)
        normalise_rows(prepared(ctx, op, j), x + j, z + j, rows, columns, n)
        j += columns
    if op.z != op.a:
        for i in range(rows * n):
            a[i] = z[i]
    apply_epilogue(ctx, z, a, a, rows, n, n, op)
    return 0
