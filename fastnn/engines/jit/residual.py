"""The residual operation: a = act(x + x2)."""

from __future__ import annotations

from .context import add_to_gradient, apply_epilogue, buffer, op_of, rows_of_part
from .kernels import kernel


@kernel
def residual_forward(ctx, part, parts):
    """z = x + x2, then a = act(z) by the epilogue; all are (m, n_out); split by rows."""
    op = op_of(ctx)
    n = op.n_out
    begin, end = rows_of_part(ctx, part, parts)
    x, x2, z, a = buffer(ctx, op.x), buffer(ctx, op.x2), buffer(ctx, op.z), buffer(ctx, op.a)
    for i in range(begin * n, end * n):
        z[i] = x[i] + x2[i]
    if op.z != op.a:
        for i in range(begin * n, end * n):
            a[i] = z[i]
    at = begin * n
    apply_epilogue(ctx, z + at, a + at, a + at, end - begin, n, n, op)
    return 0


@kernel
def residual_inputs(ctx, part, parts):
    """dx = dz, or dx + dz if op.adds, turned into dz of the operation below; split by rows."""
    op = op_of(ctx)
    add_to_gradient(ctx, op.dx, op.da, op.adds, op.below, part, parts)
    return 0


@kernel
def residual_shortcut(ctx, part, parts):
    """The same for the second operand: dx2, op.adds2, op.below2."""
    op = op_of(ctx)
    add_to_gradient(ctx, op.dx2, op.da, op.adds2, op.below2, part, parts)
    return 0
