"""Optimizer steps on the flat vectors, in place."""

from __future__ import annotations

import numpy as np

from ...tables import Rule
from .activation import like


def sgd(w, g, slots, hyper):
    """w = w - lr g"""
    w -= like(hyper[0], w) * g


def momentum(w, g, slots, hyper):
    """v = mu v - lr g, w = w + v"""
    (v,) = slots
    rate, mu = (like(value, w) for value in hyper[:2])
    v *= mu
    v -= rate * g
    w += v


def nesterov(w, g, slots, hyper):
    """v = mu v - lr g, w = w + mu v - lr g: the gradient at the place that momentum leads to

    (I. Sutskever et al., 2013, rearranged so that w is the place where g is taken.)
    """
    (v,) = slots
    rate, mu = (like(value, w) for value in hyper[:2])
    v *= mu
    v -= rate * g
    w += mu * v - rate * g


def adam(w, g, slots, hyper):
    """m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, w = w - lr m / (sqrt v + eps)"""
    m, v = slots
    rate, epsilon, b1, b2 = (like(value, w) for value in hyper[:4])
    m *= b1
    m += like(1 - hyper[2], w) * g
    v *= b2
    v += like(1 - hyper[3], w) * (g * g)
    w -= rate * m / (np.sqrt(v) + epsilon)


UPDATES = {
    Rule.sgd: sgd,
    Rule.momentum: momentum,
    Rule.nesterov: nesterov,
    Rule.adam: adam,
}
