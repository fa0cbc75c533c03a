"""BLAS in one thread while fastnn's own threads compute.

SciPy's L-BFGS-B calls BLAS for a few short vectors between the evaluations of the loss. OpenBLAS
takes all cores for them, and its threads then wait for the next call by computing, on the cores
that evaluate the loss.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

_lock = threading.Lock()
_users = 0
_limiter: Any = None


@functools.cache
def _controller():
    """What limits the BLAS libraries that are loaded now, or None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


@contextlib.contextmanager
def in_one_thread() -> Iterator[None]:
    """Context in which BLAS uses one thread, where threadpoolctl is installed.

    The limit holds for the process. The last context to end restores what was before the first.
    """
    global _users, _limiter
    controller = _controller()
    if controller is None:
        yield
        return
    with _lock:
        if not _users:
            _limiter = controller.limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limiter.restore_original_limits()
