"""Many networks in scikit-learn: MLPClassifier.fit in joblib's processes.

The processes exist before the clock starts. They shuffle as scikit-learn does; initial weights are
fastnn's. Each has one BLAS thread, which joblib sees to.
"""

from __future__ import annotations

import time
import warnings

import joblib
import sklearn
from joblib.executor import get_memmapping_executor
from workloads import make_data, make_weights, row_order

from contenders.use_sklearn import GivenOrder, make_classifier, make_targets


def train(workload, epochs: int, seed: int, X, y) -> float:
    """Train one network; its last training loss."""
    model = make_classifier(workload)
    model.set_params(max_iter=epochs, random_state=seed)
    model.given_weights = make_weights(workload, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it did not converge
        model.fit(X, y)
    return float(model.loss_)


class Many:
    """Trains the networks of a stack in so many processes."""

    def __init__(self, processes: int):
        self._processes = processes

    def about(self) -> dict:
        return {"scikit-learn": sklearn.__version__, "joblib": joblib.__version__,
                "processes": self._processes}  # fmt: skip

    def load(self, stack) -> None:
        self.stack = stack
        self.X, y = make_data(stack.workload)
        self.y = make_targets(stack.workload, y)
        self._parallel = joblib.Parallel(n_jobs=self._processes)
        self._parallel.__enter__()
        self._run(2 * self._processes, 1)

    def run(self) -> dict:
        began = time.perf_counter()
        losses = self._run(self.stack.count, self.stack.epochs)
        return {"seconds": time.perf_counter() - began, "loss": losses}

    def end(self) -> None:
        """End the processes."""
        self._parallel.__exit__(None, None, None)
        get_memmapping_executor(self._processes).terminate(kill_workers=True)

    def _run(self, count: int, epochs: int) -> list[float]:
        one = joblib.delayed(train)
        workload = self.stack.workload
        return self._parallel(one(workload, epochs, i, self.X, self.y) for i in range(count))

    def check(self, count: int) -> list[float]:
        """The last losses of the first networks with fastnn's orders of rows."""
        losses = []
        for seed in range(count):
            model = make_classifier(self.stack.workload)
            model.set_params(random_state=GivenOrder(0))
            model.given_weights = make_weights(self.stack.workload, seed)
            for epoch in range(self.stack.epochs):
                model.random_state.order = row_order(self.stack.workload, epoch, seed)
                model.partial_fit(self.X, self.y, classes=[0, 1])
            losses.append(float(model.loss_))
        return losses
