"""What limits the weights of a dense operation: l1 and l2 penalties, and the norms of its units."""

from __future__ import annotations

import math

import numpy as np

from ...tables import Status
from .context import is_last_piece, op_of, pack_of, share
from .kernels import kernel
from .memory import address_of, doubles, like, reals
from .product import block_columns, columns_of_part
from .reductions import dot_of, size_of, sum_in_blocks
from .simd import fma

_NOT_FINITE = int(Status.NOT_FINITE)


@kernel
def penalise(ctx, part, parts):
    """penalty[k] = sum over j of l1 |w_kj| + l2 w_kj^2 for the rows k of W; split by rows.

    Writes n_in doubles at op.batch, for the last piece of a batch only.
    """
    if not is_last_piece(ctx):
        return 0
    op = op_of(ctx)
    n = op.n_out
    w, penalties = reals(ctx, ctx.params) + op.w, doubles(ctx, ctx.batch) + op.batch
    begin, end = share(op.n_in, 1, part, parts)
    for k in range(begin, end):
        penalty = op.arg2 * dot_of(w + k * n, w + k * n, n)
        if op.arg1 != 0.0:
            penalty += op.arg1 * size_of(w + k * n, n)
        penalties[k] = penalty
    return 0


@kernel
def add_penalty(ctx, part, parts):
    """result[0] += the penalty of an operation, weighted as the batch's rows; not split.

    For the last piece of a batch only.
    """
    if not is_last_piece(ctx):
        return 0
    op = op_of(ctx)
    weight = ctx.weight_sum if ctx.mean else ctx.penalty_scale
    if ctx.penalty_is_row:  # the batches of an evaluation together have one such row
        weight = 1.0 if ctx.training else ctx.m / ctx.n_rows
    result = doubles(ctx, ctx.result)
    penalties = doubles(ctx, ctx.batch) + op.batch
    result[0] = result[0] + weight * sum_in_blocks(0.0, penalties, op.n_in)
    return 0 if result[0] - result[0] == 0.0 else _NOT_FINITE


@kernel
def limit_norms(ctx, part, parts):
    """Scale every column of W whose norm is above the limit down to it; split by columns.

    W (n_in, n_out). The norms are summed in float64, over ascending rows of W.
    """
    op = op_of(ctx)
    n = op.n_out
    limit = doubles(ctx, ctx.constants)[op.constants]
    sums = doubles(ctx, pack_of(ctx, part))
    most = block_columns(reals(ctx, ctx.params))
    factors = reals(ctx, address_of(sums + most))
    j, end = columns_of_part(ctx, n, part, parts)
    while j < end:
        columns = min(most, end - j)
        w = reals(ctx, ctx.params) + (op.w + j)
        for c in range(columns):
            sums[c] = 0.0
        for k in range(op.n_in):
            row = w + k * n
            for c in range(columns):
                sums[c] = fma(np.float64(row[c]), np.float64(row[c]), sums[c])
        exceeds = False
        for c in range(columns):
            norm = math.sqrt(sums[c])
            exceeds = exceeds or norm > limit
            factors[c] = like(w, limit / norm if norm > limit else 1.0)
        if exceeds:
            for k in range(op.n_in):
                row = w + k * n
                for c in range(columns):
                    row[c] = row[c] * factors[c]
        j += columns
    return 0
