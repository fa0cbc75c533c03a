"""Many networks at once: the bits of each alone, whatever the threads; bad ones among good ones."""

import contextlib
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from conftest import ENGINES, only, table

import fastnn
from fastnn import (
    LBFGS,
    SGD,
    SWA,
    Adam,
    AdamW,
    BatchNorm,
    Callback,
    Dense,
    Dropout,
    EarlyStopping,
    Embedding,
    GaussianNoise,
    Maxout,
    Muon,
    Residual,
    Sequential,
    engines,
    train_many,
)
from fastnn.engines import threads
from fastnn.errors import DivergedError, ShapeError, TrainManyError
from fastnn.schedules import Cosine, Exponential

X, Y = table(150, 6)
HANGS = 60


def layers():
    return [Dense(8, "relu"), Dense(3)]


#: Networks of all kinds: shapes, layers, optimizers, dtypes, rows, schedules, averages.
SPECS = [
    {"seed": 1},
    {"seed": 2, "batch_size": 7, "optimizer": SGD(0.1, momentum=0.9, nesterov=True)},
    {"layers": [Dense(20, "tanh"), Dropout(0.3), Dense(3)], "dtype": "float64"},
    {"layers": [Dense(9), BatchNorm(), GaussianNoise(0.1), Dense(3)], "accumulate": 2},
    {"layers": [Residual([Dense(6, "gelu")]), Maxout(5), Dense(3)], "l2": 0.01},
    {"optimizer": Muon(0.01), "epochs": 3, "layers": [Dense(8, "relu"), Dense(8), Dense(3)]},
    {"optimizer": LBFGS(), "epochs": 6, "batch_size": "auto"},
    {"rows": np.arange(0, 150, 2), "epochs": 5, "ema": 0.9},
    {"rows": np.arange(150) % 5 != 0, "swa": SWA(2)},
    {"schedule": Cosine(), "optimizer": AdamW(Exponential(0.01, rate=0.9))},
    {"validation_split": 0.2, "early_stopping": EarlyStopping(1), "metrics": ["f1"]},
    {"steps": 11, "freeze": ["0"], "shuffle": False},
    {"sample_weight": np.linspace(0, 2, 150), "class_weight": "balanced", "batch_size": None},
    {"y": Y[::-1].copy(), "loss": "cross_entropy", "optimizer": Adam(0.01, clip_norm=0.5)},
    {"n_inputs": 6, "input_scale": 0.5, "initial_epoch": 1, "validation_data": (X[:40], Y[:40])},
]  # fmt: skip
COMMON = {"epochs": 4, "batch_size": 16}


def alone(spec, common=COMMON):
    """The network of a spec, trained by itself."""
    arguments = {"layers": layers(), **common, **spec}
    names = ("layers", "n_inputs", "seed", "dtype", "l1", "l2", "input_scale")
    net = Sequential(**{name: arguments.pop(name) for name in names if name in arguments})
    net.fit(X, arguments.pop("y", Y), progress=False, **arguments)
    return net


def same(one, other):
    """All bits of two trained networks agree, and their histories but for the seconds."""
    for a, b in (
        (one.flat_params, other.flat_params),
        (one._statistics, other._statistics),
        (one.training_state.slots, other.training_state.slots),
    ):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert list(one.history) == list(other.history)
    for name in one.history:
        if name != "seconds":
            np.testing.assert_array_equal(one.history[name], other.history[name])
    assert one.history.stopped == other.history.stopped
    assert one.training_state.epoch == other.training_state.epoch


@pytest.fixture
def n_threads():
    """A function that sets the number of threads, for one test."""

    def choose(n):
        with contextlib.suppress(UserWarning):
            fastnn.set_num_threads(n)

    yield choose
    fastnn.set_num_threads(None)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Every test ends with the threads that it began with."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


# -- the same bits --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.* threads were requested")
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


# -- what is wrong --------------------------------------------------------------------------------

WRONG = [
    ([{"optimiser": "sgd"}], TypeError, r"specs\[0\]: unknown argument 'optimiser'.*'optimizer'"),
    ([{}, {"epoch": 3}], TypeError, r"specs\[1\]: unknown argument 'epoch'.*'epochs'"),
    ([{"seed": -1}], ValueError, r"specs\[0\]: seed"),
    ([{}, {"layers": []}], ValueError, r"specs\[1\]: "),
    ([{"layers": 3}], TypeError, r"specs\[0\]: "),
    ([{"epochs": 0}], ValueError, r"specs\[0\]: epochs"),
    ([{"batch_size": 2.5}], TypeError, r"specs\[0\]: batch_size"),
    ([{"rows": [0, 999]}], ValueError, r"specs\[0\]: rows holds 999"),
    ([{"sample_weight": [1.0]}], ShapeError, r"specs\[0\]: .*sample_weight"),
    ([{"y": [1, 2]}], ShapeError, r"specs\[0\]: "),
    ([{"n_inputs": 5}], ShapeError, r"specs\[0\]: X has 6 features, but the network takes 5"),
    ([{"freeze": "7"}], ValueError, r"specs\[0\]: .*7"),
    ([{"schedule": [1.0, 0.5]}], ValueError, r"specs\[0\]: .*2 steps"),
    ([{"early_stopping": 3}], ValueError, r"specs\[0\]: early stopping follows 'val_loss'"),
    ([{"metrics": ["f1"]}], ValueError, r"specs\[0\]: "),
    ([{"optimizer": LBFGS(), "batch_size": 3}], ValueError, r"specs\[0\]: LBFGS"),
    ([{"loss": "mse_typo"}], ValueError, r"specs\[0\]: "),
    ([{"progress": True}], TypeError, r"specs\[0\]: .*give it to train_many"),
    ([{"X": X}], TypeError, r"specs\[0\]: .*use rows"),
    ([{}, 5], TypeError, r"specs\[1\]: a spec must be a dict"),
    ({"seed": 1}, TypeError, "specs must be a list of dicts"),
    (3, TypeError, "specs must be a list of dicts"),
]  # fmt: skip


@pytest.mark.parametrize(("specs", "kind", "message"), WRONG)
def test_a_bad_spec_is_refused_before_anything_is_trained(specs, kind, message):
    begun = []
    with pytest.raises(kind, match=message):
        train_many(
            specs, X, Y, progress=False, callback=lambda *_: begun.append(1),
            layers=layers(),
        )  # fmt: skip
    assert not begun


def test_bad_arguments_for_all():
    with pytest.raises(TypeError, match="a network needs layers"):
        train_many([{}], X, Y)
    with pytest.raises(TypeError, match="callback must be a function"):
        train_many([{}], X, Y, layers=layers(), callback=3)
    with pytest.raises(ValueError, match="progress must be"):
        train_many([{}], X, Y, layers=layers(), progress="yes")
    with pytest.raises(TypeError, match="halving must be"):
        train_many([{}], X, Y, layers=layers(), halving=3)
    with pytest.raises(TypeError, match="belongs to one fit"):
        train_many([{}], X, Y, layers=layers(), callbacks=[Callback()])
    with pytest.raises(ValueError, match="checkpoint of its own"):
        train_many([{}], X, Y, layers=layers(), checkpoint="here")
    with pytest.raises(ValueError, match=r"specs\[0\]: X\[0, 0\] is nan"):
        train_many([{}], np.full((4, 2), np.nan), [0, 1, 0, 1], layers=layers())
    assert train_many([], X, Y, layers=layers()) == []


def test_the_others_finish_where_some_fail(engine):
    specs = [{"seed": 1}, {"seed": 2, "optimizer": SGD(1e30)}, {"seed": 3}, {"seed": 4}]

    def callback(index, training):
        if index == 3 and training.epoch == 2:
            raise ZeroDivisionError("of a callback")

    with pytest.raises(TrainManyError) as caught:
        train_many(specs, X, Y, layers=layers(), callback=callback, progress=False, **COMMON)
    error = caught.value
    assert sorted(error.failed) == [1, 3]
    assert isinstance(error.failed[1], DivergedError)
    assert isinstance(error.failed[3], ZeroDivisionError)
    assert error.exceptions == (error.failed[1], error.failed[3])
    message = str(error)
    assert "2 of 4 networks failed" in message
    assert "specs[1], {'seed': 2, 'optimizer': SGD(lr=1e+30" in message
    assert "specs[3]" in message
    assert error.failed[3].__traceback__ is not None
    assert any("specs[3]" in note for note in error.failed[3].__notes__)
    for index in (0, 2):
        same(error.networks[index], alone(specs[index]))
    assert error.networks[3].history.n_epochs == 2
    assert error.networks[1].history.n_epochs < 4


def test_errors_can_be_split_and_pickled():
    specs = [{"seed": 1}, {"optimizer": SGD(1e30)}]
    with pytest.raises(TrainManyError) as caught:
        train_many(specs, X, Y, layers=layers(), progress=False)
    error = caught.value
    matching, rest = error.split(DivergedError)
    assert rest is None
    assert matching.networks == error.networks
    again = pickle.loads(pickle.dumps(error))
    assert sorted(again.failed) == [1]
    np.testing.assert_array_equal(again.networks[0].flat_params, error.networks[0].flat_params)


def test_what_is_no_exception_ends_all(n_threads):
    n_threads(2)

    def callback(index, training):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        train_many(
            [{"seed": i} for i in range(6)], X, Y, layers=layers(), epochs=10_000,
            callback=callback, progress=False,
        )  # fmt: skip


# -- memory and progress --------------------------------------------------------------------------


def test_a_network_takes_little_more_than_its_parameters():
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
    assert (peak - after) / count < n_bytes + 30_000 + 6_000_000 / count


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

        def begin(self, *_):
            self.begun += 1

        def advance(self, rows):
            assert threading.current_thread() is threading.main_thread()
            self.rows += rows

        def finish_epoch(self, epoch, values):
            pass

    monkeypatch.setattr(many, "ProgressBar", Bar)
    specs = [{"seed": 1}, {"rows": np.arange(50), "epochs": 7}, {"steps": 12}]
    train_many(specs, X, Y, layers=layers(), epochs=4, batch_size=16)
    (bar,) = made
    assert bar.total == bar.rows == 4 * 150 + 7 * 50 + 150 + 2 * 16
    assert bar.begun == 1


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


# -- Ctrl-C ---------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import fastnn
from fastnn import Dense, Halving, SGD
from fastnn.errors import TrainManyInterrupt

fastnn.set_engine(sys.argv[1])
halving = Halving(2, "loss", every=3) if sys.argv[2] == "halving" else None
rows = 200 if sys.argv[2] == "halving" else 60_000
rng = np.random.default_rng(0)
X = rng.standard_normal((rows, 14)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
layers = [Dense(64, "relu"), Dense(2)]
fastnn.train_many([{}], X[:100], y[:100], layers=layers, epochs=1, progress=False)
begun = threading.Event()

def callback(index, training):
    if (index, training.epoch) == (1, 2):
        begun.set()

def interrupt():
    begun.wait()
    global sent
    sent = time.perf_counter()
    signal.raise_signal(signal.SIGINT) if os.name == "nt" else os.kill(os.getpid(), signal.SIGINT)

specs = [{"epochs": 1}, {"epochs": 100_000}, {"epochs": 100_000, "seed": 1}, {"epochs": 100_000}]
specs += [{"optimizer": SGD(1e30), "epochs": 1}] if halving is None else []
threading.Thread(target=interrupt, daemon=True).start()
try:
    fastnn.train_many(
        specs, X, y, layers=layers, callback=callback, progress=False, halving=halving
    )
except KeyboardInterrupt as error:
    took = time.perf_counter() - sent
    nets = error.networks
    assert isinstance(error, TrainManyInterrupt) and len(nets) == len(specs)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("networks are trained" in str(error), [type(e).__name__ for e in error.failed.values()])
    print([0 if net.history is None else min(net.history.n_epochs, 2) for net in nets])
    assert all(np.isfinite(net.flat_params).all() for net in nets if net.history is not None)
    assert all(net._prepared is None for net in nets)
    assert [t for t in threading.enumerate() if t.name == "fastnn"] == []
    print("soon", took < 2.0)
"""


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("kind", ["plain", "halving"])
def test_ctrl_c_keeps_what_is_trained(name, kind):
    environment = {**os.environ, "FASTNN_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, name, kind], env=environment, capture_output=True,
        text=True, timeout=HANGS,
    )  # fmt: skip
    assert not done.stderr
    found, epochs, soon = done.stdout.splitlines()
    assert soon == "soon True"
    epochs = json.loads(epochs)
    assert epochs[1] == 2
    if kind == "plain":
        # The longest come first: the short one and the bad one were not begun.
        assert found == "True []"
        assert epochs[0] == epochs[4] == 0


def test_an_exception_of_a_handler_ends_the_networks():
    """As of a test runner's time limit; the networks are then lost, but no thread goes on."""

    class Late(Exception):
        pass

    def late(*_):
        raise Late

    if not hasattr(signal, "setitimer"):
        pytest.skip("needs setitimer")
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(Late):
            train_many([{"seed": i} for i in range(4)], X, Y, layers=layers(), epochs=10**6,
                       progress=False)  # fmt: skip
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
