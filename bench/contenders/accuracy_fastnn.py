"""fastnn in bench/accuracy.py: one generator of epochs, as a user would write it."""

from __future__ import annotations

import time
from contextlib import suppress

from pictures import standardised
from recipes import TEXTBOOK, augmentation

import fastnn
from fastnn import (
    SGD,
    Activation,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    GaussianNoise,
    Sequential,
    schedules,
)
from fastnn.losses import CrossEntropy


class Accuracy:
    """Trains one network after another; methods as in :mod:`contenders`, see accuracy.py."""

    def __init__(self, engine: str | None = None):
        if engine is not None:
            fastnn.set_engine(engine)

    def about(self) -> dict:
        from fastnn import engines

        return {
            "fastnn": fastnn.__version__, "engine": engines.choice()[0],
            "threads": fastnn.get_num_threads(),
        }  # fmt: skip

    def load(self, folder, name: str, rows: int | None, held_out: bool) -> None:
        self.data = standardised(folder, name, rows, held_out)

    def start(self, recipe, seed: int) -> None:
        """Make a network; its kernels are compiled and its threads measured before the clock."""
        rows = self.data.X[: 2 * recipe.batch_size], self.data.y[: 2 * recipe.batch_size]
        for _ in self._epochs(self._network(recipe, seed), recipe, *rows):
            pass
        self.net = self._network(recipe, seed)
        self.epochs = self._epochs(self.net, recipe, self.data.X, self.data.y)

    def epoch(self) -> float:
        """Seconds of an epoch, with all that surrounds it."""
        began = time.perf_counter()
        with suppress(StopIteration):
            next(self.epochs)
        return time.perf_counter() - began

    def accuracy(self) -> float:
        """Percent of the test images."""
        return 100 * float((self.net.predict(self.data.X_test) == self.data.y_test).mean())

    def textbook(self, key: str, seed: int, epochs: int | None) -> dict:
        """A whole classic run on pixels from 0 to 1: its seconds, and the accuracy at its end."""
        task, data = TEXTBOOK[key], self.data
        X, X_test = (rows * data.spread + data.mean for rows in (data.X, data.X_test))
        layers = [Dense(task.hidden, "sigmoid", l2=task.l2)]
        if task.loss == "squared_error":
            layers += [Dense(10, "sigmoid", l2=task.l2)]
        else:
            layers += [Dense(10, l2=task.l2)]  # the loss contains the sigmoid
        net = Sequential(layers, n_inputs=X.shape[1], seed=seed)
        began = time.perf_counter()
        net.fit(
            X, data.y, loss=task.loss, optimizer=SGD(task.lr), epochs=epochs or task.epochs,
            batch_size=10, progress=False,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        accuracy = 100 * float((net.predict(X_test) == data.y_test).mean())
        return {"seconds": seconds, "accuracy": accuracy}

    def _network(self, recipe, seed: int) -> Sequential:
        layers: list = [GaussianNoise(recipe.noise)] if recipe.noise else []
        for size in recipe.hidden:
            if recipe.batch_norm:
                layers += [Dense(size), BatchNorm(), Activation("relu")]
            else:
                layers += [Dense(size, "relu")]
            if recipe.dropout:
                layers += [Dropout(recipe.dropout)]
        return Sequential([*layers, Dense(10)], n_inputs=self.data.X.shape[1], seed=seed)

    def _epochs(self, net: Sequential, recipe, X, y):
        rate = schedules.OneCycle(recipe.lr) if recipe.one_cycle else recipe.lr
        return net.epochs(
            X, y, loss=CrossEntropy(recipe.label_smoothing), batch_size=recipe.batch_size,
            optimizer=AdamW(rate, weight_decay=recipe.weight_decay), epochs=recipe.epochs,
            progress=False, **augmentation(recipe, X.shape[1], self.data.blank),
        )  # fmt: skip
