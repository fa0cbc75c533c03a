"""Write the model files that later versions must still read: ``python tests/keep_files.py``.

Run it when a layer, loss or initialiser is added, for a network of a new name; an old file stays.
"""

from pathlib import Path

import numpy as np

from fastnn import (
    SGD,
    Activation,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    GaussianNoise,
    GroupNorm,
    LayerNorm,
    Maxout,
    PReLU,
    Residual,
    Scale,
    Sequential,
    initializers,
)
from fastnn.activations import ELU, LeakyReLU
from fastnn.losses import BinaryCrossEntropy, CrossEntropy, Focal, Huber, Quantile
from fastnn.schedules import (
    Cosine,
    CosLog4,
    Cyclic,
    Exponential,
    FlatCosine,
    Linear,
    OneCycle,
    PerEpoch,
    Polynomial,
    StepDecay,
    TimeDecay,
    Values,
    WarmRestarts,
    Warmup,
)
from fastnn.schedules import Sequence as InTurn
from fastnn.tables import Act

HERE = Path(__file__).parent / "files"


def rows():
    """The rows that every kept network was trained on, and is asked about."""
    grid = np.linspace(-1, 1, 60).reshape(12, 5)
    return np.sin(7 * grid) + grid


def networks():
    """Name, network and arguments of its fit."""
    X = rows()
    labels = np.array(["ant", "bee", "cat"])[np.arange(12) % 3]
    acts = [act.name for act in Act]
    yield (
        "every-activation",
        Sequential([*[Dense(4, act) for act in acts], Activation("relu"), Dense(3)], seed=1),
        {"y": labels, "loss": CrossEntropy(0.1), "optimizer": Adam(0.01)},
    )
    yield (
        "arguments-float64",
        Sequential(
            [
                Dense(6, LeakyReLU(0.2), init=initializers.Normal(0.3), l1=0.01),
                Dense(5, ELU(0.5), init=initializers.Uniform(-0.5, 0.5), l2=0.02),
                Dense(4, "tanh", init=initializers.xavier_uniform(mode="average")),
                Dense(2, init="orthogonal", bias_init=initializers.Constant(0.1)),
            ],
            seed=2,
            dtype="float64",
        ),
        {"y": X[:, :2] ** 2, "loss": "mse", "optimizer": SGD(0.01, 0.9, nesterov=True)},
    )
    yield (
        "two-classes",
        Sequential([Dense(4, "gelu"), Dense(1, "sigmoid")], seed=3),
        {"y": np.arange(12) % 2 == 0, "loss": BinaryCrossEntropy(0.05), "optimizer": "adam"},
    )
    yield (
        "multilabel",
        Sequential([Dense(3)], seed=2**63),
        {"y": (X[:, :3] > 0).astype(int), "loss": "binary_cross_entropy", "optimizer": "sgd"},
    )
    inner = Residual([Dense(4, "tanh"), PReLU(initializers.Normal(0.1), shared=True), Dense(6)])
    yield (
        "residual-prelu",
        Sequential([Dense(6, "relu"), Residual([inner, Dense(3)]), PReLU(), Dense(4)], seed=4),
        {"y": np.array([b"a", b"b", b"c", b"d"])[np.arange(12) % 4], "loss": "mse"},
    )
    positive = X[:, :2] - X[:, :2].min()
    for number, (name, units, y, loss) in enumerate([
        ("mae", 2, positive, "mae"), ("huber", 2, positive, Huber(0.3)),
        ("median", 1, positive[:, 0], "quantile"),
        ("quantiles", 6, positive, Quantile([0.1, 0.5, 0.9])),
        ("poisson", 2, positive, "poisson"), ("hinge", 1, labels == "bee", "hinge"),
        ("squared-hinge", 2, positive > 1, "squared_hinge"), ("focal", 3, labels, Focal(0.5)),
        ("focal-one-output", 1, labels == "ant", "focal"), ("normal", 4, positive, "gaussian_nll"),
    ]):  # fmt: skip
        net = Sequential([Dense(4, "tanh"), Dense(units)], seed=10 + number)
        yield name, net, {"y": y, "loss": loss}

    branch = Residual([Dropout(0.2, "test"), Dense(6, "relu"), GaussianNoise(0.3)])
    yield (
        "stochastic",
        Sequential([GaussianNoise(0.1), Dense(6), Dropout(Linear(0.5, 0.1, 9)), branch, Dense(3)]),
        {"y": labels, "optimizer": Adam(0.01)},
    )
    rates = [
        Polynomial(0.5, 0.1, power=2), TimeDecay(0.5, decay=0.1, compound=True),
        StepDecay(0.5, factor=0.5, every=3), Exponential(0.5, rate=0.9), FlatCosine(0.5, flat=0.5),
        WarmRestarts(0.5, T_0=2, T_mult=2), OneCycle(0.5, strategy="linear"),
        Cyclic(0.1, peak=0.5, up=2, down=3, mode="exp_range", gamma=0.9),
        Warmup(InTurn([(Cosine(0.5), 4), (Values([0.1, 0.2]), 2), (CosLog4(0.5, 40), None)]), 2),
        PerEpoch(Warmup(Linear(0.5, 0.1, 4), 2, start_factor=0)),
    ]  # fmt: skip
    scheduled = [layer for rate in rates for layer in (Dense(4, "tanh"), Dropout(rate))]
    yield "schedules", Sequential([*scheduled, Dense(3)], seed=7), {"y": labels}
    yield (
        "batch-norm",
        Sequential(
            [BatchNorm(), Dense(6), BatchNorm(0.5, 1e-3), Activation("relu"),
             BatchNorm(affine=False), Dense(3, max_norm=1)],
            seed=6,
        ),
        {"y": labels},
    )  # fmt: skip

    grouped = Residual(
        [GroupNorm(3, epsilon=1e-3), Scale(0.5), Maxout(6, 3, bias_init=0.1, l2=0.01)]
    )
    yield (
        "row-layers",
        Sequential(
            [Scale(bias=True), Dense(6), LayerNorm(), Activation("gelu"), grouped,
             LayerNorm(affine=False), Maxout(2, init="orthogonal")],
            seed=5,
        ),
        {"y": X[:, :2] ** 2, "loss": "mse"},
    )  # fmt: skip


def keep() -> None:
    """Train every network and write it with its answers."""
    HERE.mkdir(exist_ok=True)
    for name, net, arguments in networks():
        path = HERE / f"1-{name}.safetensors"
        if path.exists():
            print(f"{path.name} is there already and stays")
            continue
        net.fit(rows(), epochs=3, batch_size=5, progress=False, **arguments)
        net.save(path)
        np.savez(
            path.with_suffix(".npz"),
            flat_params=net.flat_params,
            logits=net.logits(rows()),
            predict=net.predict(rows()),
        )


if __name__ == "__main__":
    keep()
