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


LEAVES_OF = {
    "forward": ("dense_forward", "narrow_forward"),
    "weights": ("dense_weights", "narrow_weights", "slab_weights", "add_slabs"),
    "inputs": (
        "transpose_weights", "transpose_gradient", "dense_inputs", "dense_inputs_transposed",
    ),
}  # fmt: skip


class Multiplier:
    """The three products of a dense layer, each run again and again by the compiled driver."""

    def __init__(self, threads: int, engine: str):
        self.engine = engine
        fastnn.set_engine(engine)
        fastnn.set_num_threads(threads)

    about = Trainer.about

    def seconds(self, product: str, rows: int, n_in: int, n_out: int, count: int) -> float:
        """Seconds of one product, the mean of `count` in a row."""
        from fastnn.engines import current
        from fastnn.engines.tables import SLOTS, Rule
        from fastnn.engines.workspace import Data, Workspace

        net = fastnn.Sequential(
            [fastnn.Dense(n_in), fastnn.Dense(n_out)], n_inputs=1, dtype="float32"
        )
        ws = Workspace(net._lower(fastnn.losses.mse), net.flat_params, rows, SLOTS[Rule.sgd])
        data = Data(
            np.ones((rows * count, 1), np.float32), Y=np.zeros((rows * count, n_out), np.float32),
            batch_size=rows, order=np.arange(rows * count),
        )  # fmt: skip
        hyper, results = np.zeros((count, 4)), np.zeros((count, 2))
        engine = current()

        def run(first, last):
            engine.run_batches(ws, data, Rule.sgd, hyper, results, first, last)

        run(0, 1)
        kept = {engine._address(leaf, net.flat_params.dtype) for leaf in LEAVES_OF[product]}
        (key,) = [k for k in ws.bound if isinstance(k, tuple)]
        program = ws.bound[key]
        wanted = [int(call["leaf"]) in kept and call["row"] > 0 for call in program.table]
        ws.bound[key] = type(program)(program.table[wanted])
        run(0, 1)
        began = time.perf_counter()
        run(0, count)
        return (time.perf_counter() - began) / count
