"""Early stopping: when it ends a fit, and that the best epoch is restored exactly."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import table

from fastnn import EMA, LBFGS, SGD, SWA, Adam, BatchNorm, Dense, Dropout, EarlyStopping, Sequential
from fastnn.early_stopping import Watch
from fastnn.errors import DivergedError

X, y = table(150, n_inputs=5)
VALID = {"validation_data": (X[:50], y[:50])}


def network():
    return Sequential([Dense(8, "tanh"), BatchNorm(), Dropout(0.2), Dense(3)], seed=3)


def fit(net, **options):
    net.fit(X, y, progress=False, **options)
    return net


class Fake:
    """A training whose epochs have given values."""

    def __init__(self):
        self.stopped, self.values = None, {}
        self.history = SimpleNamespace(n_epochs=0)

    @property
    def epoch(self):
        return self.history.n_epochs

    def stop(self, reason):
        self.stopped = reason

    def snapshot(self):
        return (np.array([self.history.n_epochs - 1]),)


def watched(rule, values, larger_is_better=False):
    """(epochs that ran, the best one, the weights kept, why it ended)."""
    watch, training = Watch(rule, larger_is_better), Fake()
    for value in values:
        training.history.n_epochs += 1
        training.values = {rule.metric: value}
        watch.observe(training)
        if training.stopped:
            break
    weights = None if watch.weights is None else int(watch.weights[0][0])
    return training.history.n_epochs, watch.best_epoch, weights, training.stopped


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("rule", "values", "epochs", "best"),
    [
        ({"patience": 2}, [3, 2, 2.5, 2.5, 1], 4, 1),
        ({"patience": 2}, [3, 2, 2.5, 1, 2, 2, 0], 6, 3),
        ({"patience": 0}, [3, 2, 2, 1], 3, 1),
        ({"patience": 1}, [3, 3, 3], 2, 0),
        ({"patience": None}, [3, 2, 9, 9, 9], 5, 1),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.6, 1], 3, 0),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.4, 2.2, 2.1, 0], 5, 2),
        ({"patience": 2, "baseline": 1.0}, [3, 2, 1.5], 2, None),
        ({"patience": 2, "baseline": 1.0}, [3, 0.5, 1, 1, 1], 4, 1),
        ({"patience": 2}, [NAN, NAN, NAN], 2, None),
        ({"patience": 2}, [NAN, 2, NAN, 1, NAN, NAN, 0], 6, 3),
        ({"patience": 2}, [INF, INF, 1], 2, None),
        ({"patience": 2}, [-INF, -INF, -INF], 3, 0),
    ],
)
@pytest.mark.parametrize("larger", [False, True])
def test_when_it_ends_and_what_it_keeps(rule, values, epochs, best, larger):
    if larger:
        values = [-value for value in values]
        if "baseline" in rule:
            rule = {**rule, "baseline": -rule["baseline"]}
    found = watched(EarlyStopping(metric="loss", **rule), values, larger)
    assert found[:3] == (epochs, best, best)
    assert (found[3] is None) == (rule["patience"] is None)


def test_it_need_not_restore():
    assert watched(EarlyStopping(1, "loss", restore_best=False), [2, 1, 3])[:3] == (3, 1, None)


def test_the_reason():
    text = watched(EarlyStopping(2, "loss"), [3, 2, 3, 3])[3]
    assert text == ("early stopping: loss has not improved for 2 epochs; the best was 2 in epoch 2")
    text = watched(EarlyStopping(2, "loss", baseline=1), [3, 2])[3]
    assert text == "early stopping: loss has not improved for 2 epochs on the baseline 1"
    text = watched(EarlyStopping(1, "loss"), [NAN])[3]
    assert text == "early stopping: loss has not improved for 1 epoch"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"patience": -1}, ValueError), ({"patience": 1.5}, TypeError),
        ({"patience": True}, TypeError), ({"metric": 3}, TypeError),
        ({"min_delta": -0.1}, ValueError), ({"min_delta": NAN}, ValueError),
        ({"baseline": INF}, ValueError), ({"baseline": "1"}, TypeError),
        ({"restore_best": 1}, TypeError), ({"mode": "smaller"}, ValueError),
    ],
)  # fmt: skip
def test_arguments_out_of_range(options, error):
    with pytest.raises(error):
        EarlyStopping(**options)


@pytest.mark.parametrize("given", ["3", 0.5, EarlyStopping, [3]])
def test_what_is_no_early_stopping(given):
    with pytest.raises(TypeError, match=r"patience in epochs or EarlyStopping"):
        fit(network(), early_stopping=given, **VALID)


def test_a_value_that_the_epochs_have_not():
    net = network()
    with pytest.raises(ValueError, match=r"'val_loss'.*'loss', 'accuracy'; give validation_data"):
        fit(net, early_stopping=3)
    with pytest.raises(ValueError, match=r"follows 'val_f1', but.*'val_loss'"):
        fit(net, early_stopping=EarlyStopping(metric="val_f1"), **VALID)
    assert net.history is None


# -- in fits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [2, EarlyStopping(2), np.int64(2)], ids=str)
def test_a_patience_is_a_rule(given):
    options = {"epochs": 200, "optimizer": Adam(0.05), **VALID}
    net = fit(network(), early_stopping=given, **options)
    losses = net.history["val_loss"]
    best = int(np.argmin(losses))
    assert net.history.best_epoch == best
    assert net.history.n_epochs == best + 3 < 200
    assert net.history.stopped.startswith("early stopping: val_loss")
    assert net.evaluate(*VALID["validation_data"])["loss"] == losses[best]
    assert fit(network(), early_stopping=None, epochs=1, **VALID).history.best_epoch is None
    assert fit(network(), early_stopping=False, epochs=1, **VALID).history.best_epoch is None
    assert fit(network(), early_stopping=True, epochs=1, **VALID).history.best_epoch == 0


def test_more_of_an_accuracy_is_better():
    rule = EarlyStopping(None, "val_accuracy")
    net = fit(network(), epochs=8, early_stopping=rule, **VALID)
    accuracies = net.history["val_accuracy"]
    assert net.history.best_epoch == int(np.argmax(accuracies))
    other = fit(network(), epochs=8, early_stopping=EarlyStopping(None, "val_accuracy", mode="min"),
                **VALID)  # fmt: skip
    assert other.history.best_epoch == int(np.argmin(accuracies))


def worse_from(epoch):
    """A callback that makes this epoch the best one."""

    def callback(training):
        if training.epoch == epoch:
            training.net.flat_params[:] += 3.0

    return callback


RULE = EarlyStopping(patience=2, metric="loss", min_delta=0.0)


@pytest.mark.parametrize(
    "average", [{}, {"ema": 0.9}, {"ema": EMA(0.9, start=18)}, {"swa": SWA(1)}], ids=str
)
@pytest.mark.parametrize("end", ["patience", "break", "error", "steps", "interrupt"])
def test_the_best_epoch_is_restored_exactly(engine, average, end):
    """Parameters, running statistics and average are as if the fit had ended there."""
    rule = RULE if end == "patience" else EarlyStopping(None, "loss")
    options = {"optimizer": Adam(0.01), "early_stopping": rule, **average}
    worse = [worse_from(3)]
    if end == "error":
        worse.append(lambda training: 1 / (training.epoch - 5))
    if end == "interrupt":
        worse.append(lambda training: _interrupt() if training.epoch == 5 else None)
    limit = {"steps": 24} if end == "steps" else {"epochs": 9}
    net = network()
    try:
        for epoch in net.epochs(X, y, callbacks=worse, progress=False, **limit, **options):
            if end == "break" and epoch.training.epoch == 5:
                break
    except (ZeroDivisionError, KeyboardInterrupt):
        assert end in ("error", "interrupt")
    assert net.history.n_epochs == 5
    assert net.history.best_epoch == 2
    if "start=18" in str(average):  # in the best epoch it had not begun
        del options["ema"]
    other = fit(network(), epochs=3, **options)
    for name, values in net.state_dict().items():
        assert np.array_equal(values, other.state_dict()[name]), name


def _interrupt():
    raise KeyboardInterrupt


def test_a_divergence_restores_the_best_epoch_too():
    def explode(training):
        if training.epoch == 3:
            training.lr_factor = 1e30

    options = {"loss": "mse", "optimizer": SGD(0.01), "early_stopping": EarlyStopping(None, "loss")}
    net, other = network(), network()
    with pytest.raises(DivergedError):
        fit(net, epochs=9, callbacks=explode, **options)
    fit(other, epochs=net.history.best_epoch + 1, **options)
    for name, values in net.state_dict().items():
        assert np.array_equal(values, other.state_dict()[name]), name


def test_without_restoring_the_last_epoch_stays():
    rule = EarlyStopping(patience=2, metric="loss", restore_best=False)
    net = fit(network(), epochs=9, early_stopping=rule, callbacks=worse_from(3))
    other = fit(network(), epochs=5, callbacks=worse_from(3))
    assert np.array_equal(net.flat_params, other.flat_params)
    assert net.history.best_epoch == 2


def test_a_second_fit_goes_on_from_the_best_and_counts_anew(engine):
    net, other = network(), network()
    fit(net, epochs=9, early_stopping=RULE, callbacks=worse_from(3))
    fit(other, epochs=5, callbacks=worse_from(3))
    other.load_state_dict(net.state_dict())  # the optimizer's state stays that of the last step
    rule = EarlyStopping(patience=0, metric="loss", baseline=-1.0)
    fit(net, epochs=4, early_stopping=rule)
    fit(other, epochs=1)
    assert np.array_equal(net.flat_params, other.flat_params)
    assert np.array_equal(net.training_state.slots, other.training_state.slots)
    assert net.history.n_epochs == 1
    assert net.history.best_epoch is None
    fit(net, epochs=2, ema=0.9, early_stopping=EarlyStopping(None, "loss"))
    fit(net, epochs=2, ema=0.9)
    assert np.isfinite(net.flat_params).all()


def test_an_average_goes_on_from_the_best_epoch():
    rule = EarlyStopping(patience=None, metric="loss")
    net, other = network(), network()
    fit(net, epochs=3, ema=0.9, early_stopping=rule)
    assert net.history.best_epoch == 2
    fit(other, epochs=3, ema=0.9)
    fit(net, epochs=2, ema=0.9)
    fit(other, epochs=2, ema=0.9)
    assert np.array_equal(net.flat_params, other.flat_params)


def test_values_of_the_average_can_be_followed():
    rule = EarlyStopping(3, "average_val_loss")
    net = fit(network(), epochs=100, optimizer=Adam(0.05), ema=0.9, early_stopping=rule, **VALID)
    best = net.history.best_epoch
    assert best == int(np.argmin(net.history["average_val_loss"]))
    assert net.evaluate(*VALID["validation_data"])["loss"] == net.history["average_val_loss"][best]


def test_full_batch_optimizers_and_epochs():
    net = Sequential([Dense(4, "tanh"), Dense(3)])
    rule = EarlyStopping(1, "loss", min_delta=0.05)
    fit(net, epochs=50, optimizer=LBFGS(), early_stopping=rule)
    assert net.history.stopped.startswith("early stopping")
    assert net.history.n_epochs < 50
    assert net.evaluate(X, y)["loss"] == pytest.approx(
        net.history["loss"][net.history.best_epoch], rel=1e-5
    )
    one = network()
    for epoch in one.epochs(X, y, epochs=9, early_stopping=RULE, progress=False):
        if epoch.training.epoch == 3:
            one.flat_params += 3.0
    assert one.history.best_epoch == 2
    assert one.history.n_epochs == 5


def test_batches():
    items = [(X[i : i + 32], y[i : i + 32]) for i in range(0, 150, 32)]
    net, other = network(), network()
    net.fit(lambda: iter(items), epochs=9, early_stopping=RULE, callbacks=worse_from(3),
            progress=False)  # fmt: skip
    fit(other, epochs=9, shuffle=False, early_stopping=RULE, callbacks=worse_from(3))
    assert np.array_equal(net.flat_params, other.flat_params)
    assert net.history.best_epoch == other.history.best_epoch
