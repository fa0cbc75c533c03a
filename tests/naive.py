"""The oracle: the formulas of the study notes, one number at a time. Imports nothing of fastnn.

A network is a list of layers, each of which says what it computes for one row x, or where rows
depend on each other for all rows X. Its parameters and running statistics are a dict of nested
lists by the names that fastnn gives them: "0.W" is W of layer 0, and W[i][j] leads from input i to
unit j; "2.0.W" is W of the first layer inside layer 2, a residual. A layer sees its own part of
them: "W", or "0.W".

The layers are in naive_layers.py, but for the residual, and the losses in naive_losses.py. A new
operation is one more class there, and its name in OPERATIONS here.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from naive_formulas import add, outer, penalty, penalty_derivative, row_times, row_times_transposed
from naive_layers import (
    PREDICTION,
    TRAINING,
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    GaussianNoise,
    GroupNorm,
    Layer,
    Maxout,
    PReLU,
    Scale,
)
from naive_losses import loss_kinks, row_loss, row_loss_derivative, softmax


@dataclass(frozen=True)
class Residual(Layer):
    """y = f(x) + x, or f(x) + x P where f gives another width; f is a list of layers."""

    layers: tuple

    def shapes(self, n_in):
        n_out, found = shapes(self.layers, n_in)
        return n_out, found if n_out == n_in else {**found, "projection.W": (n_in, n_out)}

    def statistics(self, n_in):
        return statistics(self.layers, n_in)

    def streams(self):
        return sum(layer.streams() for layer in self.layers)

    def forward(self, p, X, run):
        P = p.get("projection.W")
        branch = forward(self.layers, p, X, run)[-1]
        shortcut = X if P is None else [row_times(x, P) for x in X]
        return [add(*rows) for rows in zip(branch, shortcut, strict=True)]

    def backward(self, p, X, dY, run):
        dX, found = backward(self.layers, p, X, dY, run)
        P = p.get("projection.W")
        if P is None:
            return [add(*rows) for rows in zip(dX, dY, strict=True)], found
        dP = sum(np.array(outer(x, dy)) for x, dy in zip(X, dY, strict=True))
        through = [row_times_transposed(dy, P) for dy in dY]
        dX = [add(*rows) for rows in zip(dX, through, strict=True)]
        return dX, {**found, "projection.W": dP}

    def penalties(self, p, l1, l2):
        total, found = penalties(self.layers, p, l1, l2)
        P = p.get("projection.W")
        if P is None:
            return total, found
        return total + penalty(P, l1, l2), {
            **found,
            "projection.W": penalty_derivative(P, l1, l2),
        }

    def kinks(self, p, X, run):
        return kinks(self.layers, p, X, run)

    def moved(self, p, X, run):
        return moved(self.layers, p, X, run)

    def magnification(self, p, X, run):
        return magnification(self.layers, p, X, run)


def loses_bias(layers, index):
    """Whether a layer is Dense without activation right below BatchNorm, and so has no biases."""
    above = [layer for layer in layers[index + 1 :] if layer != Activation("identity")]
    is_below = bool(above) and isinstance(above[0], BatchNorm)
    return is_below and isinstance(layers[index], Dense) and layers[index].act == "identity"


def part(p, index):
    """The parameters of one layer: "2.0.W" of a network is "0.W" of its layer 2."""
    return {n.partition(".")[2]: v for n, v in p.items() if n.partition(".")[0] == str(index)}


def whole(index, found):
    """The same backwards."""
    return {f"{index}.{name}": value for name, value in found.items()}


def shapes(layers, n_in):
    """(columns of the output, {parameter: shape})"""
    found = {}
    for index, layer in enumerate(layers):
        n_in, own = layer.shapes(n_in)
        if loses_bias(layers, index):
            del own["b"]
        found |= whole(index, own)
    return n_in, found


def statistics(layers, n_in):
    """{running statistic: shape}"""
    found = {}
    for index, layer in enumerate(layers):
        found |= whole(index, layer.statistics(n_in))
        n_in, _ = layer.shapes(n_in)
    return found


def runs(layers, run):
    """The run as each layer has it, with the stream of its own numbers."""
    for layer in layers:
        yield run
        run = replace(run, stream=run.stream + layer.streams())


def forward(layers, p, X, run=PREDICTION):
    """What each layer reads, and the output of the last: one more list of rows than layers."""
    values = [[[float(value) for value in x] for x in X]]
    for index, (layer, own) in enumerate(zip(layers, runs(layers, run), strict=True)):
        values.append(layer.forward(part(p, index), values[-1], own))
    return values


def backward(layers, p, X, dY, run):
    """(dX, {parameter: derivative})"""
    values, found, own_runs = forward(layers, p, X, run), {}, list(runs(layers, run))
    for index in range(len(layers) - 1, -1, -1):
        dY, own = layers[index].backward(part(p, index), values[index], dY, own_runs[index])
        found |= whole(index, own)
    return dY, found


def penalties(layers, p, l1, l2):
    """(sum, {parameter: derivative})"""
    total, found = 0.0, {}
    for index, layer in enumerate(layers):
        value, own = layer.penalties(part(p, index), l1, l2)
        total, found = total + value, found | whole(index, own)
    return total, found


def kinks(layers, p, X, run):
    values = forward(layers, p, X, run)
    own = zip(layers, runs(layers, run), strict=True)
    found = (layer.kinks(part(p, i), values[i], r) for i, (layer, r) in enumerate(own))
    return [v for of_layer in found for v in of_layer]


def moved(layers, p, X, run=TRAINING):
    """{running statistic: its value after a step}"""
    values, found = forward(layers, p, X, run), {}
    for index, (layer, own) in enumerate(zip(layers, runs(layers, run), strict=True)):
        found |= whole(index, layer.moved(part(p, index), values[index], own))
    return found


def magnification(layers, p, X, run=TRAINING):
    """How much the layers magnify rounding errors, one after another."""
    values = forward(layers, p, X, run)
    own = zip(layers, runs(layers, run), strict=True)
    return math.prod(
        layer.magnification(part(p, i), values[i], r) for i, (layer, r) in enumerate(own)
    )


def smallest_kink(p, layers, X, run=TRAINING, loss="mse", T=None):
    """The distance of the nearest number to its kink, where the derivative jumps.

    A 0 counts for nothing: ReLU made it, and rounding does not move it.
    """
    found = kinks(layers, p, X, run)
    if T is not None:
        for a, t in zip(forward(layers, p, X, run)[-1], T, strict=True):
            found += loss_kinks(loss, a, t)
    return min((abs(v) for v in found if v), default=math.inf)


def without_output(layers, functions):
    """The network without its last activation, if that is one of these functions."""
    *below, last = layers
    if last == Activation("identity"):
        return without_output(below, functions)
    ends = getattr(last, "act", None) in functions
    return [*below, replace(last, act="identity")] if ends else layers


#: Every operation of fastnn, and where its formula is.
OPERATIONS = {
    "dense": Dense,
    "activation": Activation,
    "softmax": softmax,
    "prelu": PReLU,
    "embedding": Embedding,
    "residual": Residual,
    "dropout": Dropout,
    "gaussian_noise": GaussianNoise,
    "batch_norm": BatchNorm,
    "group_norm": GroupNorm,
    "scale": Scale,
    "maxout": Maxout,
    "loss": row_loss,
}


def smooth(loss, T, smoothing):
    """Targets after label smoothing."""
    n = len(T[0]) if loss == "cross_entropy" else 2
    return [[t * (1 - smoothing) + smoothing / n for t in row] for row in T]


def cost(p, layers, loss, X, T, weights=None, l1=0.0, l2=0.0, of=None, run=TRAINING):
    """The weighted mean of the rows' losses, but for sse their sum, plus the penalties.

    Where the rows are a minibatch `of` so many, a sum takes that share of the penalties: they
    then count once in the sum over an epoch.
    """
    p = as_lists(p)
    weights = [1.0] * len(X) if weights is None else weights
    A = forward(layers, p, X, run)[-1]
    total = sum(w * row_loss(loss, a, t) for a, t, w in zip(A, T, weights, strict=True))
    divisor, share = scales(loss, weights, of)
    return total / divisor + share * penalties(layers, p, l1, l2)[0]


def gradients(p, layers, loss, X, T, weights=None, l1=0.0, l2=0.0, of=None, run=TRAINING):
    """{parameter: derivative of the cost} by backpropagation."""
    p = as_lists(p)
    weights = [1.0] * len(X) if weights is None else weights
    divisor, share = scales(loss, weights, of)
    A = forward(layers, p, X, run)[-1]
    dA = [
        [weight / divisor * d for d in row_loss_derivative(loss, a, t)]
        for a, t, weight in zip(A, T, weights, strict=True)
    ]
    total = {name: np.zeros(shape) for name, shape in shapes(layers, len(X[0]))[1].items()}
    for name, value in backward(layers, p, X, dA, run)[1].items():
        total[name] += np.array(value)
    for name, value in penalties(layers, p, l1, l2)[1].items():
        total[name] += share * np.array(value)
    return total


def scales(loss, weights, of):
    """(divisor of the rows' losses, factor of the penalties)"""
    if loss == "sse":
        return 1, 1 if of is None else len(weights) / of
    return sum(weights), 1


def as_lists(p):
    return {name: np.asarray(value, float).tolist() for name, value in p.items()}
