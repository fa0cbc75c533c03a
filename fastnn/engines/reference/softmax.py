"""Softmax: a = e^x / sum e^x over each row."""

from __future__ import annotations

import numpy as np


def softmax(z, axis=-1):
    """e^z / sum e^z, with the maximum subtracted first so that nothing overflows"""
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_inputs(a, da, axis=-1):
    """dz = a (da - sum of da a): each output depends on every input of its row"""
    return a * (da - (da * a).sum(axis=axis, keepdims=True))


# -- the operation --------------------------------------------------------------------------------


def forward(p, index, op):
    """a = softmax(x)"""
    p.write(index, "a", softmax(p.value(op, "x")))


def backward(p, index, op):
    """dx = a (da - sum of da a)"""
    p.send(index, softmax_inputs(p.value(op, "a"), p.gradient(index)))
