"""What the compiled engines promise: the same bits however the work is split, no allocation."""

import contextlib
import hashlib
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time

import naive
import numpy as np
import pytest
from cases import (
    flat,
    make_case,
    relative_error,
)
from conftest import COMPILED, DTYPES, NUMBAS_THREADS, POOLS, only, poison, table, threads_used

import fastnn
from fastnn import (
    SGD,
    Adam,
    Dense,
    Sequential,
    engines,
    run,
)
from fastnn.engines import compiled as compiled_module
from fastnn.engines import threads
from fastnn.engines.workspace import Workspace

OPTIMIZERS = [
    SGD(0.05),
    SGD(0.05, momentum=0.9),
    Adam(0.01),
    SGD(0.05, momentum=0.9, nesterov=True),
]


def train(dtype="float32", optimizer=OPTIMIZERS[2], widths=(19, 33, 17, 5), batch_size=50):
    """Train a network of odd widths on 130 rows, so that the last batch is ragged."""
    X, y = table(130, widths[0], widths[-1], seed=3)
    hidden = [Dense(n, act) for n, act in zip(widths[1:-1], ("relu", "tanh"), strict=False)]
    net = Sequential([*hidden, Dense(widths[-1])], seed=5, dtype=dtype)
    history = net.fit(
        X, y, optimizer=optimizer, epochs=3, batch_size=batch_size,
        validation_data=(X[:40], y[:40]), progress=False,
    )  # fmt: skip
    return net, history


def bits(net, history):
    digest = hashlib.sha256(net.flat_params.tobytes())
    for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
        digest.update(np.array(history[key]).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_parts_gives_the_same_bits(
    compiled, dtype, optimizer, workspaces, monkeypatch
):
    expected = bits(*train(dtype, optimizer))
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    for parts in (1, 2, 3, 4, 7):
        monkeypatch.setattr(compiled_module, "PARTS", parts)
        workspaces.clear()
        assert bits(*train(dtype, optimizer)) == expected
        for ws in workspaces:
            assert (ws.ran[:parts] > 0).all(), "a part never ran"
            assert (ws.ran[:parts] == ws.ran[0]).all(), "the parts did not run equally often"
            assert (ws.ran[parts:] == 0).all(), "more parts ran than were asked for"


def test_long_batches_split_alike(compiled, workspaces, monkeypatch):
    """Sums over more rows than one block of the weights' gradient, and of the loss."""
    case = make_case([6, 40, 3], ["relu", "identity"], "cross_entropy", 700, seed=1)
    net = case.network("float32")
    expected = net.loss_and_grad(case.X, case.T, loss="cross_entropy")
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    for parts in (2, 4):
        monkeypatch.setattr(compiled_module, "PARTS", parts)
        loss, gradient = net.loss_and_grad(case.X, case.T, loss="cross_entropy")
        assert loss == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])
        assert workspaces[-1].ran[parts - 1] > 0


@pytest.mark.parametrize("n_out", [3, 7])
@pytest.mark.parametrize("rows", [2100, 4100, 6500])
def test_sums_over_very_many_rows_are_right(compiled, n_out, rows, workspaces):
    """Slabs, with and without a penalty, against the oracle."""
    case = make_case(
        [6, 9, n_out], ["tanh", "identity"], "cross_entropy", rows, 2, penalties=[(0, 0.1), (0, 0)]
    )
    net = case.network("float64")
    loss, gradient = net.loss_and_grad(case.X, case.T, loss="cross_entropy")
    assert ("slab_weights" in _kernels(workspaces[-1])) == (rows >= 4100)
    network = case.naive(net)
    assert relative_error(loss, naive.cost(network, *case.oracle)) <= 1e-12
    assert relative_error(gradient, flat(net, naive.gradients(network, *case.oracle))) <= 1e-11


def _kernels(ws):
    """The names of all kernels that are bound for a workspace."""
    programs = [program for bound in ws.programs.values() for program in bound.programs.values()]
    return {call.kernel for program in programs for call in program.calls}


def test_the_parts_run_on_different_threads_of_the_pool(pool, workspaces, monkeypatch):
    """The launcher is parallel indeed: three parts, two threads, each with its own parts.

    A thread whose core is busy may come too late; then the other one runs all parts alone.
    """
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    if threads.cpu_count() < 2:
        pytest.skip("a machine with one core has a pool of one thread")
    monkeypatch.setattr(threads, "get_num_threads", lambda: 2)
    expected = None
    for parts, places in ((2, [0, 1]), (3, [0, 1, 1])):
        monkeypatch.setattr(compiled_module, "PARTS", parts)
        end = time.monotonic() + 60
        side_by_side = 0
        while side_by_side < 3:
            assert time.monotonic() < end, "the second thread never came"
            workspaces.clear()
            found = bits(*train())
            assert found == (expected or found)
            expected = found
            assert len(workspaces) == 2
            for ws in workspaces:
                used = threads_used(ws)
                assert set(used) - {0} <= {1, 2}
                assert list(ws.ran_on[:parts]) in (places, [-1] * parts)
                assert used[2] > 0 or list(ws.ran_on[:parts]) == [-1] * parts
                assert (ws.ran_on[parts:] == -1).all()
                side_by_side += list(ws.ran_on[:parts]) == places


def test_numbas_own_threads_are_of_a_safe_layer(numbas_threads, monkeypatch):
    import numba

    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", 2)
    train()
    assert numba.threading_layer() in ("omp", "tbb")


@pytest.mark.parametrize("row", [0, 7])
def test_every_launcher_reports_the_largest_status(pool, row, monkeypatch):
    """One part meets a label that is out of range, the other succeeds."""
    from fastnn.engines.workspace import Data

    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", 2)
    net = Sequential([Dense(3)], n_inputs=2)
    plan = net.lower(fastnn.losses.cross_entropy)
    ws = Workspace(plan, net.flat_params, np.zeros(0, np.float32), 8)
    data = Data(np.ones((8, 2), np.float32), labels=np.zeros(8, np.int32))
    data.labels[row] = 3
    with pytest.raises(fastnn.errors.EngineError, match="a label or an entry of the order"):
        engines.current().evaluate(ws, data, np.zeros((1, 2)))


def test_the_number_of_threads_changes_no_bit(pool, monkeypatch):
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    found = set()
    for n in (1, 2, 4):
        too_many = n > threads.cpu_count()
        with pytest.warns(UserWarning, match="cores") if too_many else contextlib.nullcontext():
            fastnn.set_num_threads(n)
        assert fastnn.get_num_threads() == n
        found.add(bits(*train()))
    fastnn.set_num_threads(None)
    assert len(found) == 1


def test_a_row_is_predicted_alike_alone_and_in_any_batch(compiled):
    net, _ = train()
    X, _ = table(70, 19, 5, seed=9)
    together = net.logits(X)
    for i in (0, 1, 7, 8, 31, 69):
        np.testing.assert_array_equal(together[i : i + 1], net.logits(X[i : i + 1]))
    np.testing.assert_array_equal(together[5:38], net.logits(X[5:38]))
    np.testing.assert_array_equal(net.predict_proba(X)[3:4], net.predict_proba(X[3:4]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_networks_whose_panels_are_copied_together(dtype, monkeypatch):
    """Rows and columns beyond one panel and one depth block, ragged at every edge."""
    X, y = table(150, 300, 5, seed=2)
    net = Sequential([Dense(333, "tanh"), Dense(261, "tanh"), Dense(5)], n_inputs=300, dtype=dtype)
    with only("numpy"):
        expected = net.logits(X), net.loss_and_grad(X, y)[1]
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    first = {}
    for name in COMPILED:
        for parts in (1, 3):
            monkeypatch.setattr(compiled_module, "PARTS", parts)
            with only(name):
                logits, gradient = net.logits(X), net.loss_and_grad(X, y)[1]
                alone = np.concatenate([net.logits(X[i : i + 1]) for i in range(0, 150, 10)])
            eps = 500 * np.finfo(dtype).eps
            assert np.abs(logits - expected[0]).max() < eps * np.abs(expected[0]).max()
            assert np.abs(gradient - expected[1]).max() < eps * np.abs(expected[1]).max()
            np.testing.assert_array_equal(logits[::10], alone)
            np.testing.assert_array_equal(logits, first.setdefault("logits", logits))
            np.testing.assert_array_equal(gradient, first.setdefault("gradient", gradient))


def test_slicing_a_run_changes_no_bit(compiled, monkeypatch):
    expected = bits(*train(batch_size=4))
    for seconds in (0.0, 1e-4, 10.0):
        monkeypatch.setattr(run, "SLICE_SECONDS", seconds)
        assert bits(*train(batch_size=4)) == expected


def test_a_poisoned_workspace_changes_nothing(engine, monkeypatch):

    net, history = train()
    expected = bits(net, history), net.predict_proba(np.ones((3, 19)))
    original = Workspace.__init__

    def make_poisoned(self, *args, **kwargs):
        original(self, *args, **kwargs)
        poison(self)

    monkeypatch.setattr(Workspace, "__init__", make_poisoned)
    net, history = train()
    assert bits(net, history) == expected[0]
    np.testing.assert_array_equal(net.predict_proba(np.ones((3, 19))), expected[1])


def test_a_poisoned_gradient_and_workspace_between_steps(engine, workspaces):
    net, _ = train()
    X, y = table(50, 19, 5, seed=3)
    expected = net.loss_and_grad(X, y)
    engine_now = engines.current()
    from fastnn.engines.workspace import Data

    ws = workspaces[-1]
    data = Data(np.ascontiguousarray(X, np.float32), labels=y.astype(np.int32))
    for _ in range(2):
        poison(ws)
        results = np.full(2, np.nan)
        engine_now.loss_and_grad(ws, data, results)
        assert results[0] / 50 == expected[0]
        np.testing.assert_array_equal(ws.grad, expected[1])


def test_nothing_is_allocated_while_batches_run(compiled):
    if compiled != "numba":
        pytest.skip("counts Numba's allocations")
    from numba.core.runtime import _nrt_python, rtsys

    from fastnn.engines import jit
    from fastnn.engines.jit import cache

    called = {}
    for name in jit.names():
        jit.address(name, "float32")
        kept = (cache.directory() / f"{name}-float32.kernel").read_bytes()
        _, machine_code, _ = cache._unpack(kept)
        called[name] = set(re.findall(rb"NRT_\w+|\w*alloc\b", machine_code))
    assert called.pop("launch") == {b"NRT_Free"}  # so names of functions are found
    assert not set().union(*called.values())
    _nrt_python.memsys_enable_stats()
    train()
    before = rtsys.get_allocation_stats()
    train(batch_size=3)
    assert rtsys.get_allocation_stats() == before


def test_the_parallel_launcher_allocates_nothing(numbas_threads, monkeypatch):
    from numba.core.runtime import _nrt_python, rtsys

    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", 4)
    _nrt_python.memsys_enable_stats()
    train()
    before = rtsys.get_allocation_stats()
    train()
    after = rtsys.get_allocation_stats()
    assert (after.alloc - before.alloc, after.mi_alloc - before.mi_alloc) == (0, 0)


def test_without_a_safe_thread_layer_it_warns_once_and_is_right(numbas_threads, monkeypatch):
    expected = bits(*train())
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", 4)
    monkeypatch.setattr(threads, "_pool_started", False)
    monkeypatch.setattr(threads, "_pool_trouble", None)
    monkeypatch.setattr(threads, "_launch_pool", lambda: "Numba already runs its workqueue layer")
    with pytest.warns(RuntimeWarning, match="one thread, because Numba already runs"):
        assert bits(*train()) == expected
    assert bits(*train()) == expected  # warnings are errors: a second one would fail


def test_the_users_own_number_of_numba_threads_is_put_back(numbas_threads, monkeypatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    train()
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread leaves nothing to set")
    numba.set_num_threads(1)
    monkeypatch.setattr(compiled_module, "PARTS", 2)
    train()
    assert numba.get_num_threads() == 1
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


USERS_POOL = """
import os, sys, numba, numpy as np
if sys.argv[1] == "workqueue":
    numba.config.THREADING_LAYER = "workqueue"
@numba.njit(parallel=True)
def total(n):
    t = 0
    for i in numba.prange(n):
        t += i
    return t
total(10)
import fastnn
from fastnn import engines
from fastnn.engines import compiled
compiled.LEAST_WORK, compiled.PARTS = 0.0, 2
if sys.argv[2] == "own":
    from fastnn.engines import jit
    engine = compiled.CompiledEngine("numba", jit.address, jit.launch)
    engines._numba = lambda: engine
def train():
    net = fastnn.Sequential([fastnn.Dense(8, "tanh"), fastnn.Dense(3)])
    net.fit(np.eye(30), np.arange(30) % 3, epochs=2, progress=False)
    return net.flat_params.sum()
if sys.argv[1] == "fork":
    child = os.fork()
    os.write(1, f"{float(train())}\\n".encode())  # in one piece: the other process writes too
    if child:
        sys.exit(os.waitpid(child, 0)[1])
else:
    print(float(train()))
"""


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("kind", ["plain", "workqueue", "fork"])
def test_beside_the_users_own_parallel_numba_code(kind, pool):
    """The user's pool was there first: its layer is unsafe, or the process forks after it."""
    pytest.importorskip("numba")
    environment = {**os.environ, "FASTNN_NUM_THREADS": "2", "FASTNN_ENGINE": pool.split()[0]}
    whose = "own" if pool == NUMBAS_THREADS else "ours"
    done = subprocess.run(
        [sys.executable, "-c", USERS_POOL, kind, whose], capture_output=True, text=True,
        timeout=120, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ("because Numba already runs its workqueue layer" in done.stderr) == (
        kind == "workqueue" and pool == NUMBAS_THREADS
    )
    values = done.stdout.split()
    assert len(values) == (2 if kind == "fork" else 1)
    assert len(set(values)) == 1


def _train_in_child(engine, queue):
    with only(engine):
        queue.put(bits(*train()))


def test_a_forked_child_of_a_parallel_parent_trains(pool, monkeypatch):
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", 4)
    expected = bits(*train())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_train_in_child, args=(pool, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(60)
    assert child.exitcode == 0


def test_two_fits_at_once_are_both_right(pool, monkeypatch):
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", 2)
    expected = bits(*train(batch_size=3))
    found, errors = [], []

    def work():
        try:
            with fastnn.use_engine(pool):
                for _ in range(5):
                    found.append(bits(*train(batch_size=3)))
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=work) for _ in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not errors
    assert found == [expected] * 20


def test_one_network_predicts_from_several_threads(compiled):
    net, _ = train()
    X, _ = table(1500, 19, 5, seed=9)
    expected = net.predict_proba(X)
    wrong = []

    def work():
        with fastnn.use_engine(compiled):
            for _ in range(20):
                if not np.array_equal(net.predict_proba(X), expected):
                    wrong.append(1)

    running = [threading.Thread(target=work) for _ in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not wrong
