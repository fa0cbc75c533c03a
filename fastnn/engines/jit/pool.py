"""Numba's own threads, for where those of the C engine are missing."""

from __future__ import annotations

import contextlib

from .. import threads
from .kernels import address


@contextlib.contextmanager
def launch(dtype, n_threads: int):
    """Within it so many threads are ready; gives the launcher's address, or 0 where none can be."""
    with threads.numba_pool(n_threads) as ready:
        yield address("launch", dtype) if ready else 0
