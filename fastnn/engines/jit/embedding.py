"""The embedding operation: columns of whole numbers are replaced by rows of learned tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...tables import Status
from .context import buffer, is_continued, op_of, rows_of_part, share
from .kernels import kernel, subroutine
from .memory import doubles, like, reals
from .slabs import copy_to

_BAD_INDEX = int(Status.BAD_INDEX)


class Embedded(NamedTuple):
    """An embedded column, and the place of its table."""

    column: Any
    n_values: Any
    dim: Any
    at: Any  # of the table (n_values, dim) in the flat vector


@subroutine
def next_embedded(ctx, op, index, end):
    """Embedded column number `index`, whose table begins where the one before it ends."""
    numbers = doubles(ctx, ctx.constants) + (op.constants + 3 * index)
    return Embedded(np.int64(numbers[0]), np.int64(numbers[1]), np.int64(numbers[2]), end)


@subroutine
def row_of_table(e, x):
    """The row of a table that x names, or -1 if there is none."""
    value = x[e.column]
    if value >= like(x, 0) and value < like(x, e.n_values):
        return np.int64(value)
    return np.int64(-1)


@kernel
def embedding_forward(ctx, part, parts):
    """a = the other columns of x, then a row of each table; split by rows of the batch.

    x (m, n_in), a (m, n_out).
    """
    op = op_of(ctx)
    n_in, n_tables = op.n_in, np.int64(op.arg0)
    params = reals(ctx, ctx.params)
    begin, end = rows_of_part(ctx, part, parts)
    for i in range(begin, end):
        x, a = buffer(ctx, op.x) + i * n_in, buffer(ctx, op.a) + i * op.n_out
        source = np.int64(0)
        for t in range(n_tables):
            e = next_embedded(ctx, op, t, 0)
            copy_to(a, x + source, e.column - source)
            a = a + (e.column - source)
            source = e.column + 1
        copy_to(a, x + source, n_in - source)
        a = a + (n_in - source)
        at = op.w
        for t in range(n_tables):
            e = next_embedded(ctx, op, t, at)
            row = row_of_table(e, x)
            if row < 0:
                return _BAD_INDEX
            copy_to(a, params + (e.at + row * e.dim), e.dim)
            a = a + e.dim
            at += e.n_values * e.dim
    return 0


@kernel
def embedding_tables(ctx, part, parts):
    """dE of every table: row v is the sum, in order, of the rows of da whose x is v.

    x (m, n_in), da (m, n_out); split by rows of each table.
    """
    op = op_of(ctx)
    n_in, n_out, n_tables = op.n_in, op.n_out, np.int64(op.arg0)
    at = op.w
    before = n_in - n_tables  # columns of a before those of the table
    for t in range(n_tables):
        e = next_embedded(ctx, op, t, at)
        begin, end = share(e.n_values, 1, part, parts)
        gradient = reals(ctx, ctx.grad) + e.at
        if not is_continued(ctx):
            for k in range(begin * e.dim, end * e.dim):
                gradient[k] = like(gradient, 0)
        for i in range(ctx.m):
            row = row_of_table(e, buffer(ctx, op.x) + i * n_in)
            if row >= begin and row < end:
                out, da = gradient + row * e.dim, buffer(ctx, op.da) + (i * n_out + before)
                for j in range(e.dim):
                    out[j] = out[j] + da[j]
        at += e.n_values * e.dim
        before += e.dim
    return 0
