"""Threads under bad conditions: cores taken away, too many threads, forks, Ctrl-C, concurrent fits.

None of it may change a bit or stop a fit. The limits of time are those of a hang, not of a speed.
"""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from conftest import POOLS, table, threads_used

import fastnn
from fastnn import Dense, Sequential
from fastnn import run as run_module
from fastnn.engines import compiled as compiled_module
from fastnn.engines import program as program_module
from fastnn.engines import threads
from fastnn.engines.tuning import Tuner

#: Seconds after which a fit that takes one hangs.
HANGS = 120


def fit(epochs=6, **options):
    """Fit a small network: (its parameters' digest, network)."""
    X, y = table(310, 20)
    net = Sequential([Dense(40, "relu"), Dense(3)], seed=2)
    net.fit(X, y, epochs=epochs, progress=False, **options)
    return hashlib.sha256(net.flat_params.tobytes()).hexdigest(), net


@pytest.fixture
def expected(pool):
    """The digest of :func:`fit` in one thread."""
    fastnn.set_num_threads(1)
    try:
        return fit()[0]
    finally:
        fastnn.set_num_threads(None)


@pytest.fixture
def any_work(monkeypatch):
    """Several threads are tried for small networks, too."""
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)


# -- in a process of its own ----------------------------------------------------------------------

HEAD = """
import hashlib, os, sys, threading, time
import numpy as np
import fastnn
from fastnn import engines, history
from fastnn.engines import compiled, threads
from fastnn.engines.tuning import Tuner

compiled.LEAST_WORK = 0.0
if "own" in sys.argv:
    from fastnn.engines import jit
    engine = compiled.CompiledEngine("numba", jit.address, jit.launch)
    engines._numba = lambda: engine

def network():
    return fastnn.Sequential([fastnn.Dense(40, "relu"), fastnn.Dense(3)], n_inputs=20)

def fit(epochs, net=None):
    rng = np.random.default_rng(0)
    net = net or network()
    net.fit(rng.normal(size=(310, 20)), np.arange(310) % 3, epochs=epochs, progress=False)
    return hashlib.sha256(net.flat_params.tobytes()).hexdigest()

def fit_in_one_thread(epochs):
    fastnn.set_num_threads(1)
    try:
        return fit(epochs)
    finally:
        fastnn.set_num_threads(None)

if "forced" in sys.argv:
    Tuner.next = lambda self, batches: (self._candidates[-1], min(batches, 20))
"""

CORES = """
EPOCHS = 60
cores = sorted(os.sched_getaffinity(0))
expected = fit_in_one_thread(EPOCHS)
if "forced" in sys.argv:
    fastnn.set_num_threads(2) # so that a fit that has one core goes on in two threads
net, used, stop = network(), 0, threading.Event()
taken = []

def allow(found):
    for task in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(task), found)
        except ProcessLookupError: # it has ended
            pass

def wait_for_epochs(count):
    at = done()
    while not stop.is_set() and at <= done() < at + count:
        time.sleep(0.0005)

def done():
    return len(net.history["loss"]) if net.history and "loss" in net.history else 0

def take_and_give():
    while not stop.is_set():
        for core in cores[:2]:
            wait_for_epochs(1)
            allow({core})
            if not stop.is_set():
                taken.append(done())
            wait_for_epochs(2)
            allow(set(cores))
            wait_for_epochs(2)

thread = threading.Thread(target=take_and_give)
thread.start()
end = time.monotonic() + 180
try:
    while True:
        net = network()
        assert fit(EPOCHS, net) == expected
        used += sum(n for count, n in net.history.threads_used.items() if count > 1)
        in_the_middle = [at for at in taken if 0 < at < EPOCHS]
        if len(in_the_middle) > 4 and (used or "forced" not in sys.argv):
            break
        assert time.monotonic() < end, (taken, used)
finally:
    stop.set()
    thread.join()
    allow(set(cores))
assert threads.cpu_count() == len(cores)
assert fit(EPOCHS) == expected
print("right")
"""

FORK = """
EPOCHS = 9
expected = fit_in_one_thread(EPOCHS)
append, statuses, child = history.History.append, [], False

def append_and_fork(self, values, n_rows):
    global child
    append(self, values, n_rows)
    if len(self["loss"]) in (3, 6) and not child:
        pid = os.fork()
        if pid:
            statuses.append(os.waitpid(pid, 0)[1])
        child = not pid

history.History.append = append_and_fork
status = 1
try:
    status = int(fit(EPOCHS) != expected)
finally:
    if child:
        os._exit(status)
assert status == 0
assert statuses == [0, 0], statuses
history.History.append = append
assert fit(EPOCHS) == expected
print("right")
"""


def run(pool_name, code, *words):
    """Run a program with an engine in a process of its own; it must print that it was right."""
    engine, *own = pool_name.split(" ", 1)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HEAD + code, *words, *(["own"] if own else [])],
        capture_output=True, text=True, timeout=2 * HANGS,
        env={**os.environ, "FASTNN_ENGINE": engine},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "right"


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux")
@pytest.mark.skipif(threads.cpu_count() < 2, reason="needs a core that can be taken away")
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("words", [(), ("forced",)], ids=["measured", "two threads"])
def test_cores_may_be_taken_away_and_given_back_during_a_fit(name, words):
    run(name, CORES, *words)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", POOLS)
def test_a_fit_goes_on_in_a_child_that_is_forked_between_two_epochs(name):
    """In the parent as well; the child has none of its threads."""
    run(name, FORK, "forced")


# -- in this process ------------------------------------------------------------------------------


def test_many_threads_on_few_cores_are_given_up(pool, expected, any_work, monkeypatch):
    """The tuner begins with 64 threads: the cores seem to be there, but others have them."""
    monkeypatch.setattr(program_module, "GUESS", 1.0)
    assert compiled_module.PARTS is None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fastnn.set_num_threads(64)
        assert (threads.cpu_count() < 64) == any("64 threads" in str(w.message) for w in caught)
        monkeypatch.setattr(threads, "cpu_count", lambda: 64)
        began = time.monotonic()
        digest, net = fit()
        assert time.monotonic() - began < HANGS
    finally:
        fastnn.set_num_threads(None)
    assert digest == expected
    assert net.history.n_threads == 64
    assert sum(net.history.threads_used.values()) == 60


def test_fits_in_two_python_threads_that_measure_are_right(pool, expected, any_work):
    """Both measure, while the pool serves one of them at a time."""
    found = []

    def work():
        found.extend(fit()[0] for _ in range(5))

    running = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(HANGS)
        assert not thread.is_alive()
    assert found == [expected] * 10


def test_runs_at_once_share_the_threads():
    inside, leave = threading.Event(), threading.Event()

    def work():
        with threads.Sharing():
            inside.set()
            leave.wait(HANGS)

    other = threading.Thread(target=work)
    assert threads.share_of(8) == 8
    with threads.Sharing():
        assert threads.share_of(8) == 8
        other.start()
        assert inside.wait(HANGS)
        assert [threads.share_of(n) for n in (8, 3, 1)] == [4, 1, 1]
        leave.set()
        other.join()
        assert threads.share_of(8) == 8


@pytest.mark.skipif(os.name != "posix", reason="needs kill")
def test_ctrl_c_stops_a_fit_in_two_threads(pool, expected, any_work, workspaces, monkeypatch):
    """It comes when batches have run in both; another fit then does."""
    monkeypatch.setattr(threads, "get_num_threads", lambda: 2)
    monkeypatch.setattr(Tuner, "next", lambda self, batches: (2, min(batches, 50)))
    workspaces.clear()
    several = []

    def interrupt():
        end = time.monotonic() + HANGS
        while time.monotonic() < end and not several:
            time.sleep(0.01)
            several.extend(ws for ws in list(workspaces) if ws.programs and threads_used(ws)[2])
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(epochs=10_000_000)
    finally:
        thread.join()
    assert several or threads.cpu_count() == 1
    assert fit()[0] == expected


@pytest.mark.parametrize("batch_size", [32, 310, None])
@pytest.mark.parametrize("valid", [False, True], ids=["", "validation"])
def test_threads_used_adds_up_to_the_minibatches(pool, any_work, batch_size, valid):
    X, y = table(75, 20)
    _, net = fit(batch_size=batch_size, validation_data=(X, y) if valid else None)
    batches = -(-310 // (batch_size or 310))
    used = net.history.threads_used
    assert sum(used.values()) == 6 * batches
    assert all(1 <= n <= net.history.n_threads and count >= 1 for n, count in used.items())


def test_a_batch_that_runs_in_pieces_is_one_minibatch(pool, any_work, workspaces, monkeypatch):
    monkeypatch.setattr(run_module, "PIECE_ELEMENTS", 1)
    X, y = table(2000, 20)
    net = Sequential([Dense(40, "relu"), Dense(3)], n_inputs=20)
    for batch_size, batches in ((None, 1), (1500, 2)):
        net.fit(X, y, epochs=3, batch_size=batch_size, progress=False)
        assert workspaces[-1].capacity == 512
        used = net.history.threads_used
        assert sum(used.values()) == 3 * batches
        assert 0 not in used.values()


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_quota_of_half_a_core_is_one_thread(files, quota, monkeypatch, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    moved = {"/sys/fs/cgroup/cpu.max": "cpu.max", "/sys/fs/cgroup/cpu": "cpu"}
    monkeypatch.setattr(threads, "Path", lambda name: Path(tmp_path) / moved[name])
    monkeypatch.setattr(threads, "_cgroup_quota", threads._cgroup_quota.__wrapped__)
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert threads._cgroup_quota() == quota
    if quota == 1:
        assert threads.cpu_count() == fastnn.get_num_threads() == 1
    else:
        assert threads.cpu_count() >= 1


def test_a_fit_with_a_quota_of_half_a_core_is_right(pool, expected, any_work, monkeypatch):
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: 1)
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    digest, net = fit()
    assert digest == expected
    assert net.history.threads_used == {1: 60}
