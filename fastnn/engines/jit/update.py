"""Optimizer steps on the flat vectors: w parameters, g gradient, slots one after another.

The hyperparameters of the step arrive in ctx.hyper, so schedules stay in Python; the first ones are
the same for all rules. All rules are elementwise, and split by elements.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...tables import COMMON, GROUP, NORM_BLOCK
from .context import share
from .kernels import kernel, subroutine
from .memory import doubles, group_at, like, reals
from .reductions import dot_of, sum_in_blocks

_RATE, _COUPLED, _DECOUPLED = (COMMON.index(name) for name in ("lr", "coupled", "decoupled"))
_CLIP, _AVERAGE, _OWN = COMMON.index("clip"), COMMON.index("average"), len(COMMON)
_GROUP_BYTES = GROUP.itemsize


class Share(NamedTuple):
    """The elements begin, ..., end-1 of a group that belong to a part, and its numbers."""

    begin: int
    end: int
    rate: float
    coupled: Any
    decoupled: Any


@subroutine
def share_of_group(ctx, index, part, parts):
    """A part's :class:`Share` of a group."""
    group = group_at(ctx, ctx.groups + index * _GROUP_BYTES)
    w, hyper = reals(ctx, ctx.params), doubles(ctx, ctx.hyper)
    begin, end = share(ctx.n_params, 16, part, parts)
    return Share(
        max(begin, group.begin), min(end, group.end), hyper[_RATE] * group.rate,
        like(w, hyper[_COUPLED] * group.decay),
        like(w, hyper[_DECOUPLED] * group.rate * group.decay),
    )  # fmt: skip


@subroutine
def vectors(ctx):
    """(w, g, the first slot, the rule's own hyperparameters)."""
    own = doubles(ctx, ctx.hyper) + _OWN
    return reals(ctx, ctx.params), reals(ctx, ctx.grad), reals(ctx, ctx.slots), own


@subroutine
def coupled_gradient(w, g, mine, i):
    """Element i of the gradient, to which a coupled decay has been added."""
    return g[i] + mine.coupled * w[i] if mine.coupled != 0 else g[i]


@subroutine
def decayed(w, mine, i):
    """Parameter i, from which a decoupled decay has been subtracted."""
    return w[i] - mine.decoupled * w[i] if mine.decoupled != 0 else w[i]


@kernel
def sgd(ctx, part, parts):
    """w = w - lr g"""
    w, g, _, _ = vectors(ctx)
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            w[i] = decayed(w, mine, i) - rate * coupled_gradient(w, g, mine, i)
    return 0


@kernel
def momentum(ctx, part, parts):
    """v = mu v - lr g, w = w + v; own = (mu,)"""
    w, g, v, own = vectors(ctx)
    mu = like(w, own[0])
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            v[i] = mu * v[i] - rate * coupled_gradient(w, g, mine, i)
            w[i] = decayed(w, mine, i) + v[i]
    return 0


@kernel
def nesterov(ctx, part, parts):
    """v = mu v - lr g, w = w + mu v - lr g; own = (mu,)"""
    w, g, v, own = vectors(ctx)
    mu = like(w, own[0])
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            v[i] = mu * v[i] - rate * gradient
            w[i] = decayed(w, mine, i) + (mu * v[i] - rate * gradient)
    return 0


@kernel
def adam(ctx, part, parts):
    """m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, w = w - lr m / (sqrt v + eps).

    own = (eps, b1, b2), with the bias corrections already in lr and eps
    (Kingma and Ba, Adam, 2015, end of section 2).
    """
    w, g, m, own = vectors(ctx)
    v = m + ctx.n_params
    epsilon, b1, b2 = like(w, own[0]), like(w, own[1]), like(w, own[2])
    c1, c2 = like(w, 1.0 - own[1]), like(w, 1.0 - own[2])
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            m[i] = b1 * m[i] + c1 * gradient
            v[i] = b2 * v[i] + c2 * (gradient * gradient)
            w[i] = decayed(w, mine, i) - rate * m[i] / (math.sqrt(v[i]) + epsilon)
    return 0


@subroutine
def n_norm_blocks(ctx):
    """How many blocks of the gradient there are."""
    return (ctx.n_params + NORM_BLOCK - 1) // NORM_BLOCK


@kernel
def square_sums(ctx, part, parts):
    """The sums of squares of the blocks of g, each from the groups in turn; split by blocks."""
    g, norms = reals(ctx, ctx.grad), doubles(ctx, ctx.batch) + ctx.norms
    first, last = share(n_norm_blocks(ctx), 1, part, parts)
    for block in range(first, last):
        begin = block * NORM_BLOCK
        end = min(begin + NORM_BLOCK, ctx.n_params)
        total = 0.0
        for index in range(ctx.n_groups + ctx.n_matrices):
            group = group_at(ctx, ctx.groups + index * _GROUP_BYTES)
            some, some_end = max(begin, group.begin), min(end, group.end)
            if some < some_end:
                total += dot_of(g + some, g + some, some_end - some)
        norms[block] = total
    return 0


@kernel
def clip_norm(ctx, part, parts):
    """g = g clip / |g| if the norm |g| is above clip; split by elements."""
    g, most = reals(ctx, ctx.grad), doubles(ctx, ctx.hyper)[_CLIP]
    norms = doubles(ctx, ctx.batch) + ctx.norms
    norm = math.sqrt(sum_in_blocks(0.0, norms, n_norm_blocks(ctx)))
    if norm <= most:
        return 0
    factor = like(g, most / norm)
    begin, end = share(ctx.n_params, 16, part, parts)
    for i in range(begin, end):
        g[i] = factor * g[i]
    return 0


@kernel
def clip_value(ctx, part, parts):
    """g = clip where g > clip, -clip where g < -clip; split by elements."""
    g = reals(ctx, ctx.grad)
    most = like(g, doubles(ctx, ctx.hyper)[_CLIP])
    begin, end = share(ctx.n_params, 16, part, parts)
    for i in range(begin, end):
        below = most if g[i] > most else g[i]
        g[i] = -most if below < -most else below
    return 0


@kernel
def average(ctx, part, parts):
    """a = a + share (w - a) for the parameters and, behind them, the statistics; by elements."""
    if doubles(ctx, ctx.hyper)[_AVERAGE] == 0.0:
        return 0
    a, w, state = reals(ctx, ctx.average), reals(ctx, ctx.params), reals(ctx, ctx.state)
    rate = like(a, doubles(ctx, ctx.hyper)[_AVERAGE])
    n = ctx.n_params
    begin, end = share(n + ctx.n_state, 16, part, parts)
    for i in range(min(begin, n), min(end, n)):
        a[i] = a[i] + rate * (w[i] - a[i])
    for i in range(max(begin, n) - n, max(end, n) - n):
        a[n + i] = a[n + i] + rate * (state[i] - a[n + i])
    return 0
