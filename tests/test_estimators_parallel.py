"""Searches in several processes or threads: no deadlock, no crash after a fork, a core for each."""

import contextlib
import os
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV

from fastnn import (
    Dense,
    MLPClassifier,
    MLPRegressor,
    SequentialClassifier,
    SequentialRegressor,
    engines,
)
from fastnn.engines import threads

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    # Python 3.12 warns of every fork of a process that has threads.
    "ignore:.*multi-threaded, use of fork.*:DeprecationWarning",
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((600, 32)).astype(np.float32)
Y = (X[:, 0] - X[:, 1] > 0).astype(int)
YR = X[:, 0] - 2 * X[:, 1]

#: Wide enough for a step to pay in two threads.
WIDTH, ROWS = 192, 256


def build(n_inputs, n_outputs):
    return [Dense(WIDTH, "relu"), Dense(WIDTH, "relu"), Dense(n_outputs)]


def perceptron(kind):
    return kind(hidden_layer_sizes=(WIDTH, WIDTH), batch_size=ROWS, max_iter=2)


def sequential(kind):
    return kind(build, batch_size=ROWS, epochs=2)


MODELS = [
    perceptron(MLPClassifier),
    perceptron(MLPRegressor),
    sequential(SequentialClassifier),
    sequential(SequentialRegressor),
]
GRID = {"random_state": [0, 1]}


def targets(model):
    return Y if is_classifier(model) else YR


def told(model, X, y):
    """Scores of a fitted model; besides its own, where and with how many threads it has run."""
    history = model.net_.history
    return {
        "score": model.score(X, y), "pid": os.getpid(), "limit": history.n_threads,
        "most": max(history.threads_used, default=1),
    }  # fmt: skip


def search(model, n_jobs):
    found = GridSearchCV(model, GRID, cv=2, n_jobs=n_jobs, scoring=told, refit=False)
    found.fit(X, targets(model))
    return {
        name: np.concatenate([found.cv_results_[f"split{n}_test_{name}"] for n in range(2)])
        for name in ("score", "pid", "limit", "most")
    }


@pytest.fixture(scope="module")
def alone():
    """The scores of each model in this process, which has used its pool of threads by then."""
    with engines.use_engine("auto"):
        return {type(model).__name__: search(model, None)["score"] for model in MODELS}


@pytest.fixture(params=MODELS, ids=[type(one).__name__ for one in MODELS])
def model(request):
    return request.param


def test_loky(model, alone):
    """Its workers are new processes; OMP_NUM_THREADS says what each may use."""
    with joblib.parallel_config("loky"):
        found = search(model, 2)
    np.testing.assert_array_equal(found["score"], alone[type(model).__name__])
    assert os.getpid() not in found["pid"]
    assert found["limit"].max() == max(1, threads.cpu_count() // 2)
    assert found["most"].max() <= found["limit"].max()


def test_multiprocessing(model, alone):
    """Its workers are forks of a process that has threads; each keeps to one."""
    with joblib.parallel_config("multiprocessing"):
        found = search(model, 2)
    np.testing.assert_array_equal(found["score"], alone[type(model).__name__])
    assert os.getpid() not in found["pid"]
    assert found["limit"].max() == found["most"].max() == 1


@pytest.mark.parametrize("engine", [name for name in engines.NAMES if name in engines.available()])
def test_every_engine_in_a_fork(engine):
    model = SequentialClassifier([Dense(8, "relu"), Dense(1)], epochs=1, engine=engine)
    model.fit(X, Y)
    with joblib.parallel_config("multiprocessing"):
        found, here = search(model, 2), search(model, None)
    np.testing.assert_array_equal(found["score"], here["score"])


def test_threading(model, alone, monkeypatch):
    """Runs at the same moment share the cores of the process."""
    cores, wrong = threads.get_num_threads(), []
    share_of = threads.share_of

    def watched(limit):
        share = share_of(limit)
        if share * max(1, len(threads._sharing)) > cores and share > 1:
            wrong.append((share, len(threads._sharing)))
        return share

    monkeypatch.setattr(threads, "share_of", watched)
    with joblib.parallel_config("threading"):
        found = search(model, 2)
    np.testing.assert_array_equal(found["score"], alone[type(model).__name__])
    assert (found["pid"] == os.getpid()).all()
    assert found["limit"].max() == cores
    assert not wrong


def test_one_estimator_in_several_threads():
    """Predictions of the same network at once are those that it makes alone."""
    model = SequentialClassifier(build, epochs=1, random_state=0).fit(X, Y)
    expected, found = model.predict_proba(X), []
    many = [threading.Thread(target=lambda: found.append(model.predict_proba(X))) for _ in range(4)]
    for thread in many:
        thread.start()
    for thread in many:
        thread.join(60)
    assert len(found) == 4
    assert all((one == expected).all() for one in found)


def test_one_thread_if_that_is_asked_for(model):
    given = clone(model).set_params(n_threads=1).fit(X, targets(model))
    assert given.net_.history.n_threads == 1
    assert set(given.net_.history.threads_used) == {1}


_WORKER = """
import multiprocessing
import fastnn
from fastnn.engines import threads
def count(_):
    return fastnn.get_num_threads()
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(fastnn.get_num_threads() == threads.cpu_count(), pool.map(count, [0])[0])
    fastnn.set_num_threads(1 + (threads.cpu_count() > 1))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(count, [0])[0] == fastnn.get_num_threads())
    process = multiprocessing.get_context("fork").Process(target=lambda: print(count(0) > 0))
    process.start()
    process.join()
"""


def test_the_threads_of_a_worker_of_a_pool():
    unlimited = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", _WORKER], env=unlimited, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["True", "1", "True", "True"], done.stderr


def test_dask(alone):
    """A cluster of processes, where Dask is installed."""
    distributed = pytest.importorskip("distributed")
    model = MODELS[2]
    with contextlib.ExitStack() as stack:
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        )
        stack.enter_context(cluster)
        stack.enter_context(distributed.Client(cluster))
        with joblib.parallel_config("dask"):
            found = search(model, 2)
    np.testing.assert_array_equal(found["score"], alone[type(model).__name__])
    assert os.getpid() not in found["pid"]
    assert found["limit"].max() == found["most"].max() == 1
