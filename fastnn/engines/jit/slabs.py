"""dW of a dense operation with few weights over a large batch: slabs that parts sum side by side.

Few weights cannot be split among parts, each of which would read the whole batch. So the batch is
cut into slabs of rows, whose number depends on the shapes alone. Each slab is summed like
:func:`.dense.dense_weights`, and the slabs are added in order.

Where a batch comes in pieces, slabs are those of the whole batch. Each piece adds its rows to the
sums in the scratch space; the last piece adds up the slabs.
"""

from __future__ import annotations

from ...tables import KC, MOST_SLABS, NONE, SLAB_ROWS
from .context import is_last_piece, op_of, share
from .dense import (
    Gradient,
    gradient_of,
    is_penalised,
    starts_with_penalty,
    weights_of_rows,
    write_penalty_derivative,
)
from .kernels import kernel, subroutine
from .memory import reals
from .product import Area, block_of_part


@subroutine
def rows_of_batch(ctx):
    """Rows of the batch, with all of its pieces."""
    return ctx.n_rows if ctx.accumulates else ctx.m


@subroutine
def slab_count(m):
    """Slabs for m rows."""
    return max(1, min(MOST_SLABS, m // SLAB_ROWS))


@subroutine
def slab_at(ctx, op, slab):
    """A slab's dW (n_in, n_out), with db (n_out) behind it, in the scratch space."""
    return reals(ctx, ctx.scratch) + (op.scratch + slab * (op.n_in + 1) * op.n_out)


@kernel
def slab_weights(ctx, part, parts):
    """dW and db of each slab into the scratch space; of a single slab, into the gradient.

    x (m, n_in), dz (m, n_out); writes slabs of n_in n_out + n_out elements. If this piece of the
    batch has rows of more slabs than there are parts, part p of P takes the slabs p, p + P, ...;
    otherwise every part takes a block of dW, of all of them.
    """
    op = op_of(ctx)
    total = rows_of_batch(ctx)
    count = slab_count(total)
    start = ctx.start if ctx.accumulates else 0
    n_met = 0
    for slab in range(count):
        i, i_end = share(total, KC, slab, count)
        n_met += 1 if max(i - start, 0) < min(i_end - start, ctx.m) else 0
    area, step = Area(0, op.n_in, 0, op.n_out), parts
    if count > 1 and n_met <= parts:
        area, step = block_of_part(ctx, op.n_in, op.n_out, part, parts), 1
    for slab in range(part if step == parts else 0, count, step):
        i, i_end = share(total, KC, slab, count)
        gradient = gradient_of_slab(ctx, op, slab, count, i < start)
        if count == 1 and starts_with_penalty(ctx, op):
            write_penalty_derivative(ctx, op, 0, op.n_in, op.n_out)
        i, i_end = max(i - start, 0), min(i_end - start, ctx.m)
        if i < i_end:
            weights_of_rows(ctx, part, op, gradient, area, i, i_end)
    return 0


@subroutine
def gradient_of_slab(ctx, op, slab, count, continued):
    """Where a slab is summed; the gradient itself, if there is one slab."""
    if count == 1:
        return gradient_of(ctx, op)
    dw = slab_at(ctx, op, slab)
    return Gradient(dw, dw + op.n_in * op.n_out, continued, continued)


@kernel
def add_slabs(ctx, part, parts):
    """dW = the derivative of the penalties + the slabs in order, and db; split by rows of W.

    For the last piece of a batch only.
    """
    count = slab_count(rows_of_batch(ctx))
    if count == 1 or not is_last_piece(ctx):
        return 0
    op = op_of(ctx)
    size = op.n_in * op.n_out
    dw, db = reals(ctx, ctx.grad) + op.w, reals(ctx, ctx.grad) + op.b
    k, k_end = share(op.n_in, 1, part, parts)
    i, n = k * op.n_out, (k_end - k) * op.n_out
    penalised = is_penalised(op)
    if penalised:
        write_penalty_derivative(ctx, op, i, k_end - k, op.n_out)
    has_db = part == 0 and op.b != NONE
    for slab in range(count):
        sums = slab_at(ctx, op, slab)
        if slab == 0 and not penalised:
            copy_to(dw + i, sums + i, n)
        else:
            add_to(dw + i, sums + i, n)
        if has_db and slab == 0:
            copy_to(db, sums + size, op.n_out)
        elif has_db:
            add_to(db, sums + size, op.n_out)
    return 0


@subroutine
def copy_to(out, source, count):
    """out = source"""
    for i in range(count):
        out[i] = source[i]


@subroutine
def add_to(out, source, count):
    """out = out + source"""
    for i in range(count):
        out[i] = out[i] + source[i]
