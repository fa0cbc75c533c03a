"""The oracle: the formulas of the study notes, one number at a time. Imports nothing of fastnn.

A network is a list of layers (W, b, activation name) with W[i][j] from input i to unit j. Names
follow the notes: z is the weighted sum, a the activation, delta the derivative by z.
"""

import math

import numpy as np

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def normal_cdf(z):
    return math.erfc(-z / math.sqrt(2)) / 2


def logistic(z):
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def log1p_exp(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def activate(act, z):
    """act is a name, or a pair of a name and its argument."""
    name, argument = act if isinstance(act, tuple) else (act, None)
    if name == "identity":
        return z
    if name == "step":
        return 1.0 if z > 0 else 0.0
    if name == "sigmoid":
        return logistic(z)
    if name == "tanh":
        return math.tanh(z)
    if name == "relu":
        return max(0.0, z)
    if name == "leaky_relu":
        return z if z > 0 else (0.01 if argument is None else argument) * z
    if name == "elu":
        return z if z > 0 else (1.0 if argument is None else argument) * math.expm1(z)
    if name == "selu":
        return SELU_SCALE * (z if z > 0 else SELU_ALPHA * math.expm1(z))
    if name == "gelu":
        return z * normal_cdf(z)
    if name == "silu":
        return z * logistic(z)
    if name == "softplus":
        return log1p_exp(z)
    if name == "mish":
        return z * math.tanh(log1p_exp(z))
    raise KeyError(name)


def slope(act, z):
    name, argument = act if isinstance(act, tuple) else (act, None)
    if name == "identity":
        return 1.0
    if name == "step":
        return 0.0
    if name == "sigmoid":
        return logistic(z) * logistic(-z)
    if name == "tanh":
        return 1 - math.tanh(z) ** 2
    if name == "relu":
        return 1.0 if z > 0 else 0.0
    if name == "leaky_relu":
        return 1.0 if z > 0 else (0.01 if argument is None else argument)
    if name == "elu":
        return 1.0 if z > 0 else (1.0 if argument is None else argument) * math.exp(z)
    if name == "selu":
        return SELU_SCALE * (1.0 if z > 0 else SELU_ALPHA * math.exp(z))
    if name == "gelu":
        return normal_cdf(z) + z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    if name == "silu":
        return logistic(z) + z * logistic(z) * logistic(-z)
    if name == "softplus":
        return logistic(z)
    if name == "mish":
        t = math.tanh(log1p_exp(z))
        return t + z * (1 - t * t) * logistic(z)
    raise KeyError(name)


def activate_row(act, z):
    """A row of weighted sums to a row of activations; softmax looks at all of them."""
    return softmax(z) if act == "softmax" else [activate(act, v) for v in z]


def delta_row(act, z, a, da):
    """The derivative by z of what has the derivative da by a."""
    if act == "softmax":
        return [sum(da[i] * a[i] * ((i == j) - a[j]) for i in range(len(a))) for j in range(len(a))]
    return [da[j] * slope(act, z[j]) for j in range(len(z))]


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
        activations.append(activate_row(act, z))
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


def smooth(loss, T, smoothing):
    """Targets after label smoothing."""
    n = len(T[0]) if loss == "cross_entropy" else 2
    return [[t * (1 - smoothing) + smoothing / n for t in row] for row in T]


def cost(network, loss, X, T, weights=None, penalties=None):
    """The weighted mean of the rows' losses, but for sse their sum, plus the penalties."""
    weights = [1.0] * len(X) if weights is None else weights
    total = sum(
        w * row_loss(loss, forward(network, x)[1][-1], t)
        for x, t, w in zip(X, T, weights, strict=True)
    )
    if loss != "sse":
        total /= sum(weights)
    for (W, _, _), (l1, l2) in zip(network, penalties or [(0, 0)] * len(network), strict=True):
        for value in np.ravel(W):
            total += l1 * abs(value) + l2 * value**2
    return total


def gradients(network, loss, X, T, weights=None, penalties=None):
    """[(dW, db), ...] of the cost by backpropagation, row by row."""
    weights = [1.0] * len(X) if weights is None else weights
    sums = [(np.zeros(np.shape(W)), np.zeros(np.shape(b))) for W, b, _ in network]
    for x, t, weight in zip(X, T, weights, strict=True):
        zs, activations = forward(network, x)
        da = row_loss_slope(loss, activations[-1], t)
        for layer in range(len(network) - 1, -1, -1):
            W, b, act = network[layer]
            delta = delta_row(act, zs[layer], activations[layer + 1], da)
            below = activations[layer]
            dW, db = sums[layer]
            for j in range(len(b)):
                db[j] += weight * delta[j]
                for i in range(len(below)):
                    dW[i][j] += weight * below[i] * delta[j]
            da = [sum(float(W[i][j]) * delta[j] for j in range(len(b))) for i in range(len(below))]
    share = 1 if loss == "sse" else sum(weights)
    found = []
    penalties = penalties or [(0, 0)] * len(network)
    for (dW, db), (W, _, _), (l1, l2) in zip(sums, network, penalties, strict=True):
        W = np.asarray(W, float)
        found.append((dW / share + l1 * np.sign(W) + 2 * l2 * W, db / share))
    return found


#: Activations with a kink at 0, near which differences and rounding tell nothing.
KINKED = ("step", "relu", "leaky_relu", "elu", "selu")


def smallest_z(network, X):
    """The distance of the nearest unit with a kink to that kink."""
    return min(
        (
            abs(z)
            for x in X
            for (_, _, act), zs in zip(network, forward(network, x)[0], strict=True)
            if (act[0] if isinstance(act, tuple) else act) in KINKED
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
