"""The report of ``fastnn doctor``: what is installed, what is missing, how to install it."""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np

import fastnn

from . import Dense, Sequential, engines
from .engines import levels
from .engines import threads as thread_limits

#: Packages besides the engines: the purpose of each, and what to install.
_OPTIONAL = {
    "scipy": ("GELU in the reference engine, cross entropies as functions", "scipy"),
    "safetensors": ("model files", "safetensors"),
    "matplotlib": ("pictures of learning curves", "'fastnn-cpu[plot]'"),
    "pillow": ("folders of images", "'fastnn-cpu[images]'"),
    "tqdm": ("progress bars", "'fastnn-cpu[cli]'"),
    "tensorboard": ("TensorBoardLogger", "'fastnn-cpu[loggers]'"),
    "mlflow-skinny": ("MLflowLogger", "'fastnn-cpu[loggers]'"),
    "sklearn": ("MLPClassifier and other estimators, metrics such as f1", "'fastnn-cpu[sklearn]'"),
}
#: Networks and batch sizes that the report measures, and for how long each.
_MEASURED = (((14, 64, 64, 2), 32), ((784, 128, 10), 32), ((784, 512, 512, 10), 128))
_MEASURED_SECONDS = 0.3

_VARIABLES = (
    "FASTNN_ENGINE", "FASTNN_NUM_THREADS", "FASTNN_SIMD", "FASTNN_CACHE_DIR", "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER",
)  # fmt: skip


def lines() -> list[str]:
    """The lines of the report; errors become lines of it."""
    report = [
        f"fastnn {fastnn.__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, {platform.system()} {platform.machine()}",
        "",
        "engines",
    ]
    available = engines.available()
    for name in engines.NAMES:
        state = available.get(name) or f"MISSING: {engines.trouble(name)}"
        report.append(f"  {name:8}{_version(name)}{state}")
    report += [f"  chosen  {_or_error(_choice)}", "", "processor"]
    report += [f"  SIMD    {_or_error(_simd, available)}", f"  threads {_or_error(_threads)}"]
    measured = _or_error(lambda: "\n".join(_measured_threads(available)))
    report += [f"          {line}" for line in measured.splitlines()]
    report += ["", "cache of compiled kernels", f"  {_or_error(_cache, available)}"]
    report += ["", "packages", *(f"  {line}" for line in _packages())]
    variables = [f"  {name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    variables += _misspelled()
    return [*report, "", "environment", *(variables or ["  no variable of fastnn is set"])]


def check_environment() -> None:
    """Check the variables that choose the engine, its threads and its instructions.

    Raises
    ------
    ValueError
        If one of them is wrong.
    """
    engines.choice()
    thread_limits.get_num_threads()
    _simd(engines.available())


def _misspelled() -> list[str]:
    """Lines about variables whose names resemble those that fastnn reads."""
    report = []
    for name in sorted(os.environ):
        close = difflib.get_close_matches(name.upper(), _VARIABLES, 1, 0.8)
        if close and name not in _VARIABLES and name.upper().startswith("FASTNN"):
            report.append(f"  WRONG: fastnn does not read {name}; did you mean {close[0]}?")
    return report


def _or_error(describe, *arguments) -> str:
    """The text that a function returns, or its error as text."""
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
        warnings.simplefilter("ignore")  # the report itself says what is missing
        name, reason = engines.choice()
    return f"{name} ({reason})"


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
    return (
        f"{thread_limits.get_num_threads()}, on {thread_limits.cpu_count()} cores of this process"
    )


def _measured_threads(available) -> Iterator[str]:
    """What a step of some networks takes, and in how many threads it proves fastest."""
    engine = "c" if "c" in available else next(iter(available))
    if engine == "numpy":
        return
    rng = np.random.default_rng(0)
    for sizes, batch_size in _MEASURED:
        layers = [Dense(units, "relu") for units in sizes[1:-1]]
        net = Sequential([*layers, Dense(sizes[-1])], n_inputs=sizes[0], seed=0)
        n_rows = 20 * batch_size
        X = rng.standard_normal((n_rows, sizes[0]), np.float32)
        y = rng.integers(0, sizes[-1], n_rows)
        used: Counter[int] = Counter()
        seconds: list[float] = []
        end = time.perf_counter() + _MEASURED_SECONDS
        with engines.use_engine(engine):
            while not seconds or time.perf_counter() < end:
                history = net.fit(X, y, epochs=1, batch_size=batch_size, progress=False)
                seconds += history["seconds"]
                used = Counter(history.threads_used)
        n_threads = max(used, key=lambda n: used[n])
        threads = "1 thread" if n_threads == 1 else f"{n_threads} threads"
        network = "-".join(map(str, sizes))
        yield (
            f"{network} with batch {batch_size}: {1e6 * min(seconds) / 20:.0f} us a step, "
            f"in {threads}"
        )


def _cache(available) -> str:
    if "numba" not in available:
        return "not used: only Numba compiles on first use"
    from .engines.jit import cache

    if cache.root() is None:
        return "turned off by FASTNN_CACHE_DIR"
    directory = cache.directory()
    if directory is None:
        return (
            f"WRONG: {cache.root()} cannot be written, so every process compiles again: set "
            "FASTNN_CACHE_DIR to a writable directory"
        )
    sizes = [path.stat().st_size for path in directory.glob("*.kernel")]
    megabytes = sum(sizes) / 2**20
    return f"{directory}: {len(sizes)} kernels, {megabytes:.1f} MB (fastnn warmup fills it)"


def _packages():
    for name, (purpose, requirement) in _OPTIONAL.items():
        distribution = "scikit-learn" if name == "sklearn" else name
        try:
            yield f"{distribution:14}{importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{distribution:14}MISSING, for {purpose}: pip install {requirement}"
    yield from _of_the_same_name()
    if sys.maxsize < 2**32:
        yield "a 32-bit Python: the compiled engines need 64 bits"


def _of_the_same_name() -> Iterator[str]:
    """Another project's distribution fastnn: it writes its files into the same package."""
    try:
        other = importlib.metadata.metadata("fastnn")
        ours = importlib.metadata.metadata("fastnn-cpu")
    except importlib.metadata.PackageNotFoundError:
        return
    if other["Summary"] != ours["Summary"]:  # else it is this project, before it was renamed
        yield (
            f"{'fastnn':14}WRONG: {other['Version']} is another project, whose files overwrite "
            "those of fastnn-cpu: pip uninstall fastnn fastnn-cpu, then install fastnn-cpu again"
        )
