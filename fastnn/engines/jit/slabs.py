"""dW of a small layer over very many rows of a batch: slabs that parts can sum side by side.

A layer with few weights cannot be split by its weights, and each part would read the whole batch.
So the rows are cut into slabs, whose number depends on the shapes alone; each slab sums its rows
as :func:`.products.dense_weights` does, and the slabs are added in order.
"""

from __future__ import annotations

from ..tables import DEPTH, FEW_OUTPUTS, MOST_SLABS, SLAB_ROWS
from .kernels import leaf, subroutine
from .memory import reals, row_at
from .narrow import narrow_weights_of_rows
from .products import (
    is_penalised,
    penalty_slope,
    share,
    weights_of_rows,
)


@subroutine
def slab_count(m):
    """Slabs for m rows."""
    return max(1, min(MOST_SLABS, m // SLAB_ROWS))


@leaf
def slab_weights(ctx, part, parts):
    """dW and db of each slab of rows into the scratch; of a single slab, into the gradient.

    x (m, n_in), dz (m, n_out); writes slabs of n_in n_out + n_out elements. Split by slabs.
    """
    row = row_at(ctx, ctx.row)
    size = row.n_in * row.n_out
    count = slab_count(ctx.m)
    penalised = count == 1 and is_penalised(row)
    for slab in range(share(count, 1, part, parts), share(count, 1, part + 1, parts)):
        first, last = share(ctx.m, DEPTH, slab, count), share(ctx.m, DEPTH, slab + 1, count)
        dw = reals(ctx, ctx.scratch) + slab * (size + row.n_out)
        db = dw + size
        if count == 1:
            dw, db = reals(ctx, ctx.grad) + row.w, reals(ctx, ctx.grad) + row.b
        if penalised:
            penalty_slope(ctx, row, 0, row.n_in, row.n_out)
        if row.n_out <= FEW_OUTPUTS:
            narrow_weights_of_rows(ctx, part, row, dw, db, 0, row.n_in, first, last, penalised)
        else:
            weights_of_rows(
                ctx, part, row, dw, db, 0, row.n_in, 0, row.n_out, first, last, penalised
            )
    return 0


@leaf
def add_slabs(ctx, part, parts):
    """dW = the slope of the penalties + the slabs, one after another, and db; split by elements."""
    count = slab_count(ctx.m)
    if count == 1:
        return 0
    row = row_at(ctx, ctx.row)
    size = row.n_in * row.n_out
    dw, db = reals(ctx, ctx.grad) + row.w, reals(ctx, ctx.grad) + row.b
    slabs = reals(ctx, ctx.scratch)
    penalised = is_penalised(row)
    k, k_end = share(row.n_in, 1, part, parts), share(row.n_in, 1, part + 1, parts)
    i, i_end = k * row.n_out, k_end * row.n_out
    if penalised and k_end > k:
        penalty_slope(ctx, row, i, k_end - k, row.n_out)
        add_to(dw + i, slabs + i, i_end - i)
    else:
        copy_to(dw + i, slabs + i, i_end - i)
    if part == 0:
        copy_to(db, slabs + size, row.n_out)
    for slab in range(1, count):
        source = slabs + slab * (size + row.n_out)
        add_to(dw + i, source + i, i_end - i)
        if part == 0:
            add_to(db, source + size, row.n_out)
    return 0


@subroutine
def copy_to(target, source, count):
    """target = source."""
    for i in range(count):
        target[i] = source[i]


@subroutine
def add_to(target, source, count):
    """target += source."""
    for i in range(count):
        target[i] = target[i] + source[i]
