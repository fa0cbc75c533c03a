"""The oracle: the formulas of the study notes, one number at a time. Imports nothing of fastnn.

A network is a list of layers (W, b, activation name) with W[i][j] from input i to unit j. Names
follow the notes: z is the weighted sum, a the activation, delta the derivative by z.
"""

import math

import numpy as np


def activate(name, z):
    if name == "identity":
        return z
    if name == "sigmoid":
        return 1 / (1 + math.exp(-z)) if z > -700 else 0.0
    if name == "tanh":
        return math.tanh(z)
    if name == "relu":
        return max(0.0, z)
    raise KeyError(name)


def slope(name, z):
    if name == "identity":
        return 1.0
    if name == "sigmoid":
        return activate(name, z) * (1 - activate(name, z))
    if name == "tanh":
        return 1 - math.tanh(z) ** 2
    if name == "relu":
        return 1.0 if z > 0 else 0.0
    raise KeyError(name)


def softmax(z):
    highest = max(z)
    e = [math.exp(v - highest) for v in z]
    return [v / sum(e) for v in e]


def forward(network, x):
    """Every z and every a of one row, from the bottom to the top."""
    zs, activations = [], [list(map(float, x))]
    for W, b, act in network:
        below = activations[-1]
        z = [
            float(b[j]) + sum(float(W[i][j]) * below[i] for i in range(len(below)))
            for j in range(len(b))
        ]
        zs.append(z)
        activations.append([activate(act, v) for v in z])
    return zs, activations


def row_loss(loss, a, t):
    """The loss of one row; a is the last layer's output, which the entropies take as logits."""
    n = len(a)
    if loss == "sse":
        return sum((a[j] - t[j]) ** 2 for j in range(n))
    if loss == "mse":
        return sum((a[j] - t[j]) ** 2 for j in range(n)) / n
    if loss == "binary_cross_entropy":
        total = 0.0
        for j in range(n):
            total += max(a[j], 0.0) - a[j] * t[j] + math.log1p(math.exp(-abs(a[j])))
        return total
    if loss == "cross_entropy":
        highest = max(a)
        log_sum = highest + math.log(sum(math.exp(v - highest) for v in a))
        return sum(t[j] * (log_sum - a[j]) for j in range(n))
    raise KeyError(loss)


def row_loss_slope(loss, a, t):
    """Its derivative by each a."""
    n = len(a)
    if loss == "sse":
        return [2 * (a[j] - t[j]) for j in range(n)]
    if loss == "mse":
        return [2 * (a[j] - t[j]) / n for j in range(n)]
    if loss == "binary_cross_entropy":
        return [activate("sigmoid", a[j]) - t[j] for j in range(n)]
    if loss == "cross_entropy":
        return [p - q for p, q in zip(softmax(a), t, strict=True)]
    raise KeyError(loss)


def batch_loss(network, loss, X, T):
    """The cost of a batch: the mean over its rows, but for sse the sum."""
    total = sum(row_loss(loss, forward(network, x)[1][-1], t) for x, t in zip(X, T, strict=True))
    return total if loss == "sse" else total / len(X)


def gradients(network, loss, X, T):
    """[(dW, db), ...] of the cost by backpropagation, row by row."""
    sums = [(np.zeros(np.shape(W)), np.zeros(np.shape(b))) for W, b, _ in network]
    for x, t in zip(X, T, strict=True):
        zs, activations = forward(network, x)
        da = row_loss_slope(loss, activations[-1], t)
        for layer in range(len(network) - 1, -1, -1):
            W, b, act = network[layer]
            delta = [da[j] * slope(act, zs[layer][j]) for j in range(len(b))]
            below = activations[layer]
            dW, db = sums[layer]
            for j in range(len(b)):
                db[j] += delta[j]
                for i in range(len(below)):
                    dW[i][j] += below[i] * delta[j]
            da = [sum(float(W[i][j]) * delta[j] for j in range(len(b))) for i in range(len(below))]
    share = 1 if loss == "sse" else len(X)
    return [(dW / share, db / share) for dW, db in sums]


def smallest_z(network, X):
    """The distance of the nearest hidden ReLU to its kink."""
    return min(
        (
            abs(z)
            for x in X
            for (_, _, act), zs in zip(network, forward(network, x)[0], strict=True)
            if act == "relu"
            for z in zs
        ),
        default=math.inf,
    )


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
