"""How many threads a call may use, and the pool that runs them."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path

_local = threading.local()
_chosen: int | None = None
_forked = False
_pool_started = False
_pool_trouble: str | None = None
_lock = threading.RLock()


def cpu_count() -> int:
    """Cores that this process may use: its affinity mask and its cgroup's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        count = os.cpu_count() or 1
    return max(1, min(count, _cgroup_quota() or count))


def _cgroup_quota() -> int | None:
    """Whole cores of the CPU bandwidth limit, or None without one."""
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

    What :func:`set_num_threads` said, else ``FASTNN_NUM_THREADS``, else all cores of the process
    but no more than ``OMP_NUM_THREADS`` or ``NUMBA_NUM_THREADS``, with which joblib limits its
    workers.
    """
    if _chosen is not None:
        return _chosen
    named = os.environ.get("FASTNN_NUM_THREADS")
    if named:
        return _check(named, "FASTNN_NUM_THREADS")
    count = cpu_count()
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        limit = os.environ.get(name, "").split(",")[0]
        if limit.isdigit() and int(limit) > 0:
            count = min(count, int(limit))
    return count


def set_num_threads(n: int | None) -> None:
    """Limit fits and predictions to n threads; None returns to the default.

    The results do not depend on it, to the last bit.

    Raises
    ------
    ValueError, TypeError
        If n is not a whole number of at least 1.
    """
    global _chosen
    if n is not None:
        n = _check(n, "the number of threads")
        if n > cpu_count():
            warnings.warn(
                f"{n} threads were asked for, but this process may use {cpu_count()} cores: "
                "more threads than cores are seldom faster",
                stacklevel=2,
            )
    _chosen = n


def _check(value, what: str) -> int:
    if isinstance(value, str):
        if not value.strip().lstrip("+-").isdigit():
            raise ValueError(f"{what} must be a whole number of at least 1, not {value!r}")
        value = int(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be a whole number of at least 1, not {value!r}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1, not {value}")
    return int(value)


def start_numba_pool(n_threads: int) -> bool:
    """Have Numba's pool run, with n_threads for this thread; False where it must not be used.

    Only the OpenMP and TBB layers will do: Numba's own workqueue takes 100 us a region and
    aborts under concurrent calls. A forked child whose parent used the pool must not enter it.
    """
    global _pool_started, _pool_trouble
    if _forked or _pool_trouble:
        return False
    import numba

    with _lock:
        if not _pool_started:
            _pool_trouble = _launch_pool(numba)
            if _pool_trouble:
                return False
            _pool_started = True
    n = min(n_threads, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    if getattr(_local, "n", None) != n or numba.get_num_threads() != n:
        numba.set_num_threads(n)
        _local.n = n
    return True


def _launch_pool(numba) -> str | None:
    """Launch the thread layer; what is wrong with it, or None."""
    from numba.np.ufunc import parallel

    wanted = numba.config.THREADING_LAYER
    try:
        if wanted in ("default", "safe", "threadsafe", "forksafe", "workqueue"):
            numba.config.THREADING_LAYER = "omp"
        parallel._launch_threads()
        layer = numba.threading_layer()
    except Exception as error:  # Numba raises several kinds where no layer can be had
        return f"no thread layer: {error}"
    finally:
        numba.config.THREADING_LAYER = wanted
    return None if layer in ("omp", "tbb") else f"Numba runs the {layer} layer"


def _after_fork() -> None:
    global _forked
    _forked = _pool_started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
