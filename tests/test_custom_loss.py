"""A loss of the user's own, as a NumPy function and as a Numba function."""

import gc
import pickle
import threading
import time

import numpy as np
import pytest
from conftest import COMPILED, DTYPES, only
from users_losses import (
    FORMS,
    LABELS,
    WEIGHTS,
    X,
    Y,
    bits,
    custom,
    fit,
    in_parts,
    network,
    numba,
    squares,
    steep_above,
    steep_above_of_a_row,
)

import fastnn
from fastnn import SGD, Activation, Adam, Dense, PReLU, Residual, Sequential, errors, losses, run
from fastnn.engines import threads
from fastnn.losses import Custom

# -- the numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_mse_written_by_a_user_is_mse(engine, form, dtype, weights):
    net = network(dtype)
    loss, gradient = net.loss_and_grad(X, Y, custom(form), weights)
    expected_loss, expected = net.loss_and_grad(X, Y, "mse", weights)
    eps = float(np.finfo(dtype).eps)
    assert loss == pytest.approx(expected_loss, rel=10 * eps)
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=10 * eps * np.abs(expected).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_training_follows_mse(engine, form, dtype):
    """Batches of 16, 16, 16 and 12 rows in a new order, with validation."""
    arguments = {"validation_data": (X[:20], Y[:20]), "sample_weight": WEIGHTS, "epochs": 3}
    found = fit(custom(form), network(dtype), **arguments)
    expected = fit("mse", network(dtype), **arguments)
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(found.flat_params, expected.flat_params, atol=tolerance)
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose(found.history[key], expected.history[key], rtol=tolerance)
    assert found.history.loss_name == ("squares" if form == "NumPy" else "squares_of_a_row")
    assert found.evaluate(X, Y)["loss"] == pytest.approx(expected.evaluate(X, Y)["loss"], rel=1e-3)


ENDS = {
    "identity": [Dense(3)],
    "sigmoid": [Dense(3, "sigmoid")],
    "softmax": [Dense(3, "softmax")],
    "gelu": [Dense(3, "gelu")],
    "an activation of its own": [Dense(3), Activation("silu")],
    "prelu": [Dense(3), PReLU()],
    "above a residual": [Residual([Dense(5, "tanh")]), Dense(3)],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("form", FORMS)
def test_backpropagation_agrees_with_differences(engine, form, end):
    net = Sequential([Dense(5, "tanh"), *ENDS[end]], n_inputs=X.shape[1])
    loss = custom(form, steep_above, steep_above_of_a_row)
    assert fastnn.check_gradients(net, X, Y, loss, WEIGHTS) < 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_a_large_batch_runs_in_pieces(engine, form, monkeypatch):
    rng = np.random.default_rng(2)
    rows, targets = rng.normal(size=(1500, 7)), rng.normal(size=(1500, 3))
    net, loss = network("float64"), custom(form)
    whole = net.loss_and_grad(rows, targets, loss)
    monkeypatch.setattr(run, "PIECE_ELEMENTS", 1)
    pieces = network("float64").loss_and_grad(rows, targets, loss)
    np.testing.assert_allclose(pieces[1], whole[1], rtol=0, atol=1e-12)
    assert pieces[0] == pytest.approx(whole[0], rel=1e-12)
    fitted = fit(loss, network("float64"), epochs=1, batch_size=None)
    np.testing.assert_allclose(
        fitted.flat_params, fit("mse", network("float64"), epochs=1, batch_size=None).flat_params
    )


def test_losses_as_functions():
    for form in ("NumPy", "Numba") if numba else ("NumPy",):
        loss = custom(form)
        assert loss(Y, Y + 1) == pytest.approx(1)
        np.testing.assert_allclose(loss.derivative(Y, Y + 1), 2 / 3, rtol=1e-6)
        assert loss([1.0, 2.0], [1.5, 2.0]) == pytest.approx(0.125)
        assert loss.derivative([1.0, 2.0], [1.5, 2.0]).tolist() == [1, 0]
        assert loss([0, 1], [[1.0, 0.0], [1.0, 0.0]]) == pytest.approx(0.5)
        with pytest.raises(errors.ShapeError, match="do not fit outputs"):
            loss([1.0], [1.0, 2.0])


def test_trace_uses_it():
    with only("numpy"):
        net = network("float64")
        trace, expected = net.trace(X, Y, Custom(squares)), net.trace(X, Y, "mse")
    assert trace.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(trace[name], value, atol=1e-12)


# -- the same bits, threads -----------------------------------------------------------------------


@pytest.mark.skipif(len(COMPILED) < 2, reason="compares the compiled engines")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_both_compiled_engines_have_the_same_bits(form, dtype):
    loss, found = custom(form, steep_above, steep_above_of_a_row), []
    for engine in COMPILED:
        with only(engine):
            net = fit(loss, network(dtype), sample_weight=WEIGHTS, epochs=5)
            found.append((bits(net), net.evaluate(X, Y)))
    assert found[0] == found[1]


@pytest.mark.parametrize("form", FORMS)
def test_parts_and_threads_do_not_change_the_bits(pool, form, workspaces, monkeypatch):
    """The rows of a Numba function are split; a NumPy function sees whole batches."""
    calls = []

    def counted(y, a):
        calls.append(len(a))
        return steep_above(y, a)

    loss = custom(form, counted, steep_above_of_a_row)
    expected = bits(fit(loss))
    sizes = [16, 16, 16, 12] * 2
    assert calls == (sizes if form == "NumPy" else [])
    used = set()
    for parts, n_threads in ((1, 1), (2, 1), (5, 1), (2, 2), (3, 2)):
        in_parts(monkeypatch, parts, n_threads)
        end = time.monotonic() + 60
        while True:  # a thread that comes too late lets another one run alone
            workspaces.clear()
            calls.clear()
            net = fit(loss)
            assert bits(net) == expected
            assert calls == (sizes if form == "NumPy" else [])
            ran = workspaces[0].ran
            assert (ran[:parts] > 0).all()
            assert not ran[parts:].any()
            used |= set(net.history.threads_used)
            if n_threads == 1 or n_threads in net.history.threads_used or threads.cpu_count() == 1:
                break
            assert time.monotonic() < end, f"never ran in {n_threads} threads"
    assert used == {1, 2} or threads.cpu_count() == 1


@pytest.mark.parametrize("form", FORMS)
def test_fits_in_several_python_threads(pool, form, monkeypatch):
    loss = custom(form, steep_above, steep_above_of_a_row)
    expected = bits(fit(loss, epochs=20))
    in_parts(monkeypatch, 2, 2)
    found = []

    def work():
        with fastnn.use_engine(pool):  # a thread has settings of its own
            found.extend(bits(fit(loss, epochs=20)) for _ in range(3))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [expected] * 9


# -- what the function sees -----------------------------------------------------------------------


def test_it_sees_read_only_arrays_of_the_networks_type(engine):
    kept = []

    def look(y, a):
        kept.append((y, a))
        assert not y.flags.writeable
        assert not a.flags.writeable
        return squares(y, a)

    for dtype in DTYPES:
        fit(Custom(look), network(dtype))
        shapes = {(y.shape, a.shape) for y, a in kept}
        assert shapes == {((16, 3), (16, 3)), ((12, 3), (12, 3))}
        assert {v.dtype for pair in kept for v in pair} == {np.dtype(dtype)}
        gc.collect()
        assert all(v.sum() is not None for pair in kept for v in pair)  # memory that still lives
        kept.clear()

    def overwrite(y, a):
        a[:] = 0
        return squares(y, a)

    with pytest.raises(ValueError, match="read-only"):
        fit(Custom(overwrite))


def test_it_keeps_denormals(engine):
    """The kernels flush them; NumPy's functions rely on them."""
    seen = []

    def look(y, a):
        seen.append(float((np.full(9, 1e-40, np.float32) * np.float32(0.5)).sum()))
        return squares(y, a)

    fit(Custom(look))
    assert len(seen) == 8
    assert min(seen) > 0


def test_overflows_in_it_do_not_warn(engine):
    def careless(y, a):
        np.exp(a + 1e9), np.log(0 * a), 1 / (0 * a)
        return squares(y, a)

    fit(Custom(careless))


def test_losses_and_derivatives_may_have_other_types(engine):
    def lists(y, a):
        loss, derivative = squares(y.astype(float), a.astype(float))
        return [loss.tolist(), derivative.astype(np.longdouble)]

    np.testing.assert_allclose(
        fit(Custom(lists)).flat_params, fit(Custom(squares)).flat_params, atol=1e-4
    )


# -- targets --------------------------------------------------------------------------------------


def test_numbers_are_values(engine):
    net = fit(Custom(squares), y=np.arange(60) % 2, net=network(n_outputs=1))
    assert net.predict(X).shape == (60,)
    np.testing.assert_array_equal(net.predict(X), net._forward(X, None, "output")[:, 0])
    assert net.classes_ is None
    assert fit(Custom(squares), y=Y[:, :1], net=network(n_outputs=1)).predict(X).shape == (60, 1)
    assert fit(Custom(squares)).predict(X).shape == (60, 3)
    of_objects = Y[:, 0].astype(object)
    assert fit(Custom(squares), y=of_objects, net=network(n_outputs=1)).predict(X).dtype == "f4"
    with pytest.raises(ValueError, match=r"needs a cross entropy .* but the loss is squares"):
        net.predict_proba(X)


def test_a_column_for_several_outputs_holds_labels(engine):
    seen = set()

    def look(y, a):
        seen.update(map(tuple, y.tolist()))
        return squares(y, a)

    names = np.array(["pear", "apple", "plum"])[LABELS]
    net = Sequential([Dense(9, "tanh"), Dense(3)])
    fit(Custom(look), net, y=names, epochs=60, optimizer=Adam(0.03), validation_data=(X, names))
    assert seen == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    assert net.classes_.tolist() == ["apple", "pear", "plum"]
    assert net.evaluate(X, names)["accuracy"] > 0.9
    assert net.history["val_accuracy"][-1] == net.evaluate(X, names)["accuracy"]
    np.testing.assert_array_equal(
        net.predict(X), net.classes_[net._forward(X, None, "output").argmax(axis=1)]
    )
    weighted = {"apple": 1, "pear": 2, "plum": 3}
    fit(Custom(squares), net, y=names, class_weight=weighted)


@pytest.mark.parametrize("y", [np.where(LABELS > 0, "yes", "no"), LABELS > 0,
                               np.where(LABELS > 0, "yes", "no").astype(object)])  # fmt: skip
def test_text_for_one_output_is_0_and_1(engine, y):
    seen = set()

    def logistic(t, a):
        seen.update(t.ravel().tolist())
        return (np.logaddexp(0, a) - t * a).sum(axis=1), 1 / (1 + np.exp(-a)) - t

    net = Sequential([Dense(9, "tanh"), Dense(1)])
    fit(Custom(logistic), net, y=y, epochs=60, optimizer=Adam(0.03))
    assert seen == {0.0, 1.0}
    assert (net.predict(X) == y).mean() > 0.9
    assert net.evaluate(X, y)["accuracy"] == (net.predict(X) == y).mean()
    same = fit("binary_cross_entropy", Sequential([Dense(9, "tanh"), Dense(1)]), y=y, epochs=60,
               optimizer=Adam(0.03))  # fmt: skip
    np.testing.assert_allclose(net.flat_params, same.flat_params, atol=1e-3)


# -- the object, files ----------------------------------------------------------------------------


def test_losses_are_equal_by_their_function():
    assert Custom(squares) == Custom(squares)
    assert hash(Custom(squares)) == hash(Custom(squares))
    assert Custom(squares) != Custom(steep_above)
    assert Custom(squares) != Custom(squares, "another name")
    assert Custom(squares) != losses.mse
    assert repr(Custom(squares)) == "Custom(squares)"
    net = network()
    assert net.lower(Custom(squares)) is net.lower(Custom(squares))
    for _ in range(100):
        net.lower(Custom(lambda y, a: squares(y, a)))
    assert len(net._plans) <= 32
    assert "custom in Python" in str(net.lower(Custom(squares)))
    if numba:
        assert "in Python" not in str(net.lower(custom("Numba")))


def test_equal_functions_continue_a_fit(engine):
    parts = fit(Custom(squares), fit(Custom(squares)))
    assert bits(parts)[0] == bits(fit(Custom(squares), epochs=4))[0]


@pytest.mark.parametrize("kind", ["values", "labels", "text for one output"])
def test_a_loaded_network_predicts_and_asks_for_the_function(tmp_path, engine, kind):
    y = {"values": Y, "labels": LABELS, "text for one output": np.where(LABELS > 0, "a", "b")}[kind]
    net = fit(Custom(squares), network(n_outputs=1 if kind.endswith("output") else 3), y=y)
    net.save(tmp_path / "net.safetensors", training=True)
    back = fastnn.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(back.predict(X), net.predict(X))
    np.testing.assert_array_equal(back.logits(X), net.logits(X))
    if engine == "numpy":  # the engine that traces
        assert back.trace(X).keys() == net.trace(X).keys()
    message = r"trained with the loss function squares, .* give loss=Custom\(squares\) again"
    for call in (
        lambda: back.evaluate(X, y), lambda: back.fit(X, y, progress=False),
        lambda: back.loss_and_grad(X, y), lambda: back.copy().evaluate(X, y),
        lambda: fastnn.check_gradients(back, X, y),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
    assert back.evaluate(X, y, loss=Custom(squares)) == net.evaluate(X, y)
    for n in (net, back):
        fit(Custom(squares), n, y=y, optimizer=SGD(0.01), shuffle=False)
    assert bits(back) == bits(net)
    again = back.copy()
    again.save(tmp_path / "again.safetensors")
    np.testing.assert_array_equal(
        fastnn.load(tmp_path / "again.safetensors").predict(X), back.predict(X)
    )


@pytest.mark.parametrize("change", [{"function": ""}, {"function": 3}, {"function": "a\nb"},
                                    {"label_smoothing": 0.0}, {"function": None}])  # fmt: skip
def test_damaged_descriptions_are_refused(change):
    from fastnn.loading import _read_loss

    config = Custom(squares).config()
    assert _read_loss(config).name == "squares"
    changed = {key: value for key, value in (config | change).items() if value is not None}
    with pytest.raises(ValueError, match=r"printable|must be text|does not know|lacks function"):
        _read_loss(changed)


@pytest.mark.parametrize("form", FORMS)
def test_copies_and_pickles(engine, form):
    net = fit(custom(form))
    copy = net.copy("float64")
    assert copy.evaluate(X, Y)["loss"] == pytest.approx(net.evaluate(X, Y)["loss"], rel=1e-4)
    if form == "NumPy":
        back = pickle.loads(pickle.dumps(net))
        assert back._loss == net._loss
        assert back.evaluate(X, Y) == net.evaluate(X, Y)
        for n in (net, back):
            fit(Custom(squares), n)
        assert bits(back) == bits(net)
    loss = pickle.loads(pickle.dumps(Custom.without_function("gone")))
    assert loss == Custom.without_function("gone")
    net = fit(Custom(lambda y, a: squares(y, a)))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(net)


def test_methods_and_callable_objects_are_functions(engine):
    class Loss:
        def __call__(self, y, a):
            return squares(y, a)

        def method(self, y, a):
            return squares(y, a)

    expected = bits(fit(Custom(squares)))
    assert bits(fit(Custom(Loss()))) == expected
    assert bits(fit(Custom(Loss().method))) == expected
    assert Custom(Loss()).name == "Loss"
