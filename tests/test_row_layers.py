"""LayerNorm, GroupNorm, Scale and Maxout: what the suite over all operations does not see."""

import dataclasses

import naive
import numpy as np
import pytest
from cases import Case, relative_error
from conftest import DTYPES
from test_engines import TOLERANCE
from test_operations import agrees

import fastnn
from fastnn import (
    SGD,
    Dense,
    GroupNorm,
    LayerNorm,
    Maxout,
    Residual,
    Scale,
    Sequential,
    engines,
    layers,
    losses,
    run,
)
from fastnn.engines import compiled as compiled_module
from fastnn.engines.workspace import Data, Workspace
from fastnn.ops import OPERATIONS
from fastnn.tables import NONE

STACK = (
    naive.Scale(True),
    naive.Maxout(24, 3),
    naive.GroupNorm(1, 0.1),
    naive.Residual((naive.GroupNorm(4, 0.3, False), naive.Maxout(24), naive.Scale())),
    naive.GroupNorm(3, 0.1),
    naive.Activation("tanh"),
    naive.Maxout(3),
)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# -- normalisations -------------------------------------------------------------------------------


def net_of(layer, n, dtype="float64"):
    """The layer on n inputs, and below a Dense layer that passes each output on."""
    net = Sequential([layer, Dense(n)], n_inputs=n, dtype=dtype)
    net.parameters()["1.W"][:] = np.eye(n)
    net.parameters()["1.b"][:] = 0
    return net


#: n, groups: a segment is one vector, some, a whole run of them, more; many groups; two columns
SHAPES = [(2, 1), (5, 1), (16, 1), (37, 1), (64, 1), (128, 1), (300, 1), (2100, 1), (6, 3),
          (64, 8), (90, 5), (400, 2), (120, 60)]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "groups"), SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_a_normalisation_agrees_with_its_formula(engine, n, groups, affine, dtype):
    layer = naive.GroupNorm(groups, 0.1, affine)
    lowest = Case(n, (layer, naive.Dense(2)), "mse", 3, seed=n)
    above = Case(3, (naive.Dense(n), layer, naive.Dense(2)), "cross_entropy", 19, seed=n)
    for case in (lowest, above)[: 1 + (n < 500)]:
        agrees(case, dtype)


@pytest.mark.parametrize(("n", "groups"), SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_pytorch_computes_the_same(engine, n, groups, affine):
    torch = pytest.importorskip("torch")
    X, W, G = numbers(7, n), numbers(n, n, seed=1) / n**0.5, numbers(7, n, seed=2)
    layer = GroupNorm(groups, affine=affine) if groups > 1 else LayerNorm(affine=affine)
    net = Sequential([Dense(n), layer, Dense(n)], n_inputs=n, dtype="float64")
    views = net.parameters()
    for view, value in zip((views["0.W"], views["2.W"]), (W, np.eye(n)), strict=True):
        view[:] = value
    theirs = torch.nn.GroupNorm(groups, n, affine=affine, dtype=torch.float64)
    if groups == 1:
        theirs = torch.nn.LayerNorm(n, elementwise_affine=affine, dtype=torch.float64)
    if affine:
        for name, parameter in (("gamma", theirs.weight), ("beta", theirs.bias)):
            views[f"1.{name}"][:] = numbers(n, seed=len(name))
            parameter.data = torch.from_numpy(views[f"1.{name}"].copy())
    weights = torch.from_numpy(W.copy()).requires_grad_()
    z = theirs(torch.from_numpy(X) @ weights)
    (z * torch.from_numpy(G)).sum().backward()
    assert relative_error(net.logits(X), z.detach().numpy()) < 1e-12
    # sse has the derivative 2 (z - T): with these targets it is G.
    _, gradient = net.loss_and_grad(X, net.logits(X) - G / 2, loss="sse")
    found = {p.name: p.view(gradient) for p in net.plan.parameters}
    assert relative_error(found["0.W"], weights.grad.numpy()) < 1e-12
    if affine:
        assert relative_error(found["1.gamma"], theirs.weight.grad.numpy()) < 1e-12
        assert relative_error(found["1.beta"], theirs.bias.grad.numpy()) < 1e-12


@pytest.mark.parametrize("groups", [1, 4])
def test_rows_with_a_huge_offset_lose_only_what_their_rounding_lost(engine, groups):
    """The mean is 1e4, the deviation 1: an element of float32 is known to 5e-4."""
    X = (1e4 + numbers(50, 64)).astype(np.float32)
    net = net_of(GroupNorm(groups), 64, "float32")
    grouped = X.astype(float).reshape(50, groups, -1)
    wanted = grouped - grouped.mean(axis=2, keepdims=True)
    wanted /= np.sqrt((wanted**2).mean(axis=2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(net.logits(X), wanted.reshape(50, 64), atol=2e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e4, 1e30])
def test_constant_rows_are_beta(engine, value, dtype):
    """The compiled engines give exactly 0 before beta, the reference what rounding leaves."""
    net = net_of(LayerNorm(), 37, dtype)
    beta = net.parameters()["0.beta"]
    beta[:] = numbers(37)
    X = np.full((4, 37), value)
    exact = 0 if engine != "numpy" or dtype == "float32" else abs(value) * 1e-12
    np.testing.assert_allclose(net.logits(X), np.tile(beta, (4, 1)), rtol=0, atol=exact)
    _, gradient = net.loss_and_grad(X, numbers(4, 37), loss="mse")
    assert np.isfinite(gradient).all()


def test_instance_normalisation_is_a_group_for_each_channel(engine):
    X = numbers(6, 3 * 8)
    together = net_of(GroupNorm(3, affine=False), 24).logits(X)
    for channel in range(3):
        columns = slice(8 * channel, 8 * channel + 8)
        alone = net_of(LayerNorm(affine=False), 8).logits(X[:, columns])
        np.testing.assert_array_equal(together[:, columns], alone)


# -- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_alone_are_rows_together(compiled, dtype):
    case = Case(7, STACK, "cross_entropy", 60, seed=2)
    net = case.network(dtype)
    together = net.logits(case.X)
    for i in (0, 1, 30, 59):
        np.testing.assert_array_equal(net.logits(case.X[i : i + 1]), together[i : i + 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [5, 70, 1100])
def test_every_number_of_parts_gives_the_same_bits(compiled, dtype, m, monkeypatch):
    case = Case(7, STACK, "cross_entropy", m, seed=1)
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    found = set()
    for parts in range(1, 9):
        monkeypatch.setattr(compiled_module, "PARTS", parts)
        net = case.network(dtype)
        loss, gradient = net.loss_and_grad(case.X, **case.arguments)
        found.add((loss, gradient.tobytes(), net.logits(case.X).tobytes()))
    assert len(found) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1100, 2500])
def test_a_batch_in_pieces_is_the_batch(engine, dtype, m, monkeypatch):
    case = Case(7, STACK, "mse", m, seed=1, weighted=True)
    found = []
    for elements in (run.PIECE_ELEMENTS, 1):
        monkeypatch.setattr(run, "PIECE_ELEMENTS", elements)
        net = case.network(dtype)
        value, gradient = net.loss_and_grad(case.X, **case.arguments)
        net.fit(case.X, case.T, loss="mse", optimizer=SGD(1e-3), epochs=2, batch_size=m - 300,
                progress=False)  # fmt: skip
        found.append((gradient, net.flat_params, [value]))
    for whole, pieces in zip(*found, strict=True):
        if engine == "numpy":
            assert relative_error(pieces, whole) < 100 * np.finfo(dtype).eps
        else:
            np.testing.assert_array_equal(pieces, whole)


# -- maxout and scale -----------------------------------------------------------------------------


def maxout_of(X, pieces, dtype="float64"):
    """Maxout whose weighted sums are the columns of X, and its trace."""
    n = X.shape[1]
    net = Sequential([Maxout(n // pieces, pieces)], n_inputs=n, dtype=dtype)
    net.parameters()["0.W"][:] = np.eye(n)
    return net


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pieces", [2, 3, 5])
@pytest.mark.parametrize("units", [1, 7, 64, 700])
def test_the_first_of_equal_pieces_wins_alone(engine, pieces, units, dtype):
    X = np.random.default_rng(units).integers(-2, 3, (6, pieces * units)).astype(float)
    net = maxout_of(X, pieces, dtype)
    parts = X.reshape(6, pieces, units)
    np.testing.assert_array_equal(net.logits(X), parts.max(axis=1))
    T = numbers(6, units)
    winner = parts.argmax(axis=1)[:, None, :] == np.arange(pieces)[:, None]
    slope = 2 * (parts.max(axis=1) - T.astype(dtype))[:, None, :] * winner
    _, gradient = net.loss_and_grad(X, T, loss="sse")
    db = next(p for p in net.plan.parameters if p.name == "0.b").view(gradient)
    assert relative_error(db, slope.sum(axis=0).ravel()) < TOLERANCE[dtype]


@pytest.mark.parametrize("piece", [0, 1, 2])
def test_a_nan_in_any_piece_is_the_maximum(engine, piece):
    """Diverged weights must not hide behind another piece."""
    net = maxout_of(np.zeros((1, 60)), 3)
    net.parameters()["0.b"][20 * piece + 3] = np.nan
    logits = net.logits(np.ones((2, 60)))
    assert np.isnan(logits[:, 3]).all()
    assert np.isfinite(np.delete(logits, 3, axis=1)).all()


def test_scale_learns_the_scaling_of_the_input(engine):
    X = numbers(200, 3) * [1.0, 100.0, 0.01]
    net = Sequential([Scale(init=0.5, bias=True), Dense(1)], n_inputs=3, dtype="float64")
    assert net.parameters()["0.gamma"].tolist() == [0.5] * 3
    assert net.parameters()["0.beta"].tolist() == [0.0] * 3
    loss, _ = net.loss_and_grad(X, X[:, 2], loss="mse")
    net.fit(X, X[:, 2], loss="mse", epochs=20, progress=False)
    assert net.history["loss"][-1] < loss
    assert fastnn.check_gradients(net, X, X[:, 2], loss="mse") < 1e-6


# -- trace, files, plans --------------------------------------------------------------------------


def test_a_trace_shows_the_steps_of_a_normalisation():
    case = Case(5, (naive.Dense(12), naive.GroupNorm(3), naive.Activation("gelu"),
                    naive.Dense(2)), "mse", 4, seed=0)  # fmt: skip
    net = case.network("float64")
    trace, p = net.trace(case.X, case.T, loss="mse"), net.parameters()
    grouped = trace["0.a"].reshape(4, 3, 4)
    np.testing.assert_allclose(trace["1.mean"], grouped.mean(axis=2), rtol=1e-13)
    np.testing.assert_allclose(trace["1.variance"], grouped.var(axis=2), rtol=1e-13)
    wanted = (grouped - trace["1.mean"][:, :, None]) / np.sqrt(
        trace["1.variance"] + 1e-5
    )[:, :, None]  # fmt: skip
    np.testing.assert_allclose(trace["1.normalised"], wanted.reshape(4, 12), rtol=1e-9)
    z = trace["1.normalised"] * p["1.gamma"] + p["1.beta"]
    np.testing.assert_allclose(trace["1.z"], z, rtol=1e-12)
    np.testing.assert_array_equal(trace["1.a"], trace["1.z"])
    np.testing.assert_allclose(trace["2.a"], fastnn.activations.gelu(z), rtol=1e-12)
    _, gradient = net.loss_and_grad(case.X, case.T, loss="mse")
    for parameter in net.plan.parameters:
        layer, kind = parameter.name.rsplit(".", 1)
        np.testing.assert_allclose(
            trace[f"{layer}.d{kind}"], parameter.view(gradient), rtol=1e-9, atol=1e-13
        )
    assert {"1.dgamma", "1.dbeta", "1.dz", "1.da"} <= trace.keys()


def test_a_trace_shows_maxout_and_scale():
    net = Sequential([Scale(2.0), Maxout(3, 2)], n_inputs=4, dtype="float64")
    X = numbers(5, 4)
    trace = net.trace(X, numbers(5, 3, seed=1), loss="sse")
    np.testing.assert_array_equal(trace["0.a"], 2 * X)
    z = trace["1.z"]
    assert z.shape == trace["1.dz"].shape == (5, 6)
    np.testing.assert_array_equal(trace["1.a"], np.maximum(z[:, :3], z[:, 3:]))
    np.testing.assert_array_equal(trace["1.dz"][:, :3] + trace["1.dz"][:, 3:], trace["1.da"])
    assert trace["1.dW"].shape == (4, 6)
    assert trace["0.dgamma"].shape == (4,)


GIVEN = [LayerNorm(), LayerNorm(0.5, affine=False), GroupNorm(2), GroupNorm(3, epsilon=1e-3),
         Scale(), Scale(0.5, bias=True), Scale(fastnn.initializers.Normal(0.1)), Maxout(6),
         Maxout(6, pieces=4, init="orthogonal", bias_init=0.1, l1=0.1, l2=0.2)]  # fmt: skip


def test_networks_of_all_of_them_are_saved_and_printed(tmp_path):
    net = Sequential([Dense(6), Residual(GIVEN), Maxout(2)], n_inputs=4, seed=3)
    net.save(tmp_path / "m")
    loaded = fastnn.load(tmp_path / "m")
    assert loaded.config() == net.config()
    np.testing.assert_array_equal(loaded.flat_params, net.flat_params)
    np.testing.assert_array_equal(loaded.logits(numbers(3, 4)), net.logits(numbers(3, 4)))
    shown = repr(GIVEN)
    assert shown.startswith("[LayerNorm(), LayerNorm(epsilon=0.5, affine=False), GroupNorm(2), ")
    assert "Scale(0.5, bias=True), " in shown
    assert "Maxout(6), Maxout(6, pieces=4, init='orthogonal', bias_init=0.1, l1" in shown
    plan = str(net.plan)
    for text in ("layer_norm", "group_norm, 3 groups", "scale and shift", "maxout, 4 pieces"):
        assert text in plan
    for layer in GIVEN:
        again = layers.from_config(layer.config())
        assert type(again) is type(layer)
        assert again.config() == layer.config()
        assert getattr(layers, type(layer).__name__) is getattr(fastnn, type(layer).__name__)


def test_maxouts_initial_weights_are_hes():
    net = Sequential([Maxout(300, 4)], n_inputs=200, seed=1)
    W = net.parameters()["0.W"]
    assert W.shape == (200, 1200)
    assert W.std() == pytest.approx((2 / 200) ** 0.5, rel=0.02)


def test_penalties_and_decay_are_for_weights():
    """Those of the network reach Maxout's W, but no gamma."""
    net = Sequential([LayerNorm(), Scale(), Maxout(2, l2=0.5)], n_inputs=3, dtype="float64", l2=0.5)
    X, T = numbers(4, 3), numbers(4, 2, seed=1)
    loss, _ = net.loss_and_grad(X, T, loss="mse")
    W = net.parameters()["2.W"]
    assert loss == pytest.approx(((net.logits(X) - T) ** 2).mean() + (W**2).sum(), rel=1e-12)
    assert net.plan.n_weights == W.size


BAD = {
    "groups do not divide": (ValueError, "layer 1 normalises 3 groups of 8 columns.* divide",
                             lambda: Sequential([Dense(8), GroupNorm(3), Dense(1)], n_inputs=2)),
    "too many groups": (ValueError, "layer 0 normalises 9 groups of 8 columns",
                        lambda: Sequential([GroupNorm(9), Dense(1)], n_inputs=8)),
    "a group of one": (ValueError, "layer 0 normalises 8 groups of 8 columns.* single column",
                       lambda: Sequential([GroupNorm(8), Dense(1)], n_inputs=8)),
    "one column": (ValueError, "layer 1.0 normalises 1 group of 1 columns.* always be 0",
                   lambda: Sequential([Dense(1), Residual([LayerNorm()]), Dense(1)], n_inputs=2)),
    "groups zero": (ValueError, "groups must be at least 1, not 0", lambda: GroupNorm(0)),
    "groups text": (TypeError, "groups must be a whole number", lambda: GroupNorm("2")),
    "groups fraction": (TypeError, "groups must be a whole number", lambda: GroupNorm(1.5)),
    "epsilon zero": (ValueError, "epsilon must be above 0", lambda: LayerNorm(0)),
    "epsilon infinite": (ValueError, "epsilon must be finite", lambda: LayerNorm(float("inf"))),
    "epsilon text": (TypeError, "epsilon must be a number", lambda: GroupNorm(2, epsilon="tiny")),
    "affine": (TypeError, "affine must be True or False, not 1", lambda: LayerNorm(affine=1)),
    "pieces one": (ValueError, "pieces must be at least 2, not 1", lambda: Maxout(3, 1)),
    "pieces text": (TypeError, "pieces must be a whole number", lambda: Maxout(3, "2")),
    "units zero": (ValueError, "units must be at least 1", lambda: Maxout(0)),
    "init": (ValueError, "did you mean", lambda: Maxout(3, init="he_norml")),
    "biases": (ValueError, "bias_init must be", lambda: Maxout(3, bias_init="ones")),
    "penalty": (ValueError, "l1 must be at least 0", lambda: Maxout(3, l1=-1)),
    "scale by name": (TypeError, "init must be a number or an initialiser", lambda: Scale("zeros")),
    "scale bias": (TypeError, "bias must be True or False", lambda: Scale(bias=0)),
    "last": (ValueError, "last layer must be Dense or Maxout", lambda: Sequential([LayerNorm()])),
    "unknown": (AttributeError, "has no attribute 'LayerNrm'", lambda: layers.LayerNrm),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_explained(name):
    kind, message, act = BAD[name]
    with pytest.raises(kind, match=message):
        act()


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("group_norm", "arg2", 5.0), ("group_norm", "arg2", 0.0), ("group_norm", "arg2", -1.0),
     ("group_norm", "arg2", float("nan")), ("group_norm", "arg2", float("inf")),
     ("group_norm", "arg2", 8.0), ("group_norm", "arg1", 0.0), ("group_norm", "arg1", float("nan")),
     ("group_norm", "w", 10**6), ("group_norm", "b", NONE), ("group_norm", "w", NONE),
     ("group_norm", "saved", NONE), ("group_norm", "saved", 10**6), ("group_norm", "batch", NONE),
     ("group_norm", "n_out", 4), ("group_norm", "code", 12),
     ("scale", "w", NONE), ("scale", "b", 10**6), ("scale", "batch", NONE), ("scale", "n_in", 4),
     ("maxout", "arg1", 1.0), ("maxout", "arg1", 2.5), ("maxout", "arg1", float("nan")),
     ("maxout", "arg1", float("inf")), ("maxout", "n_out", 4), ("maxout", "n_in", 8)],
)  # fmt: skip
def test_a_damaged_operation_is_refused(compiled, name, field, value):
    below = naive.Dense(8), naive.GroupNorm(2), naive.Scale(True)
    case = Case(3, (*below, naive.Maxout(8), naive.Dense(2)), "mse", 8, seed=0)
    net = case.network("float64")
    ws = Workspace(net.lower(losses.mse), net.flat_params, np.zeros(0), 8, training=True)
    table = ws.layout.ops.copy()
    index = int(np.flatnonzero(table["kind"] == OPERATIONS[name].kind)[0])
    table[index][field] = value
    ws.layout = dataclasses.replace(ws.layout, ops=table)
    with pytest.raises(ValueError, match=f"operation {index} of the plan is damaged"):
        engines.current().loss_and_grad(ws, Data(case.X, Y=case.T), np.zeros(2))
