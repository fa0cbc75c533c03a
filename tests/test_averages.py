"""Averages of the weights: EMA and SWA, on every engine."""

import copy
import pickle

import naive
import numpy as np
import pytest
from cases import Case, relative_error
from conftest import COMPILED, DTYPES, only, table

import fastnn
from fastnn import (
    EMA,
    SGD,
    SWA,
    Activation,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    Sequential,
    plots,
    run,
)
from fastnn.engines import compiled as compiled_module

LAYERS = (
    naive.Dense(6), naive.BatchNorm(momentum=0.7), naive.Activation("tanh"), naive.Dense(2),
)  # fmt: skip
CASE = Case(4, LAYERS, "mse", 23, seed=3)


# -- the oracle -----------------------------------------------------------------------------------


def trajectory(case, batch_size, epochs, lr):
    """Parameters and statistics at the beginning and after each step of gradient descent."""
    p, found = case.values, [case.values]
    for _ in range(epochs):
        for start in range(0, case.m, batch_size):
            part = slice(start, start + batch_size)
            X, T = case.X[part], case.T[part]
            g = naive.gradients(p, case.layers, case.loss, X, T)
            moved = naive.moved(case.layers, naive.as_lists(p), X)
            p = {n: p[n] - lr * g[n] if n in g else np.array(moved[n]) for n in p}
            found.append(p)
    return found


def ema_of(weights, decay, warm_up=True, every=1, start=0):
    """The average after the last step: Keras' and TensorFlow's, from the weights at the start."""
    average = weights[start]
    for update, at in enumerate(range(start + every, len(weights), every)):
        d = min(decay, (1 + update) / (10 + update)) if warm_up else decay
        average = {n: d * average[n] + (1 - d) * weights[at][n] for n in average}
    return average


def swa_of(weights, n_batches, epochs, first, every=1):
    """The mean of the weights at the ends of epochs."""
    ends = [weights[(epoch + 1) * n_batches] for epoch in range(first, epochs, every)]
    return {name: np.mean([end[name] for end in ends], axis=0) for name in ends[0]}


def fit(net, epochs=6, case=CASE, **arguments):
    return net.fit(
        case.X, case.T, loss="mse", optimizer=SGD(0.1), epochs=epochs, batch_size=5, shuffle=False,
        progress=False, **arguments,
    )  # fmt: skip


def agree(net, expected, tolerance=1e-9):
    for name, values in net.state_dict().items():
        np.testing.assert_allclose(values, expected[name], rtol=tolerance, atol=1e-12, err_msg=name)


@pytest.fixture(scope="module")
def weights():
    return trajectory(CASE, 5, 6, 0.1)


EMAS = {
    "default": {"decay": 0.999},
    "short": {"decay": 0.5},
    "without warm-up": {"decay": 0.9, "warm_up": False},
    "every third step": {"decay": 0.8, "every": 3},
    "from step 7 on": {"decay": 0.8, "start": 7},
    "all of it": {"decay": 0.8, "warm_up": False, "every": 4, "start": 11},
}


@pytest.mark.parametrize("name", EMAS)
def test_ema_follows_the_oracle(engine, name, weights):
    net = CASE.network("float64")
    fit(net, ema=EMA(**EMAS[name]))
    agree(net, ema_of(weights, **EMAS[name]))
    assert relative_error(net.parameters()["0.W"], weights[-1]["0.W"]) > 1e-3


SWAS = {
    "default": (SWA(), 4, 1),
    "an epoch": (2, 2, 1),
    "a fraction": (0.5, 3, 1),
    "all epochs": (0, 0, 1),
    "the last": (5, 5, 1),
    "every second": (SWA(1, every=2), 1, 2),
    "rounded down": (SWA(0.99), 5, 1),
}


@pytest.mark.parametrize("name", SWAS)
def test_swa_follows_the_oracle(engine, name, weights):
    swa, first, every = SWAS[name]
    net = CASE.network("float64")
    fit(net, swa=swa)
    agree(net, swa_of(weights, 5, 6, first, every))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mean_of_one_epoch_is_that_epochs_weights(engine, dtype):
    """Bit for bit: the average begins with a copy."""
    nets = [CASE.network(dtype) for _ in range(2)]
    fit(nets[0])
    fit(nets[1], swa=5)
    np.testing.assert_array_equal(nets[0].flat_params, nets[1].flat_params)
    np.testing.assert_array_equal(nets[0]._statistics, nets[1]._statistics)


def test_the_average_changes_nothing_of_the_training(engine):
    nets = [CASE.network("float32") for _ in range(3)]
    histories = [
        fit(net, **arguments)
        for net, arguments in zip(
            nets, ({}, {"ema": EMA(0.9, keep="last")}, {"swa": SWA(1, keep="last")}), strict=True
        )
    ]
    for net, history in zip(nets, histories, strict=True):
        np.testing.assert_array_equal(net.flat_params, nets[0].flat_params)
        assert history["loss"] == histories[0]["loss"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_engines_have_the_same_bits_in_any_number_of_parts(dtype, monkeypatch):
    X, y = table()
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    found = set()
    for name in COMPILED:
        for parts in (1, 3):
            monkeypatch.setattr(compiled_module, "PARTS", parts)
            with only(name):
                for arguments in ({"ema": EMA(0.9, every=3)}, {"swa": 0.5}):
                    net = Sequential([Dense(33), BatchNorm(), Dense(3)], dtype=dtype, seed=1)
                    net.fit(X, y, epochs=4, progress=False, **arguments)
                    found.add(
                        (str(arguments), net.flat_params.tobytes(), net._statistics.tobytes())
                    )
    assert len(found) == 2


def test_limits_of_norms_come_before_the_average(engine):
    """So the average of weights within a limit is within it, too."""
    X, y = table()
    net = Sequential([Dense(9, "relu", max_norm=0.5), Dense(3, max_norm=0.5)], dtype="float64")
    net.fit(X, y, optimizer=SGD(1.0), epochs=5, ema=0.9, progress=False)
    for name in ("0.W", "1.W"):
        norms = np.linalg.norm(net.parameters()[name], axis=0)
        assert norms.max() <= 0.5 + 1e-12


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_of_several_batches_is_one_of_the_average(engine, accumulate):
    net = CASE.network("float64")
    kept = CASE.network("float64")
    fit(net, epochs=3, accumulate=accumulate, ema=EMA(0.8, keep="average"))
    history = []
    for _ in range(3 * -(-5 // accumulate)):
        history.append(kept.state_dict())
        rows = len(history) - 1
        steps = -(-5 // accumulate)
        begin = rows % steps * 5 * accumulate
        some = slice(begin, begin + 5 * accumulate)
        kept.fit(CASE.X[some], CASE.T[some], loss="mse", optimizer=SGD(0.1), epochs=1,
                 batch_size=5, accumulate=accumulate, shuffle=False, progress=False)  # fmt: skip
    history.append(kept.state_dict())
    agree(net, ema_of(history, 0.8))


# -- which weights are kept -----------------------------------------------------------------------


def flat(net):
    return np.concatenate([net.flat_params, net._statistics])


def classifier(seed=1, dtype="float32"):
    layers = [Dense(12), BatchNorm(), Activation("relu"), Dropout(0.2), Dense(3)]
    return Sequential(layers, n_inputs=7, seed=seed, dtype=dtype)


AVERAGES = {"ema": {"ema": EMA(0.9)}, "swa": {"swa": SWA(1)}}


def keeping(arguments, keep):
    return {name: type(rule)(**{**vars(rule), "keep": keep}) for name, rule in arguments.items()}


@pytest.mark.parametrize("name", AVERAGES)
def test_the_validation_of_the_average_is_its_evaluation(engine, name):
    X, y = table(200)
    net = classifier()
    history = net.fit(X[:150], y[:150], optimizer=Adam(0.01), epochs=4, progress=False,
                      validation_data=(X[150:], y[150:]), **AVERAGES[name])  # fmt: skip
    assert len(history["average_val_loss"]) == len(history["average_val_accuracy"]) == 4
    found = net.evaluate(X[150:], y[150:])
    assert found == {"loss": history["average_val_loss"][-1],
                     "accuracy": history["average_val_accuracy"][-1]}  # fmt: skip
    assert history["average_val_loss"][-1] != history["val_loss"][-1]
    plots.learning_curves(history)


def test_before_it_begins_the_average_is_the_weights(engine):
    X, y = table(100)
    history = classifier().fit(X, y, epochs=5, swa=3, validation_data=(X, y), progress=False)
    assert history["average_val_loss"][:3] == history["val_loss"][:3]
    assert history["average_val_loss"][3] == history["val_loss"][3]  # of one epoch's weights
    assert history["average_val_loss"][4] != history["val_loss"][4]


def test_without_validation_there_are_no_values_of_it(engine):
    X, y = table()
    history = classifier().fit(X, y, epochs=2, ema=0.9, progress=False)
    assert not [name for name in history if "average" in name]


@pytest.mark.parametrize("name", AVERAGES)
def test_last_keeps_the_weights_of_the_last_step(engine, name):
    X, y = table()
    nets = [classifier() for _ in range(2)]
    for net, arguments in zip(nets, ({}, keeping(AVERAGES[name], "last")), strict=True):
        net.fit(X, y, epochs=3, validation_data=(X, y), progress=False, **arguments)
    np.testing.assert_array_equal(flat(nets[0]), flat(nets[1]))


@pytest.mark.parametrize("lr", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("name", AVERAGES)
def test_best_keeps_the_weights_of_the_lowest_validation_loss(engine, name, lr):
    X, y = table(150)
    net = classifier()
    history = net.fit(X[:100], y[:100], optimizer=SGD(lr, momentum=0.9), epochs=6, progress=False,
                      validation_data=(X[100:], y[100:]),
                      **keeping(AVERAGES[name], "best"))  # fmt: skip
    lowest = min(history["val_loss"] + history["average_val_loss"])
    assert net.evaluate(X[100:], y[100:])["loss"] == lowest


def test_files_have_the_weights_that_are_kept(engine, tmp_path):
    X, y = table()
    net = classifier()
    net.fit(X, y, epochs=3, ema=0.9, progress=False)
    net.save(tmp_path / "net.safetensors")
    back = fastnn.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(flat(back), flat(net))
    np.testing.assert_array_equal(back.predict_proba(X), net.predict_proba(X))


# -- several fits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["average", "last", "best"])
@pytest.mark.parametrize("way", ["as it is", "pickled", "copied", "another batch size between"])
@pytest.mark.parametrize("name", AVERAGES)
def test_a_resumed_fit_is_the_uninterrupted_one(engine, name, way, keep):
    X, y = table()
    arguments = {"optimizer": Adam(0.01), "progress": False, "validation_data": (X, y)}
    arguments |= keeping(AVERAGES[name], keep)
    whole, parts = classifier(), classifier()
    if way == "another batch size between":
        if keep == "best":
            pytest.skip("the best of each fit is its own")
        for size, epochs in ((16, 2), (30, 1), (16, 2)):
            whole.fit(X, y, epochs=epochs, batch_size=size, **arguments)
            parts.fit(X, y, epochs=epochs, batch_size=size, **arguments)
            parts._prepared = None  # as if there were no workspace left
    else:
        whole.fit(X, y, epochs=5, **arguments)
        for epochs in (2, 1, 2):
            parts.fit(X, y, epochs=epochs, **arguments)
            parts = {"pickled": lambda net: pickle.loads(pickle.dumps(net)), "as it is":
                     lambda net: net, "copied": copy.deepcopy}[way](parts)  # fmt: skip
    states = [net.training_state.average for net in (whole, parts)]
    np.testing.assert_array_equal(states[0].vector, states[1].vector)
    np.testing.assert_array_equal(states[0].last, states[1].last)
    if keep != "best":
        np.testing.assert_array_equal(flat(whole), flat(parts))


def test_a_fit_goes_on_from_the_last_weights_not_from_the_average(engine):
    X, y = table()
    plain, averaged = classifier(), classifier()
    for _ in range(2):
        plain.fit(X, y, optimizer=Adam(0.01), epochs=2, progress=False)
        averaged.fit(X, y, optimizer=Adam(0.01), epochs=2, ema=0.9, progress=False)
        assert not np.array_equal(flat(plain), flat(averaged))
    last = averaged.training_state.average.last
    np.testing.assert_array_equal(last, flat(plain))


def changed(net):
    net.parameters()["0.W"][0, 0] += 1


def loaded(net):
    net.load_state_dict({name: array + 0.125 for name, array in net.state_dict().items()})


def assigned(net):
    net.flat_params = net.flat_params / 2


@pytest.mark.parametrize("change", [changed, loaded, assigned])
@pytest.mark.parametrize("keep", ["average", "last"])
def test_a_fit_after_a_change_starts_from_what_the_network_holds(engine, change, keep):
    X, y = table()
    net = classifier()
    arguments = {"optimizer": SGD(0.1), "progress": False, "ema": EMA(0.9, keep=keep)}
    net.fit(X, y, epochs=2, **arguments)
    change(net)
    expected = flat(net)
    seen = []
    original = run.Fit.begin_epoch

    def look(self, order, *args):
        seen.append(np.concatenate([self.ws.params, self.ws.state, self.ws.average]))
        original(self, order, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Fit, "begin_epoch", look)
        net.fit(X, y, epochs=1, **arguments)
    np.testing.assert_array_equal(seen[0], np.concatenate([expected, expected]))
    assert net.training_state.average.first_epoch == 2


OTHERS = {
    "another rule": {"optimizer": SGD(0.1, momentum=0.5), "ema": EMA(0.9)},
    "another average": {"optimizer": SGD(0.1), "ema": EMA(0.8)},
    "another kind": {"optimizer": SGD(0.1), "swa": 0},
    "no average": {"optimizer": SGD(0.1)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_average_starts_from_what_the_network_holds(engine, name):
    X, y = table()
    net, twin = classifier(), classifier()
    net.fit(X, y, optimizer=SGD(0.1), epochs=2, ema=EMA(0.9), progress=False)
    twin.fit(X, y, optimizer=SGD(0.1), epochs=2, progress=False)  # its counters
    twin.load_state_dict(net.state_dict())
    for each in (net, twin):
        each.fit(X, y, epochs=2, progress=False, **OTHERS[name])
    np.testing.assert_array_equal(flat(net), flat(twin))
    assert (net.training_state.average is None) == (name == "no average")


def test_a_fraction_averages_each_fit_anew(engine):
    X, y = table()
    net = classifier(dtype="float64")
    for fitted in (1, 2):
        net.fit(X, y, optimizer=SGD(0.1), epochs=4, swa=0.5, progress=False)
        assert net.training_state.average.first_epoch == 4 * (fitted - 1)
