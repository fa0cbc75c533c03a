"""What all tests share: a kernel cache of their own, and engines that cannot cheat."""

import contextlib
import os
import tempfile
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Before any kernel is compiled: the suite starts from a cold cache and leaves nothing behind.
_cache = tempfile.TemporaryDirectory(prefix="fastnn-test-cache-")
os.environ["FASTNN_CACHE_DIR"] = _cache.name
for _name in ("FASTNN_ENGINE", "FASTNN_NUM_THREADS"):
    os.environ.pop(_name, None)

import fastnn  # noqa: E402
from fastnn import engines  # noqa: E402
from fastnn.engines import reference  # noqa: E402

settings.register_profile(
    "suite",
    max_examples=int(os.environ.get("FASTNN_EXAMPLES", "200")),
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")

ENGINES = list(engines.available())
COMPILED = [name for name in ENGINES if name != "numpy"]
DTYPES = ["float32", "float64"]


def _forbidden(*_args, **_kwargs):
    raise AssertionError("a compiled engine called the reference")


@contextlib.contextmanager
def only(engine):
    """Run on one engine; a compiled one finds every function of the reference replaced."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(fastnn.use_engine(engine))
        if engine != "numpy":
            names = [n for n, value in vars(reference).items() if callable(value) and n[0] != "_"]
            names += ["_forward", "_backward", "_loss", "_batch", "_hits"]
            for name in names:
                if (
                    getattr(value := getattr(reference, name), "__module__", "")
                    == reference.__name__
                ):
                    assert callable(value)
                    stack.enter_context(mock.patch.object(reference, name, _forbidden))
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
