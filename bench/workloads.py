"""The workloads: networks, their training and their data, declared once for all benchmarks.

Data come from a fixed seed. Labels, but for xor, follow a random linear rule with noise, so that
losses neither vanish nor jump, and comparing them shows whether all peers compute the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

#: Seed of the data, the initial weights and the shuffles.
SEED = 20


@dataclass(frozen=True)
class Workload:
    """A network and an epoch of training; ``sizes`` are the widths from inputs to outputs.

    ``normalization`` is "", "batch" or "layer": what comes before the activation of every hidden
    layer; ``dropout`` is the rate after it.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    batch_size: int
    optimizer: str
    lr: float
    rows: int
    dtype: str = "float32"
    normalization: str = ""
    dropout: float = 0.0

    @property
    def loss(self) -> str:
        """Binary cross-entropy for one output, cross-entropy for several."""
        return "binary_cross_entropy" if self.sizes[-1] == 1 else "cross_entropy"

    @property
    def steps(self) -> int:
        """Minibatches of an epoch; the rows are a multiple of the batch."""
        return self.rows // self.batch_size

    @property
    def flops(self) -> float:
        """Floating-point operations of the matrix products of a step.

        Three products per layer, two for the first, whose input needs no gradient.
        """
        products = [n_in * n_out for n_in, n_out in self.layers]
        return 2.0 * self.batch_size * (3 * sum(products) - products[0])

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(n_in, n_out) of every layer."""
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    def shortened(self) -> Workload:
        """The same workload with 1 to 10 steps, at most 2 GFLOP together where that allows one."""
        steps = int(min(10, self.steps, max(1, 2e9 // self.flops)))
        return replace(self, rows=steps * self.batch_size)

    def __str__(self) -> str:
        hidden = self.sizes[1:-1]
        shape = "-".join(map(str, self.sizes))
        if len(hidden) > 4 and len(set(hidden)) == 1:
            shape = f"{self.sizes[0]}-{len(hidden)}x{hidden[0]}-{self.sizes[-1]}"
        dtype = "" if self.dtype == "float32" else f", {self.dtype}"
        return f"{shape} {self.activation}, batch {self.batch_size}, {self.optimizer}{dtype}"


WORKLOADS = {
    w.name: w
    for w in [
        Workload("xor", (2, 4, 1), "tanh", 4, "SGD", 0.1, 8000),
        Workload("digits-15", (784, 15, 10), "sigmoid", 10, "SGD", 0.1, 10_000),
        Workload("digits-100", (784, 100, 10), "sigmoid", 10, "SGD", 0.1, 10_000),
        Workload("digits-128", (784, 128, 10), "relu", 32, "Adam", 2e-4, 16_000),
        Workload("digits-512", (784, 512, 512, 10), "relu", 128, "Adam", 1e-4, 7680),
        Workload("digits-2048", (784, 2048, 2048, 10), "relu", 512, "Adam", 1e-4, 2048),
        Workload("table-64", (14, 64, 64, 2), "relu", 32, "Adam", 3e-4, 64_000),
        Workload("table-100", (20, 100, 2), "relu", 200, "Adam", 1e-3, 200_000),
        Workload("odd", (37, 53, 29, 7), "relu", 13, "Adam", 3e-4, 26_000),
        Workload("batch-1", (30, 40, 5), "tanh", 1, "SGD", 0.01, 3000),
        Workload("deep", (16, *[12] * 10, 3), "tanh", 16, "Adam", 1e-3, 16_000),
        Workload("wide-output", (64, 32, 1000), "relu", 64, "Adam", 3e-4, 19_200),
        Workload("double", (100, 200, 100, 10), "relu", 64, "Adam", 3e-4, 19_200, "float64"),
    ]
}

#: More workloads, for comparisons of fastnn with itself: sizes near those from which several
#: threads pay, where the choice is hardest.
THREADED = {
    w.name: w
    for w in [
        Workload("deep-64", (64, *[64] * 8, 10), "relu", 64, "Adam", 1e-3, 25_600),
        Workload("table-200", (100, 200, 100, 10), "relu", 64, "Adam", 1e-3, 25_600),
        Workload("tanh-256", (300, 256, 256, 256, 2), "tanh", 100, "Adam", 1e-3, 10_000),
        Workload("selu-256", (300, 256, 256, 256, 2), "selu", 100, "Adam", 1e-3, 10_000),
        Workload("sklearn-16", (16, 100, 26), "relu", 200, "Adam", 1e-3, 100_000),
        Workload("sklearn-26", (26, 100, 1), "relu", 200, "Adam", 1e-3, 200_000),
        Workload("sklearn-108", (108, 100, 1), "relu", 200, "Adam", 1e-3, 80_000),
        Workload("sklearn-784", (784, 100, 10), "relu", 200, "Adam", 1e-3, 16_000),
        Workload("odd-2", (129, 77, 201, 3), "relu", 50, "Adam", 1e-3, 25_000),
        Workload("middle", (100, 400, 400, 10), "relu", 64, "Adam", 1e-3, 12_800),
    ]
}


def make_data(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of a workload.

    Returns
    -------
    X : ndarray of the workload's dtype, shape (rows, inputs)
    y : ndarray of int64, shape (rows,)
        Labels from 0, for one output 0 and 1.
    """
    if workload.name == "xor":
        X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], workload.dtype)
        return np.tile(X, (workload.rows // 4, 1)), np.tile([0, 1, 1, 0], workload.rows // 4)
    rng = np.random.default_rng(SEED)
    n_inputs, n_classes = workload.sizes[0], workload.sizes[-1]
    X = rng.standard_normal((workload.rows, n_inputs), np.float32)
    scores = X @ rng.standard_normal((n_inputs, n_classes), np.float32)
    scores += 2 * np.sqrt(n_inputs) * rng.standard_normal(scores.shape, np.float32)
    y = scores.argmax(axis=1) if n_classes > 1 else (scores[:, 0] > 0).astype(np.int64)
    return X.astype(workload.dtype), y


def make_network(workload: Workload, seed: int = SEED):
    """The fastnn network, with the initial weights of all peers."""
    from fastnn import Activation, Dense, Sequential

    layers: list = []
    for units in workload.sizes[1:-1]:
        if workload.normalization:
            layers += [Dense(units), make_normalization(workload), Activation(workload.activation)]
        else:
            layers.append(Dense(units, workload.activation))
        if workload.dropout:
            layers.append(make_dropout(workload))
    layers.append(Dense(workload.sizes[-1]))
    return Sequential(layers, n_inputs=workload.sizes[0], seed=seed, dtype=workload.dtype)


def make_dropout(workload: Workload):
    """The dropout behind a hidden layer in fastnn."""
    from fastnn import Dropout

    return Dropout(workload.dropout)


def make_normalization(workload: Workload):
    """The normalisation of a hidden layer in fastnn."""
    from fastnn import BatchNorm, LayerNorm

    return {"batch": BatchNorm, "layer": LayerNorm}[workload.normalization]()


def make_weights(workload: Workload, seed: int = SEED) -> list[tuple[np.ndarray, np.ndarray]]:
    """The initial (W, b) of every dense layer, W of shape (n_in, n_out), as copies.

    b is 0 where a layer has none, before a batch normalisation.
    """
    values = make_network(workload, seed).parameters()
    names = [name.removesuffix(".W") for name in values if name.endswith(".W")]
    weights = [values[f"{name}.W"].copy() for name in names]
    return [
        (W, values[f"{name}.b"].copy() if f"{name}.b" in values else np.zeros_like(W[0]))
        for name, W in zip(names, weights, strict=True)
    ]


def make_optimizer(workload: Workload):
    """The fastnn optimizer of a workload."""
    import fastnn

    return getattr(fastnn, workload.optimizer)(workload.lr)


def row_order(workload: Workload, epoch: int, seed: int = SEED) -> np.ndarray:
    """The order in which fastnn's fit takes the rows in an epoch; epochs count from 0."""
    from fastnn.random import Stream, permutation

    return permutation(seed, Stream.SHUFFLE, epoch, workload.rows)
