"""A user's loss, called by its address ctx.user_loss: one of two functions.

A compiled one is called for the rows of each part. It reads the targets y and the outputs
a (rows, n), and writes the loss of each row and da = d loss / d a (rows, n).

One in Python is called alone, for all rows of a batch; it knows where the batch's arrays are. It
takes Python's lock itself. The status STOPPED says that it raised an exception.
"""

from __future__ import annotations

import math

from ...tables import Split
from .context import buffer, derivative_below, op_of, rows_of_part
from .kernels import kernel, subroutine
from .loss import weight_of
from .memory import address_of, call_loss, call_loss_alone, doubles, like
from .simd import keep_denormals, restore_denormals

_ALONE = int(Split.alone)


@subroutine
def call_user_loss(ctx, op, begin, rows):
    """The user's loss of some rows of the batch, and its derivative; its status."""
    n = op.n_in
    loss = doubles(ctx, ctx.row_loss) + begin
    if ctx.split != _ALONE:
        y, a = buffer(ctx, ctx.targets) + begin * n, buffer(ctx, op.x) + begin * n
        da = buffer(ctx, op.dx) + begin * n
        return call_loss(
            ctx.user_loss,
            (address_of(y), address_of(a), address_of(da), address_of(loss), rows, n),
        )
    loss[0] = math.nan  # what it stays if the call itself fails
    before = keep_denormals()
    status = call_loss_alone(ctx.user_loss, (rows,))
    restore_denormals(before)
    return status


@kernel
def custom_loss(ctx, part, parts):
    """The weighted losses, and da = scale weight dC/da, turned into dz of the operation below."""
    op = op_of(ctx)
    begin, end = rows_of_part(ctx, part, parts)
    if begin == end:
        return 0
    status = call_user_loss(ctx, op, begin, end - begin)
    if status != 0:
        return status
    n = op.n_in
    da, loss = buffer(ctx, op.dx), doubles(ctx, ctx.row_loss)
    for i in range(begin, end):
        weight = weight_of(ctx, i)
        factor = like(da, ctx.scale * weight)
        loss[i] = loss[i] * weight
        for j in range(i * n, i * n + n):
            da[j] = factor * da[j]
    derivative_below(ctx, da, op.below, n, begin, end)
    return 0
