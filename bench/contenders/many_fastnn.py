"""Many networks in fastnn: one fit after another, and ``train_many``."""

from __future__ import annotations

import time

from workloads import make_data, make_optimizer

import fastnn
from contenders.use_fastnn import Trainer
from fastnn import Dense, Sequential


class Many:
    """Trains the networks of a stack, each from its layers and seed on, as users write it."""

    def __init__(self, threads: int, engine: str, together: bool):
        fastnn.set_engine(engine)
        fastnn.set_num_threads(threads)
        self.engine, self._together = engine, together

    about = Trainer.about

    def load(self, stack) -> None:
        self.stack, workload = stack, stack.workload
        self.X, self.y = make_data(workload)
        self._settings = {
            "loss": workload.loss, "optimizer": make_optimizer(workload), "epochs": stack.epochs,
            "batch_size": workload.batch_size, "progress": False,
        }  # fmt: skip
        self.run(4)

    def run(self, count: int | None = None) -> dict:
        """Seconds, and the last training loss of each network."""
        seeds = range(self.stack.count if count is None else count)
        began = time.perf_counter()
        if self._together:
            specs = [{"layers": self._layers(), "seed": seed} for seed in seeds]
            nets = fastnn.train_many(
                specs, self.X, self.y, dtype=self.stack.workload.dtype, **self._settings
            )
        else:
            nets = []
            for seed in seeds:
                net = Sequential(self._layers(), seed=seed, dtype=self.stack.workload.dtype)
                net.fit(self.X, self.y, **self._settings)
                nets.append(net)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "loss": [net.history["loss"][-1] for net in nets]}

    def _layers(self) -> list:
        workload = self.stack.workload
        hidden = [Dense(units, workload.activation) for units in workload.sizes[1:-1]]
        return [*hidden, Dense(workload.sizes[-1])]
