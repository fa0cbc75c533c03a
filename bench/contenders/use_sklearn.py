"""scikit-learn's MLPClassifier, given the same weights, row order and outputs.

An epoch is one ``partial_fit``. Only its inner loop is timed, without the input validation and
label coding that ``fit`` does once for all epochs. The loop shuffles and gathers the rows itself;
the generator is replaced, so that it shuffles as fastnn does.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits
from workloads import make_data, make_weights, row_order

from contenders.common import blas, timed

ACTIVATIONS = {"sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}


class GivenOrder(np.random.RandomState):
    """A generator whose shuffle is the given ``order``."""

    def shuffle(self, x):
        x[:] = self.order


class GivenClassifier(MLPClassifier):
    """Takes its initial weights from a list, and times its inner loop."""

    def _initialize(self, y, layer_units, dtype):
        self._weights = iter(self.given_weights)
        super()._initialize(y, layer_units, dtype)
        if y.shape[1] > 1:  # for two classes too; its default is one sigmoid
            self.out_activation_ = "softmax"

    def _init_coef(self, fan_in, fan_out, dtype):
        W, b = next(self._weights)
        return W.astype(dtype), b.astype(dtype)

    def _fit_stochastic(self, *args, **kwargs):
        began = time.perf_counter()
        super()._fit_stochastic(*args, **kwargs)
        self.loop_seconds = time.perf_counter() - began


def make_classifier(workload) -> GivenClassifier:
    """The classifier of a workload: no penalty, no momentum, no stopping rule."""
    model = GivenClassifier(
        workload.sizes[1:-1], activation=ACTIVATIONS[workload.activation], alpha=0,
        solver=workload.optimizer.lower(), learning_rate="constant", momentum=0,
        nesterovs_momentum=False, learning_rate_init=workload.lr, batch_size=workload.batch_size,
        tol=0, n_iter_no_change=10**9, random_state=GivenOrder(0),
    )  # fmt: skip
    model.given_weights = make_weights(workload)
    return model


def make_targets(workload, y):
    """Labels; for two outputs one-hot rows, since two labels would make one output."""
    return np.eye(2, dtype=int)[y] if workload.sizes[-1] == 2 else y


class Trainer:
    """Trains by ``partial_fit`` with a given number of BLAS threads."""

    def __init__(self, threads: int):
        self._limit = threadpool_limits(threads, user_api="blas")

    def about(self) -> dict:
        return {"scikit-learn": sklearn.__version__} | blas()

    def load(self, workload) -> None:
        self.workload = workload
        self.X, y = make_data(workload)
        self.y = make_targets(workload, y)
        self.classes = np.arange(max(2, workload.sizes[-1]))
        self.model = make_classifier(workload)

    def epoch(self, number: int) -> dict:
        self.model.random_state.order = row_order(self.workload, number)
        began = time.perf_counter()
        self.model.partial_fit(self.X, self.y, classes=self.classes)
        whole = time.perf_counter() - began
        return {"seconds": self.model.loop_seconds, "whole": whole, "loss": float(self.model.loss_)}


class Predictor(Trainer):
    """``predict_proba`` of a network with the initial weights."""

    def load(self, workload) -> None:
        super().load(workload)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.set_params(batch_size=1)
            self.model.random_state.order = np.arange(4)
            self.model.partial_fit(self.X[:4], self.y[:4], classes=self.classes)
        weights = make_weights(workload)
        self.model.coefs_ = [W for W, _ in weights]
        self.model.intercepts_ = [b for _, b in weights]

    def outputs(self, rows: int) -> np.ndarray:
        return self.model.predict_proba(self.X[:rows])

    def calls(self, rows: int, count: int) -> np.ndarray:
        return timed(self.model.predict_proba, self.X[:rows], count)
