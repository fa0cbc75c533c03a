"""Muon: the orthogonalised momentum of a weight matrix (K. Jordan, 2024)."""

from __future__ import annotations

import numpy as np

from .activation import like

#: Coefficients of the iteration, and the least norm that is divided by.
ALPHA, BETA, GAMMA, LEAST = 3.4445, -4.7750, 2.0315, 1e-7


def orthogonalised(d, turns):
    """U V^t, roughly, for d = U S V^t: the singular values become about 1."""
    y = d if d.shape[0] >= d.shape[1] else d.T
    norm = np.sqrt(np.square(y.astype(np.float64)).sum())
    y = y * like(1 / max(norm, LEAST), y)
    for _ in range(turns):
        a = y.T @ y
        b = like(ALPHA, y) * np.eye(len(a), dtype=y.dtype) + like(BETA, y) * a
        y = y @ (b + like(GAMMA, y) * (a @ a))
    return y if d.shape[0] >= d.shape[1] else y.T


def step(w, g, momentum, direction, h, turns):
    """A step of one matrix, in place; h are the step's hyperparameters with the group's factors.

    w, g, the momentum and the last direction are (n_in, n_out).
    """
    momentum *= like(h["momentum"], w)
    momentum += like(1 - h["momentum"], w) * g
    if h["orthogonalises"]:
        d = like(h["of_gradient"], w) * g + like(h["of_momentum"], w) * momentum
        direction[:] = orthogonalised(d, turns)
    n_in, n_out = w.shape
    w -= like(h["matrix_decoupled"], w) * w
    w -= like(h["matrix_lr"] * np.sqrt(max(1, n_out / n_in)), w) * direction
