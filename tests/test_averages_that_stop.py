"""Averages of the weights in fits that go wrong: divergence, stops, errors and bad input."""

import numpy as np
import pytest
from conftest import table
from test_averages import changed, classifier, flat

import fastnn
from fastnn import EMA, SGD, SWA, Adam, Dense, Sequential, run
from fastnn.errors import DivergedError
from fastnn.losses import Custom


def test_a_divergence_restores_the_average_of_the_epochs_start(engine):
    X, y = table()
    net, twin = classifier(dtype="float64"), classifier(dtype="float64")
    arguments = {"optimizer": SGD(0.1), "batch_size": 20, "ema": EMA(0.8), "progress": False}
    original = run.Fit.steps

    def spoil(self, first, last):
        done = original(self, first, last)
        if self.state.epoch == 1:
            self.ws.params[0] = np.nan
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Fit, "steps", spoil)
        with pytest.raises(DivergedError):
            net.fit(X, y, epochs=3, **arguments)
    twin.fit(X, y, epochs=1, **arguments)
    np.testing.assert_array_equal(flat(net), flat(twin))
    states = [each.training_state.average for each in (net, twin)]
    np.testing.assert_array_equal(states[0].last, states[1].last)
    for each in (net, twin):
        each.fit(X, y, epochs=1, **arguments)
    np.testing.assert_array_equal(flat(net), flat(twin))


def test_an_average_that_is_not_finite_is_a_divergence(engine):
    X, y = table()
    net = classifier()
    original = run.Fit.steps

    def spoil(self, first, last):
        done = original(self, first, last)
        self.ws.average[0] = np.inf
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Fit, "steps", spoil)
        with pytest.raises(DivergedError):
            net.fit(X, y, epochs=2, ema=0.9, progress=False)
    assert np.isfinite(flat(net)).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_stopped_fit_keeps_the_average_and_goes_on(engine, error, monkeypatch):
    """After 2 of 4 epochs, by Ctrl-C or an exception of a callback."""
    X, y = table()
    arguments = {"optimizer": Adam(0.01), "ema": EMA(0.9), "progress": False}
    whole, stopped, half = (classifier() for _ in range(3))
    whole.fit(X, y, epochs=4, **arguments)
    half.fit(X, y, epochs=2, **arguments)
    original = run.Fit.begin_epoch

    def stop(self, order, *args):
        if self.state.epoch == 2:
            raise error
        original(self, order, *args)

    with monkeypatch.context() as patch:
        patch.setattr(run.Fit, "begin_epoch", stop)
        with pytest.raises(error):
            stopped.fit(X, y, epochs=4, **arguments)
    np.testing.assert_array_equal(flat(stopped), flat(half))
    stopped.fit(X, y, epochs=2, **arguments)
    np.testing.assert_array_equal(flat(stopped), flat(whole))


def test_a_fit_that_stops_before_the_average_keeps_the_last_weights(engine, monkeypatch):
    X, y = table()
    plain, stopped = classifier(), classifier()
    plain.fit(X, y, optimizer=SGD(0.1), epochs=2, progress=False)
    original = run.Fit.begin_epoch

    def stop(self, order, *args):
        if self.state.epoch == 2:
            raise KeyboardInterrupt
        original(self, order, *args)

    monkeypatch.setattr(run.Fit, "begin_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, y, optimizer=SGD(0.1), epochs=4, swa=3, progress=False)
    np.testing.assert_array_equal(flat(stopped), flat(plain))


@pytest.mark.parametrize("changes", [False, True])
def test_a_fit_that_fails_before_its_first_step_leaves_everything(engine, changes, monkeypatch):
    """The network holds the average again, and the next fit goes on as if nothing had been."""
    X, y = table()
    net, twin = classifier(), classifier()
    arguments = {"optimizer": Adam(0.01), "ema": EMA(0.9), "progress": False}
    for each in (net, twin):
        each.fit(X, y, epochs=2, **arguments)
        if changes:
            changed(each)
    before = flat(net)

    def fail(self, order, *args):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(run.Fit, "begin_epoch", fail)
        for size in (32, 16):  # with the same workspace, and with another
            with pytest.raises(ZeroDivisionError):
                net.fit(X, y, epochs=2, batch_size=size, **arguments)
    np.testing.assert_array_equal(flat(net), before)
    for each in (net, twin):
        each.fit(X, y, epochs=2, **arguments)
    np.testing.assert_array_equal(flat(net), flat(twin))


def test_a_users_loss_that_fails_keeps_the_average_of_the_steps_before(engine):
    X, y = table(40)
    calls = []

    def loss(y, a):
        calls.append(1)
        if len(calls) == 60:
            raise RuntimeError("as asked")
        return ((a - y) ** 2).sum(axis=1), 2 * (a - y)

    net = Sequential([Dense(4, "tanh"), Dense(1)], n_inputs=7, seed=1, dtype="float64")
    with pytest.raises(RuntimeError, match="as asked"):
        net.fit(X, y, loss=Custom(loss), optimizer=SGD(0.01), epochs=100, batch_size=5,
                ema=0.5, progress=False)  # fmt: skip
    average = net.training_state.average
    np.testing.assert_array_equal(net.flat_params, average.vector[: net.flat_params.size])
    assert not np.array_equal(average.vector, average.last)


X0, Y0 = table(40)  # 4 steps an epoch of batches of 10

BAD = {
    "decay 0": (lambda: {"ema": 0.0}, ValueError, "above 0"),
    "decay 1": (lambda: {"ema": 1.0}, ValueError, "below 1"),
    "decay above 1": (lambda: {"ema": EMA(1.5)}, ValueError, "below 1"),
    "decay below 0": (lambda: {"ema": -0.5}, ValueError, "above 0"),
    "decay nan": (lambda: {"ema": float("nan")}, ValueError, "finite"),
    "decay of text": (lambda: {"ema": "0.9"}, TypeError, "ema must be a decay"),
    "ema true": (lambda: {"ema": True}, TypeError, "ema must be a decay"),
    "an SWA as ema": (lambda: {"ema": SWA()}, TypeError, "ema must be a decay"),
    "an EMA as swa": (lambda: {"swa": EMA()}, TypeError, "swa must be an epoch"),
    "swa true": (lambda: {"swa": True}, TypeError, "swa must be an epoch"),
    "warm-up": (lambda: {"ema": EMA(warm_up=1)}, TypeError, "warm_up"),
    "every 0": (lambda: {"ema": EMA(every=0)}, ValueError, "every must be at least 1"),
    "every 0 epochs": (lambda: {"swa": SWA(every=0)}, ValueError, "every must be at least 1"),
    "every 1.5": (lambda: {"ema": EMA(every=1.5)}, TypeError, "every"),
    "start below 0": (lambda: {"ema": EMA(start=-1)}, ValueError, "start must be at least 0"),
    "keep": (lambda: {"ema": EMA(keep="first")}, ValueError, "keep must be one of average"),
    "both": (lambda: {"ema": 0.9, "swa": 2}, ValueError, "cannot both"),
    "start beyond the training": (lambda: {"ema": EMA(start=12)}, ValueError, "in 12 steps"),
    "every beyond the training": (lambda: {"ema": EMA(every=13)}, ValueError, "in 12 steps"),
    "no epoch to average": (lambda: {"swa": 3}, ValueError, "average no epoch"),
    "a fraction of all": (lambda: {"swa": 1.0}, ValueError, "below 1"),
    "a fraction below 0": (lambda: {"swa": -0.1}, ValueError, "at least 0"),
    "an epoch below 0": (lambda: {"swa": -1}, ValueError, "at least 0"),
    "the best of nothing": (lambda: {"ema": EMA(keep="best")}, ValueError, "validation_data"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_changes_nothing(name):
    make, error, message = BAD[name]
    net = classifier()
    net.fit(X0, Y0, optimizer=SGD(0.1), epochs=1, batch_size=10, progress=False)
    before, state = flat(net), net.training_state
    with pytest.raises(error, match=message):
        net.fit(X0, Y0, optimizer=SGD(0.1), epochs=3, batch_size=10, progress=False, **make())
    np.testing.assert_array_equal(flat(net), before)
    assert net.training_state is state


def test_a_continued_average_counts_what_it_has(engine):
    """A start beyond the second fit is not beyond both."""
    net = classifier()
    for epochs in (3, 1):
        net.fit(X0, Y0, optimizer=SGD(0.1), epochs=epochs, batch_size=10, swa=2, progress=False)
    other = classifier()
    other.fit(X0, Y0, optimizer=SGD(0.1), epochs=4, batch_size=10, swa=2, progress=False)
    np.testing.assert_array_equal(flat(net), flat(other))


def test_validation_makes_no_workspace_that_stays(workspaces):
    net = classifier()
    with fastnn.use_engine("numpy"):
        for _ in range(2):
            net.fit(X0, Y0, epochs=2, ema=0.9, validation_data=(X0, Y0), progress=False)
    assert all(ws.params is net.flat_params for ws in net._idle._for_prediction)
