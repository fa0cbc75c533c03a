"""The dense row of very few outputs, whose columns would leave most lanes of a tile idle.

Forward, each output is a dot product over SUM_LANES lanes, added by one fixed tree: a rule of
its own for the bits, chosen by n_out alone. Backward, dW has the bits of
:func:`.products.dense_weights`, but is computed as its transpose.
"""

from __future__ import annotations

from ..tables import DEPTH, NEAR_ROWS, PACK_BYTES
from .kernels import leaf, subroutine
from .memory import like, reals, row_at
from .products import (
    block_columns,
    buffer,
    epilogue,
    is_penalised,
    penalty_slope,
    share,
    sum_over_rows,
    transpose,
)
from .tiles import SUM_LANES, make_dots, sum_of_lanes

_dots_8, _dots_1 = make_dots(8), make_dots(1)


@leaf
def narrow_forward(ctx, part, parts):
    """z = x W + b, then a = act(z) by the epilogue; split by rows of the batch.

    x (m, n_in), W (n_in, n_out), b (n_out); writes z and a (m, n_out).
    """
    row = row_at(ctx, ctx.row)
    n_in, n_out = row.n_in, row.n_out
    x, z, a = buffer(ctx, row.x), buffer(ctx, row.z), buffer(ctx, row.a)
    w = reals(ctx, ctx.params) + row.w
    b = reals(ctx, ctx.params) + row.b
    column = reals(ctx, ctx.pack + part * PACK_BYTES)
    sums = column + DEPTH
    i, i_end = share(ctx.m, 8, part, parts), share(ctx.m, 8, part + 1, parts)
    while i < i_end:
        rows = min(NEAR_ROWS, i_end - i)
        for j in range(n_out):
            dot_products(sums, column, x + i * n_in, w + j, rows, n_in, n_out)
            for r in range(rows):
                at = (i + r) * n_out + j
                z[at] = sum_of_lanes(sums + r * SUM_LANES) + b[j]
                a[at] = z[at]
        at = i * n_out
        epilogue(ctx, z + at, a + at, a + at, rows, n_out, n_out, row)
        i += rows
    return 0


@subroutine
def dot_products(sums, column, x, w, rows, n_in, n_out):
    """sums (rows, SUM_LANES) of the products of x (rows, n_in) with a column of W (n_in, n_out)."""
    zero = like(sums, 0)
    for r in range(rows * SUM_LANES):
        sums[r] = zero
    k = 0
    while k < n_in:
        some = min(DEPTH, n_in - k)
        for kk in range(some):
            column[kk] = w[(k + kk) * n_out]
        i = 0
        while i + 8 <= rows:
            _dots_8(sums + i * SUM_LANES, x + (i * n_in + k), n_in, column, some)
            i += 8
        while i < rows:
            _dots_1(sums + i * SUM_LANES, x + (i * n_in + k), n_in, column, some)
            i += 1
        k += some


@leaf
def narrow_weights(ctx, part, parts):
    """dW = xt dz and db = the column sums of dz, as :func:`.products.dense_weights`.

    x (m, n_in), dz (m, n_out); writes the gradient's W (n_in, n_out) and b (n_out).
    Computes dWt = dzt x, whose columns fill the lanes; split by rows of W.
    """
    row = row_at(ctx, ctx.row)
    dw, db = reals(ctx, ctx.grad) + row.w, reals(ctx, ctx.grad) + row.b
    k, k_end = share(row.n_in, 16, part, parts), share(row.n_in, 16, part + 1, parts)
    penalised = is_penalised(row)
    if penalised and k_end > k:
        penalty_slope(ctx, row, k * row.n_out, k_end - k, row.n_out)
    narrow_weights_of_rows(ctx, part, row, dw, db, k, k_end, 0, ctx.m, penalised)
    return 0


@subroutine
def narrow_weights_of_rows(ctx, part, row, dw, db, k, k_end, first, last, adds):
    """The rows k, ..., k_end-1 of dW, and with the first of them db, from some rows of the batch.

    If `adds` is 1, the sums are added to what dw holds.
    """
    n_in, n_out = row.n_in, row.n_out
    x, dz = buffer(ctx, row.x), buffer(ctx, row.da)
    dwt = reals(ctx, ctx.pack + part * PACK_BYTES)  # a product of so few rows does not use it
    if k == 0 and k_end > 0:
        one = reals(ctx, ctx.one)
        sum_over_rows(
            ctx, part, db, n_out, one, 1, 0, dz, n_out, 1, n_out, first, last, False
        )  # fmt: skip
    while k < k_end:
        columns = min(block_columns(x), k_end - k)
        if adds:
            transpose(dwt, columns, dw + k * n_out, n_out, columns, n_out)
        sum_over_rows(
            ctx, part, dwt, columns, dz, 1, n_out, x + k, n_in, n_out, columns, first, last, adds
        )
        transpose(dw + k * n_out, n_out, dwt, columns, n_out, columns)
        k += columns
