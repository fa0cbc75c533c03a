"""Losses: the loss of each row in float64, and the gradient of their sum by the outputs."""

from __future__ import annotations

import numpy as np

from ...tables import Loss
from .activation import like, sigmoid
from .softmax import softmax


def sse(a, t):
    """l = sum over outputs of (a - t)^2"""
    error = a - t
    return np.square(error, dtype=np.float64).sum(axis=1), 2 * error


def mse(a, t):
    """l = mean over outputs of (a - t)^2"""
    loss, gradient = sse(a, t)
    return loss / a.shape[1], gradient / a.shape[1]


def binary_cross_entropy(z, t):
    """l = sum over outputs of -(t log s + (1-t) log (1-s)) with s = sigmoid(z); dz = s - t"""
    x = z.astype(np.float64)
    loss = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    return loss.sum(axis=1), sigmoid(z) - t


def cross_entropy(z, t):
    """l = -sum over classes of t log p with p = softmax(z); dz = p - t"""
    x = z.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return -(t * log_p).sum(axis=1), softmax(z) - t


LOSSES = {
    Loss.mse: mse,
    Loss.sse: sse,
    Loss.binary_cross_entropy: binary_cross_entropy,
    Loss.cross_entropy: cross_entropy,
}


def smooth(loss, t, smoothing):
    """Targets moved towards the uniform ones: t (1 - e) + e / n (C. Szegedy et al., 2016, sec. 7)

    n is the number of classes, which is 2 for each output of the binary cross-entropy.
    """
    n = t.shape[1] if loss == Loss.cross_entropy else 2
    return t * like(1 - smoothing, t) + like(smoothing / n, t)


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """The weighted sum of the rows' losses; starts the backward pass."""
    code = Loss(op.code)
    targets = smooth(code, p.targets, op.arg0) if op.arg0 else p.targets
    if code == Loss.custom:
        losses, gradient = p.ws.plan.user_loss.rows(targets, p.value(op, "x"))
    else:
        losses, gradient = LOSSES[code](p.value(op, "x"), targets)
    p.loss += float((losses * p.weights).sum())
    if p.differentiates:
        p.send(index, gradient * (p.weights * p.scale)[:, None].astype(gradient.dtype))
