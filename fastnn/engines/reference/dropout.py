"""Dropout: a = x f, where f is 0 with the probability of the rate, else a constant.

N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.
"""

from __future__ import annotations

import math

import numpy as np

from ... import random
from ...tables import NONE


def factors(words, rate, scale):
    """f: the scale where a random word of 32 bits is not below the rate of all words, else 0."""
    threshold = min(math.floor(rate * 2.0**32 + 0.5), 2**32 - 1)
    return np.where(words >= threshold, scale, scale.dtype.type(0))


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """a = x f in training; in predictions x, times 1 - rate if arg1 says so"""
    x = p.value(op, "x")
    if not p.training:
        p.write(index, "a", x * x.dtype.type(1 - op.arg0) if op.arg1 else x)
        return
    rate = p.own_hyper(op, op.arg0)
    scale = x.dtype.type(1.0 if op.arg1 else 1 / (1 - rate))
    words = random.element_words(p.seed, op.stream, p.step, p.m, op.n_out, p.first_row)
    f = factors(words, rate, scale)
    saved = p.saved(op, op.n_out)
    if saved is not None:
        saved[:] = f
    p.write(index, "a", x * f)


def backward(p, index, op):
    """dx = da f"""
    if op.dx != NONE:
        p.send(index, p.gradient(index) * p.saved(op, op.n_out))
