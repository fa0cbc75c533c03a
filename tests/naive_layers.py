"""The layers of the oracle but for the residual. Imports nothing of fastnn."""

import math
from dataclasses import dataclass

import numpy as np
from naive_formulas import (
    activate_row,
    add,
    delta_row,
    outer,
    penalty,
    penalty_derivative,
    row_times,
    row_times_transposed,
)
from naive_random import element_normals, element_words


@dataclass(frozen=True)
class Run:
    """What a pass depends on besides parameters and rows: training or not, random numbers.

    `stream` is that of the next layer that draws numbers; the layers above take the next ones.
    `first_row` is the number of the first row in the batch of a step, of which there may be a part.
    """

    training: bool = False
    seed: int = 0
    step: int = 0
    stream: int = 1 << 16
    first_row: int = 0


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
