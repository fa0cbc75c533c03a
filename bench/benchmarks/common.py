"""Shared by the benchmarks: engine and number of threads as parameters."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# workloads.py is in the folder above, which asv does not put on the path.
sys.path.append(str(Path(__file__).resolve().parents[1]))

#: Set by ``track.py quick``: every benchmark runs on little work.
QUICK = bool(os.environ.get("FASTNN_BENCH_QUICK"))

ENGINES = ["numba", "c"]
THREADS = ["all"] if QUICK else [1, "all"]


class OnEngine:
    """Base of a benchmark that runs on every engine, in one thread and in all threads.

    A subclass has ``cases``, the values of the first parameter, and ``prepare``. An engine that
    the commit or the machine lacks is skipped.
    """

    case_name = "case"
    cases: tuple | list = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cases = list(cls.cases)[:3] if QUICK else list(cls.cases)
        cls.params = (cases, ENGINES, THREADS)
        cls.param_names = (cls.case_name, "engine", "threads")

    def setup(self, case, engine, threads):
        use(engine, threads)
        self.prepare(case)

    def prepare(self, case) -> None:
        """Prepare a case; not timed."""
        raise NotImplementedError


def use(engine: str, threads) -> None:
    """Choose engine and threads; asv skips a benchmark whose setup raises NotImplementedError."""
    import fastnn

    if engine not in fastnn.engines.available():
        raise NotImplementedError(f"no engine {engine}")
    fastnn.set_engine(engine)
    fastnn.set_num_threads(None if threads == "all" else threads)


def load(name: str):
    """A workload by name; a short one under ``track.py quick``."""
    from workloads import WORKLOADS

    return WORKLOADS[name].shortened() if QUICK else WORKLOADS[name]


def workload_names() -> list[str]:
    """The names of all workloads."""
    from workloads import WORKLOADS

    return list(WORKLOADS)
