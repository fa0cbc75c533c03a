"""The registry of compiled functions, and how one becomes an address.

``@kernel`` and the other decorators only register a Python function; :func:`address` compiles it
for one element type on first use, or loads it from the cache. So only what a plan uses is compiled.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from pathlib import Path

import numpy as np
from numba.core import types

from ... import interrupts
from .. import compilation, threads
from . import cache, isa
from .memory import Pointer, context_type, op_type

_WORD = types.int64
_functions: dict = {}
_addresses: dict[tuple[str, str], int] = {}
_lock = threading.RLock()

#: Numba's options for every function here: no fast-math flag, no Python objects, no allocation.
OPTIONS = {"nopython": True, "error_model": "numpy", "_nrt": False}


def _register(function, signature, **options):
    known = _functions.get(function.__name__)
    if known is not None and known[0].__module__ != function.__module__:
        raise ValueError(f"two kernels have the name {function.__name__}")
    _functions[function.__name__] = (function, signature, {**OPTIONS, **options})
    return function


def kernel(function):
    """Register ``function(ctx, part, parts) -> status``."""
    return _register(function, lambda real: _WORD(context_type(real), _WORD, _WORD))


def epilogue(function):
    """Register an elementwise ``function(z, a, da, count, op) -> status``.

    The first three are pointers to `count` elements, the last one to the operation.
    """
    return _register(
        function,
        lambda real: _WORD(*[Pointer(real)] * 3, _WORD, op_type(real)),
    )


def takes_record(record_type):
    """Register ``function(record) -> status``: a pointer to one ``record_type(real)``."""

    def register(function):
        return _register(function, lambda real: _WORD(Pointer(record_type(real))))

    return register


def on_arrays(*elements):
    """Register ``function(pointer, ...) -> status``: "real" or "integer" elements for each."""

    def register(function):
        return _register(
            function,
            lambda real: _WORD(*[Pointer(real if e == "real" else _WORD) for e in elements]),
        )

    return register


def driver(function):
    """Register ``function(ctx, calls, n_calls, first, last) -> status``."""
    return _register(function, lambda real: _WORD(context_type(real), *[_WORD] * 4))


def shuffler(function):
    """Register ``function(orders, keys, place, seed, stream, first, rows, n) -> status``.

    The first two are pointers to uint64, the third to int64. It is the same for all networks.
    """
    unsigned, signed = Pointer(types.uint64), Pointer(_WORD)
    return _register(function, lambda real: _WORD(unsigned, unsigned, signed, *[_WORD] * 5))


def launcher(function):
    """Register ``function(kernel, ctx, parts) -> status``, the one that may run in parallel."""
    return _register(
        function,
        lambda real: _WORD(_WORD, context_type(real), _WORD),
        parallel=True,
        _nrt=True,
    )


def subroutine(function):
    """A function that kernels call and LLVM may inline; it has no address of its own."""
    return isa.dispatcher(function, OPTIONS)


def formula(function):
    """A subroutine that is always inlined, so that loops over it vectorise."""
    return isa.dispatcher(function, {**OPTIONS, "forceinline": True})


def names() -> list[str]:
    """The names of all registered functions."""
    return sorted(_functions)


@functools.cache
def _name_of(dtype) -> str:
    """np.dtype(dtype).name, which takes longer than the rest of :func:`address`."""
    return np.dtype(dtype).name


def address(name: str, dtype) -> int:
    """The address of a compiled function for float32 or float64 networks.

    Parameters
    ----------
    name : str
        A registered name.
    dtype : numpy dtype
        float32 or float64.

    Returns
    -------
    int
        0 for the parallel one where Numba's pool cannot be had.
    """
    key = (name, _name_of(dtype))
    known = _addresses.get(key)
    if known is not None:
        return known
    with _lock:
        parallel = bool(_functions[name][2].get("parallel"))
        if parallel and not threads.pool_is_ready():  # its code calls the pool's functions
            return 0
        known = compiled_address(name, dtype)
        if known is not None:
            return known
        interrupts.check()  # compiling takes seconds: Ctrl-C need not wait for all kernels
        announce_compilation()
        with compilation.of(name):
            library, symbol = compile_function(name, key[1])
        cache.store(f"{key[0]}-{key[1]}", library, symbol)
        return _keep(key, library, symbol)


def compiled_address(name: str, dtype) -> int | None:
    """The address of a function that was compiled before, or is in the cache; None otherwise."""
    key = (name, _name_of(dtype))
    with _lock:
        if key in _addresses:
            return _addresses[key]
        parallel = bool(_functions[name][2].get("parallel"))
        compiled = cache.load(f"{key[0]}-{key[1]}", isa.codegen(parallel))
        return None if compiled is None else _keep(key, *compiled)


def _keep(key: tuple[str, str], library, symbol: str) -> int:
    # The library owns the machine code, so it must outlive the address.
    _libraries.append(library)
    _addresses[key] = library.get_pointer_to_function(symbol)
    return _addresses[key]


_libraries: list = []


def compile_function(name: str, dtype: str):
    """Compile a registered function: (Numba code library, symbol of its C entry point)."""
    function, signature, options = _functions[name]
    real = getattr(types, dtype)
    return isa.compile_callback(function, signature(real), options)


_announced = False


def announce_compilation() -> None:
    """Say, once per process, that this call waits for the compiler."""
    global _announced
    if not _announced:
        _announced = True
        where = cache.directory() and cache.root()
        kept = f"kept in {_shown(where)}" if where else "not kept: no cache directory is writable"
        compilation.say(f"fastnn: compiling kernels for this machine, once ({kept})")


def _shown(path: Path) -> str:
    """A path as users write it, from their home directory on."""
    with contextlib.suppress(RuntimeError, ValueError):  # no home directory, or not below it
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    return str(path)
