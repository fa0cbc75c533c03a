"""dW of a small layer over very many rows of a batch: slabs that parts can sum side by side.

A layer with few weights cannot be split by its weights, and each part would read the whole batch.
So the rows are cut into slabs, whose number depends on the shapes alone; each slab sums its rows
as :func:`.products.dense_weights` does, and the slabs are added in order.
"""

from __future__ import annotations

from ..tables import FEW_OUTPUTS, MOST_SLABS, SLAB_ROWS
from .kernels import leaf, subroutine
from .memory import reals, row_at
from .narrow import narrow_weights_of_rows
from .products import (
    BLOCK_ROWS,
    SUM_ROWS,
    block_columns,
    buffer,
    penalty_slope,
    share,
    sum_over_rows,
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
    penalised = count == 1 and (row.arg1 != 0.0 or row.arg2 != 0.0)
    for slab in range(share(count, 1, part, parts), share(count, 1, part + 1, parts)):
        first, last = share(ctx.m, SUM_ROWS, slab, count), share(ctx.m, SUM_ROWS, slab + 1, count)
        dw = reals(ctx, ctx.scratch) + slab * (size + row.n_out)
        db = dw + size
        if count == 1:
            dw, db = reals(ctx, ctx.grad) + row.w, reals(ctx, ctx.grad) + row.b
        if penalised:
            penalty_slope(ctx, row, 0, row.n_in, row.n_out)
        if row.n_out <= FEW_OUTPUTS:
            narrow_weights_of_rows(ctx, part, row, dw, db, 0, row.n_in, first, last, penalised)
        else:
            weights_of_rows(ctx, part, row, dw, db, first, last, penalised)
    return 0


@subroutine
def weights_of_rows(ctx, part, row, dw, db, first, last, adds):
    """dW and db from some rows of the batch; if `adds` is 1, dW is added to what is there."""
    n_in, n_out = row.n_in, row.n_out
    x, dz = buffer(ctx, row.x), buffer(ctx, row.da)
    one = reals(ctx, ctx.one)
    j = 0
    while j < n_out:
        columns = min(block_columns(x), n_out - j)
        k = 0
        while k < n_in:
            some = min(BLOCK_ROWS, n_in - k)
            sum_over_rows(
                ctx, part, dw + (k * n_out + j), n_out, x + k, 1, n_in, dz + j, n_out,
                some, columns, first, last, adds,
            )  # fmt: skip
            k += some
        sum_over_rows(
            ctx, part, db + j, n_out, one, 1, 0, dz + j, n_out, 1, columns, first, last, False
        )
        j += columns


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
    penalised = row.arg1 != 0.0 or row.arg2 != 0.0
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
