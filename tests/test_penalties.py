"""Penalties per row, as scikit-learn's MLP counts them, and the squared error that goes with it."""

import re

import naive
import numpy as np
import pytest
from cases import Case, flat, relative_error
from conftest import DTYPES, ENGINES

import fastnn
from fastnn import SGD, Dense, Sequential, run
from fastnn.losses import SquaredError

PENALISED = (
    naive.Dense(6, "tanh", l1=0.3),
    naive.Residual((naive.Dense(4, l2=0.5),)),
    naive.Dense(2),
)
PLAIN = (naive.Dense(6, "tanh"), naive.Residual((naive.Dense(4),)), naive.Dense(2))
L1, L2, LR = 0.2, 0.1, 1e-2


def network(case, dtype="float64"):
    net = Sequential(
        case.network(dtype).layers, n_inputs=5, dtype=dtype, l1=L1, l2=L2, penalties="per_row"
    )
    net.flat_params = case.network(dtype).flat_params
    return net


def batch_of(case, p, rows, weights):
    """(cost, gradients) of a minibatch whose penalties are one more row of weight 1."""
    batch = PLAIN, case.loss, case.X[rows], case.T[rows], weights[rows]
    divisor = 1 if case.loss == "sse" else weights[rows].sum()
    penalty, of_weights = naive.penalties(PENALISED, naive.as_lists(p), L1, L2)
    found = naive.gradients(p, *batch)
    for name, value in of_weights.items():
        found[name] = found[name] + np.array(value) / divisor
    return naive.cost(p, *batch) + penalty / divisor, found


@pytest.mark.quick
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["sse", "mse", "cross_entropy", "squared_error"])
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_penalties_count_like_a_row_of_every_minibatch(engine, loss, weighted):
    case = Case(5, PENALISED, loss, 23, seed=3, l1=L1, l2=L2)
    net, p = network(case), {name: np.array(value) for name, value in case.values.items()}
    weights = np.linspace(0.5, 2.0, case.m) if weighted else np.ones(case.m)
    sums = []
    for start in range(0, case.m, 5):
        rows = slice(start, start + 5)
        cost, found = batch_of(case, p, rows, weights)
        sums.append(cost * (1 if loss == "sse" else weights[rows].sum()))
        p = {name: p[name] - LR * found[name] for name in p}
    history = net.fit(
        case.X, case.T, loss=loss, optimizer=SGD(LR), epochs=1, batch_size=5, shuffle=False,
        sample_weight=weights if weighted else None, progress=False,
    )  # fmt: skip
    assert relative_error(net.flat_params, flat(net, p)) < 1e-13
    expected = sum(sums) / (1 if loss == "sse" else weights.sum())
    assert history["loss"][0] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("loss", ["sse", "mse"])
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_an_evaluation_counts_them_once(engine, loss, monkeypatch):
    case = Case(5, PENALISED, loss, 2100, seed=3, l1=L1, l2=L2)
    net, p = network(case), case.values
    net.fit(case.X, case.T, loss=loss, optimizer=SGD(1e-300), epochs=1, progress=False)
    penalty = naive.penalties(PENALISED, naive.as_lists(p), L1, L2)[0]
    outputs = net.predict(case.X)
    total = np.square(outputs - case.T).sum() * (1 if loss == "sse" else 1 / 2) + penalty
    expected = total / (1 if loss == "sse" else case.m)
    for chunk in (run.CHUNK_ELEMENTS, 1):  # in one chunk or two, and in three
        monkeypatch.setattr(run, "CHUNK_ELEMENTS", chunk)
        assert net.evaluate(case.X, case.T)["loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", ["sse", "mse"])
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_pieces_of_a_batch_count_them_once(engine, loss, monkeypatch):
    case = Case(5, PENALISED, loss, 600, seed=3, l1=L1, l2=L2)
    arguments = {"loss": loss, "optimizer": SGD(1e-4), "epochs": 2, "batch_size": None}

    def trained():
        net = network(case)
        history = net.fit(case.X, case.T, **arguments, progress=False)
        return history["loss"], net.flat_params, net.loss_and_grad(case.X, case.T)

    losses, params, (loss_after, gradient) = trained()
    monkeypatch.setattr(run, "PIECE_ELEMENTS", 1)
    in_pieces = trained()
    assert in_pieces[0] == pytest.approx(losses, rel=1e-13)
    assert relative_error(in_pieces[1], params) < 1e-12
    assert in_pieces[2][0] == pytest.approx(loss_after, rel=1e-13)
    assert relative_error(in_pieces[2][1], gradient) < 1e-12
    assert net_pieces(case) > 1


def net_pieces(case):
    """In how many pieces a batch of all rows runs."""
    plan = network(case).lower(fastnn.losses.mse)
    return -(-case.m // run.piece_rows(plan, case.m))


@pytest.mark.parametrize("loss", ["sse", "squared_error", "cross_entropy"])
def test_the_gradient_is_that_of_the_loss(loss):
    case = Case(5, PENALISED, loss, 23, seed=3, l1=L1, l2=L2)
    weights = np.linspace(0.5, 2.0, case.m)
    net = network(case)
    analytic = net.loss_and_grad(case.X, case.T, loss=loss, sample_weight=weights)[1]
    numerical = fastnn.numerical_gradient(net, case.X, case.T, loss, sample_weight=weights)
    assert relative_error(analytic, numerical) < 1e-7


def test_penalties_are_saved_and_shown(tmp_path):
    net = Sequential([Dense(2)], n_inputs=3, l2=0.1, penalties="per_row")
    net.save(tmp_path / "net.safetensors")
    found = fastnn.load(tmp_path / "net.safetensors")
    assert found.penalties == "per_row"
    assert "penalties='per_row'" in repr(found)
    assert "penalties" not in repr(Sequential([Dense(2)]))


@pytest.mark.parametrize("value", ["rows", None, 1, ["full"]])
def test_other_penalties_are_refused(value):
    with pytest.raises(ValueError, match=r"'full' or 'per_row', not " + re.escape(repr(value))):
        Sequential([Dense(2)], penalties=value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_the_factor_of_the_squared_error_scales_the_report_alone(engine, dtype):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 4)), rng.normal(size=(50, 3))
    nets = [Sequential([Dense(5, "tanh"), Dense(3)], dtype=dtype) for _ in range(2)]
    whole, third = (
        net.fit(X, Y, loss=SquaredError(factor), optimizer=SGD(0.1), epochs=3, progress=False)
        for net, factor in zip(nets, (1.0, 1 / 3), strict=True)
    )
    np.testing.assert_array_equal(nets[0].flat_params, nets[1].flat_params)
    assert third["loss"] == pytest.approx(np.array(whole["loss"]) / 3, rel=1e-12)
    expected = np.square(nets[0].predict(X).astype(float) - Y).sum(axis=1).mean() / 2
    assert nets[0].evaluate(X, Y)["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_squared_error_of_classes_needs_no_coding():
    X = np.random.default_rng(0).normal(size=(200, 2))
    y = np.where(X[:, 0] > 0.5, "right", np.where(X[:, 0] < -0.5, "left", "middle"))
    net = Sequential([Dense(16, "tanh"), Dense(3)])
    net.fit(X, y, loss="squared_error", optimizer=fastnn.Adam(0.01), epochs=60, progress=False)
    assert net.evaluate(X, y)["accuracy"] > 0.9


# -- orders of the user's own ----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_rows_come_in_the_order_that_a_function_gives(engine):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(23, 3)), rng.normal(size=23)
    orders, asked = [rng.permutation(20) for _ in range(3)], []

    def order(epoch, n_rows):
        asked.append((epoch, n_rows))
        return orders[epoch]

    rows = np.arange(3, 23)
    net, other = (Sequential([Dense(4, "tanh"), Dense(1)]) for _ in range(2))
    net.fit(X, y, loss="mse", epochs=3, batch_size=7, rows=rows, shuffle=order, progress=False)
    for epoch in range(3):
        among = rows[orders[epoch]]
        other.fit(X[among], y[among], loss="mse", epochs=1, batch_size=7, shuffle=False,
                  progress=False)  # fmt: skip
    assert asked == [(0, 20), (1, 20), (2, 20)]
    np.testing.assert_array_equal(net.flat_params, other.flat_params)


@pytest.mark.parametrize(
    "wrong", [[0, 1, 1], [0, 1], [0, 1, 3], [-1, 0, 1], [0.0, 1.0, 2.0], [[0, 1, 2]], None]
)
def test_an_order_must_hold_every_row_once(wrong):
    net = Sequential([Dense(1)])
    with pytest.raises(ValueError, match="the numbers 0 to 2, each once"):
        net.fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0], shuffle=lambda epoch, n: wrong, epochs=1,
                progress=False)  # fmt: skip
    with pytest.raises(TypeError, match=r"a function of \(epoch, n_rows\)"):
        net.fit([[0.0], [1.0]], [0.0, 1.0], shuffle="yes", progress=False)
