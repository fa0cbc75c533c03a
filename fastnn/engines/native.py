"""The C engine: functions that were compiled when fastnn was installed, found by name.

The sources are in ``csrc/``, one file per operation as in ``jit/``. They are compiled for every
level of vector instructions; this module chooses the level on first use.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from typing import Any

import numpy as np

from .. import tables
from ..errors import EngineError
from . import levels, sources

try:
    from . import _c  # type: ignore[attr-defined]
except ImportError as error:
    _c = None
    _trouble = str(error)

_module: Any = _c


_ENUMS: dict[str, Any] = {"SPLIT": tables.Split, "STATUS": tables.Status, "LOSS": tables.Loss}


def _code(name: str) -> int | None:
    """A code of the C sources as tables.py has it, or None."""
    kind, _, member = name.partition("_")
    if kind in _ENUMS:
        return getattr(_ENUMS[kind], member, None)
    return getattr(tables, name, None)


@functools.cache
def _is_of_other_sources() -> bool:
    """Whether the module was compiled from other sources: its numbers or fields may be others.

    The digests of the sources tell it where there are sources, the tables where there are none or
    the module was built by hand, which may leave its digest empty.
    """
    expected, compiled_from = sources.digest(), getattr(_module, "sources", None)
    if expected and compiled_from != expected and compiled_from != "":
        return True
    compiled = layout()
    records = {
        "op": tables.OP, "call": tables.CALL, "group": tables.GROUP, "context": tables.CONTEXT,
    }  # fmt: skip
    codes = compiled.get("codes", {})
    needed = {f"{kind}_{code.name}" for kind in ("SPLIT", "STATUS") for code in _ENUMS[kind]}
    return (
        not needed <= codes.keys()
        or any(value != _code(name) for name, value in codes.items())
        or any(
            compiled.get(name) != {field: at for field, (_, at, *_) in (dtype.fields or {}).items()}
            for name, dtype in records.items()
        )
    )


def _remedy() -> str:
    """The command that builds the module anew."""
    if sources.digest() is not None:
        return "rebuild it with pip install -e . in the repository"
    return "install fastnn-cpu again"


def trouble() -> str | None:
    """Why the C engine cannot run here, or None if it can."""
    if _module is not None and _is_of_other_sources():
        return f"its extension module was compiled from other sources than these: {_remedy()}"
    if _module is not None:
        return None
    if "No module named" in _trouble or "cannot import name" in _trouble:
        return (
            "its extension module was not built, probably because there was no C compiler when "
            f"fastnn was installed: install gcc or clang, then {_remedy()}"
        )
    return f"its extension module cannot be loaded ({_trouble})"


def host_level() -> str:
    """The best level that this processor has."""
    return _module.levels()[0]


@functools.cache
def level() -> str:
    """The level whose functions are called.

    Raises
    ------
    ValueError
        If ``FASTNN_SIMD`` is not a level, or this processor does not have it.
    """
    return levels.choose(host_level())


@functools.cache
def _addresses(dtype) -> dict[str, int]:
    return _module.addresses(level(), np.dtype(dtype).name)


def address(name: str, dtype) -> int:
    """The address of a compiled function for float32 or float64 networks."""
    try:
        return _addresses(dtype)[name]
    except KeyError:
        raise EngineError(
            f"the C engine was compiled from sources without {name}: {_remedy()}"
        ) from None


def names() -> list[str]:
    """The names of all functions."""
    return sorted(_addresses("float32"))


@contextlib.contextmanager
def launch(dtype, n_threads: int):
    """Context that yields the launcher's address; its pool starts threads when they are needed."""
    yield address("launch", dtype)


def layout() -> dict[str, dict[str, int]]:
    """Offsets of all fields, and all codes, as defined in the C sources."""
    return _module.layout()


# The Numba engine would go on silently on another thread pool, and a measurement of the C engine
# would be one of other code.
if _module is not None and _is_of_other_sources():
    warnings.warn(f"the C engine cannot run: {trouble()}", RuntimeWarning, stacklevel=2)
