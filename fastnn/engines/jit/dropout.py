"""Dropout: a = x f, where f is 0 with the probability of the rate and else a constant.

N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.
"""

from __future__ import annotations

import numpy as np

from ...tables import NONE
from .context import (
    buffer,
    derivative_below,
    op_of,
    own_hyper,
    pack_of,
    row_in_batch,
    rows_of_part,
)
from .kernels import kernel, subroutine
from .memory import like, words32
from .random import GROUP, TILE, draw_words, groups_of

_MOST = np.uint32(0xFFFFFFFF)


@kernel
def dropout_forward(ctx, part, parts):
    """a = x f in training, where f is kept for the backward pass if there is one.

    x, a and f are (m, n_out); the words are those of the elements of the whole batch, so neither
    parts nor pieces change them. Split by rows of the batch.
    """
    op = op_of(ctx)
    n = op.n_out
    begin, end = rows_of_part(ctx, part, parts)
    first, count = row_in_batch(ctx, begin) * n, (end - begin) * n
    x, a = buffer(ctx, op.x) + begin * n, buffer(ctx, op.a) + begin * n
    factors = buffer(ctx, op.saved) + begin * n
    words = words32(ctx, pack_of(ctx, part))
    rate = own_hyper(ctx, op.arg0)
    places = rate * 2.0**32 + 0.5
    threshold = np.uint32(np.int64(places)) if places < 2.0**32 else _MOST
    scale = like(x, 1.0 if op.arg1 != 0.0 else 1.0 / (1.0 - rate))
    i = 0
    while i < count:
        before = (first + i) % GROUP
        some = min(count - i, TILE - before)
        draw_words(ctx, words, (first + i) // GROUP, groups_of(before + some))
        if op.saved == NONE:
            drop(a + i, x + i, words + before, threshold, scale, some)
        else:
            drop_and_keep(a + i, factors + i, x + i, words + before, threshold, scale, some)
        i += some
    return 0


@subroutine
def drop(out, x, words, threshold, scale, count):
    """out = x f: f is the scale where a word is not below the threshold, else 0."""
    zero = like(x, 0)
    for i in range(count):
        out[i] = x[i] * (scale if words[i] >= threshold else zero)


@subroutine
def drop_and_keep(out, factors, x, words, threshold, scale, count):
    """The same, and factors = f."""
    zero = like(x, 0)
    for i in range(count):
        factor = scale if words[i] >= threshold else zero
        factors[i] = factor
        out[i] = x[i] * factor


@kernel
def dropout_scale(ctx, part, parts):
    """a = (1 - rate) x in predictions, where training does not scale; split by rows."""
    op = op_of(ctx)
    x, a = buffer(ctx, op.x), buffer(ctx, op.a)
    scale = like(x, 1.0 - op.arg0)
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin * op.n_out, end * op.n_out):
        a[i] = x[i] * scale
    return 0


@kernel
def dropout_inputs(ctx, part, parts):
    """dx = da f, or dx + da f if op.adds, turned into dz of the operation below; split by rows."""
    op = op_of(ctx)
    n = op.n_out
    begin, end = rows_of_part(ctx, part, parts)
    da, dx, factors = buffer(ctx, op.da), buffer(ctx, op.dx), buffer(ctx, op.saved)
    if op.adds:
        for i in range(begin * n, end * n):
            dx[i] = dx[i] + da[i] * factors[i]
    else:
        for i in range(begin * n, end * n):
            dx[i] = da[i] * factors[i]
    derivative_below(ctx, dx, op.below, n, begin, end)
    return 0
