"""A fit as an iterator of epochs, its limits, and the rows that it takes."""

import contextlib
import copy
import gc
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from training_cases import W, X, assert_same, fit, network, y

import fastnn
from fastnn import (
    EMA,
    LBFGS,
    SGD,
    SWA,
    Adam,
    Callback,
    Dense,
    EarlyStopping,
    Sequential,
    schedules,
)
from fastnn.errors import DivergedError, ShapeError

# -- epochs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"ema": 0.9}, {"swa": SWA(1)}, {"schedule": schedules.Cosine(), "shuffle": False}],
    ids=str,
)
def test_a_fit_is_its_epochs(engine, options):
    options |= {"epochs": 4, "validation_data": (X[:40], y[:40]), "progress": False}
    net, other = network(), network()
    net.fit(X, y, **options)
    epochs = other.epochs(X, y, **options)
    assert iter(epochs) is epochs
    lines = list(epochs)
    assert_same(net, other)
    for name, values in other.history.items():
        assert [line[name] for line in lines] == values
    assert all(line.training is epochs.training for line in lines)
    with pytest.raises(StopIteration):
        next(epochs)
    assert epochs.training.epoch == 4
    assert epochs.training.step == epochs.training.n_steps == 20


def test_arguments_are_checked_at_once_and_nothing_changes():
    net = network()
    with pytest.raises(ValueError, match=r"optimizer"):
        net.epochs(X, y, "mse", "nonsense")
    with pytest.raises(TypeError, match=r"unexpected keyword"):
        net.epochs(X, y, nonsense=1)
    with pytest.raises(ShapeError):
        net.epochs(X, y[:-1])
    with pytest.raises(ValueError, match=r"LBFGS.*use fit"):
        Sequential([Dense(3)]).epochs(X, y, optimizer=LBFGS())
    epochs = net.epochs(X, y, progress=False)
    assert net.history is None
    assert net.n_inputs is None
    epochs.close()
    assert net.history is None
    assert fit(net, epochs=1).history.n_epochs == 1


def test_the_body_may_change_what_it_wants():
    net, other = network(), network()
    for epoch in net.epochs(X, y, optimizer=SGD(0.1), epochs=3, progress=False):
        assert np.isfinite(net.predict_proba(X)).all()
        if epoch.training.epoch == 1:
            net.flat_params *= 0.5
            epoch.training.lr_factor = 0.25
    fit(other, optimizer=SGD(0.1), epochs=1)
    other.flat_params *= 0.5
    factors = schedules.PerEpoch([1.0, 0.25, 0.25])
    fit(other, optimizer=SGD(0.1), epochs=2, schedule=[0.25] * 10)
    assert_same(net, other, history=False)
    assert net.history["lr"] == [0.1, 0.025, 0.025]
    third = fit(network(), optimizer=SGD(0.1), epochs=3, schedule=factors)
    assert third.history["lr"] == net.history["lr"]


@pytest.mark.parametrize("factor", [-1.0, np.nan, np.inf, "0.1", None])
def test_bad_factors_of_the_learning_rate(factor):
    for epoch in network().epochs(X, y, epochs=1, progress=False):
        with pytest.raises((ValueError, TypeError), match=r"lr_factor"):
            epoch.training.lr_factor = factor
        assert epoch.training.lr_factor == 1.0


@pytest.mark.parametrize("options", [{"ema": 0.9}, {"swa": SWA(0)}], ids=str)
def test_a_loop_that_is_left_finishes_the_average(options):
    net, other = network(), network()
    for epoch in net.epochs(X, y, epochs=5, progress=False, **options):
        if epoch.training.epoch == 2:
            break
    fit(other, epochs=2, **options)
    assert_same(net, other, history=False)
    assert net.history.n_epochs == 2
    assert net.history.stopped == "the loop over its epochs ended"
    assert net.history.n_steps == 10
    assert_same(fit(net, epochs=1, **options), fit(other, epochs=1, **options))


def test_a_loop_that_is_left_restores_the_best_epoch():
    rule = EarlyStopping(patience=None, metric="loss", mode="max")  # the first
    net, other = network(), network()
    for epoch in net.epochs(X, y, epochs=5, early_stopping=rule, progress=False):
        if epoch.training.epoch == 3:
            break
    fit(other, epochs=1)
    assert net.history.best_epoch == 0
    for name, values in net.state_dict().items():
        assert np.array_equal(values, other.state_dict()[name])


def test_an_error_in_the_body_ends_the_fit():
    net, other = network(), network()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        for _ in net.epochs(X, y, epochs=5, ema=0.9, progress=False):
            1 / 0  # noqa: B018
    gc.collect()
    fit(other, epochs=1, ema=0.9)
    assert_same(net, other, history=False)
    fit(net, epochs=1)


def test_with_closes_at_once():
    net = network()
    with net.epochs(X, y, epochs=5, ema=0.9, progress=False) as epochs:
        next(epochs)
    assert net.history.stopped is not None
    with pytest.raises(StopIteration):
        next(epochs)


def test_another_fit_ends_one_that_waits():
    net, other = network(), network()
    epochs = net.epochs(X, y, epochs=5, swa=SWA(0), progress=False)
    line = next(epochs)
    fit(net, epochs=2)
    for _ in range(2):
        with pytest.raises((RuntimeError, StopIteration), match=r"another fit|^$"):
            next(epochs)
    fit(other, epochs=1, swa=SWA(0))
    fit(other, epochs=2)
    assert_same(net, other)
    assert line.training.history.n_epochs == 1
    assert net.history.n_epochs == 2


def test_one_that_has_not_begun_gives_way_too():
    net = network()
    first = net.epochs(X, y, epochs=2, progress=False)
    second = net.epochs(X, y, epochs=2, progress=False)
    with pytest.raises(RuntimeError, match=r"another fit of this network has begun"):
        next(first)
    assert len(list(second)) == 2
    assert_same(net, fit(network(), epochs=2))


def test_epochs_of_two_networks_alternate():
    nets = network(), network()
    loops = [net.epochs(X, y, epochs=3, progress=False) for net in nets]
    for _ in range(3):
        for loop in loops:
            next(loop)
    assert_same(*nets)


def test_a_fit_within_a_fit_is_refused():
    net, other, seen = network(), network(), []

    def again(training):
        for call in (lambda: fit(net), lambda: net.epochs(X, y, progress=False)):
            with pytest.raises(RuntimeError, match=r"one fit at a time"):
                call()
        with pytest.raises(RuntimeError, match=r"one fit at a time"):
            net.partial_fit(X, y)
        seen.append(fit(network(), epochs=1))  # of another network

    fit(net, epochs=2, callbacks=again)
    assert len(seen) == 2
    assert_same(net, fit(other, epochs=2))
    epochs = net.epochs(X, y, epochs=2, callbacks=lambda t: epochs.close(), progress=False)
    assert next(epochs)
    assert list(epochs) == []
    assert net.history.stopped == "its epochs were closed"


def test_two_threads_fit_one_network(engine):
    net = fit(network(), epochs=1)
    ends, begun = [], threading.Barrier(4)

    def work():
        begun.wait(10)
        for _ in range(20):
            try:
                fit(net, epochs=2)
            except RuntimeError as error:
                ends.append(str(error))
            else:
                ends.append("")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 80
    assert all("one fit at a time" in end or "another fit" in end for end in ends if end)
    assert "" in ends
    assert np.isfinite(net.flat_params).all()
    fit(net, epochs=1)


def test_a_thread_is_refused_while_another_one_trains():
    net, inside, leave = fit(network(), epochs=1), threading.Event(), threading.Event()

    def wait(training):
        inside.set()
        leave.wait(10)

    thread = threading.Thread(target=lambda: fit(net, epochs=1, callbacks=wait))
    thread.start()
    inside.wait(10)
    try:
        with pytest.raises(RuntimeError, match=r"in another thread"):
            fit(net)
    finally:
        leave.set()
        thread.join()
    fit(net, epochs=1)


# -- how long -------------------------------------------------------------------------------------


def test_steps():
    net, other = network(), network()
    fit(net, steps=10)
    fit(net, steps=10)
    fit(other, epochs=4)
    assert_same(net, other, history=False)
    assert net.history.n_steps == 10
    net, other = network(), network()
    fit(net, steps=7, batch_size=50)
    assert net.history.n_epochs == 3
    assert net.training_state.total_steps == 7
    assert net.training_state.epoch == 3
    seen = list(other.epochs(X, y, epochs=2, batch_size=50, progress=False))
    assert net.history["loss"][:2] == [line["loss"] for line in seen]
    third = network()
    fit(third, X[:50], y[:50], steps=1, batch_size=50, shuffle=False)
    first = fit(network(), steps=1, batch_size=50, shuffle=False)
    assert first.history["loss"] == third.history["loss"]
    assert first.history["accuracy"] == third.history["accuracy"]
    assert np.array_equal(first.flat_params, third.flat_params)


def test_the_first_limit_that_is_reached_ends_the_fit():
    assert fit(network(), steps=7, epochs=1).history.n_steps == 5
    assert fit(network(), steps=7, epochs=3).history.n_steps == 7
    assert fit(network(), steps=7, seconds=60).history.n_steps == 7
    assert fit(network(), epochs=2, seconds=60).history.n_epochs == 2
    assert fit(network()).history.n_epochs == 10
    began = time.perf_counter()
    net = fit(network(), seconds=0.1, epochs=10**8)
    assert 0.09 < time.perf_counter() - began < 2
    assert net.history.stopped == "after 0.1 s"
    assert fit(network(), seconds=0.05, steps=10**9).history.stopped == "after 0.05 s"


def test_an_incomplete_epoch_has_the_values_of_its_rows():
    net, other = network(), network()
    options = {"batch_size": 40, "shuffle": False}
    fit(net, steps=2, sample_weight=W, **options)
    fit(other, X[:80], y[:80], epochs=1, sample_weight=W[:80], **options)
    assert net.history["loss"] == other.history["loss"]
    assert net.history["accuracy"] == other.history["accuracy"]
    assert net.history.rows_per_second > 0


def test_an_incomplete_epoch_of_rows_without_weight():
    net, weights = network(), np.arange(len(X)) >= 80
    fit(net, steps=2, sample_weight=weights, batch_size=40, shuffle=False)
    np.testing.assert_array_equal(net.history["loss"], [np.nan])
    assert net.history.n_steps == 2


def test_a_split_that_leaves_no_weights_to_the_training_rows():
    errors = []
    for row in range(10):
        weights = np.arange(len(X)) == row
        try:
            fit(network(), epochs=1, validation_split=0.5, sample_weight=weights)
        except ValueError as error:
            errors.append(str(error))
    assert 0 < len(errors) < 10
    assert all("validation_split has taken the others" in text for text in errors)


def test_a_resumed_incomplete_epoch_begins_a_new_one():
    net, other = network(), network()
    fit(net, steps=3)
    fit(net, epochs=1)
    order = []
    for _ in other.epochs(X, y, steps=3, progress=False):
        order.append(other.training_state.epoch)
    fit(other, epochs=1)
    assert order == [1]
    assert_same(net, other)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"steps": 0}, ValueError), ({"steps": 1.5}, TypeError), ({"seconds": 0}, ValueError),
        ({"seconds": -1}, ValueError), ({"seconds": np.nan}, ValueError),
        ({"seconds": "1"}, TypeError), ({"epochs": 0}, ValueError), ({"epochs": 2.5}, TypeError),
        ({"initial_epoch": -1}, ValueError), ({"initial_epoch": 3, "epochs": 3}, ValueError),
        ({"initial_epoch": True}, TypeError),
        ({"callbacks": 3}, TypeError), ({"early_stopping": 0.5}, TypeError),
    ],
    ids=str,
)  # fmt: skip
def test_limits_out_of_range(option, error):
    net = network()
    with pytest.raises(error):
        fit(net, **option)
    assert net.history is None


def test_what_lasts_a_fit_needs_its_length():
    for options in ({"schedule": schedules.Cosine()}, {"swa": 0.5}, {"schedule": [1.0] * 5}):
        with pytest.raises(ValueError, match=r"does not know"):
            fit(network(), seconds=0.1, **options)
        fit(network(), seconds=60, epochs=1, **options)
    fit(network(), seconds=0.01, swa=SWA(0))


@pytest.mark.filterwarnings("ignore::fastnn.errors.FitWarning")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_initial_epoch(tmp_path, momentum):
    """A network from a file, whose optimizer has no state, goes on as if it had never stopped."""
    options = {"optimizer": SGD(0.1, momentum=momentum)}
    net = fit(network(), epochs=10, **options)
    half = fit(network(), epochs=5, **options)
    half.save(tmp_path / "half.safetensors")
    loaded = fastnn.load(tmp_path / "half.safetensors")
    lines = []
    for line in loaded.epochs(X, y, initial_epoch=5, epochs=10, progress=False, **options):
        lines.append(line.training.epoch)
    assert lines == [6, 7, 8, 9, 10]
    assert loaded.history.n_epochs == 5
    if not momentum:
        assert_same(net, loaded, history=False)
        assert loaded.history["loss"] == net.history["loss"][5:]
    else:
        assert loaded.training_state.epoch == 10
        assert loaded.training_state.step == 25


@pytest.mark.parametrize("where", ["schedule", "optimizer"])
@pytest.mark.parametrize("per_epoch", [False, True])
def test_initial_epoch_and_schedules(where, per_epoch):
    schedule = schedules.TimeDecay(start=0.1, decay=0.1)
    if per_epoch:
        schedule = schedules.PerEpoch(schedule)
    options = {"optimizer": SGD(schedule)}
    if where == "schedule":
        options = {"optimizer": SGD(1.0), "schedule": schedule}
    net = fit(network(), epochs=6, **options)
    half = fit(network(), epochs=3, **options)
    other = half.copy()
    fit(other, epochs=6, initial_epoch=3, **options)
    assert_same(net, other, history=False)
    assert other.history["lr"] == net.history["lr"][3:]
    fit(half, epochs=6, initial_epoch=3, **options)  # which has counted to there itself
    assert_same(net, half, history=False)


def test_a_fit_that_fails_leaves_the_counters():
    net, other = fit(network(), epochs=1), fit(network(), epochs=1)
    with pytest.raises(ValueError, match=r"has 3 steps"):
        fit(net, initial_epoch=7, epochs=9, schedule=[1.0] * 3)
    with pytest.raises(ZeroDivisionError):
        fit(net, initial_epoch=7, epochs=9, callbacks=_Raises("on_fit_begin"))
    assert net.training_state.epoch == 1
    assert_same(fit(net, epochs=2), fit(other, epochs=2))


class _Raises(Callback):
    def __init__(self, hook):
        setattr(self, hook, lambda training: 1 / 0)


# -- copies ---------------------------------------------------------------------------------------


def test_lines_can_be_pickled_and_copied():
    lines = list(network().epochs(X, y, epochs=2, progress=False))
    assert pickle.loads(pickle.dumps(lines)) == copy.deepcopy(lines) == lines


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("average", [{}, {"ema": 0.9}], ids=str)
def test_copies_between_epochs_and_in_callbacks(duplicate, average):
    options = {"epochs": 3, "optimizer": Adam(0.01), **average}
    net, other, made = network(), network(), []
    fit(net, callbacks=lambda training: made.append(duplicate(training.net)), **options)
    for _ in other.epochs(X, y, progress=False, **options):
        made.append(duplicate(other))
    assert_same(net, other)
    assert np.array_equal(made[0].flat_params, made[3].flat_params)
    if not average:
        for one in (made[1], made[4]):
            fit(one, epochs=1, optimizer=Adam(0.01))
            assert_same(net, one, history=False)
    assert_same(fit(made[2], epochs=1), fit(made[5], epochs=1))


def test_a_copy_of_a_network_whose_epochs_wait():
    net = network()
    epochs = net.epochs(X, y, epochs=3, progress=False)
    next(epochs)
    other = pickle.loads(pickle.dumps(net))
    fit(other, epochs=2)
    list(epochs)
    assert_same(net, other, history=False)


# -- Ctrl-C ---------------------------------------------------------------------------------------


def test_ctrl_c_in_the_body():
    net, other = network(), network()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for epoch in net.epochs(X, y, epochs=5, ema=0.9, progress=False):
            if epoch.training.epoch == 2:
                signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    gc.collect()
    assert_same(net, fit(other, epochs=2, ema=0.9), history=False)
    fit(net, epochs=1)


class _Interrupts(Callback):
    """Ctrl-C arrives in a hook."""

    def __init__(self, hook):
        self.error = "none"
        setattr(self, hook, lambda training: signal.raise_signal(signal.SIGINT))

    def on_fit_end(self, training):
        self.error = training.error


@pytest.mark.parametrize("hook", ["on_fit_begin", "on_epoch_begin", "on_epoch_end"])
def test_ctrl_c_inside_next(engine, hook):
    net, callback = network(), _Interrupts(hook)
    epochs = net.epochs(X, y, epochs=5, ema=0.9, callbacks=callback, progress=False)
    with pytest.raises(KeyboardInterrupt):
        for _ in epochs:
            pass
    with pytest.raises(StopIteration):
        next(epochs)
    assert net.training_state.average is None or net.training_state.average.held is not None
    assert net.history.stopped is not None or isinstance(callback.error, KeyboardInterrupt)
    fit(net, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        fit(net, epochs=5, callbacks=_Interrupts(hook))
    fit(net, epochs=1)


def test_divergence_in_a_loop():
    net = network()
    huge = SGD(1e30)
    with pytest.raises(DivergedError) as caught:
        for _ in net.epochs(X, y, loss="mse", optimizer=huge, epochs=5, progress=False):
            pass
    assert caught.value.epoch == net.history.n_epochs
    assert np.isfinite(net.flat_params).all()
    fit(net, epochs=1)


def test_ema_of_a_fit_that_ends_anywhere_is_that_of_a_whole_fit():
    net, other = network(), network()
    average = EMA(0.9, every=2)
    fit(net, steps=7, ema=average)
    with contextlib.suppress(KeyboardInterrupt):
        for _ in other.epochs(X, y, steps=7, ema=average, progress=False):
            pass
    assert_same(net, other)
