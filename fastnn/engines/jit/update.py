"""Optimizer steps on the flat vectors: w parameters, g gradient, slots one after another.

The hyperparameters of the step arrive in ctx.hyper, so schedules stay in Python. All rules are
elementwise, and split by elements.
"""

from __future__ import annotations

import math

from .context import share
from .kernels import kernel
from .memory import doubles, like, reals


@kernel
def sgd(ctx, part, parts):
    """w = w - lr g; hyper = (lr,)"""
    w, g = reals(ctx, ctx.params), reals(ctx, ctx.grad)
    rate = like(w, doubles(ctx, ctx.hyper)[0])
    begin, end = share(ctx.n_params, 16, part, parts)
    for i in range(begin, end):
        w[i] = w[i] - rate * g[i]
    return 0


@kernel
def momentum(ctx, part, parts):
    """v = mu v - lr g, w = w + v; hyper = (lr, mu)"""
    w, g, v = reals(ctx, ctx.params), reals(ctx, ctx.grad), reals(ctx, ctx.slots)
    hyper = doubles(ctx, ctx.hyper)
    rate, mu = like(w, hyper[0]), like(w, hyper[1])
    begin, end = share(ctx.n_params, 16, part, parts)
    for i in range(begin, end):
        v[i] = mu * v[i] - rate * g[i]
        w[i] = w[i] + v[i]
    return 0


@kernel
def nesterov(ctx, part, parts):
    """v = mu v - lr g, w = w + mu v - lr g; hyper = (lr, mu)"""
    w, g, v = reals(ctx, ctx.params), reals(ctx, ctx.grad), reals(ctx, ctx.slots)
    hyper = doubles(ctx, ctx.hyper)
    rate, mu = like(w, hyper[0]), like(w, hyper[1])
    begin, end = share(ctx.n_params, 16, part, parts)
    for i in range(begin, end):
        v[i] = mu * v[i] - rate * g[i]
        w[i] = w[i] + (mu * v[i] - rate * g[i])
    return 0


@kernel
def adam(ctx, part, parts):
    """m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, w = w - lr m / (sqrt v + eps).

    hyper = (lr, eps, b1, b2), with the bias corrections already in lr and eps
    (Kingma and Ba, Adam, 2015, end of section 2).
    """
    w, g, m = reals(ctx, ctx.params), reals(ctx, ctx.grad), reals(ctx, ctx.slots)
    v = m + ctx.n_params
    hyper = doubles(ctx, ctx.hyper)
    rate, epsilon = like(w, hyper[0]), like(w, hyper[1])
    b1, b2 = like(w, hyper[2]), like(w, hyper[3])
    c1, c2 = like(w, 1.0 - hyper[2]), like(w, 1.0 - hyper[3])
    begin, end = share(ctx.n_params, 16, part, parts)
    for i in range(begin, end):
        m[i] = b1 * m[i] + c1 * g[i]
        v[i] = b2 * v[i] + c2 * (g[i] * g[i])
        w[i] = w[i] - rate * m[i] / (math.sqrt(v[i]) + epsilon)
    return 0
