"""Gradient accumulation: a step of several batches, on every engine."""

import copy
import dataclasses
import signal

import naive
import numpy as np
import pytest
from cases import Case, cases, flat, relative_error
from conftest import COMPILED, DTYPES, ENGINES, only, poison, table
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_engines import KINK, MOST_MAGNIFIED, TOLERANCE

from fastnn import (
    SGD,
    Activation,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    GaussianNoise,
    GroupNorm,
    LayerNorm,
    Maxout,
    PReLU,
    Residual,
    Scale,
    Sequential,
    engines,
    losses,
    run,
)
from fastnn.engines import compiled as compiled_module
from fastnn.engines.workspace import Data, Steps, Workspace
from fastnn.errors import DivergedError
from fastnn.losses import Custom
from fastnn.run import with_schedules
from fastnn.schedules import Linear

# -- the gradient of small batches ----------------------------------------------------------------


def in_small_batches(net, data, size, loss, poisoned=False, step=0):
    """(loss, gradient) of all rows in batches of `size` rows, which move the statistics."""
    plan = net.lower(loss)
    data = dataclasses.replace(data, batch_size=size, separate=True)
    ws = Workspace(plan, net.flat_params, net._statistics, size, None, data.n_rows, training=True)
    if poisoned:
        poison(ws)
    steps = Steps(with_schedules(plan, np.empty((1, 0)), step), net.seed, step)
    total, _ = run.loss_and_grad(engines.current(), ws, data, steps)
    return total / data.weight_sum if plan.mean else total, ws.grad.copy()


def by_the_oracle(case, size):
    """(margin, gradient by name, statistics) of a step on batches of `size` rows."""
    layers, loss, X, T, weights, l1, l2, _, own = case.oracle
    weights = np.ones(case.m) if weights is None else weights
    p, nearest = naive.as_lists(case.values), np.inf
    total = dict.fromkeys(case.parameters, 0.0)
    for start in range(0, case.m, size):
        rows = slice(start, start + size)
        some, w = dataclasses.replace(own, first_row=start), weights[rows]
        magnified = naive.magnification(layers, p, X[rows], some)
        kink = naive.smallest_kink(p, layers, X[rows], some, loss, T[rows])
        nearest = min(nearest, kink / magnified if magnified < MOST_MAGNIFIED else 0.0)
        if loss == "sse" or w.sum() > 0:
            found = naive.gradients(p, layers, loss, X[rows], T[rows], w, l1, l2, case.m, some)
            share = 1.0 if loss == "sse" else w.sum() / weights.sum()
            total = {name: total[name] + share * found[name] for name in total}
        p |= naive.as_lists(naive.moved(layers, p, X[rows], some))
    return nearest, total, {name: p[name] for name in case.statistics}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("engine", ENGINES)
def test_small_batches_add_up_to_the_gradient_of_the_oracle(engine, dtype):
    """For networks of any operations: the masks and noise are those of one large batch."""
    seen = []

    @settings(max_examples=60)
    @given(cases(), st.integers(1, 7))
    def check(case, size):
        nearest, expected, statistics = by_the_oracle(case, size)
        assume(nearest >= KINK[dtype])
        seen.append(case)
        net = case.network(dtype)
        loss, weights = case.arguments["loss"], case.weights
        target = net._describe(case.T, case.m, loss)[1]
        data = net._data(net._features(case.X, case.n_inputs), case.T, target, loss)
        data.weights = weights
        found = in_small_batches(net, data, size, loss, poisoned=True)[1]
        expected = flat(net, expected)
        if np.abs(expected).max() > 1e-6:
            assert relative_error(found, expected) < 50 * TOLERANCE[dtype]
        for name, value in statistics.items():
            assert relative_error(net.state_dict()[name], value) < 50 * TOLERANCE[dtype], name

    with only(engine):
        check()
    assert len(seen) > 30


def everything(dtype="float64"):
    """A network with every operation, slabs, few outputs, penalties and a limit of norms."""
    branch = [BatchNorm(), Dense(20), PReLU(), Dropout(Linear(0.5, 0.1, 5)), Dense(18, "relu")]
    layers = [
        Embedding({1: (7, 4)}), Dense(18, "tanh", l2=0.01), Residual(branch),
        BatchNorm(affine=False), GaussianNoise(0.1), LayerNorm(), PReLU(shared=True),
        Dense(130, "gelu", max_norm=0.8),
        BatchNorm(0.8), Activation("elu"), Maxout(24, 3), GroupNorm(4), Scale(bias=True),
        Activation("softmax"), Dense(3), Dense(5, l1=0.001),
    ]  # fmt: skip
    return Sequential(layers, n_inputs=6, seed=3, dtype=dtype)


def rows_of(m):
    rng = np.random.default_rng(m)
    X = rng.normal(size=(m, 6)).astype(np.float32)
    X[:, 1] = rng.integers(0, 7, m)
    return X, rng.integers(0, 5, m).astype(np.int32), rng.integers(1, 5, m) / 2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("m", "size"), [(30, 1), (100, 7), (4300, 513), (4300, 700), (513, 513)])
def test_all_engines_agree_on_small_batches(m, size, weighted, monkeypatch):
    """Also where dW is summed in slabs, whose rows are in several small batches."""
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    X, y, weights = rows_of(m)
    found, bits = {}, set()
    for name, parts in (("numpy", 1), *((name, p) for name in COMPILED for p in (1, 3))):
        monkeypatch.setattr(compiled_module, "PARTS", parts)
        with only(name):
            net = everything()
            data = Data(X, labels=y, weights=weights if weighted else None)
            value, gradient = in_small_batches(net, data, size, losses.cross_entropy, step=2)
            found[name] = np.array([value]), gradient, net._statistics
            if name != "numpy":
                bits.add(b"".join(array.tobytes() for array in found[name]))
    assert len(bits) == 1
    for name in COMPILED:
        for array, expected in zip(found[name], found["numpy"], strict=True):
            assert relative_error(array, expected) < 1e-10


def test_one_small_batch_is_a_batch(engine):
    X, y, weights = rows_of(40)
    net = everything()
    expected = net.loss_and_grad(X, y, "cross_entropy", weights)
    found = in_small_batches(net, Data(X, labels=y, weights=weights), 40, losses.cross_entropy)
    assert found[0] == pytest.approx(expected[0], rel=1e-14)
    np.testing.assert_array_equal(found[1], expected[1])


# -- fits -----------------------------------------------------------------------------------------

NORMALISED = (
    naive.Dense(6), naive.BatchNorm(momentum=0.7), naive.Activation("tanh"), naive.Dense(2),
)  # fmt: skip


def trained_by_the_oracle(case, size, k, epochs, lr):
    """Parameters and statistics after steps of gradient descent on k batches of `size` rows."""
    layers, loss, X, T, weights, l1, l2, _, _ = case.oracle
    p = case.values
    for _ in range(epochs):
        for start in range(0, case.m, k * size):
            stop = min(start + k * size, case.m)
            g = dict.fromkeys(case.parameters, 0.0)
            parts = [slice(at, min(at + size, stop)) for at in range(start, stop, size)]
            total = sum(weights[part].sum() for part in parts)
            for part in parts:
                some = naive.gradients(p, layers, loss, X[part], T[part], weights[part], l1, l2)
                g = {n: g[n] + weights[part].sum() / total * some[n] for n in g}
                moved = naive.moved(layers, naive.as_lists(p), X[part])
                p = {**p, **{name: np.array(value) for name, value in moved.items()}}
            p = {n: p[n] - lr * g[n] if n in g else p[n] for n in p}
    return p


@pytest.mark.parametrize("size", [1, 4, 7])
@pytest.mark.parametrize("layers", [NORMALISED, (naive.Dense(6, "tanh"), naive.Dense(2))])
def test_a_fit_follows_the_oracle(engine, layers, size):
    """29 rows: the last step of an epoch has fewer batches, and the last batch fewer rows."""
    case = Case(4, layers, "mse", 29, seed=3, weighted=True, l2=0.01)
    case.weights[case.weights == 0] = 0.5
    net = case.network("float64")
    net.fit(case.X, case.T, loss="mse", optimizer=SGD(0.05), epochs=4, batch_size=size,
            accumulate=3, sample_weight=case.weights, shuffle=False, progress=False)  # fmt: skip
    expected = trained_by_the_oracle(case, size, 3, 4, 0.05)
    for name, values in net.state_dict().items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert net.training_state.step == net.training_state.total_steps == 4 * -(-29 // (3 * size))


def fitted(layers, X, y, **arguments):
    net = Sequential(layers(), seed=1)
    history = net.fit(X, y, optimizer=Adam(0.01), progress=False, **arguments)
    return net, history


def test_without_batch_norm_it_is_one_large_batch(engine):
    X, y = table(100)

    def layers():
        return [Dense(20, "relu"), LayerNorm(), Dropout(0.3), GaussianNoise(0.1), Dense(3)]

    one, history = fitted(layers, X, y, epochs=3, batch_size=32)
    several, other = fitted(layers, X, y, epochs=3, batch_size=8, accumulate=4)
    np.testing.assert_array_equal(one.flat_params, several.flat_params)
    assert history["loss"] == other["loss"]
    assert history["accuracy"] == other["accuracy"]


def test_batch_norm_normalises_each_small_batch(engine):
    X, y = table(100)

    def layers():
        return [Dense(20), BatchNorm(), Activation("relu"), Dense(3)]

    ghosts, history = fitted(layers, X, y, epochs=3, batch_size=8, accumulate=4)
    large, other = fitted(layers, X, y, epochs=3, batch_size=32)
    assert relative_error(ghosts.flat_params, large.flat_params) > 1e-3
    assert history["loss"] != other["loss"]
    assert ghosts.training_state.step == large.training_state.step == 12
    # 13 small batches an epoch move the statistics further than 4 large ones.
    start = np.concatenate([np.zeros(20), np.ones(20)])
    moved = [np.abs(net._statistics - start).mean() for net in (ghosts, large)]
    assert moved[0] > 1.2 * moved[1]


def test_a_batch_of_all_rows_is_one_step(engine):
    X, y = table(30)

    def layers():
        return [Dense(5), BatchNorm(), Dense(3)]

    for arguments in ({"batch_size": None}, {"batch_size": 30}, {"batch_size": 100}):
        net, _ = fitted(layers, X, y, epochs=2, accumulate=5, **arguments)
        expected, _ = fitted(layers, X, y, epochs=2, batch_size=30)
        np.testing.assert_array_equal(net.flat_params, expected.flat_params)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_used_counts_steps(compiled, threads, monkeypatch):
    X, y = table(100)
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    engines.set_num_threads(threads)
    try:
        _, history = fitted(
            lambda: [Dense(50), BatchNorm(), Dense(3)], X, y, epochs=3, batch_size=10, accumulate=4
        )
    finally:
        engines.set_num_threads(None)
    assert sum(history.threads_used.values()) == 9


def test_resumed_fits_equal_uninterrupted_ones(engine):
    X, y = table(100)
    nets = [Sequential([Dense(9), BatchNorm(), Dropout(0.2), Dense(3)], seed=1) for _ in range(2)]
    arguments = {"optimizer": Adam(0.01), "batch_size": 7, "accumulate": 3, "progress": False}
    nets[0].fit(X, y, epochs=4, **arguments)
    for _ in range(2):
        nets[1].fit(X, y, epochs=2, **arguments)
    np.testing.assert_array_equal(nets[0].flat_params, nets[1].flat_params)
    np.testing.assert_array_equal(nets[0]._statistics, nets[1]._statistics)


def test_accumulation_may_change_from_fit_to_fit(engine):
    """The optimizer goes on; a workspace for one size is not taken for another."""
    X, y = table(100)
    net = Sequential([Dense(9), BatchNorm(), Dense(3)], seed=1, dtype="float64")
    fresh = Sequential([Dense(9), BatchNorm(), Dense(3)], seed=1, dtype="float64")
    for k in (1, 3, 2):
        twin = copy.deepcopy(fresh)
        for each in (net, twin):
            each.fit(X, y, optimizer=Adam(0.01), epochs=1, batch_size=16, accumulate=k,
                     progress=False)  # fmt: skip
        fresh = twin
        np.testing.assert_array_equal(net.flat_params, twin.flat_params)
    assert net.training_state.step == 7 + 3 + 4


def test_a_divergence_restores_the_statistics(engine):
    X, y = table(60)
    net = Sequential([Dense(8), BatchNorm(), Dense(3)], dtype="float64", seed=1)
    net.fit(X, y, loss="cross_entropy", epochs=1, batch_size=5, accumulate=3, progress=False)
    before = net.state_dict()
    with pytest.raises(DivergedError):
        net.fit(X, y, optimizer=SGD(1e200), epochs=2, batch_size=5, accumulate=3, progress=False)
    after = net.state_dict()
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


def test_a_loss_that_fails_leaves_the_last_complete_step(engine):
    """It fails on a later small batch of a step: the first has moved the statistics by then."""
    X, y = table(40)
    X[39, 0] = 100.0  # the row at which it fails, in the last small batch of the epoch

    def loss(y, a):
        if fails and (y == 99).any():
            raise RuntimeError("as asked")
        return ((a - y) ** 2).sum(axis=1), 2 * (a - y)

    def net():
        return Sequential([Dense(4), BatchNorm(), Dense(1)], n_inputs=7, seed=1, dtype="float64")

    arguments = {"loss": Custom(loss), "optimizer": SGD(0.01), "epochs": 1, "batch_size": 5,
                 "accumulate": 2, "shuffle": False, "progress": False}  # fmt: skip
    values = np.where(np.arange(40) == 39, 99.0, y)
    failed, twin, fails = net(), net(), False
    twin.fit(X[:30], values[:30], **arguments)
    fails = True
    with pytest.raises(RuntimeError, match="as asked"):
        failed.fit(X, values, **arguments)
    assert failed.training_state.step == twin.training_state.step == 3
    np.testing.assert_array_equal(failed.flat_params, twin.flat_params)
    np.testing.assert_array_equal(failed._statistics, twin._statistics)


def test_ctrl_c_between_two_small_batches_undoes_the_first(engine, monkeypatch):
    X, y = table(60)
    net = Sequential([Dense(8), BatchNorm(), Dense(3)], n_inputs=7, seed=1)
    before = net._statistics.copy()
    original = run.Slices.of

    def one_by_one(self, *arguments):
        for first, last in original(self, *arguments):
            for i in range(first, last):
                yield i, i + 1
                signal.raise_signal(signal.SIGINT)
                run.interrupts.check()

    monkeypatch.setattr(run.Slices, "of", one_by_one)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=2, batch_size=5, accumulate=3, progress=False)
    np.testing.assert_array_equal(net._statistics, before)
    assert net.training_state.total_steps == 0


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2", None, True])
def test_bad_input_is_refused(bad):
    X, y = table(30)
    with pytest.raises((ValueError, TypeError), match="accumulate"):
        Sequential([Dense(3)]).fit(X, y, accumulate=bad, progress=False)
