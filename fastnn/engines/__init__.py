"""The choice of the engine that executes a plan.

``"auto"`` takes numba if it can be imported, else c if it was built, else numpy with a warning that
says what to install. Where numba and c can run, it starts on c, without compiling, and goes over to
numba in a long fit (see :mod:`.gradual`). :func:`use_engine`, :func:`set_engine` and
``FASTNN_ENGINE`` (read at import) override it, in this order.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import warnings
from contextvars import ContextVar

from .threads import get_num_threads, set_num_threads

__all__ = [
    "available",
    "current",
    "get_num_threads",
    "set_engine",
    "set_num_threads",
    "use_engine",
]

#: Engines by name, the best first.
NAMES = ("numba", "c", "numpy")

_chosen = "auto"
_named = os.environ.get("FASTNN_ENGINE")
_within: ContextVar[str | None] = ContextVar("fastnn_engine", default=None)


def __getattr__(name: str):
    """``engines.reference``, imported when it is first used."""
    if name == "reference":
        return importlib.import_module(".reference", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def available() -> dict[str, str]:
    """Engines that can run here.

    Returns
    -------
    dict
        A description of each engine by name, the best first.

    Examples
    --------
    >>> from fastnn import engines
    >>> "numpy" in engines.available()
    True
    """
    about = {
        "numba": "kernels compiled by Numba on first use, parallel",
        "c": "compiled when fastnn was installed, parallel, starts at once",
        "numpy": "the reference in NumPy, slow",
    }
    return {name: text for name, text in about.items() if trouble(name) is None}


@functools.cache
def trouble(name: str) -> str | None:
    """Why an engine cannot run here, and what to install; None if it can run.

    Examples
    --------
    >>> from fastnn import engines
    >>> engines.trouble("numpy") is None
    True
    """
    if name == "numba" and importlib.util.find_spec("numba") is None:
        return "Numba is not installed: pip install numba"
    if name == "c":
        from . import native

        return native.trouble()
    return None


def set_engine(name: str) -> None:
    """Choose the engine of all further calls: "numba", "c", "numpy" or "auto".

    Raises
    ------
    ValueError
        If there is no such engine, or it cannot run here.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.set_engine("numpy")
    >>> fastnn.set_engine("auto")
    """
    global _chosen
    _chosen = _check(name, "engine")


@contextlib.contextmanager
def use_engine(name: str):
    """Choose the engine within a ``with`` block, for the current thread or task only.

    Raises
    ------
    ValueError
        If there is no such engine, or it cannot run here.

    Examples
    --------
    >>> import fastnn
    >>> with fastnn.use_engine("numpy"):
    ...     history = fastnn.Sequential([fastnn.Dense(1)]).fit([[1.0]], [2.0], progress=False)
    >>> history.engine
    'numpy'
    """
    token = _within.set(_check(name, "engine"))
    try:
        yield
    finally:
        _within.reset(token)


def _check(name, what: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a name, one of {['auto', *NAMES]}, not {name!r}")
    if name != "auto" and name not in NAMES:
        from ..names import unknown

        raise unknown(what, name, ["auto", *NAMES])
    if name != "auto" and (why := trouble(name)) is not None:
        raise ValueError(f"the engine {name!r} cannot run here: {why}")
    return name


def choice() -> tuple[str, str]:
    """The name of the engine that is chosen now, and the reason."""
    within = _within.get()
    for name, why in (
        (within, "use_engine"),
        (_chosen, "set_engine"),
        (_named, "FASTNN_ENGINE"),
    ):
        if name and name != "auto":
            return _check(name, why), f"chosen by {why}"
    best = next(iter(available()))
    if best == "numpy":
        _warn_of_reference()
    if best == "numba" and trouble("c") is None:
        return best, _GRADUAL
    return best, "auto: the fastest that is installed"


_GRADUAL = "auto: c runs until the kernels of numba are compiled"
_warned = False


def _warn_of_reference() -> None:
    """Warn once per process that the reference engine is slow, and say what to install."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "fastnn runs on its slow reference engine. pip install numba gives the fast one; "
            f"the C engine is as fast, but {trouble('c')}",
            RuntimeWarning,
            stacklevel=5,
        )


def current():
    """The engine that runs now: an object with the functions of :mod:`.reference`."""
    name, why = choice()
    if why is _GRADUAL:
        return _gradual()
    if name == "numpy":
        return importlib.import_module(".reference", __name__)
    return _numba() if name == "numba" else _c_engine()


@functools.cache
def _gradual():
    from .gradual import GradualEngine

    return GradualEngine()


@functools.cache
def _c_engine():
    from . import native
    from .compiled import CompiledEngine

    return CompiledEngine("c", native.address, native.launch)


@functools.cache
def _numba():
    """Numba's kernels, on the C module's thread pool if it was built, else on Numba's own pool.

    Threads of the C module wait for 100 us and then sleep. OpenMP's keep spinning; if another
    process is busy, each region then costs a time slice of the scheduler. The C module's shuffle
    has the bits of Numba's, which takes longer to compile than any other small function.
    """
    from . import jit, native
    from .compiled import CompiledEngine

    if native.trouble():
        return CompiledEngine("numba", jit.address, jit.launch)
    return CompiledEngine("numba", jit.address, native.launch, native.address)
