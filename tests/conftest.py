"""What all tests share: a kernel cache of their own, and engines that cannot cheat."""

import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Before any kernel is compiled: the suite starts from a cold cache and leaves nothing behind,
# unless FASTNN_TEST_CACHE names a directory that keeps the kernels for the next run. Processes that
# pytest-xdist starts inherit the variable, and so share the cache.
if not os.environ.get("FASTNN_TEST_CACHE"):
    _cache = tempfile.TemporaryDirectory(prefix="fastnn-test-cache-")
    os.environ["FASTNN_TEST_CACHE"] = _cache.name
    os.environ["FASTNN_TEST_CACHE_IS_COLD"] = "1"
os.environ["FASTNN_CACHE_DIR"] = os.environ["FASTNN_TEST_CACHE"]
for _name in ("FASTNN_ENGINE", "FASTNN_NUM_THREADS"):
    os.environ.pop(_name, None)

import fastnn  # noqa: E402
from fastnn import engines  # noqa: E402
from fastnn.engines import reference  # noqa: E402

# A shell that starts the suite in the background has it ignore SIGINT, and with it tests of Ctrl-C.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "suite",
    max_examples=int(os.environ.get("FASTNN_EXAMPLES", "150")),
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption("--random-order", type=int, metavar="SEED", help="shuffle the tests")


#: The quick set: these files, and what is marked in others.
QUICK_FILES = (
    "test_bad_input", "test_fit", "test_functions", "test_notes", "test_operations", "test_parts",
    "test_plan", "test_random",
)  # fmt: skip


def pytest_collection_modifyitems(config, items):
    """Mark the quick set; shuffle the tests if asked to, so that none relies on another."""
    for item in items:
        if item.path.stem in QUICK_FILES:
            item.add_marker("quick")
    seed = config.getoption("--random-order")
    if seed is not None:
        random.Random(seed).shuffle(items)


#: Tests of a run that may well need every kernel.
MOST_TESTS = 5000


def pytest_collection_finish(session):
    """Let each process of pytest-xdist compile a share of the kernels, before it runs tests.

    Otherwise all of them compile the same kernels in the first minute of a cold cache.
    """
    worker = getattr(session.config, "workerinput", None)
    cold = os.environ.get("FASTNN_TEST_CACHE_IS_COLD") and "numba" in engines.available()
    if worker is None or not cold or len(session.items) < MOST_TESTS:
        return
    from fastnn.engines import jit

    share = int(worker["workerid"].removeprefix("gw"))
    wanted = [(name, dtype) for dtype in ("float32", "float64") for name in jit.names()]
    for name, dtype in wanted[share :: worker["workercount"]]:
        jit.address(name, dtype)


ENGINES = list(engines.available())
COMPILED = [name for name in ENGINES if name != "numpy"]
DTYPES = ["float32", "float64"]


def _forbidden(*_args, **_kwargs):
    raise AssertionError("a compiled engine called the reference")


def _functions_of_the_reference():
    """(module, name) of every function and class of the reference, wherever it is imported."""
    package = reference.__name__
    for name, module in sorted(sys.modules.items()):
        if name.partition(".reference")[0] + ".reference" != package:
            continue
        for attribute, value in list(vars(module).items()):
            if callable(value) and str(getattr(value, "__module__", "")).startswith(package):
                yield module, attribute


@contextlib.contextmanager
def only(engine):
    """Run on one engine; a compiled one finds every function of the reference replaced."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(fastnn.use_engine(engine))
        if engine != "numpy":
            found = list(_functions_of_the_reference())
            assert len(found) > 60 or reference.forward is _forbidden  # already replaced
            for module, name in found:
                stack.enter_context(mock.patch.object(module, name, _forbidden))
        yield


@pytest.fixture(params=ENGINES)
def engine(request):
    """Each engine in turn, the others out of reach."""
    with only(request.param):
        yield request.param


@pytest.fixture(params=COMPILED)
def compiled(request):
    """Each compiled engine in turn."""
    with only(request.param):
        yield request.param


#: The compiled engines, and Numba's kernels on its own threads, as without the C module.
NUMBAS_THREADS = "numba on its own threads"
POOLS = [*COMPILED, *([NUMBAS_THREADS] if "numba" in COMPILED else [])]


def use_numbas_threads(monkeypatch):
    """Let the Numba engine launch its parts as it does where the C module is missing."""
    from fastnn.engines import jit
    from fastnn.engines.compiled import CompiledEngine

    engine = CompiledEngine("numba", jit.address, jit.launch)
    monkeypatch.setattr(engines, "_numba", lambda: engine)


@pytest.fixture(params=POOLS)
def pool(request, monkeypatch):
    """Each compiled engine with each pool of threads that it can have; gives the engine."""
    if request.param == NUMBAS_THREADS:
        use_numbas_threads(monkeypatch)
    with only(request.param.split()[0]):
        yield request.param.split()[0]


@pytest.fixture
def numbas_threads(monkeypatch):
    """Numba's kernels on its own threads."""
    pytest.importorskip("numba")
    use_numbas_threads(monkeypatch)
    with only("numba"):
        yield


@pytest.fixture
def n_threads():
    """A function that sets the number of threads, also above that of the cores, for one test."""

    def choose(n):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fastnn.set_num_threads(n)

    yield choose
    fastnn.set_num_threads(None)


@pytest.fixture
def no_thread_is_left():
    """Every test ends with the threads that it began with."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def threads_used(ws):
    """How many batches have run in how many threads, in a workspace of one engine."""
    (bound,) = ws.programs.values()
    return bound.threads_used


def poison(ws):
    """Fill everything of a workspace whose contents no call may rely on with NaN, bit by bit."""
    arrays = (ws.grad, *ws.temporary())
    assert any(array is ws.pack for array in arrays)
    for array in arrays:
        array.view(np.uint8).fill(255)


@pytest.fixture
def workspaces(monkeypatch):
    """Every workspace made during the test, in order."""
    from fastnn.engines.workspace import Workspace

    made = []
    original = Workspace.__init__

    def remember(self, *args, **kwargs):
        original(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(Workspace, "__init__", remember)
    return made


def table(n=120, n_inputs=7, n_classes=3, seed=0):
    """A small classification table that can be learned: (X, y)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    centres = rng.normal(size=(n_classes, n_inputs)) * 2
    return (centres[y] + rng.normal(size=(n, n_inputs))).astype(np.float32), y
