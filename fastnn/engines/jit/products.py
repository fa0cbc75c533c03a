"""The matrix product that every dense row is made of, and the leaves of the dense row.

All three products of a dense row, X W, Xt dZ and dZ Wt, are calls of one function. It reads its
left operand element by element, so that operand's strides are free and X need not be transposed;
its right operand and its result are read along their rows. Each element of the result is a chain
of fused multiply-adds over ascending k, whatever the tile it falls into, so a row of a forward
pass has the same bits alone and in any batch.
"""

from __future__ import annotations

from ..tables import INPUT, PACK_BYTES, ROW
from .kernels import leaf, product_leaf, subroutine
from .memory import (
    address_of,
    call_inner,
    call_product,
    like,
    reals,
    row_at,
)
from .simd import VECTOR_BYTES, make_tile, vector_lanes

#: Rows of a batch that are summed in one chain; the sums of such blocks are then added in order.
SUM_ROWS = 256

#: Rows of a batch between two calls of an epilogue: what a product leaves in the cache.
TILE_ROWS = 256

#: A panel of b is copied together if it serves so many rows and its rows lie so far apart.
PACK_ROWS, PACK_STRIDE = 32, 256
#: Rows of b that are copied at a time; together with a tile of a they fit into the caches.
PACK_DEPTH = PACK_BYTES // (3 * VECTOR_BYTES)

#: How a product uses what is in c already (see :func:`product`).
FRESH, CARRY = 0, 1

ROW_BYTES = ROW.itemsize

_tile_8x3 = make_tile(8, 3, masked=False)
_tile_8x1 = make_tile(8, 1, masked=False)
_tile_8x1_masked = make_tile(8, 1, masked=True)
_tile_1x3 = make_tile(1, 3, masked=False)
_tile_1x1 = make_tile(1, 1, masked=False)
_tile_1x1_masked = make_tile(1, 1, masked=True)


@product_leaf
def product(c, c_row, a, a_row, a_k, b, b_row, rows, depth, columns, carry, pack):
    """c[i, j] += sum over k of a[i, k] b[k, j], for i < rows, k < depth, j < columns.

    With CARRY the chain over k starts from c; with FRESH it starts from 0 and is then added to c.

    c_row, b_row  elements from one row of c or b to the next
    a_row, a_k    elements from a[i, k] to a[i+1, k] and to a[i, k+1]
    pack          room for PACK_DEPTH rows of three vectors
    Reads a, b and c; writes c and pack; c must not overlap a or b.
    """
    n = vector_lanes(c)
    j = 0
    while j < columns:
        left = columns - j
        wide = left >= 3 * n
        if wide and rows >= PACK_ROWS and b_row >= PACK_STRIDE and (carry or depth <= PACK_DEPTH):
            # Rows of b that lie far apart share few cache sets and pages: copy them together.
            k = 0
            while k < depth:
                some = min(PACK_DEPTH, depth - k)
                for r in range(some):
                    source, target = b + ((k + r) * b_row + j), pack + r * (3 * n)
                    for t in range(3 * n):
                        target[t] = source[t]
                at = a + k * a_k
                panel(c + j, c_row, at, a_row, a_k, pack, 3 * n, rows, some, left, carry)
                k += some
        else:
            # All rows for one panel of columns: the panel of b stays in the cache.
            panel(c + j, c_row, a, a_row, a_k, b + j, b_row, rows, depth, left, carry)
        j += 3 * n if wide else n
    return 0


@subroutine
def panel(c, c_row, a, a_row, a_k, b, b_row, rows, depth, left, carry):
    """The product for one panel of columns: three vectors, one, or what is left of one."""
    n = vector_lanes(c)
    i = 0
    while i < rows:
        tall = rows - i >= 8
        ci, ai = c + i * c_row, a + i * a_row
        if left >= 3 * n:
            if tall:
                _tile_8x3(ci, c_row, ai, a_row, a_k, b, b_row, depth, left, carry)
            else:
                _tile_1x3(ci, c_row, ai, a_row, a_k, b, b_row, depth, left, carry)
        elif left >= n:
            if tall:
                _tile_8x1(ci, c_row, ai, a_row, a_k, b, b_row, depth, left, carry)
            else:
                _tile_1x1(ci, c_row, ai, a_row, a_k, b, b_row, depth, left, carry)
        elif tall:
            _tile_8x1_masked(ci, c_row, ai, a_row, a_k, b, b_row, depth, left, carry)
        else:
            _tile_1x1_masked(ci, c_row, ai, a_row, a_k, b, b_row, depth, left, carry)
        i += 8 if tall else 1


@subroutine
def buffer(ctx, offset):
    """The workspace buffer with a per-sample offset, or the batch itself."""
    if offset == INPUT:
        return reals(ctx, ctx.input)
    return reals(ctx, ctx.work) + offset * ctx.capacity


@subroutine
def share(count, step, part, parts):
    """The first of `count` items that belong to a part, a multiple of `step` but for the end."""
    steps = (count + step - 1) // step
    return min(count, steps * part // parts * step)


@subroutine
def multiply(ctx, part, c, c_row, a, a_row, a_k, b, b_row, rows, depth, columns, carry):
    """Call the product by its address, so that it is compiled once and not in every leaf."""
    pack = ctx.pack + part * PACK_BYTES
    return call_product(
        ctx.product,
        (
            address_of(c),
            c_row,
            address_of(a),
            a_row,
            a_k,
            address_of(b),
            b_row,
            rows,
            depth,
            columns,
            carry,
            pack,
        ),
    )


@leaf
def dense_forward(ctx, part, parts):
    """z = x W + b, then a = act(z) by the epilogue, tile by tile.

    x (m, n_in), W (n_in, n_out), b (n_out); writes z and a (m, n_out).
    Split by rows of the batch, or by columns where there are fewer rows than parts.
    """
    row = row_at(ctx, ctx.row)
    n_in, n_out = row.n_in, row.n_out
    x, z, a = buffer(ctx, row.x), buffer(ctx, row.z), buffer(ctx, row.a)
    w = reals(ctx, ctx.params) + row.w
    b = reals(ctx, ctx.params) + row.b
    i, i_end, j, j_end = 0, ctx.m, 0, n_out
    if ctx.m >= parts:
        i, i_end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    else:
        j, j_end = share(n_out, 16, part, parts), share(n_out, 16, part + 1, parts)
    columns = j_end - j
    while i < i_end and columns > 0:
        rows = min(TILE_ROWS, i_end - i)
        for r in range(i, i + rows):
            for c in range(j, j_end):
                z[r * n_out + c] = b[c]
        at = i * n_out + j
        tile = z + at
        multiply(
            ctx, part, tile, n_out, x + i * n_in, n_in, 1, w + j, n_out,
            rows, n_in, columns, CARRY,
        )  # fmt: skip
        if row.z != row.a:
            for r in range(rows):
                for c in range(columns):
                    a[at + r * n_out + c] = tile[r * n_out + c]
        epilogue(ctx, tile, a + at, a + at, rows, columns, n_out, row)
        i += rows
    return 0


@subroutine
def epilogue(ctx, z, a, da, rows, columns, stride, row):
    """Call the call's elementwise function, if it has one, on a tile of z, a and da.

    The tile has `rows` rows of `columns` elements that begin `stride` elements apart.
    """
    if ctx.inner:
        if columns == stride:
            columns *= rows
            rows = 1
        for r in range(rows):
            skip = r * stride
            call_inner(
                ctx.inner,
                (
                    address_of(z + skip),
                    address_of(a + skip),
                    address_of(da + skip),
                    columns,
                    address_of(row),
                ),
            )


@leaf
def dense_weights(ctx, part, parts):
    """dW = xt dz and db = the column sums of dz, both summed over the rows of the batch.

    x (m, n_in), dz (m, n_out); writes the gradient's W (n_in, n_out) and b (n_out). dW starts
    with the slope of the penalties, l1 sign(W) + 2 l2 W.
    The rows are summed in blocks of SUM_ROWS, and the blocks in order, whatever the split.
    Split by rows of W, or by columns where W has fewer rows than parts.
    """
    row = row_at(ctx, ctx.row)
    n_in, n_out, m = row.n_in, row.n_out, ctx.m
    x, dz = buffer(ctx, row.x), buffer(ctx, row.da)
    dw = reals(ctx, ctx.grad) + row.w
    db = reals(ctx, ctx.grad) + row.b
    k, k_end, j, j_end = 0, n_in, 0, n_out
    if n_in >= parts:
        k, k_end = share(n_in, 1, part, parts), share(n_in, 1, part + 1, parts)
    else:
        j, j_end = share(n_out, 16, part, parts), share(n_out, 16, part + 1, parts)
    zero = like(x, 0)
    columns = j_end - j
    sums_biases = k == 0
    if row.arg1 != 0.0 or row.arg2 != 0.0:
        w = reals(ctx, ctx.params) + row.w
        l1, l2 = like(x, row.arg1), like(x, 2.0 * row.arg2)
        for r in range(k, k_end):
            for c in range(j, j_end):
                v = w[r * n_out + c]
                sign = l1 if v > zero else (-l1 if v < zero else zero)
                dw[r * n_out + c] = sign + l2 * v
    else:
        for r in range(k, k_end):
            for c in range(j, j_end):
                dw[r * n_out + c] = zero
    if sums_biases:
        for c in range(j, j_end):
            db[c] = zero
    i = 0
    while i < m:
        rows = min(SUM_ROWS, m - i)
        dzi = dz + (i * n_out + j)
        multiply(
            ctx, part, dw + (k * n_out + j), n_out, x + (i * n_in + k), 1, n_in, dzi, n_out,
            k_end - k, rows, columns, FRESH,
        )  # fmt: skip
        if sums_biases:
            one = reals(ctx, ctx.one)
            multiply(ctx, part, db + j, n_out, one, 0, 0, dzi, n_out, 1, rows, columns, FRESH)
        i += rows
    return 0


@leaf
def transpose_weights(ctx, part, parts):
    """Wt (n_out, n_in) into the row's scratch, so that dx can read it along its rows."""
    row = row_at(ctx, ctx.row)
    n_in, n_out = row.n_in, row.n_out
    w = reals(ctx, ctx.params) + row.w
    wt = reals(ctx, ctx.scratch) + row.scratch
    start, end = share(n_in, 16, part, parts), share(n_in, 16, part + 1, parts)
    # Eight rows of Wt at a time: the cache lines that are written stay in the cache.
    j = 0
    while j < n_out:
        j_end = min(j + 8, n_out)
        for k in range(start, end):
            for jj in range(j, j_end):
                wt[jj * n_in + k] = w[k * n_out + jj]
        j = j_end
    return 0


@leaf
def dense_inputs(ctx, part, parts):
    """dx = dz Wt, turned into the dz of the row below by the epilogue, tile by tile.

    dz (m, n_out), Wt (n_out, n_in) in the scratch; writes dx (m, n_in), the da of row `below`.
    Split by rows of the batch, or by columns where there are fewer rows than parts.
    """
    row = row_at(ctx, ctx.row)
    n_in, n_out = row.n_in, row.n_out
    dz, dx = buffer(ctx, row.da), buffer(ctx, row.dx)
    wt = reals(ctx, ctx.scratch) + row.scratch
    below = row_at(ctx, ctx.rows + row.below * ROW_BYTES)
    z, a = buffer(ctx, below.z), buffer(ctx, below.a)
    i, i_end, k, k_end = 0, ctx.m, 0, n_in
    if ctx.m >= parts:
        i, i_end = share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)
    else:
        k, k_end = share(n_in, 16, part, parts), share(n_in, 16, part + 1, parts)
    columns = k_end - k
    zero = like(dz, 0)
    while i < i_end and columns > 0:
        rows = min(TILE_ROWS, i_end - i)
        for r in range(i, i + rows):
            for c in range(k, k_end):
                dx[r * n_in + c] = zero
        at = i * n_in + k
        multiply(
            ctx, part, dx + at, n_in, dz + i * n_out, n_out, 1, wt + k, n_in,
            rows, n_out, columns, CARRY,
        )  # fmt: skip
        epilogue(ctx, z + at, a + at, dx + at, rows, columns, n_in, below)
        i += rows
    return 0
