"""The losses: what they learn, at the ends of their range, beside PyTorch, in files and traces."""

import pickle

import numpy as np
import pytest
from cases import LOSSES, LOSSES_WITH_ARGUMENT, loss_function
from conftest import COMPILED, DTYPES, ENGINES, only

import fastnn
from fastnn import Adam, Dense, Sequential, losses
from fastnn.losses import Focal, Huber, Quantile
from fastnn.ops.loss import PROBABILITIES

EVERY_LOSS = [loss_function(loss) for loss in LOSSES + LOSSES_WITH_ARGUMENT]
COUNTS = np.random.default_rng(5).poisson(2.0, (12, 3)).astype(float)


def targets(loss, m=12):
    """Targets that every output takes, for 3 columns or 3 classes."""
    labels = np.arange(m) * 7 % 3
    if loss.name in ("cross_entropy", "focal"):
        return labels
    if loss.name in ("binary_cross_entropy", "hinge", "squared_hinge"):
        return np.eye(3)[labels]
    return COUNTS[:m]


def of_outputs(loss, y, z, dtype="float64", weights=None):
    """The loss of logits z (m, n), and its derivative by them, from an engine."""
    m, n = np.shape(z)
    net = Sequential([Dense(n)], n_inputs=m, dtype=dtype)
    net.parameters()["0.W"][:] = z
    net.parameters()["0.b"][:] = 0
    value, gradient = net.loss_and_grad(np.eye(m), y, loss, weights)
    return value, gradient[: m * n].reshape(m, n)


# -- as objects -----------------------------------------------------------------------------------


def test_losses_are_values():
    """Plans are cached by them."""
    assert Huber(2) == Huber(2.0) != Huber(1)
    assert hash(Quantile([0.1, 0.5])) == hash(Quantile((0.1, 0.5)))
    assert Quantile([0.5]) == Quantile() == losses.quantile != Quantile([0.4, 0.5])
    assert len({*EVERY_LOSS, *(losses.from_config(loss.config()) for loss in EVERY_LOSS)}) == 18
    for loss in EVERY_LOSS:
        again = pickle.loads(pickle.dumps(loss))
        assert again == loss
        assert repr(again) == repr(loss)
    net = Sequential([Dense(2)], n_inputs=3)
    assert net.lower(Huber(2)) is net.lower(Huber(2.0)) is not net.lower(Huber())


def test_names_stand_for_usual_arguments():
    assert (losses.get("huber").delta, losses.get("focal").gamma) == (1.0, 2.0)
    assert losses.get("quantile").q == (0.5,)
    assert set(LOSSES) == set(losses.NAMES)
    found = map(repr, (Huber(0.5), Focal(), Quantile(0.2), Quantile([0.2, 0.5])))
    assert list(found) == ["huber(delta=0.5)", "focal(gamma=2)", "quantile(q=0.2)",
                           "quantile(q=[0.2, 0.5])"]  # fmt: skip


def test_a_plan_shows_the_arguments():
    net = Sequential([Dense(2)], n_inputs=3)
    for loss, label in (
        (Huber(0.5), "huber, delta 0.5"), (Focal(1), "focal, gamma 1"), ("mae", "mae"),
        (Quantile(0.2), "quantile, q 0.2"), (Quantile([0.2, 0.5]), "quantile"),
    ):  # fmt: skip
        assert label in str(net.lower(losses.get(loss)))
    assert net.lower(Quantile([0.2, 0.5])).constants.tolist() == [0.2, 0.5]
    wide = Sequential([Dense(4)], n_inputs=3).lower(Quantile([0.2, 0.5]))
    assert wide.constants.tolist() == [0.2, 0.5, 0.2, 0.5]
    assert not net.lower(Quantile(0.2)).constants.size


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=repr)
def test_equal_answers_come_back_from_a_file(tmp_path, loss):
    y = targets(loss)
    net = Sequential([Dense(4, "tanh"), Dense(3 * loss.n_per_target)], seed=1)
    X = np.random.default_rng(0).normal(size=(12, 2))
    net.fit(X, y, loss, epochs=2, progress=False)
    net.save(tmp_path / "m", training=True)
    back = fastnn.load(tmp_path / "m")
    assert back._loss == loss
    assert repr(back._loss) == repr(loss)
    np.testing.assert_array_equal(back.predict(X), net.predict(X))
    assert back.evaluate(X, y) == net.evaluate(X, y)
    if loss.code in PROBABILITIES:
        np.testing.assert_array_equal(back.predict_proba(X), net.predict_proba(X))
    back.fit(X, y, epochs=1, progress=False)


# -- values ---------------------------------------------------------------------------------------


def test_losses_by_hand():
    assert losses.mae([1.0, 2.0], [1.5, 0.0]) == 1.25
    assert losses.mae.derivative([1.0, 2.0, 3.0], [1.5, 0.0, 3.0]).tolist() == [1.0, -1.0, 0.0]
    assert Huber(2.0)([0.0, 0.0], [1.0, 5.0]) == (0.5 + 2 * (5 - 1)) / 2
    assert Quantile(0.25)([1.0, 1.0], [0.0, 3.0]) == (0.25 + 1.5) / 2
    assert Quantile(0.25).derivative([1.0, 1.0, 1.0], [0.0, 3.0, 1.0]).tolist() == [-0.25, 0.75, 0]
    several = Quantile([0.25, 0.75])
    y, a = np.array([[1.0, 5.0]]), np.array([[0.0, 3.0, 5.0, 1.0]])
    assert several(y, a) == (0.25 + 0.5 + 0.0 + 3.0) / 4
    np.testing.assert_array_equal(several.derivative(y, a), [[-0.0625, 0.0625, 0.0, -0.1875]])
    assert losses.hinge([0, 1, 1], [0.5, 0.5, 2.0]) == pytest.approx((1.5 + 0.5 + 0) / 3)
    assert losses.squared_hinge([0, 1, 1], [0.5, 0.5, 2.0]) == pytest.approx((2.25 + 0.25) / 3)
    assert losses.poisson([0.0, 2.0], [3.0, 1.0]) == (3 + 1) / 2
    assert losses.gaussian_nll([1.0], [[1.0, 1.0]]) == pytest.approx(np.log(2 * np.pi) / 2)
    assert Focal(2.0)([1.0], [0.25]) == pytest.approx(0.75**2 * np.log(4))
    assert Focal(2.0)([0, 1], [[1.0, 0.0], [0.5, 0.5]]) == pytest.approx(np.log(2) / 8)
    for gamma in (0.5, 1.0, 2.0):
        assert Focal(gamma).derivative([1.0], [1.0])[0] == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_focal_with_gamma_0_is_the_cross_entropy(engine, dtype):
    rng = np.random.default_rng(0)
    z, y = 5 * rng.normal(size=(70, 4)), rng.integers(0, 4, 70)
    rtol = 20 * np.finfo(dtype).eps
    for columns, other in ((z, losses.cross_entropy), (z[:, :1], losses.binary_cross_entropy)):
        labels = y if columns.shape[1] > 1 else y % 2
        found = of_outputs(Focal(0), labels, columns, dtype)
        expected = of_outputs(other, labels, columns, dtype)
        for got, value in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, value, rtol=rtol, atol=rtol / 70)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_focal_from_certainty_to_error(engine, gamma, n, dtype):
    """Against (1 - p)^g (-log p) for a logit x against zeros, where nothing cancels."""
    x = np.array([-3e4, -800, -90, -30, -1, 0.0, 1, 20, 80, 700, 3e4])
    z = np.zeros((len(x), n))
    z[:, 0] = x
    y = np.ones(len(x)) if n == 1 else np.zeros(len(x), int)
    shifted = x - np.log(max(n - 1, 1))  # log (p / (1 - p))
    log_p, log_not_p = -np.logaddexp(0, -shifted), -np.logaddexp(0, shifted)
    by_hand = np.exp(gamma * log_not_p) * -log_p
    derivative = np.exp(gamma * log_not_p) * (gamma * np.exp(log_p) * log_p - np.exp(log_not_p))
    tiny = np.finfo(dtype).tiny ** (0.8 * min(1, gamma or 1))
    for i in range(len(x)):
        value, gradient = of_outputs(Focal(gamma), y[i : i + 1], z[i : i + 1], dtype)
        rtol = 300 * np.finfo(dtype).eps
        np.testing.assert_allclose(value, by_hand[i], rtol=rtol, atol=tiny)
        np.testing.assert_allclose(gradient[0, 0], derivative[i], rtol=rtol, atol=tiny)
        np.testing.assert_allclose(
            gradient[0, 1:], np.full(n - 1, -derivative[i] / max(n - 1, 1)), rtol=rtol, atol=tiny
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_outputs_do_not_overflow(engine, dtype):
    big = 1e30 if dtype == "float32" else 1e150
    z = np.array([[big, -big], [-big, big], [big, big]])
    for loss, y in (
        ("mae", z * 0), ("huber", z * 0), (Quantile([0.1, 0.9]), [0.0, 0.0, 0.0]),
        ("hinge", z > 0), ("squared_hinge", z > 0), ("focal", [0, 0, 1]), (Focal(0.5), [0, 1, 0]),
        ("gaussian_nll", [0.0, 0.0, 0.0]), ("poisson", z * 0),
    ):  # fmt: skip
        rows = z
        if loss == "gaussian_nll":
            rows = np.array([[1.0, big], [5.0, big], [9.0, big]])
        if loss == "poisson":
            rows = -abs(z)
        value, gradient = of_outputs(loss, y, rows, dtype)
        assert np.isfinite(value), loss
        assert np.isfinite(gradient).all(), loss


@pytest.mark.skipif(len(COMPILED) < 2, reason="compares the compiled engines")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 5, 12, 40, 300])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=repr)
def test_compiled_engines_have_the_same_bits(loss, n, dtype):
    """For outputs of all magnitudes, at the kinks and at the edges of the exponentials."""
    rng, m = np.random.default_rng(n), 90
    per = loss.n_per_target
    units = per * -(-n // per)
    if loss.name == "cross_entropy" and units == 1:
        pytest.skip("it has several outputs")
    z = np.exp(rng.uniform(-30, 5, (m, units))) * rng.choice([-1, 1], (m, units))
    z[::7] = rng.choice([0.0, -0.0, 1.0, -1.0, 80.0, -700.0], (len(z[::7]), units))
    if loss.name == "poisson":
        z = np.minimum(z, 80)
    elif loss.name == "gaussian_nll":
        z = np.maximum(z, -30)
    y = rng.normal(size=(m, units // per))
    y[::2] = z[::2, : units // per]
    if loss.name in ("cross_entropy", "focal") and units > 1:
        y = rng.integers(0, units, m)
    elif loss.name in ("binary_cross_entropy", "hinge", "squared_hinge", "focal"):
        y = (y > 0).astype(float)
    elif loss.name == "poisson":
        y = np.floor(abs(y))
    for weights in (None, rng.uniform(0, 2, m)):
        found = []
        for engine in COMPILED:
            with only(engine):
                value, gradient = of_outputs(loss, y, z, dtype, weights)
            assert np.isfinite(value)
            found.append((value, gradient.tobytes()))
        assert len(set(found)) == 1


@pytest.mark.parametrize("name", ["huber", "poisson", "gaussian_nll", "focal", "mae"])
def test_pytorch_agrees(engine, name):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(3)
    y, z = rng.poisson(2.0, (9, 4)).astype(float), rng.normal(size=(9, 4))
    target, outputs = torch.tensor(y), torch.tensor(z, requires_grad=True)
    loss = losses.get(name)
    if name == "huber":
        loss = Huber(0.8)
        expected = functional.huber_loss(outputs, target, delta=0.8)
    elif name == "mae":
        expected = functional.l1_loss(outputs, target)
    elif name == "poisson":
        expected = 4 * functional.poisson_nll_loss(outputs, target, log_input=True)
    elif name == "gaussian_nll":
        y, target = y[:, :2], target[:, :2]
        mean, variance = outputs[:, :2], outputs[:, 2:].exp()
        expected = 2 * functional.gaussian_nll_loss(mean, target, variance, full=True)
    else:
        y = y[:, 0].astype(int) % 4
        log_p = functional.log_softmax(outputs, 1)[range(9), y]
        expected = ((1 - log_p.exp()) ** 2 * -log_p).mean()
    expected.backward()
    value, gradient = of_outputs(loss, y, z)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, outputs.grad.numpy(), rtol=1e-11, atol=1e-15)


# -- predictions and traces -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_predict_returns(engine, dtype):
    """In many rows and in few: those are a call of their own, which is repeated."""
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(dtype)
    y = np.arange(40) % 4.0
    both = np.stack([y, y + 1], axis=1)
    labels = np.array(["no", "yes"])[np.arange(40) % 2]
    for loss, fitted, units, shape in (
        ("quantile", y, 1, (40,)), (Quantile([0.1, 0.9]), y, 2, (40, 2)),
        (Quantile([0.1, 0.9]), both, 4, (40, 4)), ("poisson", y, 1, (40,)),
        ("poisson", both, 2, (40, 2)), ("gaussian_nll", y, 2, (40, 2)),
        ("gaussian_nll", both, 4, (40, 4)), ("hinge", labels, 1, (40,)),
        ("hinge", both > 1, 2, (40, 2)), ("focal", labels, 2, (40,)),
        ("focal", labels, 1, (40,)),
    ):  # fmt: skip
        net = Sequential([Dense(units)], seed=1, dtype=dtype)
        net.fit(X, fitted, loss, epochs=1, progress=False)
        z, found = net.logits(X), net.predict(X)
        assert found.shape == shape
        if engine != "numpy":
            np.testing.assert_array_equal(net.predict(X[:3]), found[:3])
            np.testing.assert_array_equal(net.predict(X[3:6]), found[3:6])
        if loss == "poisson":
            np.testing.assert_allclose(found, np.exp(z).reshape(shape), rtol=1e-6)
        elif loss == "gaussian_nll":
            c = units // 2
            np.testing.assert_array_equal(found[:, :c], z[:, :c])
            np.testing.assert_allclose(found[:, c:], np.exp(z[:, c:]), rtol=1e-6)
        elif loss == "hinge" and units == 1:
            np.testing.assert_array_equal(found, np.where(z[:, 0] > 0, "yes", "no"))
        elif loss == "focal":
            p = net.predict_proba(X)
            assert p.shape == (40, 2)
            np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
            np.testing.assert_array_equal(found, np.array(["no", "yes"])[p.argmax(axis=1)])
        assert net.evaluate(X, fitted).keys() <= {"loss", "accuracy"}


@pytest.mark.parametrize(
    "loss", ["mae", Quantile([0.3, 0.7]), "poisson", "squared_hinge", Focal(1.5), "gaussian_nll"]
)
def test_a_trace_shows_the_derivative_by_the_outputs(loss):
    loss = losses.get(loss)
    X, y = np.random.default_rng(1).normal(size=(12, 4)), targets(loss)
    net = Sequential([Dense(3 * loss.n_per_target)], n_inputs=4, dtype="float64")
    trace, z = net.trace(X, y, loss), net.logits(X)
    a = trace["0.a"]
    if loss.name == "poisson":
        np.testing.assert_allclose(a, np.exp(z))
    elif loss.name == "gaussian_nll":
        np.testing.assert_allclose(a, np.concatenate([z[:, :3], np.exp(z[:, 3:])], axis=1))
    elif loss.name == "focal":
        np.testing.assert_allclose(a, fastnn.softmax(z))
    np.testing.assert_allclose(trace["0.da"], loss.derivative(y, a), rtol=1e-12)
    _, gradient = net.loss_and_grad(X, y, loss)
    np.testing.assert_allclose(trace["0.dW"].ravel(), gradient[: trace["0.dW"].size], rtol=1e-10)


# -- what is learned ------------------------------------------------------------------------------


def straight_line(units, y, loss, engine):
    """A network without hidden layers that was fitted to 4000 rows of one feature."""
    net = Sequential([Dense(units, init="zeros")], seed=0)
    with only(engine):
        for lr in (0.05, 0.005, 0.0005):
            net.fit(FEATURE, y, loss, optimizer=Adam(lr), epochs=10, batch_size=100, progress=False)
    return net


FEATURE = np.random.default_rng(0).uniform(-1, 1, (4000, 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_quantiles_of_a_skewed_noise(engine):
    """The share of new rows below each: 5 sigma of a binomial count, in the fit and in the test."""
    q = np.array([0.1, 0.5, 0.9])
    rng = np.random.default_rng(1)
    x = FEATURE[:, 0]
    fitted, new = (2 * x + (1.5 + x) * rng.exponential(size=4000) for _ in range(2))
    net = straight_line(3, fitted, Quantile(q), engine)
    below = (new[:, None] < net.predict(FEATURE)).mean(axis=0)
    assert (abs(below - q) < 5 * np.sqrt(2 * q * (1 - q) / 4000)).all()
    alone = straight_line(1, fitted, Quantile(0.9), engine).predict(FEATURE)
    assert abs((new < alone).mean() - 0.9) < 5 * np.sqrt(2 * 0.09 / 4000)
    median = straight_line(1, fitted, "mae", engine).predict(FEATURE)
    assert abs((new < median).mean() - 0.5) < 5 * np.sqrt(2 * 0.25 / 4000)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_variance_that_depends_on_the_features(engine):
    rng, x = np.random.default_rng(2), FEATURE[:, 0]
    variance = np.exp(-1 + 1.5 * x)
    net = straight_line(
        2, 3 * x + np.sqrt(variance) * rng.normal(size=4000), "gaussian_nll", engine
    )
    W, b = (net.parameters()[name].ravel() for name in ("0.W", "0.b"))
    # Fisher's information: 1 / variance for the mean, 1/2 for its logarithm.
    design = np.stack([x, np.ones(4000)], axis=1)
    for k, expected, information in ((0, (3, 0), 1 / variance), (1, (1.5, -1), 0.5)):
        covariance = np.linalg.inv(design.T @ (design * np.reshape(information, (-1, 1))))
        bound = 5 * np.sqrt(np.diag(covariance))
        assert (abs(np.array([W[k], b[k]]) - expected) < bound).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_rates_of_poisson_counts(engine):
    rng, x = np.random.default_rng(3), FEATURE[:, 0]
    rate = np.exp(0.5 + 1.2 * x)
    net = straight_line(1, rng.poisson(rate), "poisson", engine)
    design = np.stack([x, np.ones(4000)], axis=1)
    bound = 5 * np.sqrt(np.diag(np.linalg.inv(design.T @ (design * rate[:, None]))))
    found = np.concatenate([v.ravel() for v in net.parameters().values()])
    assert (abs(found - [1.2, 0.5]) < bound).all()
    np.testing.assert_allclose(net.predict(FEATURE), rate, rtol=0.3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "focal"])
def test_classes_are_separated(engine, loss):
    labels = np.where(FEATURE[:, 0] > 0.2, "above", "below")
    net = straight_line(1, labels, loss, engine)
    assert (net.predict(FEATURE) == labels).mean() > 0.97


@pytest.mark.parametrize("engine", ENGINES)
def test_outliers_move_huber_less_than_mse(engine):
    y = FEATURE[:, 0] + 0.1 * np.random.default_rng(4).normal(size=4000)
    y[::50] += 100  # 2 units of mean
    by_mse, by_huber = (straight_line(1, y, loss, engine) for loss in ("mse", Huber(0.1)))
    assert by_mse.parameters()["0.b"][0] > 1.5
    assert abs(by_huber.parameters()["0.b"][0]) < 0.02


def test_auto_is_what_it_was():
    for y, n, expected in (
        ([0, 1, 1], 1, "binary_cross_entropy"), ([0, 1, 2], 3, "cross_entropy"),
        ([0.5, 1, 2], 1, "mse"), (np.eye(3), 3, "cross_entropy"),
        (np.ones((3, 2)), 2, "binary_cross_entropy"), (np.full((3, 2), 0.5), 2, "mse"),
    ):  # fmt: skip
        net = Sequential([Dense(n)])
        assert net.fit(np.eye(3), y, epochs=1, progress=False)
        assert net._loss.name == expected
