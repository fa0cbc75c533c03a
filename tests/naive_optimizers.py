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


class AmsGrad(Adam):
    """Algorithm 2 of Reddi, Kale and Kumar, with Adam's corrections of bias."""

    most = 0.0

    def step(self, w, g):
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        self.most = np.maximum(self.most, self.v)
        m_hat = self.m / (1 - self.b1**self.t)
        return w - self.lr * m_hat / (np.sqrt(self.most / (1 - self.b2**self.t)) + self.epsilon)


class Nadam(Adam):
    """Dozat's algorithm 8, with mu_t = beta1 (1 - 0.96^(t decay) / 2)."""

    def __init__(self, lr, beta1=0.9, beta2=0.999, epsilon=1e-8, momentum_decay=0.004):
        super().__init__(lr, beta1, beta2, epsilon)
        self.decay, self.product = momentum_decay, 1.0

    def step(self, w, g):
        self.t += 1
        mu, mu_next = (self.b1 * (1 - 0.5 * 0.96 ** (t * self.decay)) for t in (self.t, self.t + 1))
        self.product *= mu
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        g_hat = g / (1 - self.product)
        m_hat = self.m / (1 - self.product * mu_next)
        v_hat = self.v / (1 - self.b2**self.t)
        m_bar = (1 - mu) * g_hat + mu_next * m_hat
        return w - self.lr * m_bar / (np.sqrt(v_hat) + self.epsilon)


class RAdam(Adam):
    """Algorithm 2 of Liu et al., with epsilon, and 5 for 4 as in their code."""

    def step(self, w, g):
        self.t += 1
        t, b2 = self.t, self.b2
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        m_hat = self.m / (1 - self.b1**t)
        rho_inf = 2 / (1 - b2) - 1
        rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
        if rho <= 5:
            return w - self.lr * m_hat
        adaptive = np.sqrt(1 - b2**t) / (np.sqrt(self.v) + self.epsilon)
        r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        return w - self.lr * r * m_hat * adaptive


class Adagrad:
    def __init__(self, lr, initial=0.0, epsilon=1e-10):
        self.lr, self.sum, self.epsilon = lr, initial, epsilon

    def step(self, w, g):
        self.sum = self.sum + g**2
        return w - self.lr / (np.sqrt(self.sum) + self.epsilon) * g


class RmsProp:
    """The notes' formula; with momentum, the step that it would make is added to the velocity."""

    def __init__(self, lr, rho=0.9, epsilon=1e-8, momentum=0.0, centered=False, eps_inside=True):
        self.lr, self.rho, self.epsilon, self.momentum = lr, rho, epsilon, momentum
        self.centered, self.eps_inside = centered, eps_inside
        self.square, self.mean, self.v = 0.0, 0.0, 0.0

    def step(self, w, g):
        self.square = self.rho * self.square + (1 - self.rho) * g**2
        self.mean = self.rho * self.mean + (1 - self.rho) * g
        variance = self.square - self.mean**2 if self.centered else self.square
        if self.eps_inside:
            root = np.sqrt(variance + self.epsilon)
        else:
            root = np.sqrt(variance) + self.epsilon
        self.v = self.momentum * self.v - self.lr / root * g
        return w + self.v


class Adadelta:
    """Algorithm 1 of Zeiler, times lr."""

    def __init__(self, lr=1.0, rho=0.9, epsilon=1e-6):
        self.lr, self.rho, self.epsilon = lr, rho, epsilon
        self.square, self.square_step = 0.0, 0.0

    def rms(self, square):
        return np.sqrt(square + self.epsilon)

    def step(self, w, g):
        self.square = self.rho * self.square + (1 - self.rho) * g**2
        step = -self.rms(self.square_step) / self.rms(self.square) * g
        self.square_step = self.rho * self.square_step + (1 - self.rho) * step**2
        return w + self.lr * step


class Lion:
    """Program 1 of Chen et al.; its decay is in :func:`train`."""

    def __init__(self, lr, beta1=0.9, beta2=0.99):
        self.lr, self.b1, self.b2, self.m = lr, beta1, beta2, 0.0

    def step(self, w, g):
        update = np.sign(self.b1 * self.m + (1 - self.b1) * g)
        self.m = self.b2 * self.m + (1 - self.b2) * g
        return w - self.lr * update


def clipped(g, clip_norm=None, clip_value=None):
    """The gradients by name, with a limited norm of all together, or limited elements."""
    if clip_value is not None:
        return {name: np.clip(x, -clip_value, clip_value) for name, x in g.items()}
    norm = np.sqrt(sum((x**2).sum() for x in g.values()))
    if clip_norm is not None and norm > clip_norm:
        return {name: x * clip_norm / norm for name, x in g.items()}
    return g


def train(
    p, gradients, make_rule, weight_decay=0.0, decoupled=False, clip_norm=None, clip_value=None,
    scheduled=None,
):  # fmt: skip
    """The parameters by name after steps with the gradients; those whose names end in W decay.

    `scheduled` has functions of the step, by the attribute of the rule that each sets.
    """
    rules = {name: make_rule() for name in p}
    for k, g in enumerate(gradients):
        g, after = clipped(g, clip_norm, clip_value), {}
        for name, w in p.items():
            rule, decay = rules[name], weight_decay if name.endswith("W") else 0.0
            for attribute, function in (scheduled or {}).items():
                setattr(rule, attribute, function(k))
            if decoupled:
                after[name] = rule.step(w, g[name]) - rule.lr * decay * w
            else:
                after[name] = rule.step(w, g[name] + decay * w)
        p = after
    return p
