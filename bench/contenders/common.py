"""Shared by the contenders: timing, BLAS information, operands of a product."""

from __future__ import annotations

import time

import numpy as np


def timed(function, argument, count: int) -> np.ndarray:
    """Seconds of each of `count` calls."""
    seconds = np.empty(count)
    for i in range(count):
        began = time.perf_counter()
        function(argument)
        seconds[i] = time.perf_counter() - began
    return seconds


def blas() -> dict:
    """The BLAS libraries that NumPy and SciPy have loaded, with their kernels and threads."""
    from threadpoolctl import threadpool_info

    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        f"BLAS {number}": f"{pool['internal_api']} {pool['version']}, kernels "
        f"{pool.get('architecture', '?')}, {pool['num_threads']} threads"
        for number, pool in enumerate(found, 1)
    }


def operands(product: str, rows: int, n_in: int, n_out: int):
    """The two float32 operands of a product of a dense layer; transposes are views, as for BLAS.

    forward: X (rows, n_in) and W (n_in, n_out); weights: Xt and dZ; inputs: dZ and Wt.
    """
    rng = np.random.default_rng(0)
    x, dz, w = (
        rng.random(shape, np.float32) for shape in ((rows, n_in), (rows, n_out), (n_in, n_out))
    )
    return {"forward": (x, w), "weights": (x.T, dz), "inputs": (dz, w.T)}[product]
