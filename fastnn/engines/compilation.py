"""Who learns that a kernel is being compiled: progress bars.

Compiling happens under one lock of the process, so a listener learns of the kernels of all threads:
a fit may wait for a kernel that another thread compiles.
"""

from __future__ import annotations

from collections.abc import Callable

_listeners: tuple[Callable[[str], None], ...] = ()


def listen(listener: Callable[[str], None]) -> None:
    """From now on, call ``listener(name)`` before a kernel is compiled; not if it is loaded."""
    global _listeners
    _listeners = (*_listeners, listener)


def forget(listener: Callable[[str], None]) -> None:
    """Stop calling a listener, once for each time that it was added."""
    global _listeners
    kept = list(_listeners)
    if listener in kept:
        kept.remove(listener)
    _listeners = tuple(kept)


def announce(name: str) -> None:
    """Tell all listeners that this kernel is being compiled."""
    for listener in _listeners:
        listener(name)
