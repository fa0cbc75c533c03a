"""What fastnn finds on this machine, what is missing and how to get it: ``fastnn doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import warnings

import numpy as np

import fastnn

from . import engines
from .engines import levels, threads

#: Packages beside the engines: what each is for, and how to get it.
_OPTIONAL = {
    "scipy": ("GELU in the reference, orthogonal initial weights", "scipy"),
    "safetensors": ("model files", "safetensors"),
    "matplotlib": ("pictures of learning curves", "'fastnn[plot]'"),
    "tqdm": ("progress bars", "'fastnn[cli]'"),
    "sklearn": ("only the tests and benchmarks", "scikit-learn"),
}
_VARIABLES = (
    "FASTNN_ENGINE", "FASTNN_NUM_THREADS", "FASTNN_SIMD", "FASTNN_CACHE_DIR", "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER",
)  # fmt: skip


def lines() -> list[str]:
    """The report, line by line; nothing in it raises."""
    found = [
        f"fastnn {fastnn.__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, {platform.system()} {platform.machine()}",
        "",
        "engines",
    ]
    available = engines.available()
    for name in engines.NAMES:
        state = available.get(name) or f"MISSING: {engines.trouble(name)}"
        found.append(f"  {name:8}{_version(name)}{state}")
    found += [f"  chosen  {_safely(_choice)}", "", "processor"]
    found += [f"  SIMD    {_safely(_simd, available)}", f"  threads {_safely(_threads)}"]
    found += ["", "cache of compiled kernels", f"  {_safely(_cache, available)}", "", "packages"]
    found += [f"  {line}" for line in _packages()]
    chosen = [f"  {name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    return [*found, "", "environment", *(chosen or ["  no variable that concerns fastnn is set"])]


def _safely(describe, *arguments) -> str:
    """What a function says, or what is wrong: a doctor must not die of what it finds."""
    try:
        return describe(*arguments)
    except (ValueError, OSError, ImportError) as error:
        return f"WRONG: {error}"


def _version(engine: str) -> str:
    try:
        return f"{importlib.metadata.version('numba')}, " if engine == "numba" else ""
    except importlib.metadata.PackageNotFoundError:
        return ""


def _choice() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report says what is missing itself
        best, why = engines.choice()
    return f"{best} ({why})"


def _simd(available) -> str:
    if "c" in available:
        from .engines import native

        host = native.host_level()
    elif "numba" in available:
        from .engines.jit import isa

        host = isa.host_level()
    else:
        return "not used: there is no compiled engine"
    chosen = levels.choose(host)
    return chosen if chosen == host else f"{chosen}, by FASTNN_SIMD; this processor has {host}"


def _threads() -> str:
    return f"{threads.get_num_threads()} of {threads.cpu_count()} cores of this process"


def _cache(available) -> str:
    if "numba" not in available:
        return "not used: only Numba compiles on first use"
    from .engines.jit import cache

    if cache.root() is None:
        return "turned off by FASTNN_CACHE_DIR"
    place = cache.directory()
    if place is None:
        return (
            f"WRONG: {cache.root()} cannot be written, so every process compiles anew: name a "
            "directory that can with FASTNN_CACHE_DIR"
        )
    kept = [path.stat().st_size for path in place.glob("*.kernel")]
    return f"{place}: {len(kept)} kernels, {sum(kept) / 2**20:.1f} MB (fastnn warmup fills it)"


def _packages():
    for name, (purpose, how) in _OPTIONAL.items():
        distribution = "scikit-learn" if name == "sklearn" else name
        try:
            yield f"{distribution:13}{importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{distribution:13}MISSING, for {purpose}: pip install {how}"
    if sys.maxsize < 2**32:
        yield "a 32-bit Python: the compiled engines need 64 bits"
