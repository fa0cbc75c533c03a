"""Leaves that move rows: into the workspace before a batch, and results out of it."""

from __future__ import annotations

from ..tables import FEATURE_TYPES
from .conversion import convert
from .elementary import sigmoid
from .kernels import leaf, subroutine
from .memory import doubles, elements_of, integers, labels32, like, reals
from .products import buffer, share
from .reductions import maximum_of
from .rows import softmax


def make_gather(name):
    """The leaf that gathers rows of X, whose elements are of the type with that name."""
    elements = elements_of(name)

    def gather(ctx, part, parts):
        """input[i] = scale X[order[start + i]] for the rows i of the batch; split by rows."""
        n = ctx.n_inputs
        source, target = elements(ctx, ctx.X), reals(ctx, ctx.input)
        order = integers(ctx, ctx.order)
        factor = like(target, ctx.input_scale)
        for i in range(share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)):
            sample = order[ctx.start + i] if ctx.order else ctx.start + i
            convert(target + i * n, source + sample * n, factor, n)
        return 0

    gather.__name__ = f"gather_{name}"
    return leaf(gather)


for _type in FEATURE_TYPES:
    make_gather(_type.name)


@leaf
def gather_targets(ctx, part, parts):
    """target[i] = Y[order[start + i]], or the one-hot code of the label; split by rows."""
    n = ctx.n_outputs
    target = buffer(ctx, ctx.target)
    order = integers(ctx, ctx.order)
    zero, one = like(target, 0), like(target, 1)
    for i in range(share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)):
        sample = order[ctx.start + i] if ctx.order else ctx.start + i
        t = target + i * n
        if ctx.labels:
            label = labels32(ctx, ctx.labels)[sample]
            if n == 1:
                t[0] = like(target, label)
            else:
                for j in range(n):
                    t[j] = zero
                t[label] = one
        else:
            y = reals(ctx, ctx.Y) + sample * n
            for j in range(n):
                t[j] = y[j]
    return 0


@leaf
def store_output(ctx, part, parts):
    """out[start + i] = the output buffer's row i; split by rows."""
    n = ctx.n_outputs
    source, target = buffer(ctx, ctx.source), reals(ctx, ctx.out) + ctx.start * n
    begin, end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    for i in range(begin * n, end * n):
        target[i] = source[i]
    return 0


@leaf
def store_sigmoid(ctx, part, parts):
    """out[start + i] = sigmoid of the output buffer's row i; split by rows."""
    n = ctx.n_outputs
    source, target = buffer(ctx, ctx.source), reals(ctx, ctx.out) + ctx.start * n
    begin, end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    for i in range(begin * n, end * n):
        target[i] = sigmoid(source[i])
    return 0


@leaf
def store_softmax(ctx, part, parts):
    """out[start + i] = softmax of the output buffer's row i; split by rows."""
    n = ctx.n_outputs
    source, target = buffer(ctx, ctx.source), reals(ctx, ctx.out) + ctx.start * n
    begin, end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    softmax(ctx, part, source + begin * n, target + begin * n, end - begin, n)
    return 0


@leaf
def mark_hits_by_class(ctx, part, parts):
    """row_hit[i] = 1 where the largest output is that of the largest target; split by rows."""
    n = ctx.n_outputs
    output, target = buffer(ctx, ctx.source), buffer(ctx, ctx.target)
    hit = doubles(ctx, ctx.row_hit)
    for i in range(share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)):
        z, t = output + i * n, target + i * n
        hit[i] = 1.0 if place_of_maximum(z, n) == place_of_maximum(t, n) else 0.0
    return 0


@subroutine
def place_of_maximum(x, n):
    """The first i < n with the largest x[i]; for many in simple loops, which fill the lanes."""
    first, largest = 0, x[0]
    if n <= 16:
        for i in range(1, n):
            first = i if x[i] > largest else first
            largest = x[i] if x[i] > largest else largest
    else:
        largest = maximum_of(x, n)
        first = n - 1
        for i in range(n):
            place = i if x[i] == largest else n
            first = place if place < first else first
    return first


@leaf
def mark_hits_by_sign(ctx, part, parts):
    """row_hit[i] = 1 where every logit is positive just where its target is above a half."""
    n = ctx.n_outputs
    output, target = buffer(ctx, ctx.source), buffer(ctx, ctx.target)
    hit = doubles(ctx, ctx.row_hit)
    zero, half = like(output, 0), like(output, 0.5)
    for i in range(share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)):
        z, t = output + i * n, target + i * n
        right = 1.0
        for j in range(n):
            right = right if (z[j] > zero) == (t[j] > half) else 0.0
        hit[i] = right
    return 0


@leaf
def gather_weights(ctx, part, parts):
    """row_weight[i] = weights[order[start + i]], their sum, and the scale; part 0 works."""
    if part > 0:
        return 0
    weights, gathered = doubles(ctx, ctx.weights), doubles(ctx, ctx.row_weight)
    order = integers(ctx, ctx.order)
    mass = 0.0
    for i in range(ctx.m):
        sample = order[ctx.start + i] if ctx.order else ctx.start + i
        gathered[i] = weights[sample]
        mass += gathered[i]
    ctx.mass = mass
    if ctx.mean:
        ctx.scale = 1.0 / mass if mass > 0.0 else 0.0
    return 0
