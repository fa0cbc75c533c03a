"""SHA-256 of the parameters after 50 steps, for networks that use every kind of operation.

``python tests/digests.py`` prints them as JSON for the engine and the vector instructions that
the environment chooses; ``python tests/digests.py --keep`` writes them to digests.json. Weights
and rows come from whole numbers, so that nothing but the steps themselves is in the digest.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from fastnn import (
    SGD,
    Activation,
    Adam,
    Dense,
    GroupNorm,
    LayerNorm,
    Maxout,
    PReLU,
    Residual,
    Scale,
    Sequential,
)
from fastnn.tables import Act

KEPT = Path(__file__).with_name("digests.json")

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
    "row layers": (1300, 650, "cross_entropy", Adam(0.01), (37, 53, 29, 7),
                   ["gelu", "identity"], {}),
    "residual": (9000, 4500, "cross_entropy", Adam(0.01), (11, 18, 3), ["relu"], {}),
}  # fmt: skip


def numbers(count: int, step: int) -> np.ndarray:
    """`count` numbers between -0.5 and 0.5, exact in float32, that look random."""
    return ((np.arange(count, dtype=np.int64) * step + step // 7) % 1021 - 510) / 1024


def train(name: str, dtype: str) -> Sequential:
    """Train a network of the list for 50 steps or a few more."""
    rows, batch_size, loss, optimizer, widths, acts, keywords = NETWORKS[name]
    l2 = keywords.get("l2", 1e-4)
    layers = [Dense(n, act, l2=l2) for n, act in zip(widths[1:-1], acts, strict=True)]
    if name == "odd":
        layers += [Dense(6, act) for act in (a.name for a in Act) if act not in ("step", "softmax")]
        layers += [Activation("softmax"), Dense(6, l1=1e-4)]
    if name == "row layers":
        layers = [Scale(bias=True), layers[0], LayerNorm(), layers[1], Maxout(24, 3), GroupNorm(4)]
        layers += [Activation("mish"), Residual([LayerNorm(affine=False), Maxout(24), Scale()])]
    if name == "residual":
        branch = [Dense(20), PReLU(), Residual([Dense(20, "gelu")]), Dense(18, "tanh", l2=1e-4)]
        layers += [Residual(branch), Activation("silu"), Residual([Dense(7)]), PReLU(shared=True)]
    net = Sequential([*layers, Dense(widths[-1])], n_inputs=widths[0], dtype=dtype)
    for index, array in enumerate(net.parameters().values()):
        size = 4.0 / array.shape[0] ** 0.5 if array.ndim == 2 else 1.0
        array[...] = size * numbers(array.size, 7919 + index).reshape(array.shape)
    X = 2.0 * numbers(rows * widths[0], 15485863).reshape(rows, widths[0])
    if loss == "cross_entropy":
        targets = np.arange(rows) * 31 % widths[-1]
    elif loss == "binary_cross_entropy":
        targets = (numbers(rows * widths[-1], 32452843).reshape(rows, -1) > 0).astype(float)
    else:
        targets = numbers(rows * widths[-1], 32452843).reshape(rows, -1)
    weights = 1.0 + numbers(rows, 611953) if keywords.get("weighted") else None
    epochs = -(-50 // -(-rows // batch_size))
    net.fit(
        X, targets, loss=loss, optimizer=optimizer, epochs=epochs, batch_size=batch_size,
        sample_weight=weights, progress=False,
    )  # fmt: skip
    return net


def digest(name: str, dtype: str) -> str:
    """SHA-256 of the trained parameters in little-endian bytes."""
    parameters = train(name, dtype).flat_params
    assert np.isfinite(parameters).all()
    return hashlib.sha256(
        parameters.astype(parameters.dtype.newbyteorder("<")).tobytes()
    ).hexdigest()


def all_digests(dtypes=("float32", "float64")) -> dict[str, str]:
    """The digest of every network in some types, by "name, dtype"."""
    return {f"{n}, {t}": digest(n, t) for n in NETWORKS for t in dtypes}


if __name__ == "__main__":
    found = json.dumps(all_digests(), indent=1)
    if "--keep" in sys.argv:
        KEPT.write_text(found + "\n")
    print(found)
