"""Threads: each walks the whole program, and they meet where data cross."""

import contextvars
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from unittest import mock

import digests
import numpy as np
import pytest
from cases import cases, loss_function
from conftest import COMPILED, POOLS, only, table, threads_used
from hypothesis import given, settings

from fastnn import Adam, Dense, Sequential, engines, losses
from fastnn.engines import compiled as compiled_module
from fastnn.engines import threads
from fastnn.engines.program import Program, Task, Variant, calls_of, meetings
from fastnn.engines.tuning import Tuner
from fastnn.engines.workspace import Data, Steps, Workspace
from fastnn.errors import EngineError
from fastnn.tables import CALL, Split
from fastnn.update import Update

#: "numba" once, though it may have two pools.
assert set(POOLS) >= set(COMPILED)


def choose(monkeypatch, limit, chooser):
    """Let a function of the batches that are left choose (threads, batches) of every run."""
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(threads, "get_num_threads", lambda: limit)
    monkeypatch.setattr(Tuner, "next", lambda self, batches: chooser(batches))


def force(monkeypatch, n):
    """Let every run have n threads."""
    choose(monkeypatch, n, lambda batches: (n, batches))


# -- the same bits --------------------------------------------------------------------------------

KEPT = json.loads(digests.KEPT.read_text())


@pytest.mark.parametrize("name", ["odd", "wide", "weights", "few outputs", "residual"])
def test_a_random_number_of_threads_gives_the_kept_digests(pool, name, workspaces, monkeypatch):
    """Every run of some batches in another number of threads than the one before."""
    rng, asked = random.Random(0), set()

    def draw(batches):
        n = rng.randint(1, 4)
        asked.add(n)
        return n, rng.randint(1, min(batches, 7))

    choose(monkeypatch, 4, draw)
    for dtype in ("float32", "float64"):
        end = time.monotonic() + 60
        while True:
            workspaces.clear()
            assert digests.digest(name, dtype) == KEPT[f"{name}, {dtype}"]
            used = sum((threads_used(ws) for ws in workspaces), start=Counter())
            if set(used) - {0, 1} or threads.cpu_count() == 1:
                break
            assert time.monotonic() < end, "all ran in one thread"
    assert asked == {1, 2, 3, 4}


def test_sixteen_threads_on_few_cores_are_right(pool, workspaces, monkeypatch):
    """More threads than cores give the core away instead of waiting in vain."""
    force(monkeypatch, 16)
    began = time.monotonic()
    assert digests.digest("odd", "float32") == KEPT["odd, float32"]
    assert time.monotonic() - began < 30
    assert threads_used(workspaces[0]).total() >= 50


def training(rows, batch_size, change=None):
    """A network, and a function that runs its batches: (batches done, parameters, result)."""
    X, y = table(rows, 9, 4, seed=1)
    data = Data(X, labels=y.astype(np.int32), batch_size=batch_size)
    if change is not None:
        change(data)
    net = Sequential([Dense(21, "tanh"), Dense(17, "relu"), Dense(4)], n_inputs=9, seed=3)
    plan = net.lower(losses.cross_entropy)
    n = data.n_batches
    ws = Workspace(
        plan, net.flat_params, np.zeros(0, np.float32), batch_size, Update.of(plan, Adam())
    )
    steps = Steps(Adam(0.01).hyper(1, np.full(n, 0.01)))
    results = np.full((n, 2), np.nan)

    def run():
        done = engines.current().run_batches(ws, data, steps, results, 0, n)
        return done, ws.params.tobytes(), results[:done].tobytes()

    return ws, run


def until_side_by_side(make, check, n, seconds=60):
    """Run until n threads ran together: a thread that comes too late lets another one run alone."""
    end = time.monotonic() + seconds
    while True:
        ws, run = make()
        check(ws, run)
        if threads_used(ws)[n] or threads.cpu_count() == 1:
            return
        assert time.monotonic() < end, f"never ran in {n} threads"


@pytest.mark.parametrize("row", [0, 37, 59, 119])
def test_a_loss_that_is_not_finite_stops_alike_in_any_number_of_threads(pool, row, monkeypatch):
    def change(data):
        data.X[row, 3] = np.nan

    found = set()

    def check(_ws, run):
        found.add(run())

    for n in (1, 2):
        force(monkeypatch, n)
        until_side_by_side(lambda: training(120, 10, change=change), check, n)
    assert len(found) == 1
    assert found.pop()[0] == row // 10


@pytest.mark.parametrize("row", [0, 5, 9, 119])
def test_a_bad_label_is_an_error_in_any_number_of_threads(pool, row, monkeypatch):
    def change(data):
        data.labels[row] = 7

    def check(_ws, run):
        with pytest.raises(EngineError, match="a label or an entry of the order is out of range"):
            run()

    for n in (1, 2):
        force(monkeypatch, n)
        for _ in range(3):
            check(*training(120, 10, change=change))


def test_after_an_error_the_same_workspace_is_right(pool, monkeypatch):
    """No thread still waits, and none takes an old failure for a new one."""
    force(monkeypatch, 2)
    kept = []
    ws, run = training(120, 10, kept.append)
    labels, before = kept[0].labels.copy(), ws.params.copy()
    expected = run()
    end = time.monotonic() + 60
    for row in itertools.count(0, 7):
        kept[0].labels[row % 120] = 7
        with pytest.raises(EngineError):
            run()
        np.copyto(kept[0].labels, labels)
        np.copyto(ws.params, before)
        ws.slots.fill(0)
        assert run() == expected
        if row > 120 and (threads_used(ws)[2] > 3 or threads.cpu_count() == 1):
            break
        assert time.monotonic() < end, "all ran in one thread"


# -- forks and Python threads ---------------------------------------------------------------------

SIDE_BY_SIDE = """
import hashlib, os, sys, threading, numpy as np, fastnn
from fastnn import engines
from fastnn.engines import compiled, threads
from fastnn.engines.tuning import Tuner
compiled.LEAST_WORK = 0.0
threads.get_num_threads = lambda: 2
Tuner.next = lambda self, batches: (2, min(batches, 20))
if sys.argv[2] == "own":
    from fastnn.engines import jit
    engine = compiled.CompiledEngine("numba", jit.address, jit.launch)
    engines._numba = lambda: engine
def fit(epochs):
    rng = np.random.default_rng(0)
    net = fastnn.Sequential([fastnn.Dense(40, "relu"), fastnn.Dense(3)])
    net.fit(rng.normal(size=(300, 20)), np.arange(300) % 3, epochs=epochs, progress=False)
    return hashlib.sha256(net.flat_params.tobytes()).hexdigest()
expected = fit(40)
done = threading.Event()
found = []
def work():
    while not done.is_set():
        found.append(fit(40))
running = [threading.Thread(target=work) for _ in range(2)]
for thread in running:
    thread.start()
children = 0
for _ in range(5 if sys.argv[1] == "fork" else 0):
    child = os.fork()
    if not child:
        os._exit(0 if fit(40) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    children += 1
while len(found) < 10:
    done.wait(0.01)
done.set()
for thread in running:
    thread.join()
assert set(found) == {expected}
print("right", children)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("what", ["fork", "threads"])
def test_fits_side_by_side_and_in_forked_children_are_right(name, what):
    """Two fits in Python threads, and while they run, children that fit, too."""
    engine, *own = name.split(" ", 1)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SIDE_BY_SIDE, what, "own" if own else "ours"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "FASTNN_ENGINE": engine},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["right", "5" if what == "fork" else "0"]


LATE = """
import numpy as np, numba, sys, fastnn
from fastnn import engines
from fastnn.engines import compiled, jit, threads
from fastnn.engines.tuning import Tuner
compiled.LEAST_WORK = 0.0
threads.get_num_threads = lambda: 4
Tuner.next = lambda self, batches: (4, batches)
engine = compiled.CompiledEngine("numba", jit.address, jit.launch)
engines._numba = lambda: engine
used = {}
drive = compiled.CompiledEngine._drive
def note(self, ws, *args):
    bound = drive(self, ws, *args)
    used.update(bound.threads_used)
    return bound
compiled.CompiledEngine._drive = note
net = fastnn.Sequential([fastnn.Dense(8, "tanh"), fastnn.Dense(3)])
net.fit(np.eye(30), np.arange(30) % 3, epochs=2, progress=False)
print(float(net.flat_params.sum()), sorted(n for n, count in used.items() if count))
"""


@pytest.mark.skipif("numba" not in COMPILED, reason="is about Numba's pool")
@pytest.mark.parametrize("limit", ["1", "2"])
def test_numbas_pool_may_have_fewer_threads_than_were_asked_for(limit):
    environment = {**os.environ, "FASTNN_ENGINE": "numba", "NUMBA_NUM_THREADS": limit}
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    total, used = done.stdout.split(" ", 1)
    assert json.loads(used) in ([[1]] if limit == "1" else [[1], [2], [1, 2]])
    with only("numba"):
        net = Sequential([Dense(8, "tanh"), Dense(3)])
        net.fit(np.eye(30), np.arange(30) % 3, epochs=2, progress=False)
    assert float(total) == float(net.flat_params.sum())


@pytest.mark.parametrize("name", COMPILED)
def test_threads_that_run_one_after_another_are_no_team(name, monkeypatch):
    """A pool that runs them in one thread: the first to come runs alone, the others return."""
    calls = []
    function = compiled_module.ctypes.CFUNCTYPE(
        compiled_module.ctypes.c_int64, compiled_module.ctypes.c_void_p,
        *[compiled_module.ctypes.c_int64] * 2,
    )  # fmt: skip

    def launch(walk, context, n):
        called = [function(walk)(context, thread, n) for thread in reversed(range(n))]
        calls.append(n)
        return max(called)

    kind = compiled_module.ctypes.CFUNCTYPE(
        compiled_module.ctypes.c_int64, *[compiled_module.ctypes.c_void_p] * 2,
        compiled_module.ctypes.c_int64,
    )  # fmt: skip
    launcher = kind(launch)
    address = compiled_module.ctypes.cast(launcher, compiled_module.ctypes.c_void_p).value

    class Pool:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return address

        def __exit__(self, *_):
            pass

    with only(name):
        force(monkeypatch, 1)
        expected = training(120, 10)[1]()
        force(monkeypatch, 3)
        monkeypatch.setattr(engines.current(), "_launch", Pool)
        ws, run = training(120, 10)
        assert run() == expected
    assert calls == [3]
    assert threads_used(ws) == {1: 12}
    assert (ws.ran[:3] > 0).all()
    assert (ws.ran[:3] == ws.ran[0]).all()
    assert (ws.ran_on == -1).all()


# -- where threads meet ---------------------------------------------------------------------------


def touched(call, part, parts):
    """({what is read}, {what is written}) by a part: (space, number, row or part of the batch).

    Numbers are those of the plan's spaces; a batch has one row for each part.
    """
    found = []
    for accesses in (call.reads, call.writes):
        items = set()
        for space, begin, end, own in accesses:
            numbers, rows = range(begin, end), range(parts)
            if call.split == Split.alone and part:
                continue
            if call.split in own and call.split == Split.rows:
                rows = range(part, part + 1)
            elif call.split in own and call.split in (Split.columns, Split.blocks):
                n = end - begin
                numbers = range(begin + n * part // parts, begin + n * (part + 1) // parts)
            per_sample = space in ("value", "losses", "correct")
            items.update(itertools.product([space], numbers, rows if per_sample else [0]))
        found.append(items)
    return found


def assert_met(calls, parts):
    """Of any two calls without a meeting in between, no part touches what another one writes.

    Over three batches; without the optimizer's own parameters nothing would cross between them.
    """
    meets = meetings(calls)
    sides = [[touched(call, part, parts) for part in range(parts)] for call in calls]
    n = len(calls)
    since = []
    for at in range(3 * n):
        if meets[at % n]:
            since.clear()
        since.append(at % n)
        mine = sides[at % n]
        for before in set(since[:-1]):
            for p, q in itertools.permutations(range(parts), 2):
                reads, writes = mine[p]
                earlier_reads, earlier_writes = sides[before][q]
                crossing = writes & (earlier_reads | earlier_writes) | reads & earlier_writes
                assert not crossing, (calls[before], calls[at % n], sorted(crossing)[:3])


def programs_of(net, loss, rows, metric=None, weighted=False):
    """The calls of every program of a network, for batches of so many rows."""
    plan = net.lower(loss_function(loss))
    state = np.zeros(plan.n_state, net.dtype)
    update = Update.of(plan, Adam(clip_norm=1.0), averages=True)
    trains = Workspace(plan, net.flat_params, state, rows, update)
    predicts = Workspace(plan, net.flat_params, state, rows)
    features = np.dtype(np.float32)
    for variant in (
        Variant(Task.TRAIN, features, weighted, metric),
        Variant(Task.GRADIENT, None, weighted, metric),
        Variant(Task.EVALUATE, features, weighted, metric),
        Variant(Task.PREDICT, features, function="logits"),
        Variant(Task.UPDATE),
    ):
        ws = predicts if variant.task in (Task.EVALUATE, Task.PREDICT) else trains
        calls = list(calls_of(ws, variant))
        yield variant.task, Program(calls, np.zeros(len(calls), CALL))


@settings(max_examples=40)
@given(cases())
def test_threads_meet_between_calls_that_conflict(case):
    net = case.network("float32")
    for _, program in programs_of(net, case.loss, case.m, weighted=case.weighted):
        for parts, rows in ((2, 1), (2, 1000), (3, 1000)):
            assert_met(program.split_for(parts, rows), parts)


def test_a_missing_meeting_would_be_found():
    """The check above is not empty: without any meeting a step of training would be wrong."""
    net = Sequential([Dense(5, "relu"), Dense(3)], n_inputs=4)
    program = next(p for t, p in programs_of(net, "cross_entropy", 20) if t is Task.TRAIN)
    calls = program.split_for(2, 1000)
    meets = meetings(calls)
    assert 0 < sum(meets) < len(calls)
    with pytest.MonkeyPatch.context() as patch:
        for missing in [at for at, met in enumerate(meets) if met]:
            left = [met and at != missing for at, met in enumerate(meets)]
            patch.setitem(assert_met.__globals__, "meetings", lambda calls, left=left: left)
            with pytest.raises(AssertionError):
                assert_met(calls, 2)


def test_a_chain_of_calls_split_by_rows_has_no_meeting():
    """Forward, threads only meet at what is wide enough to be split by columns."""
    layers = [Dense(n, "tanh") for n in (30, 40, 50)] + [Dense(3)]
    net = Sequential(layers, n_inputs=20)
    for task, program in programs_of(net, "cross_entropy", 64, metric="class"):
        calls = program.split_for(2, 64)
        met = [call.kernel for call, meets in zip(calls, meetings(calls), strict=True) if meets]
        if task is Task.PREDICT:
            assert len(calls) == 6
            assert len(met) <= 2  # where a value takes the memory of one of another width
        elif task is Task.EVALUATE:
            assert len(met) <= 4  # the same, the sum of the losses, and the next batch's losses
        elif task is Task.TRAIN:
            # Rows of all gradients of values follow each other; only sums over rows wait.
            assert not any(kernel in ("dense_forward", "narrow_forward") for kernel in met[1:])


def test_layers_whose_weights_outweigh_their_values_are_split_by_columns():
    """Of 20 x 500 weights with 64 rows the values would cross; of 500 x 400, the weights."""
    net = Sequential([Dense(500, "relu"), Dense(400, "relu"), Dense(3)], n_inputs=20)
    (program,) = (p for t, p in programs_of(net, "cross_entropy", 64) if t is Task.PREDICT)

    def splits(parts, rows):
        calls = program.split_for(parts, rows)
        return [call.split for call in calls if "forward" in call.kernel]

    assert splits(2, 64) == [Split.rows, Split.columns, Split.rows]
    assert splits(2, 16) == [Split.columns, Split.columns, Split.rows]
    assert splits(2, 2000) == [Split.rows] * 3


def test_a_limit_holds_in_its_context_alone():
    everywhere = threads.get_num_threads()
    with mock.patch.object(threads, "_chosen", 6):
        with threads.limited(2):
            assert threads.get_num_threads() == 2
            with threads.limited(9):
                assert threads.get_num_threads() == 6
            found = []
            other = threading.Thread(target=lambda: found.append(threads.get_num_threads()))
            other.start()
            other.join()
            assert found == [6]
            carried = contextvars.copy_context()
        assert threads.get_num_threads() == 6
        assert carried.run(threads.get_num_threads) == 2
    assert threads.get_num_threads() == everywhere


def test_a_limit_can_change_while_it_holds():
    now = [1]
    with mock.patch.object(threads, "_chosen", 6), threads.limited(lambda: now[0]):
        assert threads.get_num_threads() == 1
        now[0] = 4
        assert threads.get_num_threads() == 4
        now[0] = 0
        assert threads.get_num_threads() == 1


def test_a_limit_is_a_share_already():
    inside, leave = threading.Event(), threading.Event()

    def work():
        with threads.Sharing():
            inside.set()
            leave.wait(60)

    other = threading.Thread(target=work)
    with mock.patch.object(threads, "_chosen", 8), threads.Sharing():
        other.start()
        assert inside.wait(60)
        with threads.limited(3):
            assert [threads.share_of(n) for n in (3, 1)] == [3, 1]
        with threads.limited(6):
            assert threads.share_of(6) == 4
        leave.set()
        other.join()
