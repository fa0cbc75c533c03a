"""Which engine executes a plan, and why.

``"auto"`` takes numba if it can be imported, else numpy with a warning that says what to do.
``FASTNN_ENGINE``, read at the import, :func:`set_engine` and :func:`use_engine` choose by hand.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import warnings
from contextvars import ContextVar

from . import reference
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
NAMES = ("numba", "numpy")

_chosen = "auto"
_named = os.environ.get("FASTNN_ENGINE")
_within: ContextVar[str | None] = ContextVar("fastnn_engine", default=None)


def available() -> dict[str, str]:
    """Engines that can run here.

    Returns
    -------
    dict
        The name of each engine and what it is, the best first.

    Examples
    --------
    >>> from fastnn import engines
    >>> "numpy" in engines.available()
    True
    """
    found = {}
    if _has_numba():
        found["numba"] = "kernels compiled by Numba on first use, parallel"
    found["numpy"] = "the reference in NumPy, slow"
    return found


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def set_engine(name: str) -> None:
    """Choose the engine of all further calls: "numba", "numpy" or "auto".

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
    """Choose the engine within a ``with`` block, for the running thread or task alone.

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
    if name != "auto" and name not in available():
        raise ValueError(f"the engine {name!r} cannot run here: pip install {name}")
    return name


def choice() -> tuple[str, str]:
    """The name of the engine that runs now, and the reason."""
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
        warnings.warn(
            "Numba is not installed, so fastnn runs on its slow reference engine: "
            "pip install numba",
            RuntimeWarning,
            stacklevel=4,
        )
    return best, "auto: the fastest that is installed"


def current():
    """The engine that runs now: an object with the functions of :mod:`.reference`."""
    name, _ = choice()
    return reference if name == "numpy" else _numba()


@functools.cache
def _numba():
    from . import jit, threads
    from .compiled import CompiledEngine

    @contextlib.contextmanager
    def launch(dtype, n_threads):
        with threads.numba_pool(n_threads) as ready:
            yield jit.address("launch", dtype) if ready else 0

    return CompiledEngine("numba", jit.address, launch)
