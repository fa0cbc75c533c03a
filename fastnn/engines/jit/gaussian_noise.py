"""Gaussian noise: a = x + std z with standard normal z, in training only."""

from __future__ import annotations

from .context import add_to_gradient, buffer, op_of, pack_of, row_in_batch, rows_of_part
from .kernels import kernel, subroutine
from .memory import doubles, like, words32
from .random import GROUP, TILE, draw_words, groups_of, to_normals


@kernel
def gaussian_noise_forward(ctx, part, parts):
    """a = x + std z; x and a are (m, n_out); split by rows of the batch.

    The normals are those of the elements of the whole batch, so neither parts nor pieces change
    them.
    """
    op = op_of(ctx)
    n = op.n_out
    begin, end = rows_of_part(ctx, part, parts)
    first, count = row_in_batch(ctx, begin) * n, (end - begin) * n
    x, a = buffer(ctx, op.x) + begin * n, buffer(ctx, op.a) + begin * n
    normals = doubles(ctx, pack_of(ctx, part))
    words = words32(ctx, pack_of(ctx, part) + 8 * TILE)
    i = 0
    while i < count:
        before = (first + i) % GROUP
        some = min(count - i, TILE - before)
        groups = groups_of(before + some)
        draw_words(ctx, words, (first + i) // GROUP, groups)
        to_normals(normals, words, groups)
        add_noise(a + i, x + i, normals + before, op.arg0, some)
        i += some
    return 0


@subroutine
def add_noise(out, x, normals, std, count):
    """out = x + std z for `count` elements; the noise is rounded to the network's type."""
    for i in range(count):
        out[i] = x[i] + like(x, std * normals[i])


@kernel
def gaussian_noise_inputs(ctx, part, parts):
    """dx = da, or dx + da if op.adds, turned into dz of the operation below; split by rows."""
    op = op_of(ctx)
    add_to_gradient(ctx, op.dx, op.da, op.adds, op.below, part, parts)
    return 0
