"""Dropout and noise: whose random numbers they are, and what becomes of them."""

import pickle

import naive_layers
import naive_random
import numpy as np
import pytest
from conftest import DTYPES, table

import fastnn
from fastnn import (
    SGD,
    Adam,
    Dense,
    Dropout,
    GaussianNoise,
    Residual,
    Sequential,
    engines,
    losses,
    schedules,
)
from fastnn.engines import compiled as compiled_module
from fastnn.engines.workspace import Data, Steps, Workspace
from fastnn.run import with_schedules
from fastnn.schedules import Linear
from fastnn.tables import INPUT

X, Y = table(150)


def outputs(layer, x, dtype, *, seed=0, step=0, piece=None, below=()):
    """What the current engine makes of the rows x in a layer in training.

    `piece` rows run at a time, as pieces of one batch. `below` are layers that they pass before.
    """
    m, n = x.shape
    net = Sequential([*below, layer, Dense(1)], n_inputs=n, seed=seed, dtype=dtype)
    plan = net.lower(losses.mse)
    ws = Workspace(
        plan, net.flat_params, np.zeros(0, dtype), piece or m, total_rows=m, training=True
    )
    data = Data(x.astype(dtype), Y=np.zeros((m, 1), dtype), batch_size=piece or m)
    steps = Steps(with_schedules(plan, np.empty((1, 0)), step), seed, step)
    index = len(plan.training.ops) - 3
    offset, found = ws.layout.ops[index]["a"], []
    for k in range(data.n_batches):
        engines.current().loss_and_grad(ws, data, np.zeros(2), k, k + 1, steps)
        rows = min(data.batch_size, m - k * data.batch_size)
        found.append(ws.buffer(offset, rows, n).copy())
    return np.concatenate(found)


def kept(rate, m, n, dtype="float32", **place):
    """Which elements a dropout keeps."""
    found = outputs(Dropout(rate, "test"), np.ones((m, n)), dtype, **place)
    assert set(np.unique(found)) <= {0.0, 1.0}
    return found == 1


#: Rows and columns: a part of a group of 64 elements, groups, several tiles of 1024.
SHAPES = [(1, 1), (10, 2), (3, 16), (5, 17), (4, 64), (7, 100), (33, 130)]
PLACES = [(0, 0), (5, 1), (2**32, 2**32 - 1), (2**64 - 1, 2**31 - 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_masks_are_those_of_the_oracle(engine, dtype, shape):
    for seed, step in PLACES:
        run = naive_layers.Run(True, seed, step)
        words = np.array(naive_random.element_words(run, *shape))
        for rate in (0.0, 0.3, 0.5, 1 - 2**-40):
            found = kept(rate, *shape, dtype, seed=seed, step=step)
            np.testing.assert_array_equal(found, words >= min(round(rate * 2**32), 2**32 - 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_noise_is_that_of_the_oracle(engine, dtype, shape):
    for seed, step in PLACES:
        expected = np.array(
            naive_random.element_normals(naive_layers.Run(True, seed, step), *shape)
        )
        noise = outputs(GaussianNoise(0.5), np.zeros(shape), dtype, seed=seed, step=step)
        atol = max(1e-14, 2 * np.finfo(dtype).eps)
        np.testing.assert_allclose(noise, 0.5 * expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_all_engines_make_the_same_noise(dtype, shape):
    """Rows too: the sum is rounded once, and so is a product of a kept element."""
    x = naive_rows(*shape)
    for layer in (GaussianNoise(0.7), Dropout(0.3), Dropout(Linear(0.2, 0.4, 5))):
        found = set()
        for name in engines.available():
            with fastnn.use_engine(name):
                found.add(outputs(layer, x, dtype, seed=3, step=2).tobytes())
        assert len(found) == 1


def naive_rows(m, n):
    return np.sin(np.arange(m * n, dtype=float)).reshape(m, n)


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 8])
def test_parts_change_no_number(compiled, parts, monkeypatch):
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    for m, n in SHAPES:
        for layer in (Dropout(0.4), GaussianNoise(0.3)):
            found = []
            for count in (1, parts):
                monkeypatch.setattr(compiled_module, "PARTS", count)
                found.append(outputs(layer, naive_rows(m, n), "float32", step=9))
            np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("n", [1, 3, 70])
def test_pieces_of_a_batch_have_the_numbers_of_their_rows(engine, n):
    for layer in (Dropout(0.4), GaussianNoise(0.3)):
        x = naive_rows(1100, n)
        whole = outputs(layer, x, "float64", step=4)
        np.testing.assert_array_equal(outputs(layer, x, "float64", step=4, piece=512), whole)


def test_every_step_seed_and_operation_has_numbers_of_its_own(engine):
    """Uncorrelated, to 5 sigma."""
    m, n = 100, 150
    pairs = [(0, 0), (0, 1), (0, 2**31 - 1), (1, 0), (2**32, 0)]
    masks = [kept(0.5, m, n, seed=seed, step=step) for seed, step in pairs]
    masks.append(kept(0.5, m, n, below=[GaussianNoise(0.0)]))
    signs = np.array([2.0 * mask.reshape(-1) - 1 for mask in masks])
    correlations = signs @ signs.T / (m * n)
    assert (np.abs(correlations - np.eye(len(masks))) < 5 / np.sqrt(m * n)).all()
    again = kept(0.5, m, n, seed=0, step=1)
    np.testing.assert_array_equal(again, masks[1])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_the_kept_share_is_1_minus_rate_everywhere(engine, rate):
    """In all, in each column and in each row, to 5 sigma."""
    mask = kept(rate, 400, 300)
    sigma = np.sqrt(rate * (1 - rate))
    for axis, count in ((None, 120_000), (0, 400), (1, 300)):
        shares = mask.mean(axis=axis)
        assert (np.abs(shares - (1 - rate)) < 5 * sigma / np.sqrt(count)).all()
    centred = mask - mask.mean()
    for shift in ((0, 1), (0, 16), (0, 32), (0, 64), (1, 0)):
        products = centred * np.roll(centred, shift, (0, 1))
        assert abs(products.mean()) < 5 * sigma**2 / np.sqrt(mask.size)


def test_noise_is_normal(engine):
    """Mean, variance, third and fourth moment to 5 sigma."""
    z = outputs(GaussianNoise(2.0), np.zeros((400, 300)), "float64", seed=6) / 2
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - mean) < 5 * np.sqrt(variance / z.size)
    for axis in (0, 1):
        means, variances = z.mean(axis=axis), z.var(axis=axis)
        count = z.shape[axis]
        assert (np.abs(means) < 5 / np.sqrt(count)).all()
        assert (np.abs(variances - 1) < 5 * np.sqrt(2 / count)).all()


@pytest.mark.parametrize("scale_at", ["train", "test"])
def test_the_expectation_in_training_is_the_prediction(engine, scale_at):
    """Of a linear network, over many rows that are all the same, to 5 sigma."""
    row, m = naive_rows(1, 6), 40_000
    layers = [Dense(8), Dropout(0.3, scale_at), GaussianNoise(0.2), Dense(2)]
    net = Sequential(layers, n_inputs=6, seed=2, dtype="float64")
    weights = net.parameters()
    x = np.repeat(row @ weights["0.W"] + weights["0.b"], m, axis=0)
    found = outputs(GaussianNoise(0.2), x, "float64", below=[Dropout(0.3, scale_at)])
    values = found @ weights["3.W"] + weights["3.b"]
    expected, sigma = net.logits(row), values.std(axis=0) / np.sqrt(m)
    assert (np.abs(values.mean(axis=0) - expected) < 5 * sigma).all()


def plain_and_stochastic(dtype, **arguments):
    plain = [Dense(9, "relu"), Residual([Dense(9, "tanh")]), Dense(3)]
    inner = Residual([GaussianNoise(0.5), Dense(9, "tanh"), Dropout(0.5)])
    layers = [GaussianNoise(0.3), Dense(9, "relu"), Dropout(Linear(0.9, 0.1, 9)), inner]
    layers += [GaussianNoise(0.3), Dropout(0.2), Dense(3)]
    nets = [Sequential(found, n_inputs=7, dtype=dtype, **arguments) for found in (plain, layers)]
    nets[1].flat_params = nets[0].flat_params
    return nets


@pytest.mark.parametrize("dtype", DTYPES)
def test_predictions_are_those_of_the_network_without_them(engine, dtype):
    plain, net = plain_and_stochastic(dtype)
    np.testing.assert_array_equal(net.logits(X), plain.logits(X))
    for n in (plain, net):  # so that there is a loss, and labels
        before = n.flat_params.copy()
        n.fit(X, Y, optimizer=Adam(1e-3), epochs=1, validation_data=(X, Y), progress=False)
        n.flat_params = before
    assert net.evaluate(X, Y) == plain.evaluate(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))
    table = net.plan.prediction.ops
    assert len(table) == len(plain.plan.prediction.ops)
    assert (table["x"] == INPUT).sum() == 1


def test_scaling_at_test_is_a_factor_in_predictions(engine):
    net = Sequential([Dropout(0.25, "test"), Dense(3)], n_inputs=7, dtype="float64")
    plain = Sequential([Dense(3)], n_inputs=7, dtype="float64")
    plain.flat_params = net.flat_params
    np.testing.assert_array_equal(net.logits(X), plain.logits(0.75 * X.astype(float)))


def stochastic(**arguments):
    layers = [GaussianNoise(0.1), Dense(8, "relu"), Dropout(Linear(0.6, 0.1, 12))]
    return Sequential([*layers, Residual([Dropout(0.3), Dense(8)]), Dense(3)], **arguments)


def fit(net, epochs=10, **arguments):
    net.fit(
        X, Y, optimizer=Adam(0.01), epochs=epochs, batch_size=40, progress=False, **arguments
    )  # fmt: skip
    return net.flat_params


def test_a_resumed_fit_continues_its_numbers(engine):
    whole, halves = stochastic(), stochastic()
    expected = fit(whole).copy()
    fit(halves, 5)
    np.testing.assert_array_equal(fit(halves, 5), expected)
    first = stochastic()
    fit(first, 5)
    assert not np.array_equal(first.flat_params, expected)


def test_equal_seeds_train_alike_and_others_do_not(compiled, monkeypatch):
    expected = fit(stochastic(seed=1)).copy()
    for threads in (1, 2):
        monkeypatch.setenv("FASTNN_NUM_THREADS", str(threads))
        np.testing.assert_array_equal(fit(stochastic(seed=1)), expected)
    start = stochastic(seed=1, n_inputs=7).flat_params
    other = stochastic(seed=2, n_inputs=7)
    other.flat_params = start
    assert not np.array_equal(fit(other, shuffle=False), fit(stochastic(seed=1), shuffle=False))


def test_a_fit_draws_anew_at_every_step(engine):
    """A step that moves nothing shows its masks in its loss: all differ."""
    net = Sequential([Dropout(0.5), Dense(1)], n_inputs=7, dtype="float64", seed=3)
    targets = np.zeros((len(X), 1))
    history = net.fit(X, targets, loss="mse", optimizer=fastnn.SGD(1e-300), epochs=6,
                      batch_size=None, shuffle=False, progress=False)  # fmt: skip
    expected = [net.loss_and_grad(X, targets, "mse", step=step)[0] for step in range(6)]
    assert history["loss"] == pytest.approx(expected, rel=1e-13)
    assert len(set(expected)) == 6


def test_a_schedule_sets_the_rate_of_each_step(engine):
    """The words of a step do not depend on the rate: a higher one drops more of the same."""
    schedule = Linear(0.8, 0.2, 6)
    for step in (0, 1, 3, 6, 100):
        rate = 0.8 - 0.6 * min(step / 6, 1)
        found = outputs(Dropout(schedule), np.ones((60, 50)), "float64", step=step)
        fixed = outputs(Dropout(rate), np.ones((60, 50)), "float64", step=step)
        np.testing.assert_allclose(found, fixed, rtol=1e-15)
    twice = [Dropout(schedule), Dense(5), Dropout(lambda step: 0.1 * (step % 3)), Dense(1)]
    net = Sequential(twice, n_inputs=7, dtype="float64")
    for step in range(4):
        rates = schedule.values(step, 1)[0], 0.1 * (step % 3)
        same = Sequential([Dropout(rates[0]), Dense(5), Dropout(rates[1]), Dense(1)], n_inputs=7,
                          dtype="float64")  # fmt: skip
        losses_of_both = [n.loss_and_grad(X, Y, "mse", step=step)[0] for n in (net, same)]
        assert losses_of_both[0] == losses_of_both[1]


def test_gradients_with_their_masks_held(engine):
    net = Sequential(
        [GaussianNoise(0.2), Dense(5, "tanh"), Dropout(0.4), Residual([Dropout(0.3, "test")]),
         Dense(3)], n_inputs=7, dtype="float64",
    )  # fmt: skip
    assert fastnn.check_gradients(net, X[:6], Y[:6], loss="cross_entropy") < 1e-6


# -- schedules --------------------------------------------------------------------------------


def test_a_linear_schedule():
    schedule = Linear(0.5, 0.1, 4)
    values = schedule.values(0, 8)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, [0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1], rtol=1e-15)
    assert (values[4:] == 0.1).all()
    np.testing.assert_array_equal(schedule.values(3, 4), values[3:7])
    assert (Linear(0.3, 0.3, 7).values(0, 9) == 0.3).all()
    assert schedule == Linear(0.5, 0.1, 4) != Linear(0.5, 0.1, 5)
    assert repr(schedule) == "Linear(0.5, 0.1, 4)"
    assert schedules.from_config(schedule.config()) == schedule
    assert repr(Dropout(schedule)) == "Dropout(Linear(0.5, 0.1, 4))"


def half(step):
    return 0.5


def test_a_function_as_a_schedule(tmp_path):
    net = Sequential([Dense(4), Dropout(half), Dense(3)])
    fit(net, 1)
    with pytest.raises(TypeError, match=r"cannot be written.*fastnn\.schedules"):
        net.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
    for twin in (net.copy(), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(twin.predict(X), net.predict(X))
        assert twin.layers[1].rate == net.layers[1].rate
    same = Sequential([Dense(4), Dropout(0.5), Dense(3)])
    np.testing.assert_array_equal(fit(same, 1), net.flat_params)
    assert "half" in repr(net)


BAD_RATES = {
    "above": (lambda step: 0.3 * step, "1.2 in step 4"),
    "one": (lambda step: float(step == 4), "1.0 in step 4"),
    "below": (lambda step: 0.5 - 0.25 * (step == 4) * 4, "-0.5 in step 4"),
    "NaN": (lambda step: np.nan if step == 4 else 0.5, "step 4 must be finite, not nan"),
    "None": (lambda step: None if step == 4 else 0.5, "step 4 must be a number, not None"),
    "text": (lambda step: "half" if step == 4 else 0.5, "step 4 must be a number, not 'half'"),
}


@pytest.mark.parametrize("name", BAD_RATES)
def test_a_rate_that_is_none_ends_the_fit_before_its_epoch(engine, name):
    """150 rows in batches of 40 are 4 steps an epoch: step 4 is the first of the second one."""
    rate, message = BAD_RATES[name]
    net = Sequential([Dense(4), Residual([Dropout(rate)]), Dense(3)])
    with pytest.raises(ValueError, match=message) as caught:
        fit(net, 3)
    assert name in ("NaN", "None", "text") or "layer 1.0" in str(caught.value)
    assert len(net.history["loss"]) == 1
    fine = Sequential(
        [Dense(4), Residual([Dropout(lambda step: rate(min(step, 3)))]), Dense(3)]
    )  # fmt: skip
    np.testing.assert_array_equal(fit(fine, 1), net.flat_params)


def test_a_rate_that_is_none_from_the_start_changes_nothing():
    net = Sequential([Dense(4), Dropout(lambda step: 2.0), Dense(3)])
    with pytest.raises(ValueError, match=r"layer 1 must .* 2\.0 in step 0"):
        fit(net, 1)
    with pytest.raises(fastnn.errors.NotFittedError):
        net.predict(X)


class Wrong(schedules.Schedule):
    def values(self, first_step, count):
        return np.zeros(count + 1)


def test_a_schedule_of_ones_own():
    class Half(schedules.Schedule):
        def values(self, first_step, count):
            return np.full(count, 0.5)

    net = Sequential([Dense(4), Dropout(Half()), Dense(3)])
    np.testing.assert_array_equal(
        fit(net, 1), fit(Sequential([Dense(4), Dropout(0.5), Dense(3)]), 1)
    )
    with pytest.raises(TypeError, match=r"Half cannot be written.*fastnn\.schedules"):
        net.config()
    with pytest.raises(ValueError, match=r"layer 1, .*\(5,\) values for 4 steps"):
        fit(Sequential([Dense(4), Dropout(Wrong()), Dense(3)]))


def test_another_optimizer_draws_further_masks(engine):
    """The optimizer's own count of steps begins anew, the masks and the schedules do not."""
    X, y = table()
    seen = []

    def rate(step):
        seen.append(step)
        return 0.5

    net = Sequential([Dropout(rate), Dense(3)], n_inputs=X.shape[1])
    for optimizer in (SGD(0.1), Adam(0.01)):
        net.fit(X, y, optimizer=optimizer, epochs=2, batch_size=30, progress=False)
    assert sorted(set(seen)) == list(range(16))
    assert (net.training_state.step, net.training_state.total_steps) == (8, 16)
