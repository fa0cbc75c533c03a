"""BatchNorm: statistics of the batch in training, running ones in predictions, on every engine."""

import copy
import dataclasses
import pickle
from unittest import mock

import naive
import naive_optimizers
import numpy as np
import pytest
from cases import Case, flat, relative_error
from conftest import COMPILED, DTYPES, ENGINES, only, poison, table
from test_engines import steps

import fastnn
from fastnn import SGD, Activation, Adam, BatchNorm, Dense, Residual, Sequential, engines, losses
from fastnn.engines import boundary
from fastnn.engines import compiled as compiled_module
from fastnn.engines.program import Task, Variant, calls_of, meetings
from fastnn.engines.workspace import Data, Steps, Workspace
from fastnn.errors import DivergedError, ModelFileError
from fastnn.ops.dense import Dense as DenseHome
from fastnn.tables import NONE, Split
from fastnn.update import Update

ONE_UNIT, SOME_UNITS, MANY_UNITS = 1, 13, 70  # part of a vector, a few, whole strips and a rest


def statistics(net):
    """Running statistics by name."""
    return {n: v for n, v in net.state_dict().items() if n not in net.parameters()}


def same(found, expected):
    """Whether two dicts of arrays have the same bits."""
    assert found.keys() == expected.keys()
    return all(np.array_equal(found[name], expected[name]) for name in expected)


def rows(m=40, n=5, outputs=3, seed=0):
    """X, and values to fit."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, n)) * 2 + 1, rng.normal(size=(m, outputs))


def stack():
    """BatchNorm first, before and after activations, twice, and inside a Residual."""
    branch = [BatchNorm(), Dense(9), BatchNorm(affine=False), Activation("tanh"), Dense(9)]
    return [
        BatchNorm(), Dense(8), BatchNorm(0.8), Activation("gelu"), Dense(9, "tanh"), BatchNorm(),
        BatchNorm(epsilon=0.1), Residual(branch), Activation("silu"), Dense(3),
    ]  # fmt: skip


# -- against PyTorch ------------------------------------------------------------------------------


def torch_pair(n, momentum=0.9, affine=True):
    """(network, module): BatchNorm first, before tanh and after ReLU, with equal parameters."""
    torch = pytest.importorskip("torch")
    layers = [BatchNorm(momentum, affine=affine), Dense(n), BatchNorm(momentum, affine=affine),
              Activation("tanh"), Dense(n, "silu"), BatchNorm(), Dense(3)]  # fmt: skip
    net = Sequential(layers, n_inputs=5, seed=1, dtype="float64")
    rng = np.random.default_rng(n)
    for view in net.parameters().values():
        view[...] = rng.normal(size=view.shape) / np.sqrt(len(view)) + (view.ndim == 1)
    nn = torch.nn
    module = nn.Sequential(
        nn.BatchNorm1d(5, momentum=1 - momentum, affine=affine), nn.Linear(5, n, bias=False),
        nn.BatchNorm1d(n, momentum=1 - momentum, affine=affine), nn.Tanh(), nn.Linear(n, n),
        nn.SiLU(), nn.BatchNorm1d(n), nn.Linear(n, 3),
    ).double()  # fmt: skip
    # fastnn counts Dense(n, "silu") as one layer.
    number = {0: 0, 1: 1, 2: 2, 4: 4, 5: 6, 6: 7}
    kinds = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}
    arrays = {}
    for name, view in net.parameters().items():
        layer, kind = name.split(".")
        arrays[name] = getattr(module[number[int(layer)]], kinds[kind])
        values = torch.tensor(view.T if kind == "W" else view)
        with torch.no_grad():
            arrays[name][...] = values
    for name in statistics(net):
        layer, kind = name.split(".")
        arrays[name] = getattr(module[number[int(layer)]], kind)
    return net, module, arrays


def agree(found, tensors, tolerance):
    """Relative to 1 where all numbers are smaller: some means are 0 but for rounding."""
    for name, values in found.items():
        expected = tensors[name].detach().numpy()
        expected = expected.T if name.endswith("W") else expected
        assert np.abs(values - expected).max() < tolerance * max(1, np.abs(expected).max()), name


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("m", [2, 3, 40, 1100])
@pytest.mark.parametrize("n", [ONE_UNIT, SOME_UNITS, MANY_UNITS])
def test_pytorch_agrees_on_outputs_gradients_and_statistics(engine, n, m, affine):
    """1100 rows are three blocks of a sum. Two rows magnify rounding errors most."""
    torch = pytest.importorskip("torch")
    net, module, arrays = torch_pair(n, affine=affine)
    X, T = rows(m)
    tolerance = 1e-12 if m > 3 else 1e-9
    loss, gradient = net.loss_and_grad(X, T, loss="mse")
    expected = ((module(torch.tensor(X)) - torch.tensor(T)) ** 2).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=tolerance)
    gradients = {p.name: p.view(gradient) for p in net.lower(losses.mse).parameters}
    largest = np.abs(gradient).max()
    for name, values in gradients.items():
        exact = arrays[name].grad.numpy()
        exact = exact.T if name.endswith("W") else exact
        assert np.abs(values - exact).max() < tolerance * largest, name
    assert same(statistics(net), statistics(torch_pair(n, affine=affine)[0]))  # not changed yet
    net.fit(X, T, loss="mse", optimizer=SGD(1e-300), epochs=1, batch_size=m, progress=False)
    agree(statistics(net), arrays, 1e-12)
    module.eval()
    exact = module(torch.tensor(X)).detach().numpy()
    assert relative_error(net.predict(X), exact) < tolerance


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_pytorch_agrees_after_twenty_steps(engine, momentum):
    torch = pytest.importorskip("torch")
    net, module, arrays = torch_pair(SOME_UNITS, momentum)
    X, T = rows(50)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for step in range(20):
        part = slice(step % 2 * 25, step % 2 * 25 + 25)
        optimizer.zero_grad()
        ((module(torch.tensor(X[part])) - torch.tensor(T[part])) ** 2).mean().backward()
        optimizer.step()
    net.fit(X, T, loss="mse", optimizer=SGD(0.05), epochs=10, batch_size=25, shuffle=False,
            progress=False)  # fmt: skip
    agree(net.state_dict(), arrays, 1e-12)
    module.eval()
    assert relative_error(net.predict(X), module(torch.tensor(X)).detach().numpy()) < 1e-12


# -- against the oracle ---------------------------------------------------------------------------

NORM = naive.BatchNorm
#: Networks by the place of BatchNorm.
PLACES = {
    "first": (NORM(), naive.Dense(6, "tanh"), naive.Dense(2)),
    "before an activation": (
        naive.Dense(6), NORM(momentum=0.7), naive.Activation("relu"), naive.Dense(2),
    ),
    "after an activation": (naive.Dense(6, "silu"), NORM(affine=False), naive.Dense(2)),
    "several": (
        naive.Dense(6), NORM(), NORM(epsilon=0.1), naive.Activation("gelu"), naive.Dense(2),
    ),
    "in residuals": (
        naive.Dense(6),
        naive.Residual((NORM(), naive.Dense(6), naive.Residual((NORM(),)), naive.PReLU())),
        naive.Activation("tanh"), NORM(), naive.Dense(2),
    ),
}  # fmt: skip


def trained_by_the_oracle(case, batch_size, epochs, lr):
    """Parameters and statistics after steps of plain gradient descent."""
    p, layers = case.values, case.layers
    for _ in range(epochs):
        for start in range(0, case.m, batch_size):
            part = slice(start, start + batch_size)
            X, T = case.X[part], case.T[part]
            found = naive.gradients(p, layers, case.loss, X, T)
            moved = naive.moved(layers, naive.as_lists(p), X)
            p = {n: p[n] - lr * found[n] if n in found else np.array(moved[n]) for n in p}
    return p


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", PLACES)
def test_twenty_steps_follow_the_oracle(engine, place, dtype):
    """Batches of 6 of 19 rows: the last one is a single row, which leaves the statistics alone."""
    case = Case(4, PLACES[place], "mse", 19, seed=3)
    net = case.network(dtype)
    net.fit(case.X, case.T, loss="mse", optimizer=SGD(0.05), epochs=5, batch_size=6,
            shuffle=False, progress=False)  # fmt: skip
    expected = trained_by_the_oracle(case, 6, 5, 0.05)
    for name, values in net.state_dict().items():
        tolerance = 2e-4 if dtype == "float32" else 1e-11
        assert relative_error(values, expected[name]) < tolerance, name
        assert relative_error(values, case.values[name]) > 1e-3, name  # it moved
    logits = naive.forward(case.layers, naive.as_lists(expected), case.X)[-1]
    assert relative_error(net.logits(case.X), logits) < tolerance


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("m", [1, 9])
def test_gradients_are_differences_of_the_loss(engine, place, m):
    case = Case(4, PLACES[place], "mse", m, seed=5)
    net = case.network("float64")
    assert naive.smallest_kink(case.values, case.layers, case.X) > 1e-3
    assert fastnn.check_gradients(net, case.X, case.T, loss="mse") < 1e-5
    before = copy.deepcopy(net.state_dict())
    assert same(net.state_dict(), before)


def test_batches_of_one_row_use_the_running_statistics_and_leave_them(engine):
    case = Case(4, PLACES["several"], "mse", 7, seed=1)
    net = case.network("float64")
    before = statistics(net)
    history = net.fit(case.X, case.T, loss="mse", optimizer=SGD(1e-300), epochs=1, batch_size=1,
                      progress=False)  # fmt: skip
    assert same(statistics(net), before)
    assert history["loss"][0] == pytest.approx(net.evaluate(case.X, case.T)["loss"], rel=1e-12)


def test_sample_weights_do_not_enter_the_statistics(engine):
    X, T = rows()
    found = []
    for weights in (None, np.linspace(0, 2, len(X))):
        net = Sequential(stack(), seed=2, dtype="float64")
        net.fit(X, T, loss="mse", optimizer=SGD(1e-300), epochs=1, batch_size=20,
                sample_weight=weights, shuffle=False, progress=False)  # fmt: skip
        found.append(statistics(net))
    assert same(*found)


# -- what a step changes --------------------------------------------------------------------------


def test_predictions_evaluations_and_gradients_change_no_statistics(engine):
    X, y = table()
    net = Sequential([Dense(8), BatchNorm(), Activation("relu"), BatchNorm(), Dense(3)])
    net.fit(X, y, epochs=1, progress=False)
    before = net.state_dict()
    net.predict(X), net.predict_proba(X[:1]), net.evaluate(X, y), net.loss_and_grad(X, y)
    fastnn.check_gradients(net, X[:6], y[:6])
    if engine == "numpy":  # which traces
        net.trace(X), net.trace(X, y)
    assert same(net.state_dict(), before)
    net.fit(X, y, optimizer=SGD(1e-300), epochs=1, validation_data=(X, y), progress=False)
    after = net.state_dict()
    assert same({n: after[n] for n in net.parameters()}, {n: before[n] for n in net.parameters()})
    assert not same(after, before)  # a step, however short, is one


def test_validation_data_do_not_change_the_training(engine):
    X, y = table()
    nets = [Sequential(stack(), seed=1) for _ in range(2)]
    for net, validation in zip(nets, (None, (X[:30] + 1, y[:30])), strict=True):
        net.fit(X, y, epochs=3, validation_data=validation, progress=False)
    assert same(nets[0].state_dict(), nets[1].state_dict())


@pytest.mark.parametrize("m", [8, 1])
def test_update_is_the_step_of_run_batches(engine, m):
    """A gradient of a batch of its own and an update are a step, also in further calls."""
    case = Case(4, PLACES["several"], "mse", m, seed=1)
    whole, parts = case.network("float64"), case.network("float64")
    whole.fit(case.X, case.T, loss="mse", optimizer=Adam(0.01), epochs=3, batch_size=8,
              shuffle=False, progress=False)  # fmt: skip
    plan, state = parts.lower(losses.mse), parts._statistics
    ws = Workspace(plan, parts.flat_params, state, 8, Update.of(plan, Adam()))
    poison(ws)
    ws.slots.fill(0)
    data = Data(np.ascontiguousarray(case.X), Y=np.ascontiguousarray(case.T))
    for step in range(3):
        before = parts._statistics.copy()
        engines.current().loss_and_grad(ws, data, np.zeros(2))
        np.testing.assert_array_equal(parts._statistics, before)
        engines.current().loss_and_grad(ws, dataclasses.replace(data, separate=True), np.zeros(2))
        hyper = Adam(0.01).hyper(step + 1, np.array([0.01]))
        engines.current().update(ws, Steps(hyper, first=step))
    assert same(parts.state_dict(), whole.state_dict())


def test_a_fit_that_diverges_restores_the_statistics_of_the_epochs_start(engine):
    X, T = rows(60)
    net = Sequential(stack(), seed=1)
    net.fit(X, T, loss="mse", optimizer=SGD(0.01), epochs=2, batch_size=10, progress=False)
    before = net.state_dict()
    with pytest.raises(DivergedError) as caught:
        net.fit(X, T, loss="mse", optimizer=SGD(1e30), epochs=1, batch_size=10, shuffle=False,
                progress=False)  # fmt: skip
    assert caught.value.batch > 0  # after a step
    assert same(net.state_dict(), before)


def test_rows_that_are_not_finite_are_a_divergence(engine, monkeypatch):
    """X is checked at the door; past it, NaN in some rows is an error and changes nothing."""
    X, T = (array.astype(np.float32) for array in rows(60))
    X[-3:] = np.nan
    monkeypatch.setattr(fastnn.network, "check_features", lambda X, *_: X)
    net = Sequential(stack(), n_inputs=5, seed=1)
    before = net.state_dict()
    with pytest.raises(DivergedError) as caught:
        net.fit(X, T, loss="mse", batch_size=10, shuffle=False, progress=False)
    assert caught.value.batch == 5
    assert same(net.state_dict(), before)


def test_resumed_fits_equal_uninterrupted_ones(engine, tmp_path):
    X, y = table()
    whole, parts = (Sequential(stack(), seed=4) for _ in range(2))
    whole.fit(X, y, epochs=6, progress=False)
    parts.fit(X, y, epochs=2, progress=False)
    parts = pickle.loads(pickle.dumps(parts))
    parts.fit(X, y, epochs=2, progress=False)
    parts = copy.deepcopy(parts)
    parts.fit(X, y, epochs=2, progress=False)
    assert same(parts.state_dict(), whole.state_dict())


def test_copies_and_files_have_the_statistics(engine, tmp_path):
    X, y = table()
    net = Sequential(stack(), seed=4)
    net.fit(X, y, epochs=2, progress=False)
    net.save(tmp_path / "net", training=True)
    before = net.state_dict()
    other = Sequential(stack(), n_inputs=7, seed=9).set_fitted(net._loss, net._target)
    other.load_state_dict(before)
    for back in (net.copy(), fastnn.load(tmp_path / "net"), other):
        assert same(back.state_dict(), before)
        np.testing.assert_array_equal(back.predict_proba(X), net.predict_proba(X))
        back.fit(X, y, epochs=1, progress=False)
    assert same(net.state_dict(), before)
    assert repr(fastnn.load(tmp_path / "net")) == repr(net)


def test_a_negative_variance_is_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import load, save

    net = Sequential([Dense(3), BatchNorm(), Dense(2)], n_inputs=2)
    state = net.state_dict()
    state["1.running_var"][1] = -0.5
    with pytest.raises(ValueError, match=r"1\.running_var must be at least 0, but it has -0\.5"):
        net.load_state_dict(state)
    assert (net.state_dict()["1.running_var"] == 1).all()
    net.save(tmp_path / "net")
    with safe_open(tmp_path / "net", "numpy") as file:
        about = file.metadata()
    tensors = load((tmp_path / "net").read_bytes())
    tensors["1.running_var"][0] = -1
    (tmp_path / "bad").write_bytes(save(tensors, about))
    with pytest.raises(ModelFileError, match=r"1\.running_var has elements below 0"):
        fastnn.load(tmp_path / "bad")
    state["1.running_var"][1] = 0  # a constant column
    net.load_state_dict(state)


# -- predictions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [3, SOME_UNITS, MANY_UNITS, 800])
def test_predictions_do_not_depend_on_other_rows(compiled, units, dtype):
    layers = [BatchNorm(), Dense(units), BatchNorm(), Activation("tanh"), BatchNorm(), Dense(3)]
    net = Sequential(layers, dtype=dtype)
    X, y = table(60)
    net.fit(X, y, epochs=1, progress=False)
    together = net.predict_proba(X)
    alone = np.concatenate([net.predict_proba(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(net.predict_proba(X[7:20]), together[7:20])
    # Whole chunks of rows in parts, and statistics that change between two calls.
    many = np.concatenate([X] * 50)
    with mock.patch.multiple(compiled_module, LEAST_WORK=0.0, PARTS=3):
        np.testing.assert_array_equal(net.predict_proba(many), np.concatenate([together] * 50))
    net.load_state_dict({n: v + 0.25 for n, v in net.state_dict().items()})
    changed = net.predict_proba(X[:1])
    assert not np.array_equal(changed, together[:1])
    np.testing.assert_array_equal(net.predict_proba(X)[:1], changed)


def predicting_kernels(net, rows=8):
    plan = net.lower(losses.mse)
    ws = Workspace(plan, net.flat_params, net._statistics, rows)
    return [call.kernel for call in calls_of(ws, Variant(Task.PREDICT, function="logits"))]


#: Layers below a Dense(3), and whether each BatchNorm is folded into the Dense layer below it.
FOLDS = {
    "before an activation": ([Dense(9), BatchNorm(), Activation("relu")], [True]),
    "after an activation": ([Dense(9, "relu"), BatchNorm()], [True]),
    "without an activation": ([Dense(9), BatchNorm(affine=False)], [True]),
    "two": ([Dense(9), BatchNorm(), BatchNorm()], [True, False]),
    "two activations": ([Dense(9, "tanh"), BatchNorm(), Activation("relu")], [False]),
    "first": ([BatchNorm(), Dense(9)], [False]),
    "few outputs": ([Dense(4), BatchNorm()], [False]),
    "read twice": ([Dense(9), Residual([BatchNorm(), Dense(9)])], [False]),
    "in a residual": ([Residual([Dense(9, "gelu"), BatchNorm()])], [True]),
    "above a softmax": ([Dense(9, "softmax"), BatchNorm()], [False]),
}


@pytest.mark.parametrize("name", FOLDS)
def test_predictions_fold_it_into_the_dense_layer_below(name):
    """In the compiled engines with the bits of the network that does not."""
    layers, folded = FOLDS[name]
    X, T = rows(30)
    net = Sequential([*layers, Dense(3)], seed=3)
    net.fit(X, T, loss="mse", optimizer=SGD(0.1), epochs=2, batch_size=10, progress=False)
    kernels = predicting_kernels(net)
    assert kernels.count("batch_norm_prepare") == len(folded)
    assert kernels.count("batch_norm_apply") == folded.count(False)
    assert "batch_norm_forward" not in kernels
    with mock.patch.object(DenseHome, "takes_fold", return_value=False):
        plain = net.copy()
        assert predicting_kernels(plain).count("batch_norm_apply") == len(folded)
        unfolded = {}
        for engine in ENGINES:
            with only(engine):
                unfolded[engine] = plain.predict(X)
    found = set()
    for engine in ENGINES:
        with only(engine):
            predicted = net.predict(X)
        if engine in COMPILED:
            np.testing.assert_array_equal(predicted, unfolded[engine])
            found.add(predicted.tobytes())
        assert relative_error(predicted, unfolded["numpy"]) < 1e-6
    assert len(found) <= 1


def test_a_fold_that_is_damaged_is_refused(compiled):
    net = Sequential([Dense(9), BatchNorm(), Dense(3)], n_inputs=5)
    for field, value in (("fold", 2), ("fold", NONE), ("x", 0), ("batch", 10**6), ("state", NONE)):
        ws = Workspace(net.lower(losses.mse), net.flat_params, net._statistics, 8)
        damaged = ws.layout.ops.copy()
        damaged[1][field] = value + (field == "x") * (damaged[1]["x"] + 8)
        ws.layout = dataclasses.replace(ws.layout, ops=damaged)
        with pytest.raises(ValueError, match=r"operation [01] of the plan is damaged"):
            boundary.check_workspace(ws)


@pytest.mark.parametrize(
    ("field", "value"),
    [("w", NONE), ("b", NONE), ("b", 10**6), ("state", 10**6), ("state", NONE), ("batch", NONE),
     ("arg1", 0.0), ("arg1", np.nan), ("arg2", 1.0), ("arg2", -0.5), ("n_out", 5), ("fold", 0)],
)  # fmt: skip
def test_a_damaged_operation_is_refused(field, value):
    net = Sequential([Dense(9), BatchNorm(), Dense(3)], n_inputs=5)
    ws = Workspace(net.lower(losses.mse), net.flat_params, net._statistics, 8, training=True)
    damaged = ws.layout.ops.copy()
    damaged[1][field] = value
    ws.layout = dataclasses.replace(ws.layout, ops=damaged)
    with pytest.raises(ValueError, match="operation 1 of the plan is damaged"):
        boundary.check_workspace(ws)


# -- the bias below -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "name", "has"),
    [([Dense(4), BatchNorm()], "0.b", False), ([Dense(4, bias_init=5), BatchNorm()], "0.b", False),
     ([Dense(4), Activation("identity"), BatchNorm()], "0.b", False),
     ([Dense(4, "tanh"), BatchNorm()], "0.b", True),
     ([Dense(4), Activation("relu"), BatchNorm()], "0.b", True),
     ([Dense(4), BatchNorm(), Dense(4)], "2.b", True),
     ([Residual([Dense(4), BatchNorm()])], "0.0.b", False),
     ([Dense(4), Residual([BatchNorm(), Dense(4)])], "0.b", True),
     ([Residual([Dense(4)]), BatchNorm()], "0.0.b", True)],
)  # fmt: skip
def test_the_bias_right_below_is_folded_away(layers, name, has):
    net = Sequential([*layers, Dense(2)], n_inputs=4)
    assert (name in net.parameters()) == has
    assert (name in net.loss_and_grad.__self__.state_dict()) == has


def test_the_bias_that_is_folded_away_had_no_effect(engine):
    """An identity that is no activation to fastnn keeps it, and its gradient is 0."""
    X, T = rows(30)
    net = Sequential([Dense(6), BatchNorm(), Dense(3)], n_inputs=5, dtype="float64")
    kept = Sequential([Residual([Dense(6)]), BatchNorm(), Dense(3)], n_inputs=5, dtype="float64")
    kept.parameters()["0.projection.W"][:] = 0
    for name, view in net.parameters().items():
        kept.parameters()[name.replace("0.W", "0.0.W")][...] = view
    kept.parameters()["0.0.b"][:] = [1, -2, 3, 4, -5, 6]
    (loss, _), (other, gradient) = (n.loss_and_grad(X, T, loss="mse") for n in (net, kept))
    assert loss == pytest.approx(other, rel=1e-12)
    (bias,) = [p for p in kept.lower(losses.mse).parameters if p.name == "0.0.b"]
    assert np.abs(bias.view(gradient)).max() < 1e-13


# -- columns that are hard ------------------------------------------------------------------------


@pytest.mark.parametrize("m", [20, 1500])
def test_columns_far_from_zero_stay_accurate_in_float32(engine, m):
    """Means of 10,000 and deviations of 1: what the rows are rounded to is all that is lost."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(m, 40)) + 1e4).astype(np.float32)
    T = rng.normal(size=(m, 3)).astype(np.float32)
    nets = [Sequential([BatchNorm(), Dense(3)], n_inputs=40, dtype=dtype) for dtype in DTYPES]
    nets[1].load_state_dict(nets[0].state_dict())
    (loss, gradient), (exact, exact_gradient) = (n.loss_and_grad(X, T, loss="mse") for n in nets)
    assert loss == pytest.approx(exact, rel=1e-6)
    assert relative_error(gradient, exact_gradient) < 3e-6
    for net in nets:
        net.fit(X, T, loss="mse", optimizer=SGD(1e-300), epochs=1, batch_size=m, progress=False)
    for name, values in statistics(nets[0]).items():
        assert relative_error(values, statistics(nets[1])[name]) < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_columns_become_beta(engine, dtype):
    X, T = rows(37)
    X[:, 1], X[:, 3] = 7.3, 0.0
    net = Sequential([BatchNorm(), Dense(3)], n_inputs=5, dtype=dtype)
    views = net.parameters()
    views["0.beta"][:] = [0.5, 0.25, -1, 2, 0]
    z = (X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + 1e-5) + views["0.beta"]
    np.testing.assert_allclose(z[:, [1, 3]], [[0.25, 2]] * 37, rtol=1e-9)
    loss, gradient = net.loss_and_grad(X, T, loss="mse")
    expected = np.mean((z @ views["1.W"] + views["1.b"] - T) ** 2)
    assert loss == pytest.approx(expected, rel=1e-6 if dtype == "float32" else 1e-12)
    assert np.isfinite(gradient).all()
    net.fit(X, T, loss="mse", epochs=5, progress=False)
    assert np.isfinite(net.predict(X)).all()
    np.testing.assert_allclose(net.state_dict()["0.running_var"][[1, 3]], 0.9**10, rtol=1e-4)


def test_a_batch_of_very_many_rows_is_one_piece(engine):
    """Its statistics are those of all rows, however much memory that takes."""
    X, y = table(20000, 6)
    nets = {dtype: Sequential([Dense(70), BatchNorm(), Activation("relu"), Dense(3)], n_inputs=6,
                              dtype=dtype) for dtype in DTYPES}  # fmt: skip
    net, exact = nets["float32"], nets["float64"]
    exact.load_state_dict(net.state_dict())
    assert net.lower(losses.cross_entropy).whole_batches
    loss, gradient = net.loss_and_grad(X, y, loss="cross_entropy")
    exact_loss, exact_gradient = exact.loss_and_grad(X, y, loss="cross_entropy")
    views = exact.parameters()
    z = X.astype(float) @ views["0.W"]
    a = np.maximum((z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5), 0)
    logits = a @ views["3.W"] + views["3.b"]
    each = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20000), y]
    assert exact_loss == pytest.approx(each.mean(), rel=1e-12)
    assert loss == pytest.approx(exact_loss, rel=1e-6)
    assert relative_error(gradient, exact_gradient) < 1e-5
    net.fit(X, y, optimizer=SGD(0.01), epochs=1, batch_size=None, progress=False)
    found = statistics(net)
    np.testing.assert_allclose(found["1.running_mean"], 0.1 * z.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["1.running_var"], 0.9 + 0.1 * z.var(axis=0, ddof=1), rtol=1e-4)


def test_pieces_of_a_batch_are_refused(compiled):
    X, T = rows(2000)
    net = Sequential([BatchNorm(), Dense(3)], n_inputs=5, dtype="float64")
    ws = Workspace(
        net.lower(losses.mse), net.flat_params, net._statistics, 512, total_rows=2000, training=True
    )
    with pytest.raises(ValueError, match="2000 rows in pieces, but an operation needs all"):
        engines.current().loss_and_grad(ws, Data(X, Y=T, batch_size=512), np.zeros(2))


# -- what is shown --------------------------------------------------------------------------------


def test_trace_shows_the_intermediates_of_the_paper():
    layers = (naive.Dense(4), NORM(), naive.Activation("gelu"), naive.Dense(3, "tanh"), NORM(),
              naive.Dense(2))  # fmt: skip
    case = Case(3, layers, "mse", 6, seed=1)
    net, p = case.network("float64"), case.values
    trace = net.trace(case.X, case.T, loss="mse")
    values = naive.forward(layers, p, case.X, naive.TRAINING)
    for i in (1, 4):
        x = np.array(values[i])
        np.testing.assert_allclose(trace[f"{i}.mean"], x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(trace[f"{i}.variance"], x.var(axis=0), rtol=1e-12)
        normalised = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
        np.testing.assert_allclose(trace[f"{i}.normalised"], normalised, rtol=1e-11, atol=1e-12)
        for name in ("z", "a"):
            np.testing.assert_allclose(trace[f"{i}.{name}"], values[i + 1], rtol=1e-11)
    np.testing.assert_allclose(trace["2.a"], values[3], rtol=1e-11)
    dA = [naive.row_loss_derivative("mse", a, t) for a, t in zip(values[-1], case.T, strict=True)]
    for i in (5, 4, 3, 2, 1, 0):
        np.testing.assert_allclose(trace[f"{i}.da"], dA, rtol=1e-9, atol=1e-12)
        dA, _ = layers[i].backward(naive.part(p, i), values[i], dA, naive.TRAINING)
    found = naive.gradients(p, *case.oracle)
    assert {"1.gamma", "1.beta", "4.gamma", "4.beta"} < found.keys()
    for name, expected in found.items():
        layer, _, kind = name.rpartition(".")
        np.testing.assert_allclose(trace[f"{layer}.d{kind}"], expected, rtol=1e-9, atol=1e-12)
    predicted = net.trace(case.X)
    np.testing.assert_allclose(predicted["5.a"], net.logits(case.X), rtol=1e-12)
    np.testing.assert_array_equal(predicted["1.mean"], p["1.running_mean"])
    np.testing.assert_array_equal(predicted["4.variance"], p["4.running_var"])


def test_the_plan_and_the_summary_show_it(capsys):
    net = Sequential([Dense(6), BatchNorm(), Activation("relu"), Dense(2)], n_inputs=3)
    lines = str(net.plan).splitlines()
    assert lines[0] == "plan: 3 -> 2, 44 parameters, 23 workspace elements per row of a batch"
    assert lines[2].split() == [
        "0", "dense", "3", "->", "6", "input", "W[0:18]", "a0", "dW", "dz0"
    ][:-1]  # fmt: skip
    assert lines[3].split() == [
        "1", "batch_norm", "+", "relu", "6", "->", "6", "a0", "gamma[30:36]", "beta[36:42]", "a1",
        "dgamma", "dbeta", "dz0",
    ]  # fmt: skip
    net.summary()
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split()[-2:] == ["18", "parameters"]  # without biases
    assert shown[2].split() == ["1", "BatchNorm()", "12", "parameters"]
    shown = repr(BatchNorm(0.5, 1e-3, False))
    assert shown == "BatchNorm(momentum=0.5, epsilon=0.001, affine=False)"


def test_threads_need_not_meet_between_a_wide_product_and_its_normalisation():
    """The columns of a part are the same in both."""
    net = Sequential([Dense(512), BatchNorm(), Activation("relu"), Dense(512, "relu"), Dense(10)],
                     n_inputs=784)  # fmt: skip
    plan = net.lower(losses.cross_entropy)
    ws = Workspace(plan, net.flat_params, net._statistics, 128, Update.of(plan, Adam()))
    calls = list(calls_of(ws, Variant(Task.TRAIN)))
    splits = [call._replace(split=Split.columns) if call.columns else call for call in calls]
    backward = [call.kernel for call in splits].index("batch_norm_backward")
    (before,) = (call for call in splits[:backward] if call.kernel == "dense_inputs")
    assert not splits[backward].conflicts(before)
    meets = dict(zip([call.kernel for call in splits], meetings(splits), strict=True))
    assert not meets["batch_norm_forward"]
    assert not meets["batch_norm_statistics"]


def test_steps_of_the_oracle_are_those_of_other_suites():
    """The helper of the engines' suite and the one above agree where nothing is normalised."""
    case = Case(3, (naive.Dense(4, "tanh"), naive.Dense(2)), "mse", 9, seed=0)
    expected, _ = steps(case, 4, 2, lambda: naive_optimizers.Sgd(0.1))
    found = trained_by_the_oracle(case, 4, 2, 0.1)
    net = case.network("float64")
    np.testing.assert_allclose(flat(net, found), flat(net, expected), rtol=1e-12)


def test_loaded_statistics_make_a_network_trained():
    net = Sequential([BatchNorm(), Dense(1)], n_inputs=4)
    state = net.state_dict()
    state["0.running_mean"] += 1
    net.load_state_dict(state)
    assert net.predict(np.ones((2, 4))).shape == (2, 1)
