"""How a fit on batches ends: with its iterator, an error of it, Ctrl-C; and what it lets go of."""

import contextlib
import gc
import itertools
import signal
import threading
import time
import traceback
import weakref

import numpy as np
import pytest
from stream_cases import SOURCES, Loader, W, X, assert_same, batches, plain, rich, y

from fastnn import (
    SWA,
    Callback,
    EarlyStopping,
    safe_writes,
)
from fastnn.errors import CheckpointError


class Generator:
    """A generator that says what has happened to it."""

    def __init__(self, items, error=None):
        self.items, self.error, self.given, self.closed = items, error, 0, 0

    def __call__(self):
        try:
            for item in self.items:
                self.given += 1
                yield item
            if self.error is not None:
                raise self.error
        finally:
            self.closed += 1


def test_an_iterator_serves_one_epoch():
    net, other = plain(), plain()
    net.fit(iter(batches()), progress=False)
    other.fit(batches(), epochs=1, progress=False)
    assert_same(net, other)
    with pytest.raises(ValueError, match=r"serves one epoch.*give a list.*function"):
        net.fit(iter(batches()), epochs=2, progress=False)
    used = iter(batches())
    net.fit(used, progress=False)
    with pytest.raises(ValueError, match=r"empty.*at its end"):
        net.fit(used, progress=False)


def test_steps_of_an_endless_generator():
    def endless():
        while True:
            yield from batches()

    net, other = plain(), plain()
    net.fit(endless(), steps=12, progress=False)
    other.fit(batches(), steps=12, epochs=None, progress=False)
    assert np.array_equal(net.flat_params, other.flat_params)
    assert net.history.n_epochs == 1
    assert net.history.n_steps == 12
    began = time.perf_counter()
    net.fit(endless(), seconds=0.1, progress=False)
    assert 0.09 < time.perf_counter() - began < 1
    assert net.history.stopped == "after 0.1 s"
    net.fit(endless, seconds=0.05, progress=False)
    assert net.history.n_epochs == 1


def test_too_few_steps_are_an_error_and_what_is_trained_stays():
    net, other = plain(), plain()
    with pytest.raises(ValueError, match=r"ended after 5 batches, but steps is 9"):
        net.fit(iter(batches()), steps=9, progress=False)
    other.fit(batches(), epochs=1, progress=False)
    assert np.array_equal(net.flat_params, other.flat_params)
    net.fit(iter(batches()), steps=9, epochs=1, progress=False)  # whichever comes first
    net.fit(iter(batches()), steps=5, progress=False)
    assert net.history.n_steps == 5


@pytest.mark.parametrize("second", [3, 6])
@pytest.mark.parametrize("average", [{}, {"swa": SWA(0)}])
def test_all_epochs_have_as_many_batches(second, average):
    items = batches()
    lengths = iter([5, 5, second])
    net = plain()
    with pytest.raises(ValueError, match=r"epoch 2 \(from 0\) has (only 3|more than 5) batches"):
        net.fit(lambda: iter((items * 2)[: next(lengths)]), epochs=4, progress=False, **average)
    assert net.history.n_epochs == 2
    assert net.training_state.total_steps == 10 + min(second, 5)


def test_a_length_that_is_wrong():
    class Wrong(Loader):
        def __len__(self):
            return 7

    with pytest.raises(ValueError, match=r"only 5 batches, but its length says 7"):
        plain().fit(Wrong(batches()), epochs=2, progress=False)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"steps": 3}, {"callbacks": lambda training: training.stop()},
        {"callbacks": lambda training: 1 / 0}, {"class_weight": {0: 1, 1: 1, 2: np.inf}},
        {"loss": "nonsense"}, {"freeze": ["7"]}, {"metrics": ["accuracy"]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("once", [False, True])
def test_generators_are_closed_when_the_fit_ends(options, once):
    found = Generator(batches())
    kept = []  # that nobody else holds a generator is not what ends it

    def function():
        kept.append(found())
        return kept[-1]

    with contextlib.suppress(ValueError, TypeError, ZeroDivisionError):
        plain().fit(function() if once else function, epochs=1, progress=False, **options)
    assert found.closed == len(kept) == 1


def test_generators_are_closed_when_a_loop_ends():
    net, found = plain(), Generator(batches())
    for _ in net.epochs(found, epochs=3, progress=False):
        break
    assert (found.given, found.closed) == (5, 1)
    epochs = net.epochs(found, epochs=3, progress=False)
    assert found.closed == 1
    epochs.close()
    assert found.closed == 2
    net.epochs(found(), progress=False)
    assert found.closed == 3
    epochs = net.epochs(found, epochs=2, progress=False)
    next(epochs)
    net.fit(X, y, epochs=1, progress=False)
    with pytest.raises(RuntimeError, match="another fit"):
        next(epochs)
    assert found.closed == 4


def test_an_exception_of_the_generator_goes_through_with_its_traceback():
    def mine():
        yield from batches()[:3]
        raise OSError("the disk is gone")  # this line

    net, other = rich(), rich()
    with pytest.raises(OSError, match=r"the disk is gone") as caught:
        net.fit(mine(), progress=False)
    assert any("# this line" in (frame.line or "") for frame in traceback.extract_tb(caught.tb))
    assert net.training_state.total_steps == 3
    other.fit(X, y, shuffle=False, steps=3, progress=False)
    assert np.array_equal(net.flat_params, other.flat_params)
    net.fit(batches(), epochs=1, progress=False)

    def at_once():
        raise OSError("at once")
        yield

    net = plain()
    for source in (at_once, at_once()):
        with pytest.raises(OSError, match=r"at once"):
            net.fit(source, epochs=1, progress=False)
    assert net.history is None


def test_a_generator_sees_the_network_after_each_step():
    net, seen = plain(), []

    def mine():
        for item in batches():
            if seen:
                seen.append(net.flat_params.copy())
            else:
                seen.append(None)
            yield item

    net.fit(mine(), progress=False)
    assert len(seen) == 5
    assert all((a != b).any() for a, b in itertools.pairwise(seen[1:]))

    def fits():
        yield from batches()[:2]
        net.fit(X, y, epochs=1, progress=False)

    with pytest.raises(RuntimeError, match=r"one fit at a time"):
        net.fit(fits(), progress=False)


def test_a_fit_lets_go_of_its_batches():
    held = weakref.ref(batch := X[:32].copy())
    net = plain()
    net.fit([(batch, y[:32])], epochs=2, progress=False)
    del batch
    gc.collect()
    assert held() is None


def test_ctrl_c_in_a_generator_and_between_batches():
    def slow():
        yield batches()[0]
        signal.raise_signal(signal.SIGINT)
        reached.append(1)
        yield batches()[0]

    reached, net = [], plain()
    with pytest.raises(KeyboardInterrupt):
        net.fit(slow(), progress=False)
    assert not reached  # Ctrl-C ends what the generator does, which may wait for long
    assert net.history.n_steps == 1

    def interrupted(training):
        signal.raise_signal(signal.SIGINT)

    class AfterStep(Callback):
        on_steps = staticmethod(interrupted)

    with pytest.raises(KeyboardInterrupt):
        net.fit(batches(), epochs=2, callbacks=AfterStep(), progress=False)
    assert net.history.n_steps == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    net.fit(batches(), epochs=1, progress=False)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_ctrl_c_ends_a_generator_that_waits():
    never = threading.Event()

    def waits():
        yield batches()[0]
        never.wait(20)

    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            plain().fit(waits(), progress=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert time.monotonic() - began < 5


def test_a_fit_on_batches_in_a_thread():
    net, other = plain(), plain()
    thread = threading.Thread(target=net.fit, args=(batches(),), kwargs={"progress": False})
    thread.start()
    other.fit(batches(), progress=False)
    thread.join()
    assert_same(net, other)


# -- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["list", "loader", "generators"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_bits_from_every_checkpoint(engine, tmp_path, monkeypatch, source, weighted):
    """Also within an epoch, whose first batches are read again and not trained on."""
    copies, replace = [], safe_writes.replace

    def keep(path, parts):
        replace(path, parts)
        copies.append(path.read_bytes())

    monkeypatch.setattr(safe_writes, "replace", keep)
    monkeypatch.setattr(safe_writes.os, "fsync", lambda handle: None)
    items = batches(X, y, W) if weighted else batches()
    options = {
        "epochs": 3, "ema": 0.9, "early_stopping": EarlyStopping(None, "loss"),
        "checkpoint": tmp_path / "run.ckpt", "checkpoint_every": "0.000001s", "progress": False,
    }  # fmt: skip
    net = rich()
    net.fit(SOURCES[source](items), **options)
    assert len(copies) > 12
    for copy in copies[::3] + copies[-1:]:
        (tmp_path / "run.ckpt").write_bytes(copy)
        other = rich()
        other.fit(SOURCES[source](items), resume=True, **options)
        assert_same(net, other)


def test_the_rows_of_an_epoch_are_those_of_the_first_also_after_resuming(tmp_path):
    """The checkpoint is that of an epoch under way which is not completed."""

    class Leave(Callback):
        def on_steps(self, training):
            if training.step == n + 2 and not training.resumed:
                raise KeyboardInterrupt

    n = len(batches())
    options = {
        "steps": n + 3, "checkpoint": tmp_path / "run.ckpt", "checkpoint_every": "0.000001s",
        "callbacks": [Leave()], "resume": True, "progress": False,
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        rich().fit(SOURCES["generators"](batches()), **options)
    for _ in range(2):  # it goes on, and is then complete
        history = rich().fit(SOURCES["generators"](batches()), **options)
        assert (history.n_steps, history.n_epochs, history.n_rows) == (n + 3, 2, len(X))


def test_an_iterator_goes_on_from_a_checkpoint_that_ctrl_c_has_left(tmp_path):
    options = {"checkpoint": tmp_path / "run.ckpt", "progress": False}

    def interrupted():
        yield from batches()[:3]
        signal.raise_signal(signal.SIGINT)

    net, other = rich(), rich()
    with pytest.raises(KeyboardInterrupt):
        net.fit(interrupted(), **options)
    net = rich()
    net.fit(iter(batches()), resume=True, **options)
    other.fit(iter(batches()), progress=False)
    assert_same(net, other)
    with pytest.raises(KeyboardInterrupt):
        rich().fit(interrupted(), **options)
    with pytest.raises(ValueError, match=r"checkpoint is that of 3 batches.*has only 2"):
        rich().fit(iter(batches()[:2]), resume=True, **options)
    with pytest.raises(CheckpointError, match=r"values of X|rows of X"):
        rich().fit(batches(-X), epochs=1, resume=True, **options)
