"""Validation of any rows of X, on every engine; and splitting rows into two parts."""

import warnings

import numpy as np
import pytest
from conftest import table

from fastnn import (
    Adam,
    BatchNorm,
    Dense,
    EarlyStopping,
    Embedding,
    Sequential,
    engines,
    metrics,
    run,
)
from fastnn.data.split import split_rows, stratified_split
from fastnn.engines.workspace import Data, Workspace
from fastnn.features import check_features
from fastnn.metrics import Metric
from fastnn.validation import Validation, split

X, Y = table(120)
NAMES = np.array(["pear", "apple", "fig"])
ROWS = np.array([7, 3, 119, 0, 64, 65, 66, 3, 20, 90, 91, 2], np.int64)  # one of them twice
MANY = np.random.default_rng(0).integers(0, 120, 333)


def fitted(y, units, **arguments):
    net = Sequential([Dense(6, "tanh"), BatchNorm(), Dense(units)], seed=2, **arguments)
    net.fit(X, y, optimizer=Adam(0.02), epochs=3, progress=False)
    return net


def validation(net, features, y, rows=None, items=()):
    """A Validation of some rows, and a workspace for it, made as a fit makes them."""
    loss, target = net._loss, net._target
    features = check_features(features, net.n_inputs, net.dtype)
    data = net._data(features, y, target, loss)
    data.order = rows
    plan = net.lower(loss)
    found = metrics.get(items, target, loss, net.n_outputs)
    of_rows = y if rows is None else np.asarray(y)[rows]
    made = Validation(engines.current(), plan, data, of_rows, target, loss, found)
    ws = Workspace(plan, net._params, net._statistics, data.batch_size)
    made.bind(ws)
    return made, ws


FORMS = {
    "text": (NAMES[Y], 3, ["f1", "log_loss", "roc_auc", "top_2"]),
    "two": (NAMES[(Y > 0).astype(int)], 1, ["f1", "log_loss", "roc_auc"]),
    "one-hot": (np.eye(3)[Y], 3, ["f1", "log_loss", "roc_auc", "top_2"]),
    "columns": ((X[:, :3] > 0).astype(int), 3, ["f1", "log_loss", "roc_auc"]),
    "number": (X[:, 0] * 2 - X[:, 1], 1, ["r2", "mae", "rmse"]),
    "numbers": (X[:, :2] * 2, 2, ["r2", "mae", "rmse"]),
}


@pytest.mark.parametrize("small", [False, True], ids=["one chunk", "chunks"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_by_number_are_as_a_copy_of_them(engine, form, small, monkeypatch):
    if small:
        monkeypatch.setattr(run, "CHUNK_ROWS", 16)
        monkeypatch.setattr(run, "CHUNK_ELEMENTS", 1)
    y, units, items = FORMS[form]
    net = fitted(y, units)
    for rows in (ROWS, MANY):
        made, ws = validation(net, X, y, rows, items)
        assert made.data.n_batches == (-(-len(rows) // 16) if small and len(rows) > 16 else 1)
        found = made.values(ws)
        copied = net.evaluate(X[rows], y[rows], metrics=items)
        assert found == {f"val_{name}": value for name, value in copied.items()}
        assert list(found) == made.names()
        assert [f"average_{name}" for name in found] == made.names("average_val_")


def test_rows_by_number_of_integers_and_categories(engine):
    """X of bytes that are scaled, and an embedding, whose column must be read by row, too."""
    rng = np.random.default_rng(1)
    features = rng.integers(0, 5, (300, 7)).astype(np.uint8)
    big = np.repeat(features, 70, axis=0)  # so many that engines convert them
    y = np.repeat(NAMES[rng.integers(0, 3, 300)], 70)
    net = Sequential([Dense(3)], input_scale=1 / 5)
    net.fit(big, y, epochs=1, batch_size=500, progress=False)
    rows = rng.permutation(len(big))[:1500]
    made, ws = validation(net, big, y, rows, ["f1"])
    assert made.data.X is big
    assert made.values(ws, "") == net.evaluate(big[rows], y[rows], metrics=["f1"])
    net = Sequential([Embedding({2: (5, 2)}), Dense(3)])
    net.fit(features, NAMES[features[:, 2] % 3], epochs=1, progress=False)
    made, ws = validation(net, features, NAMES[features[:, 2] % 3], ROWS, ["f1"])
    copied = net.evaluate(features[ROWS], NAMES[features[:, 2] % 3][ROWS], metrics=["f1"])
    assert made.values(ws, "") == copied


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", ["logits", "output", "softmax"])
def test_forward_and_evaluate_of_an_order(engine, function, dtype):
    """The engines' own functions, with rows in an order that is neither all of X nor sorted."""
    net = fitted(NAMES[Y], 3, dtype=dtype)
    plan, chosen = net.lower(net._loss), engines.current()
    features = check_features(X, 7, net.dtype)
    labels = np.searchsorted(np.sort(NAMES), NAMES[Y]).astype(np.int32)
    weights = np.linspace(0, 2, 120)
    for size in (1, 5, 333):
        ws = Workspace(plan, net._params, net._statistics, size)
        data = Data(features, None, labels, weights, MANY, size, metric="class")
        copy = Data(features[MANY], None, labels[MANY], weights[MANY], None, size, metric="class")
        outs = [np.full((333, 3), np.nan, dtype) for _ in range(2)]
        results = [np.full((data.n_batches, 2), np.nan) for _ in range(2)]
        for one, out, result in zip((data, copy), outs, results, strict=True):
            chosen.forward(ws, one, out, function)
            assert chosen.evaluate(ws, one, result)
        assert np.array_equal(*outs)
        assert np.array_equal(*results)
        assert data.weight_sum == copy.weight_sum


def test_values_follow_the_parameters(engine):
    """The workspace's parameters at the time of the call; nothing of an earlier one is kept."""
    y, _, items = FORMS["text"]
    net = fitted(y, 3)
    made, ws = validation(net, X, y, ROWS, items)
    before = made.values(ws)
    net.flat_params[:] *= -1
    after = made.values(ws)
    assert all(before[name] != after[name] for name in before)
    assert after == {
        f"val_{n}": v for n, v in net.evaluate(X[ROWS], y[ROWS], metrics=items).items()
    }
    other = Workspace(ws.plan, ws.params * -1, ws.state, ws.rows)
    assert list(made.values(other, "average_val_").values()) == list(before.values())


def test_binding_leaves_nothing_to_compile(compiled, monkeypatch):
    y, _, _ = FORMS["text"]
    net = fitted(y, 3)
    made, ws = validation(net, X, y, ROWS, ["f1", "roc_auc"])
    monkeypatch.setattr(type(engines.current()), "_bind", None)
    made.values(ws)


def test_one_forward_pass_for_each_kind_of_predictions(monkeypatch):
    y, _, _ = FORMS["text"]
    net = fitted(y, 3)
    passes = []
    original = run.forward
    monkeypatch.setattr(run, "forward", lambda *a: passes.append(a[-1]) or original(*a))
    for items, expected in (
        ((), []), (["accuracy"], []), (["f1", Metric(lambda y, p: 0.0, "a")], ["logits"]),
        (["roc_auc", "log_loss"], ["softmax"]), (["f1", "roc_auc", "top_1"], ["logits", "softmax"]),
    ):  # fmt: skip
        passes.clear()
        net.evaluate(X, y, metrics=items)
        assert passes == expected


def test_nan_is_reported_once():
    y, _, _ = FORMS["text"]
    net = fitted(y, 3)
    made, ws = validation(
        net, X, y, ROWS, [Metric(lambda y, p: np.nan, n) for n in ("first", "second")]
    )
    with pytest.warns(RuntimeWarning, match="is NaN") as caught:
        found = [made.values(ws, prefix) for prefix in ("val_", "val_", "average_val_")]
    assert all(np.isnan(list(values.values())[-2:]).all() for values in found)
    assert [str(w.message).split()[2] for w in caught] == ["'first'", "'second'"]


def test_a_missing_class_is_refused_before_anything_runs():
    y, _, _ = FORMS["text"]
    net = fitted(y, 3)
    rows = np.flatnonzero(Y != 2)
    with pytest.raises(ValueError, match=r"roc_auc needs rows of every class.* 'fig'"):
        validation(net, X, y, rows, ["f1", "roc_auc"])
    made, ws = validation(net, X, y, rows, ["f1", "log_loss"])
    assert np.isfinite(list(made.values(ws).values())).all()


def test_targets_must_be_those_of_the_rows():
    net = fitted(Y, 3)
    data = Data(X, labels=Y.astype(np.int32), order=ROWS, metric="class")
    found = metrics.get("f1", net._target, net._loss, 3)
    with pytest.raises(ValueError, match="120 targets for 12 rows"):
        Validation(engines.current(), net.plan, data, Y, net._target, net._loss, found)


# -- splitting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("n", [3, 10, 57, 400])
def test_parts_of_numbers(n, share):
    train, valid = split_rows(None, n, share, 3)
    assert train.dtype == valid.dtype == np.int64
    assert sorted([*train, *valid]) == list(range(n))
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()
    assert len(valid) == round(share * n)
    if n >= 57:
        assert (split_rows(None, n, share, 3)[1] == valid).all()
        assert not np.array_equal(split_rows(None, n, share, 4)[1], valid)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.9])
def test_parts_of_classes_have_their_proportions(share):
    rng = np.random.default_rng(0)
    for labels in (
        rng.integers(0, 3, 200),
        NAMES[rng.integers(0, 3, 57)],
        np.repeat([0, 1], [2, 9]),
    ):
        train, valid = split_rows(labels, len(labels), share, 8)
        assert sorted([*train, *valid]) == list(range(len(labels)))
        for label in np.unique(labels):
            n = (labels == label).sum()
            assert (labels[valid] == label).sum() == min(max(round(share * n), 1), n - 1)
        expected = stratified_split(labels, share, seed=8)
        assert (train == np.sort(expected[0])).all()
        assert (valid == np.sort(expected[1])).all()


def test_stratified_split_draws_as_ever():
    """Its rows are part of published results: pinned."""
    train, test = stratified_split(np.arange(12) % 3, 0.3, seed=5)
    assert train.tolist() == [0, 11, 5, 6, 2, 3, 7, 1, 10]
    assert test.tolist() == [9, 8, 4]


def test_an_empty_part_is_refused():
    for labels, n, share, message in (
        (None, 20, 0.01, "0.01 of 20 rows leaves no row for validation"),
        (None, 20, 0.99, "no row for training"),
        (None, 1, 0.5, "of 1 row leaves"),
        (np.arange(5), 5, 0.5, "no row for validation: every class has a single row"),
    ):
        with pytest.raises(ValueError, match=message):
            split_rows(labels, n, share, 0)


def data_of(net, y):
    return net._data(check_features(X, 7, net.dtype), y, net._target, net._loss)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_stratified(form):
    y, units, _ = FORMS[form]
    net = fitted(y, units)
    train, valid = split(data_of(net, y), net._target, 0.2, 4)
    classes = {"text": y, "two": y, "one-hot": Y}.get(form)
    expected = split_rows(classes, 120, 0.2, 4)
    assert np.array_equal(train, expected[0])
    assert np.array_equal(valid, expected[1])


def test_soft_rows_are_not_stratified():
    net = fitted(np.eye(3)[Y], 3)
    soft = np.eye(3)[Y] * 0.7 + 0.1
    assert np.array_equal(
        split(data_of(net, soft), net._target, 0.2, 4)[1], split_rows(None, 120, 0.2, 4)[1]
    )


@pytest.mark.parametrize("form", ["text", "one-hot"])
def test_a_class_with_a_single_row(form):
    codes = np.where(Y == 2, 0, Y)
    codes[17] = 2
    y = NAMES[codes] if form == "text" else np.eye(3)[codes]
    net = fitted(y, 3)
    name = "the class 'fig' has a" if form == "text" else "the class of column 2 has a"
    with pytest.warns(UserWarning, match=f"{name} single row, which stays in the training part"):
        train, valid = split(data_of(net, y), net._target, 0.3, 0)
    assert 17 in train
    assert 17 not in valid
    with pytest.raises(ValueError, match="roc_auc needs rows of every class"):
        validation(net, X, y, valid, ["roc_auc"])
    codes[codes == 1] = 0
    codes[18] = 1
    data = data_of(net, NAMES[codes] if form == "text" else np.eye(3)[codes])
    with pytest.warns(UserWarning, match="and 1 more have a single row"):
        split(data, net._target, 0.3, 0)


def test_a_class_without_rows_is_no_warning():
    y = np.where(Y == 2, 0, Y)  # 0 and 1 of 0, 1, 2
    net = fitted(y, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split(data_of(net, y), net._target, 0.3, 0)


def test_the_share_must_be_one():
    net = fitted(Y, 3)
    for share, error in ((0, ValueError), (1, ValueError), (1.5, ValueError), (True, TypeError)):
        with pytest.raises(error, match="validation_split must be"):
            split(data_of(net, Y), net._target, share, 0)


# -- fit ------------------------------------------------------------------------------------------


def fit(y, units, **arguments):
    net = Sequential([Dense(6, "tanh"), Dense(units)], seed=3)
    arguments = {"epochs": 3, "batch_size": 16, "progress": False} | arguments
    return net, net.fit(X, y, **arguments)


@pytest.mark.parametrize("form", FORMS)
def test_a_fit_records_what_evaluate_gives(engine, form):
    y, units, items = FORMS[form]
    net, history = fit(y, units, validation_split=0.3, metrics=items)
    _, valid = split(data_of(net, y), net._target, 0.3, 3)
    found = net.evaluate(X[valid], y[valid], metrics=items)
    assert {name: history[f"val_{name}"][-1] for name in found} == found
    assert all(len(values) == 3 for values in history.values())
    # The parts are those of two fits, and equal one with the rows given.
    train = np.setdiff1d(np.arange(120), valid)
    other, again = fit(y, units, rows=train, validation_data=(X[valid], y[valid]), metrics=items)
    assert np.array_equal(other.flat_params, net.flat_params)
    assert {**again, "seconds": 0} == {**history, "seconds": 0}


def test_a_fit_of_some_rows_splits_those():
    rows = np.arange(110, 10, -1)
    y = NAMES[Y]
    net, history = fit(y, 3, rows=rows, validation_split=0.2, metrics=["f1"])
    copy = Sequential([Dense(6, "tanh"), Dense(3)], seed=3)
    expected = copy.fit(
        X[rows], y[rows], epochs=3, batch_size=16, progress=False, validation_split=0.2,
        metrics=["f1"],
    )  # fmt: skip
    assert np.array_equal(net.flat_params, copy.flat_params)
    assert history["val_f1"] == expected["val_f1"]


def test_a_fit_with_an_average_reports_nan_once():
    with pytest.warns(RuntimeWarning, match="'nothing' is NaN") as caught:
        _, history = fit(
            Y, 3, validation_split=0.2, ema=0.9, metrics=[Metric(lambda y, p: np.nan, "nothing")]
        )
    assert len(caught) == 1
    assert np.isnan(history["val_nothing"] + history["average_val_nothing"]).all()
    with pytest.warns(RuntimeWarning, match="is NaN"):  # and again in another
        fit(Y, 3, validation_split=0.2, metrics=[Metric(lambda y, p: np.nan, "nothing")])


@pytest.mark.parametrize("arguments", [
    {"metrics": ["f1"]},
    {"metrics": ["r2"], "validation_split": 0.2},
    {"metrics": ["roc_auc"], "validation_data": (X[Y < 2], NAMES[Y[Y < 2]])},
    {"validation_split": 0.5, "rows": [(c == Y).argmax() for c in range(3)]},
], ids=["nothing to validate", "labels", "missing class", "single rows"])  # fmt: skip
def test_refused_before_the_first_step(arguments, monkeypatch):
    monkeypatch.setattr(run.Fit, "steps", None)
    net = Sequential([Dense(3)])
    with pytest.raises(ValueError, match=r"validation|numbers|roc_auc"):
        net.fit(X, NAMES[Y], progress=False, **arguments)
    assert net.history is None


def test_a_metric_that_raises_in_a_fit():
    calls = []

    def faulty(y, p):
        calls.append(len(y))
        if len(calls) == 2:
            raise OSError("mine")
        return 1.0

    net = Sequential([Dense(3)], seed=3)
    with pytest.raises(OSError, match="mine") as caught:
        net.fit(X, Y, epochs=5, validation_data=(X[:9], Y[:9]), metrics=[faulty], progress=False)
    assert calls == [9, 9]
    assert caught.value.__notes__ == ["fastnn: raised by the metric 'faulty'"]
    assert net.history["val_faulty"] == [1.0]


def test_early_stopping_follows_a_metric():
    values = iter([0.2, 0.6, 0.5, np.nan, 0.4, 0.9])

    def scripted(y, p):
        return next(values)

    for greater, epochs in ((True, 4), (False, 3)):
        values = iter([0.2, 0.6, 0.5, np.nan, 0.4, 0.9])
        stop = EarlyStopping(patience=2, metric="val_scripted")
        found = [Metric(scripted, greater_is_better=greater)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            _, history = fit(
                Y, 3, epochs=6, early_stopping=stop, validation_split=0.2, metrics=found
            )
        assert len(history["loss"]) == epochs
