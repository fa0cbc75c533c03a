"""BatchNorm: z = gamma (x - mean) / sqrt(variance + epsilon) + beta, then a = act(z).

S. Ioffe and C. Szegedy, Batch Normalization, 2015: algorithms 1 and 2, and the gradients of
section 3.
"""

from __future__ import annotations

import numpy as np

from ...tables import NONE
from .activation import activate


def batch_statistics(x):
    """The mean and the biased variance of each column, by two passes in float64 (algorithm 1)."""
    x = x.astype(np.float64)
    mean = x.mean(axis=0)
    return mean, np.square(x - mean).mean(axis=0)


def normalise(x, mean, variance, epsilon):
    """x-hat = (x - mean) / sqrt(variance + epsilon)"""
    return ((x - mean) / np.sqrt(variance + epsilon)).astype(x.dtype)


def batch_norm(normalised, gamma=None, beta=None):
    """z = gamma x-hat + beta"""
    return normalised if gamma is None else gamma * normalised + beta


def batch_norm_parameters(normalised, dz):
    """dgamma = the column sums of dz x-hat, dbeta = those of dz, in float64"""
    dz = dz.astype(np.float64)
    return (dz * normalised).sum(axis=0), dz.sum(axis=0)


def batch_norm_inputs(normalised, scale, dz):
    """dx = scale (dz - the mean of dz - x-hat times the mean of dz x-hat)

    The gradients of section 3 put together, with scale = gamma / sqrt(variance + epsilon).
    """
    dgamma, dbeta = batch_norm_parameters(normalised, dz)
    return scale * (dz - dbeta / len(dz) - normalised * (dgamma / len(dz)))


def running(old, batch, momentum):
    """running = momentum running + (1 - momentum) batch"""
    return momentum * old + (1 - momentum) * batch


# -- the operation --------------------------------------------------------------------------------


def uses_batch(p):
    """Whether the rows are normalised by their own statistics: one row has none."""
    return p.training and p.m > 1


def statistics(p, op):
    """The running mean and variance, as a view."""
    return p.ws.state[op.state : op.state + 2 * op.n_out].reshape(2, -1)


def left(p, op):
    """The means, 1 / sqrt(variance + epsilon) and unbiased variances that a forward pass leaves."""
    return p.ws.batch[op.batch : op.batch + 3 * op.n_out].reshape(3, -1)


def affine(p, index, op):
    """gamma and beta, or nothing."""
    return () if op.w == NONE else (p.parameter(index, "w"), p.parameter(index, "b"))


def folded(p, index, x):
    """z of an operation that the one below computes."""
    op = p.ws.table[index]
    mean, variance = statistics(p, op)
    return batch_norm(normalise(x, mean, variance, op.arg1), *affine(p, index, op))


def forward(p, index, op):
    """z, by the statistics of the batch or by the running ones, and a = act(z)"""
    if op.fold != NONE:
        return
    x = p.value(op, "x")
    mean, variance = batch_statistics(x) if uses_batch(p) else statistics(p, op).astype(np.float64)
    unbiased = variance * (p.m / (p.m - 1)) if uses_batch(p) else -1.0
    normalised = normalise(x, mean, variance, op.arg1)
    left(p, op)[:2] = mean, 1 / np.sqrt(variance + op.arg1)
    left(p, op)[2] = unbiased
    for name, array in (("mean", mean), ("variance", variance), ("normalised", normalised)):
        p.note(index, name, array.astype(x.dtype))
    z = batch_norm(normalised, *affine(p, index, op))
    p.write(index, "z", z)
    p.write(index, "a", activate(op.code, z, op.arg0))


def backward(p, index, op):
    """dgamma, dbeta and dx"""
    x, dz = p.value(op, "x"), p.gradient(index)
    mean, inverse, _ = left(p, op)
    normalised = (x - mean) * inverse
    scale = inverse
    if op.w != NONE:
        for field, gradient in zip("wb", batch_norm_parameters(normalised, dz), strict=True):
            p.add_gradient(index, field, gradient.astype(x.dtype))
        scale = p.parameter(index, "w") * inverse
    if op.dx != NONE:
        p.send(index, batch_norm_inputs(normalised, scale, dz) if uses_batch(p) else scale * dz)


def after_batch(p, index, op):
    """The running statistics move towards those of the batch."""
    mean, _, unbiased = left(p, op)
    for old, batch in zip(statistics(p, op), (mean, unbiased), strict=True):
        old[:] = np.where(unbiased < 0, old, running(old, batch, op.arg2))
