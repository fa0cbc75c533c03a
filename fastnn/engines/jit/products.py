"""The matrix product that every dense row is made of, and the leaves of the dense row.

All three products of a dense row, X W, Xt dZ and dZ Wt, are calls of one function. It reads its
left operand element by element, so that operand's strides are free and X need not be transposed;
its right operand and its result are read along their rows. Each element of the result is a chain
of fused multiply-adds over ascending k, whatever the tile it falls into, so a row of a forward
pass has the same bits alone and in any batch.
"""

from __future__ import annotations

from ..tables import BLOCK_PANELS, DEPTH, INPUT, NEAR_ROWS, PACK_BYTES, PANEL_VECTORS, ROW
from . import target
from .kernels import leaf, product_leaf, subroutine
from .memory import (
    address_of,
    call_inner,
    call_product,
    like,
    reals,
    row_at,
)
from .tiles import make_tile, transpose_block, vector_lanes

#: Rows of the tallest tile, and vectors of the widest.
HEIGHT, WIDTH = target.tile_rows(), PANEL_VECTORS

#: With so few rows a panel of b is used so briefly that the next must be asked for meanwhile, and
#: k is passed in halves.
FETCH_ROWS = 64

#: A result of more elements does not stay in the second cache: its next tile is asked for ahead,
#: unless a tile has fewer steps and is done before the memory could answer.
FAR, FETCH_DEPTH = 1 << 17, 128

#: Rows of a result that one call of the product computes, on the same copy of a block of b.
BLOCK_ROWS = 1024

#: How a panel meets its columns of b: where they are; copying them together on the way, if they
#: lie far apart; as copied before, for the rows above.
IN_PLACE, COPIES, COPIED = 0, 1, 2

ROW_BYTES = ROW.itemsize


def make_panel(width, masked=False):
    """The product for one panel of columns: `width` vectors, or with `masked` a part of one."""
    tall = make_tile(HEIGHT, width, masked, fetches=True)
    copying = make_tile(HEIGHT, width, copies=True) if width > 1 else tall
    four, two, one = (make_tile(rows, width, masked) for rows in (4, 2, 1))
    has_four = HEIGHT > 4

    def panel(
        c, c_row, first, first_row, a, a_row, a_k, a_pack, packed,
        b, b_row, rows, depth, columns, adds, pack, state, ahead, far,
    ):  # fmt: skip
        n = vector_lanes(c)
        group = max(n, HEIGHT)
        copies = width > 1 and state == COPIES
        copied = width > 1 and state == COPIED
        ahead_row = b_row
        if copied:
            b, b_row = pack, width * n
        # All tiles together ask for the next panel once: as copied, or line by line where it is.
        share_of_next = width * n * HEIGHT // rows
        i = 0
        while i + HEIGHT <= rows:
            ci, fi, ai, ar, ak = c + i * c_row, first + i * first_row, a + i * a_row, a_row, a_k
            if i < packed:
                ai, ar, ak = a_pack + (i // group * DEPTH * group + i % group), 1, group
            next_c = ci
            if far:
                next_c = ci + HEIGHT * c_row if i + 2 * HEIGHT <= rows else c + width * n
            if copies and i == 0:
                copying(
                    ci, c_row, fi, first_row, ai, ar, ak, b, b_row, depth, columns, adds, pack, 0,
                    next_c,
                )  # fmt: skip
                b, b_row = pack, width * n
            else:
                if copied:
                    other = pack + (width * n * DEPTH + i // HEIGHT * depth * share_of_next)
                    other_row = share_of_next
                else:
                    other, other_row = ahead + i // HEIGHT % width * n, ahead_row
                tall(
                    ci, c_row, fi, first_row, ai, ar, ak, b, b_row, depth, columns, adds, other,
                    other_row, next_c,
                )  # fmt: skip
                if i >= width * HEIGHT:
                    ahead_row = 0
            i += HEIGHT
        while i < rows:
            ci, fi, ai = c + i * c_row, first + i * first_row, a + i * a_row
            if has_four and rows - i >= 4:
                four(
                    ci, c_row, fi, first_row, ai, a_row, a_k, b, b_row, depth, columns, adds, b, 0,
                    ci,
                )  # fmt: skip
                i += 4
            elif rows - i >= 2:
                two(
                    ci, c_row, fi, first_row, ai, a_row, a_k, b, b_row, depth, columns, adds, b, 0,
                    ci,
                )  # fmt: skip
                i += 2
            else:
                one(
                    ci, c_row, fi, first_row, ai, a_row, a_k, b, b_row, depth, columns, adds, b, 0,
                    ci,
                )  # fmt: skip
                i += 1

    return subroutine(panel)


_panel_3, _panel_2, _panel_1 = make_panel(3), make_panel(2), make_panel(1)
_panel_masked = make_panel(1, masked=True)


@subroutine
def pack_rows(to, a, a_k, rows, depth, group):
    """Copy `rows` rows of a, in groups whose columns then lie one after another.

    to[i*DEPTH + k*group + r] = a[i + r + k*a_k] for i = 0, group, ..., r < group, k < depth.
    """
    i = 0
    while i < rows:
        at, target = a + i, to + i * DEPTH
        for k in range(depth):
            for r in range(group):
                target[k * group + r] = at[k * a_k + r]
        i += group


@product_leaf
def product(c, c_row, first, first_row, a, a_row, a_k, b, b_row, rows, depth, columns, adds, pack):
    """c[i, j] = first[i, j] + sum over k of a[i, k] b[k, j], for i < rows, k < depth, j < columns.

    The sum is a chain over ascending k that starts from `first`. If `adds` is 1, its end is
    added to c; then depth is DEPTH at most.

    c_row, b_row  elements from one row of c or b to the next
    first_row     the same for first; 0 repeats one row
    a_row, a_k    elements from a[i, k] to a[i+1, k] and to a[i, k+1]; one of them is 1
    pack          PACK_BYTES of room; columns is BLOCK_PANELS panels at most
    Reads a, b, first and c; writes c and pack; c may overlap first, but not a or b.
    """
    n = vector_lanes(c)
    a_pack = pack + DEPTH * BLOCK_PANELS * WIDTH * n
    group = max(n, HEIGHT)
    packs = columns >= 4 * WIDTH * n and a_k != 1
    copies = rows >= 3 * HEIGHT and b_row > WIDTH * n
    far = rows * c_row > FAR and depth >= FETCH_DEPTH
    deep = DEPTH // 2 if rows <= FETCH_ROWS and adds == 0 else DEPTH
    k = 0
    while k == 0 or k < depth:
        some = min(deep, depth - k)
        i = 0
        while i < rows:
            near = min(NEAR_ROWS, rows - i)
            ci, fi = c + i * c_row, first + i * first_row
            ak, bk = a + (i * a_row + k * a_k), b + k * b_row
            packed = near // group * group if packs else 0
            pack_rows(a_pack, ak, a_k, packed, some, group)
            state = IN_PLACE if not copies else (COPIES if i == 0 else COPIED)
            j = 0
            while j < columns:
                left = columns - j
                cj, fj, bj, to = ci + j, fi + j, bk + j, pack + j * DEPTH
                if left >= 3 * n and left != 4 * n:
                    _panel_3(
                        cj, c_row, fj, first_row, ak, a_row, a_k, a_pack, packed,
                        bj, b_row, near, some, left, adds, to, state, bj + 3 * n, far,
                    )  # fmt: skip
                    j += 3 * n
                elif left >= 2 * n:
                    _panel_2(
                        cj, c_row, fj, first_row, ak, a_row, a_k, a_pack, packed,
                        bj, b_row, near, some, left, adds, to, state, bj + 2 * n, far,
                    )  # fmt: skip
                    j += 2 * n
                elif left >= n:
                    _panel_1(
                        cj, c_row, fj, first_row, ak, a_row, a_k, a_pack, packed,
                        bj, b_row, near, some, left, adds, to, state, bj + n, far,
                    )  # fmt: skip
                    j += n
                else:
                    _panel_masked(
                        cj, c_row, fj, first_row, ak, a_row, a_k, a_pack, packed,
                        bj, b_row, near, some, left, adds, to, state, bj, far,
                    )  # fmt: skip
                    j += n
            i += near
        first, first_row = c, c_row
        k += deep
    return 0


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
def share_of_matrix(ctx, rows, columns, part, parts):
    """The part of a result (rows, columns) that a part computes: i, i_end, j, j_end.

    By columns where there are enough for wide panels, so that each element of b is read by one
    part only; else by rows; a matrix with few of both by columns again.
    """
    n = vector_lanes(reals(ctx, ctx.params))
    wide = WIDTH * n
    if columns >= 2 * wide * parts or rows < HEIGHT * parts:
        step = wide if columns >= 8 * wide * parts else n
        return 0, rows, share(columns, step, part, parts), share(columns, step, part + 1, parts)
    return share(rows, HEIGHT, part, parts), share(rows, HEIGHT, part + 1, parts), 0, columns


@subroutine
def multiply(
    ctx, part, c, c_row, first, first_row, a, a_row, a_k, b, b_row, rows, depth, columns, adds
):
    """Call the product by its address, so that it is compiled once and not in every leaf."""
    return call_product(
        ctx.product,
        (
            address_of(c),
            c_row,
            address_of(first),
            first_row,
            address_of(a),
            a_row,
            a_k,
            address_of(b),
            b_row,
            rows,
            depth,
            columns,
            adds,
            ctx.pack + part * PACK_BYTES,
        ),
    )


@leaf
def dense_forward(ctx, part, parts):
    """z = x W + b, then a = act(z) by the epilogue, block by block.

    x (m, n_in), W (n_in, n_out), b (n_out); writes z and a (m, n_out).
    """
    row = row_at(ctx, ctx.row)
    n_in, n_out = row.n_in, row.n_out
    x, z, a = buffer(ctx, row.x), buffer(ctx, row.z), buffer(ctx, row.a)
    w = reals(ctx, ctx.params) + row.w
    b = reals(ctx, ctx.params) + row.b
    i_begin, i_end, j, j_end = share_of_matrix(ctx, ctx.m, n_out, part, parts)
    while j < j_end:
        columns = min(block_columns(x), j_end - j)
        i = i_begin
        while i < i_end:
            rows = min(BLOCK_ROWS, i_end - i)
            at = i * n_out + j
            multiply(
                ctx, part, z + at, n_out, b + j, 0, x + i * n_in, n_in, 1, w + j, n_out,
                rows, n_in, columns, 0,
            )  # fmt: skip
            if row.z != row.a:
                for r in range(rows):
                    source, target = z + (at + r * n_out), a + (at + r * n_out)
                    for c in range(columns):
                        target[c] = source[c]
            epilogue(ctx, z + at, a + at, a + at, rows, columns, n_out, row)
            i += rows
        j += columns
    return 0


@subroutine
def block_columns(pointer):
    """Columns of a block of a result."""
    return BLOCK_PANELS * WIDTH * vector_lanes(pointer)


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


@subroutine
def sum_over_rows(
    ctx, part, c, c_row, a, a_row, a_k, b, b_row, rows, columns, first, last, adds
):  # fmt: skip
    """c[i, j] = sum of a[i, k] b[k, j] over the rows k = first, ..., last-1 of a batch.

    They are summed in blocks of DEPTH, and the blocks in order. If `adds` is 1, c is what the
    first block is added to.
    """
    zeros = reals(ctx, ctx.zeros)
    k = first
    while k < last:
        some = min(DEPTH, last - k)
        multiply(
            ctx, part, c, c_row, zeros, 0, a + k * a_k, a_row, a_k, b + k * b_row, b_row,
            rows, some, columns, 1 if adds or k > first else 0,
        )  # fmt: skip
        k += some


@leaf
def dense_weights(ctx, part, parts):
    """dW = xt dz and db = the column sums of dz, both summed over the rows of the batch.

    x (m, n_in), dz (m, n_out); writes the gradient's W (n_in, n_out) and b (n_out). dW starts
    with the slope of the penalties, l1 sign(W) + 2 l2 W.
    The sums are those of :func:`sum_over_rows`, whatever the split.
    """
    row = row_at(ctx, ctx.row)
    dw, db = reals(ctx, ctx.grad) + row.w, reals(ctx, ctx.grad) + row.b
    k, k_end, j, j_end = share_of_matrix(ctx, row.n_in, row.n_out, part, parts)
    penalised = is_penalised(row)
    if penalised:
        penalty_slope(ctx, row, k * row.n_out + j, k_end - k, j_end - j)
    weights_of_rows(ctx, part, row, dw, db, k, k_end, j, j_end, 0, ctx.m, penalised)
    return 0


@subroutine
def weights_of_rows(ctx, part, row, dw, db, k_begin, k_end, j, j_end, first, last, adds):
    """A part of dW, and with its first rows the same part of db, from some rows of the batch.

    If `adds` is 1, the sums are added to what dw holds.
    """
    n_in, n_out = row.n_in, row.n_out
    x, dz, one = buffer(ctx, row.x), buffer(ctx, row.da), reals(ctx, ctx.one)
    while j < j_end:
        columns = min(block_columns(x), j_end - j)
        k = k_begin
        while k < k_end:
            some = min(BLOCK_ROWS, k_end - k)
            sum_over_rows(
                ctx, part, dw + (k * n_out + j), n_out, x + k, 1, n_in, dz + j, n_out,
                some, columns, first, last, adds,
            )  # fmt: skip
            k += some
        if k_begin == 0 and k_end > 0:
            sum_over_rows(
                ctx, part, db + j, n_out, one, 1, 0, dz + j, n_out, 1, columns, first, last, False
            )
        j += columns


@subroutine
def is_penalised(row):
    """Whether a dense row has an l1 or l2 penalty."""
    return row.arg1 != 0.0 or row.arg2 != 0.0


@subroutine
def penalty_slope(ctx, row, at, rows, columns):
    """dW = l1 sign(W) + 2 l2 W for a block of W that begins at element `at`."""
    w = reals(ctx, ctx.params) + (row.w + at)
    dw = reals(ctx, ctx.grad) + (row.w + at)
    zero, l1, l2 = like(w, 0), like(w, row.arg1), like(w, 2.0 * row.arg2)
    for r in range(rows):
        source, target = w + r * row.n_out, dw + r * row.n_out
        for c in range(columns):
            v = source[c]
            sign = l1 if v > zero else (-l1 if v < zero else zero)
            target[c] = sign + l2 * v


@subroutine
def transpose(target, target_row, source, source_row, rows, columns):
    """target[j, i] = source[i, j] for i < rows, j < columns."""
    n = vector_lanes(target)
    i = 0
    while i < rows:
        j = 0
        if rows - i >= n:
            while columns - j >= n:
                transpose_block(
                    target + (j * target_row + i), target_row, source + (i * source_row + j),
                    source_row,
                )  # fmt: skip
                j += n
        for r in range(i, min(i + n, rows)):
            for c in range(j, columns):
                target[c * target_row + r] = source[r * source_row + c]
        i += n


@leaf
def transpose_weights(ctx, part, parts):
    """Wt (n_out, n_in) into the row's scratch, so that dx can read it along its rows."""
    row = row_at(ctx, ctx.row)
    n_in, n_out = row.n_in, row.n_out
    w = reals(ctx, ctx.params) + row.w
    wt = reals(ctx, ctx.scratch) + row.scratch
    k, k_end = share(n_in, 16, part, parts), share(n_in, 16, part + 1, parts)
    transpose(wt + k, n_in, w + k * n_out, n_out, k_end - k, n_out)
    return 0


@leaf
def dense_inputs(ctx, part, parts):
    """dx = dz Wt, turned into the dz of the row below by the epilogue, block by block.

    dz (m, n_out), Wt (n_out, n_in) in the scratch; writes dx (m, n_in), the da of row `below`.
    """
    row = row_at(ctx, ctx.row)
    n_in, n_out = row.n_in, row.n_out
    dz, dx = buffer(ctx, row.da), buffer(ctx, row.dx)
    wt = reals(ctx, ctx.scratch) + row.scratch
    below = row_at(ctx, ctx.rows + row.below * ROW_BYTES)
    z, a = buffer(ctx, below.z), buffer(ctx, below.a)
    zeros = reals(ctx, ctx.zeros)
    i_begin, i_end, k, k_end = share_of_matrix(ctx, ctx.m, n_in, part, parts)
    while k < k_end:
        columns = min(block_columns(dz), k_end - k)
        i = i_begin
        while i < i_end:
            rows = min(BLOCK_ROWS, i_end - i)
            at = i * n_in + k
            multiply(
                ctx, part, dx + at, n_in, zeros, 0, dz + i * n_out, n_out, 1, wt + k, n_in,
                rows, n_out, columns, 0,
            )  # fmt: skip
            epilogue(ctx, z + at, a + at, dx + at, rows, columns, n_in, below)
            i += rows
        k += columns
    return 0


@leaf
def transpose_gradient(ctx, part, parts):
    """dzt (n_out, m) into the row's scratch, where that is less than to transpose W."""
    row = row_at(ctx, ctx.row)
    n_out, m = row.n_out, ctx.m
    dz = buffer(ctx, row.da)
    dzt = reals(ctx, ctx.scratch) + row.scratch
    j, j_end = share(n_out, 16, part, parts), share(n_out, 16, part + 1, parts)
    transpose(dzt + j * m, m, dz + j, n_out, m, j_end - j)
    return 0


@leaf
def dense_inputs_transposed(ctx, part, parts):
    """dxt = W dzt, block by block transposed into dx and turned into the dz of the row below.

    W (n_in, n_out), dzt (n_out, m) in the scratch, and dxt (n_in, m) behind it; writes dx
    (m, n_in), the da of row `below`: the same bits as :func:`dense_inputs`.
    """
    row = row_at(ctx, ctx.row)
    n_in, n_out, m = row.n_in, row.n_out, ctx.m
    dx = buffer(ctx, row.dx)
    w = reals(ctx, ctx.params) + row.w
    dzt = reals(ctx, ctx.scratch) + row.scratch
    dxt = dzt + n_out * ctx.capacity
    below = row_at(ctx, ctx.rows + row.below * ROW_BYTES)
    z, a = buffer(ctx, below.z), buffer(ctx, below.a)
    zeros = reals(ctx, ctx.zeros)
    k, k_end = share(n_in, HEIGHT, part, parts), share(n_in, HEIGHT, part + 1, parts)
    while k < k_end:
        some = min(BLOCK_ROWS, k_end - k)
        i = 0
        while i < m:
            rows = min(block_columns(dx), m - i)
            to = dxt + (k * m + i)
            multiply(
                ctx, part, to, m, zeros, 0, w + k * n_out, n_out, 1, dzt + i, m,
                some, n_out, rows, 0,
            )  # fmt: skip
            at = i * n_in + k
            transpose(dx + at, n_in, to, m, some, rows)
            epilogue(ctx, z + at, a + at, dx + at, rows, some, n_in, below)
            i += rows
        k += some
    return 0
