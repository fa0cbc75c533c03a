"""Losses on the parameters of a distribution: Poisson, normal, and the focal loss of classes.

See :mod:`.loss` for what a head reads and writes.
"""

from __future__ import annotations

import math

import numpy as np

from .context import buffer, pack_of
from .elementary import exp, log, log1p
from .elementwise_loss import sums_of_rows
from .kernels import formula, subroutine
from .loss import BLOCK_ROWS, make_head, weigh_rows
from .memory import doubles, like
from .reductions import dot_of, maximum_of, sum_of

_LOG_2_PI = math.log(2 * math.pi)
#: The least normal number.
_LEAST = float(np.finfo(np.float64).tiny)


@subroutine
def poisson_of_rows(ctx, part, op, first, rows):
    """l_i = sum over j of e^z - t z, for the logarithm z of a rate; dz = e^z - t."""
    n = op.n_in
    z, t = buffer(ctx, op.x) + first * n, buffer(ctx, ctx.targets) + first * n
    da, loss = buffer(ctx, op.dx) + first * n, doubles(ctx, ctx.row_loss) + first
    for j in range(rows * n):
        da[j] = exp(z[j])
    for i in range(rows):
        loss[i] = sum_of(da + i * n, n) - dot_of(t + i * n, z + i * n, n)
    for j in range(rows * n):
        da[j] = da[j] - t[j]
    weigh_rows(ctx, op, first, rows, 1.0, 1.0)


@subroutine
def gaussian_nll_of_rows(ctx, part, op, first, rows):
    """l_i = 1/2 sum over j < c of log 2 pi + s + (m - t)^2 e^-s, for n = 2 c outputs.

    They are the means m, then the logarithms s of the variances; dm = (m - t) e^-s and
    ds = (1 - (m - t)^2 e^-s) / 2.
    """
    n = op.n_in
    c = n // 2
    z, t = buffer(ctx, op.x) + first * n, buffer(ctx, ctx.targets) + first * n
    da, loss = buffer(ctx, op.dx) + first * n, doubles(ctx, ctx.row_loss) + first
    half = like(z, 0.5)
    for j in range(rows * n):
        da[j] = exp(-z[j])
    for i in range(rows):
        at = i * n
        for j in range(at, at + c):
            error = z[j] - t[j]
            derivative = error * da[c + j]
            da[j] = derivative
            da[c + j] = error * derivative
        loss[i] = 0.5 * (c * _LOG_2_PI + sum_of(z + (at + c), c) + sum_of(da + (at + c), c))
        for j in range(at + c, at + n):
            da[j] = half - half * da[j]
    weigh_rows(ctx, op, first, rows, 1.0, 1.0)


@formula
def _focal_of_logit(z, t, gamma):
    """(loss, derivative) by the probability p = sigmoid(x) of the true class, x = z or -z."""
    sign = t + t - like(z, 1)
    x = sign * z
    e = exp(-abs(x))
    rest, divisor = log1p(e), like(z, 1) + e
    p = (e if x < like(z, 0) else like(z, 1)) / divisor
    not_p = (like(z, 1) if x < like(z, 0) else e) / divisor
    log_p = (-x if x < like(z, 0) else like(z, 0)) + rest  # -log p
    log_not_p = (like(z, 0) if x < like(z, 0) else x) + rest  # -log (1 - p)
    power = exp(-(gamma * log_not_p))
    return power * log_p, -sign * (power * (gamma * (p * log_p) + not_p))


@subroutine
def focal_binary_of_rows(ctx, part, op, first, rows):
    """l_i = (1 - p)^g (-log p) for the probability p of the true class, by sigmoid.

    dx = -(1 - p)^g (g p (-log p) + 1 - p) for the logit x of the true class.
    """
    z, t = buffer(ctx, op.x) + first, buffer(ctx, ctx.targets) + first
    da, loss = buffer(ctx, op.dx) + first, doubles(ctx, ctx.row_loss) + first
    gamma = like(z, op.arg0)
    for i in range(rows):
        value, da[i] = _focal_of_logit(z[i], t[i], gamma)
        loss[i] = np.float64(value)
    weigh_rows(ctx, op, first, rows, 1.0, 1.0)


@subroutine
def focal_of_rows(ctx, part, op, first, rows):
    """l_i = (1 - p)^g (-log p) for the probability p of the true class by softmax.

    The targets are one-hot codes. With o = the sum of e^d over all classes but the true one,
    d = z - max z: dz = factor (p_j - t_j), and p - 1 is -(1 - p) = -o / sum of e^d for the true
    class, so that nothing cancels where p is near 1.
    """
    n = op.n_in
    z, t = buffer(ctx, op.x) + first * n, buffer(ctx, ctx.targets) + first * n
    da, loss = buffer(ctx, op.dx) + first * n, doubles(ctx, ctx.row_loss) + first
    logit = doubles(ctx, pack_of(ctx, part))
    own, others = logit + BLOCK_ROWS, logit + 2 * BLOCK_ROWS
    for i in range(rows):
        highest = maximum_of(z + i * n, n)
        for j in range(i * n, i * n + n):
            da[j] = z[j] - highest
    for i in range(rows):
        logit[i] = dot_of(t + i * n, da + i * n, n)
    for j in range(rows * n):
        da[j] = exp(da[j])
    for i in range(rows):
        own[i] = dot_of(t + i * n, da + i * n, n)
    for j in range(rows * n):
        da[j] = da[j] * (like(z, 1) - t[j])
    sums_of_rows(others, da, rows, n)
    gamma = op.arg0
    for i in range(rows):
        loss[i], logit[i], own[i], others[i] = _focal_of_row(logit[i], own[i], others[i], gamma)
    for i in range(rows):
        factor, reciprocal, not_p = like(z, logit[i]), like(z, own[i]), like(z, others[i])
        for j in range(i * n, i * n + n):
            da[j] = factor * (da[j] * reciprocal - t[j] * not_p)
    weigh_rows(ctx, op, first, rows, 1.0, 1.0)


@formula
def _focal_of_row(logit, own, others, gamma):
    """(loss, factor of dz, 1 / (own + others), 1 - p), from d and e^d of the true class and o.

    loss = (1 - p)^g (-log p) and factor = (1 - p)^g (1 + g p (-log p) / (1 - p)).
    """
    total = log(own + others)
    reciprocal = 1.0 / (own + others)
    p, not_p = own * reciprocal, others * reciprocal
    near, far = log1p(others / own), total - logit
    size = near if others <= own else far  # -log p
    power = exp(gamma * (log(_LEAST if others < _LEAST else others) - total))
    ratio = size / not_p if not_p > 0.0 else 1.0
    return power * size, power * (gamma * (p * ratio) + 1.0), reciprocal, not_p


make_head("poisson", poisson_of_rows, BLOCK_ROWS)
make_head("gaussian_nll", gaussian_nll_of_rows, BLOCK_ROWS)
make_head("focal_binary", focal_binary_of_rows, BLOCK_ROWS)
make_head("focal", focal_of_rows, BLOCK_ROWS)
