"""Losses that are sums over outputs of a function of one output x and its target t.

mae, Huber, quantile, hinge and squared hinge. See :mod:`.loss` for what a head reads and writes.
"""

from __future__ import annotations

import numpy as np

from .context import buffer
from .kernels import formula, subroutine
from .loss import BLOCK_ROWS, make_head, weigh_rows
from .memory import doubles, like
from .reductions import dot_of, sum_of


@subroutine
def sums_of_rows(sums, x, rows, n):
    """sums[i] = the sum of row i of x (rows, n)."""
    if n == 1:
        for i in range(rows):
            sums[i] = np.float64(x[i])
    else:
        for i in range(rows):
            sums[i] = sum_of(x + i * n, n)


@subroutine
def squares_of_rows(sums, x, rows, n):
    """sums[i] = the sum of the squares of row i of x (rows, n)."""
    if n == 1:
        for i in range(rows):
            sums[i] = np.float64(x[i]) * np.float64(x[i])
    else:
        for i in range(rows):
            sums[i] = dot_of(x + i * n, x + i * n, n)


def make_elementwise(name, loss_of, sums, derivative_of, is_mean):
    """The head whose row's loss is the sum over outputs of loss_of(x, t, c), or of its square.

    c is the loss's argument; `derivative_of` is the derivative by x. With `is_mean`, both are
    divided by the number of outputs.
    """

    @subroutine
    def elementwise_of_rows(ctx, part, op, first, rows):
        n = op.n_in
        x, t = buffer(ctx, op.x) + first * n, buffer(ctx, ctx.targets) + first * n
        da = buffer(ctx, op.dx) + first * n
        c = like(x, op.arg0)
        for j in range(rows * n):
            da[j] = loss_of(x[j], t[j], c)
        sums(doubles(ctx, ctx.row_loss) + first, da, rows, n)
        for j in range(rows * n):
            da[j] = derivative_of(x[j], t[j], c)
        share = 1.0 / n if is_mean else 1.0
        weigh_rows(ctx, op, first, rows, share, share)

    make_head(name, elementwise_of_rows, BLOCK_ROWS)


@formula
def absolute_error_of(x, t, c):
    """|x - t|, whose derivative is 0 at 0."""
    return abs(x - t)


@formula
def absolute_error_derivative(x, t, c):
    """The sign of x - t."""
    error = x - t
    below = like(x, -1) if error < like(x, 0) else error
    return like(x, 1) if error > like(x, 0) else below


@formula
def huber_derivative(x, t, c):
    """The error x - t, at most c in size."""
    error = x - t
    above = c if error > c else error
    return -c if error < -c else above


@formula
def huber_of(x, t, c):
    """e^2 / 2 for |e| <= c, else c (|e| - c / 2): d (e - d / 2), with d = e, at most c in size."""
    d = huber_derivative(x, t, c)
    return d * ((x - t) - like(x, 0.5) * d)


@formula
def quantile_of(x, t, q):
    """max(q e, (q - 1) e) with e = t - x, whose derivative is 0 at e = 0."""
    error = t - x
    return (q - like(x, 1) if error < like(x, 0) else q) * error


@formula
def quantile_derivative(x, t, q):
    """-q below the target, 1 - q above it."""
    error = t - x
    below = like(x, 1) - q if error < like(x, 0) else error
    return -q if error > like(x, 0) else below


@subroutine
def quantiles_of_rows(ctx, part, op, first, rows):
    """The quantile loss where each output has its own q, in the plan's constants."""
    n = op.n_in
    x, t = buffer(ctx, op.x) + first * n, buffer(ctx, ctx.targets) + first * n
    da, q = buffer(ctx, op.dx) + first * n, doubles(ctx, ctx.constants) + op.constants
    for at in range(0, rows * n, n):
        for j in range(n):
            da[at + j] = quantile_of(x[at + j], t[at + j], like(x, q[j]))
    sums_of_rows(doubles(ctx, ctx.row_loss) + first, da, rows, n)
    for at in range(0, rows * n, n):
        for j in range(n):
            da[at + j] = quantile_derivative(x[at + j], t[at + j], like(x, q[j]))
    weigh_rows(ctx, op, first, rows, 1.0 / n, 1.0 / n)


@formula
def hinge_of(x, t, c):
    """max(0, 1 - s x) for the class s = 2 t - 1, -1 or 1; its derivative is 0 at the kink."""
    margin = like(x, 1) - (t + t - like(x, 1)) * x
    return like(x, 0) if margin < like(x, 0) else margin


@formula
def hinge_derivative(x, t, c):
    """-s below the margin."""
    return like(x, 1) - (t + t) if hinge_of(x, t, c) > like(x, 0) else like(x, 0)


@formula
def squared_hinge_derivative(x, t, c):
    """-2 s max(0, 1 - s x)"""
    return like(x, 2) * (like(x, 1) - (t + t)) * hinge_of(x, t, c)


make_elementwise(
    "absolute_error", absolute_error_of, sums_of_rows, absolute_error_derivative, is_mean=True
)
make_elementwise("huber", huber_of, sums_of_rows, huber_derivative, is_mean=True)
make_elementwise("quantile", quantile_of, sums_of_rows, quantile_derivative, is_mean=True)
make_head("quantiles", quantiles_of_rows, BLOCK_ROWS)
make_elementwise("hinge", hinge_of, sums_of_rows, hinge_derivative, is_mean=False)
make_elementwise(
    "squared_hinge", hinge_of, squares_of_rows, squared_hinge_derivative, is_mean=False
)
