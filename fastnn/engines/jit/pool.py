"""Numba's own thread pool, for use where the C engine's is missing."""

from __future__ import annotations

import contextlib

from .. import threads
from .kernels import address


@contextlib.contextmanager
def launch(dtype, n_threads: int):
    """Context with n_threads ready: yields the launcher's address, or 0 if no pool can be had."""
    with threads.numba_pool(n_threads) as ready:
        yield address("launch", dtype) if ready else 0
