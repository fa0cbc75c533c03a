"""What fit, predict and evaluate do, on every engine."""

import os
import pickle
import signal
import threading

import numpy as np
import pytest
from conftest import table

import fastnn
from fastnn import SGD, Adam, Dense, Sequential, progress


def fitted(X, y, layers=None, seed=0, dtype="float32", **arguments):
    layers = layers or [Dense(8, "tanh"), Dense(3)]
    net = Sequential(layers, seed=seed, dtype=dtype)
    net.fit(X, y, progress=False, **{"epochs": 5, **arguments})
    return net


def test_it_learns_a_table(engine):
    X, y = table(300)
    net = fitted(X, y, optimizer=Adam(0.01), epochs=20)
    assert net.evaluate(X, y)["accuracy"] > 0.95
    assert net.history["loss"][-1] < 0.5 * net.history["loss"][0]
    assert net.history.engine == engine


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_seeds_give_equal_bits_and_others_do_not(engine, dtype):
    X, y = table()
    a, b, c = (fitted(X, y, seed=seed, dtype=dtype).flat_params for seed in (1, 1, 2))
    assert a.dtype == dtype
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_two_fits_of_five_epochs_are_one_of_ten(engine):
    X, y = table()
    for optimizer in (SGD(0.1), SGD(0.1, momentum=0.5), Adam(0.01)):
        whole = fitted(X, y, optimizer=optimizer, epochs=10)
        parts = fitted(X, y, optimizer=optimizer, epochs=5)
        parts.fit(X, y, optimizer=optimizer, epochs=5, progress=False)
        np.testing.assert_array_equal(parts.flat_params, whole.flat_params)


def test_another_optimizer_goes_on_from_the_parameters_alone(engine):
    X, y = table()
    net = fitted(X, y)
    before = net.flat_params.copy()
    net.fit(X, y, optimizer=SGD(1e-6), epochs=1, progress=False)
    assert 0 < np.abs(net.flat_params - before).max() < 1e-4


def test_a_pickled_network_goes_on_alike(engine):
    X, y = table()
    net = fitted(X, y)
    copy = pickle.loads(pickle.dumps(net))
    for n in (net, copy):
        n.fit(X, y, epochs=2, progress=False)
    np.testing.assert_array_equal(copy.flat_params, net.flat_params)
    np.testing.assert_array_equal(copy.predict(X), net.predict(X))
    copy.flat_params[0] += 1
    assert copy.parameters()["0.W"][0, 0] == copy.flat_params[0]


def test_shuffling_changes_the_run_and_can_be_turned_off(engine):
    X, y = table()
    order = np.argsort(y, kind="stable")
    shuffled = fitted(X, y)
    still = fitted(X, y, shuffle=False)
    assert not np.array_equal(shuffled.flat_params, still.flat_params)
    assert not np.array_equal(
        fitted(X[order], y[order], shuffle=False).flat_params, still.flat_params
    )


def test_the_order_of_an_epoch_does_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    X, y = table(40)
    found = set()
    for rows in (1, 80, 120, 1 << 13):  # orders of 1, 2, 3 and all 7 epochs
        monkeypatch.setattr("fastnn.training._SHUFFLED_ROWS", rows)
        found.add(fitted(X, y, epochs=7).flat_params.tobytes())
    assert len(found) == 1


def test_one_epoch_meets_every_row_once(engine):
    """The gradient of a linear network does not depend on the order of a full epoch's rows."""
    X, y = table(37)
    net = Sequential([Dense(1)], n_inputs=7, dtype="float64")
    net.flat_params[:] = 0
    rate = 1e-9
    net.fit(X, y.astype(float), loss="sse", optimizer=SGD(rate), epochs=1, batch_size=5,
            progress=False)  # fmt: skip
    expected = 2 * rate * np.append(X.astype(float).T @ y, y.sum())
    np.testing.assert_allclose(net.flat_params, expected, rtol=1e-5)


def test_the_ragged_last_batch_weighs_by_its_rows(engine):
    X, y = table(25)
    net = Sequential([Dense(3)], n_inputs=7)
    net.fit(X, y, optimizer=SGD(1e-12), epochs=1, batch_size=10, progress=False)
    values = net.evaluate(X, y)
    assert net.history["loss"][0] == pytest.approx(values["loss"], rel=1e-6)
    assert net.history["accuracy"][0] == pytest.approx(values["accuracy"])


@pytest.mark.parametrize("labels", [
    np.array(["cat", "dog", "cow"]), np.array([10, 20, 30]), np.array([-1, 0, 1]),
    np.array([1.0, 2.0, 3.0]), np.array(["a", "b", "c"], dtype=object),
    np.array([0, 1, 2], dtype=np.uint8), np.array([b"x", b"y", b"z"]),
])  # fmt: skip
def test_labels_of_any_type_come_back(engine, labels):
    X, y = table()
    net = fitted(X, labels[y], optimizer=Adam(0.02), epochs=15)
    predicted = net.predict(X)
    assert predicted.dtype == labels.dtype
    assert (predicted == labels[y]).mean() > 0.9
    assert net.evaluate(X, labels[y])["accuracy"] == (predicted == labels[y]).mean()
    np.testing.assert_array_equal(net.classes_, np.unique(labels))
    p = net.predict_proba(X)
    assert p.shape == (len(X), 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(net.classes_[p.argmax(axis=1)], predicted)


@pytest.mark.parametrize("labels", [np.array([False, True]), np.array(["no", "yes"])])
def test_two_classes_on_one_output(engine, labels):
    X, y = table(n_classes=2)
    for layers in ([Dense(1)], [Dense(4, "relu"), Dense(1, "sigmoid")]):
        net = fitted(X, labels[y], layers, optimizer=Adam(0.05), epochs=20)
        assert net.history.loss_name == "binary_cross_entropy"
        predicted, p = net.predict(X), net.predict_proba(X)
        assert predicted.dtype == labels.dtype
        assert (predicted == labels[y]).mean() == net.evaluate(X, labels[y])["accuracy"] > 0.9
        assert p.shape == (len(X), 2)
        np.testing.assert_array_equal(labels[(p[:, 1] > 0.5).astype(int)], predicted)
        z = net.logits(X)[:, 0]
        np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-z.astype(float))), rtol=1e-5)


def test_a_last_sigmoid_is_not_applied_twice(engine):
    X, y = table(n_classes=2)
    with_it = fitted(X, y, [Dense(4, "tanh"), Dense(1, "sigmoid")])
    without = fitted(X, y, [Dense(4, "tanh"), Dense(1)])
    np.testing.assert_array_equal(with_it.flat_params, without.flat_params)
    np.testing.assert_array_equal(with_it.predict_proba(X), without.predict_proba(X))


def test_labels_are_one_hot_coded_for_squared_errors(engine):
    X, y = table()
    for loss in ("mse", "sse", "binary_cross_entropy"):
        labels = fitted(X, y, [Dense(3)], loss=loss, optimizer=SGD(0.01))
        rows = fitted(X, np.eye(3)[y], [Dense(3)], loss=loss, optimizer=SGD(0.01))
        np.testing.assert_array_equal(labels.flat_params, rows.flat_params)
        assert set(labels.predict(X)) <= {0, 1, 2}
        assert "accuracy" in labels.evaluate(X, y)


@pytest.mark.parametrize("last", ["sigmoid", "softmax"])
def test_accuracy_under_a_loss_of_outputs_counts_logits(engine, last):
    """The loss reads the outputs: the logits must outlive them."""
    X, y = table()
    net = fitted(X, y, [Dense(3, last)], loss="mse", optimizer=SGD(1e-12), epochs=1)
    expected = (net.predict(X) == y).mean()
    assert net.history["accuracy"] == [expected]
    assert net.evaluate(X, y)["accuracy"] == expected


def test_regression_keeps_the_shape_of_y(engine):
    X, _ = table()
    y = X @ np.arange(7) / 7
    net = fitted(X, y, [Dense(1)], optimizer=Adam(0.05), epochs=60, batch_size=20)
    assert net.history.loss_name == "mse"
    assert net.predict(X).shape == y.shape
    assert net.evaluate(X, y)["loss"] < 0.01
    assert "accuracy" not in net.history
    column = fitted(X, y[:, None], [Dense(1)])
    assert column.predict(X).shape == (len(y), 1)
    several = fitted(X, np.stack([y, -y], axis=1), [Dense(2)], optimizer=Adam(0.05), epochs=60)
    assert several.predict(X).shape == (len(y), 2)
    with pytest.raises(ValueError, match="predict_proba needs a cross entropy"):
        net.predict_proba(X)


def test_multilabel_and_one_hot_rows(engine):
    X, y = table()
    rows = np.stack([y > 0, y > 1], axis=1).astype(int)
    net = fitted(X, rows, [Dense(8, "relu"), Dense(2)], optimizer=Adam(0.02), epochs=30)
    assert net.history.loss_name == "binary_cross_entropy"
    assert net.predict(X).shape == rows.shape
    assert net.evaluate(X, rows)["accuracy"] == (net.predict(X) == rows).all(axis=1).mean() > 0.9
    one_hot = fitted(X, np.eye(3)[y], optimizer=Adam(0.02), epochs=15)
    assert one_hot.history.loss_name == "cross_entropy"
    assert (one_hot.predict(X) == np.eye(3)[y]).all(axis=1).mean() > 0.9


def test_auto_says_which_loss_it_takes(capsys):
    X, y = table()
    net = Sequential([Dense(3)])
    net.fit(X, y, epochs=1)
    assert "cross_entropy" in capsys.readouterr().err
    net.fit(X, y, epochs=1)
    assert capsys.readouterr().err == ""


def test_depth_zero_to_ten_and_width_one(engine):
    X, y = table(40)
    for depth in (0, 1, 5, 10):
        net = fitted(X, y, [*[Dense(1, "tanh") for _ in range(depth)], Dense(3)], epochs=1)
        assert net.flat_params.size == sum(v.size for v in net.parameters().values())
        assert np.isfinite(net.predict_proba(X)).all()


def test_a_batch_larger_than_the_data_is_the_whole_data(engine):
    X, y = table(30)
    a = fitted(X, y, batch_size=30)
    b = fitted(X, y, batch_size=10_000)
    np.testing.assert_array_equal(a.flat_params, b.flat_params)


def test_validation_is_evaluation(engine):
    X, y = table()
    net = fitted(X[:80], y[:80], validation_data=(X[80:], y[80:]))
    values = net.evaluate(X[80:], y[80:])
    assert net.history["val_loss"][-1] == values["loss"]
    assert net.history["val_accuracy"][-1] == values["accuracy"]
    assert len(net.history["val_loss"]) == 5


def test_flat_params_are_the_parameters(engine):
    net = Sequential([Dense(4, "relu"), Dense(3)], n_inputs=5)
    views = net.parameters()
    assert {name: v.shape for name, v in views.items()} == {
        "0.W": (5, 4), "1.W": (4, 3), "0.b": (4,), "1.b": (3,),
    }  # fmt: skip
    assert net.flat_params.size == 5 * 4 + 4 + 4 * 3 + 3
    views["1.b"][:] = [1, 2, 3]
    np.testing.assert_array_equal(net.flat_params[-3:], [1, 2, 3])
    net.flat_params = np.zeros(net.flat_params.size)
    assert not views["0.W"].any()
    np.testing.assert_array_equal(net.logits(np.ones((2, 5))), np.zeros((2, 3)))
    net.flat_params[:] = 1
    np.testing.assert_array_equal(net.predict(np.ones((2, 5))), np.full((2, 3), 25.0))


def test_weights_come_first_in_the_flat_vector():
    net = Sequential([Dense(4), Dense(3)], n_inputs=5)
    assert net.plan.n_weights == 5 * 4 + 4 * 3
    assert not net.flat_params[net.plan.n_weights :].any()
    assert net.flat_params[: net.plan.n_weights].all()
    assert net.flat_params.ctypes.data % 64 == 0


def test_784_15_10_has_11935_parameters():
    assert Sequential([Dense(15), Dense(10)], n_inputs=784).flat_params.size == 11935


@pytest.mark.parametrize("act", ["tanh", "sigmoid"])
def test_xor_is_learned(engine, act):
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    net = Sequential([Dense(4, act), Dense(1)], seed=1)
    net.fit(X, y, optimizer=Adam(0.1), epochs=300, batch_size=4, progress=False)
    np.testing.assert_array_equal(net.predict(X), y)


def test_ctrl_c_stops_between_calls_and_keeps_everything(engine):
    X, y = table(2000)
    layers = [Dense(64, "tanh"), Dense(3)]
    Sequential(layers).fit(X, y, epochs=1, progress=False)  # kernels are compiled before the clock
    net = Sequential(layers, n_inputs=7)
    before = net.flat_params.copy()
    handler = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y, epochs=1_000_000, progress=False)
    timer.join()
    assert signal.getsignal(signal.SIGINT) is handler
    assert np.isfinite(net.flat_params).all()
    assert not np.array_equal(net.flat_params, before)
    epochs = len(net.history["loss"])
    assert epochs >= 1
    assert all(len(values) == epochs for values in net.history.values())
    assert net.training_state.epoch == epochs
    net.fit(X, y, epochs=1, progress=False)


@pytest.mark.filterwarnings("ignore::fastnn.errors.FitWarning")
def test_divergence_restores_the_start_of_the_epoch(engine):
    X, y = table()
    net = Sequential([Dense(1)], n_inputs=7)
    start = net.flat_params.copy()
    with pytest.raises(fastnn.errors.DivergedError, match="learning rate") as caught:
        net.fit(X, y * 1e30, loss="mse", optimizer=SGD(1e6), epochs=3, progress=False)
    assert caught.value.epoch == 0
    assert caught.value.batch in (1, 2)
    np.testing.assert_array_equal(net.flat_params, start)
    assert isinstance(caught.value, ValueError)
    net.fit(X, y, loss="mse", optimizer=SGD(1e-3), epochs=1, progress=False)


@pytest.mark.filterwarnings("ignore::fastnn.errors.FitWarning")
def test_divergence_in_the_last_step_is_noticed(engine):
    X, y = table(10)
    net = Sequential([Dense(1)], n_inputs=7)
    start = net.flat_params.copy()
    with pytest.raises(fastnn.errors.DivergedError):
        net.fit(X, y * 1e15, loss="mse", optimizer=SGD(1e30), epochs=1, batch_size=10,
                progress=False)  # fmt: skip
    np.testing.assert_array_equal(net.flat_params, start)


@pytest.mark.filterwarnings("ignore::fastnn.errors.FitWarning")
@pytest.mark.parametrize("bad", [0, 1, 4, 9])
def test_a_divergence_names_its_batch(engine, bad):
    X, _ = table(100)
    y = np.zeros(100)
    y[10 * bad + 3] = 1e200
    net = Sequential([Dense(1)], n_inputs=7, dtype="float64")
    with pytest.raises(fastnn.errors.DivergedError, match=f"epoch 0, batch {bad} ") as caught:
        net.fit(X, y, loss="mse", optimizer=SGD(1e-12), epochs=1, batch_size=10, shuffle=False,
                progress=False)  # fmt: skip
    assert (caught.value.epoch, caught.value.batch) == (0, bad)


def test_after_a_divergence_the_optimizer_starts_anew(engine):
    X, y = table()
    net = fitted(X, y / 2, [Dense(1)], loss="mse", optimizer=Adam(0.01))
    fresh = Sequential([Dense(1)], n_inputs=7)
    fresh.flat_params = net.flat_params
    with pytest.raises(fastnn.errors.DivergedError):
        net.fit(X, y * 1e30, loss="mse", optimizer=Adam(0.01), epochs=1, progress=False)
    assert net.training_state.step == 0
    for each in (net, fresh):
        each.fit(X, y / 2, loss="mse", optimizer=Adam(0.01), epochs=2, shuffle=False,
                 progress=False)  # fmt: skip
    np.testing.assert_array_equal(net.flat_params, fresh.flat_params)


def test_an_infinite_penalty_is_a_divergence(engine):
    net = Sequential([Dense(1, l2=0.1)], n_inputs=2, dtype="float64")
    net.flat_params = [1e200, 0, 0]
    with pytest.raises(fastnn.errors.DivergedError, match="epoch 0, batch 0 "):
        net.fit(np.zeros((6, 2)), np.zeros(6), loss="mse", optimizer=SGD(0.1), epochs=1,
                batch_size=3, progress=False)  # fmt: skip


def test_history_prints_and_counts():
    X, y = table()
    history = fitted(X, y).history
    assert set(history) == {"loss", "accuracy", "lr", "seconds"}
    assert "5 epochs" in repr(history)
    assert history.rows_per_second > 0
    assert history["lr"] == [0.001] * 5


def test_summary_plan_and_repr(capsys):
    net = Sequential([Dense(30, "sigmoid"), Dense(10)], n_inputs=784)
    net.summary()
    assert "23,860" in capsys.readouterr().out
    net.fit(np.ones((4, 784)), [0, 1, 2, 3], epochs=1, progress=False)
    text = str(net.plan)
    for piece in ("784 -> 10", "dense + sigmoid", "cross_entropy", "dW db dz0", "23860"):
        assert piece in text
    assert repr(net).startswith("Sequential([Dense(30, 'sigmoid'), Dense(10)], n_inputs=784")


def test_progress_advances_by_every_row_once(monkeypatch):
    advanced = []
    monkeypatch.setattr(progress.ProgressBar, "advance", lambda _, rows: advanced.append(rows))
    X, y = table(25)
    fitted(X, y, epochs=3, batch_size=10)
    assert sum(advanced) == 3 * 25


def test_a_progress_bar_is_shown_when_asked_for(capsys):
    X, y = table()
    Sequential([Dense(3)]).fit(X, y, loss="cross_entropy", epochs=2, progress=True)
    err = capsys.readouterr().err
    assert "epoch 2/2" in err
    assert "accuracy=" in err
