"""fastnn: an epoch is one call of ``fit``, which goes on where the last one stopped."""

from __future__ import annotations

import time

import numpy as np
from workloads import make_data, make_network, make_optimizer

import fastnn
from contenders.common import timed


class Trainer:
    """Trains with one engine; how many threads it uses is its own affair."""

    def __init__(self, threads: int, engine: str):
        self.engine = engine
        fastnn.set_engine(engine)

    def about(self) -> dict:
        found = {"fastnn": fastnn.__version__, "engine": self.engine}
        if self.engine == "numba":
            import numba

            found["numba"] = numba.__version__
        return found | {"threads": fastnn.get_num_threads()}

    def load(self, workload) -> None:
        self.workload = workload
        self.X, self.y = make_data(workload)
        self.net = make_network(workload)
        self.optimizer = make_optimizer(workload)

    def epoch(self, number: int) -> dict:
        began = time.perf_counter()
        history = self.net.fit(
            self.X, self.y, loss=self.workload.loss, optimizer=self.optimizer, epochs=1,
            batch_size=self.workload.batch_size, progress=False,
        )  # fmt: skip
        whole = time.perf_counter() - began
        return {"seconds": history["seconds"][-1], "whole": whole, "loss": history["loss"][-1]}


class Predictor:
    """``predict_proba`` of a network with the initial weights."""

    def __init__(self, threads: int, engine: str):
        self.engine = engine
        fastnn.set_engine(engine)

    about = Trainer.about

    def load(self, workload) -> None:
        self.X, y = make_data(workload)
        self.net = make_network(workload)
        initial = self.net.flat_params.copy()
        self.net.fit(self.X[:32], y[:32], loss=workload.loss, epochs=1, progress=False)
        self.net.flat_params = initial

    def outputs(self, rows: int) -> np.ndarray:
        return self.net.predict_proba(self.X[:rows])

    def calls(self, rows: int, count: int) -> np.ndarray:
        return timed(self.net.predict_proba, self.X[:rows], count)
