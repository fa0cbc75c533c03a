"""Loss heads: the loss of every row of the batch, and the gradient where backward starts.

Each reads the output of the last row, a (m, n_out), and the targets t (m, n_out). It writes the
loss of each row in float64 and da = scale dC/da, which the epilogue turns into the last row's dz.
The cross entropies take logits: their gradient is a - y, and nothing overflows.
"""

from __future__ import annotations

import numpy as np

from ..tables import Loss
from .elementary import exp, log, log1p, sigmoid
from .kernels import leaf, subroutine
from .memory import doubles, like, row_at
from .products import ROW_BYTES, buffer, epilogue, share

_MSE = int(Loss.mse)


@subroutine
def finish(ctx, row, i):
    """Turn row i of the head's da into the dz of the plan row below."""
    below = row_at(ctx, ctx.rows + row.below * ROW_BYTES)
    at, n = i * row.n_in, row.n_in
    z, a, da = buffer(ctx, below.z), buffer(ctx, below.a), buffer(ctx, row.dx)
    epilogue(ctx, z + at, a + at, da + at, 1, n, n, below)


@leaf
def squared_error(ctx, part, parts):
    """l_i = sum over j of (a_ij - t_ij)^2, for mse divided by n_out; split by rows."""
    row = row_at(ctx, ctx.row)
    n = row.n_in
    output, target, gradient = buffer(ctx, row.x), buffer(ctx, ctx.target), buffer(ctx, row.dx)
    loss = doubles(ctx, ctx.row_loss)
    share_of_output = 1.0 / n if row.code == _MSE else 1.0
    factor = like(output, 2.0 * ctx.scale * share_of_output)
    for i in range(share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)):
        a, t, da = output + i * n, target + i * n, gradient + i * n
        total = 0.0
        for j in range(n):
            error = a[j] - t[j]
            total += np.float64(error) * np.float64(error)
            da[j] = factor * error
        loss[i] = total * share_of_output
        finish(ctx, row, i)
    return 0


@leaf
def binary_cross_entropy(ctx, part, parts):
    """l_i = sum over j of max(z, 0) - z t + log(1 + e^-|z|), from logits; split by rows."""
    row = row_at(ctx, ctx.row)
    n = row.n_in
    output, target, gradient = buffer(ctx, row.x), buffer(ctx, ctx.target), buffer(ctx, row.dx)
    loss = doubles(ctx, ctx.row_loss)
    factor = like(output, ctx.scale)
    for i in range(share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)):
        z, t, da = output + i * n, target + i * n, gradient + i * n
        for j in range(n):
            da[j] = factor * (sigmoid(z[j]) - t[j])
        total = 0.0
        for j in range(n):
            x = np.float64(z[j])
            rise = 0.0 if x < 0.0 else x
            total += rise - x * np.float64(t[j]) + log1p(exp(-abs(x)))
        loss[i] = total
        finish(ctx, row, i)
    return 0


@leaf
def cross_entropy(ctx, part, parts):
    """l_i = sum over j of t_ij (log sum e^z - z_ij), with the row's maximum subtracted first."""
    row = row_at(ctx, ctx.row)
    n = row.n_in
    output, target, gradient = buffer(ctx, row.x), buffer(ctx, ctx.target), buffer(ctx, row.dx)
    loss = doubles(ctx, ctx.row_loss)
    scale = like(output, ctx.scale)
    for i in range(share(ctx.m, 1, part, parts), share(ctx.m, 1, part + 1, parts)):
        z, t, da = output + i * n, target + i * n, gradient + i * n
        highest = z[0]
        for j in range(1, n):
            highest = z[j] if z[j] > highest else highest
        for j in range(n):
            da[j] = exp(z[j] - highest)
        total = like(z, 0)
        for j in range(n):
            total += da[j]
        log_total = log(np.float64(total))
        entropy = 0.0
        for j in range(n):
            entropy += np.float64(t[j]) * (log_total - (np.float64(z[j]) - np.float64(highest)))
            da[j] = scale * (da[j] / total - t[j])
        loss[i] = entropy
        finish(ctx, row, i)
    return 0
