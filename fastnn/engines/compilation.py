"""Who learns that a kernel is being compiled: progress bars.

Compiling happens under one lock of the process, so a listener learns of the kernels of all threads:
a fit may wait for a kernel that another thread compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakMethod

#: Methods of objects that may be forgotten without a word.
_listeners: tuple[WeakMethod, ...] = ()


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
