"""Many networks at once, of which some are wrong, and Ctrl-C."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ENGINES
from many_cases import COMMON, HANGS, X, Y, alone, layers, same

from fastnn import (
    LBFGS,
    SGD,
    Callback,
    Sequential,
    interrupts,
    train_many,
)
from fastnn.errors import DivergedError, ShapeError, TrainManyError

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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
    ([{}, {"y": None}], TypeError, r"specs\[1\]: y is missing"),
    ([{"checkpoint": "a"}, {"checkpoint": "./a"}], ValueError,
     r"specs\[1\]: checkpoint is .*as in specs\[0\]"),
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


def test_an_event_ends_the_runs_of_its_context_in_any_thread():
    ending, ended = threading.Event(), []

    def at_third(training):
        if training.epoch == 3:
            ending.set()

    net = Sequential(layers())

    def work():
        with interrupts.ended_by(ending):
            try:
                net.fit(X, Y, epochs=10**9, progress=False, callbacks=at_third)
            except KeyboardInterrupt:
                ended.append(net.history.n_epochs)
        interrupts.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert ended == [3]
    interrupts.check()
    assert not interrupts.take()
