"""Optimizer steps on the flat vectors, in place."""

from __future__ import annotations

import numpy as np

from ...tables import COMMON, HYPER, Rule
from . import muon
from .activation import like


def sgd(w, g, slots, h):
    """w = w - lr g"""
    w -= like(h["lr"], w) * g


def momentum(w, g, slots, h):
    """v = mu v - lr g, w = w + v"""
    (v,) = slots
    v *= like(h["momentum"], w)
    v -= like(h["lr"], w) * g
    w += v


def nesterov(w, g, slots, h):
    """v = mu v - lr g, w = w + mu v - lr g: the gradient at the place that momentum leads to

    (I. Sutskever et al., 2013, rearranged so that w is the place where g is taken.)
    """
    (v,) = slots
    rate, mu = like(h["lr"], w), like(h["momentum"], w)
    v *= mu
    v -= rate * g
    w += mu * v - rate * g


def adam(w, g, slots, h):
    """m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, w = w - lr m / (sqrt v + eps)"""
    m, v = slots
    m *= like(h["beta1"], w)
    m += like(1 - h["beta1"], w) * g
    v *= like(h["beta2"], w)
    v += like(1 - h["beta2"], w) * (g * g)
    w -= like(h["lr"], w) * m / (np.sqrt(v) + like(h["epsilon"], w))


_RULES = {
    Rule.sgd: sgd,
    Rule.momentum: momentum,
    Rule.nesterov: nesterov,
    Rule.adam: adam,
    Rule.muon: adam,  # but for the matrices
}


def step(ws, hyper, p) -> None:
    """One step of the workspace's update from ws.grad; `p` is the pass that left the gradient."""
    update = ws.update
    names = HYPER[update.rule]
    given = dict(zip(names, hyper[: len(names)].tolist(), strict=True))
    _clip(ws, given["clip"])
    for begin, end, rate, decay in update.groups:
        part = slice(begin, end)
        w, g, slots = ws.params[part], ws.grad[part], [slot[part] for slot in ws.slots]
        h = given | {"lr": given["lr"] * rate}
        if given["coupled"] * decay:
            g = g + like(given["coupled"] * decay, w) * w
        if given["decoupled"] * decay:
            w -= like(given["decoupled"] * rate * decay, w) * w
        _RULES[update.rule](w, g, slots, h)
    for index, (begin, end, rate, decay) in update.matrices:
        shape = ws.table[index].n_in, ws.table[index].n_out
        vectors = (ws.params, ws.grad, *ws.slots)
        w, g, momentum, direction = (vector[begin:end].reshape(shape) for vector in vectors)
        h = given | {"matrix_lr": given["matrix_lr"] * rate}
        h["matrix_decoupled"] *= rate * decay
        muon.step(w, g, momentum, direction, h, update.turns)
    p.after_step()
    if update.averages and hyper[COMMON.index("average")]:
        now = np.concatenate([ws.params, ws.state])
        ws.average += like(given["average"], now) * (now - ws.average)


def _clip(ws, most: float) -> None:
    """Limit the norm of what is trained of the gradient, or every element."""
    g = ws.grad
    if ws.update.clips == "value":
        np.clip(g, -most, most, out=g)
    elif ws.update.clips == "norm":
        groups = [*ws.update.groups, *(group for _, group in ws.update.matrices)]
        trained = np.concatenate([g[begin:end] for begin, end, *_ in groups])
        norm = np.sqrt(np.square(trained.astype(np.float64)).sum())
        if not norm <= most:
            g *= like(most / norm, g)
