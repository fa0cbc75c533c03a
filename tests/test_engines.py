"""One suite over engines and dtypes: the oracle, finite differences, trajectories."""

import dataclasses
import functools
import inspect

import naive
import naive_losses
import naive_optimizers
import numpy as np
import pytest
from cases import (
    ACTIVATIONS,
    LOGITS,
    LOSSES,
    LOSSES_WITH_ARGUMENT,
    WITH_ARGUMENT,
    Case,
    cases,
    flat,
    make_case,
    per_target,
    relative_error,
)
from conftest import DTYPES, ENGINES, only, table
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Activation, PReLU, Residual

import fastnn
from fastnn import SGD, Adam, Dense, Sequential, engines
from fastnn.engines import reference
from fastnn.engines.compiled import CompiledEngine
from fastnn.engines.protocol import Engine
from fastnn.engines.workspace import Data, Steps, Workspace
from fastnn.tables import CALL, CONTEXT, OP
from fastnn.update import Update

# What one rounding of each operation may add up to; the oracle works in float64.
TOLERANCE = {"float32": 2e-5, "float64": 2e-13}
KINK = {"float32": 3e-6, "float64": 1e-12}


#: Normalisations that together magnify a relative error by more leave too few digits of float32.
MOST_MAGNIFIED = 10_000


def margin(case):
    """The distance of the nearest kink, in units of the magnified rounding errors.

    0 if these are beyond any tolerance, since a column is nearly constant.
    """
    p, layers = case.values, case.trained
    magnified = naive.magnification(layers, p, case.X, case.run)
    nearest = case.nearest_kink
    if case.statistics:
        nearest = min(nearest, naive.smallest_kink(p, layers, case.X, naive.PREDICTION))
    return nearest / magnified if magnified < MOST_MAGNIFIED else 0.0


@functools.cache
def by_the_oracle(case):
    """(margin, logits, loss, gradient by name)"""
    p = case.values
    logits = naive.forward(case.up_to_logits, p, case.X)[-1]
    return margin(case), logits, naive.cost(p, *case.oracle), naive.gradients(p, *case.oracle)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_loss_and_gradient_agree_with_the_oracle(engine, dtype):
    drawn, skipped = [], []

    @given(cases())
    def check(case):
        drawn.append(case)
        nearest, expected_logits, expected_loss, expected = by_the_oracle(case)
        if nearest < KINK[dtype]:
            skipped.append(case)
            return
        net = case.network(dtype)
        logits = net.logits(case.X)
        loss, gradient = net.loss_and_grad(case.X, **case.arguments)
        assert logits.dtype == gradient.dtype == dtype
        assert relative_error(logits, expected_logits) < TOLERANCE[dtype]
        assert relative_error(loss, expected_loss) < TOLERANCE[dtype]
        expected = flat(net, expected)
        if np.abs(expected).max() > 1e-6:  # else all units are off, or saturated
            assert relative_error(gradient, expected) < 20 * TOLERANCE[dtype]

    with only(engine):
        check()
    assert len(drawn) >= min(100, settings.default.max_examples)
    assert len(skipped) <= 0.03 * len(drawn), f"{len(skipped)} of {len(drawn)} skipped"


def around(act):
    """An activation alone and in stacks from 4 inputs, each kind of layer beside it."""
    dense = naive.Dense
    return (
        (),
        (dense(3, act),),
        (dense(4, act), dense(2, act), dense(3, act)),
        (Activation(act),),
        (PReLU(), Activation(act), PReLU(shared=True)),
        (dense(3, act), PReLU(), dense(3, "tanh"), Activation(act), PReLU(shared=True)),
        (Residual((Activation(act),)),),
        (Residual((dense(3, act),)), Activation(act)),
        (dense(3), Residual((dense(2, act), dense(3, "tanh"))), Activation(act)),
        (dense(3, act), Residual((Residual((PReLU(), dense(3, act))), Activation(act)))),
        (naive.Scale(True), naive.GroupNorm(2), Activation(act), naive.Maxout(3, 3), naive.Scale()),
        (dense(3), naive.GroupNorm(), Activation(act), Residual((naive.GroupNorm(1, 0.1, False),))),
        (Residual((Residual((Residual((dense(2, act),)),)), PReLU(shared=True))),),
    )


def numerical_gradient(net, case, step):
    """Central differences of the loss by each parameter."""
    found = np.empty_like(net.flat_params)
    for i, kept in enumerate(net.flat_params.tolist()):
        net.flat_params[i] = kept + step
        up, _ = net.loss_and_grad(case.X, **case.arguments)
        net.flat_params[i] = kept - step
        down, _ = net.loss_and_grad(case.X, **case.arguments)
        net.flat_params[i] = kept
        found[i] = (up - down) / (2 * step)
    return found


def away_from_kinks(step, seed, *arguments, **more):
    """The case of the first seed whose weights and values are differentiable on both sides.

    The seeds are tried until one is: which of them are depends on the lists of activations and
    losses, so a limit of the cases to skip would fail when one is added.
    """
    for tried in range(seed, seed + 100_000, 1000):
        case = Case(*arguments, tried, **more)
        smallest_weight = np.abs(case.network("float64").flat_params).min()  # of the l1 penalty
        if case.nearest_kink >= 10 * step and smallest_weight >= 2 * step:
            return case
    raise AssertionError(f"every case is near a kink: {arguments}")


def test_gradient_check_in_float64(engine):
    """Central differences of exactly the loss that is trained, for every operation."""
    worst, step = 0.0, 1e-5
    every_loss = LOSSES + LOSSES_WITH_ARGUMENT
    acts = [act for act in ACTIVATIONS + WITH_ARGUMENT if act != "step"]  # its derivative is 0
    checks = list(enumerate((act, below) for act in acts for below in around(act)))
    for run, (act, below) in checks:
        loss = every_loss[run % len(every_loss)]
        last = "identity" if naive_losses.split(loss)[0] in LOGITS else act
        units = 3 * per_target(loss)
        layers = (*below, naive.Dense(units, last, 0.01, 0.02 * (run % 2)))
        rows = (1, 5)[run // 4 % 2]
        case = away_from_kinks(step, run, 4, layers, loss, rows, weighted=run % 3 > 0, l2=0.01)
        net = case.network("float64")
        _, gradient = net.loss_and_grad(case.X, **case.arguments)
        numeric = numerical_gradient(net, case, step)
        error = np.linalg.norm(gradient - numeric) / np.linalg.norm(numeric)
        worst = max(worst, error)
        assert error <= 1e-6, case
    assert worst > 0


RULES = {
    "sgd": (SGD(0.1), lambda: naive_optimizers.Sgd(0.1)),
    "momentum": (SGD(0.05, momentum=0.9), lambda: naive_optimizers.Momentum(0.05, 0.9)),
    "nesterov": (SGD(0.05, 0.9, nesterov=True), lambda: naive_optimizers.Nesterov(0.05, 0.9)),
    "adam": (Adam(0.01), lambda: naive_optimizers.Adam(0.01)),
    "adam, other betas": (
        Adam(0.02, 0.8, 0.95, 1e-6),
        lambda: naive_optimizers.Adam(0.02, 0.8, 0.95, 1e-6),
    ),
}
TRAINED = {
    "dense": (naive.Dense(8, "tanh"), naive.Dense(4, "sigmoid"), naive.Dense(3)),
    "residual": (
        naive.Dense(6, "tanh"),
        Residual((PReLU(), Residual((naive.Dense(6, "silu"),)), Activation("softmax"))),
        Residual((naive.Dense(4, "tanh"),)),
        PReLU(shared=True),
        naive.Dense(3),
    ),
    "stochastic": (
        naive.GaussianNoise(0.1),
        naive.Dense(6, "tanh"),
        naive.Dropout((0.6, 0.1, 30)),
        Residual((naive.Dropout(0.2), naive.Dense(6, "silu"), naive.GaussianNoise(0.3))),
        naive.Dropout(0.3, "test"),
        naive.Dense(3),
    ),
}


def steps(case, batch_size, epochs, make_rule):
    """The parameters after minibatches in their order, and the cost of each before its step."""
    p, costs, n = case.parameters, [], case.m
    rules = {name: make_rule() for name in p}
    layers, loss, X, T, _, l1, l2, _, run = case.oracle
    for _ in range(epochs):
        for start in range(0, n, batch_size):
            rows = slice(start, start + batch_size)
            batch = layers, loss, X[rows], T[rows], None, l1, l2, n, run
            costs.append(naive.cost(p, *batch))
            found = naive.gradients(p, *batch)
            p = {name: rules[name].step(p[name], found[name]) for name in p}
            run = dataclasses.replace(run, step=run.step + 1)
    return p, costs


@functools.cache
def fifty_steps(network, rule):
    """Batches of 5 of 23 rows: 5 steps an epoch, the last of 3 rows; 10 epochs make 50 steps."""
    case = Case(5, TRAINED[network], "cross_entropy", 23, seed=4)
    return case, steps(case, 5, 10, RULES[rule][1])[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("network", TRAINED)
def test_fifty_steps_follow_an_independent_implementation(engine, dtype, rule, network):
    case, expected = fifty_steps(network, rule)
    net = case.network(dtype)
    net.fit(
        case.X, case.T, loss="cross_entropy", optimizer=RULES[rule][0], epochs=10, batch_size=5,
        shuffle=False, progress=False,
    )  # fmt: skip
    expected = flat(net, expected)
    assert relative_error(net.flat_params, expected) < (1e-4 if dtype == "float32" else 1e-11)
    assert relative_error(net.flat_params, case.network(dtype).flat_params) > 1e-2  # it moved


PENALISED = (naive.Dense(6, "tanh", l1=0.3), Residual((naive.Dense(4, l2=0.5),)), naive.Dense(2))


@pytest.mark.quick
@pytest.mark.parametrize("loss", ["sse", "mse"])
def test_an_epoch_counts_the_penalties_once(engine, loss):
    """A sum takes m of n rows' share of them in each minibatch, a mean takes them whole."""
    case = Case(5, PENALISED, loss, 23, seed=3, l1=0.2, l2=0.1)
    net = case.network("float64")
    history = net.fit(case.X, case.T, loss=loss, optimizer=SGD(1e-3), epochs=1, batch_size=5,
                      shuffle=False, progress=False)  # fmt: skip
    expected, costs = steps(case, 5, 1, lambda: naive_optimizers.Sgd(1e-3))
    assert relative_error(net.flat_params, flat(net, expected)) < 1e-13
    rows = [5, 5, 5, 5, 3]
    epoch = sum(costs) if loss == "sse" else np.average(costs, weights=rows)
    assert history["loss"][0] == pytest.approx(epoch, rel=1e-13)
    assert net.evaluate(case.X, case.T)["loss"] == pytest.approx(
        naive.cost(case.naive(net), *case.oracle), rel=1e-13
    )


def epoch_loss(case, batch_size):
    """The loss of an epoch that moves no parameter, by the oracle."""
    layers, loss, X, T, weights, l1, l2, _, run = case.oracle
    weights = np.ones(case.m) if weights is None else weights
    p, total = naive.as_lists(case.values), 0.0
    for step, start in enumerate(range(0, case.m, batch_size)):
        rows = slice(start, start + batch_size)
        run = dataclasses.replace(run, step=step)
        outputs = naive.forward(layers, p, X[rows], run)[-1]
        losses = [naive.row_loss(loss, a, t) for a, t in zip(outputs, T[rows], strict=True)]
        total += weights[rows] @ losses
    divisor, share = naive.scales(loss, weights, None)
    return total / divisor + share * naive.penalties(layers, p, l1, l2)[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_fit_and_evaluation_see_the_same_loss(engine):
    """An epoch whose steps are too small to move anything, in batches of any size."""

    @settings(max_examples=40)
    @given(cases(), st.integers(1, 20))
    def check(case, batch_size):
        net = case.network("float64")
        nearest = by_the_oracle(case)[0]
        if case.statistics:
            batch_size = case.m  # its rows depend on each other
        if nearest < KINK["float64"]:
            return
        history = net.fit(
            case.X, case.T, loss=case.arguments["loss"], optimizer=SGD(1e-300), epochs=1,
            batch_size=batch_size, sample_weight=case.weights, progress=False, shuffle=False,
            validation_data=(case.X, case.T),
        )  # fmt: skip
        assert history["loss"][0] == pytest.approx(epoch_loss(case, batch_size), rel=1e-12)
        unweighted = dataclasses.replace(case, weighted=False)
        expected = naive.cost(case.naive(net), *unweighted.oracle[:-1], naive.PREDICTION)
        assert history["val_loss"][0] == pytest.approx(expected, rel=1e-12)
        assert net.evaluate(case.X, case.T)["loss"] == history["val_loss"][0]

    with only(engine):
        check()


def test_engines_agree_on_labels_and_accuracy():
    X, y = table()
    found = {}
    for name in ENGINES:
        with only(name):
            net = Sequential([Dense(9, "tanh"), Dense(3)], seed=2)
            history = net.fit(X, y, epochs=4, progress=False)
            assert history.engine == name
            values = net.evaluate(X, y)
            assert values["accuracy"] == (net.predict(X) == y).mean()
            found[name] = values, net.predict(X), net.predict_proba(X)
    assert len(found) > 1
    expected = found.pop("numpy")
    for got in found.values():
        assert got[0] == pytest.approx(expected[0], rel=1e-4)
        np.testing.assert_array_equal(got[1], expected[1])
        np.testing.assert_allclose(got[2], expected[2], rtol=1e-3)


@pytest.mark.parametrize("n", [2, 4, 5, 16, 17, 26, 70])
def test_the_first_of_equal_outputs_is_the_class(engine, n):
    """How it is found depends on the number of classes and on the kind of the targets."""
    rng = np.random.default_rng(n)
    X, y = rng.integers(-2, 3, (300, n)).astype(np.float32), rng.integers(0, n, 300)
    X[np.arange(0, 300, 2), y[::2]] = 2
    codes = np.eye(n, dtype=np.float32)
    for each, targets in ((np.arange(n), y), (codes, codes[y])):
        net = Sequential([Dense(n)], seed=0)
        net.fit(np.zeros_like(codes), each, loss="cross_entropy", epochs=1, progress=False)
        net.parameters()["0.W"][:] = codes
        net.parameters()["0.b"][:] = 0
        assert net.evaluate(X, targets)["accuracy"] == (X.argmax(axis=1) == y).mean()


@pytest.mark.quick
def test_engines_have_the_same_functions():
    functions = [name for name in vars(Engine) if name[0] != "_"]
    assert set(functions) >= {"forward", "evaluate", "loss_and_grad", "update", "run_batches"}
    for name in functions:
        expected = inspect.signature(getattr(Engine, name)).parameters
        compiled = inspect.signature(getattr(CompiledEngine, name)).parameters
        plain = inspect.signature(getattr(reference, name)).parameters
        assert list(compiled) == list(expected) == ["self", *plain]
        defaults = [value.default for value in expected.values()]
        assert [value.default for value in compiled.values()] == defaults
        assert [value.default for value in plain.values()] == defaults[1:]


def test_update_is_the_step_of_run_batches(engine):
    """A gradient, an exchange between processes, an update: the parts of a step work alone."""
    case = make_case([4, 5, 2], ["tanh", "identity"], "mse", 8, seed=1)
    whole, parts = case.network("float64"), case.network("float64")
    whole.fit(case.X, case.T, loss="mse", optimizer=Adam(0.01), epochs=3, batch_size=8,
              shuffle=False, progress=False)  # fmt: skip
    plan = parts.lower(fastnn.losses.mse)
    ws = Workspace(plan, parts.flat_params, np.zeros(0), 8, Update.of(plan, Adam()))
    data = Data(np.ascontiguousarray(case.X), Y=np.ascontiguousarray(case.T))
    run = engines.current()
    for step in range(3):
        run.loss_and_grad(ws, data, np.zeros(2))
        hyper = Adam(0.01).hyper(step + 1, np.array([0.01]))
        run.update(ws, Steps(hyper, first=step))
    np.testing.assert_array_equal(parts.flat_params, whole.flat_params)


def test_tables_are_made_of_words():
    for layout in (OP, CALL, CONTEXT):
        assert layout.itemsize == 8 * len(layout.names)
        for index, name in enumerate(layout.names):
            assert layout.fields[name][1] == 8 * index
            assert layout.fields[name][0].itemsize == 8
