"""Many networks at once: the bits of each alone, whatever the threads; bad ones among good ones."""

import contextlib
import gc
import os
import pickle
import threading
import time
import tracemalloc

import numpy as np
import pytest
from conftest import ENGINES, only
from many_cases import COMMON, HANGS, SPECS, X, Y, alone, layers, same

import fastnn
from fastnn import (
    LBFGS,
    Callback,
    Dense,
    Embedding,
    Halving,
    Sequential,
    engines,
    train_many,
)
from fastnn.engines import threads

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


# -- the same bits --------------------------------------------------------------------------------


def test_each_network_equals_the_one_that_is_trained_alone(engine, n_threads):
    expected = [alone(spec) for spec in SPECS]
    for n in (1, 2, 5):
        n_threads(n)
        nets = train_many(SPECS, X, Y, layers=layers(), progress=False, **COMMON)
        for net, one in zip(nets, expected, strict=True):
            same(net, one)


def test_codes_of_an_embedding(engine):
    codes = np.column_stack([Y, X]).astype(np.float32)
    spec = {"layers": [Embedding({0: (3, 2)}), Dense(3)], "seed": 4}
    net = train_many([spec, {"layers": layers()}], codes, Y, epochs=2, progress=False)[0]
    one = Sequential(**spec)
    one.fit(codes, Y, epochs=2, progress=False)
    same(net, one)


def test_it_goes_on_where_train_many_ended(engine):
    nets = train_many(SPECS[:4], X, Y, layers=layers(), progress=False, **COMMON)
    for net, spec in zip(nets, SPECS, strict=False):
        more = {**COMMON, **spec, "epochs": 3}
        for name in ("seed", "layers", "dtype"):
            more.pop(name, None)
        net.fit(X, Y, progress=False, **more)
        one = alone(spec)
        one.fit(X, Y, progress=False, **more)
        same(net, one)


def test_networks_keep_no_workspace(engine):
    nets = train_many([{"seed": 1}, {"seed": 2}], X, Y, layers=layers(), progress=False)
    assert all(net._prepared is None and net._epochs is None for net in nets)
    assert (nets[0].predict(X) == pickle.loads(pickle.dumps(nets[0])).predict(X)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_x_is_not_copied(dtype, monkeypatch):
    """Neither by networks of another dtype, nor for a part of the rows."""
    from fastnn.engines.workspace import Data

    big = np.random.default_rng(0).standard_normal((30_000, 6)).astype(dtype)
    y = (big[:, 0] > 0).astype(int)
    seen = []
    original = Data.__post_init__

    def note(self):
        original(self)
        seen.append(self.X)

    monkeypatch.setattr(Data, "__post_init__", note)
    specs = [{"dtype": "float32"}, {"dtype": "float64"}, {"rows": np.arange(0, 30_000, 3)}]
    train_many(specs, big, y, layers=layers(), batch_size=1000, epochs=1, progress=False)
    of_fits = [array for array in seen if array.shape == big.shape]
    assert len(of_fits) >= 3
    assert all(np.shares_memory(array, big) for array in of_fits)


def test_a_list_is_converted_once_for_each_dtype(monkeypatch):
    from fastnn import sharing

    calls = []
    original = sharing.check_features

    def count(X, n_inputs, dtype):
        calls.append(np.dtype(dtype).name)
        return original(X, n_inputs, dtype)

    monkeypatch.setattr(sharing, "check_features", count)
    specs = [{"seed": i, "dtype": dtype} for i in range(4) for dtype in ("float32", "float64")]
    train_many(specs, X.tolist(), Y, layers=layers(), epochs=1, progress=False)
    assert sorted(calls) == ["float32", "float64"]


# -- threads --------------------------------------------------------------------------------------


def test_each_network_has_one_thread_while_there_are_enough(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", 4)
    seen = []
    lock = threading.Lock()
    barrier = threading.Barrier(4)

    class Note(Callback):
        def on_fit_begin(self, training):
            barrier.wait(HANGS)  # four at once

        def on_epoch_end(self, training):
            with lock:
                seen.append(threads.get_num_threads())

    specs = [{"seed": i, "callbacks": [Note()]} for i in range(4)]
    nets = train_many(specs, X, Y, layers=layers(), epochs=1, progress=False)
    assert set(seen) <= {1, 2, 4}
    assert seen[0] == 1
    assert [net.history.n_threads for net in nets] == [1] * 4
    alone_at_last = train_many([{"seed": 1}], X, Y, layers=layers(), epochs=1, progress=False)
    assert alone_at_last[0].history.n_threads == 4


def test_the_context_of_the_caller_holds_in_all_threads(n_threads):
    n_threads(2)
    other = next((name for name in ENGINES if name != engines.choice()[0]), "numpy")
    with fastnn.use_engine(other), threads.limited(2):
        nets = train_many([{"seed": i} for i in range(3)], X, Y, layers=layers(), progress=False)
    assert [net.history.engine for net in nets] == [other] * 3


def test_errors_of_floating_points_are_the_callers(n_threads):
    n_threads(2)
    seen = []
    with np.errstate(divide="raise", over="warn"):
        train_many(
            [{"seed": i} for i in range(2)], X, Y, layers=layers(), epochs=1, progress=False,
            callback=lambda index, training: seen.append(np.geterr()),
        )  # fmt: skip
        assert np.geterr()["divide"] == "raise"
    assert len(seen) == 2


@pytest.mark.parametrize("name", ENGINES)
def test_it_runs_in_another_thread(name):
    found = []

    def work():
        with only(name):
            found.extend(train_many(SPECS[:3], X, Y, layers=layers(), progress=False, **COMMON))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(HANGS)
    assert not thread.is_alive()
    with only(name):
        for net, spec in zip(found, SPECS, strict=False):
            same(net, alone(spec))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_it_runs_in_a_forked_child(engine):
    expected = train_many(SPECS[:3], X, Y, layers=layers(), progress=False, **COMMON)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            nets = train_many(SPECS[:3], X, Y, layers=layers(), progress=False, **COMMON)
            bits = b"".join(net.flat_params.tobytes() for net in nets)
            os.write(write, bits[:4096])
            status = 0
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    bits = b"".join(net.flat_params.tobytes() for net in expected)
    assert os.read(read, 4096) == bits[:4096]
    os.close(read)
    os.close(write)


def test_two_at_once_and_one_inside_another():
    spec = {"seed": 3}
    expected = alone(spec)

    def inside(index, training):
        if training.epoch == 2:
            inner = train_many([spec, spec], X, Y, layers=layers(), progress=False, **COMMON)
            for net in inner:
                same(net, expected)

    def work():
        found.extend(
            train_many([spec] * 3, X, Y, layers=layers(), callback=inside, progress=False, **COMMON)
        )

    found = []
    both = [threading.Thread(target=work) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(HANGS)
        assert not thread.is_alive()
    assert len(found) == 6
    for net in found:
        same(net, expected)


# -- callbacks ------------------------------------------------------------------------------------


def test_the_callback_sees_each_epoch_of_each_network_and_may_end_it(engine):
    seen, busy = {}, threading.Lock()

    def callback(index, training):
        assert busy.acquire(blocking=False)  # never twice at once
        seen.setdefault(index, []).append((training.epoch, training.values["loss"]))
        if index == 1 and training.epoch == 2:
            training.stop("enough")
        busy.release()

    specs = [{"seed": 1}, {"seed": 2}, {"seed": 3, "optimizer": LBFGS()}]
    nets = train_many(
        specs, X, Y, layers=layers(), epochs=4, callback=callback, progress=False
    )  # fmt: skip
    assert [net.history.n_epochs for net in nets] == [4, 2, 4]
    assert nets[1].history.stopped == "enough"
    for index, net in enumerate(nets):
        assert [epoch for epoch, _ in seen[index]] == list(range(1, net.history.n_epochs + 1))
        assert [loss for _, loss in seen[index]] == net.history["loss"]
    one = Sequential(layers(), seed=2)
    one.fit(X, Y, epochs=2, progress=False)
    np.testing.assert_array_equal(nets[1].flat_params, one.flat_params)


def test_callbacks_of_specs_and_functions_for_all():
    calls = []

    class Mine(Callback):
        def on_epoch_end(self, training):
            calls.append("mine")

    train_many(
        [{"callbacks": [Mine()]}, {}], X, Y, layers=layers(), epochs=2, progress=False,
        callbacks=lambda training: calls.append("all"),
        callback=lambda index, training: calls.append(index),
    )  # fmt: skip
    # The callbacks of a spec take the place of those for all.
    assert sorted(map(str, calls)) == ["0", "0", "1", "1", "all", "all", "mine", "mine"]


# -- memory and progress --------------------------------------------------------------------------


def test_a_network_takes_little_more_than_its_parameters(n_threads):
    n_threads(1)
    count = 40
    shape = [Dense(64, "relu"), Dense(64, "relu"), Dense(2)]
    wide = np.random.default_rng(0).standard_normal((500, 14)).astype(np.float32)
    y = np.arange(500) % 2
    train_many([{}, {}], wide, y, layers=shape, epochs=1, progress=False)
    gc.collect()
    tracemalloc.start()
    nets = train_many(
        [{"seed": i} for i in range(count)], wide, y, layers=shape, epochs=2, progress=False
    )
    gc.collect()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    n_bytes = nets[0].flat_params.nbytes
    assert after / count < 3 * n_bytes + 30_000  # with two slots, layers and history
    assert peak - after < 4_000_000  # one workspace and one thread's packing buffers


def test_one_bar_counts_all_rows(monkeypatch):
    from fastnn import many

    made = []

    class Bar:
        def __init__(self, show, *, total, n_epochs, **_):
            self.show, self.total, self.rows, self.begun = show, total, 0, 0
            made.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def begin(self, done_rows):
            self.begun += 1
            self.rows = done_rows

        def expect(self, total):
            self.total = total

        def advance(self, rows):
            assert threading.current_thread() is threading.main_thread()
            self.rows += rows

        def finish_epoch(self, epoch, values):
            self.last = epoch, values

    monkeypatch.setattr(many, "ProgressBar", Bar)
    specs = [{"seed": 1}, {"rows": np.arange(50), "epochs": 7}, {"steps": 12}]
    nets = train_many(specs, X, Y, layers=layers(), epochs=4, batch_size=16)
    (bar,) = made
    assert bar.total == bar.rows == 4 * 150 + 7 * 50 + 150 + 2 * 16
    assert bar.begun == 1
    assert bar.last == (3, {"best loss": min(net.history["loss"][-1] for net in nets)})


def test_the_total_of_the_bar_is_what_halving_leaves_and_shrinks_where_networks_end(monkeypatch):
    from fastnn import many

    bars = []
    original = many._Bar.__init__

    def note(self, *args):
        original(self, *args)
        bars.append(self)

    monkeypatch.setattr(many._Bar, "__init__", note)
    halving = Halving(2, "loss", every=2)
    arguments = {"layers": layers(), "epochs": 8, "batch_size": 16}
    train_many([{"seed": i} for i in range(4)], X, Y, halving=halving, **arguments)
    planned = 150 * (2 * 2 + 4 + 8)
    assert bars[-1]._total == bars[-1]._done == planned
    train_many(
        [{"seed": i} for i in range(4)], X, Y, **arguments,
        callback=lambda index, training: training.stop() if index == 1 else None,
    )  # fmt: skip
    assert bars[-1]._total == bars[-1]._done == 150 * (3 * 8 + 1)


def test_it_says_once_which_loss_it_infers(capsys):
    train_many([{"seed": 1}, {"seed": 2}], X, Y, layers=layers(), epochs=1)
    assert capsys.readouterr().err == "fastnn: loss='auto' is cross_entropy for these targets\n"


def test_it_is_not_slower_than_its_parts(n_threads):
    """A sanity check; the figures are those of bench/many.py."""
    n_threads(1)
    specs = [{"seed": i} for i in range(8)]
    train_many(specs, X, Y, layers=layers(), epochs=20, progress=False)
    began = time.perf_counter()
    train_many(specs, X, Y, layers=layers(), epochs=20, progress=False)
    together = time.perf_counter() - began
    began = time.perf_counter()
    for spec in specs:
        alone(spec, {"epochs": 20})
    assert together < 3 * (time.perf_counter() - began)


def test_networks_with_other_classes_do_not_share_targets():
    specs = [{"classes": ["a", "b", "c"]}, {"classes": ["a", "b", "d"]}]
    y = np.where(Y == 0, "a", "b")
    nets = train_many(specs, X, y, layers=layers(), epochs=1, progress=False)
    assert [net.classes_.tolist() for net in nets] == [spec["classes"] for spec in specs]
