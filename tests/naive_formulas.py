"""Formulas of activations, vectors and penalties, for the oracle. Imports nothing of fastnn."""

import math

from naive_losses import logistic, softmax

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def normal_cdf(z):
    return math.erfc(-z / math.sqrt(2)) / 2


def log1p_exp(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def activate(act, z):
    """act is a name, or a pair of a name and its argument."""
    name, argument = act if isinstance(act, tuple) else (act, None)
    if name == "identity":
        return z
    if name == "step":
        return 1.0 if z > 0 else 0.0
    if name == "sigmoid":
        return logistic(z)
    if name == "tanh":
        return math.tanh(z)
    if name == "relu":
        return max(0.0, z)
    if name == "leaky_relu":
        return z if z > 0 else (0.01 if argument is None else argument) * z
    if name == "elu":
        return z if z > 0 else (1.0 if argument is None else argument) * math.expm1(z)
    if name == "selu":
        return SELU_SCALE * (z if z > 0 else SELU_ALPHA * math.expm1(z))
    if name == "gelu":
        return z * normal_cdf(z)
    if name == "silu":
        return z * logistic(z)
    if name == "softplus":
        return log1p_exp(z)
    if name == "mish":
        return z * math.tanh(log1p_exp(z))
    raise KeyError(name)


def derivative(act, z):
    """The derivative of an elementwise activation."""
    name, argument = act if isinstance(act, tuple) else (act, None)
    if name == "identity":
        return 1.0
    if name == "step":
        return 0.0
    if name == "sigmoid":
        return logistic(z) * logistic(-z)
    if name == "tanh":
        return 1 - math.tanh(z) ** 2
    if name == "relu":
        return 1.0 if z > 0 else 0.0
    if name == "leaky_relu":
        return 1.0 if z > 0 else (0.01 if argument is None else argument)
    if name == "elu":
        return 1.0 if z > 0 else (1.0 if argument is None else argument) * math.exp(z)
    if name == "selu":
        return SELU_SCALE * (1.0 if z > 0 else SELU_ALPHA * math.exp(z))
    if name == "gelu":
        return normal_cdf(z) + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    if name == "silu":
        return logistic(z) + z * logistic(z) * logistic(-z)
    if name == "softplus":
        return logistic(z)
    if name == "mish":
        t = math.tanh(log1p_exp(z))
        return t + z * (1 - t * t) * logistic(z)
    raise KeyError(name)


def activate_row(act, z):
    """A row of weighted sums to a row of activations; softmax looks at all of them."""
    return softmax(z) if act == "softmax" else [activate(act, v) for v in z]


def delta_row(act, z, da):
    """The derivative by z of what has the derivative da by a."""
    if act == "softmax":
        a = softmax(z)
        return [sum(da[i] * a[i] * ((i == j) - a[j]) for i in range(len(a))) for j in range(len(a))]
    return [da[j] * derivative(act, z[j]) for j in range(len(z))]


def row_times(x, W):
    """x W"""
    return [sum(x[i] * W[i][j] for i in range(len(x))) for j in range(len(W[0]))]


def row_times_transposed(y, W):
    """y Wt"""
    return [sum(y[j] * W[i][j] for j in range(len(y))) for i in range(len(W))]


def outer(x, y):
    """xt y"""
    return [[u * v for v in y] for u in x]


def add(x, y):
    return [u + v for u, v in zip(x, y, strict=True)]


def penalty(W, l1, l2):
    """l1 sum |W| + l2 sum W^2"""
    return sum(l1 * abs(value) + l2 * value**2 for row in W for value in row)


def penalty_derivative(W, l1, l2):
    return [[l1 * ((w > 0) - (w < 0)) + 2 * l2 * w for w in row] for row in W]
