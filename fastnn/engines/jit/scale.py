"""The scale operation: a = x gamma (+ beta), with learned gamma and beta for each column."""

from __future__ import annotations

from ...tables import NONE
from .context import buffer, derivative_below, op_of, pack_of, rows_of_part
from .kernels import kernel
from .memory import like, reals
from .runs import sum_rows_of_columns


@kernel
def scale_forward(ctx, part, parts):
    """a = x gamma + beta; x and a are (m, n), gamma and beta (n,); split by rows of the batch."""
    op = op_of(ctx)
    n = op.n_out
    x, a, params = buffer(ctx, op.x), buffer(ctx, op.a), reals(ctx, ctx.params)
    gamma, beta = params + op.w, params + op.b
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin, end):
        xi, ai = x + i * n, a + i * n
        if op.b == NONE:
            for j in range(n):
                ai[j] = xi[j] * gamma[j]
        else:
            for j in range(n):
                ai[j] = xi[j] * gamma[j] + beta[j]
    return 0


@kernel
def scale_inputs(ctx, part, parts):
    """dx = da gamma, added to dx if op.adds, turned into dz of the operation below.

    da and dx are (m, n); split by rows of the batch.
    """
    op = op_of(ctx)
    n = op.n_out
    da, dx, gamma = buffer(ctx, op.da), buffer(ctx, op.dx), reals(ctx, ctx.params) + op.w
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin, end):
        di, out = da + i * n, dx + i * n
        if op.adds:
            for j in range(n):
                out[j] = out[j] + di[j] * gamma[j]
        else:
            for j in range(n):
                out[j] = di[j] * gamma[j]
    derivative_below(ctx, dx, op.below, n, begin, end)
    return 0


@kernel
def scale_parameters(ctx, part, parts):
    """dgamma_j = sum over i of da_ij x_ij and dbeta_j = sum over i of da_ij; split by columns.

    x and da are (m, n), the gradients (n,).
    """
    moments = reals(ctx, pack_of(ctx, part))
    moments[0], moments[1] = like(moments, 0), like(moments, 1)  # xhat = x
    sum_rows_of_columns(ctx, moments, 0, 1, part, parts)
    return 0
