"""One suite over engines and dtypes: the oracle, finite differences, trajectories."""

import inspect
import itertools

import naive
import numpy as np
import pytest
from cases import (
    ACTIVATIONS,
    LOGITS,
    LOSSES,
    WITH_ARGUMENT,
    cases,
    flat,
    make_case,
    relative_error,
)
from conftest import DTYPES, ENGINES, only, table
from hypothesis import given

import fastnn
from fastnn import SGD, Adam, Dense, Sequential, engines
from fastnn.engines import reference
from fastnn.engines.tables import CALL, CONTEXT, ROW

# What one rounding of each operation may add up to; the oracle works in float64.
TOLERANCE = {"float32": 2e-5, "float64": 2e-13}
KINK = {"float32": 3e-6, "float64": 1e-12}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_loss_and_gradient_agree_with_the_oracle(engine, dtype):
    drawn, skipped = [], []

    @given(cases())
    def check(case):
        net = case.network(dtype)
        network = case.naive(net)
        drawn.append(case)
        if naive.smallest_z(network, case.X) < KINK[dtype]:
            skipped.append(case)
            return
        with only(engine):
            logits = net.logits(case.X)
            loss, gradient = net.loss_and_grad(case.X, **case.arguments)
        assert logits.dtype == gradient.dtype == dtype
        rows = [naive.forward(network, x) for x in case.X]
        before_last = case.activations[-1] in ("sigmoid", "softmax")
        expected = [(z[-1] if before_last else a[-1]) for z, a in rows]
        assert relative_error(logits, expected) < TOLERANCE[dtype]
        expected_loss = naive.cost(network, *case.oracle)
        assert relative_error(loss, expected_loss) < TOLERANCE[dtype]
        expected = flat(net, naive.gradients(network, *case.oracle))
        if np.abs(expected).max() > 1e-6:  # else all units are off, or saturated
            assert relative_error(gradient, expected) < 20 * TOLERANCE[dtype]

    check()
    assert len(drawn) >= 100
    assert len(skipped) <= 0.01 * len(drawn), f"{len(skipped)} of {len(drawn)} skipped"


def test_gradient_check_in_float64(engine):
    """Central differences of exactly the loss that is trained, for every combination."""
    cases_run, skipped, worst = 0, 0, 0.0
    step = 1e-5
    acts = [act for act in ACTIVATIONS + WITH_ARGUMENT if act != "step"]  # its slope is 0
    for act, loss, depth in itertools.product(acts, LOSSES, (1, 2, 3, 4)):
        widths = [*[4, 3, 2, 4][:depth], 3]
        last = "identity" if loss in LOGITS else act
        for m, extra in ((1, {}), (5, {"weighted": True, "penalties": [(0.01, 0.02)] * depth})):
            cases_run += 1
            case = make_case(widths, [*[act] * (depth - 1), last], loss, m, cases_run, **extra)
            net = case.network("float64")
            if naive.smallest_z(case.naive(net), case.X) < 10 * step:
                skipped += 1
                continue
            _, gradient = net.loss_and_grad(case.X, **case.arguments)
            numeric = np.empty_like(gradient)
            for i in range(len(numeric)):
                kept = net.flat_params[i]
                net.flat_params[i] = kept + step
                up, _ = net.loss_and_grad(case.X, **case.arguments)
                net.flat_params[i] = kept - step
                down, _ = net.loss_and_grad(case.X, **case.arguments)
                net.flat_params[i] = kept
                numeric[i] = (up - down) / (2 * step)
            norms = np.linalg.norm(gradient), np.linalg.norm(numeric)
            if max(norms) < 1e-7:
                assert act == "softmax"  # one output of a softmax over one class is constant
                continue
            error = np.linalg.norm(gradient - numeric) / max(norms)
            worst = max(worst, error)
            assert error <= 1e-6, (act, loss, depth, m)
    assert cases_run == len(acts) * len(LOSSES) * 4 * 2
    assert skipped <= 0.01 * cases_run, f"{skipped} of {cases_run} skipped"
    assert worst > 0


RULES = {
    "sgd": (SGD(0.1), lambda: naive.Sgd(0.1)),
    "momentum": (SGD(0.05, momentum=0.9), lambda: naive.Momentum(0.05, 0.9)),
    "nesterov": (SGD(0.05, 0.9, nesterov=True), lambda: naive.Nesterov(0.05, 0.9)),
    "adam": (Adam(0.01), lambda: naive.Adam(0.01)),
    "adam, other betas": (Adam(0.02, 0.8, 0.95, 1e-6), lambda: naive.Adam(0.02, 0.8, 0.95, 1e-6)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_fifty_steps_follow_an_independent_implementation(engine, dtype, rule):
    optimizer, make_naive = RULES[rule]
    case = make_case([5, 8, 4, 3], ["tanh", "sigmoid", "identity"], "cross_entropy", 23, seed=4)
    net = case.network(dtype)
    network = case.naive(net)
    rules = [(make_naive(), make_naive()) for _ in network]
    # Batches of 5 of 23 rows: 5 steps an epoch, the last of 3 rows; 10 epochs make 50 steps.
    net.fit(
        case.X, case.T, loss="cross_entropy", optimizer=optimizer, epochs=10, batch_size=5,
        shuffle=False, progress=False,
    )  # fmt: skip
    for _ in range(10):
        for start in range(0, 23, 5):
            rows = slice(start, start + 5)
            pairs = naive.gradients(network, "cross_entropy", case.X[rows], case.T[rows])
            network = [
                (rules[i][0].step(W, pairs[i][0]), rules[i][1].step(b, pairs[i][1]), act)
                for i, (W, b, act) in enumerate(network)
            ]
    expected = flat(net, [(W, b) for W, b, _ in network])
    assert relative_error(net.flat_params, expected) < (1e-4 if dtype == "float32" else 1e-11)
    assert relative_error(net.flat_params, case.network(dtype).flat_params) > 1e-2  # it moved


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


def test_engines_have_the_same_functions():
    from fastnn.engines.compiled import CompiledEngine

    for name in ("forward", "evaluate", "loss_and_grad", "update", "run_batches"):
        expected = list(inspect.signature(getattr(reference, name)).parameters)
        compiled = list(inspect.signature(getattr(CompiledEngine, name)).parameters)
        assert compiled == ["self", *expected]


def test_update_is_the_step_of_run_batches(engine):
    """A gradient, an exchange between processes, an update: the parts of a step work alone."""
    from fastnn.engines.tables import SLOTS, Rule
    from fastnn.engines.workspace import Data, Workspace

    case = make_case([4, 5, 2], ["tanh", "identity"], "mse", 8, seed=1)
    whole, parts = case.network("float64"), case.network("float64")
    whole.fit(case.X, case.T, loss="mse", optimizer=Adam(0.01), epochs=3, batch_size=8,
              shuffle=False, progress=False)  # fmt: skip
    plan = parts._lower(fastnn.losses.mse)
    ws = Workspace(plan, parts.flat_params, 8, SLOTS[Rule.adam])
    data = Data(np.ascontiguousarray(case.X), Y=np.ascontiguousarray(case.T))
    run = engines.current()
    for step in range(1, 4):
        run.loss_and_grad(ws, data)
        run.update(ws, Rule.adam, Adam(0.01).hyper(step, np.array([0.01]))[0])
    np.testing.assert_array_equal(parts.flat_params, whole.flat_params)


def test_tables_are_made_of_words():
    for layout in (ROW, CALL, CONTEXT):
        assert layout.itemsize == 8 * len(layout.names)
        for index, name in enumerate(layout.names):
            assert layout.fields[name][1] == 8 * index
            assert layout.fields[name][0].itemsize == 8
