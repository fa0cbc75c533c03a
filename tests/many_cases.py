"""Networks that are trained side by side, and the same ones trained alone."""

import numpy as np
from conftest import table

from fastnn import (
    LBFGS,
    SGD,
    SWA,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    EarlyStopping,
    GaussianNoise,
    Maxout,
    Muon,
    Residual,
    Sequential,
)
from fastnn.schedules import Cosine, Exponential

X, Y = table(150, 6)
HANGS = 60


def layers():
    return [Dense(8, "relu"), Dense(3)]


#: Networks of all kinds: shapes, layers, optimizers, dtypes, rows, schedules, averages.
SPECS = [
    {"seed": 1},
    {"seed": 2, "batch_size": 7, "optimizer": SGD(0.1, momentum=0.9, nesterov=True)},
    {"layers": [Dense(20, "tanh"), Dropout(0.3), Dense(3)], "dtype": "float64"},
    {"layers": [Dense(9), BatchNorm(), GaussianNoise(0.1), Dense(3)], "accumulate": 2},
    {"layers": [Residual([Dense(6, "gelu")]), Maxout(5), Dense(3)], "l2": 0.01},
    {"optimizer": Muon(0.01), "epochs": 3, "layers": [Dense(8, "relu"), Dense(8), Dense(3)]},
    {"optimizer": LBFGS(), "epochs": 6, "batch_size": "auto"},
    {"rows": np.arange(0, 150, 2), "epochs": 5, "ema": 0.9},
    {"rows": np.arange(150) % 5 != 0, "swa": SWA(2)},
    {"schedule": Cosine(), "optimizer": AdamW(Exponential(0.01, rate=0.9))},
    {"validation_split": 0.2, "early_stopping": EarlyStopping(1), "metrics": ["f1"]},
    {"steps": 11, "freeze": ["0"], "shuffle": False},
    {"sample_weight": np.linspace(0, 2, 150), "class_weight": "balanced", "batch_size": None},
    {"y": Y[::-1].copy(), "loss": "cross_entropy", "optimizer": Adam(0.01, clip_norm=0.5)},
    {"n_inputs": 6, "input_scale": 0.5, "initial_epoch": 1, "validation_data": (X[:40], Y[:40])},
]  # fmt: skip
COMMON = {"epochs": 4, "batch_size": 16}


def alone(spec, common=COMMON):
    """The network of a spec, trained by itself."""
    arguments = {"layers": layers(), **common, **spec}
    names = ("layers", "n_inputs", "seed", "dtype", "l1", "l2", "input_scale")
    net = Sequential(**{name: arguments.pop(name) for name in names if name in arguments})
    net.fit(X, arguments.pop("y", Y), progress=False, **arguments)
    return net


def same(one, other):
    """All bits of two trained networks agree, and their histories but for the seconds."""
    for a, b in (
        (one.flat_params, other.flat_params),
        (one._statistics, other._statistics),
        (one.training_state.slots, other.training_state.slots),
    ):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert list(one.history) == list(other.history)
    for name in one.history:
        if name != "seconds":
            np.testing.assert_array_equal(one.history[name], other.history[name])
    assert one.history.stopped == other.history.stopped
    assert one.training_state.epoch == other.training_state.epoch
