"""The registry of compiled functions, and how one becomes an address.

``@leaf`` and its kin only note a Python function; :func:`address` compiles it for one element
type on first use, or loads it from the cache. Nothing is compiled that no plan has asked for.
"""

from __future__ import annotations

import sys
import threading

import numpy as np
from numba.core import types

from . import cache, target
from .memory import Pointer, context_type, row_type

_WORD = types.int64
_functions: dict = {}
_addresses: dict[tuple[str, str], int] = {}
_lock = threading.RLock()

#: Numba's options for every function here: no fast-math flag, no Python objects, no allocation.
OPTIONS = {"nopython": True, "error_model": "numpy", "_nrt": False}


def _register(function, signature, **options):
    _functions[function.__name__] = (function, signature, {**OPTIONS, **options})
    return function


def leaf(function):
    """Register ``function(ctx, part, parts) -> status``."""
    return _register(function, lambda real: _WORD(context_type(real), _WORD, _WORD))


def inner(function):
    """Register an elementwise epilogue ``function(z, a, da, count, row) -> status``.

    The first three are pointers to `count` elements, the last points to the plan row.
    """
    return _register(
        function,
        lambda real: _WORD(*[Pointer(real)] * 3, _WORD, row_type(real)),
    )


def product_leaf(function):
    """Register the matrix product, called by address (see ``products.py``)."""

    def signature(real):
        p = Pointer(real)
        return _WORD(p, _WORD, p, _WORD, p, _WORD, _WORD, p, *[_WORD] * 5, p)

    return _register(function, signature)


def driver(function):
    """Register ``function(ctx, calls, n_calls, first, last) -> status``."""
    return _register(function, lambda real: _WORD(context_type(real), *[_WORD] * 4))


def launcher(function):
    """Register ``function(leaf, ctx, parts) -> status``, the one that may run in parallel."""
    return _register(
        function,
        lambda real: _WORD(_WORD, context_type(real), _WORD),
        parallel=True,
        _nrt=True,
    )


def subroutine(function):
    """A function that leaves call and LLVM inlines: it has no address of its own."""
    return target.dispatcher(function, OPTIONS)


def formula(function):
    """A subroutine of numbers that is always inlined, so that loops over it fill the lanes."""
    return target.dispatcher(function, {**OPTIONS, "forceinline": True})


def names() -> list[str]:
    """The names of all registered functions."""
    return sorted(_functions)


def address(name: str, dtype) -> int:
    """The address of a compiled function for float32 or float64 networks.

    Parameters
    ----------
    name : str
        A registered name.
    dtype : numpy dtype
        float32 or float64.
    """
    key = (name, np.dtype(dtype).name)
    known = _addresses.get(key)
    if known is not None:
        return known
    with _lock:
        if key not in _addresses:
            parallel = bool(_functions[name][2].get("parallel"))
            compiled = cache.load(f"{key[0]}-{key[1]}", target.codegen(parallel))
            if compiled is None:
                announce_compilation()
                library, symbol = compile_function(name, key[1])
                cache.store(f"{key[0]}-{key[1]}", library, symbol)
                compiled = library, symbol
            library, symbol = compiled
            # The library owns the machine code: it must live as long as the address is known.
            _libraries.append(library)
            _addresses[key] = library.get_pointer_to_function(symbol)
        return _addresses[key]


_libraries: list = []


def compile_function(name: str, dtype: str):
    """Compile a registered function: (Numba code library, symbol of its C entry point)."""
    function, signature, options = _functions[name]
    real = getattr(types, dtype)
    return target.compile_callback(function, signature(real), options)


_announced = False


def announce_compilation() -> None:
    """Say once per process that the first fit waits for the compiler."""
    global _announced
    if not _announced:
        _announced = True
        where = cache.directory()
        kept = f"kept in {where}" if where else "not kept: no cache directory is writable"
        print(f"fastnn: compiling kernels for this machine, once ({kept})", file=sys.stderr)
