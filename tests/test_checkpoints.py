"""Checkpoints: the same bits from each of them, and clear errors for what is not one."""

import itertools
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from checkpoint_cases import Case, Slower, contents, left
from conftest import COMPILED, table

import fastnn
from fastnn import (
    EMA,
    SGD,
    SWA,
    Adam,
    BatchNorm,
    Callback,
    Dense,
    Dropout,
    EarlyStopping,
    Sequential,
    run,
    safe_writes,
    schedules,
)
from fastnn.errors import CheckpointError, DivergedError

#: Random fits of each engine.
CASES = int(os.environ.get("FASTNN_FITS", "20"))

ALWAYS = "0.000001s"


@pytest.fixture
def copies(monkeypatch, tmp_path):
    """The paths of copies of every file that is written, in order."""
    made, folder, replace = [], tmp_path / "copies", safe_writes.replace
    numbers = itertools.count()
    folder.mkdir()

    def keep(path, parts):
        replace(path, parts)
        made.append(folder / f"{next(numbers)}")
        shutil.copy(path, made[-1])

    monkeypatch.setattr(safe_writes, "replace", keep)
    monkeypatch.setattr(safe_writes.os, "fsync", lambda handle: None)
    return made


@pytest.fixture
def short_slices(monkeypatch):
    """One batch in each call of the engine, and one block of rows in each piece of a batch."""
    monkeypatch.setattr(run, "SLICE_SECONDS", 1e-9)


@pytest.mark.parametrize("number", range(CASES))
def test_the_same_bits_from_every_checkpoint(engine, tmp_path, copies, short_slices, number):
    """Of a random fit: each checkpoint goes on in a new network."""
    case, path, draw = Case(number), tmp_path / "run.ckpt", random.Random(number)
    try:
        expected = case.run(case.prepared())
    except ValueError as error:  # of arguments that contradict each other
        pytest.skip(str(error))
    every = draw.choice([1, 2, ALWAYS, ALWAYS])
    assert case.run(case.prepared(), checkpoint=path, checkpoint_every=every) == expected
    written = list(copies)
    for copy in sorted(draw.sample(written, min(len(written), 6))):
        copies[:] = [copy]
        for _ in range(2):  # from the copy, and then from one that the resumed fit has made
            again = draw.choice(copies)
            shutil.copy(again, path)
            found = case.run(case.network(), checkpoint=path, checkpoint_every=every, resume=True)
            for name, (given, wanted) in enumerate(zip(found, expected, strict=True)):
                assert given == wanted, (again.name, name)


X, Y = table(300)


def network(**more):
    return Sequential(
        [Dense(9, "relu"), Dropout(0.2), BatchNorm(), Dense(3)], **{"seed": 1, **more}
    )


def fit(net=None, X=X, Y=Y, **more):
    """A fit of 12 steps in 4 epochs: the network, and everything that is left."""
    net = network() if net is None else net
    history = net.fit(X, Y, **{"epochs": 4, "batch_size": 100, "progress": False, **more})
    return net, left(net, history)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


# -- where a fit can be interrupted ---------------------------------------------------------------


@pytest.mark.skipif(len(COMPILED) < 2, reason="there is one compiled engine")
@pytest.mark.parametrize("threads", [1, 2])
def test_another_engine_with_other_threads_goes_on(path, copies, short_slices, threads):
    with fastnn.use_engine(COMPILED[0]):
        fit(checkpoint=path, checkpoint_every=ALWAYS)
        _, expected = fit()
    fastnn.set_num_threads(threads)
    try:
        for copy in copies[::3]:
            shutil.copy(copy, path)
            with fastnn.use_engine(COMPILED[1]):
                assert fit(checkpoint=path, resume=True)[1] == expected
    finally:
        fastnn.set_num_threads(None)


FOLLOWED = {"validation_split": 0.3, "epochs": 14, "optimizer": Adam(0.05)}


@pytest.mark.parametrize("options", [
    {"early_stopping": EarlyStopping(3, min_delta=0.01)},
    {"early_stopping": EarlyStopping(12), "ema": EMA(0.95, keep="best")},
    {"early_stopping": EarlyStopping(5, "val_accuracy", baseline=0.5), "swa": SWA(2, keep="best")},
    {"early_stopping": EarlyStopping(2, baseline=0.0)},
    {"early_stopping": EarlyStopping(4, restore_best=False),
     "schedule": schedules.ReduceOnPlateau(patience=1, factor=0.3, cooldown=1)},
    {"schedule": schedules.Sequence([
        (schedules.ReduceOnPlateau(patience=0, factor=0.5, threshold=0.5), 20),
        (schedules.Linear(1.0, 0.1), None),
    ])},
], ids=["stops", "ema", "swa", "baseline", "plateau", "plateau then line"])  # fmt: skip
def test_what_follows_the_validation(engine, path, copies, options):
    """Over enough epochs for it to have an effect, from the checkpoint of each."""
    options = {**FOLLOWED, **options}
    _, expected = fit(**options)
    fit(checkpoint=path, **options)
    assert len(copies) >= 3
    for copy in list(copies):
        shutil.copy(copy, path)
        assert fit(checkpoint=path, resume=True, **options)[1] == expected


def test_batches_in_pieces(engine, path, copies, short_slices, monkeypatch):
    """Batches of several pieces, and small batches that are kept apart."""
    monkeypatch.setattr(run, "PIECE_ELEMENTS", 1)
    wide, y = table(1200)

    for layers, options in [
        ([Dense(9, "relu"), Dense(3)], {"batch_size": 550}),
        ([Dense(9, "relu"), BatchNorm(), Dense(3)], {"batch_size": 100, "accumulate": 5}),
    ]:
        options |= {"epochs": 3, "ema": 0.9, "progress": False}

        def result(more, layers=layers, options=options):
            net = Sequential(layers)
            return left(net, net.fit(wide, y, **options, **more))

        expected = result({})
        copies.clear()
        assert result({"checkpoint": path, "checkpoint_every": ALWAYS}) == expected
        assert len(copies) >= 9
        for copy in list(copies):
            shutil.copy(copy, path)
            assert result({"checkpoint": path, "resume": True}) == expected


class CtrlC(Callback):
    """Presses Ctrl-C after a step."""

    def __init__(self, step):
        self.step = step

    def on_steps(self, training):
        if training.step == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 11, 12])
def test_ctrl_c_leaves_a_checkpoint(engine, path, step):
    """Also where it comes after the last step of an epoch, or of the fit."""
    options = {"ema": EMA(0.9, keep="best"), "validation_data": (X, Y), "early_stopping": 3}
    _, expected = fit(callbacks=CtrlC(0), **options)
    options |= {"checkpoint": path, "checkpoint_every": 3}
    with pytest.raises(KeyboardInterrupt):
        fit(callbacks=CtrlC(step), **options)
    seen = []
    net = network()

    def look(training):
        seen.append(training.step)

    class Begin(Callback):
        def on_fit_begin(self, training):
            seen.append((training.step, training.resumed, training.epoch, training.batches))

    again = fit(net, callbacks=[Begin(), CtrlC(0), look], resume=True, **options)[1]
    assert again == expected
    assert seen[0] == (step, True, (step - 1) // 3, (step - 1) % 3 + 1)
    assert seen[-1] == 12


def test_ctrl_c_in_a_callback_leaves_the_last_checkpoint(path):
    """The callbacks after it have not seen the step, so there is no going on from there."""

    def interrupt(training):
        if training.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(callbacks=interrupt, checkpoint=path)
    steps = []
    fit(callbacks=lambda training: steps.append(training.step), checkpoint=path, resume=True)
    assert steps == [9, 12]


def test_a_loop_over_epochs_goes_on_after_its_body(path):
    """A checkpoint is written after the body of an epoch has run, and when the loop is left."""

    def loop(most, **more):
        net = network()
        for line in net.epochs(X, Y, epochs=6, batch_size=100, progress=False, **more):
            line.training.lr_factor *= 0.7
            if line.training.epoch == most:
                break
        return net

    expected = loop(None)
    for most in (1, 3, 4):
        loop(most, checkpoint=path, checkpoint_every=2)
        again = loop(None, checkpoint=path, resume=True)
        assert left(again, again.history) == left(expected, expected.history)
        os.unlink(path)


def test_another_fit_ends_a_loop_and_goes_on_from_it(path):
    net = network()
    lines = net.epochs(X, Y, epochs=4, batch_size=100, progress=False, checkpoint=path)
    next(lines)
    assert fit(net, checkpoint=path, resume=True)[1] == fit()[1]


def test_a_complete_fit_is_returned_at_once(path, monkeypatch):
    options = {"ema": EMA(0.9), "validation_data": (X, Y), "early_stopping": EarlyStopping(1)}
    options |= {"epochs": 60, "optimizer": Adam(0.1)}
    _, expected = fit(checkpoint=path, checkpoint_every=100, **options)
    assert "early stopping" in expected[4][1]
    content = path.read_bytes()

    def no_steps(*_):
        raise AssertionError

    monkeypatch.setattr(run.Fit, "steps", no_steps)
    net, again = fit(checkpoint=path, resume=True, **options)
    assert again == expected
    assert path.read_bytes() == content
    monkeypatch.undo()
    # It may be trained further, as the network of the fit itself.
    other, _ = fit(**options)
    more = {"optimizer": Adam(0.1), "ema": EMA(0.9)}
    assert fit(net, **more)[1] == fit(other, **more)[1]


def test_a_network_that_has_been_trained_otherwise_is_replaced(path):
    fit(checkpoint=path, checkpoint_every=2)
    net, _ = fit(optimizer=SGD(0.1), epochs=7, ema=0.5)
    params = net.flat_params
    assert fit(net, checkpoint=path, resume=True)[1] == fit()[1]
    assert net.flat_params is params


def test_more_epochs(path):
    _, expected = fit(epochs=9, schedule=schedules.ReduceOnPlateau(patience=0), ema=0.9)
    options = {"schedule": schedules.ReduceOnPlateau(patience=0), "ema": 0.9, "checkpoint": path}
    fit(epochs=4, **options)
    assert fit(epochs=9, resume=True, **options)[1] == expected
    with pytest.raises(CheckpointError, match="done 27 steps, but this one has 12 steps in all"):
        fit(epochs=4, resume=True, **options)


@pytest.mark.parametrize(("options", "what"), [
    ({"schedule": schedules.Cosine()}, r"Cosine\(\)"),
    ({"optimizer": Adam(schedules.Warmup(schedules.Cosine(0.1), 2))}, "Warmup"),
    ({"swa": SWA(0.5)}, "SWA"),
], ids=["schedule", "optimizer", "swa"])  # fmt: skip
def test_more_epochs_where_their_number_matters(path, options, what):
    fit(checkpoint=path, **options)
    message = f"of a fit of 12 steps, but this one has 27 steps, and {what}.* depends on their"
    with pytest.raises(CheckpointError, match=message):
        fit(epochs=9, checkpoint=path, resume=True, **options)
    dropout = Sequential([Dropout(schedules.Linear(0.5, 0.1)), Dense(3)])
    fit(dropout, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"Linear.* depends on their number"):
        fit(Sequential(dropout.layers), epochs=9, checkpoint=path, resume=True)


def test_seconds_count_on(path, monkeypatch):
    """The time of a fit is that of all its parts; every epoch takes 0.3 s here."""
    clock = types.SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr("fastnn.training.time", clock)
    slow = [lambda training: setattr(clock, "now", clock.now + 0.3)]
    with pytest.raises(KeyboardInterrupt):
        fit(epochs=None, seconds=2.5, callbacks=[*slow, CtrlC(7)], checkpoint=path)
    assert 0 < clock.now < 2.5
    clock.now += 1000.0
    again, _ = fit(epochs=None, seconds=2.5, callbacks=slow, checkpoint=path, resume=True)
    assert again.history.stopped == "after 2.5 s"
    assert again.history.n_epochs == 10  # the last one stops within its first slice
    again, _ = fit(epochs=None, seconds=9.0, callbacks=slow, checkpoint=path, resume=True)
    assert again.history.n_epochs == 10


def test_a_divergence_after_resuming_restores_the_start_of_the_epoch(engine, path, short_slices):
    """Also in the middle of the epoch that a checkpoint has left under way."""

    class Fast(Callback):
        def on_steps(self, training):
            if training.step >= 7:
                training.lr_factor = 1e38

    def diverged(callbacks, **more):
        net = network()
        with pytest.raises(DivergedError) as caught:
            fit(net, callbacks=callbacks, optimizer=SGD(0.1), **more)
        state = net.training_state
        return str(caught.value), net.flat_params.tobytes(), state.step, state.total_steps

    expected = diverged([Fast(), CtrlC(0)])
    assert "start of that epoch" in expected[0]
    assert "in epoch 2," in expected[0]
    with pytest.raises(KeyboardInterrupt):
        fit(callbacks=[Fast(), CtrlC(7)], optimizer=SGD(0.1), checkpoint=path)
    again = diverged([Fast(), CtrlC(0)], checkpoint=path, resume=True)
    assert again == expected
    assert diverged([Fast(), CtrlC(0)], checkpoint=path, resume=True) == expected


def test_a_lambda_in_another_process(path):
    """Nothing of a checkpoint depends on the addresses of a process."""
    program = """
import sys, numpy as np, fastnn
from fastnn import Dense, Sequential
from fastnn.losses import Custom
fastnn.set_engine("numpy")
def stop(training):
    if training.epoch == int(sys.argv[2]):
        raise KeyboardInterrupt
net = Sequential([Dense(3)])
X, y = np.random.default_rng(0).normal(size=(40, 9)), np.eye(3)[np.arange(40) % 3]
loss = Custom(lambda y, a: (((a - y) ** 2).sum(axis=1), 2 * (a - y)))
try:
    net.fit(X, y, loss, epochs=4, checkpoint=sys.argv[1], resume=True, callbacks=stop,
            progress=False, schedule=lambda step: 1 / (1 + step))
except KeyboardInterrupt:
    pass
print(net.history.n_epochs, net.training_state.total_steps, net.flat_params.tobytes().hex())
"""
    found = []
    for to, stop in [(path, 2), (path, 0), (path.with_name("other"), 0)]:
        command = [sys.executable, "-c", program, to, str(stop)]
        found.append(subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert [one[:2] for one in found] == [[b"2", b"4"], [b"4", b"8"], [b"4", b"8"]]
    assert found[1] == found[2]


# -- when checkpoints are written -----------------------------------------------------------------


def written(copies, path, **options):
    """After how many steps each checkpoint of a fit was written."""
    copies.clear()
    fit(checkpoint=path, **options)
    return [contents(copy)[1]["counters"]["steps_done"] for copy in copies]


def test_every_so_often(path, copies, short_slices):
    assert written(copies, path) == [0, 3, 6, 9, 12]
    assert written(copies, path, checkpoint_every=2) == [0, 6, 12]
    assert written(copies, path, checkpoint_every=3) == [0, 9, 12]
    assert written(copies, path, checkpoint_every=100) == [0, 12]
    assert written(copies, path, steps=7) == [0, 3, 6, 7]
    assert written(copies, path, checkpoint_every="1000s") == [0, 12]
    assert set(written(copies, path, checkpoint_every=ALWAYS)) == set(range(13))

    def wait(training):
        time.sleep(0.03)

    assert written(copies, path, checkpoint_every=" 0.05 s", callbacks=wait) == [0, 6, 12]


def test_a_file_that_exists_is_replaced_before_the_first_step(path):
    path.write_bytes(b"anything")
    sizes = []
    fit(
        checkpoint=path, checkpoint_every=100, callbacks=lambda t: sizes.append(path.stat().st_size)
    )
    assert min(sizes) > 1000


def test_without_a_file_a_fit_begins(path):
    assert fit(checkpoint=path, resume=True)[1] == fit()[1]
    assert path.exists()


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    fit(checkpoint="run.ckpt", callbacks=lambda training: os.chdir(tmp_path / "other"))
    assert os.listdir(tmp_path / "other") == []


def test_each_checkpoint_is_logged(path, caplog):
    with caplog.at_level(logging.DEBUG, "fastnn"):
        fit(checkpoint=path)
    messages = [one.message for one in caplog.records if "checkpoint" in one.message]
    assert len(messages) == 5
    assert messages[1].startswith("checkpoint after 3 steps in 0.")


def test_what_is_not_finite_is_not_written(path, copies, short_slices):
    """The parameters of a fit that is about to diverge replace no checkpoint."""

    def spoil(training):
        training.net.flat_params[0] = np.inf

    class Spoil(Callback):
        def on_steps(self, training):
            if training.step == 5:
                spoil(training)

    with pytest.raises(DivergedError):
        fit(checkpoint=path, checkpoint_every=ALWAYS, callbacks=Spoil())
    assert fit(checkpoint=path, resume=True)[1] == fit()[1]


# -- callbacks ------------------------------------------------------------------------------------


def test_callbacks_get_their_states_back_in_order(path):
    first = [Slower(2), Slower(3), lambda training: None]
    fit(checkpoint=path, callbacks=first)
    again = [Slower(2), lambda training: None, Slower(3)]
    fit(checkpoint=path, callbacks=again, resume=True)
    assert [again[0].seen, again[2].seen] == [first[0].seen, first[1].seen]
    with pytest.raises(CheckpointError, match=r"state of a callback '.*Slower', of which"):
        fit(checkpoint=path, callbacks=again[:2], resume=True)
    new = Slower(4)
    fit(checkpoint=path, callbacks=[*again, new], resume=True)
    assert new.seen == []


@pytest.mark.parametrize(("state", "message"), [
    ({"a": np.zeros(3)}, r"the state_dict of .*Bad\['a'\] is array"),
    ({1: 2}, "has a key that is not text"), ([1], "must return a dict"),
    ({"a": [object()]}, r"\['a'\]\[0\] is <object"),
])  # fmt: skip
def test_a_state_that_cannot_be_written(path, state, message):
    class Bad(Callback):
        def state_dict(self):
            return state

    net = network()
    with pytest.raises(TypeError, match=message):
        fit(net, checkpoint=path, callbacks=Bad())
    assert net.history is None


def test_states_come_back_as_they_were(path):
    class Odd(Callback):
        def __init__(self):
            self.state = {
                "inf": float("inf"), "nan": [float("nan"), -0.0, np.float64(1 / 3)], "n": 2**60,
                "none": None, "text": "\u00e9\0\ud800", "true": True, "nested": {"a": {"b": []}},
                "numpy": np.int64(3), "tuple": (1, 2),
            }  # fmt: skip
            self.loaded = None

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.loaded = state

        def on_fit_begin(self, training):
            assert training.resumed == (self.loaded is not None)

    fit(checkpoint=path, callbacks=Odd())
    odd = Odd()
    fit(checkpoint=path, callbacks=odd, resume=True)
    assert repr(odd.loaded) == repr(
        {**odd.state, "nan": [float("nan"), -0.0, 1 / 3], "numpy": 3, "tuple": [1, 2]}
    )


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    for path in (tmp_path / "missing" / "run.ckpt", tmp_path):
        with pytest.raises(OSError, match=re.escape(f": {str(path)!r}") + "$"):
            fit(checkpoint=path)
