"""Optimizer steps on the flat vectors: w parameters, g gradient, slots one after another.

The hyperparameters of the step arrive in ctx.hyper, so schedules stay in Python; the first ones are
the same for all rules. All rules are elementwise, and split by elements.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...tables import COMMON, GROUP, NORM_BLOCK
from .context import share
from .kernels import formula, kernel, subroutine
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


@subroutine
def moment_numbers(w, own):
    """(eps, b1, b2, 1-b1, 1-b2) of Adam and its relatives."""
    b1, b2 = own[1], own[2]
    return like(w, own[0]), like(w, b1), like(w, b2), like(w, 1.0 - b1), like(w, 1.0 - b2)


@kernel
def adam(ctx, part, parts):
    """m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, w = w - lr m / (sqrt v + eps).

    own = (eps, b1, b2), with the bias corrections already in lr and eps
    (Kingma and Ba, Adam, 2015, end of section 2).
    """
    w, g, m, own = vectors(ctx)
    v = m + ctx.n_params
    epsilon, b1, b2, c1, c2 = moment_numbers(w, own)
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            m[i] = b1 * m[i] + c1 * gradient
            v[i] = b2 * v[i] + c2 * (gradient * gradient)
            w[i] = decayed(w, mine, i) - rate * m[i] / (math.sqrt(v[i]) + epsilon)
    return 0


@kernel
def amsgrad(ctx, part, parts):
    """m and v as for Adam, top = max(top, v), w = w - lr m / (sqrt top + eps)"""
    w, g, m, own = vectors(ctx)
    v, top = m + ctx.n_params, m + 2 * ctx.n_params
    epsilon, b1, b2, c1, c2 = moment_numbers(w, own)
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            m[i] = b1 * m[i] + c1 * gradient
            v[i] = b2 * v[i] + c2 * (gradient * gradient)
            top[i] = v[i] if v[i] > top[i] else top[i]
            w[i] = decayed(w, mine, i) - rate * m[i] / (math.sqrt(top[i]) + epsilon)
    return 0


@kernel
def nadam(ctx, part, parts):
    """m and v as for Adam, w = w - lr (now g + next m) / (sqrt v + eps); own = (..., now, next)"""
    w, g, m, own = vectors(ctx)
    v = m + ctx.n_params
    epsilon, b1, b2, c1, c2 = moment_numbers(w, own)
    now, next_ = like(w, own[3]), like(w, own[4])
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            m[i] = b1 * m[i] + c1 * gradient
            v[i] = b2 * v[i] + c2 * (gradient * gradient)
            towards = now * gradient + next_ * m[i]
            w[i] = decayed(w, mine, i) - rate * towards / (math.sqrt(v[i]) + epsilon)
    return 0


@kernel
def radam(ctx, part, parts):
    """m and v as for Adam, w = w - lr m (plain + adaptive / (sqrt v + eps)).

    own = (..., plain, adaptive), of which one is 0.
    """
    w, g, m, own = vectors(ctx)
    v = m + ctx.n_params
    epsilon, b1, b2, c1, c2 = moment_numbers(w, own)
    plain, adaptive = like(w, own[3]), like(w, own[4])
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            m[i] = b1 * m[i] + c1 * gradient
            v[i] = b2 * v[i] + c2 * (gradient * gradient)
            factor = plain + adaptive / (math.sqrt(v[i]) + epsilon)
            w[i] = decayed(w, mine, i) - rate * m[i] * factor
    return 0


@kernel
def lion(ctx, part, parts):
    """w = w - lr sign(b1 m + (1-b1) g), m = b2 m + (1-b2) g; own = (b1, b2)"""
    w, g, m, own = vectors(ctx)
    b1, b2 = like(w, own[0]), like(w, own[1])
    c1, c2 = like(w, 1.0 - own[0]), like(w, 1.0 - own[1])
    zero = like(w, 0.0)
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            towards = b1 * m[i] + c1 * gradient
            m[i] = b2 * m[i] + c2 * gradient
            change = rate if zero < towards else -rate if towards < zero else zero
            w[i] = decayed(w, mine, i) - change
    return 0


@kernel
def adagrad(ctx, part, parts):
    """s = s + g^2, w = w - lr g / (sqrt s + eps); own = (eps,)"""
    w, g, s, own = vectors(ctx)
    epsilon = like(w, own[0])
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            s[i] = s[i] + gradient * gradient
            w[i] = decayed(w, mine, i) - rate * gradient / (math.sqrt(s[i]) + epsilon)
    return 0


@kernel
def adadelta(ctx, part, parts):
    """v = rho v + (1-rho) g^2, d = sqrt((u + eps) / (v + eps)) g, w = w - lr d.

    u = rho u + (1-rho) d^2; own = (eps, rho).
    """
    w, g, v, own = vectors(ctx)
    u = v + ctx.n_params
    epsilon, rho, rest = like(w, own[0]), like(w, own[1]), like(w, 1.0 - own[1])
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            v[i] = rho * v[i] + rest * (gradient * gradient)
            d = math.sqrt((u[i] + epsilon) / (v[i] + epsilon)) * gradient
            u[i] = rho * u[i] + rest * (d * d)
            w[i] = decayed(w, mine, i) - rate * d
    return 0


@subroutine
def square_numbers(w, own):
    """(rho, 1-rho, inside, outside) of RMSprop, of which inside or outside is 0."""
    return like(w, own[0]), like(w, 1.0 - own[0]), like(w, own[1]), like(w, own[2])


@formula
def spread_of(v, a):
    """v - a^2, which rounding must not make negative."""
    spread, zero = v - a * a, like(v, 0.0)
    return spread if spread > zero else zero


@kernel
def rmsprop(ctx, part, parts):
    """v = rho v + (1-rho) g^2, w = w - lr g / (sqrt(v + inside) + outside).

    own = (rho, inside, outside).
    """
    w, g, v, own = vectors(ctx)
    rho, rest, inside, outside = square_numbers(w, own)
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            v[i] = rho * v[i] + rest * (gradient * gradient)
            w[i] = decayed(w, mine, i) - rate * gradient / (math.sqrt(v[i] + inside) + outside)
    return 0


@kernel
def rmsprop_momentum(ctx, part, parts):
    """v as for rmsprop, b = mu b - lr g / (sqrt(v + inside) + outside), w = w + b.

    own = (rho, inside, outside, mu).
    """
    w, g, v, own = vectors(ctx)
    b = v + ctx.n_params
    rho, rest, inside, outside = square_numbers(w, own)
    mu = like(w, own[3])
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            v[i] = rho * v[i] + rest * (gradient * gradient)
            b[i] = mu * b[i] - rate * gradient / (math.sqrt(v[i] + inside) + outside)
            w[i] = decayed(w, mine, i) + b[i]
    return 0


@kernel
def rmsprop_centered(ctx, part, parts):
    """v as for rmsprop, a = rho a + (1-rho) g, w = w - lr g / (sqrt(v - a^2 + inside) + outside).

    own = (rho, inside, outside).
    """
    w, g, v, own = vectors(ctx)
    a = v + ctx.n_params
    rho, rest, inside, outside = square_numbers(w, own)
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            v[i] = rho * v[i] + rest * (gradient * gradient)
            a[i] = rho * a[i] + rest * gradient
            root = math.sqrt(spread_of(v[i], a[i]) + inside) + outside
            w[i] = decayed(w, mine, i) - rate * gradient / root
    return 0


@kernel
def rmsprop_centered_momentum(ctx, part, parts):
    """v and a as for rmsprop_centered, b = mu b - lr g / (sqrt(v - a^2 + inside) + outside).

    w = w + b; own = (rho, inside, outside, mu).
    """
    w, g, v, own = vectors(ctx)
    a, b = v + ctx.n_params, v + 2 * ctx.n_params
    rho, rest, inside, outside = square_numbers(w, own)
    mu = like(w, own[3])
    for index in range(ctx.n_groups):
        mine = share_of_group(ctx, index, part, parts)
        rate = like(w, mine.rate)
        for i in range(mine.begin, mine.end):
            gradient = coupled_gradient(w, g, mine, i)
            v[i] = rho * v[i] + rest * (gradient * gradient)
            a[i] = rho * a[i] + rest * gradient
            root = math.sqrt(spread_of(v[i], a[i]) + inside) + outside
            b[i] = mu * b[i] - rate * gradient / root
            w[i] = decayed(w, mine, i) + b[i]
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
