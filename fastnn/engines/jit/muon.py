"""Muon: the momentum of a hidden weight matrix W (n_in, n_out), orthogonalised (K. Jordan, 2024).

A matrix is kept tall: Y (r, c) with r >= c is the direction or its transpose. Five times or so,
A = Yt Y, B = alpha I + beta A + gamma A A and Y = Y B. A and B are symmetric: what lies above the
diagonal is computed and mirrored, which changes no bit, since an element and its mirror image are
the same chain of products.

The scratch space holds Y twice, then A and B. Kernels whose name ends in `back` read the second Y
where the others read the first, and write the first.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...tables import HYPER, NORM_BLOCK, Rule, Status
from .context import op_of, share
from .kernels import kernel, subroutine
from .memory import doubles, group_at, like, reals
from .microkernel import Matrix, Strided
from .product import (
    BLOCK_ROWS,
    NR_VECTORS,
    Size,
    block_columns,
    block_of_part,
    multiply,
    multiply_upper,
)
from .reductions import dot_of, sum_in_blocks
from .transpose import transpose_matrix
from .update import _GROUP_BYTES
from .vectors import vector_lanes

#: Coefficients of the iteration, and the least norm that is divided by.
_ALPHA, _BETA, _GAMMA, _LEAST = 3.4445, -4.7750, 2.0315, 1e-7

_LR, _DECOUPLED, _MOMENTUM, _OF_GRADIENT, _OF_MOMENTUM, _ORTHOGONALISES = (
    HYPER[Rule.muon].index(name)
    for name in (
        "matrix_lr", "matrix_decoupled", "momentum", "of_gradient", "of_momentum", "orthogonalises",
    )
)  # fmt: skip
_BAD_CALL = int(Status.BAD_CALL)


class Orthogonalised(NamedTuple):
    """The matrix of the call's operation, and its place in the scratch space."""

    at: int  # in the flat vectors
    size: int
    rows: int  # of Y
    columns: int
    is_transposed: bool
    y: Any
    other: Any
    gram: Any
    factor: Any


@subroutine
def whole_lines(size):
    """Elements of a buffer, such that the next one begins a cache line."""
    return (size + 15) // 16 * 16


@subroutine
def matrix_of(ctx):
    """The :class:`Orthogonalised` of the call's operation."""
    op = op_of(ctx)
    n_in, n_out = op.n_in, op.n_out
    rows, columns = max(n_in, n_out), min(n_in, n_out)
    y = reals(ctx, ctx.scratch)
    other = y + whole_lines(rows * columns)
    gram = other + whole_lines(rows * columns)
    factor = gram + whole_lines(columns * columns)
    return Orthogonalised(op.w, rows * columns, rows, columns, n_in < n_out, y, other, gram, factor)


@subroutine
def orthogonalises(ctx):
    """Whether the step computes a new direction."""
    return doubles(ctx, ctx.hyper)[_ORTHOGONALISES] != 0.0


@subroutine
def n_blocks(w):
    """The blocks of a matrix whose squares are summed one by one."""
    return (w.size + NORM_BLOCK - 1) // NORM_BLOCK


@kernel
def muon_momentum(ctx, part, parts):
    """M = mu M + (1-mu) G; split by blocks.

    Where the step orthogonalises, also D = of_gradient G + of_momentum M with the sums of squares
    of its blocks. D becomes Y, or is the second Y if that is transposed.
    """
    w = matrix_of(ctx)
    hyper, norms = doubles(ctx, ctx.hyper), doubles(ctx, ctx.batch) + ctx.norms
    mu, rest = like(w.y, hyper[_MOMENTUM]), like(w.y, 1.0 - hyper[_MOMENTUM])
    of_gradient, of_momentum = like(w.y, hyper[_OF_GRADIENT]), like(w.y, hyper[_OF_MOMENTUM])
    turns = orthogonalises(ctx)
    first, last = share(n_blocks(w), 1, part, parts)
    for block in range(first, last):
        begin = block * NORM_BLOCK
        count = min(NORM_BLOCK, w.size - begin)
        g, m = reals(ctx, ctx.grad) + (w.at + begin), reals(ctx, ctx.slots) + (w.at + begin)
        d = (w.other if w.is_transposed else w.y) + begin
        for i in range(count):
            m[i] = mu * m[i] + rest * g[i]
        if turns:
            for i in range(count):
                d[i] = of_gradient * g[i] + of_momentum * m[i]
            norms[block] = dot_of(d, d, count)
    return 0


@kernel
def muon_start(ctx, part, parts):
    """Y = D / |D|, transposed if W is wide; split by rows of W."""
    if not orthogonalises(ctx):
        return 0
    w, op = matrix_of(ctx), op_of(ctx)
    n_in, n_out = op.n_in, op.n_out
    norm = math.sqrt(sum_in_blocks(0.0, doubles(ctx, ctx.batch) + ctx.norms, n_blocks(w)))
    factor = like(w.y, 1.0 / (norm if norm > _LEAST else _LEAST))
    begin, end = share(n_in, 16, part, parts)
    d = (w.other if w.is_transposed else w.y) + begin * n_out
    for i in range((end - begin) * n_out):
        d[i] = factor * d[i]
    if w.is_transposed:
        transpose_matrix(ctx, w.y + begin, n_in, d, n_out, end - begin, n_out)
    return 0


@subroutine
def upper_share(pointer, columns, part, parts):
    """The first column of a symmetric matrix that belongs to a part.

    So all parts compute about as many elements on and above the diagonal, and of the tiles on it.
    """
    if part == 0:
        return 0
    if part == parts:
        return columns
    lanes = vector_lanes(pointer)
    nr = NR_VECTORS * lanes
    n, half = 1.0 * columns, nr / 2.0
    at = math.sqrt(half * half + part / parts * n * (n + nr)) - half
    return min(columns, (int(at) + lanes // 2) // lanes * lanes)


@subroutine
def upper_columns(ctx, part, begin, end, c, a, b, depth, columns):
    """c = at b on and above the diagonal, for some columns; a and b are (depth, columns)."""
    j = begin
    while j < end:
        some = min(block_columns(c), end - j)
        multiply_upper(
            ctx, part, Matrix(c + j, columns), Strided(a, 1, columns), Matrix(b + j, columns),
            Size(j + some, depth, some), j,
        )  # fmt: skip
        j += some


@subroutine
def mirror(ctx, c, begin, end, columns):
    """Copy some columns above the diagonal to the rows below it."""
    lanes = vector_lanes(c)
    j = begin
    while j < end:
        transpose_matrix(ctx, c + j * columns, columns, c + j, columns, j, min(lanes, end - j))
        j += lanes


@subroutine
def gram_of(ctx, part, parts, back):
    """A = Yt Y; split by columns."""
    if not orthogonalises(ctx):
        return 0
    w = matrix_of(ctx)
    y = w.other if back else w.y
    begin = upper_share(y, w.columns, part, parts)
    end = upper_share(y, w.columns, part + 1, parts)
    upper_columns(ctx, part, begin, end, w.gram, y, y, w.rows, w.columns)
    mirror(ctx, w.gram, begin, end, w.columns)
    return 0


@kernel
def muon_gram(ctx, part, parts):
    """A = Yt Y of the first Y; split by columns."""
    return gram_of(ctx, part, parts, False)


@kernel
def muon_gram_back(ctx, part, parts):
    """A = Yt Y of the second Y; split by columns."""
    return gram_of(ctx, part, parts, True)


@kernel
def muon_factor(ctx, part, parts):
    """B = alpha I + beta A + gamma A A; split by columns."""
    if not orthogonalises(ctx):
        return 0
    w = matrix_of(ctx)
    c, lanes = w.columns, vector_lanes(w.y)
    begin = upper_share(w.y, c, part, parts)
    end = upper_share(w.y, c, part + 1, parts)
    upper_columns(ctx, part, begin, end, w.factor, w.gram, w.gram, c, c)
    alpha, beta, gamma = like(w.y, _ALPHA), like(w.y, _BETA), like(w.y, _GAMMA)
    for i in range(end):
        # The first column of which this row has been computed: whole vectors of it.
        start = begin + max(0, i - begin) // lanes * lanes
        a, b = w.gram + (i * c + start), w.factor + (i * c + start)
        for j in range(end - start):
            b[j] = beta * a[j] + gamma * b[j]
        if i >= begin:
            w.factor[i * c + i] = w.factor[i * c + i] + alpha
    mirror(ctx, w.factor, begin, end, c)
    return 0


@subroutine
def turn_of(ctx, part, parts, back):
    """Y = Y B; split by rows, or where these are few by columns."""
    if not orthogonalises(ctx):
        return 0
    w = matrix_of(ctx)
    source, out = (w.other, w.y) if back else (w.y, w.other)
    c = w.columns
    zeros = Matrix(reals(ctx, ctx.zeros), 0)
    area = block_of_part(ctx, w.rows, c, part, parts)
    j = area.j
    while j < area.j_end:
        columns = min(block_columns(out), area.j_end - j)
        i = area.i
        while i < area.i_end:
            rows = min(BLOCK_ROWS, area.i_end - i)
            multiply(
                ctx, part, Matrix(out + (i * c + j), c), zeros, Strided(source + i * c, c, 1),
                Matrix(w.factor + j, c), Size(rows, c, columns), 0,
            )  # fmt: skip
            i += rows
        j += columns
    return 0


@kernel
def muon_turn(ctx, part, parts):
    """Y = Y B from the first Y to the second; split by rows, or where these are few by columns."""
    return turn_of(ctx, part, parts, False)


@kernel
def muon_turn_back(ctx, part, parts):
    """Y = Y B from the second Y to the first; split by rows, or where these are few by columns."""
    return turn_of(ctx, part, parts, True)


@subroutine
def apply_of(ctx, part, parts, back):
    """W = W - decoupled W - lr sqrt(max(1, n_out / n_in)) D; split by rows of W.

    D is kept in the second slot: Y or its transpose if the step orthogonalises, else as it is.
    """
    w, op, hyper = matrix_of(ctx), op_of(ctx), doubles(ctx, ctx.hyper)
    n_in, n_out = op.n_in, op.n_out
    index, last = ctx.n_groups, ctx.n_groups + ctx.n_matrices
    while index < last and group_at(ctx, ctx.groups + index * _GROUP_BYTES).begin != w.at:
        index += 1
    if index == last:
        return _BAD_CALL
    group = group_at(ctx, ctx.groups + index * _GROUP_BYTES)
    begin, end = share(n_in, 16, part, parts)
    weights = reals(ctx, ctx.params) + (w.at + begin * n_out)
    d = reals(ctx, ctx.slots) + (ctx.n_params + w.at + begin * n_out)
    y, count = w.other if back else w.y, (end - begin) * n_out
    if orthogonalises(ctx):
        if w.is_transposed:
            transpose_matrix(ctx, d, n_out, y + begin, n_in, n_out, end - begin)
        else:
            y = y + begin * n_out
            for i in range(count):
                d[i] = y[i]
    ratio = math.sqrt(n_out / n_in) if n_out > n_in else 1.0
    rate = like(d, hyper[_LR] * group.rate * ratio)
    decoupled = like(d, hyper[_DECOUPLED] * group.rate * group.decay)
    for i in range(count):
        weights[i] = weights[i] - decoupled * weights[i] - rate * d[i]
    return 0


@kernel
def muon_apply(ctx, part, parts):
    """W = W - decoupled W - lr sqrt(max(1, n_out / n_in)) D, with D from the first Y; by rows."""
    return apply_of(ctx, part, parts, False)


@kernel
def muon_apply_back(ctx, part, parts):
    """W = W - decoupled W - lr sqrt(max(1, n_out / n_in)) D, with D from the second Y; by rows."""
    return apply_of(ctx, part, parts, True)
