"""The number of threads that a call may use, and Numba's thread pool."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

#: Most threads; a larger number is a mistake.
MOST_THREADS = 1024

_chosen: int | None = None
_forked = False
_pool_started = False
_pool_trouble: str | None = None
_lock = threading.RLock()
_sharing: set[int] = set()  # Python threads inside of Sharing()
_limit: ContextVar[Callable[[], int] | None] = ContextVar("fastnn_threads", default=None)


def cpu_count() -> int:
    """Cores that this process may use, by its affinity mask and its cgroup's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        count = os.cpu_count() or 1
    return max(1, min(count, _cgroup_quota() or count))


@functools.cache
def _cgroup_quota() -> int | None:
    """Cores of the cgroup's CPU quota at the first call, rounded up, or None without a quota."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    try:
        base = Path("/sys/fs/cgroup/cpu")
        quota_us = int((base / "cpu.cfs_quota_us").read_text())
        period_us = int((base / "cpu.cfs_period_us").read_text())
        return max(1, -(-quota_us // period_us)) if quota_us > 0 else None
    except (OSError, ValueError):
        return None


def get_num_threads() -> int:
    """Threads that a fit or prediction may use.

    The number of :func:`set_num_threads`, else of ``FASTNN_NUM_THREADS``, else all cores of the
    process, but at most ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS``, with which joblib limits its
    workers; one in a worker of a multiprocessing pool, which has one for every core. A network that
    :func:`fastnn.train_many` trains has its share of them.

    Raises
    ------
    ValueError
        If the variable in use is not a whole number from 1 to 1024.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.get_num_threads() >= 1
    True
    """
    limit, count = _limit.get(), _count()
    return count if limit is None else max(1, min(limit(), count))


def _count() -> int:
    """The threads that all fits together may use."""
    if _chosen is not None:
        return _chosen
    named = os.environ.get("FASTNN_NUM_THREADS")
    if named:
        return _check(named, "FASTNN_NUM_THREADS")
    if _is_pool_worker():
        return 1
    count = cpu_count()
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        limit = os.environ.get(name, "").split(",")[0].strip()
        if limit:
            count = min(count, _check(limit, name))
    return count


def _is_pool_worker() -> bool:
    """Whether this process belongs to a pool, whose workers are daemonic; joblib's are, too."""
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.current_process().daemon


def set_num_threads(n: int | None) -> None:
    """Limit fits and predictions to n threads; None returns to the default.

    The results are equal bit for bit for any number.

    Raises
    ------
    ValueError, TypeError
        If n is not a whole number from 1 to 1024.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.set_num_threads(1)
    >>> fastnn.get_num_threads()
    1
    >>> fastnn.set_num_threads(None)
    """
    global _chosen
    if n is not None:
        n = _check(n, "the number of threads")
        if n > cpu_count():
            warnings.warn(
                f"{n} threads were requested, but this process may use {cpu_count()} cores: "
                "more threads than cores are seldom faster",
                stacklevel=2,
            )
    _chosen = n


@contextlib.contextmanager
def limited(limit: int | Callable[[], int]) -> Iterator[None]:
    """Context in which runs of this thread or task have at most so many threads.

    A function is asked before every run, so the limit of a fit may change while it runs.

    Examples
    --------
    >>> with limited(1):
    ...     get_num_threads()
    1
    """
    token = _limit.set(limit if callable(limit) else lambda: limit)
    try:
        yield
    finally:
        _limit.reset(token)


def _check(value, what: str) -> int:
    if isinstance(value, str):
        value = value.strip()
        if not (value.isascii() and value.lstrip("+-").isdigit()):
            raise ValueError(f"{what} must be a whole number of at least 1, not {value!r}")
        value = int(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be a whole number of at least 1, not {value!r}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1, not {value}")
    if value > MOST_THREADS:
        raise ValueError(f"{what} must be at most {MOST_THREADS}, not {value}")
    return int(value)


class Sharing:
    """Context of a run in several threads; other Python threads may be in it at the same time."""

    def __enter__(self):
        _sharing.add(threading.get_ident())

    def __exit__(self, *_):
        _sharing.discard(threading.get_ident())


def share_of(limit: int) -> int:
    """The share of so many threads that each of the current runs may use.

    Otherwise each of two fits at once would find two threads faster than one, at the other's cost.
    A limit of :func:`limited` is a share already.
    """
    runs = max(1, len(_sharing))
    if _limit.get() is not None:
        return max(1, min(limit, _count() // runs))
    return max(1, limit // runs)


@functools.cache
def yield_address() -> int:
    """The address of the C library's function that lets another thread have the core, or 0."""
    for library, name in ((None, "sched_yield"), ("kernel32", "SwitchToThread")):
        try:
            function = getattr(ctypes.CDLL(library), name)
            return ctypes.cast(function, ctypes.c_void_p).value or 0
        except (AttributeError, OSError, TypeError):
            continue
    return 0


@contextlib.contextmanager
def numba_pool(n_threads: int):
    """Context in which Numba's pool has n_threads for this thread; yields whether it may be used.

    Only the OpenMP and TBB layers are accepted: Numba's own workqueue takes 100 us per region and
    aborts on concurrent calls. A forked child whose parent used the pool must not enter it. The end
    restores the number of threads that other code has set for Numba.
    """
    if not pool_is_ready():
        yield False
        return
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(min(n_threads, _numba_config().NUMBA_NUM_THREADS))
    try:
        yield True
    finally:
        numba.set_num_threads(before)


def pool_is_ready() -> bool:
    """Launch the pool if it is not running; warn once if that is impossible."""
    global _pool_started, _pool_trouble
    with _lock:
        if not (_pool_started or _pool_trouble or _forked):
            _pool_trouble = _launch_pool()
            _pool_started = _pool_trouble is None
            if _pool_trouble:
                warnings.warn(
                    f"fits and predictions run in one thread, because {_pool_trouble}; install "
                    "the OpenMP runtime (libgomp or libomp), or set NUMBA_THREADING_LAYER=omp",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return _pool_started and not _forked


def _launch_pool() -> str | None:
    """Launch the thread layer; returns the reason if it cannot be used, else None."""
    import numba
    from numba.np.ufunc import parallel

    config = _numba_config()
    wanted = config.THREADING_LAYER
    try:
        if wanted in ("default", "safe", "threadsafe", "forksafe", "workqueue"):
            config.THREADING_LAYER = "omp"
        parallel._launch_threads()
        layer = numba.threading_layer()
    except Exception as error:  # Numba raises several types if there is no layer
        return f"Numba has no safe thread layer ({error})"
    finally:
        config.THREADING_LAYER = wanted
    safe = layer in ("omp", "tbb")
    return None if safe else f"Numba already runs its {layer} layer, which is not safe"


def _numba_config() -> Any:
    """Numba's settings, which are set as attributes of a module when it is imported."""
    from numba import config

    return config


def _after_fork() -> None:
    """Record whether the parent had started Numba's pool, through fastnn or by itself."""
    global _forked, _lock
    numba_parallel = sys.modules.get("numba.np.ufunc.parallel")
    _forked = bool(getattr(numba_parallel, "_is_initialized", _pool_started))
    _lock = threading.RLock()
    _sharing.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
