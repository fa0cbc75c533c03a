"""The activation operation, and the epilogues: each activation and its derivative.

An epilogue ``name(z, a, da, count, op)`` finds the weighted sums in a and replaces them by act(z);
``name_derivative`` turns da into dz = da act'(z). The formulas are those of
``reference/activation.py``. The identity has neither: there is no epilogue without an activation.
"""

from __future__ import annotations

from ..constants import SELU_ALPHA, SELU_SCALE
from . import elementary
from .context import add_to_gradient, apply_epilogue, buffer, op_of, rows_of_part
from .elementary import exp, expm1, log1p, normal_cdf, normal_density
from .kernels import epilogue, kernel
from .memory import like

_SELU_SHIFT = SELU_SCALE * SELU_ALPHA


@kernel
def activation_forward(ctx, part, parts):
    """a = act(x) by the epilogue; x and a are (m, n_out); split by rows of the batch."""
    op = op_of(ctx)
    n = op.n_out
    begin, end = rows_of_part(ctx, part, parts)
    x, a = buffer(ctx, op.x) + begin * n, buffer(ctx, op.a) + begin * n
    for i in range((end - begin) * n):
        a[i] = x[i]
    apply_epilogue(ctx, x, a, a, end - begin, n, n, op)
    return 0


@kernel
def activation_inputs(ctx, part, parts):
    """dx = dz, or dx + dz if op.adds, turned into dz of the operation below; split by rows."""
    op = op_of(ctx)
    add_to_gradient(ctx, op.dx, op.da, op.adds, op.below, part, parts)
    return 0


@epilogue
def step(z, a, da, count, op):
    zero, one = like(a, 0), like(a, 1)
    for i in range(count):
        a[i] = one if a[i] > zero else zero
    return 0


@epilogue
def step_derivative(z, a, da, count, op):
    zero = like(a, 0)
    for i in range(count):
        da[i] = zero
    return 0


@epilogue
def sigmoid(z, a, da, count, op):
    for i in range(count):
        a[i] = elementary.sigmoid(a[i])
    return 0


@epilogue
def sigmoid_derivative(z, a, da, count, op):
    one = like(a, 1)
    for i in range(count):
        da[i] = da[i] * (a[i] * (one - a[i]))
    return 0


@epilogue
def tanh(z, a, da, count, op):
    for i in range(count):
        a[i] = elementary.tanh(a[i])
    return 0


@epilogue
def tanh_derivative(z, a, da, count, op):
    one = like(a, 1)
    for i in range(count):
        da[i] = da[i] * (one - a[i] * a[i])
    return 0


@epilogue
def relu(z, a, da, count, op):
    """NaN stays NaN."""
    zero = like(a, 0)
    for i in range(count):
        a[i] = zero if a[i] <= zero else a[i]
    return 0


@epilogue
def relu_derivative(z, a, da, count, op):
    zero = like(a, 0)
    for i in range(count):
        da[i] = da[i] if a[i] > zero else zero
    return 0


@epilogue
def leaky_relu(z, a, da, count, op):
    zero, slope = like(a, 0), like(a, op.arg0)
    for i in range(count):
        a[i] = a[i] if a[i] > zero else slope * a[i]
    return 0


@epilogue
def leaky_relu_derivative(z, a, da, count, op):
    zero, slope = like(a, 0), like(a, op.arg0)
    for i in range(count):
        da[i] = da[i] if a[i] > zero else slope * da[i]
    return 0


@epilogue
def elu(z, a, da, count, op):
    zero, alpha = like(a, 0), like(a, op.arg0)
    for i in range(count):
        below = alpha * expm1(a[i])
        a[i] = a[i] if a[i] > zero else below
    return 0


@epilogue
def elu_derivative(z, a, da, count, op):
    zero, one, alpha = like(a, 0), like(a, 1), like(a, op.arg0)
    for i in range(count):
        da[i] = da[i] * (one if a[i] > zero else a[i] + alpha)
    return 0


@epilogue
def selu(z, a, da, count, op):
    zero, scale, alpha = like(a, 0), like(a, SELU_SCALE), like(a, SELU_ALPHA)
    for i in range(count):
        below = alpha * expm1(a[i])
        a[i] = scale * (a[i] if a[i] > zero else below)
    return 0


@epilogue
def selu_derivative(z, a, da, count, op):
    zero, scale, shift = like(a, 0), like(a, SELU_SCALE), like(a, _SELU_SHIFT)
    for i in range(count):
        da[i] = da[i] * (scale if a[i] > zero else a[i] + shift)
    return 0


@epilogue
def gelu(z, a, da, count, op):
    for i in range(count):
        a[i] = a[i] * normal_cdf(a[i])
    return 0


@epilogue
def gelu_derivative(z, a, da, count, op):
    for i in range(count):
        da[i] = da[i] * (normal_cdf(z[i]) + z[i] * normal_density(z[i]))
    return 0


@epilogue
def silu(z, a, da, count, op):
    for i in range(count):
        a[i] = a[i] * elementary.sigmoid(a[i])
    return 0


@epilogue
def silu_derivative(z, a, da, count, op):
    one = like(a, 1)
    for i in range(count):
        s = elementary.sigmoid(z[i])
        da[i] = da[i] * (s * (one + z[i] * (one - s)))
    return 0


@epilogue
def softplus(z, a, da, count, op):
    zero = like(a, 0)
    for i in range(count):
        rise = zero if a[i] < zero else a[i]
        a[i] = rise + log1p(exp(-abs(a[i])))
    return 0


@epilogue
def softplus_derivative(z, a, da, count, op):
    for i in range(count):
        da[i] = da[i] * elementary.sigmoid(z[i])
    return 0


@epilogue
def mish(z, a, da, count, op):
    for i in range(count):
        a[i] = a[i] * elementary.tanh_of_softplus(a[i])
    return 0


@epilogue
def mish_derivative(z, a, da, count, op):
    one = like(a, 1)
    for i in range(count):
        t = elementary.tanh_of_softplus(z[i])
        da[i] = da[i] * (t + z[i] * (one - t * t) * elementary.sigmoid(z[i]))
    return 0
