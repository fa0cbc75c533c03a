"""Optimizers as their papers print them, for the oracle. Imports nothing of fastnn."""

import numpy as np


class Sgd:
    def __init__(self, lr):
        self.lr = lr

    def step(self, w, g):
        return w - self.lr * g


class Momentum:
    def __init__(self, lr, momentum):
        self.lr, self.momentum, self.v = lr, momentum, 0.0

    def step(self, w, g):
        self.v = self.momentum * self.v - self.lr * g
        return w + self.v


class Nesterov:
    """The gradient where momentum leads to, seen from there: w is always the look-ahead place."""

    def __init__(self, lr, momentum):
        self.lr, self.momentum, self.v = lr, momentum, 0.0

    def step(self, w, g):
        behind = w - self.momentum * self.v
        self.v = self.momentum * self.v - self.lr * g
        return behind + self.v + self.momentum * self.v


class Adam:
    """Algorithm 1 of Kingma and Ba, as printed."""

    def __init__(self, lr, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.lr, self.b1, self.b2, self.epsilon = lr, beta1, beta2, epsilon
        self.m, self.v, self.t = 0.0, 0.0, 0

    def step(self, w, g):
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        m_hat = self.m / (1 - self.b1**self.t)
        v_hat = self.v / (1 - self.b2**self.t)
        return w - self.lr * m_hat / (np.sqrt(v_hat) + self.epsilon)
