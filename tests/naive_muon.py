"""Muon by its formula, for the oracle: a polynomial of singular values. Imports nothing of fastnn.

Y (alpha I + beta Yt Y + gamma Yt Y Yt Y) has the singular vectors of Y, and for each singular value
s the value alpha s + beta s^3 + gamma s^5; so an orthogonalisation is that polynomial, repeated.
"""

import numpy as np
from naive_optimizers import Adam

ALPHA, BETA, GAMMA, LEAST = 3.4445, -4.7750, 2.0315, 1e-7


def polynomial(s, turns):
    """What becomes of singular values."""
    for _ in range(turns):
        s = ALPHA * s + BETA * s**3 + GAMMA * s**5
    return s


def orthogonalised(d, turns):
    """The singular vectors of d, with singular values of about 1."""
    u, s, vt = np.linalg.svd(d, full_matrices=False)
    return u * polynomial(s / max(np.sqrt((d**2).sum()), LEAST), turns) @ vt


class Muon:
    """A hidden matrix W (n_in, n_out); Jordan's factor is that of (n_out, n_in)."""

    def __init__(self, lr, momentum=0.95, nesterov=True, decay=0.0, turns=5, every=1):
        self.lr, self.momentum, self.nesterov, self.decay = lr, momentum, nesterov, decay
        self.turns, self.every = turns, every
        self.m, self.t, self.direction = 0.0, 0, None

    def step(self, w, g):
        self.m = self.momentum * self.m + (1 - self.momentum) * g
        if self.t % self.every == 0:
            ahead = self.momentum * self.m + (1 - self.momentum) * g
            self.direction = orthogonalised(ahead if self.nesterov else self.m, self.turns)
        self.t += 1
        n_in, n_out = w.shape
        w = w - self.lr * self.decay * w
        return w - self.lr * max(1, n_out / n_in) ** 0.5 * self.direction


class AdamW(Adam):
    """Adam with a decay that is no part of the gradient (Loshchilov and Hutter, algorithm 2)."""

    def __init__(self, lr, decay=0.0):
        super().__init__(lr)
        self.decay = decay

    def step(self, w, g):
        return super().step(w, g) - self.lr * self.decay * w
