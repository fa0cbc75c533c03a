"""Random fits of every kind for tests of checkpoints, and all that a fit leaves behind."""

import json
import random

import numpy as np
from safetensors import safe_open

from fastnn import (
    EMA,
    SGD,
    SWA,
    Adam,
    AdamW,
    BatchNorm,
    Callback,
    Dense,
    Dropout,
    EarlyStopping,
    GaussianNoise,
    LayerNorm,
    Lion,
    Muon,
    Nadam,
    PReLU,
    RAdam,
    Residual,
    RMSprop,
    Sequential,
    schedules,
)


def contents(path):
    """Tensors and description of a checkpoint, as safetensors and json read them."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["fastnn checkpoint"])


class Slower(Callback):
    """A callback with a state of its own, which changes the rates and reads the random order."""

    def __init__(self, every=3):
        self.every, self.seen, self.lowest = every, [], float("inf")

    def on_steps(self, training):
        self.seen.append(training.step)
        if training.step % 4 == 0:
            training.lr_factor = 0.5 + 1 / (1 + len(self.seen))

    def on_epoch_begin(self, training):
        self.seen.append(-training.epoch)

    def on_epoch_end(self, training):
        self.lowest = min(self.lowest, training.values["loss"])
        self.seen.append(training.lr)

    def state_dict(self):
        return {"seen": self.seen, "lowest": self.lowest}

    def load_state_dict(self, state):
        self.seen, self.lowest = list(state["seen"]), state["lowest"]


def optimizer(draw):
    lr = draw.choice(
        [0.01, schedules.Linear(0.01, 0.001, None), schedules.Exponential(0.01, rate=0.97)]
    )
    beta = draw.choice([0.9, 0.5, schedules.Linear(0.5, 0.95, None)])
    common = draw.choice([{}, {"weight_decay": 0.1}, {"clip_norm": 0.5}, {"lr_factors": {0: 0.5}}])
    kinds = [
        lambda: Adam(lr, beta, amsgrad=draw.random() < 0.5, **common),
        lambda: SGD(lr, momentum=beta, nesterov=draw.random() < 0.5, **common),
        lambda: SGD(lr, **common), lambda: AdamW(lr, **common), lambda: Nadam(lr, **common),
        lambda: RAdam(lr, **common), lambda: Lion(0.001, **common),
        lambda: RMSprop(lr, momentum=0.5, centered=True, **common),
        lambda: Muon(lr, every=draw.choice([1, 2]), newton_schulz=2, **common),
    ]  # fmt: skip
    return draw.choice(kinds)()


def layers(draw):
    found = [Dense(draw.choice([5, 16, 33]), draw.choice(["relu", "tanh"]), max_norm=1.5)]
    for _ in range(draw.randrange(3)):
        found.append(draw.choice([
            lambda: BatchNorm(), lambda: LayerNorm(), lambda: GaussianNoise(0.1), lambda: PReLU(),
            lambda: Dropout(draw.choice([0.3, schedules.Linear(0.4, 0.1, None)])),
            lambda: Residual([Dense(6, "tanh"), Dense(found[0].units)]),
        ])())  # fmt: skip
    return [*found, Dense(9, "silu"), Dense(4)]


def arguments(draw, X, y):
    """The arguments of a fit: some have effects that last from step to step."""
    found = {
        "epochs": draw.choice([1, 2, 4]), "batch_size": draw.choice([7, 16, 33]),
        "optimizer": optimizer(draw), "progress": False,
    }  # fmt: skip
    validates = draw.random() < 0.6
    if validates:
        split = draw.random() < 0.5
        found |= {"validation_split": 0.2} if split else {"validation_data": (X[:30], y[:30])}
    chance = draw.random()
    keep = draw.choice(["average", "last", *(["best"] if validates else [])])
    if chance < 0.3:
        found["ema"] = EMA(0.8, every=draw.choice([1, 2]), start=draw.choice([0, 5]), keep=keep)
    elif chance < 0.6:
        found["swa"] = SWA(draw.choice([0.0, 0.5, 0]), every=draw.choice([1, 2]), keep=keep)
    if draw.random() < 0.5:
        found["schedule"] = draw.choice([
            schedules.Cosine(), schedules.OneCycle(), schedules.WarmRestarts(T_0=5),
            schedules.ReduceOnPlateau(patience=0, factor=0.5, threshold=0.1),
            schedules.Sequence([
                (schedules.Linear(0.5, 1, 2), 2),
                (schedules.ReduceOnPlateau(patience=0, factor=0.5, threshold=0.1), None),
            ]),
            lambda step: 1 / (1 + step),
        ])  # fmt: skip
    if validates and draw.random() < 0.6:
        found["early_stopping"] = EarlyStopping(draw.choice([0, 1, 5]))
    if draw.random() < 0.3:
        found["accumulate"] = 2
    if draw.random() < 0.3:
        found["freeze"] = [0]
    if draw.random() < 0.3:
        found["steps"] = draw.choice([1, 5, 12])
    if draw.random() < 0.3:
        found["sample_weight"] = np.random.default_rng(2).random(len(X))
    if draw.random() < 0.3:
        found["rows"] = np.random.default_rng(3).permutation(len(X))[:60]
    if draw.random() < 0.2:
        found["shuffle"] = False
    if draw.random() < 0.2:
        found["epochs"] += 3
        found["initial_epoch"] = 3
    return found


class Case:
    """A network, and a fit of it that may follow another one."""

    def __init__(self, number):
        draw = random.Random(number)
        rng = np.random.default_rng(number)
        n = draw.choice([80, 97])
        self.X, self.y = rng.normal(size=(n, 8)).astype(np.float32), rng.integers(0, 4, n)
        self._layers, self._seed = layers(draw), number
        self._dtype = draw.choice(["float32", "float64"])
        self.fit = arguments(draw, self.X, self.y)
        self.before = None
        if draw.random() < 0.4:
            self.before = arguments(draw, self.X, self.y)
            if draw.random() < 0.5:
                continues = ("optimizer", "schedule", "ema", "swa")
                kept = {k: v for k, v in self.before.items() if k not in continues}
                self.before = kept | {k: v for k, v in self.fit.items() if k in continues}
                if any(getattr(self.before.get(k), "keep", "") == "best" for k in ("ema", "swa")):
                    self.before |= {"validation_data": (self.X, self.y), "validation_split": 0.0}
        self.has_callback = draw.random() < 0.4

    def network(self):
        return Sequential(self._layers, seed=self._seed, dtype=self._dtype)

    def prepared(self):
        """A network as it is before the fit."""
        net = self.network()
        if self.before is not None:
            net.fit(self.X, self.y, **self.before)
        return net

    def run(self, net, **more):
        """Everything that the fit leaves behind."""
        callbacks = [Slower()] if self.has_callback else []
        history = net.fit(self.X, self.y, callbacks=callbacks, **self.fit, **more)
        return [*left(net, history), repr([(one.seen, one.lowest) for one in callbacks])]


def left(net, history):
    """Everything that a fit leaves behind, but for the time that it took."""
    state, average = net.training_state, net.training_state.average
    found = [
        net.flat_params.tobytes(), state.state.tobytes(), state.slots.tobytes(),
        repr({name: values for name, values in history.items() if name != "seconds"}),
        (history.best_epoch, history.stopped, history.n_steps, history.rows_trained),
        (state.step, state.total_steps, state.epoch, state.optimizer_epoch, state.progress),
    ]  # fmt: skip
    if average is not None:
        found += [average.vector.tobytes(), average.last.tobytes(), average.held.tobytes()]
        found.append((average.rule, average.first, average.first_step, average.first_epoch))
    return found
