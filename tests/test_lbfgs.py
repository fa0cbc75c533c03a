"""LBFGS: against SciPy and scikit-learn, where it stops, and what it refuses."""

import pickle
import signal

import numpy as np
import pytest
from conftest import COMPILED, DTYPES, table
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

import fastnn
from fastnn import (
    LBFGS,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    GaussianNoise,
    PReLU,
    Residual,
    Sequential,
    blas,
    data,
    full_batch,
    optimizers,
)
from fastnn.engines import compiled as compiled_module
from fastnn.errors import DivergedError
from fastnn.losses import Custom

EXACT = LBFGS(gtol=0, ftol=0)


def fitted(layers, X, y, dtype="float64", optimizer=EXACT, epochs=300, network=None, **arguments):
    net = Sequential(layers, n_inputs=X.shape[1], dtype=dtype, **(network or {}))
    net.fit(X, y, optimizer=optimizer, epochs=epochs, progress=False, **arguments)
    return net


def regression(n=60, n_inputs=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_inputs))
    return X, np.sin(X @ rng.normal(size=n_inputs)) + 0.1 * rng.normal(size=n)


# -- what it finds --------------------------------------------------------------------------------


def explicit(X, y, units):
    """The mean squared error of one hidden layer of tanh, as a function of the flat vector."""
    n = X.shape[1]

    def value(w):
        W0, W1 = w[: n * units].reshape(n, units), w[n * units : (n + 1) * units]
        b0, b1 = w[(n + 1) * units : -1], w[-1]
        a = np.tanh(X @ W0 + b0)
        error = a @ W1 + b1 - y
        d1 = 2 * error / len(y)
        d0 = np.outer(d1, W1) * (1 - a * a)
        gradient = np.concatenate([(X.T @ d0).ravel(), a.T @ d1, d0.sum(axis=0), [d1.sum()]])
        return np.mean(error**2), gradient

    return value


@pytest.mark.parametrize("history", [3, 10])
def test_the_iterations_are_those_of_scipy_on_an_explicit_objective(engine, history):
    X, y = regression()
    net = Sequential([Dense(5, "tanh"), Dense(1)], n_inputs=4, dtype="float64")
    value, losses = explicit(X, y, 5), []
    found = minimize(
        value, net.flat_params.copy(), jac=True, method="L-BFGS-B",
        callback=lambda x: losses.append(value(x)[0]),
        options={"maxiter": 30, "maxcor": history, "ftol": 0, "gtol": 0},
    )  # fmt: skip
    net.fit(X, y, loss="mse", optimizer=LBFGS(history, 0, 0), epochs=30, progress=False)
    np.testing.assert_allclose(net.history["loss"], losses, rtol=1e-7)
    np.testing.assert_allclose(net.flat_params, found.x, rtol=1e-5, atol=1e-7)
    assert net.evaluate(X, y)["loss"] == pytest.approx(net.history["loss"][-1], rel=1e-12)
    assert net.history.stopped is None


def test_linear_regression_reaches_the_least_squares(engine):
    X, y = regression(200, 6)
    net = fitted([Dense(1)], X, y)
    columns = np.column_stack([X, np.ones(len(X))])
    expected = np.linalg.lstsq(columns, y, rcond=None)[0]
    np.testing.assert_allclose(net.flat_params, expected, rtol=1e-8, atol=1e-8)
    assert len(net.history["loss"]) < 300


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_regression_is_that_of_scikit_learn(engine, n_classes):
    X, y = table(300, n_classes=n_classes)
    X = X.astype(float)
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(X, y)
    l2 = 1 / (2 * 0.5 * len(X))
    units = 1 if n_classes == 2 else 3
    net = fitted([Dense(units, l2=l2)], X, y)
    np.testing.assert_allclose(net.parameters()["0.W"].T, theirs.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(net.predict(X), theirs.predict(X))


def of_scikit_learn(net, X, y, epochs, gtol):
    """The loss and iterations of scikit-learn's MLP from the same weights."""
    theirs = MLPClassifier(
        (30,), "tanh", solver="lbfgs", alpha=0, tol=gtol, max_iter=1, warm_start=True
    ).fit(X, y)
    given = {name: array.copy() for name, array in net.parameters().items()}
    theirs.coefs_ = [given["0.W"], given["1.W"]]
    theirs.intercepts_ = [given["0.b"], given["1.b"]]
    return theirs.set_params(max_iter=epochs).fit(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("epochs", [10, 200])
def test_digits_take_the_iterations_of_scikit_learn(engine, epochs):
    X, y = data.load_digits()
    X = X[:600] / 16.0
    net = Sequential([Dense(30, "tanh"), Dense(10)], n_inputs=64, dtype="float64")
    theirs = of_scikit_learn(net, X, y[:600], epochs, 1e-5)
    single = net.copy("float32")
    net.fit(X, y[:600], optimizer=LBFGS(ftol=2e-9), epochs=epochs, progress=False)
    assert net.history["loss"][-1] == pytest.approx(theirs.loss_, rel=1e-2)
    assert abs(len(net.history["loss"]) - theirs.n_iter_) <= 3
    single.fit(X, y[:600], optimizer="lbfgs", epochs=epochs, progress=False)
    assert single.history["loss"][-1] == pytest.approx(theirs.loss_, rel=5e-2)
    assert single.history.stopped is None or single.history.stopped.startswith("converged")
    assert single.history["accuracy"][-1] == single.evaluate(X, y[:600])["accuracy"]


def test_float32_comes_as_near_as_it_can(engine):
    X, y = table(80)
    losses = {}
    for dtype in DTYPES:
        net = fitted([Dense(5, "tanh"), Dense(3)], X, y, dtype, network={"l2": 1e-3})
        assert net.flat_params.dtype == dtype
        losses[dtype] = net.history["loss"][-1]
    assert losses["float32"] == pytest.approx(losses["float64"], rel=2e-5)


@pytest.mark.parametrize("loss", ["mse", "sse"])
def test_a_sum_has_the_minimum_of_the_mean(engine, loss):
    X, y = regression()
    net = fitted([Dense(1)], X, y, loss=loss, network={"l2": 0.1 if loss == "mse" else 6.0})
    W, b = net.parameters()["0.W"][:, 0], net.parameters()["0.b"]
    centred = X - X.mean(axis=0)
    expected = np.linalg.solve(centred.T @ centred + 6 * np.eye(4), centred.T @ (y - y.mean()))
    np.testing.assert_allclose(W, expected, rtol=1e-7)
    np.testing.assert_allclose(b, y.mean() - X.mean(axis=0) @ expected, rtol=1e-6)
    total = np.sum((X @ W + b - y) ** 2) + 6 * W @ W
    expected = total if loss == "sse" else total / len(y)
    assert net.history["loss"][-1] == pytest.approx(expected, rel=1e-10)


def test_weights_of_rows_count_them_repeatedly(engine):
    X, y = regression()
    weights = np.random.default_rng(1).integers(0, 4, len(X))
    layers = [Dense(3, "tanh"), Dense(1)]
    weighted = fitted(layers, X, y, sample_weight=weights, epochs=20)
    repeated = fitted(layers, np.repeat(X, weights, axis=0), np.repeat(y, weights), epochs=20)
    np.testing.assert_allclose(
        weighted.history["loss"], repeated.history["loss"], rtol=1e-8, atol=1e-12
    )


def test_a_custom_loss(engine):
    def fourth_power(y, a):
        error = a - y
        return (error**4)[:, 0], 4 * error**3

    X, y = regression()
    net = fitted([Dense(1)], X, y, loss=Custom(fourth_power), epochs=500)
    columns = np.column_stack([X, np.ones(len(X))])
    found = minimize(
        lambda w: np.mean((columns @ w - y) ** 4), np.zeros(5), method="BFGS", tol=1e-12
    )
    assert net.history["loss"][-1] == pytest.approx(found.fun, rel=1e-8)


def test_validation_is_that_of_each_iteration(engine):
    X, y = table()
    net = Sequential([Dense(4, "tanh"), Dense(3)], n_inputs=7)
    seen = []
    original = net.evaluate
    for _ in range(2):
        net.fit(X[:80], y[:80], optimizer="lbfgs", epochs=4, progress=False,
                validation_data=(X[80:], y[80:]))  # fmt: skip
        seen.append(original(X[80:], y[80:]))
        values = net.history
        assert values["val_loss"][-1] == pytest.approx(seen[-1]["loss"], rel=1e-12)
        assert values["val_accuracy"][-1] == seen[-1]["accuracy"]
    assert set(values) == {"loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"}
    assert values["lr"] == [1.0] * 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_pieces_and_parts_change_no_bit(dtype, monkeypatch):
    X, y = table(n=1500)
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    found = set()
    for engine in COMPILED:
        for parts, elements in ((1, 1 << 22), (3, 1 << 22), (2, 1)):
            monkeypatch.setattr(compiled_module, "PARTS", parts)
            monkeypatch.setattr("fastnn.run.PIECE_ELEMENTS", elements)
            with fastnn.use_engine(engine):
                net = fitted([Dense(20, "tanh"), Dense(3)], X, y, dtype, epochs=5)
            found.add((net.flat_params.tobytes(), tuple(net.history["loss"])))
    assert len(found) == 1


# -- frozen parts and statistics ------------------------------------------------------------------


def test_what_is_frozen_stays_and_the_rest_reaches_its_minimum(engine):
    X, y = regression(200, 6)
    net = Sequential([Dense(1)], n_inputs=6, dtype="float64")
    net.parameters()["0.b"][:] = 0.25
    net.fit(X, y, optimizer=EXACT, epochs=300, freeze=["0.b"], progress=False)
    assert net.parameters()["0.b"] == 0.25
    expected = np.linalg.lstsq(X, y - 0.25, rcond=None)[0]
    np.testing.assert_allclose(net.parameters()["0.W"][:, 0], expected, rtol=1e-8, atol=1e-8)


def test_frozen_layers_have_no_gradient(engine):
    X, y = table()
    layers = [Dense(6, "tanh"), BatchNorm(), Residual([Dense(6), PReLU()]), Dense(3)]
    net = Sequential(layers, n_inputs=7, dtype="float64")
    before = net.state_dict()
    net.fit(X, y, optimizer=LBFGS(), epochs=5, freeze=[0, 1, "2.0"], progress=False)
    changed = {name for name, array in net.state_dict().items() if (array != before[name]).any()}
    assert changed == {"2.1.alpha", "3.W", "3.b"}
    assert net._prepared.ws.layout.ops["da"][:2].tolist() == [-1, -1]


def test_running_statistics_are_those_of_all_rows(engine):
    X, y = table(50)
    layers = [BatchNorm(), Dense(6, "tanh"), BatchNorm(0.5, affine=False), Dense(3)]
    net = fitted(layers, X, y, epochs=7, validation_data=(X, y))
    X = X.astype(float)
    state = net.state_dict()
    np.testing.assert_allclose(state["0.running_mean"], X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(state["0.running_var"], X.var(axis=0, ddof=1), rtol=1e-12)
    z = (X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + 1e-5) * state["0.gamma"] + state["0.beta"]
    a = np.tanh(z @ state["1.W"] + state["1.b"])
    np.testing.assert_allclose(state["2.running_mean"], a.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state["2.running_var"], a.var(axis=0, ddof=1), rtol=1e-9)
    values = net.history
    assert values["val_loss"][-1] == pytest.approx(values["loss"][-1], rel=0.1, abs=1e-3)


# -- how it ends ----------------------------------------------------------------------------------


def test_it_stops_where_it_has_converged(engine):
    X, y = regression()
    net = fitted([Dense(1)], X, y, optimizer=LBFGS(gtol=1e-3, ftol=0))
    assert net.history.stopped == "converged: no element of the gradient is above gtol"
    assert np.abs(net.loss_and_grad(X, y)[1]).max() <= 1e-3
    epochs = len(net.history["loss"])
    assert epochs < 30
    assert (net.training_state.epoch, net.training_state.step) == (epochs, epochs)
    net = fitted([Dense(1)], X, y, optimizer=LBFGS(gtol=0, ftol=1e-3))
    assert "ftol" in net.history.stopped
    net = fitted([Dense(9, "tanh"), Dense(1)], X, y, optimizer=LBFGS(max_evaluations=9))
    assert "max_evaluations" in net.history.stopped
    assert 5 <= len(net.history["loss"]) <= 11


def test_at_the_minimum_there_is_one_epoch(engine):
    X, y = regression()
    net = fitted([Dense(1)], X, y, optimizer=LBFGS(gtol=1e-6, ftol=0))
    before = net.flat_params.copy()
    history = net.fit(X, y, optimizer=LBFGS(gtol=1e-3), epochs=5, progress=False)
    np.testing.assert_array_equal(net.flat_params, before)
    assert list(history) == ["loss", "lr", "seconds"]
    assert len(history["loss"]) == 1
    assert history["loss"][0] == pytest.approx(net.evaluate(X, y)["loss"], rel=1e-12)
    assert history.stopped.startswith("converged")


def interrupting(number, action):
    """The squared error, which acts in its evaluation of that number."""
    calls = []

    def square(y, a):
        calls.append(1)
        if len(calls) == number:
            action()
        return np.square(a - y)[:, 0], 2 * (a - y)

    return Custom(square)


def test_ctrl_c_keeps_the_last_iteration(engine):
    X, y = regression()
    layers = [Dense(4, "tanh"), Dense(1)]
    handler = signal.getsignal(signal.SIGINT)
    for number in (4, 9, 10, 11):
        net = Sequential(layers, n_inputs=4, dtype="float64")
        start = net.flat_params.copy()
        with pytest.raises(KeyboardInterrupt):
            net.fit(X, y, interrupting(number, lambda: signal.raise_signal(signal.SIGINT)), EXACT,
                    epochs=50, progress=False)  # fmt: skip
        assert signal.getsignal(signal.SIGINT) is handler
        epochs = len(net.history.get("loss", ()))
        expected = start
        if epochs:
            never = interrupting(0, None)
            expected = fitted(layers, X, y, loss=never, epochs=epochs).flat_params
        np.testing.assert_array_equal(net.flat_params, expected)
        assert net.training_state.epoch == epochs
        net.fit(X, y, interrupting(0, None), epochs=1, progress=False)
    assert epochs > 1


def test_an_exception_of_the_loss_keeps_the_last_iteration(engine):
    X, y = regression()

    def fail():
        raise ZeroDivisionError("in the loss")

    layers = [Dense(4, "tanh"), Dense(1)]
    net = Sequential(layers, n_inputs=4, dtype="float64")
    with pytest.raises(ZeroDivisionError):
        net.fit(X, y, interrupting(9, fail), EXACT, epochs=50, progress=False)
    epochs = len(net.history["loss"])
    expected = fitted(layers, X, y, loss=interrupting(0, None), epochs=epochs)
    np.testing.assert_array_equal(net.flat_params, expected.flat_params)
    untouched = Sequential(layers, n_inputs=4)
    start = untouched.flat_params.copy()
    with pytest.raises(ZeroDivisionError):
        untouched.fit(X, y, interrupting(1, fail), EXACT, epochs=50, progress=False)
    assert untouched.history is None
    np.testing.assert_array_equal(untouched.flat_params, start)


def test_a_loss_that_is_not_finite_at_first(engine):
    X, y = regression()
    net = Sequential([Dense(1)], n_inputs=4, dtype="float64")
    start = net.flat_params.copy()
    with pytest.raises(DivergedError, match="epoch 0"):
        net.fit(X, y * 1e200, loss="mse", optimizer="lbfgs", progress=False)
    np.testing.assert_array_equal(net.flat_params, start)


def replace_loss(monkeypatch, value):
    """Let the loss and gradient be those of a function of the last parameter, the bias."""

    def loss_and_grad(engine, ws, rows):
        loss, ws.grad[-1] = value(float(ws.params[-1]))
        return loss * rows.weight_sum, 0.0

    monkeypatch.setattr(full_batch.run, "loss_and_grad", loss_and_grad)


def test_a_search_turns_back_where_the_loss_is_not_finite(monkeypatch):
    """The minimum of 20 b - log(1 - b^2) beside a wall of NaN."""
    seen = []

    def barrier(b):
        seen.append(b)
        inside = np.float64(1 - b * b)
        return 20 * b - np.log(inside), 20 + 2 * b / inside

    replace_loss(monkeypatch, barrier)
    net = Sequential([Dense(1, init="zeros")], n_inputs=1, dtype="float64")
    net.fit([[1.0]], [0.0], optimizer=EXACT, epochs=100, freeze="0.W", progress=False)
    assert net.parameters()["0.b"] == pytest.approx((1 - 401**0.5) / 20, rel=1e-6)
    assert min(seen) <= -1


def test_a_loss_that_is_finite_nowhere_else(monkeypatch):
    replace_loss(monkeypatch, lambda b: (1.0 if b == 0 else np.nan, 1.0))
    net = Sequential([Dense(1)], n_inputs=1)
    start = net.flat_params.copy()
    with pytest.raises(DivergedError, match="line search"):
        net.fit([[1.0]], [0.0], optimizer="lbfgs", freeze="0.W", progress=False)
    np.testing.assert_array_equal(net.flat_params, start)


def test_a_loss_function_that_gives_nan_is_named(engine):
    def nan(y, a):
        return np.where(a < -0.5, np.nan, np.square(a - y))[:, 0], 2 * (a - y)

    net = Sequential([Dense(1, init="zeros")], n_inputs=1, dtype="float64")
    with pytest.raises(ValueError, match="loss function nan returned the loss nan"):
        net.fit([[1.0]], [-3.0], Custom(nan), EXACT, epochs=30, progress=False)
    assert np.isfinite(net.flat_params).all()


def test_another_optimizer_goes_on_from_it(engine):
    X, y = table()
    net = fitted([Dense(5, "tanh"), Dense(3)], X, y, "float32", epochs=3)
    copy = pickle.loads(pickle.dumps(net))
    for each in (net, copy):
        each.fit(X, y, optimizer=Adam(0.01), epochs=2, progress=False)
        each.fit(X, y, optimizer=LBFGS(), epochs=2, progress=False)
    np.testing.assert_array_equal(net.flat_params, copy.flat_params)
    assert net.training_state.epoch == 7


def test_the_progress_counts_iterations(capsys):
    X, y = table()
    Sequential([Dense(3)]).fit(X, y, optimizer="lbfgs", epochs=3, progress=True)
    assert "epoch 3/3" in capsys.readouterr().err


# -- what it refuses ------------------------------------------------------------------------------

ARGUMENTS = {
    "history": (ValueError, "history must be at least 1", {"history": 0}),
    "gtol": (ValueError, "gtol must be at least 0", {"gtol": -1.0}),
    "ftol": (ValueError, "ftol must be finite", {"ftol": np.nan}),
    "text": (TypeError, "max_evaluations must be a whole", {"max_evaluations": "9"}),
    "line search": (ValueError, "max_line_search", {"max_line_search": 0}),
    "weight decay": (ValueError, "no weight_decay: use the penalty l2", {"weight_decay": 0.1}),
    "clip": (ValueError, "takes no clip_norm", {"clip_norm": 1.0}),
    "clip value": (ValueError, "takes no clip_value", {"clip_value": 1.0}),
    "factors": (ValueError, "takes no lr_factors: use freeze", {"lr_factors": {0: 0.5}}),
    "decay factors": (ValueError, "takes no decay_factors", {"decay_factors": {0: 0.5}}),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_bad_arguments(name):
    error, message, arguments = ARGUMENTS[name]
    with pytest.raises(error, match=message):
        LBFGS(**arguments)


@pytest.mark.parametrize(("layer", "message"), [
    (Dropout(0.2), "layer 1 draws random numbers"),
    (GaussianNoise(0.2), "layer 1 draws random numbers"),
    (Residual([Dense(4, max_norm=1.0)]), r"max_norm of layer 1\.0"),
])  # fmt: skip
def test_layers_that_change_the_loss_are_refused(layer, message):
    X, y = table()
    net = Sequential([Dense(4), layer, Dense(3)])
    with pytest.raises(ValueError, match=message):
        net.fit(X, y, optimizer="lbfgs", progress=False)
    assert net.history is None
    net.fit(X, y, epochs=1, progress=False)


def test_a_batch_of_its_own_is_refused():
    X, y = table(40)
    net = Sequential([Dense(3)])
    with pytest.raises(ValueError, match="all 40 rows at once, but batch_size is 39"):
        net.fit(X, y, optimizer="lbfgs", batch_size=39, progress=False)
    found = []
    for batch_size in ("auto", None, 40, 1000):
        net = Sequential([Dense(3)])
        net.fit(X, y, optimizer="lbfgs", batch_size=batch_size, epochs=2, progress=False)
        found.append(net.flat_params.tobytes())
    assert len(set(found)) == 1
    with pytest.raises(TypeError, match="batch_size"):
        net.fit(X, y, batch_size="all")


def test_automatic_batches_have_32_rows():
    X, y = table(100)
    found = [Sequential([Dense(3)]) for _ in range(2)]
    for net, arguments in zip(found, ({}, {"batch_size": 32}), strict=True):
        net.fit(X, y, epochs=1, progress=False, **arguments)
    np.testing.assert_array_equal(found[0].flat_params, found[1].flat_params)
    assert found[0].training_state.step == 4


def test_it_has_a_name_and_prints():
    assert optimizers.get("lbfgs") == LBFGS()
    assert repr(LBFGS(history=5)) == (
        "LBFGS(history=5, gtol=1e-05, ftol=1e-09, max_evaluations=15000, max_line_search=20)"
    )
    assert LBFGS().config()["name"] == "LBFGS"


def test_blas_has_one_thread_while_scipy_runs():
    """Its short vectors do not pay for more, and OpenBLAS's threads wait actively."""
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        pools = threadpoolctl.threadpool_info()
        return [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]

    seen, before = [], threads()
    net = Sequential([Dense(4, "tanh"), Dense(1)])
    net.fit(
        np.eye(4), np.arange(4.0), loss="mse", optimizer=LBFGS(), epochs=3,
        callbacks=lambda training: seen.append(threads()), progress=False,
    )  # fmt: skip
    assert len(seen) == 3
    assert all(set(found) == {1} for found in seen)
    assert threads() == before


def test_fits_side_by_side_leave_the_threads_of_blas_as_they_were():
    """The first to end must not take what the second found for what was there before."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    first, second = blas.in_one_thread(), blas.in_one_thread()

    def threads():
        pools = threadpoolctl.threadpool_info()
        return {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = threads()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == before
