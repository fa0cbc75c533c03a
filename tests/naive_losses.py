"""The losses of the oracle, one row at a time. Imports nothing of fastnn.

A loss is a name, or a pair of a name and its argument.
"""

import math


def logistic(z):
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def softmax(z):
    highest = max(z)
    e = [math.exp(v - highest) for v in z]
    return [v / sum(e) for v in e]


def split(loss):
    """(name, argument) of a loss: a name, or a pair of both."""
    if isinstance(loss, tuple):
        return loss
    return loss, {"huber": 1.0, "quantile": 0.5, "focal": 2.0}.get(loss)


def pinball(q, e):
    return max(q * e, (q - 1) * e)


def quantiles_of(q, t):
    """(q, target) of every output: all quantiles of the first target, then of the next one."""
    several = q if isinstance(q, tuple) else (q,)
    return [(each, target) for target in t for each in several]


def huber(e, delta):
    return e * e / 2 if abs(e) <= delta else delta * (abs(e) - delta / 2)


def true_class(a, t):
    """(probability of the true class, that of all others) from logits."""
    p = softmax(a) if len(a) > 1 else [logistic(a[0]), logistic(-a[0])]
    t = t if len(a) > 1 else [t[0], 1 - t[0]]
    return sum(x * y for x, y in zip(p, t, strict=True)), sum(
        x * (1 - y) for x, y in zip(p, t, strict=True)
    )


def log_of_probability(p, rest):
    return math.log(p) if p < 0.5 else math.log1p(-rest)


def row_loss(loss, a, t):
    """The loss of one row; a is the last layer's output, which the entropies take as logits.

    `loss` is a name, or a pair of a name and its argument. Several quantiles and the normal
    distribution have fewer targets than outputs.
    """
    n = len(a)
    loss, argument = split(loss)
    if loss == "sse":
        return sum((a[j] - t[j]) ** 2 for j in range(n))
    if loss == "squared_error":
        return sum((a[j] - t[j]) ** 2 for j in range(n)) / 2
    if loss == "mse":
        return sum((a[j] - t[j]) ** 2 for j in range(n)) / n
    if loss == "mae":
        return sum(abs(a[j] - t[j]) for j in range(n)) / n
    if loss == "huber":
        return sum(huber(a[j] - t[j], argument) for j in range(n)) / n
    if loss == "quantile":
        pairs = zip(quantiles_of(argument, t), a, strict=True)
        return sum(pinball(q, target - v) for (q, target), v in pairs) / n
    if loss == "poisson":
        return sum(math.exp(a[j]) - t[j] * a[j] for j in range(n))
    if loss == "hinge":
        return sum(max(0.0, 1 - (2 * t[j] - 1) * a[j]) for j in range(n))
    if loss == "squared_hinge":
        return sum(max(0.0, 1 - (2 * t[j] - 1) * a[j]) ** 2 for j in range(n))
    if loss == "gaussian_nll":
        return sum(
            (math.log(2 * math.pi) + s + (y - m) ** 2 / math.exp(s)) / 2
            for m, s, y in zip(a[: n // 2], a[n // 2 :], t, strict=True)
        )
    if loss == "focal":
        p, rest = true_class(a, t)
        return -(rest**argument) * log_of_probability(p, rest)
    if loss == "binary_cross_entropy":
        # In this order nothing cancels where the logit is large and right.
        return sum(
            max(v, 0.0) - v * q + math.log1p(math.exp(-abs(v))) for v, q in zip(a, t, strict=True)
        )
    if loss == "cross_entropy":
        highest = max(a)
        log_sum = highest + math.log(sum(math.exp(v - highest) for v in a))
        return sum(t[j] * (log_sum - a[j]) for j in range(n))
    raise KeyError(loss)


def row_loss_derivative(loss, a, t):
    """Its derivative by each a."""
    n = len(a)
    loss, argument = split(loss)
    if loss == "sse":
        return [2 * (a[j] - t[j]) for j in range(n)]
    if loss == "squared_error":
        return [a[j] - t[j] for j in range(n)]
    if loss == "mse":
        return [2 * (a[j] - t[j]) / n for j in range(n)]
    if loss == "mae":
        return [math.copysign(a[j] != t[j], a[j] - t[j]) / n for j in range(n)]
    if loss == "huber":
        return [max(-argument, min(argument, a[j] - t[j])) / n for j in range(n)]
    if loss == "quantile":
        pairs = zip(quantiles_of(argument, t), a, strict=True)
        return [((v > y) * (1 - q) - (v < y) * q) / n for (q, y), v in pairs]
    if loss == "poisson":
        return [math.exp(a[j]) - t[j] for j in range(n)]
    if loss in ("hinge", "squared_hinge"):
        signs = [2 * y - 1 for y in t]
        margins = [1 - s * v for s, v in zip(signs, a, strict=True)]
        powers = [2 * m if loss == "squared_hinge" else 1.0 for m in margins]
        return [-s * w * (m > 0) for s, w, m in zip(signs, powers, margins, strict=True)]
    if loss == "gaussian_nll":
        rows = list(zip(a[: n // 2], a[n // 2 :], t, strict=True))
        by_mean = [(m - y) / math.exp(s) for m, s, y in rows]
        return by_mean + [(1 - (m - y) ** 2 / math.exp(s)) / 2 for m, s, y in rows]
    if loss == "focal":
        # dl/dp dp/da, with l = -(1 - p)^g log p and dp/da_j = p (t_j - p_j) for the softmax.
        p, rest = true_class(a, t)
        by_log_p = argument * rest ** (argument - 1) * p * log_of_probability(p, rest)
        by_log_p -= rest**argument
        if n == 1:
            return [by_log_p * (2 * t[0] - 1) * rest]
        return [by_log_p * (rest if y else -v) for v, y in zip(softmax(a), t, strict=True)]
    if loss == "binary_cross_entropy":
        return [logistic(a[j]) - t[j] for j in range(n)]
    if loss == "cross_entropy":
        return [p - q for p, q in zip(softmax(a), t, strict=True)]
    raise KeyError(loss)


def loss_kinks(loss, a, t):
    """What the derivative of the loss jumps at the zeros of, or its derivative."""
    loss, argument = split(loss)
    if loss == "mae":
        return [v - y for v, y in zip(a, t, strict=True)]
    if loss == "huber":
        return [abs(v - y) - argument for v, y in zip(a, t, strict=True)]
    if loss == "quantile":
        return [v - y for (_, y), v in zip(quantiles_of(argument, t), a, strict=True)]
    if loss in ("hinge", "squared_hinge"):
        return [1 - (2 * y - 1) * v for v, y in zip(a, t, strict=True)]
    return []


def smooth(loss, T, smoothing):
    """Targets after label smoothing."""
    n = len(T[0]) if loss == "cross_entropy" else 2
    return [[t * (1 - smoothing) + smoothing / n for t in row] for row in T]
