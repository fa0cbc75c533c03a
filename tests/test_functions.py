"""Activations, losses, codes and initial values as functions of their own."""

import math

import naive
import naive_formulas
import numpy as np
import pytest
from cases import ACTIVATIONS, WITH_ARGUMENT, Case, activation
from conftest import ENGINES, only

import fastnn
from fastnn import Dense, Sequential, activations, initializers, losses
from fastnn.initializers import Constant, Normal, Uniform, xavier_normal
from fastnn.ops.loss import output_function

Z = np.linspace(-9, 9, 2001)
ELEMENTWISE = [act for act in ACTIVATIONS + WITH_ARGUMENT if act != "softmax"]


@pytest.mark.parametrize("act", ELEMENTWISE, ids=str)
def test_activations_and_their_derivatives(act):
    g = activations.get(activation(act))
    assert g is activations.get(g)
    if isinstance(act, str):
        assert g is getattr(activations, act)
    np.testing.assert_allclose(
        g(Z), [naive_formulas.activate(act, z) for z in Z], rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(
        g.derivative(Z), [naive_formulas.derivative(act, z) for z in Z], rtol=1e-9, atol=1e-12
    )
    away = Z[np.abs(Z) > 0.01]
    numeric = (g(away + 1e-6) - g(away - 1e-6)) / 2e-6
    np.testing.assert_allclose(g.derivative(away), numeric, atol=1e-8)
    assert g(np.float32([1, -2])).dtype == g.derivative(np.float32([1, -2])).dtype == np.float32
    assert g([1, 2]).dtype == np.float64
    assert g(np.ones((2, 3, 4))).shape == (2, 3, 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("act", ELEMENTWISE, ids=str)
def test_every_activation_runs_in_every_engine(engine, act, dtype):
    """Over the whole range, element by element against the oracle."""
    z = np.concatenate([np.linspace(-30, 30, 401), [0.0, 1e-8, -1e-8, 100.0, -100.0]])
    z = z.astype(dtype)
    net = Sequential([Dense(1, activation(act))], n_inputs=1, dtype=dtype)
    net.flat_params[:] = [1, 0]
    out = net._forward(z[:, None], None, "output")[:, 0]
    assert out.dtype == dtype
    expected = np.array([naive_formulas.activate(act, float(v)) for v in z])
    # Far out, an ulp of z is many of e^(-z^2/2): the oracle itself is not better than 1e-12.
    tolerance = max(8 * np.finfo(dtype).eps, 1e-12)
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=np.finfo(dtype).tiny * 1e6)


def test_softmax_as_function():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 4, 5)) * 5
    for axis in (-1, 0, 1, 2, -3):
        a = activations.softmax(z, axis=axis)
        np.testing.assert_allclose(a.sum(axis=axis), 1)
        np.testing.assert_allclose(a, np.exp(z) / np.exp(z).sum(axis=axis, keepdims=True))
    z = z[0, 0]
    jacobian = activations.softmax.derivative(z)
    for j in range(5):
        step = 1e-6 * (np.arange(5) == j)
        numeric = (fastnn.softmax(z + step) - fastnn.softmax(z - step)) / 2e-6
        np.testing.assert_allclose(jacobian[:, j], numeric, atol=1e-9)
    with pytest.raises(ValueError, match="axis 3"):
        fastnn.softmax(z, axis=3)
    with pytest.raises(ValueError, match="axis"):
        fastnn.softmax(np.zeros((2, 0)))


def test_losses_of_given_outputs():
    y, a = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.2, 0.8], [0.4, 0.6]])
    assert losses.sse(y, a) == pytest.approx(0.04 + 0.04 + 0.36 + 0.36)
    assert losses.mse(y, a) == pytest.approx(0.8 / 4)
    np.testing.assert_allclose(losses.sse.derivative(y, a), 2 * (a - y))
    np.testing.assert_allclose(losses.mse.derivative(y, a), a - y)
    expected = -(math.log(0.8) + math.log(0.4)) / 2
    assert losses.cross_entropy(y, a) == pytest.approx(expected)
    assert losses.cross_entropy([1, 0], a) == pytest.approx(expected)
    np.testing.assert_allclose(losses.cross_entropy.derivative(y, a), -y / a)
    both = -(y * np.log(a) + (1 - y) * np.log(1 - a)).sum(axis=1).mean()
    assert losses.binary_cross_entropy(y, a) == pytest.approx(both)
    np.testing.assert_allclose(
        losses.binary_cross_entropy.derivative(y, a), -y / a + (1 - y) / (1 - a)
    )
    assert losses.binary_cross_entropy([1.0, 0.0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert losses.cross_entropy(y, y) == 0  # 0 log 0 is 0
    assert losses.binary_cross_entropy(y, 1 - y) == np.inf
    with pytest.raises(fastnn.errors.ShapeError, match=r"\(2, 2\) do not fit .* \(3, 2\)"):
        losses.mse(y, np.zeros((3, 2)))


@pytest.mark.parametrize(
    "loss",
    [losses.mse, losses.sse, losses.binary_cross_entropy, losses.cross_entropy,
     losses.CrossEntropy(0.1), losses.BinaryCrossEntropy(0.3), losses.mae, losses.Huber(0.4),
     losses.Quantile(0.3), losses.Quantile([0.3, 0.6]), losses.Quantile([0.1, 0.2, 0.3, 0.4]),
     losses.poisson, losses.hinge, losses.squared_hinge, losses.Focal(0.0), losses.Focal(0.5),
     losses.Focal(3.0), losses.gaussian_nll],
    ids=repr,
)  # fmt: skip
def test_derivatives_of_losses_are_differences_of_them(loss):
    rng = np.random.default_rng(0)
    y, a = np.eye(4)[[2, 0, 1]][:, : 4 // loss.n_per_target], rng.uniform(0.1, 0.9, (3, 4))
    share = 1 if loss is losses.sse else 1 / 3
    for place in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[place] = 1e-6
        numeric = (loss(y, a + step) - loss(y, a - step)) / 2e-6
        assert share * loss.derivative(y, a)[place] == pytest.approx(numeric, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_function_is_the_loss_that_is_trained(engine):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 3))
    for loss, act, T in (
        (losses.cross_entropy, "softmax", np.eye(4)[[0, 1, 2, 3, 0, 1]]),
        (losses.CrossEntropy(0.1), "softmax", np.eye(4)[[0, 1, 2, 3, 0, 1]]),
        (losses.binary_cross_entropy, "sigmoid", rng.integers(0, 2, (6, 4))),
        (losses.BinaryCrossEntropy(0.1), "sigmoid", rng.integers(0, 2, (6, 4))),
        (losses.BinaryCrossEntropy(0.1), "sigmoid", rng.integers(0, 2, (6, 1))),
        (losses.mse, "tanh", rng.normal(size=(6, 4))),
        (losses.sse, "softmax", rng.normal(size=(6, 4))),
        (losses.mae, "tanh", rng.normal(size=(6, 4))),
        (losses.Huber(0.5), "tanh", rng.normal(size=(6, 4))),
        (losses.Quantile(0.8), "tanh", rng.normal(size=(6, 4))),
        (losses.Quantile([0.3, 0.8]), "tanh", rng.normal(size=(6, 2))),
        (losses.poisson, None, rng.integers(0, 4, (6, 4))),
        (losses.hinge, None, rng.integers(0, 2, (6, 4))),
        (losses.squared_hinge, "tanh", rng.integers(0, 2, (6, 4))),
        (losses.Focal(1.5), "softmax", np.eye(4)[[0, 1, 2, 3, 0, 1]]),
        (losses.Focal(1.5), "sigmoid", rng.integers(0, 2, (6, 1))),
        (losses.gaussian_nll, None, rng.normal(size=(6, 2))),
    ):
        units = T.shape[1] * loss.n_per_target
        net = Sequential([Dense(units, act)], n_inputs=3, dtype="float64")
        apply = output_function(loss.code, units) if act is None else None
        with only(engine):
            value, _ = net.loss_and_grad(X, T, loss=loss)
            output = net._forward(X, None, apply or "output")
        assert value == pytest.approx(loss(T, output), rel=1e-12)


def test_one_hot_and_its_inverse():
    labels = np.array([3, 0, 2, 2])
    rows = fastnn.one_hot(labels, 5)
    assert rows.shape == (4, 5)
    np.testing.assert_array_equal(rows.sum(axis=1), 1)
    np.testing.assert_array_equal(fastnn.from_one_hot(rows), labels)
    assert fastnn.one_hot([1]).shape == (1, 2)
    for bad, message in (([5], "from 0 to 4"), ([-1], "from 0 to 4")):
        with pytest.raises(ValueError, match=message):
            fastnn.one_hot(bad, 5)
    with pytest.raises(TypeError, match="whole numbers"):
        fastnn.one_hot([0.5], 2)
    with pytest.raises(ValueError, match="one dimension"):
        fastnn.one_hot([[1]], 2)
    with pytest.raises(ValueError, match="matrix"):
        fastnn.from_one_hot([1, 2])


SHAPE = (200, 300)
VARIANCES = {
    "xavier_normal": 1 / 250, "xavier_uniform": 1 / 250, "he_normal": 2 / 200,
    "he_uniform": 2 / 200, "lecun_normal": 1 / 200, "lecun_uniform": 1 / 200,
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_scaling(name):
    w = initializers.get(name).values(SHAPE, 0, 0)
    assert w.mean() == pytest.approx(0, abs=0.002)
    assert w.var() == pytest.approx(VARIANCES[name], rel=0.02)
    limit = math.sqrt(3 * VARIANCES[name])
    assert (np.abs(w).max() <= limit) == name.endswith("uniform")


def test_other_initialisers():
    assert xavier_normal(mode="fan_in").values(SHAPE, 0, 0).var() == pytest.approx(
        1 / 200, rel=0.02
    )
    assert Normal(0.01).values(SHAPE, 0, 0).std() == pytest.approx(0.01, rel=0.02)
    u = Uniform(2, 4).values(SHAPE, 0, 0)
    assert 2 < u.min() < 2.01
    assert 3.99 < u.max() < 4
    assert not initializers.zeros.values(SHAPE, 0, 0).any()
    assert (Constant(3).values(SHAPE, 0, 0) == 3).all()
    for shape in ((5, 3), (3, 5), (4, 4)):
        w = initializers.orthogonal.values(shape, 0, 0)
        gram = w.T @ w if shape[0] >= shape[1] else w @ w.T
        np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-12)


def test_auto_follows_the_activation():
    for act, expected in (
        ("relu", "he_normal"), ("leaky_relu", "he_normal"), ("gelu", "he_normal"),
        ("selu", "lecun_normal"), ("tanh", "lecun_normal"),
        ("tanh", xavier_normal(mode="fan_in")), (None, "lecun_normal"),
    ):  # fmt: skip
        a = Sequential([Dense(5, act)], n_inputs=4)
        b = Sequential([Dense(5, act, init=expected)], n_inputs=4)
        np.testing.assert_array_equal(a.flat_params, b.flat_params)


def test_layers_draw_numbers_of_their_own_and_biases_take_initialisers():
    net = Sequential([Dense(4), Dense(4, bias_init=Normal(0.5)), Dense(4, bias_init=0.1)],
                     n_inputs=4)  # fmt: skip
    views = net.parameters()
    assert np.abs(views["0.W"] - views["1.W"]).min() > 0
    assert not views["0.b"].any()
    assert views["1.b"].std() > 0.1
    np.testing.assert_array_equal(views["2.b"], np.float32([0.1] * 4))


@pytest.mark.parametrize("loss", ["mse", "sse", "binary_cross_entropy", "cross_entropy"])
@pytest.mark.parametrize("as_layers", [False, True])
def test_trace_is_backpropagation_in_the_open(loss, as_layers):
    rng = np.random.default_rng(1)
    last = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax"}.get(loss, "tanh")
    layers = [Dense(4, "gelu", l2=0.1), Dense(3, last)]
    names = {"0.a": "0.a", "1.a": "1.a"}
    if as_layers:
        layers = [Dense(4, l2=0.1), fastnn.Activation("gelu"), Dense(3), fastnn.Activation(last)]
        names = {"0.a": "1.a", "1.a": "3.a"}
    dense = [i for i, layer in enumerate(layers) if isinstance(layer, Dense)]
    net = Sequential(layers, n_inputs=5, dtype="float64")
    X, T = rng.normal(size=(6, 5)), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    trace = net.trace(X, T, loss=loss)
    views = net.parameters()
    parameters = {name: view.tolist() for name, view in views.items()}
    acts = ["gelu", last]
    for row, x in enumerate(X):
        for k, i in enumerate(dense):
            own = naive.part(parameters, i)
            z = naive.Dense(len(own["b"])).forward_row(own, x)
            x = naive_formulas.activate_row(acts[k], z)
            np.testing.assert_allclose(trace[f"{i}.z"][row], z, rtol=1e-12)
            np.testing.assert_allclose(trace[names[f"{k}.a"]][row], x, rtol=1e-12)
    a, top = trace[names["1.a"]], dense[1]
    np.testing.assert_allclose(
        trace[names["1.a"].replace(".a", ".da")], losses.get(loss).derivative(T, a)
    )
    if loss.endswith("entropy"):
        np.testing.assert_allclose(trace[f"{top}.dz"], a - T, rtol=1e-12)
    _, gradient = net.loss_and_grad(X, T, loss=loss)
    for parameter in net.plan.parameters:
        layer, kind = parameter.name.split(".")
        np.testing.assert_allclose(
            trace[f"{layer}.d{kind}"], parameter.view(gradient), rtol=1e-9, atol=1e-12
        )
    # dz of the lowest layer, from its parts: da and the derivative.
    da = trace[names["0.a"].replace(".a", ".da")]
    np.testing.assert_allclose(da, trace[f"{top}.dz"] @ views[f"{top}.W"].T, rtol=1e-12)
    slope = activations.gelu.derivative(trace["0.z"])
    np.testing.assert_allclose(trace["0.dz"], da * slope, rtol=1e-12)
    assert not [name for name in trace if name.startswith("-1") or name == "0.dx"]
    forward = net.trace(X)
    assert {name.split(".")[1] for name in forward} == {"z", "a"}


def test_trace_of_residuals_and_learned_slopes():
    """The output of every layer and the derivative by it, against the oracle."""
    inner = naive.Dense(2, "relu"), naive.Dense(4)
    layers = (
        naive.Dense(4, "tanh"), naive.Residual(inner), naive.Activation("gelu"), naive.PReLU(),
        naive.Residual((naive.Activation("softmax"), naive.Dense(5, l2=0.1))), naive.Dense(2),
    )  # fmt: skip
    case = Case(3, layers, "mse", 6, seed=1, l1=0.1)
    net, p = case.network("float64"), case.parameters
    trace = net.trace(case.X, case.T, loss="mse")
    values = naive.forward(layers, p, case.X)
    dA = [naive.row_loss_derivative("mse", a, t) for a, t in zip(values[-1], case.T, strict=True)]
    for i in range(len(layers) - 1, -1, -1):
        np.testing.assert_allclose(trace[f"{i}.a"], values[i + 1], rtol=1e-12)
        np.testing.assert_allclose(trace[f"{i}.da"], dA, rtol=1e-9, atol=1e-12)
        dA, _ = layers[i].backward(naive.part(p, i), values[i], dA, naive.TRAINING)
    for name, expected in naive.gradients(p, *case.oracle).items():
        layer, _, kind = name.rpartition(".")
        np.testing.assert_allclose(trace[f"{layer}.d{kind}"], expected, rtol=1e-9, atol=1e-12)


def test_the_gradient_below_the_lowest_weights_is_never_computed(engine, workspaces):
    """An activation under the first Dense layer has no gradient, and neither has X."""
    from fastnn.tables import NONE

    net = Sequential([fastnn.Activation("tanh"), Dense(4, "tanh"), Dense(2)], n_inputs=3)
    X = np.random.default_rng(0).normal(size=(5, 3))
    table = net.lower(fastnn.losses.cross_entropy).training.ops
    assert [op["dx"] == NONE for op in table] == [True, True, False, False]
    assert [op["da"] == NONE for op in table] == [True, False, False, True]
    loss, gradient = net.loss_and_grad(X, [0, 1, 0, 1, 0], loss="cross_entropy")
    other = Sequential([Dense(4, "tanh"), Dense(2)], n_inputs=3)
    other.flat_params[:] = net.flat_params
    expected = other.loss_and_grad(np.tanh(X), [0, 1, 0, 1, 0], loss="cross_entropy")
    assert loss == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_stacked_activations_run_in_order(engine):
    layers = [Dense(4, "tanh"), fastnn.Activation("relu"), fastnn.Activation("softmax"), Dense(2)]
    net = Sequential(layers, n_inputs=3, dtype="float64")
    X = np.random.default_rng(0).normal(size=(5, 3))
    views = net.parameters()
    hidden = fastnn.softmax(np.maximum(np.tanh(X @ views["0.W"] + views["0.b"]), 0))
    with only(engine):
        logits = net.logits(X)
        assert fastnn.check_gradients(net, X, [0, 1, 1, 0, 1]) < 1e-6
    np.testing.assert_allclose(logits, hidden @ views["3.W"] + views["3.b"], rtol=1e-12)


def test_check_gradients_tells_right_from_wrong(monkeypatch):
    net = Sequential([Dense(4, "tanh"), Dense(3)], n_inputs=2)
    X, y = np.random.default_rng(0).normal(size=(5, 2)), [0, 1, 2, 0, 1]
    before = net.flat_params.copy()
    assert fastnn.check_gradients(net, X, y) < 1e-7
    assert fastnn.check_gradients(net, X, y, loss="mse", sample_weight=[1, 2, 0, 1, 1]) < 1e-7
    np.testing.assert_array_equal(net.flat_params, before)
    numeric = fastnn.numerical_gradient(net, X, y)
    np.testing.assert_allclose(net.loss_and_grad(X, y)[1], numeric, rtol=1e-3, atol=1e-5)
    original = Sequential.loss_and_grad

    def wrong(self, *arguments):
        loss, gradient = original(self, *arguments)
        gradient[3] *= -1
        return loss, gradient

    monkeypatch.setattr(Sequential, "loss_and_grad", wrong)
    assert fastnn.check_gradients(net, X, y) > 0.5
