"""Activations: a = g(z), and g'(z), which is written with a where that is simpler."""

from __future__ import annotations

import numpy as np

from ...tables import Act
from ..constants import SELU_ALPHA, SELU_SCALE


def like(value, array):
    """A number in the type of an array."""
    return array.dtype.type(value)


def identity(z):
    """g(z) = z"""
    return z


def identity_derivative(z, a):
    """g'(z) = 1"""
    return np.ones_like(a)


def step(z):
    """g(z) = 1 where z > 0, else 0: the perceptron's activation"""
    return (z > 0).astype(z.dtype)


def step_derivative(z, a):
    """g'(z) = 0: gradient descent cannot train through a step"""
    return np.zeros_like(a)


def sigmoid(z):
    """g(z) = 1 / (1 + e^-z), from e^-|z| so that nothing overflows"""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def sigmoid_derivative(z, a):
    """g'(z) = g(z) (1 - g(z))"""
    return a * (1 - a)


def tanh(z):
    """g(z) = (e^z - e^-z) / (e^z + e^-z)"""
    return np.tanh(z)


def tanh_derivative(z, a):
    """g'(z) = 1 - g(z)^2"""
    return 1 - a * a


def relu(z):
    """g(z) = max(0, z)"""
    return np.maximum(z, 0)


def relu_derivative(z, a):
    """g'(z) = 1 where z > 0, else 0"""
    return (a > 0).astype(a.dtype)


def leaky_relu(z, slope):
    """g(z) = z where z > 0, else slope z (A. L. Maas et al., 2013)"""
    return np.where(z > 0, z, like(slope, z) * z)


def leaky_relu_derivative(z, a, slope):
    """g'(z) = 1 where z > 0, else slope"""
    return np.where(a > 0, like(1, a), like(slope, a))


def elu(z, alpha):
    """g(z) = z where z > 0, else alpha (e^z - 1) (D.-A. Clevert et al., 2016)"""
    return np.where(z > 0, z, like(alpha, z) * np.expm1(np.minimum(z, 0)))


def elu_derivative(z, a, alpha):
    """g'(z) = 1 where z > 0, else alpha e^z = g(z) + alpha"""
    return np.where(a > 0, like(1, a), a + like(alpha, a))


def selu(z):
    """g(z) = scale elu(z) with the alpha and scale of self-normalising networks"""
    return like(SELU_SCALE, z) * elu(z, SELU_ALPHA)


def selu_derivative(z, a):
    """g'(z) = scale where z > 0, else g(z) + scale alpha"""
    scale, shift = like(SELU_SCALE, a), like(SELU_SCALE * SELU_ALPHA, a)
    return np.where(a > 0, scale, a + shift)


def normal_cdf(z):
    """P(z) = erfc(-z / sqrt 2) / 2"""
    # Imported when it is needed: SciPy takes longer to import than a short fit to run.
    from scipy.special import ndtr

    return ndtr(z)


def gelu(z):
    """g(z) = z P(z) with P the normal distribution function (D. Hendrycks and K. Gimpel, 2016)"""
    return z * normal_cdf(z)


def gelu_derivative(z, a):
    """g'(z) = P(z) + z p(z) with p the normal density"""
    return normal_cdf(z) + z * np.exp(-z * z / 2) * like(1 / np.sqrt(2 * np.pi), z)


def silu(z):
    """g(z) = z sigmoid(z) (S. Elfwing et al., 2018)"""
    return z * sigmoid(z)


def silu_derivative(z, a):
    """g'(z) = s (1 + z (1 - s)) with s = sigmoid(z)"""
    s = sigmoid(z)
    return s * (1 + z * (1 - s))


def softplus(z):
    """g(z) = log(1 + e^z), as max(z, 0) + log(1 + e^-|z|)"""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def softplus_derivative(z, a):
    """g'(z) = sigmoid(z)"""
    return sigmoid(z)


def mish(z):
    """g(z) = z tanh(softplus(z)) (D. Misra, 2020)"""
    return z * np.tanh(softplus(z))


def mish_derivative(z, a):
    """g'(z) = t + z (1 - t^2) sigmoid(z) with t = tanh(softplus(z))"""
    t = np.tanh(softplus(z))
    return t + z * (1 - t * t) * sigmoid(z)


_WITH_ARGUMENT = {int(Act.leaky_relu), int(Act.elu)}


def activate(act, z, argument=0.0):
    """g(z) for an elementwise activation."""
    function = globals()[Act(act).name]
    return function(z, argument) if int(act) in _WITH_ARGUMENT else function(z)


def derivative(act, z, a, argument=0.0):
    """g'(z) for an elementwise activation."""
    function = globals()[f"{Act(act).name}_derivative"]
    return function(z, a, argument) if int(act) in _WITH_ARGUMENT else function(z, a)


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """a = g(x)"""
    p.write(index, "a", activate(op.code, p.value(op, "x"), op.arg0))


def backward(p, index, op):
    """dx = dz: the derivative was applied when da was written."""
    p.send(index, p.gradient(index))
