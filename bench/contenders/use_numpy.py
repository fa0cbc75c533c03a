"""Prediction in plain NumPy, which in float64 is the reference; products by OpenBLAS."""

from __future__ import annotations

import functools
import time

import numpy as np
from workloads import make_data, make_weights

from contenders.common import blas, operands, timed


class Predictor:
    """Products, ReLU and softmax, with a given number of BLAS threads."""

    def __init__(self, threads: int):
        from threadpoolctl import threadpool_limits  # not needed by `probabilities`

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


class Multiplier:
    """``numpy.matmul`` into an existing matrix."""

    def __init__(self, threads: int):
        from threadpoolctl import threadpool_limits

        self._limit = threadpool_limits(threads, user_api="blas")

    about = Predictor.about

    def seconds(self, product: str, rows: int, n_in: int, n_out: int, count: int) -> float:
        """Mean seconds of one product over `count` repetitions."""
        a, b = operands(product, rows, n_in, n_out)
        out = a @ b
        began = time.perf_counter()
        for _ in range(count):
            np.matmul(a, b, out=out)
        return (time.perf_counter() - began) / count


class CompiledMultiplier:
    """SciPy's OpenBLAS sgemm, called from a compiled loop."""

    def __init__(self, threads: int):
        from threadpoolctl import threadpool_limits

        _compiled_loop()  # loads the library whose threads are limited next
        self._limit = threadpool_limits(threads, user_api="blas")

    about = Predictor.about

    def seconds(self, product: str, rows: int, n_in: int, n_out: int, count: int) -> float:
        """Mean seconds of one product over `count` repetitions."""
        a, b = operands(product, rows, n_in, n_out)
        out = a @ b
        loop = _compiled_loop()
        loop(a, b, out, 1)
        began = time.perf_counter()
        loop(a, b, out, count)
        return (time.perf_counter() - began) / count


@functools.cache
def _compiled_loop():
    import numba
    import scipy.linalg.blas  # noqa: F401 (Numba's dot calls it)

    @numba.njit
    def loop(a, b, out, count):
        for _ in range(count):
            np.dot(a, b, out)

    return loop
