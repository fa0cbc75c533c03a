"""The numbers and the claims of the study notes."""

import math

import numpy as np
import pytest
from conftest import table

import fastnn
from fastnn import SGD, Activation, Adam, Dense, Sequential, activations
from fastnn.initializers import Normal
from fastnn.losses import CrossEntropy

SQUARE = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
GATES = {"and": [0, 0, 0, 1], "or": [0, 1, 1, 1], "nand": [1, 1, 1, 0],
         "xor": [0, 1, 1, 0], "xnor": [1, 0, 0, 1]}  # fmt: skip


def test_the_three_layer_network_of_004(engine):
    layers = [Dense(3, "sigmoid"), Dense(2, "sigmoid"), Dense(2)]
    net = Sequential(layers, n_inputs=2, dtype="float64")
    values = {
        "0.W": [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]], "0.b": [0.1, 0.2, 0.3],
        "1.W": [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], "1.b": [0.1, 0.2],
        "2.W": [[0.1, 0.3], [0.2, 0.4]], "2.b": [0.1, 0.2],
    }  # fmt: skip
    for name, view in net.parameters().items():
        view[:] = values[name]
    for output in (net.predict([[1.0, 0.5]]), net.logits([[1.0, 0.5]])):
        np.testing.assert_allclose(output, [[0.31682708, 0.69627909]], atol=5e-9)


def test_softmax_of_003():
    np.testing.assert_array_equal(fastnn.softmax([1, 2, 0]).round(2), [0.24, 0.67, 0.09])
    rows = np.array([[1, 2, 0], [-1, 0, 1], [-10, 0, 10]])
    np.testing.assert_array_equal(
        fastnn.one_hot(fastnn.from_one_hot(rows), 3),
        fastnn.one_hot(fastnn.from_one_hot(fastnn.softmax(rows)), 3),
    )
    np.testing.assert_allclose(fastnn.softmax(rows, axis=0).sum(axis=0), 1)
    big = np.array([[1e4, -1e4, 0.0]])
    np.testing.assert_array_equal(fastnn.softmax(big), [[1, 0, 0]])


def test_layer_dims_of_001():
    n_x = 5
    net = Sequential([Dense(4), Dense(3), Dense(2), Dense(1)], n_inputs=n_x)
    shapes = [view.shape for name, view in net.parameters().items() if name.endswith("W")]
    assert shapes == [(n_x, 4), (4, 3), (3, 2), (2, 1)]


def test_one_unit_learns_and_or_nand():
    for gate in ("and", "or", "nand"):
        for seed in range(5):
            net = Sequential([Dense(1)], seed=seed)
            net.fit(SQUARE, GATES[gate], optimizer=Adam(0.1), epochs=200, batch_size=4,
                    progress=False)  # fmt: skip
            np.testing.assert_array_equal(net.predict(SQUARE), GATES[gate])


@pytest.mark.parametrize("gate", ["xor", "xnor"])
def test_two_and_four_hidden_units_learn_xor_from_random_weights(gate):
    for hidden, act, batch_size in ((2, "mish", 1), (4, "tanh", 4)):
        for seed in range(5):
            net = Sequential([Dense(hidden, act), Dense(1)], seed=seed)
            net.fit(SQUARE, GATES[gate], optimizer=Adam(0.1), epochs=600, batch_size=batch_size,
                    progress=False)  # fmt: skip
            assert net.predict(SQUARE).tolist() == GATES[gate], (hidden, seed)


@pytest.mark.parametrize("gate", ["xor", "xnor"])
def test_no_network_without_hidden_layer_learns_xor(gate):
    for seed in range(5):
        net = Sequential([Dense(1)], seed=seed)
        net.fit(SQUARE, GATES[gate], optimizer=Adam(0.1), epochs=300, batch_size=4, progress=False)
        assert net.evaluate(SQUARE, GATES[gate])["accuracy"] <= 0.75
        assert net.history["loss"][-1] == pytest.approx(math.log(2), abs=1e-3)


def test_a_perceptron_with_steps_computes_xor_but_cannot_train():
    net = Sequential([Dense(2, "step"), Dense(1, "step")], n_inputs=2)
    views = net.parameters()
    views["0.W"][:], views["0.b"][:] = [[1, -1], [1, -1]], [-0.5, 1.5]  # OR and NAND
    views["1.W"][:], views["1.b"][:] = [[1], [1]], [-1.5]  # AND of the two
    np.testing.assert_array_equal(net.predict(SQUARE)[:, 0], GATES["xor"])
    _, gradient = net.loss_and_grad(SQUARE, np.array(GATES["and"], float), loss="mse")
    assert not gradient.any()


def test_without_activations_a_deep_network_is_a_linear_one(engine):
    X, _ = table(30)
    net = Sequential([Dense(6), Dense(5), Dense(2)], n_inputs=7, dtype="float64")
    views = net.parameters()
    w = views["0.W"] @ views["1.W"] @ views["2.W"]
    np.testing.assert_allclose(net.logits(X), X @ w, rtol=1e-10)


@pytest.mark.parametrize("act", ["tanh", "sigmoid"])
def test_hidden_units_that_start_alike_stay_alike(engine, act):
    X, y = table()
    net = Sequential([Dense(5, act, init="zeros"), Dense(3, init="zeros")])
    net.fit(X, y, optimizer=Adam(0.01), epochs=5, progress=False)
    w, v = net.parameters()["0.W"], net.parameters()["1.W"]
    np.testing.assert_array_equal(w, np.repeat(w[:, :1], 5, axis=1))
    np.testing.assert_array_equal(v, np.repeat(v[:1], 5, axis=0))
    assert v.any() == (act == "sigmoid")  # tanh(0) = 0 leaves nothing to learn from at all


def test_zero_biases_do_no_harm(engine):
    X, y = table(300)
    net = Sequential([Dense(8, "relu", bias_init=0.0), Dense(3)])
    net.fit(X, y, optimizer=Adam(0.01), epochs=15, progress=False)
    assert net.evaluate(X, y)["accuracy"] > 0.95


@pytest.mark.parametrize("n", [2, 10, 100])
def test_the_first_loss_is_log_n_and_rises_with_penalties(engine, n):
    X = np.random.default_rng(0).normal(size=(500, 20))
    y = np.arange(500) % n
    losses = []
    for l1, l2 in ((0, 0), (0, 0.01), (0.01, 0.01)):
        layers = [Dense(30, "relu", l1=l1, l2=l2), Dense(n, init=Normal(0.01), l1=l1, l2=l2)]
        net = Sequential(layers, n_inputs=20)
        losses.append(net.loss_and_grad(X, y, loss="cross_entropy")[0])
    assert abs(losses[0] - math.log(n)) < 0.1
    assert losses[0] < losses[1] < losses[2]


def test_small_weights_shrink_and_large_ones_saturate_a_deep_tanh_network():
    """The histograms of 002: standard deviations 0.01, 1 and Xavier's."""
    X = np.random.default_rng(0).normal(size=(300, 100))
    spread = {}
    for name, init in (("0.01", Normal(0.01)), ("1", Normal(1.0)), ("xavier", "xavier_normal")):
        net = Sequential([*[Dense(100, "tanh", init=init) for _ in range(8)], Dense(1)],
                         n_inputs=100)  # fmt: skip
        a = net.trace(X)["7.a"]
        spread[name] = a.std(), (np.abs(a) > 0.99).mean()
    assert spread["0.01"][0] < 1e-5
    assert spread["1"][1] > 0.7
    assert 0.1 < spread["xavier"][0] < 0.9
    assert spread["xavier"][1] < 0.01


def test_he_keeps_the_signal_of_a_deep_relu_network_and_xavier_loses_it():
    X = np.random.default_rng(0).normal(size=(300, 200))
    spread = {}
    for init in ("he_normal", "xavier_normal"):
        net = Sequential([*[Dense(200, "relu", init=init) for _ in range(10)], Dense(1)],
                         n_inputs=200)  # fmt: skip
        spread[init] = net.trace(X)["9.a"].std()
    assert 0.3 < spread["he_normal"] < 3
    assert spread["xavier_normal"] < 0.1


def test_the_gradient_of_a_batch_is_the_mean_of_its_rows(engine):
    X, y = table(9)
    for loss, weight in (("cross_entropy", 1 / 9), ("mse", 1 / 9), ("sse", 1.0)):
        net = Sequential([Dense(4, "tanh"), Dense(3)], n_inputs=7, dtype="float64")
        whole = net.loss_and_grad(X, y, loss=loss)[1]
        rows = [net.loss_and_grad(X[i : i + 1], y[i : i + 1], loss=loss)[1] for i in range(9)]
        np.testing.assert_allclose(whole, weight * np.sum(rows, axis=0), rtol=1e-10, atol=1e-12)


def test_a_softmax_is_never_applied_twice(engine):
    X, y = table()
    plain = Sequential([Dense(4, "tanh"), Dense(3)], seed=1)
    plain.fit(X, y, epochs=2, progress=False)
    for last in ([Dense(3, "softmax")], [Dense(3), Activation("softmax")]):
        net = Sequential([Dense(4, "tanh"), *last], seed=1)
        net.fit(X, y, epochs=2, progress=False)
        np.testing.assert_array_equal(net.flat_params, plain.flat_params)
        np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))
        np.testing.assert_array_equal(net.logits(X), plain.logits(X))
    twice = Sequential([Dense(3, "softmax"), Activation("softmax")])
    with pytest.raises(ValueError, match=r"applies softmax .* itself"):
        twice.fit(X, y, progress=False)
    with pytest.raises(ValueError, match=r"applies sigmoid .* itself"):
        Sequential([Dense(3, "softmax")]).fit(X, y, loss="binary_cross_entropy", progress=False)


@pytest.mark.parametrize("last", ["identity", "sigmoid", "softmax"])
def test_logits_as_large_as_ten_thousand(engine, last):
    net = Sequential([Dense(2, last)], n_inputs=1)
    net.flat_params[:] = [1e4, -1e4, 0, 0]
    X = [[1.0], [-1.0], [0.0]]
    loss = "binary_cross_entropy" if last == "sigmoid" else "cross_entropy"
    value, gradient = net.loss_and_grad(X, [0, 1, 0], loss=loss)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    wrong, gradient = net.loss_and_grad(X, [1, 0, 0], loss=loss)
    assert 1e4 / 2 < wrong < 5e4
    assert np.isfinite(gradient).all()


def test_batch_stochastic_and_minibatch_descent(engine):
    X, y = table()
    for batch_size, steps in ((None, 1), (1, 120), (32, 4)):
        net = Sequential([Dense(4, "tanh"), Dense(3)])
        net.fit(X, y, optimizer=SGD(0.05), epochs=3, batch_size=batch_size, progress=False)
        assert net._state.step == 3 * steps
        assert net.history["loss"][-1] < net.history["loss"][0]


def test_one_against_the_rest_with_sigmoids_on_integer_labels(engine):
    X, y = table(300)
    net = Sequential([Dense(8, "tanh"), Dense(3, "sigmoid")])
    net.fit(X, y, loss="binary_cross_entropy", optimizer=Adam(0.01), epochs=25, progress=False)
    p = net.predict_proba(X)
    assert net.evaluate(X, y)["accuracy"] == (p.argmax(axis=1) == y).mean() > 0.95
    assert not np.allclose(p.sum(axis=1), 1, atol=1e-3)


def test_label_smoothing_keeps_the_network_from_certainty(engine):
    X, y = table(200)
    largest = []
    for loss in ("cross_entropy", CrossEntropy(0.2)):
        net = Sequential([Dense(16, "relu"), Dense(3)])
        net.fit(X, y, loss=loss, optimizer=Adam(0.02), epochs=60, progress=False)
        largest.append(net.predict_proba(X).max(axis=1).mean())
    assert largest[1] < 0.95 < largest[0]
    assert largest[1] == pytest.approx(1 - 0.2 + 0.2 / 3, abs=0.03)


def test_sample_weights_count_like_repeated_rows(engine):
    X, y = table(40)
    weights = np.arange(40) % 3
    repeated = np.repeat(np.arange(40), weights)
    for loss in ("cross_entropy", "mse", "sse"):
        net = Sequential([Dense(4, "tanh"), Dense(3)], n_inputs=7, dtype="float64")
        a = net.loss_and_grad(X, y, loss=loss, sample_weight=weights)
        b = net.loss_and_grad(X[repeated], y[repeated], loss=loss)
        assert a[0] == pytest.approx(b[0], rel=1e-12)
        np.testing.assert_allclose(a[1], b[1], rtol=1e-9, atol=1e-13)


def test_weights_are_shuffled_with_their_rows(engine):
    """Rows of weight 0 must not matter, in whatever order they come."""
    X, y = table(60)
    other = np.where(np.arange(60)[:, None] % 2, X, 1e3)
    weights = np.arange(60) % 2
    runs = []
    for rows in (X, other):
        net = Sequential([Dense(4, "tanh"), Dense(3)])
        net.fit(rows, y, sample_weight=weights, epochs=3, batch_size=7, progress=False)
        runs.append(net.flat_params.copy())
    np.testing.assert_array_equal(*runs)


def test_penalties_shrink_weights_and_l1_makes_zeros_of_them():
    X, y = table(200, n_inputs=10)
    sizes = {}
    for name, l1, l2 in (("none", 0, 0), ("l1", 0.02, 0), ("l2", 0, 0.05)):
        net = Sequential([Dense(8, "tanh", l1=l1, l2=l2), Dense(3, l1=l1, l2=l2)])
        net.fit(X, y, optimizer=Adam(0.005), epochs=150, progress=False)
        w = net.parameters()["0.W"]
        sizes[name] = np.abs(w).sum(), (np.abs(w) < 1e-2).mean()
    assert sizes["l1"][0] < sizes["none"][0]
    assert sizes["l2"][0] < sizes["none"][0]
    assert sizes["l1"][1] > sizes["l2"][1] > sizes["none"][1] - 0.05


def test_penalties_for_all_layers_add_to_their_own(engine, tmp_path):
    X, y = table(20)
    for_all = Sequential([Dense(4, "tanh", l1=0.01), Dense(3)], n_inputs=7, l1=0.02, l2=0.03)
    each = Sequential([Dense(4, "tanh", l1=0.03, l2=0.03), Dense(3, l1=0.02, l2=0.03)], n_inputs=7)
    plain = Sequential([Dense(4, "tanh"), Dense(3)], n_inputs=7)
    loss, gradient = for_all.loss_and_grad(X, y)
    assert loss == each.loss_and_grad(X, y)[0] > plain.loss_and_grad(X, y)[0]
    np.testing.assert_array_equal(gradient, each.loss_and_grad(X, y)[1])
    assert fastnn.check_gradients(for_all, X, y) < 1e-6
    for_all.save(tmp_path / "m")
    back = fastnn.load(tmp_path / "m")
    assert repr(back) == repr(for_all)
    assert back.loss_and_grad(X, y)[0] == loss


def test_identities_between_activations():
    z = np.linspace(-8, 8, 1001)
    s, t = activations.sigmoid, activations.tanh
    np.testing.assert_allclose(s.derivative(z), s(z) * s(-z), rtol=1e-12)
    np.testing.assert_allclose(t(z), 2 * s(2 * z) - 1, atol=1e-15)
    np.testing.assert_allclose(activations.softplus.derivative(z), s(z), rtol=1e-12)
    np.testing.assert_allclose(activations.silu(z), z * s(z), rtol=1e-12)
    assert activations.step(0.0) == 0
    assert activations.relu.derivative(0.0) == 0
    assert s(np.array([-1e4, 1e4])).tolist() == [0.0, 1.0]
