"""What kernels read from the context: operations, buffers, their share of the work, pieces.

If ``ctx.accumulates``, the driver's batches are pieces of one large batch. All pieces but the first
are *continued*: they add to what the pieces before left. Some work is done in the last one only.
"""

from __future__ import annotations

from ...tables import INPUT, NONE, OP, PACK_BYTES
from .kernels import subroutine
from .memory import address_of, call_epilogue, doubles, integers, op_at, reals

_OP_BYTES = OP.itemsize
#: Rows of a batch are split at multiples of it if there are enough.
_ROW_STEP = 8


@subroutine
def op_of(ctx):
    """The operation that the kernel is called for."""
    return op_at(ctx, ctx.op)


@subroutine
def op_number(ctx, index):
    """An operation of the plan by its index."""
    return op_at(ctx, ctx.ops + index * _OP_BYTES)


@subroutine
def buffer(ctx, offset):
    """The per-sample buffer at an offset, or the batch itself."""
    if offset == INPUT:
        return reals(ctx, ctx.input)
    return reals(ctx, ctx.work) + offset * ctx.capacity


@subroutine
def pack_of(ctx, part):
    """The address of the part's packing buffers."""
    return ctx.pack + part * PACK_BYTES


@subroutine
def share(count, step, part, parts):
    """(begin, end): the items of `count` that belong to a part, in multiples of `step`."""
    if parts == 1:  # saves two divisions, which matter in small networks
        return 0, count
    steps = (count + step - 1) // step
    begin, end = steps * part // parts * step, steps * (part + 1) // parts * step
    return min(count, begin), min(count, end)


@subroutine
def rows_of_part(ctx, part, parts):
    """(begin, end): the rows of the batch that belong to a part.

    They are the same ones in all calls that are split by rows, which therefore need no meeting in
    between.
    """
    return share(ctx.m, _ROW_STEP if ctx.m >= 2 * _ROW_STEP * parts else 1, part, parts)


@subroutine
def row_in_batch(ctx, i):
    """The number of row i within its batch, of which this may be a piece."""
    return ctx.start + i if ctx.accumulates else i


@subroutine
def own_hyper(ctx, otherwise):
    """The operation's own hyperparameter of this step, or another number if it has none."""
    from_end = op_of(ctx).hyper
    if from_end == NONE or not ctx.hyper:
        return otherwise
    return doubles(ctx, ctx.hyper)[ctx.hyper_columns - from_end]


@subroutine
def sample_of(ctx, i):
    """The sample in row i of the batch; -1 if the order's entry is out of range."""
    if not ctx.order:
        return ctx.start + i
    sample = integers(ctx, ctx.order)[ctx.start + i]
    return sample if 0 <= sample < ctx.n_samples else -1


@subroutine
def is_continued(ctx):
    """Whether this piece adds to earlier pieces of the same batch."""
    return ctx.accumulates != 0 and ctx.start > 0


@subroutine
def is_last_piece(ctx):
    """Whether this is a whole batch, or the last piece of one."""
    return ctx.accumulates == 0 or ctx.start + ctx.m == ctx.n_rows


@subroutine
def apply_epilogue(ctx, z, a, da, rows, columns, stride, op):
    """Call the epilogue, if there is one, on a block of z, a and da.

    The block has `rows` rows of `columns` elements; its rows begin `stride` elements apart.
    """
    if ctx.inner:
        if columns == stride:
            columns *= rows
            rows = 1
        for r in range(rows):
            skip = r * stride
            call_epilogue(
                ctx.inner,
                (
                    address_of(z + skip),
                    address_of(a + skip),
                    address_of(da + skip),
                    columns,
                    address_of(op),
                ),
            )


@subroutine
def derivative_below(ctx, dx, below, n, begin, end):
    """Turn rows begin, ..., end-1 of dx (m, n) into dz of operation `below`, by the epilogue."""
    op = op_number(ctx, below)
    at = begin * n
    z, a = buffer(ctx, op.z) + at, buffer(ctx, op.a) + at
    apply_epilogue(ctx, z, a, dx + at, end - begin, n, n, op)


@subroutine
def add_to_gradient(ctx, dx, da, adds, below, part, parts):
    """The part's rows of dx = da, or dx + da if `adds`, turned into dz of operation `below`.

    dx and da are offsets of (m, n_out) of the current operation.
    """
    n = op_of(ctx).n_out
    begin, end = rows_of_part(ctx, part, parts)
    source, out = buffer(ctx, da), buffer(ctx, dx)
    if adds:
        for i in range(begin * n, end * n):
            out[i] = out[i] + source[i]
    else:
        for i in range(begin * n, end * n):
            out[i] = source[i]
    derivative_below(ctx, out, below, n, begin, end)
