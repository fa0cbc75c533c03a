"""What the study notes claim about data: centring, scaling, batches and their order.

Numbers of lines are those of the notes' second file, the survey, unless another one is named.
"""

import numpy as np
import pytest

from fastnn import SGD, Activation, Adam, BatchNorm, Dense, Sequential
from fastnn.data import load_digits, stratified_split
from fastnn.errors import DivergedError
from fastnn.initializers import Constant

RATES = (2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 1e-4, 1e-5)


def line(n_inputs: int) -> Sequential:
    """One linear neuron that begins with zeros."""
    layers = [Dense(1, init=Constant(0.0))]
    return Sequential(layers, n_inputs=n_inputs, seed=0, dtype="float64")


def steps_to(X, y, loss: float, most: int = 2000) -> int:
    """Steps of gradient descent on all rows to a loss, with the best of the learning rates."""
    fewest = most
    for rate in RATES:
        net = line(X.shape[1])
        try:
            history = net.fit(
                X, y, "mse", SGD(rate), fewest, batch_size=None, shuffle=False, progress=False
            )
        except DivergedError:
            continue
        reached = np.flatnonzero(np.array(history["loss"]) <= loss)
        fewest = int(reached[0]) if len(reached) else fewest
    return fewest


def signs(gradient) -> set[float]:
    return set(np.sign(gradient).ravel().tolist())


def digits():
    """Training rows and test rows, pixels from 0 to 1."""
    X, y = load_digits()
    train, test = stratified_split(y)
    return X[train] / 16, y[train], X[test] / 16, y[test]


# -- zero-centring (lines 146 to 150) -----------------------------------------------------------


def test_with_positive_inputs_all_weights_of_a_neuron_go_one_way():
    """Line 150: the gradient of a neuron's weights is all positive or all negative."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(0.1, 1.0, (30, 5)), rng.integers(0, 3, 30)
    net = Sequential([Dense(4, "tanh"), Dense(3)], n_inputs=5, seed=0, dtype="float64")
    seen = set()
    for row, label in zip(X, y, strict=True):
        for neuron in net.trace(row[None], [label], loss="cross_entropy")["0.dW"].T:
            assert len(signs(neuron)) == 1
            seen |= signs(neuron)
    assert seen == {-1.0, 1.0}
    mixed = 0
    for row, label in zip(X - X.mean(axis=0), y, strict=True):
        gradient = net.trace(row[None], [label], loss="cross_entropy")["0.dW"]
        mixed += sum(len(signs(neuron)) == 2 for neuron in gradient.T)
    assert mixed > 0.8 * 4 * len(X)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_after_a_sigmoid_the_next_layer_has_positive_inputs(activation):
    """Line 150: outputs of sigmoid are the positive inputs of the next layer; tanh has both signs.

    Of tanh file 000, line 109: its mean is near 0, which makes the next layer's work easier.
    """
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((20, 5)), rng.standard_normal(20)
    net = Sequential([Dense(6, activation), Dense(1)], n_inputs=5, seed=0, dtype="float64")
    one_way = 0
    for row, value in zip(X, y, strict=True):
        gradient = net.trace(row[None], [value], loss="mse")["1.dW"]
        one_way += len(signs(gradient[:, 0])) == 1
    assert one_way == 20 if activation == "sigmoid" else one_way < 5


def path(X, y, rate: float, epochs: int) -> np.ndarray:
    """The weights after each step of stochastic descent, one row at a time."""
    net = line(X.shape[1])
    places = [net.flat_params[:-1].copy()]
    for _ in range(epochs):
        for row, value in zip(X, y, strict=True):
            _, gradient = net.loss_and_grad(row[None], [value], loss="mse")
            net.flat_params -= rate * gradient
            places.append(net.flat_params[:-1].copy())
    return np.array(places)


def test_the_path_of_positive_inputs_is_a_zigzag():
    """Line 150: steps lead into the first and the third quadrant only, so the path is longer.

    The weights sought, (1, -1), lie in neither.
    """
    rng = np.random.default_rng(2)
    X = rng.uniform(1.0, 3.0, (50, 2))
    y = X @ [1.0, -1.0]
    lengths = []
    for rows in (X, X - X.mean(axis=0)):
        places = path(rows, y, rate=0.05, epochs=20)
        assert np.linalg.norm(places[-1] - [1, -1]) < 0.1
        steps = np.diff(places[:40], axis=0)
        lengths.append(np.linalg.norm(np.diff(places, axis=0), axis=1).sum() / np.sqrt(2))
        one_way = (steps[:, 0] * steps[:, 1] >= 0).mean()
        assert one_way == 1 if rows is X else one_way < 0.7
    assert lengths[0] > 2 * lengths[1]


def test_centred_inputs_need_fewer_steps():
    """Line 150: it does not miss the optimum, it is slow. Line 317: centring is the usual cure."""
    rng = np.random.default_rng(3)
    X = rng.uniform(1.0, 3.0, (100, 4))
    y = X @ [1.0, -1.0, 2.0, -2.0] + 0.5
    raw, centred = steps_to(X, y, 1e-4), steps_to(X - X.mean(axis=0), y, 1e-4)
    assert raw < 2000
    assert centred < raw / 5


def test_test_rows_get_the_means_of_the_training_rows():
    """Line 320: a model that was trained on centred rows is wrong on rows that are not."""
    X, y, X_test, y_test = digits()
    mean = X.mean(axis=0)
    net = Sequential([Dense(32, "relu"), Dense(10)], seed=0)
    net.fit(X - mean, y, epochs=10, progress=False)
    right = net.evaluate(X_test - mean, y_test)["accuracy"]
    assert right > 0.9
    assert net.evaluate(X_test, y_test)["accuracy"] < right - 0.05


# -- scaling (lines 317 to 323) -----------------------------------------------------------------


def test_columns_of_one_scale_need_fewer_steps():
    """Line 317: mean 0 and standard deviation 1 is the usual preparation of data."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((100, 3)) * [1.0, 10.0, 100.0]
    y = X @ [1.0, 0.1, 0.01]
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    few, many = steps_to(scaled, y, 1e-3), steps_to(X, y, 1e-3)
    assert few < 50
    assert many == 2000


def test_pixels_from_0_to_1_train_where_raw_ones_do_not():
    """Line 323: pixels are divided by their largest value, as with MNIST's 255."""
    X, y, X_test, y_test = digits()
    found = []
    for largest in (1, 255):
        net = Sequential([Dense(32, "sigmoid"), Dense(10)], seed=0)
        net.fit(largest * X, y, optimizer=SGD(0.5), epochs=10, progress=False)
        found.append(net.evaluate(largest * X_test, y_test)["accuracy"])
    assert found[0] > 0.9
    assert found[1] < found[0] - 0.1


# -- batch normalisation and the size of a batch (lines 299 and 338) ----------------------------


def accuracy(batch_size: int, normalized: bool) -> float:
    """Of the test digits after 5 epochs, the mean of three seeds."""
    X, y, X_test, y_test = digits()
    found = []
    for seed in range(3):
        middle = [BatchNorm()] if normalized else []
        layers = [Dense(32), *middle, Activation("relu"), Dense(10)]
        net = Sequential(layers, seed=seed)
        net.fit(X, y, optimizer=Adam(0.003), epochs=5, batch_size=batch_size, progress=False)
        found.append(net.evaluate(X_test, y_test)["accuracy"])
    return float(np.mean(found))


def test_batch_norm_needs_batches_of_some_size():
    """Lines 299, 338: with few rows the batch's mean and variance are noise, and it harms."""
    assert accuracy(32, True) > accuracy(32, False)
    assert accuracy(2, True) < accuracy(2, False) - 0.03


def test_statistics_of_a_batch_scatter_as_it_gets_smaller():
    """Line 299: the fewer samples, the larger the variance of their mean."""
    X, y, *_ = digits()
    spreads = []
    for batch_size in (4, 64):
        means = []
        for seed in range(20):
            rows = np.random.default_rng(seed).permutation(len(X))[:batch_size]
            net = Sequential([Dense(8), BatchNorm(momentum=0.0), Dense(10)], seed=0)
            net.fit(X[rows], y[rows], epochs=1, batch_size=batch_size, progress=False)
            means.append(net.state_dict()["1.running_mean"])  # momentum 0: of the last batch alone
        spreads.append(np.var(means, axis=0).mean())
    assert spreads[0] > 8 * spreads[1]  # 16, as 1 / batch size


# -- the order of the rows (lines 716 to 722) ---------------------------------------------------


def test_sorted_rows_must_be_shuffled():
    """Lines 716 to 722: taking rows as they come saves drawing them, but rows that are sorted by
    their class teach one class after another, and what was last is remembered best."""
    X, y, X_test, y_test = digits()
    order = np.argsort(y, kind="stable")
    found = {}
    for shuffle in (True, False):
        net = Sequential([Dense(32, "relu"), Dense(10)], seed=0)
        net.fit(X[order], y[order], epochs=10, shuffle=shuffle, progress=False)
        found[shuffle] = net.evaluate(X_test, y_test)["accuracy"]
        if not shuffle:
            counts = np.bincount(net.predict(X_test), minlength=10)
            assert counts[9] > counts[:5].mean()
    assert found[True] > 0.9
    assert found[False] < found[True] - 0.1


def test_rows_in_random_order_need_no_shuffle():
    """Line 720: the first n rows, then the next n, and so on, serve if their order says nothing."""
    X, y, X_test, y_test = digits()  # the split has shuffled them
    net = Sequential([Dense(32, "relu"), Dense(10)], seed=0)
    net.fit(X, y, epochs=10, shuffle=False, progress=False)
    assert net.evaluate(X_test, y_test)["accuracy"] > 0.9
