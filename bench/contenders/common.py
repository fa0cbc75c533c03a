"""What several contenders share."""

from __future__ import annotations

import time

import numpy as np


def timed(function, argument, count: int) -> np.ndarray:
    """Seconds of each of so many calls."""
    seconds = np.empty(count)
    for i in range(count):
        began = time.perf_counter()
        function(argument)
        seconds[i] = time.perf_counter() - began
    return seconds


def blas() -> dict:
    """The BLAS that NumPy and SciPy have loaded, with its kernels and threads."""
    from threadpoolctl import threadpool_info

    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        f"BLAS {number}": f"{pool['internal_api']} {pool['version']}, kernels "
        f"{pool.get('architecture', '?')}, {pool['num_threads']} threads"
        for number, pool in enumerate(found, 1)
    }


def operands(product: str, rows: int, n_in: int, n_out: int):
    """The two matrices that a product of a dense layer multiplies, float32, as BLAS takes them."""
    rng = np.random.default_rng(0)
    x, dz, w = (
        rng.random(shape, np.float32) for shape in ((rows, n_in), (rows, n_out), (n_in, n_out))
    )
    return {"forward": (x, w), "weights": (x.T, dz), "inputs": (dz, w.T)}[product]
