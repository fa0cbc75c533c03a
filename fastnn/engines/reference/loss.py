"""Losses: the loss of each row in float64, and the gradient of their sum by the outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...tables import NONE, Loss
from .activation import like, sigmoid
from .softmax import softmax


def sse(a, t):
    """l = sum over outputs of (a - t)^2"""
    error = a - t
    return np.square(error, dtype=np.float64).sum(axis=1), 2 * error


def mse(a, t):
    """l = mean over outputs of (a - t)^2"""
    return _mean(sse(a, t))


def squared_error(a, t, factor=1.0):
    """l = factor times the sum over outputs of (a - t)^2 / 2, with the gradient of factor 1"""
    error = a - t
    return np.square(error, dtype=np.float64).sum(axis=1) * (factor / 2), error


def _mean(of_sums):
    """The mean over outputs, from the sum and its gradient."""
    losses, gradient = of_sums
    n = gradient.shape[1]
    return losses / n, gradient / n


def _sum(losses):
    """The rows' sums over outputs, in float64."""
    return losses.sum(axis=1, dtype=np.float64)


def mae(a, t):
    """l = mean over outputs of |a - t|, whose derivative is 0 at 0"""
    error = a - t
    return _mean((_sum(np.abs(error)), np.sign(error)))


def huber(a, t, delta):
    """l = mean over outputs of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2); e = a - t

    (P. J. Huber, Robust estimation of a location parameter, 1964)
    """
    error = a - t
    inner = np.clip(error, -like(delta, a), like(delta, a))
    return _mean((_sum(inner * (error - inner / 2)), inner))


def quantile(a, t, q):
    """l = mean over outputs of max(q e, (q - 1) e), e = t - a, whose derivative is 0 at 0

    q is one number, or one for each output (R. Koenker and G. Bassett, Regression quantiles, 1978).
    """
    error, q = t - a, like(q, a)
    gradient = np.where(error > 0, -q, np.where(error < 0, 1 - q, 0))
    return _mean((_sum(np.maximum(q * error, (q - 1) * error)), gradient))


def poisson(z, t):
    """l = sum over outputs of e^z - t z, for the logarithm z of a rate; dz = e^z - t"""
    rate = np.exp(z)
    return _sum(rate) - _sum(z.astype(np.float64) * t), rate - t


def hinge(z, t):
    """l = sum over outputs of max(0, 1 - s z), s = 2 t - 1"""
    sign = 2 * t - 1
    margin = np.maximum(1 - sign * z, 0)
    return _sum(margin), np.where(margin > 0, -sign, 0)


def squared_hinge(z, t):
    """l = sum over outputs of max(0, 1 - s z)^2, s = 2 t - 1"""
    sign = 2 * t - 1
    margin = np.maximum(1 - sign * z, 0)
    return np.square(margin, dtype=np.float64).sum(axis=1), -2 * sign * margin


def gaussian_nll(z, t):
    """l = sum over targets of (log 2 pi + s + (m - t)^2 e^-s) / 2

    z is the means m, then the logarithms s of the variances; t repeats the targets.
    dm = (m - t) e^-s, ds = (1 - (m - t)^2 e^-s) / 2 (D. A. Nix and A. S. Weigend, 1994).
    """
    c = z.shape[1] // 2
    error, s = z[:, :c] - t[:, :c], z[:, c:]
    dm = error * np.exp(-s)
    squares = error * dm
    losses = 0.5 * (c * np.log(2 * np.pi) + _sum(s) + _sum(squares))
    return losses, np.concatenate([dm, 0.5 - squares / 2], axis=1)


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


def focal(z, t, gamma):
    """l = -(1 - p)^gamma log p, p the probability of the true class by sigmoid or softmax

    t is one-hot, or 0 or 1 for one output (T.-Y. Lin et al., Focal Loss for Dense Object Detection,
    2017, eq. 4). With one output and x = z or -z: dx = (1 - p)^gamma (gamma p log p - (1 - p)).
    With several: dz_j = (1 - p)^gamma (1 - gamma p log p / (1 - p)) (p_j - t_j).
    """
    x = z.astype(np.float64)
    if z.shape[1] == 1:  # the softmax of z and 0
        x, t = np.concatenate([x, 0 * x], axis=1), np.concatenate([t, 1 - t], axis=1)
    x = x - x.max(axis=1, keepdims=True)
    e = np.exp(x)
    total = e.sum(axis=1, keepdims=True)
    own, others = (t * e).sum(axis=1, keepdims=True), ((1 - t) * e).sum(axis=1, keepdims=True)
    p, not_p = own / total, others / total
    # From the smaller of both, so that nothing cancels.
    far = (t * x).sum(axis=1, keepdims=True) - np.log(total)
    log_p = np.where(others <= own, -np.log1p(others / own), far)
    power = not_p**gamma
    factor = power * (1 - gamma * p * np.where(others > 0, log_p / not_p, -1))
    gradient = factor * ((1 - t) * e / total - t * not_p)
    return (-power * log_p)[:, 0], gradient[:, : z.shape[1]].astype(z.dtype)


LOSSES: dict[Loss, Callable] = {
    Loss.mse: mse,
    Loss.sse: sse,
    Loss.binary_cross_entropy: binary_cross_entropy,
    Loss.cross_entropy: cross_entropy,
    Loss.mae: mae,
    Loss.huber: huber,
    Loss.quantile: quantile,
    Loss.poisson: poisson,
    Loss.hinge: hinge,
    Loss.squared_hinge: squared_hinge,
    Loss.focal: focal,
    Loss.gaussian_nll: gaussian_nll,
    Loss.squared_error: squared_error,
}

#: Losses that take an argument besides outputs and targets.
WITH_ARGUMENT = frozenset({Loss.huber, Loss.quantile, Loss.focal, Loss.squared_error})


def smooth(loss, t, smoothing):
    """Targets moved towards the uniform ones: t (1 - e) + e / n (C. Szegedy et al., 2016, sec. 7)

    n is the number of classes, which is 2 for each output of the binary cross-entropy.
    """
    n = t.shape[1] if loss == Loss.cross_entropy else 2
    return t * like(1 - smoothing, t) + like(smoothing / n, t)


def mean_variance(z):
    """The means in the first half of the outputs, and e^s of the second"""
    c = z.shape[1] // 2
    return np.concatenate([z[:, :c], np.exp(z[:, c:])], axis=1)


#: Output functions by name: what a loss on logits makes of them.
OUTPUT_FUNCTIONS: dict[str, Callable] = {
    "sigmoid": sigmoid,
    "softmax": softmax,
    "exp": np.exp,
    "mean_variance": mean_variance,
}


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """The weighted sum of the rows' losses; starts the backward pass."""
    code, targets = Loss(op.code), p.targets
    arguments: tuple = ()
    if code in WITH_ARGUMENT:
        several = op.constants != NONE
        constants = p.ws.plan.constants[op.constants : op.constants + op.n_in]
        arguments = (constants if several else op.arg0,)
    elif op.arg0:
        targets = smooth(code, targets, op.arg0)
    rows_of = p.ws.plan.user_loss.rows if code == Loss.custom else None
    if rows_of is not None:
        losses, gradient = rows_of(targets, p.value(op, "x"))
    else:
        losses, gradient = LOSSES[code](p.value(op, "x"), targets, *arguments)
    p.loss += float((losses * p.weights).sum())
    if p.differentiates:
        p.send(index, gradient * (p.weights * p.scale)[:, None].astype(gradient.dtype))
