"""SHA-256 of parameters and statistics after 50 steps, for networks with every kind of operation.

``python tests/digests.py`` prints them as JSON for the engine and the vector instructions that
the environment chooses. ``python tests/digests.py --keep`` adds those of new networks to
digests.json and refuses to touch the others; ``--change "odd" "wide"`` replaces those of the named
networks, which is a change of results for users: it belongs into CHANGELOG.md. Weights and rows
come from whole numbers, so that nothing but the steps themselves is in the digest.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from fastnn import (
    EMA,
    SGD,
    Activation,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    GaussianNoise,
    GroupNorm,
    LayerNorm,
    Lion,
    Maxout,
    Muon,
    Nadam,
    PReLU,
    RAdam,
    Residual,
    RMSprop,
    Scale,
    Sequential,
    losses,
)
from fastnn.losses import Custom, Focal, Huber, Quantile
from fastnn.schedules import Linear
from fastnn.tables import Act

KEPT = Path(__file__).with_name("digests.json")

#: The activations in the network "odd". A later one has a network of its own, so that adding it
#: leaves the digests of the others as they are. Step and softmax are in others or train nothing.
ACTIVATIONS = (
    "identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus",
    "mish",
)  # fmt: skip


def fourth_power(y, a):
    """A user's loss of one output; NumPy's products have the same bits everywhere."""
    error = a - y
    square = error * error
    return (square * square)[:, 0], 4 * error * square


#: name: (rows, batch size, loss, optimizer, widths, hidden activations, keywords of fit)
NETWORKS = {
    "tiny": (40, 4, "mse", SGD(0.1), (2, 4, 1), ["tanh"], {}),
    "batch of one": (50, 1, "cross_entropy", SGD(0.05), (30, 40, 5), ["relu"], {}),
    "odd": (150, 13, "cross_entropy", Adam(0.01), (37, 53, 29, 7), ["tanh", "sigmoid"], {}),
    "wide": (160, 16, "cross_entropy", Adam(0.01), (70, 130, 110, 10), ["relu", "elu"], {}),
    "long": (2000, 700, "sse", SGD(1e-5, momentum=0.9), (20, 33, 3), ["silu"], {}),
    "few outputs": (400, 80, "binary_cross_entropy", Adam(0.01), (300, 20, 2), ["softplus"], {}),
    "thousand": (60, 20, "cross_entropy", SGD(0.05, momentum=0.9, nesterov=True),
                 (19, 17, 1000), ["gelu"], {}),
    "many rows": (13000, 6500, "cross_entropy", Adam(0.01), (11, 18, 3), ["relu"], {}),
    "weights": (90, 30, "mse", SGD(0.05), (9, 8, 5), ["selu"], {"weighted": True}),
    "sums": (2000, 700, "sse", SGD(1e-5, momentum=0.9), (20, 33, 3), ["silu"], {"l2": 0}),
    "stochastic": (300, 60, "cross_entropy", Adam(0.01), (37, 70, 5), ["relu"], {}),
    "row layers": (1300, 650, "cross_entropy", Adam(0.01), (37, 53, 29, 7),
                   ["gelu", "identity"], {}),
    "embedding": (1300, 650, "cross_entropy", Adam(0.01), (6, 19, 4), ["relu"], {}),
    "residual": (9000, 4500, "cross_entropy", Adam(0.01), (11, 18, 3), ["relu"], {}),
    "custom": (90, 30, Custom(fourth_power), SGD(0.05), (9, 8, 1), ["tanh"], {"weighted": True}),
    "mae": (300, 100, "mae", Adam(0.01), (9, 8, 5), ["tanh"], {"weighted": True}),
    "huber": (300, 100, Huber(0.2), Adam(0.01), (9, 8, 19), ["tanh"], {}),
    "quantile": (300, 100, Quantile(0.8), Adam(0.01), (9, 8, 1), ["tanh"], {}),
    "quantiles": (300, 100, Quantile([0.1, 0.4, 0.9]), Adam(0.01), (9, 8, 6), ["tanh"], {}),
    "poisson": (300, 100, "poisson", Adam(0.01), (9, 8, 3), ["relu"], {"weighted": True}),
    "hinge": (300, 100, "hinge", Adam(0.01), (9, 8, 1), ["relu"], {}),
    "squared hinge": (300, 100, "squared_hinge", Adam(0.01), (9, 8, 18), ["relu"], {}),
    "focal": (300, 100, Focal(1.5), Adam(0.01), (9, 8, 21), ["silu"], {"weighted": True}),
    "focal of one output": (300, 100, Focal(0.5), Adam(0.01), (9, 8, 1), ["silu"], {}),
    "normal": (300, 100, "gaussian_nll", Adam(0.01), (9, 8, 10), ["tanh"], {}),
    "batch norm, ending in one row": (1150, 383, "cross_entropy", Adam(0.01), (20, 130, 10),
                                      ["tanh"], {}),
    "muon": (160, 32, "cross_entropy",
             Muon(weight_decay=0.1, clip_norm=0.5, adamw=AdamW(0.01, weight_decay=0.1)),
             (19, 50, 33, 1, 17, 5), ["tanh", "silu", "identity", "tanh"], {}),
    "muon, large": (50, 10, "cross_entropy", Muon(nesterov=False, every=25, newton_schulz=2),
                    (7, 530, 600, 3), ["relu", "tanh"], {"l2": 0}),
    "batch norm": (2000, 700, "mse", SGD(0.05, momentum=0.9), (13, 50, 3), ["relu"], {}),
    "adagrad": (300, 60, "cross_entropy", Adagrad(0.05, 0.1, weight_decay=0.01),
                (19, 33, 5), ["tanh"], {}),
    "rmsprop": (300, 60, "cross_entropy", RMSprop(0.005, clip_norm=0.3), (19, 33, 5), ["tanh"], {}),
    "rmsprop, momentum": (300, 60, "cross_entropy",
                          RMSprop(0.002, momentum=0.9, eps_inside=False, clip_value=0.02),
                          (19, 33, 5), ["tanh"], {}),
    "rmsprop, centered": (300, 60, "cross_entropy", RMSprop(0.005, centered=True, weight_decay=0.1),
                          (19, 33, 5), ["tanh"], {}),
    "rmsprop, both": (300, 60, "cross_entropy",
                      RMSprop(0.002, momentum=Linear(0.5, 0.9, 30), centered=True,
                              lr_factors={"0": 0.5, "1.b": 2}),
                      (19, 33, 5), ["tanh"], {}),
    "amsgrad": (300, 60, "cross_entropy", Adam(0.01, beta2=0.9, amsgrad=True, clip_norm=0.3),
                (19, 33, 5), ["tanh"], {}),
    "adamw": (300, 60, "cross_entropy",
              AdamW(0.01, weight_decay=0.1, clip_norm=0.3, lr_factors={"0": 0.5},
                    decay_factors={"1": 0.25}),
              (19, 33, 5), ["tanh"], {}),
    "adamw, amsgrad": (300, 60, "cross_entropy", AdamW(0.01, Linear(0.5, 0.95, 40), amsgrad=True),
                       (19, 33, 5), ["tanh"], {}),
    "nadam": (300, 60, "cross_entropy", Nadam(0.01, weight_decay=0.01),
              (19, 33, 5), ["tanh"], {}),
    "adadelta": (300, 60, "cross_entropy", Adadelta(rho=0.95, clip_norm=0.5),
                 (19, 33, 5), ["tanh"], {}),
    "radam": (300, 60, "cross_entropy", RAdam(0.01, weight_decay=0.01, lr_factors={"1": 3}),
              (19, 33, 5), ["tanh"], {}),
    "lion": (300, 60, "cross_entropy", Lion(0.003, weight_decay=0.3), (19, 33, 5), ["tanh"], {}),
    "groups": (300, 60, "cross_entropy",
               Adam(0.01, weight_decay=0.02, clip_norm=0.1, lr_factors={1: 0.3, "3.b": 2.0},
                    decay_factors={"2": 0.5, "3.b": 1.0}),
               (37, 53, 91, 71, 7), ["tanh", "relu", "silu"], {"fit": {"freeze": [0, "2.b"]}}),
    "batch norm, averaged": (300, 60, "cross_entropy", Adam(0.01), (20, 70, 10), ["tanh"],
                             {"fit": {"ema": EMA(0.9, start=7, every=2)}}),
    "batch norm, accumulated": (900, 101, "cross_entropy", Adam(0.01), (20, 70, 10), ["tanh"],
                                {"fit": {"accumulate": 3}}),
}  # fmt: skip
NETWORKS |= {
    f"activation {act.name}": (150, 13, "cross_entropy", Adam(0.01), (37, 53, 7), [act.name], {})
    for act in Act
    if act.name not in (*ACTIVATIONS, "step", "softmax")
}


def numbers(count: int, step: int) -> np.ndarray:
    """`count` numbers between -0.5 and 0.5, exact in float32, that look random."""
    return ((np.arange(count, dtype=np.int64) * step + step // 7) % 1021 - 510) / 1024


def train(name: str, dtype: str) -> Sequential:
    """Train a network of the list for 50 steps or a few more."""
    rows, batch_size, loss, optimizer, widths, acts, keywords = NETWORKS[name]
    l2 = keywords.get("l2", 1e-4)
    layers = [Dense(n, act, l2=l2) for n, act in zip(widths[1:-1], acts, strict=True)]
    if name == "odd":
        layers += [Dense(6, act) for act in ACTIVATIONS]
        layers += [Activation("softmax"), Dense(6, l1=1e-4)]
    if name == "stochastic":
        branch = Residual([Dropout(Linear(0.5, 0.1, 40)), Dense(70, "tanh"), GaussianNoise(0.2)])
        layers = [GaussianNoise(0.1), *layers, Dropout(0.3), branch, Dropout(0.25, "test")]
    if name == "row layers":
        layers = [Scale(bias=True), layers[0], LayerNorm(), layers[1], Maxout(24, 3), GroupNorm(4)]
        layers += [Activation("mish"), Residual([LayerNorm(affine=False), Maxout(24), Scale()])]
    if name == "embedding":
        layers = [Embedding({1: (7, 4), 4: (90, 3)}), *layers, Dense(17, "tanh", max_norm=0.5)]
    if name == "muon":
        layers += [Maxout(9, 2), Residual([Dense(70, "gelu"), Dense(20)])]
    if name == "residual":
        branch = [Dense(20), PReLU(), Residual([Dense(20, "gelu")]), Dense(18, "tanh", l2=1e-4)]
        layers += [Residual(branch), Activation("silu"), Residual([Dense(7)]), PReLU(shared=True)]
    if name.startswith("batch norm"):
        branch = [BatchNorm(), Dense(33), BatchNorm(0.8), Activation("gelu"), Dense(70, "silu")]
        layers = [BatchNorm(affine=False), *layers, BatchNorm(epsilon=1e-3), Dense(70)]
        layers += [BatchNorm(), BatchNorm(), Activation("elu"), Residual(branch), BatchNorm(0.0)]
    net = Sequential([*layers, Dense(widths[-1])], n_inputs=widths[0], dtype=dtype)
    for index, array in enumerate(net.parameters().values()):
        size = 4.0 / array.shape[0] ** 0.5 if array.ndim == 2 else 1.0
        array[...] = size * numbers(array.size, 7919 + index).reshape(array.shape)
    X = 2.0 * numbers(rows * widths[0], 15485863).reshape(rows, widths[0])
    if name == "embedding":
        X[:, 1], X[:, 4] = np.arange(rows) * 31 % 7, np.arange(rows) * 13 % 90
    loss = losses.get(loss)
    columns = widths[-1] // loss.n_per_target
    targets = numbers(rows * columns, 32452843).reshape(rows, -1)
    if loss.name in ("cross_entropy", "focal"):
        targets = np.arange(rows) * 31 % max(widths[-1], 2)
    elif loss.name in ("binary_cross_entropy", "hinge", "squared_hinge"):
        targets = (targets > 0).astype(float)
    elif loss.name == "poisson":
        targets = np.floor(6 * targets + 3)
    weights = 1.0 + numbers(rows, 611953) if keywords.get("weighted") else None
    more = keywords.get("fit", {})
    epochs = -(-50 // -(-rows // (batch_size * more.get("accumulate", 1))))
    net.fit(
        X, targets, loss=loss, optimizer=optimizer, epochs=epochs, batch_size=batch_size,
        sample_weight=weights, progress=False, **more,
    )  # fmt: skip
    return net


def digest(name: str, dtype: str) -> str:
    """The digest of a network of the list."""
    return digest_of(train(name, dtype))


def digest_of(net: Sequential) -> str:
    """SHA-256 of the trained parameters and running statistics in little-endian bytes."""
    found = np.concatenate([net.flat_params, net.training_state.state])
    assert np.isfinite(found).all()
    return hashlib.sha256(found.astype(found.dtype.newbyteorder("<")).tobytes()).hexdigest()


def all_digests(dtypes=("float32", "float64")) -> dict[str, str]:
    """The digest of every network in some types, by "name, dtype"."""
    return {f"{n}, {t}": digest(n, t) for n in NETWORKS for t in dtypes}


def keep(found: dict[str, str], change=()) -> int:
    """Write new digests to the file, and those of the networks named in `change`; 1 if others
    have changed.
    """
    kept = json.loads(KEPT.read_text())
    changed = {name for name in kept.keys() & found.keys() if kept[name] != found[name]}
    unwanted = sorted(name for name in changed if name.rpartition(", ")[0] not in change)
    merged = {name: kept[name] if name in unwanted else found[name] for name in found}
    KEPT.write_text(json.dumps(merged, indent=1) + "\n")
    print(f"new: {sorted(found.keys() - kept.keys())}, gone: {sorted(kept.keys() - found.keys())}")
    print(f"changed as wished: {sorted(changed.difference(unwanted))}")
    if unwanted:
        print(f"NOT written, since their bits have changed: {unwanted}. {IF_MEANT}")
    return int(bool(unwanted))


#: What to do about a digest that differs from the kept one.
IF_MEANT = (
    "If other results are meant, replace the digests by python tests/digests.py --change NETWORK "
    "..., and say so in CHANGELOG.md; if not, find the operation whose sums have another order"
)
#: What to do about a network without a digest.
IF_NEW = "python tests/digests.py --keep brings the file up to date"


def check(found: str, name: str, dtype: str) -> None:
    """Fail, and say what to do, unless the digest is the kept one."""
    kept = json.loads(KEPT.read_text()).get(f"{name}, {dtype}")
    assert kept is not None, f"no digest is kept of {name!r} in {dtype}: {IF_NEW}"
    assert found == kept, f"the bits of {name!r} in {dtype} are not the kept ones. {IF_MEANT}"


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--keep", action="store_true")
    options.add_argument("--change", nargs="+", choices=NETWORKS, default=[], metavar="NETWORK")
    chosen = options.parse_args()
    if chosen.keep or chosen.change:
        sys.exit(keep(all_digests(), chosen.change))
    print(json.dumps(all_digests(), indent=1))
