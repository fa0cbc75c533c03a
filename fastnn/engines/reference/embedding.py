"""Embedding: columns of whole numbers are replaced by rows of learned tables."""

from __future__ import annotations

import numpy as np


def tables_of(p, op, flat):
    """(column, table (n_values, dim)) of each embedded column, as views into a flat vector."""
    count = int(op.arg0)
    numbers = p.ws.plan.constants[op.constants :][: 3 * count].astype(int).reshape(count, 3)
    offset = op.w
    for column, n_values, dim in numbers.tolist():
        size = n_values * dim
        yield column, flat[offset : offset + size].reshape(n_values, dim)
        offset += size


def embedding(x, tables):
    """The other columns of x, then the rows of each table that its column names"""
    others = np.delete(x, [column for column, _ in tables], axis=1)
    return np.concatenate([others, *(e[x[:, column].astype(int)] for column, e in tables)], axis=1)


def embedding_table(x, da, like):
    """dE: row v is the sum of the rows of da whose x is v"""
    gradient = np.zeros_like(like)
    np.add.at(gradient, x.astype(int), da)
    return gradient


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """a = the other columns of x, then a row of each table"""
    p.write(index, "a", embedding(p.value(op, "x"), list(tables_of(p, op, p.ws.params))))


def backward(p, index, op):
    """dE of each table"""
    x, da = p.value(op, "x"), p.gradient(index)
    tables = list(tables_of(p, op, p.ws.params))
    last = np.cumsum(
        [da.shape[1] - sum(e.shape[1] for _, e in tables)] + [e.shape[1] for _, e in tables]
    )
    found = [
        embedding_table(x[:, column], da[:, first:end], e)
        for (column, e), first, end in zip(tables, last[:-1], last[1:], strict=True)
    ]
    p.add_gradient(index, "w", np.concatenate([gradient.reshape(-1) for gradient in found]), None)
    for column, gradient in tables_of(p, op, p.ws.grad):
        p.note(index, f"dE{column}", gradient)
