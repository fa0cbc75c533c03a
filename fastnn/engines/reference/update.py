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


def _moments(w, g, m, v, h):
    """m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2: of Adam and its relatives"""
    m *= like(h["beta1"], w)
    m += like(1 - h["beta1"], w) * g
    v *= like(h["beta2"], w)
    v += like(1 - h["beta2"], w) * (g * g)


def adam(w, g, slots, h):
    """w = w - lr m / (sqrt v + eps)"""
    m, v = slots
    _moments(w, g, m, v, h)
    w -= like(h["lr"], w) * m / (np.sqrt(v) + like(h["epsilon"], w))


def amsgrad(w, g, slots, h):
    """top = max(top, v), w = w - lr m / (sqrt top + eps)"""
    m, v, top = slots
    _moments(w, g, m, v, h)
    np.maximum(v, top, out=top)
    w -= like(h["lr"], w) * m / (np.sqrt(top) + like(h["epsilon"], w))


def nadam(w, g, slots, h):
    """w = w - lr (now g + next m) / (sqrt v + eps)"""
    m, v = slots
    _moments(w, g, m, v, h)
    towards = like(h["now"], w) * g + like(h["next"], w) * m
    w -= like(h["lr"], w) * towards / (np.sqrt(v) + like(h["epsilon"], w))


def radam(w, g, slots, h):
    """w = w - lr m (plain + adaptive / (sqrt v + eps)), where plain or adaptive is 0"""
    m, v = slots
    _moments(w, g, m, v, h)
    root = np.sqrt(v) + like(h["epsilon"], w)
    w -= like(h["lr"], w) * m * (like(h["plain"], w) + like(h["adaptive"], w) / root)


def lion(w, g, slots, h):
    """w = w - lr sign(b1 m + (1-b1) g), m = b2 m + (1-b2) g"""
    (m,) = slots
    w -= like(h["lr"], w) * np.sign(like(h["beta1"], w) * m + like(1 - h["beta1"], w) * g)
    m *= like(h["beta2"], w)
    m += like(1 - h["beta2"], w) * g


def adagrad(w, g, slots, h):
    """s = s + g^2, w = w - lr g / (sqrt s + eps)"""
    (s,) = slots
    s += g * g
    w -= like(h["lr"], w) * g / (np.sqrt(s) + like(h["epsilon"], w))


def adadelta(w, g, slots, h):
    """v = rho v + (1-rho) g^2, d = sqrt((u + eps) / (v + eps)) g, w = w - lr d

    u = rho u + (1-rho) d^2
    """
    v, u = slots
    rho, rest, epsilon = (like(x, w) for x in (h["rho"], 1 - h["rho"], h["epsilon"]))
    v *= rho
    v += rest * (g * g)
    d = np.sqrt((u + epsilon) / (v + epsilon)) * g
    u *= rho
    u += rest * (d * d)
    w -= like(h["lr"], w) * d


def rmsprop(w, g, slots, h):
    """v = rho v + (1-rho) g^2, w = w - lr g / (sqrt(v + inside) + outside)"""
    w -= _scaled(g, _squares(g, slots[0], h), h)


def rmsprop_momentum(w, g, slots, h):
    """v = rho v + (1-rho) g^2, b = mu b - lr g / (sqrt(v + inside) + outside), w = w + b"""
    v, b = slots
    b *= like(h["momentum"], w)
    b -= _scaled(g, _squares(g, v, h), h)
    w += b


def rmsprop_centered(w, g, slots, h):
    """As rmsprop, with v - a^2 for v, where a = rho a + (1-rho) g"""
    v, a = slots
    w -= _scaled(g, _spread(g, v, a, h), h)


def rmsprop_centered_momentum(w, g, slots, h):
    """As rmsprop_momentum, with v - a^2 for v, where a = rho a + (1-rho) g"""
    v, a, b = slots
    b *= like(h["momentum"], w)
    b -= _scaled(g, _spread(g, v, a, h), h)
    w += b


def _squares(g, v, h):
    """v = rho v + (1-rho) g^2"""
    v *= like(h["rho"], g)
    v += like(1 - h["rho"], g) * (g * g)
    return v


def _spread(g, v, a, h):
    """v - a^2 with a = rho a + (1-rho) g; rounding must not make it negative"""
    a *= like(h["rho"], g)
    a += like(1 - h["rho"], g) * g
    return np.maximum(_squares(g, v, h) - a * a, 0)


def _scaled(g, v, h):
    """lr g / (sqrt(v + inside) + outside)"""
    return like(h["lr"], g) * g / (np.sqrt(v + like(h["inside"], g)) + like(h["outside"], g))


_RULES = {
    Rule.sgd: sgd,
    Rule.momentum: momentum,
    Rule.nesterov: nesterov,
    Rule.adam: adam,
    Rule.amsgrad: amsgrad,
    Rule.adagrad: adagrad,
    Rule.rmsprop: rmsprop,
    Rule.rmsprop_momentum: rmsprop_momentum,
    Rule.rmsprop_centered: rmsprop_centered,
    Rule.rmsprop_centered_momentum: rmsprop_centered_momentum,
    Rule.nadam: nadam,
    Rule.adadelta: adadelta,
    Rule.radam: radam,
    Rule.lion: lion,
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
