"""The dense operation with very few outputs, whose columns would leave most lanes idle.

Forward, each output is a dot product over SUM_LANES lanes and one fixed tree; n_out alone chooses
this rule, which sets the bits. Backward, dW has the bits of :func:`.dense.dense_weights`, but is
computed as its transpose.
"""

from __future__ import annotations

from ...tables import KC, MC
from .context import apply_epilogue, buffer, op_of, pack_of, rows_of_part, share
from .dense import (
    biases,
    gradient_of,
    starts_with_penalty,
    weights_of_rows,
    write_penalty_derivative,
)
from .kernels import kernel, subroutine
from .memory import like, reals
from .microkernel import Matrix
from .product import Area
from .reductions import SUM_LANES, make_dots, sum_of_lanes

_dots_8, _dots_1 = make_dots(8), make_dots(1)


@kernel
def narrow_forward(ctx, part, parts):
    """z = x W + b, then a = act(z) by the epilogue; split by rows of the batch.

    x (m, n_in), W (n_in, n_out), b (n_out) or none; writes z and a (m, n_out).
    """
    op = op_of(ctx)
    n_in, n_out = op.n_in, op.n_out
    x, z, a = buffer(ctx, op.x), buffer(ctx, op.z), buffer(ctx, op.a)
    w, b = reals(ctx, ctx.params) + op.w, biases(ctx, op, 0)
    column = reals(ctx, pack_of(ctx, part))
    sums = column + KC
    i, end = rows_of_part(ctx, part, parts)
    while i < end:
        rows = min(MC, end - i)
        for j in range(n_out):
            zero = like(sums, 0)
            for r in range(rows * SUM_LANES):
                sums[r] = zero
            add_dots(sums, column, x + i * n_in, Matrix(w + j, n_out), rows, n_in)
            for r in range(rows):
                at = (i + r) * n_out + j
                z[at] = sum_of_lanes(sums + r * SUM_LANES) + b[j]
                a[at] = z[at]
        at = i * n_out
        apply_epilogue(ctx, z + at, a + at, a + at, rows, n_out, n_out, op)
        i += rows
    return 0


@subroutine
def add_dots(sums, column, x, w, rows, n_in):
    """sums (rows, SUM_LANES) += the products of x (rows, n_in) and the first column of w.

    `column` is room for KC elements.
    """
    k = 0
    while k < n_in:
        kc = min(KC, n_in - k)
        for kk in range(kc):
            column[kk] = w.at[(k + kk) * w.row]
        i = 0
        while i + 8 <= rows:
            _dots_8(sums + i * SUM_LANES, x + (i * n_in + k), n_in, column, kc)
            i += 8
        while i < rows:
            _dots_1(sums + i * SUM_LANES, x + (i * n_in + k), n_in, column, kc)
            i += 1
        k += kc


@kernel
def narrow_weights(ctx, part, parts):
    """dW = xt dz and db = the column sums of dz, as :func:`.dense.dense_weights`.

    x (m, n_in), dz (m, n_out); writes W (n_in, n_out) and b (n_out) of the gradient. Computes
    dWt = dzt x, whose columns fill the lanes; split by rows of W.
    """
    op = op_of(ctx)
    k, k_end = share(op.n_in, 16, part, parts)
    if starts_with_penalty(ctx, op):
        write_penalty_derivative(ctx, op, k * op.n_out, k_end - k, op.n_out)
    area = Area(k, k_end, 0, op.n_out)
    weights_of_rows(ctx, part, op, gradient_of(ctx, op), area, 0, ctx.m)
    return 0
