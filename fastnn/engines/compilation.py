"""Who learns that kernels are being compiled: progress bars, and the user, who waits for it.

Compiling happens under one lock of the process, so a listener learns of the kernels of all threads:
a fit may wait for a kernel that another thread compiles.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakMethod

#: Methods of objects that may be forgotten without a word.
_listeners: tuple[WeakMethod, ...] = ()

#: Kernels that a line names.
_MOST_NAMES = 3


class _Batch(threading.local):
    """What this thread has compiled since it began to count: names, seconds, open contexts."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.seconds = 0.0
        self.depth = 0


_batch = _Batch()


def listen(listener: Callable[[str], None]) -> None:
    """From now on, call this method with the name of each kernel before it is compiled.

    It is not called for a kernel that is loaded from the cache.
    """
    global _listeners
    _listeners = (*_listeners, WeakMethod(listener))


def forget(listener: Callable[[str], None]) -> None:
    """Stop calling a method."""
    global _listeners
    _listeners = tuple(one for one in _listeners if one() not in (None, listener))


def announce(kernel: str) -> None:
    """Tell all listeners that this kernel is being compiled."""
    for one in _listeners:
        listener = one()
        if listener is not None:
            listener(kernel)


@contextmanager
def of(kernel: str) -> Iterator[None]:
    """Context in which this kernel is compiled."""
    announce(kernel)
    began = time.perf_counter()
    yield
    _batch.names.append(kernel)
    _batch.seconds += time.perf_counter() - began


@contextmanager
def reported() -> Iterator[None]:
    """Context at whose end one line says what this thread compiled in it, and how long it took.

    Within another one, the other one says it. Nothing is said if nothing was compiled.
    """
    _batch.depth += 1
    try:
        yield
    finally:
        _batch.depth -= 1
        if not _batch.depth and _batch.names:
            names, seconds = _batch.names, _batch.seconds
            _batch.names, _batch.seconds = [], 0.0
            say(f"fastnn: compiled {_joined(names)} in {seconds:.1f} s")


def _joined(names: list[str]) -> str:
    """All names if they are few, otherwise how many."""
    if len(names) > _MOST_NAMES:
        return f"{len(names)} kernels"
    return ", ".join(names)


def say(line: str) -> None:
    """Write a line to stderr that no progress bar shares."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if sys.stderr is None:
        return
    if tqdm is None:
        print(line, file=sys.stderr)
    else:
        tqdm.write(line, file=sys.stderr)
