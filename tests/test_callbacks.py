"""Callbacks: when they are called, what they see and may change, and what ends with them."""

import copy
import itertools
import logging
import pickle
import signal
import traceback

import numpy as np
import pytest
from conftest import table

import fastnn
from fastnn import LBFGS, SGD, SWA, Adam, BatchNorm, Callback, Dense, Dropout, Sequential, schedules
from fastnn.errors import DivergedError, NotFittedError

X, y = table(150, n_inputs=5)
BATCHES = [(X[i : i + 32], y[i : i + 32]) for i in range(0, 150, 32)]
HOOKS = ("on_fit_begin", "on_epoch_begin", "on_steps", "on_epoch_end", "on_fit_end")


def network():
    return Sequential([Dense(8, "tanh"), BatchNorm(), Dropout(0.2), Dense(3)], seed=3)


def plain():
    return Sequential([Dense(8, "tanh"), Dense(3)], seed=3)


def fit(net, X=X, y=y, **options):
    net.fit(X, y, progress=False, **options)
    return net


def assert_same(net, other):
    for name, values in net.state_dict().items():
        assert np.array_equal(values, other.state_dict()[name]), name
    assert np.array_equal(net.training_state.slots, other.training_state.slots)
    for name in set(net.history) - {"seconds"}:
        assert net.history[name] == other.history[name], name


class Recorder(Callback):
    """It notes every call, with the numbers of epochs and steps."""

    def __init__(self, every=1, calls=None, name=""):
        self.every, self.name = every, name
        self.calls = [] if calls is None else calls

    def _note(self, hook, training):
        self.calls.append((self.name + hook, training.epoch, training.step))

    def on_fit_begin(self, training):
        self._note("fit_begin", training)

    def on_epoch_begin(self, training):
        self._note("epoch_begin", training)

    def on_steps(self, training):
        self._note("steps", training)

    def on_epoch_end(self, training):
        self._note("epoch_end", training)

    def on_fit_end(self, training):
        self._note("fit_end", training)


def calling(hook, function, every=1):
    """A callback with one hook."""

    class One(Callback):
        pass

    setattr(One, hook, lambda self, training: function(training))
    One.every = every
    return One()


# -- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [(X, y), (BATCHES, None), (lambda: iter(BATCHES), None)])
def test_the_order_of_the_calls(source):
    calls = []
    both = [Recorder(2, calls, "a "), Recorder(3, calls, "b ")]
    fit(network(), *source, epochs=2, callbacks=both)
    expected = [("a fit_begin", 0, 0), ("b fit_begin", 0, 0)]
    for epoch in range(2):
        first = 5 * epoch
        expected += [("a epoch_begin", epoch, first), ("b epoch_begin", epoch, first)]
        for step in range(first + 1, first + 6):
            expected += [("a steps", epoch, step)] if step % 2 == 0 else []
            expected += [("b steps", epoch, step)] if step % 3 == 0 else []
        expected += [("a epoch_end", epoch + 1, first + 5), ("b epoch_end", epoch + 1, first + 5)]
    assert calls == [*expected, ("a fit_end", 2, 10), ("b fit_end", 2, 10)]


def test_the_order_of_the_calls_of_a_full_batch_optimizer():
    recorder = Recorder()
    net = fit(plain(), epochs=3, optimizer=LBFGS(), callbacks=recorder)
    expected = [("fit_begin", 0, 0)]
    for epoch in range(3):
        expected += [
            ("epoch_begin", epoch, epoch), ("steps", epoch, epoch + 1),
            ("epoch_end", epoch + 1, epoch + 1),
        ]  # fmt: skip
    assert recorder.calls == [*expected, ("fit_end", 3, 3)]
    assert_same(net, fit(plain(), epochs=3, optimizer=LBFGS()))


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 100])
def test_calls_between_steps_change_no_bit(engine, every):
    recorder = Recorder(every)
    options = {"epochs": 4, "ema": 0.9, "optimizer": Adam(schedules.Cosine(0.01))}
    net = fit(network(), callbacks=recorder, **options)
    steps = [step for name, _, step in recorder.calls if name == "steps"]
    assert steps == list(range(every, 21, every))
    assert_same(net, fit(network(), **options))


def test_the_second_fit_counts_its_own_steps():
    recorder, net = Recorder(4), fit(network(), epochs=1)
    fit(net, epochs=2, callbacks=recorder)
    assert [step for name, _, step in recorder.calls if name == "steps"] == [4, 8]


def test_functions_are_called_after_every_epoch():
    seen = []
    fit(network(), epochs=3, callbacks=lambda training: seen.append(training.epoch))
    fit(network(), epochs=2, callbacks=[lambda t: seen.append("a"), lambda t: seen.append("b")])
    assert seen == [1, 2, 3, "a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, TypeError, "not 3"), (["text"], TypeError, "not 'text'"),
        (Recorder, TypeError, r"give Recorder\(\)"), ([None], TypeError, "not None"),
        (Recorder(0), ValueError, "every of Recorder must be at least 1"),
        (Recorder(1.5), TypeError, "every of Recorder"),
    ],
)  # fmt: skip
def test_what_is_no_callback(given, error, message):
    net = network()
    with pytest.raises(error, match=message):
        fit(net, callbacks=given)
    assert net.history is None


# -- what they see --------------------------------------------------------------------------------


def test_what_a_training_says():
    seen = []

    def look(training):
        history = training.history
        assert training.net is net
        assert history is net.history
        assert training.values == {name: values[-1] for name, values in history.items()}
        assert training.lr == history["lr"][-1]
        assert (training.n_epochs, training.n_steps) == (3, 15)
        assert training.settings.optimizer == SGD(0.1)
        assert not training.resumed
        assert training.stopped is training.error is None
        assert training.validation is not None
        seen.append((training.epoch, training.step))

    net = network()
    valid = {"validation_data": (X[:30], y[:30])}
    begin = calling("on_fit_begin", lambda training: seen.append(training.values))
    fit(net, epochs=3, optimizer=SGD(0.1), callbacks=[look, begin], **valid)
    assert seen == [{}, (1, 5), (2, 10), (3, 15)]


def test_reading_the_network_changes_nothing(tmp_path, engine):
    def read(training):
        net = training.net
        net.predict(X)
        net.predict_proba(X[:3])
        net.evaluate(X, y)
        net.loss_and_grad(X, y)
        net.save(tmp_path / "net.safetensors")
        assert np.array_equal(fastnn.load(tmp_path / "net.safetensors").predict(X), net.predict(X))
        for other in (net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert np.array_equal(other.logits(X), net.logits(X))
            fit(other, epochs=1)
        assert str(net.plan)
        assert training.history.rows_per_second >= 0
        assert net.state_dict().keys()

    options = {"epochs": 3, "ema": 0.9, "validation_data": (X, y)}
    readers = [calling(hook, read, every=3) for hook in HOOKS]
    net = fit(network(), callbacks=readers, **options)
    assert_same(net, fit(network(), **options))


def test_a_first_fit_can_be_read_before_its_first_step():
    seen = []

    def look(training):
        seen.append(training.net.logits(X))
        seen.append(training.net.history.n_epochs)

    net = network()
    with pytest.raises(NotFittedError):
        net.logits(X)
    fit(net, epochs=1, callbacks=calling("on_fit_begin", look))
    assert np.array_equal(seen[0], Sequential(network().layers, 5, seed=3).logits(X))
    assert seen[1] == 0


def test_the_log_says_what_happens(caplog):
    caplog.set_level(logging.DEBUG, "fastnn")
    fit(network(), epochs=2)
    text = caplog.text
    assert "fit: 150 rows" in text
    assert "epoch 2: loss" in text
    assert "fit: ended after 10 steps" in text


# -- what they change -----------------------------------------------------------------------------


@pytest.mark.parametrize("hook", HOOKS[1:4])
def test_parameters_that_a_callback_changes_are_trained_on(hook, engine):
    every = 5

    def change(training):
        if training.step == (0 if hook == "on_epoch_begin" else 5):
            training.net.flat_params *= 0.5

    net = fit(network(), epochs=2, callbacks=calling(hook, change, every))
    other = network()
    if hook == "on_epoch_begin":
        other = Sequential(network().layers, 5, seed=3)
        other.flat_params *= 0.5
        fit(other, epochs=2)
    else:
        fit(other, epochs=1)
        other.flat_params *= 0.5
        fit(other, epochs=1)
    assert np.array_equal(net.flat_params, other.flat_params)


@pytest.mark.parametrize("every", [1, 3, 5])
def test_a_factor_equals_a_schedule(engine, every):
    def lower(training):
        training.lr_factor *= 0.9

    callback = calling("on_steps", lower, every)
    net = fit(network(), epochs=3, optimizer=Adam(0.01), callbacks=callback)
    factors, factor = [], 1.0
    for step in range(1, 16):
        factors.append(factor)
        factor = factor * 0.9 if step % every == 0 else factor
    other = fit(network(), epochs=3, optimizer=Adam(0.01), schedule=factors)
    assert_same(net, other)
    net = fit(network(), epochs=1, callbacks=callback)
    assert fit(net, epochs=1).history["lr"] == [0.001]  # each fit begins with 1


def test_a_factor_of_zero_stands_still_and_lbfgs_has_none():
    net = fit(plain(), epochs=1)
    before = net.flat_params.copy()
    still = calling("on_fit_begin", lambda training: setattr(training, "lr_factor", 0))
    fit(net, epochs=1, callbacks=still)
    assert np.array_equal(net.flat_params, before)
    assert net.history["lr"] == [0.0]
    with pytest.raises(ValueError, match=r"LBFGS has no learning rate"):
        fit(plain(), optimizer=LBFGS(), callbacks=still)


# -- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [(X, y), (BATCHES, None), (lambda: iter(BATCHES), None)])
@pytest.mark.parametrize("hook", HOOKS)
def test_stop_in_every_hook(hook, source):
    recorder = Recorder(3)

    def stop(training):
        if hook in ("on_fit_begin", "on_fit_end") or training.step >= 5:
            training.stop("enough")
            training.stop("another reason")

    net = fit(network(), *source, epochs=4, callbacks=[calling(hook, stop, 3), recorder])
    steps, epochs = {
        "on_fit_begin": (0, 0),
        "on_epoch_begin": (5, 1),
        "on_steps": (6, 2),
        "on_epoch_end": (5, 1),
        "on_fit_end": (20, 4),
    }[hook]
    assert (net.history.n_steps, net.history.n_epochs) == (steps, epochs)
    assert net.history.stopped == (None if hook == "on_fit_end" else "enough")
    assert recorder.calls[-1] == ("fit_end", epochs, steps)
    other = Sequential(network().layers, 5, seed=3)
    if steps:
        options = {"shuffle": True} if source[1] is not None else {}
        fit(other, *source, **options, steps=steps)
    assert np.array_equal(net.flat_params, other.flat_params)
    fit(net, epochs=1)


@pytest.mark.parametrize("hook", HOOKS[:4])
def test_stop_ends_lbfgs(hook):
    stop = calling(hook, lambda training: training.stop("enough"))
    net = fit(plain(), epochs=10, optimizer=LBFGS(), callbacks=stop)
    assert net.history.stopped == "enough"
    assert net.history.n_epochs == {"on_fit_begin": 0, "on_epoch_begin": 0}.get(hook, 1)


class Mine(Exception):
    pass


@pytest.mark.parametrize("source", [(X, y), (BATCHES, None)], ids=["arrays", "batches"])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("fitted", [False, True])
def test_an_exception_in_every_hook(hook, fitted, source, engine):
    def fail(training):
        if hook in ("on_fit_begin", "on_fit_end") or training.step >= 5:
            raise Mine("no")  # the line at fault

    net = fit(network(), *source, epochs=1) if fitted else network()
    before = net.flat_params.copy() if fitted else None
    calls, ends = [], []
    callbacks = [
        Recorder(5, calls, "a "), calling(hook, fail, 5), Recorder(5, calls, "b "),
        calling("on_fit_end", lambda training: ends.append(training.error)),
    ]  # fmt: skip
    with pytest.raises(Mine) as caught:
        fit(net, *source, epochs=3, callbacks=callbacks)
    lines = [frame.line for frame in traceback.extract_tb(caught.tb)]
    assert any("the line at fault" in (line or "") for line in lines)
    ended = [name for name, *_ in calls if name.endswith("fit_end")]
    if hook == "on_fit_begin":  # before the first step: nothing has changed
        assert ended == ["a fit_end"]
        assert ends == []
        assert (net.history is not None) == fitted
        assert net.n_inputs == (5 if fitted else None)
        if fitted:
            assert np.array_equal(net.flat_params, before)
        net = fit(net, *source, epochs=1)
        assert_same(net, fit(network(), *source, epochs=1) if not fitted else net)
        return
    assert ended == ["a fit_end", "b fit_end"]
    assert ends == ([None] if hook == "on_fit_end" else [caught.value])
    other = fit(network(), *source, epochs=1) if fitted else network()
    fit(other, *source, epochs=3 if hook == "on_fit_end" else 1)
    assert np.array_equal(net.flat_params, other.flat_params)
    assert net.history.n_steps == (15 if hook == "on_fit_end" else 5)
    fit(net, epochs=1)


def test_all_are_told_of_the_end_also_if_one_fails_then():
    calls = []

    def fail(training):
        raise Mine(training.epoch)

    with pytest.raises(Mine) as caught:
        fit(network(), epochs=1, callbacks=[
            calling("on_fit_end", fail), Recorder(100, calls), fail,
        ])  # fmt: skip
    assert isinstance(caught.value.__context__, Mine)
    assert calls[-1][0] == "fit_end"


@pytest.mark.parametrize("average", [{"ema": 0.9}, {"swa": SWA(0)}], ids=str)
def test_an_exception_leaves_a_finished_average(average):
    def fail(training):
        if training.epoch == 2:
            raise Mine

    net, other = network(), network()
    with pytest.raises(Mine):
        fit(net, epochs=4, callbacks=fail, **average)
    fit(other, epochs=2, **average)
    assert_same(net, other)
    fit(net, epochs=1, **average)
    fit(other, epochs=1, **average)
    assert_same(net, other)


@pytest.mark.parametrize("hook", HOOKS[:4])
def test_ctrl_c_in_every_hook_is_an_error_that_on_fit_end_sees(hook):
    ends = []
    callbacks = [
        calling(hook, lambda training: signal.raise_signal(signal.SIGINT)),
        calling("on_fit_end", lambda training: ends.append(training.error)),
    ]
    net = network()
    with pytest.raises(KeyboardInterrupt):
        fit(net, epochs=5, callbacks=callbacks)
    assert len(ends) == 1
    assert isinstance(ends[0], KeyboardInterrupt)
    fit(net, epochs=1)


def test_a_divergence_is_an_error_that_on_fit_end_sees():
    ends = []
    end = calling("on_fit_end", lambda training: ends.append(training.error))
    with pytest.raises(DivergedError) as caught:
        fit(plain(), loss="mse", optimizer=SGD(1e30), callbacks=end)
    assert ends == [caught.value]


def test_what_a_callback_sees_of_a_loop_that_is_left():
    ends = []
    end = calling("on_fit_end", lambda training: ends.append((training.stopped, training.epoch)))
    for _ in itertools.islice(network().epochs(X, y, callbacks=end, progress=False), 2):
        pass
    assert ends == [("the loop over its epochs ended", 2)]


def test_the_state_of_a_callback_is_empty_by_default():
    callback = Callback()
    assert callback.state_dict() == {}
    callback.load_state_dict({})
    fit(network(), epochs=1, callbacks=callback)


def test_early_stopping_is_no_callback():
    net = fastnn.Sequential([fastnn.Dense(1)])
    with pytest.raises(TypeError, match="give it as early_stopping="):
        net.fit([[0.0]], [0.0], callbacks=[fastnn.EarlyStopping(3)], progress=False)
