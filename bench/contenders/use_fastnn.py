"""fastnn: an epoch is one call of ``fit``, which continues the previous one."""

from __future__ import annotations

import time

import numpy as np
from workloads import make_data, make_network, make_optimizer

import fastnn
from contenders.common import timed


class Trainer:
    """Trains with one engine, which chooses its number of threads itself."""

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


#: The kernels of each product of a dense layer, transposes and sums of slabs included.
KERNELS = {
    "forward": ("dense_forward", "narrow_forward"),
    "weights": ("dense_weights", "narrow_weights", "slab_weights", "add_slabs"),
    "inputs": (
        "transpose_weights", "transpose_gradient", "dense_inputs", "dense_inputs_transposed",
    ),
}  # fmt: skip


class Multiplier:
    """The three products of a dense layer, each repeated by one call of the compiled driver."""

    def __init__(self, threads: int, engine: str):
        self.engine = engine
        fastnn.set_engine(engine)
        fastnn.set_num_threads(threads)

    about = Trainer.about

    def seconds(self, product: str, rows: int, n_in: int, n_out: int, count: int) -> float:
        """Mean seconds of one product over `count` repetitions."""
        from fastnn import losses
        from fastnn.engines import current
        from fastnn.engines.workspace import Data, Steps, Workspace
        from fastnn.tables import COMMON
        from fastnn.update import Update

        # The second layer is measured: the first one never computes the gradient of its input.
        layers = [fastnn.Dense(n_in), fastnn.Dense(n_out)]
        net = fastnn.Sequential(layers, n_inputs=1, dtype="float32")
        plan = net.lower(losses.get("mse"))
        state = np.zeros(plan.n_state, np.float32)
        ws = Workspace(plan, net.flat_params, state, rows, Update.of(plan, fastnn.SGD()))
        data = Data(
            np.ones((rows, 1), np.float32), Y=np.zeros((rows, n_out), np.float32),
            batch_size=rows, order=np.tile(np.arange(rows), count),
        )  # fmt: skip
        steps, results = Steps(np.zeros((count, len(COMMON)))), np.zeros((count, 2))
        engine = current()

        def run(first, last):
            engine.run_batches(ws, data, steps, results, first, last)

        run(0, 1)
        # From the program of a step, keep the calls of this product alone.
        ((variant, step),) = ws.programs[engine.name].programs.items()
        wanted = step.only(lambda call: call.op == 1 and call.kernel in KERNELS[product])
        if not wanted.calls:
            raise RuntimeError(f"a step has no call of {', '.join(KERNELS[product])}")
        ws.programs[engine.name].programs[variant] = wanted
        run(0, 1)
        began = time.perf_counter()
        run(0, count)
        return (time.perf_counter() - began) / count
