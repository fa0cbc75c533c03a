"""The oracle: the formulas of the study notes, one number at a time. Imports nothing of fastnn.

A network is a list of layers, each of which says what it computes for one row x, or where rows
depend on each other for all rows X. Its parameters and running statistics are a dict of nested
lists by the names that fastnn gives them: "0.W" is W of layer 0, and W[i][j] leads from input i to
unit j; "2.0.W" is W of the first layer inside layer 2, a residual. A layer sees its own part of
them: "W", or "0.W".

A new operation is one more class here, in OPERATIONS. The losses are in naive_losses.py.
"""

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
from naive_losses import logistic, loss_kinks, row_loss, row_loss_derivative, softmax

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def normal_cdf(z):
    return math.erfc(-z / math.sqrt(2)) / 2


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


def derivative(act, z):
    """The derivative of an elementwise activation."""
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


def delta_row(act, z, da):
    """The derivative by z of what has the derivative da by a."""
    if act == "softmax":
        a = softmax(z)
        return [sum(da[i] * a[i] * ((i == j) - a[j]) for i in range(len(a))) for j in range(len(a))]
    return [da[j] * derivative(act, z[j]) for j in range(len(z))]


def row_times(x, W):
    """x W"""
    return [sum(x[i] * W[i][j] for i in range(len(x))) for j in range(len(W[0]))]


def row_times_transposed(y, W):
    """y Wt"""
    return [sum(y[j] * W[i][j] for j in range(len(y))) for i in range(len(W))]


def outer(x, y):
    """xt y"""
    return [[u * v for v in y] for u in x]


def add(x, y):
    return [u + v for u, v in zip(x, y, strict=True)]


def penalty(W, l1, l2):
    """l1 sum |W| + l2 sum W^2"""
    return sum(l1 * abs(value) + l2 * value**2 for row in W for value in row)


def penalty_derivative(W, l1, l2):
    return [[l1 * ((w > 0) - (w < 0)) + 2 * l2 * w for w in row] for row in W]


@dataclass(frozen=True)
class Run:
    """What a pass depends on besides parameters and rows: training or not, random numbers.

    `stream` is that of the next layer that draws numbers; the layers above take the next ones.
    """

    training: bool = False
    seed: int = 0
    step: int = 0
    stream: int = 1 << 16


PREDICTION, TRAINING = Run(), Run(training=True)


class Layer:
    """What a layer without parameters need not say, and how it treats rows one by one."""

    def shapes(self, n_in):
        """(columns of the output, {parameter: shape})"""
        return n_in, {}

    def statistics(self, n_in):
        """{running statistic: shape}"""
        return {}

    def streams(self):
        """How many streams of random numbers it takes."""
        return 0

    def forward_row(self, p, x):
        """y, from its parameters p and x."""
        raise TypeError(f"{type(self).__name__} has no forward pass")

    def backward_row(self, p, x, dy):
        """(dx, {parameter: derivative}), from the derivative by y."""
        raise TypeError(f"{type(self).__name__} has no backward pass")

    def forward(self, p, X, run):
        """Y for all rows."""
        return [self.forward_row(p, x) for x in X]

    def backward(self, p, X, dY, run):
        """(dX, {parameter: derivative}) for all rows, from the derivatives by Y."""
        dX, total = [], {}
        for x, dy in zip(X, dY, strict=True):
            dx, found = self.backward_row(p, x, dy)
            dX.append(dx)
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + np.array(value)
        return dX, total

    def penalties(self, p, l1, l2):
        """(sum, {parameter: derivative}); l1 and l2 are those of the network."""
        return 0.0, {}

    def kinks_of_row(self, p, x):
        """Every number that lies on one side or the other of a kink at 0."""
        return []

    def kinks(self, p, X, run):
        return [v for x in X for v in self.kinks_of_row(p, x)]

    def moved(self, p, X, run):
        """{running statistic: its value after a step}"""
        return {}

    def magnification(self, p, X, run):
        """How much larger an error relative to x becomes, relative to y: in the worst column."""
        return 1.0


#: Activations with a kink at 0.
KINKED = ("step", "relu", "leaky_relu", "elu", "selu")


def is_kinked(act):
    return (act[0] if isinstance(act, tuple) else act) in KINKED


@dataclass(frozen=True)
class Dense(Layer):
    """z = x W + b, a = act(z)"""

    units: int
    act: str | tuple = "identity"
    l1: float = 0.0
    l2: float = 0.0

    def shapes(self, n_in):
        return self.units, {"W": (n_in, self.units), "b": (self.units,)}

    def z(self, p, x):
        z = row_times(x, p["W"])
        return add(z, p["b"]) if "b" in p else z

    def forward_row(self, p, x):
        return activate_row(self.act, self.z(p, x))

    def backward_row(self, p, x, dy):
        delta = delta_row(self.act, self.z(p, x), dy)
        found = {"W": outer(x, delta), "b": delta}
        return row_times_transposed(delta, p["W"]), {n: v for n, v in found.items() if n in p}

    def penalties(self, p, l1, l2):
        l1, l2 = l1 + self.l1, l2 + self.l2
        return penalty(p["W"], l1, l2), {"W": penalty_derivative(p["W"], l1, l2)}

    def kinks_of_row(self, p, x):
        return self.z(p, x) if is_kinked(self.act) else []


@dataclass(frozen=True)
class Activation(Layer):
    """y = act(x)"""

    act: str | tuple

    def forward_row(self, p, x):
        return activate_row(self.act, x)

    def backward_row(self, p, x, dy):
        return delta_row(self.act, x, dy), {}

    def kinks_of_row(self, p, x):
        return x if is_kinked(self.act) else []


@dataclass(frozen=True)
class PReLU(Layer):
    """y = x where x > 0, else alpha x; alpha has one slope for all units, or one for each."""

    shared: bool = False

    def shapes(self, n_in):
        return n_in, {"alpha": (1 if self.shared else n_in,)}

    def slope(self, p, j):
        return p["alpha"][0 if self.shared else j]

    def forward_row(self, p, x):
        return [x[j] if x[j] > 0 else self.slope(p, j) * x[j] for j in range(len(x))]

    def backward_row(self, p, x, dy):
        n = len(x)
        dx = [dy[j] if x[j] > 0 else self.slope(p, j) * dy[j] for j in range(n)]
        slopes = [0.0 if x[j] > 0 else x[j] * dy[j] for j in range(n)]
        return dx, {"alpha": [sum(slopes)] if self.shared else slopes}

    def kinks_of_row(self, p, x):
        return x


@dataclass(frozen=True)
class Embedding(Layer):
    """The other columns, then row x[c] of the table of each column c; columns is a tuple of
    (c, n_values, dim)."""

    columns: tuple

    def shapes(self, n_in):
        dims = sum(dim for _, _, dim in self.columns)
        tables = {f"E{c}": (n_values, dim) for c, n_values, dim in self.columns}
        return n_in - len(self.columns) + dims, tables

    def forward_row(self, p, x):
        embedded = [c for c, _, _ in self.columns]
        y = [x[c] for c in range(len(x)) if c not in embedded]
        for c in embedded:
            y = y + list(p[f"E{c}"][int(x[c])])
        return y

    def backward_row(self, p, x, dy):
        place, found = len(x) - len(self.columns), {}
        for c, n_values, dim in self.columns:
            table = [[0.0] * dim for _ in range(n_values)]
            table[int(x[c])] = list(dy[place : place + dim])
            found[f"E{c}"], place = table, place + dim
        return [0.0] * len(x), found


@dataclass(frozen=True)
class Dropout(Layer):
    """y = x f, f is 0 where a random word is below the rate, else 1 or, for "train", 1/(1 - rate)

    The rate is a number, or (start, end, steps) of one that changes linearly.
    """

    rate: float | tuple
    scale_at: str = "train"

    def streams(self):
        return 1

    def rate_of(self, step):
        if isinstance(self.rate, float):
            return self.rate
        start, end, steps = self.rate
        return start + (end - start) * min(step / steps, 1)

    def factors(self, m, n, run):
        rate = self.rate_of(run.step)
        scale = 1 / (1 - rate) if self.scale_at == "train" else 1.0
        words = element_words(run, m, n)
        return [[scale if word >= round(rate * 2**32) else 0.0 for word in row] for row in words]

    def forward(self, p, X, run):
        if not run.training:
            scale = 1 - self.rate if self.scale_at == "test" else 1.0
            return [[v * scale for v in x] for x in X]
        return multiply(X, self.factors(len(X), len(X[0]), run))

    def backward(self, p, X, dY, run):
        return multiply(dY, self.factors(len(X), len(X[0]), run)), {}


@dataclass(frozen=True)
class GaussianNoise(Layer):
    """y = x + std z"""

    std: float

    def streams(self):
        return 1

    def forward(self, p, X, run):
        if not run.training:
            return X
        Z = element_normals(run, len(X), len(X[0]))
        return [
            [v + self.std * z for v, z in zip(*rows, strict=True)]
            for rows in zip(X, Z, strict=True)
        ]

    def backward(self, p, X, dY, run):
        return dY, {}


def multiply(X, Y):
    """Element by element."""
    return [[u * v for u, v in zip(x, y, strict=True)] for x, y in zip(X, Y, strict=True)]


@dataclass(frozen=True)
class GroupNorm(Layer):
    """y = (x - mean) / sqrt(variance + epsilon) gamma + beta in each group of columns of a row."""

    groups: int = 1
    epsilon: float = 1e-5
    affine: bool = True

    def shapes(self, n_in):
        return n_in, {"gamma": (n_in,), "beta": (n_in,)} if self.affine else {}

    def split(self, x):
        """The groups of a row."""
        size = len(x) // self.groups
        return [x[start : start + size] for start in range(0, len(x), size)]

    def moments(self, group):
        """The mean, and sqrt(variance + epsilon)."""
        mean = sum(group) / len(group)
        variance = sum((v - mean) ** 2 for v in group) / len(group)
        return mean, math.sqrt(variance + self.epsilon)

    def normalised(self, group):
        mean, deviation = self.moments(group)
        return [(v - mean) / deviation for v in group]

    def forward_row(self, p, x):
        h = [v for group in self.split(x) for v in self.normalised(group)]
        if not self.affine:
            return h
        return [v * g + b for v, g, b in zip(h, p["gamma"], p["beta"], strict=True)]

    def backward_row(self, p, x, dy):
        dh = [d * g for d, g in zip(dy, p["gamma"], strict=True)] if self.affine else dy
        dx = []
        for group, dg in zip(self.split(x), self.split(dh), strict=True):
            # The derivative of h_i by x_j is ((i = j) - 1/n - h_i h_j / n) / deviation.
            h, n = self.normalised(group), len(group)
            total, along = sum(dg), sum(d * v for d, v in zip(dg, h, strict=True))
            deviation = self.moments(group)[1]
            dx += [(dg[j] - total / n - h[j] * along / n) / deviation for j in range(n)]
        if not self.affine:
            return dx, {}
        h = [v for group in self.split(x) for v in self.normalised(group)]
        return dx, {"gamma": [d * v for d, v in zip(dy, h, strict=True)], "beta": dy}

    def magnification(self, p, X, run):
        """Nearly equal numbers far from 0 have a deviation that is mostly rounding."""
        groups = [group for x in X for group in self.split(x)]
        return max(1.0, *(max(map(abs, g)) / self.moments(g)[1] for g in groups))


@dataclass(frozen=True)
class Scale(Layer):
    """y = gamma x, or gamma x + beta"""

    bias: bool = False

    def shapes(self, n_in):
        return n_in, {"gamma": (n_in,)} | ({"beta": (n_in,)} if self.bias else {})

    def forward_row(self, p, x):
        y = [v * g for v, g in zip(x, p["gamma"], strict=True)]
        return add(y, p["beta"]) if self.bias else y

    def backward_row(self, p, x, dy):
        found = {"gamma": [d * v for d, v in zip(dy, x, strict=True)]}
        if self.bias:
            found["beta"] = dy
        return [d * g for d, g in zip(dy, p["gamma"], strict=True)], found


@dataclass(frozen=True)
class Maxout(Layer):
    """y_j = the largest of the weighted sums j, units + j, 2 units + j, ..."""

    units: int
    pieces: int = 2

    def shapes(self, n_in):
        n = self.pieces * self.units
        return self.units, {"W": (n_in, n), "b": (n,)}

    def pieces_of(self, p, x):
        """The weighted sums of each unit."""
        z = add(row_times(x, p["W"]), p["b"])
        return [z[j :: self.units] for j in range(self.units)]

    def forward_row(self, p, x):
        return [max(pieces) for pieces in self.pieces_of(p, x)]

    def backward_row(self, p, x, dy):
        dz = [0.0] * (self.pieces * self.units)
        for j, pieces in enumerate(self.pieces_of(p, x)):
            dz[pieces.index(max(pieces)) * self.units + j] = dy[j]
        return row_times_transposed(dz, p["W"]), {"W": outer(x, dz), "b": dz}

    def penalties(self, p, l1, l2):
        return penalty(p["W"], l1, l2), {"W": penalty_derivative(p["W"], l1, l2)}

    def kinks_of_row(self, p, x):
        ordered = map(sorted, self.pieces_of(p, x))
        return [largest - second for *_, second, largest in ordered]


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


@dataclass(frozen=True)
class BatchNorm(Layer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, column by column.

    Algorithms 1 and 2 of Ioffe and Szegedy (2015), and the derivatives of their section 3. A single
    row is normalised by the running statistics in training too.
    """

    affine: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-5

    def shapes(self, n_in):
        return n_in, {"gamma": (n_in,), "beta": (n_in,)} if self.affine else {}

    def statistics(self, n_in):
        return {"running_mean": (n_in,), "running_var": (n_in,)}

    def uses_batch(self, X, run):
        return run.training and len(X) > 1

    def of_column(self, p, X, j, run):
        """(mean, biased variance)"""
        if not self.uses_batch(X, run):
            return p["running_mean"][j], p["running_var"][j]
        mean = math.fsum(x[j] for x in X) / len(X)
        return mean, math.fsum((x[j] - mean) ** 2 for x in X) / len(X)

    def forward(self, p, X, run):
        Y = [[0.0] * len(x) for x in X]
        for j in range(len(X[0])):
            mean, variance = self.of_column(p, X, j, run)
            gamma, beta = (p["gamma"][j], p["beta"][j]) if self.affine else (1.0, 0.0)
            for i, x in enumerate(X):
                Y[i][j] = gamma * (x[j] - mean) / math.sqrt(variance + self.epsilon) + beta
        return Y

    def backward(self, p, X, dY, run):
        m, n = len(X), len(X[0])
        dX = [[0.0] * n for _ in X]
        found = {"gamma": [0.0] * n, "beta": [0.0] * n} if self.affine else {}
        for j in range(n):
            mean, variance = self.of_column(p, X, j, run)
            root = math.sqrt(variance + self.epsilon)
            from_mean, dy = [x[j] - mean for x in X], [row[j] for row in dY]
            if self.affine:
                found["gamma"][j] = sum(g * d / root for g, d in zip(dy, from_mean, strict=True))
                found["beta"][j] = sum(dy)
            dh = [g * p["gamma"][j] for g in dy] if self.affine else dy
            d_variance = d_mean = 0.0
            if self.uses_batch(X, run):
                d_variance = -sum(g * d for g, d in zip(dh, from_mean, strict=True)) / 2 / root**3
                d_mean = -sum(dh) / root - 2 * d_variance * sum(from_mean) / m
            for i in range(m):
                dX[i][j] = dh[i] / root + d_variance * 2 * from_mean[i] / m + d_mean / m
        return dX, found

    def moved(self, p, X, run):
        if not self.uses_batch(X, run):
            return {"running_mean": p["running_mean"], "running_var": p["running_var"]}
        m, both = len(X), [self.of_column(p, X, j, run) for j in range(len(X[0]))]
        keep, take = self.momentum, 1 - self.momentum
        return {
            "running_mean": [
                keep * old + take * mean
                for old, (mean, _) in zip(p["running_mean"], both, strict=True)
            ],
            "running_var": [
                keep * old + take * variance * m / (m - 1)
                for old, (_, variance) in zip(p["running_var"], both, strict=True)
            ],
        }

    def magnification(self, p, X, run):
        if not self.uses_batch(X, run):
            return 1.0
        found = [1.0]
        for j in range(len(X[0])):
            mean, variance = self.of_column(p, X, j, run)
            if len({x[j] for x in X}) > 1:  # rounding does not tell equal numbers apart
                found.append(math.sqrt((mean**2 + variance) / (variance + self.epsilon)))
        return max(found)


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


def philox(counter, key):
    """Philox-4x32-10: four words of 32 bits from four, and a key of two (Salmon et al., 2011).

    The first word may be longer: then the bits above 64 of its first product are lost.
    """
    c, k = list(counter), list(key)
    for _ in range(10):
        low, high = 0xD2511F53 * c[0] % 2**64, 0xCD9E8D57 * c[2]
        c = [high >> 32 ^ c[1] ^ k[0], high % 2**32, low >> 32 ^ c[3] ^ k[1], low % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def element_word(run, element):
    """The random word of an element of a batch, counted along its rows."""
    group, place = divmod(element, 64)
    word, lane = divmod(place, 16)
    counter = [16 * group + lane, run.step % 2**32, run.step >> 32, run.stream]
    return philox(counter, (run.seed % 2**32, run.seed >> 32))[word]


@functools.lru_cache(maxsize=100)
def element_words(run, m, n):
    """Those of a batch of m rows of n elements."""
    return [[element_word(run, i * n + j) for j in range(n)] for i in range(m)]


def element_normal(run, element):
    """Its normal number: one of two that Box and Muller's method makes of two words."""
    second = element // 16 % 2
    words = [element_word(run, element + 16 * (k - second)) for k in range(2)]
    u, v = ((word + 0.5) / 2**32 for word in words)
    return math.sqrt(-2 * math.log(u)) * (math.sin if second else math.cos)(2 * math.pi * v)


@functools.lru_cache(maxsize=100)
def element_normals(run, m, n):
    """Those of a batch of m rows of n elements."""
    return [[element_normal(run, i * n + j) for j in range(n)] for i in range(m)]


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
