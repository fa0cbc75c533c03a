"""Prediction in NumPy as one writes it by hand; in float64 it is the judge of the others."""

from __future__ import annotations

import numpy as np
from workloads import make_data, make_weights

from contenders.common import blas, timed


class Predictor:
    """Products, ReLU and softmax, with so many BLAS threads."""

    def __init__(self, threads: int):
        from threadpoolctl import threadpool_limits  # not for those who only want the judge

        self._limit = threadpool_limits(threads, user_api="blas")

    def about(self) -> dict:
        return {"numpy": np.__version__} | blas()

    def load(self, workload) -> None:
        self.X = make_data(workload)[0]
        self.weights = make_weights(workload)

    def outputs(self, rows: int) -> np.ndarray:
        return self._predict(self.X[:rows])

    def calls(self, rows: int, count: int) -> np.ndarray:
        return timed(self._predict, self.X[:rows], count)

    def _predict(self, x):
        return probabilities(self.weights, x)


def probabilities(weights, x: np.ndarray) -> np.ndarray:
    """The outputs of a ReLU network with softmax."""
    for W, b in weights[:-1]:
        x = x @ W
        x += b
        np.maximum(x, 0, out=x)
    W, b = weights[-1]
    z = x @ W
    z += b
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z
