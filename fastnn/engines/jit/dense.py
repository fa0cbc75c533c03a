"""The dense operation: a = act(x W + b) and its gradients.

The kernels split their results into blocks of BLOCK_ROWS rows and NC columns, one call of the
product each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...tables import KC, NONE
from .context import (
    apply_epilogue,
    buffer,
    is_continued,
    op_number,
    op_of,
    pack_of,
    share,
)
from .kernels import kernel, subroutine
from .memory import like, reals
from .microkernel import Matrix, Strided, from_row, from_step
from .normalise import normalise_block
from .product import (
    BLOCK_ROWS,
    MR,
    PACKING_ROWS,
    Size,
    block_columns,
    block_of_part,
    l1_elements,
    multiply,
    rows_or_columns,
    whole_lanes,
)
from .transpose import transpose_matrix
from .vectors import vector_lanes


@subroutine
def rows_of_block(ctx, rows, columns, depth):
    """How many of some rows of a product with k steps are computed before their epilogue.

    Where b stays in L1, so few that their part of c does too.
    """
    most = l1_elements(reals(ctx, ctx.params))
    passes = ctx.inner != 0 or op_of(ctx).fold != NONE
    if not passes or rows * columns <= most or depth * columns > most:
        return BLOCK_ROWS
    return max(4 * MR, most // columns // MR * MR)


@kernel
def dense_forward(ctx, part, parts):
    """z = x W + b, then a = act(z) by the epilogue, block by block.

    An operation that is folded in is computed before that, or after it if arg3 is not 0.
    x (m, n_in), W (n_in, n_out), b (n_out) or none; writes z and a (m, n_out).
    """
    op = op_of(ctx)
    n_in, n_out = op.n_in, op.n_out
    x, z, a = buffer(ctx, op.x), buffer(ctx, op.z), buffer(ctx, op.a)
    w = reals(ctx, ctx.params) + op.w
    area = rows_or_columns(ctx, n_out, part, parts)
    j = area.j
    while j < area.j_end:
        columns = min(block_columns(x), area.j_end - j)
        bias = Matrix(biases(ctx, op, j), 0)
        most_rows = rows_of_block(ctx, area.i_end - area.i, columns, n_in)
        i = area.i
        while i < area.i_end:
            rows = min(most_rows, area.i_end - i)
            at = i * n_out + j
            multiply(
                ctx, part, Matrix(z + at, n_out), bias, Strided(x + i * n_in, n_in, 1),
                Matrix(w + j, n_out), Size(rows, n_in, columns), 0,
            )  # fmt: skip
            if op.fold != NONE and op.arg3 == 0.0:
                normalise_block(ctx, op, z + at, rows, columns, j)
            if op.z != op.a:
                for r in range(rows):
                    source, out = z + (at + r * n_out), a + (at + r * n_out)
                    for c in range(columns):
                        out[c] = source[c]
            apply_epilogue(ctx, z + at, a + at, a + at, rows, columns, n_out, op)
            if op.fold != NONE and op.arg3 != 0.0:
                normalise_block(ctx, op, a + at, rows, columns, j)
            i += rows
        j += columns
    return 0


@subroutine
def biases(ctx, op, j):
    """The biases from output j on, or zeros for at least NC outputs."""
    return reals(ctx, ctx.zeros) if op.b == NONE else reals(ctx, ctx.params) + (op.b + j)


class Gradient(NamedTuple):
    """Where the gradient of W and b is written."""

    w: Any  # (n_in, n_out)
    b: Any  # (n_out,)
    w_adds: bool  # the sums are added to w
    b_adds: bool


@subroutine
def gradient_of(ctx, op):
    """The Gradient in the flat gradient vector: added to by continued pieces and to penalties."""
    grad = reals(ctx, ctx.grad)
    continued = is_continued(ctx)
    return Gradient(grad + op.w, grad + op.b, continued or is_penalised(op), continued)


@subroutine
def sum_over_rows(ctx, part, c, a, b, size, adds):
    """c[i, j] = sum over k of a[i, k] b[k, j], where k are rows of a batch.

    They are summed in blocks of KC, and the blocks in order. If `adds`, the first block too is
    added to what c holds.
    """
    zeros = Matrix(reals(ctx, ctx.zeros), 0)
    k = 0
    while k < size.depth:
        kc = min(KC, size.depth - k)
        multiply(
            ctx, part, c, zeros, from_step(a, k), from_row(b, k),
            Size(size.rows, kc, size.columns), 1 if adds or k > 0 else 0,
        )  # fmt: skip
        k += kc


@kernel
def dense_weights(ctx, part, parts):
    """dW = xt dz and db = the column sums of dz, both summed over the rows of the batch.

    x (m, n_in), dz (m, n_out); writes W (n_in, n_out) and b (n_out) of the gradient. dW starts
    with the derivative of the penalties. The split changes no bit of the sums.
    """
    op = op_of(ctx)
    area = block_of_part(ctx, op.n_in, op.n_out, part, parts)
    at = area.i * op.n_out + area.j
    if starts_with_penalty(ctx, op):
        write_penalty_derivative(ctx, op, at, area.i_end - area.i, area.j_end - area.j)
    weights_of_rows(ctx, part, op, gradient_of(ctx, op), area, 0, ctx.m)
    return 0


@subroutine
def sums_transposed(pointer, rows, columns, depth):
    """Whether a block of dW is computed as its transpose.

    The transpose leaves fewer lanes idle, and that pays for transposing the block.
    """
    n = vector_lanes(pointer)
    direct = rows * whole_lanes(pointer, columns) * depth
    transposes = rows * columns * n if columns > 1 else 0
    transposed = columns * whole_lanes(pointer, rows) * depth + transposes
    return columns < PACKING_ROWS and transposed < direct


@subroutine
def transposed_weights_of_rows(ctx, part, dw, x, dz, size, adds):
    """A block of dW as the transpose of dWt = dzt x; the arguments are those of the block."""
    rows, depth, columns = size
    # The packing buffer for b is free: a product of so few rows packs nothing.
    dwt = reals(ctx, pack_of(ctx, part))
    is_column = columns == 1 and dw.row == 1
    k = 0
    while k < rows:
        some = min(block_columns(dwt), rows - k)
        block = dw.at + k * dw.row
        # A column is its own transpose.
        to = block if is_column else dwt
        if adds and not is_column:
            transpose_matrix(ctx, dwt, some, block, dw.row, some, columns)
        sum_over_rows(
            ctx, part, Matrix(to, some), Strided(dz.at, 1, dz.row), Matrix(x.at + k, x.step),
            Size(columns, depth, some), adds,
        )  # fmt: skip
        if not is_column:
            transpose_matrix(ctx, block, dw.row, dwt, some, columns, some)
        k += some


@subroutine
def weights_of_rows(ctx, part, op, gradient, area, begin, end):
    """An area of dW from rows begin, ..., end-1 of the batch; with row 0 of dW also of db."""
    n_in, n_out = op.n_in, op.n_out
    x, dz = buffer(ctx, op.x) + begin * n_in, buffer(ctx, op.da) + begin * n_out
    ones = Strided(reals(ctx, ctx.one), 1, 0)
    j = area.j
    while j < area.j_end:
        columns = min(block_columns(x), area.j_end - j)
        right = Matrix(dz + j, n_out)
        k = area.i
        while k < area.i_end:
            rows = min(BLOCK_ROWS, area.i_end - k)
            dw, left = Matrix(gradient.w + (k * n_out + j), n_out), Strided(x + k, 1, n_in)
            size = Size(rows, end - begin, columns)
            if sums_transposed(x, rows, columns, end - begin):
                transposed_weights_of_rows(ctx, part, dw, left, right, size, gradient.w_adds)
            else:
                sum_over_rows(ctx, part, dw, left, right, size, gradient.w_adds)
            k += rows
        if area.i == 0 and area.i_end > 0 and op.b != NONE:
            sum_over_rows(
                ctx, part, Matrix(gradient.b + j, n_out), ones, right,
                Size(1, end - begin, columns), gradient.b_adds,
            )  # fmt: skip
        j += columns


@subroutine
def is_penalised(op):
    """Whether there is an l1 or l2 penalty."""
    return op.arg1 != 0.0 or op.arg2 != 0.0


@subroutine
def starts_with_penalty(ctx, op):
    """Whether dW starts with the derivative of the penalties; a continued piece has started."""
    return is_penalised(op) and not is_continued(ctx)


@subroutine
def write_penalty_derivative(ctx, op, at, rows, columns):
    """dW = (l1 sign(W) + 2 l2 W) penalty_scale for a block of W that begins at element `at`."""
    w = reals(ctx, ctx.params) + (op.w + at)
    dw = reals(ctx, ctx.grad) + (op.w + at)
    zero = like(w, 0)
    l1, l2 = like(w, op.arg1 * ctx.penalty_scale), like(w, 2.0 * op.arg2 * ctx.penalty_scale)
    for r in range(rows):
        source, out = w + r * op.n_out, dw + r * op.n_out
        for c in range(columns):
            v = source[c]
            sign = l1 if v > zero else (-l1 if v < zero else zero)
            out[c] = sign + l2 * v


@kernel
def transpose_weights(ctx, part, parts):
    """Wt (n_out, n_in) into the scratch space, so that dx can read W along its rows."""
    op = op_of(ctx)
    n_in, n_out = op.n_in, op.n_out
    w, wt = reals(ctx, ctx.params) + op.w, reals(ctx, ctx.scratch)
    k, k_end = share(n_in, 16, part, parts)
    transpose_matrix(ctx, wt + k, n_in, w + k * n_out, n_out, k_end - k, n_out)
    return 0


@kernel
def dense_inputs(ctx, part, parts):
    """dx = dz Wt, or dx + dz Wt if op.adds, turned into dz of the operation below, by blocks.

    dz (m, n_out), Wt (n_out, n_in) in the scratch space; writes dx (m, n_in).
    """
    op = op_of(ctx)
    n_in, n_out = op.n_in, op.n_out
    dz, dx, wt = buffer(ctx, op.da), buffer(ctx, op.dx), reals(ctx, ctx.scratch)
    below = op_number(ctx, op.below)
    z, a = buffer(ctx, below.z), buffer(ctx, below.a)
    zeros = Matrix(reals(ctx, ctx.zeros), 0)
    area = rows_or_columns(ctx, n_in, part, parts)
    k = area.j
    while k < area.j_end:
        columns = min(block_columns(dz), area.j_end - k)
        most_rows = rows_of_block(ctx, area.i_end - area.i, columns, n_out)
        i = area.i
        while i < area.i_end:
            rows = min(most_rows, area.i_end - i)
            at = i * n_in + k
            c = Matrix(dx + at, n_in)
            multiply(
                ctx, part, c, c if op.adds else zeros, Strided(dz + i * n_out, n_out, 1),
                Matrix(wt + k, n_in), Size(rows, n_out, columns), 0,
            )  # fmt: skip
            apply_epilogue(ctx, z + at, a + at, dx + at, rows, columns, n_in, below)
            i += rows
        k += columns
    return 0


@kernel
def transpose_gradient(ctx, part, parts):
    """dzt (n_out, m) into the scratch space, where that is less work than transposing W."""
    op = op_of(ctx)
    n_out, m = op.n_out, ctx.m
    dz, dzt = buffer(ctx, op.da), reals(ctx, ctx.scratch)
    j, j_end = share(n_out, 16, part, parts)
    transpose_matrix(ctx, dzt + j * m, m, dz + j, n_out, m, j_end - j)
    return 0


@kernel
def dense_inputs_transposed(ctx, part, parts):
    """dxt = W dzt, transposed into dx and turned into dz of the operation below, by blocks.

    W (n_in, n_out), dzt (n_out, m) in the scratch space, and dxt (n_in, m) behind it; writes dx
    (m, n_in), with the bits of :func:`dense_inputs`. op.adds must be 0.
    """
    op = op_of(ctx)
    n_in, n_out, m = op.n_in, op.n_out, ctx.m
    dx = buffer(ctx, op.dx)
    w, dzt = reals(ctx, ctx.params) + op.w, reals(ctx, ctx.scratch)
    dxt = dzt + n_out * ctx.capacity
    below = op_number(ctx, op.below)
    z, a = buffer(ctx, below.z), buffer(ctx, below.a)
    zeros = Matrix(reals(ctx, ctx.zeros), 0)
    k, k_end = share(n_in, MR, part, parts)
    while k < k_end:
        columns = min(BLOCK_ROWS, k_end - k)
        i = 0
        while i < m:
            rows = min(block_columns(dx), m - i)
            block = dxt + (k * m + i)
            multiply(
                ctx, part, Matrix(block, m), zeros, Strided(w + k * n_out, n_out, 1),
                Matrix(dzt + i, m), Size(columns, n_out, rows), 0,
            )  # fmt: skip
            at = i * n_in + k
            transpose_matrix(ctx, dx + at, n_in, block, m, columns, rows)
            apply_epilogue(ctx, z + at, a + at, dx + at, rows, columns, n_in, below)
            i += rows
        k += columns
    return 0
