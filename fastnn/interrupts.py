"""Ctrl-C during a fit: recorded when it arrives, raised between two calls of an engine.

Python runs a signal handler between two bytecodes, also in Python code that C code calls. NumPy
discards every exception in some of these places, among them the comparison of a NumPy scalar with
an IntEnum, and ``__array_interface__``; a KeyboardInterrupt is lost there. Elsewhere it may
interrupt two assignments that must happen together. So a fit runs in a section, where SIGINT only
sets a flag. The training loop calls :func:`check` where stopping is safe, and the end of the
section raises a KeyboardInterrupt that is still pending.

Handlers of other signals belong to the user and may raise, for instance a timeout: after any call,
at the beginning of any Python function (``__enter__``, ``__exit__``, ``signal.signal``), and in
C's ``signal``, which runs them before it changes anything. Therefore a section is a try statement
in one function instead of a context manager, and restores the previous handler three times: if one
call raises, the next one follows. If all three raise, our handler detects at the next SIGINT that
no section is running; it then restores Python's own handler and raises KeyboardInterrupt.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from _signal import SIGINT, default_int_handler, getsignal, signal
from _thread import get_ident
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import CodeType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Whether a SIGINT is recorded and not yet raised. Only the main thread changes it.
_pending = False

#: Set when the runs of a context have to end, in whatever thread they are.
_ending: ContextVar[threading.Event | None] = ContextVar("fastnn_ending", default=None)


def deferred(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a function so that Ctrl-C is deferred while it runs.

    This holds in the main thread if Ctrl-C would otherwise raise KeyboardInterrupt, which means
    that Python's own handler or that of ``asyncio.run`` is installed. SIGINT is recorded until
    :func:`check` or the end of the function raises it; the end also restores the previous handler.
    A handler of the user stays installed, and so does one that is set meanwhile. Sections may be
    nested.

    Raises
    ------
    KeyboardInterrupt
        When the decorated function ends, in whatever way, and a SIGINT is pending.

    Examples
    --------
    >>> import signal
    >>> @deferred
    ... def work():
    ...     signal.raise_signal(signal.SIGINT)
    ...     print("still at work")
    >>> try:
    ...     work()
    ... except KeyboardInterrupt:
    ...     print("stopped")
    still at work
    stopped
    """

    @functools.wraps(function)
    def section(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        global _pending
        previous = _handler_to_restore()
        if previous is None:
            return function(*args, **kwargs)
        try:
            try:
                try:
                    try:
                        signal(SIGINT, _note)
                        return function(*args, **kwargs)
                    finally:
                        _restore(previous)
                finally:
                    _restore(previous)
            finally:
                _restore(previous)
        finally:
            # Inline, since a handler could raise at the beginning of a function.
            if _pending:
                _pending = False
                raise KeyboardInterrupt

    return section


def interruptible(function: Callable[..., _R], *args) -> _R:
    """Call code of the user, in which Ctrl-C is raised at once, also within a section."""
    return function(*args)


def came() -> bool:
    """Whether a SIGINT is pending for this thread, which is then the main thread."""
    return _pending and _is_main_thread()


def check() -> None:
    """Raise the pending KeyboardInterrupt, if there is one and this is the main thread.

    In a context of :func:`ended_by` it is also raised once its event is set.
    """
    if take():
        raise KeyboardInterrupt
    ending = _ending.get()
    if ending is not None and ending.is_set():
        raise KeyboardInterrupt


def take() -> bool:
    """Whether a SIGINT is pending for this thread; it is then pending no longer."""
    global _pending
    if not came():
        return False
    _pending = False
    return True


@contextlib.contextmanager
def ended_by(event: threading.Event) -> Iterator[None]:
    """Context whose runs end like those of Ctrl-C when the event is set, in any thread."""
    token = _ending.set(event)
    try:
        yield
    finally:
        _ending.reset(token)


def _note(_signum, frame) -> None:
    """The handler of SIGINT in a section."""
    global _pending
    _pending = True  # first: a handler of another signal may raise in any later line
    within = _within(frame)
    if within is not _SECTION:
        _pending = False
        if within is None:
            signal(SIGINT, default_int_handler)
        raise KeyboardInterrupt


def _handler_to_restore() -> Any:
    """The current handler of SIGINT, or None if the section that begins must not replace it."""
    if not _is_main_thread():
        return None
    handler = getsignal(SIGINT)
    if handler is _note and _within(sys._getframe(2), _SECTION) is None:
        return default_int_handler  # an earlier section could not restore it
    if handler is _note or handler is default_int_handler or _is_asyncio(handler):
        return handler
    return None


def _restore(previous) -> None:
    if getsignal(SIGINT) is _note:
        signal(SIGINT, previous)


def _is_main_thread() -> bool:
    return get_ident() == threading.main_thread().ident


def _within(frame, *codes) -> CodeType | None:
    """Which of these the frame or the first of its callers runs: by default of all marks."""
    codes = codes or (_SECTION, _INTERRUPTIBLE)
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    return None if frame is None else frame.f_code


def _is_asyncio(handler) -> bool:
    """Whether a handler is that of ``asyncio.run``, which cancels the task but not the fit."""
    runner = getattr(sys.modules.get("asyncio.runners"), "Runner", None)
    method = getattr(handler.func, "__func__", None) if type(handler) is functools.partial else None
    return method is not None and method is getattr(runner, "_on_sigint", None)


#: The code object that all sections share.
_SECTION = deferred(len).__code__  # type: ignore[attr-defined]

_INTERRUPTIBLE = interruptible.__code__
