"""Metrics: the same numbers as scikit-learn's functions give for the network's own predictions."""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as sk

import fastnn
from fastnn import Adam, Dense, Sequential, losses, metrics
from fastnn.metrics import F1, Metric, TopK

M = 90
RNG = np.random.default_rng(5)
X = RNG.normal(size=(M, 4))
# Classes and columns that a few epochs learn in part, so that no metric is 0 or 1.
NOISY = X + RNG.normal(size=X.shape)
THREE = NOISY[:, :3].argmax(axis=1)
TWO = (NOISY[:, 0] > 0.3).astype(int)
COLUMNS = (NOISY[:, :3] > 0.4).astype(int)
VALUES = 2 * X[:, :2] - X[:, 2:] + RNG.normal(size=(M, 2))
NAMES = np.array(["pear", "apple", "fig"])


def fitted(y, units, loss="auto", **arguments):
    net = Sequential([Dense(5, "tanh"), Dense(units)], seed=1, **arguments)
    net.fit(X, y, loss=loss, optimizer=Adam(0.02), epochs=4, progress=False)
    return net


def share_of_second(y, p):
    return float(np.mean(p[:, 1]) + 0 * len(y))


# -- classes --------------------------------------------------------------------------------------


def classified(y, predicted, p, codes):
    """What scikit-learn gives for three classes; codes are their numbers."""
    return {
        "accuracy": sk.accuracy_score(y, predicted),
        "top_1": sk.top_k_accuracy_score(codes, p, k=1),
        "top_2": sk.top_k_accuracy_score(codes, p, k=2),
        "top_3": 1.0,
        "log_loss": sk.log_loss(codes, p),
        "roc_auc": sk.roc_auc_score(codes, p, multi_class="ovr", average="macro"),
        "f1": sk.f1_score(y, predicted, average="macro"),
        "f1_weighted": sk.f1_score(y, predicted, average="weighted"),
        "f1_micro": sk.f1_score(y, predicted, average="micro"),
    }


ASKED = ["accuracy", "top_1", TopK(2), "top_3", "log_loss", "roc_auc", "f1",
         F1(average="weighted"), F1(average="micro")]  # fmt: skip


def agree(found, expected, extra=("loss",), rel=1e-12):
    assert list(found) == [*extra, *(name for name in expected if name not in extra)]
    for name, value in expected.items():
        assert isinstance(found[name], float)
        assert found[name] == pytest.approx(value, rel=rel), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_several_classes_as_text(engine, dtype):
    y = NAMES[THREE]
    net = fitted(y, 3, dtype=dtype)
    codes = np.unique(y, return_inverse=True)[1]
    expected = classified(y, net.predict(X), net.predict_proba(X), codes)
    expected["f1_fig"] = sk.f1_score(y, net.predict(X), average=None, labels=["fig"])[0]
    found = net.evaluate(X, y, metrics=[*ASKED, F1(positive="fig")])
    agree(found, expected, ("loss", "accuracy"))
    assert 0.3 < found["f1"] < 1
    assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-5)


def test_one_hot_rows(engine):
    y = np.eye(3)[THREE]
    net = fitted(y, 3)
    predicted = net.predict(X)
    assert predicted.shape == y.shape
    classes = predicted.argmax(axis=1)
    expected = classified(THREE, classes, net.predict_proba(X), THREE)
    expected["f1_2"] = sk.f1_score(THREE, classes, average=None)[2]
    agree(net.evaluate(X, y, metrics=[*ASKED, F1(positive=2)]), expected, ("loss", "accuracy"))


@pytest.mark.parametrize("form", ["one output", "two outputs", "one-hot"])
def test_two_classes(engine, form):
    y = np.array(["no", "yes"])[TWO]
    given = np.eye(2, dtype=int)[TWO] if form == "one-hot" else y
    net = fitted(given, 1 if form == "one output" else 2)
    predicted, p = net.predict(X), net.predict_proba(X)
    if form == "one-hot":
        predicted = np.array(["no", "yes"])[predicted.argmax(axis=1)]
    expected = {
        "accuracy": sk.accuracy_score(y, predicted),
        "top_1": sk.top_k_accuracy_score(y, p[:, 1], k=1),
        "log_loss": sk.log_loss(y, p),
        "roc_auc": sk.roc_auc_score(y, p[:, 1]),
        "f1": sk.f1_score(y, predicted, pos_label="yes"),
        "f1_macro": sk.f1_score(y, predicted, average="macro"),
    }
    asked = ["accuracy", "top_1", "log_loss", "roc_auc", "f1", F1("macro")]
    agree(net.evaluate(X, given, metrics=asked), expected, ("loss", "accuracy"))


def test_independent_columns(engine):
    net = fitted(COLUMNS, 3)
    predicted, p = net.predict(X), net.predict_proba(X)
    expected = {
        "accuracy": sk.accuracy_score(COLUMNS, predicted),
        "log_loss": np.mean([sk.log_loss(COLUMNS[:, j], p[:, j]) for j in range(3)]),
        "roc_auc": sk.roc_auc_score(COLUMNS, p),
        "f1": sk.f1_score(COLUMNS, predicted, average="macro", zero_division=0),
        "f1_micro": sk.f1_score(COLUMNS, predicted, average="micro"),
        "f1_1": sk.f1_score(COLUMNS[:, 1], predicted[:, 1]),
    }
    asked = ["accuracy", "log_loss", "roc_auc", "f1", F1("micro"), F1(positive=1)]
    agree(net.evaluate(X, COLUMNS, metrics=asked), expected, ("loss", "accuracy"))


def test_one_column_of_which_fit_saw_probabilities():
    soft = np.where(TWO == 1, 0.9, 0.2)
    net = fitted(soft, 1, "binary_cross_entropy")
    predicted, p = net.predict(X), net.predict_proba(X)
    expected = {
        "f1": sk.f1_score(TWO, predicted),
        "roc_auc": sk.roc_auc_score(TWO, p[:, 0]),
        "log_loss": sk.log_loss(TWO, p[:, 0]),
    }
    found = net.evaluate(X, TWO.astype(float), metrics=["f1", "roc_auc", "log_loss"])
    del found["accuracy"]
    agree(found, expected)
    with pytest.raises(ValueError, match=r"f1 needs 0 and 1 in y, but row 0 of it holds 0.\d"):
        net.evaluate(X, soft, metrics=["f1"])


def test_one_class_against_the_rest():
    net = fitted(NAMES[THREE], 3, "binary_cross_entropy")  # sigmoids, whose sum is not 1
    p = net.predict_proba(X)
    codes = np.unique(NAMES[THREE], return_inverse=True)[1]
    found = net.evaluate(X, NAMES[THREE], metrics=["roc_auc", "top_2"])
    aucs = [sk.roc_auc_score(codes == j, p[:, j]) for j in range(3)]
    assert found["roc_auc"] == pytest.approx(np.mean(aucs), rel=1e-12)
    assert found["top_2"] == pytest.approx(sk.top_k_accuracy_score(codes, p, k=2))


def test_losses_without_probabilities_have_predictions():
    y = np.array(["no", "yes"])[TWO]
    net = fitted(y, 1, "hinge")
    assert net.evaluate(X, y, metrics=["f1"])["f1"] == sk.f1_score(
        y, net.predict(X), pos_label="yes"
    )
    net = fitted(THREE, 3, "mse")  # labels that are one-hot coded
    found = net.evaluate(X, THREE, metrics=["f1"])["f1"]
    assert found == pytest.approx(sk.f1_score(THREE, net.predict(X), average="macro"))


LABELS = {
    "bytes": np.array([b"x", b"y", b"z"]),
    "objects of text": np.array(["x", "y", "z"], object),
    "objects of numbers": np.array([1, 2, 5], object),
    "small numbers": np.array([7, 9, 30], np.uint8),
    "floats": np.array([-3.0, 0.0, 4.0]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_any_type(labels):
    """scikit-learn takes not all of them; the metrics compare positions of classes."""
    net = fitted(labels[THREE], 3)
    codes = np.unique(net.predict(X), return_inverse=True)
    found = net.evaluate(X, labels[THREE], metrics=["f1", "roc_auc"])
    assert len(codes[0]) == 3
    assert found["f1"] == pytest.approx(sk.f1_score(THREE, codes[1], average="macro"))


def test_classes_that_are_missing_in_some_rows():
    """Those that neither occur nor are predicted do not count for F1; top_k and log_loss do."""
    net, few = fitted(THREE, 3), THREE < 2
    found = net.evaluate(X[few], THREE[few], metrics=["f1", "log_loss", "top_2", "accuracy"])
    p = net.predict_proba(X[few])
    assert found["f1"] == sk.f1_score(THREE[few], net.predict(X[few]), average="macro")
    assert found["log_loss"] == sk.log_loss(THREE[few], p, labels=[0, 1, 2])
    assert found["top_2"] == sk.top_k_accuracy_score(THREE[few], p, k=2, labels=[0, 1, 2])
    with pytest.raises(ValueError, match=r"rows of every class, but none of these .* class 2"):
        net.evaluate(X[few], THREE[few], metrics=["roc_auc"])
    two = fitted(np.array(["no", "yes"])[TWO], 1)
    with pytest.raises(ValueError, match="the class 'yes'"):
        two.evaluate(X[TWO == 0], np.full((TWO == 0).sum(), "no"), metrics=["roc_auc"])
    two.flat_params[:] = 0
    assert two.evaluate(X[:2], ["no", "no"], metrics=["f1"])["f1"] == 0  # 0/0
    columns = COLUMNS.copy()
    columns[:, 1] = 1
    net = fitted(columns, 3)
    with pytest.raises(ValueError, match="column 1 of y is 1 in all 90 rows"):
        net.evaluate(X, columns, metrics=["roc_auc"])
    with pytest.raises(ValueError, match="the class of column 2"):
        fitted(np.eye(3)[THREE], 3).evaluate(X[few], np.eye(3)[THREE[few]], metrics=["roc_auc"])


# -- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["vector", "column", "two columns", "whole numbers"])
def test_numbers(engine, form):
    y = {
        "vector": VALUES[:, 0], "column": VALUES[:, :1], "two columns": VALUES,
        "whole numbers": np.round(VALUES[:, 0]).astype(np.int16),
    }[form]  # fmt: skip
    net = fitted(y, 2 if form == "two columns" else 1, "huber")
    predicted = net.predict(X)
    assert predicted.shape == y.shape
    expected = {
        "r2": sk.r2_score(y, predicted),
        "mae": sk.mean_absolute_error(y, predicted),
        "mse": sk.mean_squared_error(y, predicted),
        "rmse": sk.root_mean_squared_error(y, predicted),
    }
    found = net.evaluate(X, y, metrics=["r2", "mae", "mse", "rmse"])
    agree(found, expected, rel=1e-6 if form == "whole numbers" else 1e-12)  # there in float32
    assert found["r2"] > 0


def test_a_single_quantile_and_rates_are_numbers():
    for loss, y in ((losses.Quantile(0.8), VALUES[:, 0]), ("poisson", TWO.astype(float))):
        net = fitted(y, 1, loss)
        found = net.evaluate(X, y, metrics="mae")["mae"]
        assert found == pytest.approx(sk.mean_absolute_error(y, net.predict(X)))


# -- functions ------------------------------------------------------------------------------------


def seen_by(y, net, rows=slice(None), needs="predictions"):
    """What a metric of the user's gets."""
    seen = []

    def look(y_true, y_pred):
        seen.extend((y_true, y_pred))
        return 0

    net.evaluate(X[rows], y, metrics=[Metric(look, needs=needs)])
    return seen


def test_functions_get_targets_and_predictions_in_the_form_of_fits_y(engine):
    for y, units in (
        (NAMES[THREE], 3), (np.eye(3)[THREE], 3), (COLUMNS, 3), (VALUES[:, 0], 1),
        (VALUES[:, :1], 1), (VALUES, 2), (NAMES[TWO], 1),
    ):  # fmt: skip
        net = fitted(y, units)
        y_true, y_pred = seen_by(y, net)
        assert (y_true == y).all()
        assert y_true.shape == y.shape == y_pred.shape
        assert y_pred.dtype == net.predict(X).dtype
        assert (y_pred == net.predict(X)).all()
        assert not y_true.flags.writeable
        assert not y_pred.flags.writeable
    _, p = seen_by(NAMES[TWO], net, needs="probabilities")
    assert (p == net.predict_proba(X)).all()
    # One column for a vector and the other way round, lists, and other types of the same labels.
    labels = NAMES[TWO][:, None].tolist()
    assert seen_by(labels, net)[0].shape == (M,)
    vector, column = fitted(VALUES[:, 0], 1), fitted(VALUES[:, :1], 1)
    assert (
        seen_by(VALUES[:, :1], vector)[0].shape == seen_by(VALUES[:, :1], vector)[1].shape == (M,)
    )
    assert (
        seen_by(VALUES[:, 0], column)[0].shape == seen_by(VALUES[:, 0], column)[1].shape == (M, 1)
    )


def test_outputs_of_several_for_each_target_go_to_functions():
    net = fitted(VALUES[:, 0], 2, losses.Quantile([0.1, 0.9]))
    y_true, y_pred = seen_by(VALUES[:, 0], net)
    assert y_true.shape in ((M,), (M, 1))
    assert y_pred.shape == (M, 2)


def test_names_and_directions():
    def mean_error(y, p):
        return 0.0

    class Callable:
        def __call__(self, y, p):
            return 0.0

    found = [Metric(mean_error), Metric(max), Metric(Callable()), Metric(max, "a"),
             Metric(mean_error, greater_is_better=True), Metric(max, greater_is_better=False),
             Metric(max, "huber_loss"), Metric(max, "lossless")]  # fmt: skip
    assert [m.name for m in found] == ["mean_error", "max", "Callable", "a", "mean_error", "max",
                                       "huber_loss", "lossless"]  # fmt: skip
    assert [m.greater_is_better for m in found] == [False, True, True, True, True, False, False,
                                                    True]  # fmt: skip
    assert repr(found[3]) == "Metric(a)"
    assert repr([TopK(3), F1("micro"), metrics._BY_NAME["r2"]]) == "['top_3', 'f1_micro', 'r2']"
    assert Metric(max) == Metric(max) != Metric(max, "b")
    assert TopK(2) == TopK(2) != TopK(3)
    assert len({F1(positive=1), F1(positive=1), F1(positive="1"), F1()}) == 3
    assert Metric(max) != "max"


DIRECTIONS = {"loss": "min", "val_loss": "min", "average_val_loss": "min", "accuracy": "max",
              "average_val_accuracy": "max", "val_f1": "max", "val_log_loss": "min", "lr": "min",
              "val_top_3": "max", "average_val_rmse": "min", "f1": "max", "val_r2": "max",
              "val_mae": "min", "val_roc_auc": "max", "val_worst": "min"}  # fmt: skip


def test_directions():
    def worst(y, p):
        return 0.0

    asked = ["f1", "log_loss", "top_3", "rmse", "r2", "mae", "roc_auc",
             Metric(worst, greater_is_better=False)]  # fmt: skip
    assert {name: metrics.direction(name, asked) for name in DIRECTIONS} == DIRECTIONS
    assert (
        metrics.direction("val_accuracy", [Metric(worst, "accuracy", "predictions", False)])
        == "min"
    )
    with pytest.raises(
        ValueError, match="unknown value of an epoch 'val_fl'; did you mean 'val_f1'"
    ):
        metrics.direction("val_fl", asked)
    with pytest.raises(ValueError, match="'val_f1'"):
        metrics.direction("val_f1")
    with pytest.raises(TypeError, match="must be text"):
        metrics.direction(3)


# -- what is refused ------------------------------------------------------------------------------


def ok(y, p):
    return 0.0


def three_arguments(estimator, X, y):
    return 0.0


NETS = {
    "three": lambda: (fitted(NAMES[THREE], 3), NAMES[THREE]),
    "one-hot": lambda: (fitted(np.eye(3)[THREE], 3), np.eye(3)[THREE]),
    "columns": lambda: (fitted(COLUMNS, 3), COLUMNS),
    "hinge": lambda: (fitted(TWO, 1, "hinge"), TWO),
    "mse": lambda: (fitted(THREE, 3, "mse"), THREE),
    "sigmoids": lambda: (fitted(THREE, 3, "binary_cross_entropy"), THREE),
    "number": lambda: (fitted(VALUES[:, 0], 1), VALUES[:, 0]),
    "quantiles": lambda: (fitted(VALUES[:, 0], 2, losses.Quantile([0.1, 0.9])), VALUES[:, 0]),
    "gaussian": lambda: (fitted(VALUES[:, 0], 2, "gaussian_nll"), VALUES[:, 0]),
}
REFUSED = [
    ("three", ["acuracy"], ValueError, "unknown metric 'acuracy'; did you mean 'accuracy'"),
    ("three", ["top_k"], ValueError, "did you mean 'top_3'"),
    ("three", ["top_0"], ValueError, "k must be at least 1"),
    ("three", ["top_4"], ValueError, "top_4 needs at least 4 classes, but there are 3"),
    ("columns", [TopK(2)], ValueError, "needs one class for each row, .* independent 0/1 columns"),
    ("three", ["r2"], ValueError, "'r2' compares numbers, .* class labels: use 'accuracy'"),
    ("one-hot", ["mae"], ValueError, "one-hot rows"),
    ("number", ["roc_auc"], ValueError, "'roc_auc' needs classes, .* loss mse the targets are num"),
    ("number", ["accuracy"], ValueError, "needs classes"),
    ("number", ["f1"], ValueError, "needs classes"),
    ("number", ["log_loss"], ValueError, "needs classes"),
    ("number", ["top_1"], ValueError, "needs one class for each row"),
    ("number", [Metric(ok, needs="probabilities")], ValueError, "needs probabilities, .* mse does"),
    ("hinge", ["roc_auc"], ValueError, "needs probabilities, which the loss hinge does not give"),
    ("hinge", ["top_1"], ValueError, "needs probabilities"),
    ("mse", ["log_loss"], ValueError, "needs probabilities"),
    ("sigmoids", ["log_loss"], ValueError, "sum to 1"),
    ("quantiles", ["mae"], ValueError, "compares one number .* there are 2"),
    ("gaussian", ["r2"], ValueError, "gaussian_nll there are 2"),
    ("three", ["f1", "f1"], ValueError, "a metric is called 'f1', as another metric is"),
    ("three", ["f1", Metric(ok, "f1")], ValueError, "called 'f1'"),
    ("three", [Metric(ok, "loss")], ValueError, "called 'loss', as the loss is"),
    ("three", [Metric(ok, "accuracy")], ValueError, "'accuracy', which every classification has"),
    ("three", [F1(positive="plum")], ValueError, "'plum'.* none of the classes 'apple', 'fig'"),
    ("three", [3], TypeError, "must be a name, a function.* not 3"),
    ("three", 3, TypeError, "must be a list"),
    ("three", [TopK], TypeError, r"write TopK\(...\), with parentheses"),
    ("three", [losses.mse], TypeError, "among its values already"),
    ("three", [three_arguments], TypeError, r"three_arguments takes \(estimator, X, y\)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "items", "error", "message"), REFUSED)
def test_refused_before_anything_is_computed(kind, items, error, message, monkeypatch):
    net, y = NETS[kind]()
    monkeypatch.setattr(fastnn.run, "evaluate", None)
    with pytest.raises(error, match=message):
        net.evaluate(X, y, metrics=items)


def test_arguments_of_metrics():
    for wrong in (lambda: TopK(2.0), lambda: Metric(ok, 3), lambda: Metric("f1"),
                  lambda: Metric(ok, greater_is_better=1), lambda: Metric(Metric(ok))):  # fmt: skip
        with pytest.raises(TypeError):
            wrong()
    for wrong in (lambda: TopK(0), lambda: Metric(ok, ""), lambda: Metric(ok, "a\n"),
                  lambda: F1("samples"), lambda: F1("macro", positive=1),
                  lambda: Metric(ok, needs="proba")):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            wrong()


def test_rows_that_hold_probabilities():
    net, y = NETS["one-hot"]()
    soft = np.where(y == 1, 0.8, 0.1)
    for name in ("f1", "log_loss", "roc_auc", "top_2"):
        with pytest.raises(ValueError, match=f"{name} needs 0 and 1 in y, but row 0"):
            net.evaluate(X, soft, metrics=[name])
    assert "accuracy" in net.evaluate(X, soft, metrics=["accuracy"])


def test_r2_of_one_row():
    net, y = NETS["number"]()
    with pytest.raises(ValueError, match="at least two rows"):
        net.evaluate(X[:1], y[:1], metrics=["r2"])


@pytest.mark.parametrize("value", ["a", None, [1.0, 2.0], np.ones(2), True, np.True_, 1j])
def test_what_a_metric_returns_must_be_a_number(value):
    net, y = NETS["number"]()
    with pytest.raises(TypeError, match="the metric 'mine' must return a number, but it returned"):
        net.evaluate(X, y, metrics=[Metric(lambda y, p: value, "mine")])


def test_numbers_of_all_kinds():
    net, y = NETS["number"]()
    for value in (1, np.float32(1), np.int8(1), np.array(1.0), np.inf):
        found = net.evaluate(X, y, metrics=[Metric(lambda y, p, value=value: value, "mine")])
        assert found["mine"] == float(value)
        assert type(found["mine"]) is float


def test_an_exception_goes_through_with_a_note():
    def faulty(y, p):
        raise ZeroDivisionError("mine")

    net, y = NETS["number"]()
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        net.evaluate(X, y, metrics=[faulty])
    assert caught.value.__notes__ == ["fastnn: raised by the metric 'faulty'"]
    assert "loss" in net.evaluate(X, y)


def test_a_metric_cannot_change_what_it_gets():
    net, y = NETS["number"]()
    with pytest.raises(ValueError, match="read-only"):
        net.evaluate(X, y, metrics=[Metric(lambda y, p: y.sort(), "sorts")])


def test_nan_is_recorded_and_reported():
    net, y = NETS["number"]()
    with pytest.warns(RuntimeWarning, match="the metric 'nothing' is NaN: it is recorded"):
        found = net.evaluate(X, y, metrics=[Metric(lambda y, p: np.nan, "nothing")])
    assert np.isnan(found["nothing"])


def test_predictions_that_are_not_finite():
    """scikit-learn would refuse them; here the metrics are NaN, as the loss is."""
    for kind, names in (("number", ["r2", "mae"]), ("three", ["roc_auc", "log_loss"])):
        net, y = NETS[kind]()
        net.flat_params[:] = np.inf
        with pytest.warns(RuntimeWarning) as caught:
            found = net.evaluate(X, y, metrics=names)
        assert len(caught) == 2
        assert np.isnan([found[name] for name in names]).all()


# -- scikit-learn ---------------------------------------------------------------------------------


def test_scikit_learn_is_missing(monkeypatch):
    net, y = NETS["three"]()
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match="the metric 'f1' needs scikit-learn: pip install sci"):
        net.evaluate(X, y, metrics=["f1"])
    assert list(net.evaluate(X, y, metrics=["accuracy", ok])) == ["loss", "accuracy", "ok"]


def test_scikit_learn_is_not_imported_for_functions():
    code = """
import sys, fastnn
net = fastnn.Sequential([fastnn.Dense(1)])
net.fit([[0.0], [1.0]], ["no", "yes"], epochs=1, progress=False)
found = net.evaluate([[0.0]], ["no"], metrics=["accuracy", lambda y, p: (y == p).mean()])
assert list(found) == ["loss", "accuracy", "<lambda>"], found
fastnn.metrics.F1(), fastnn.metrics.TopK(2), fastnn.metrics.direction("val_f1", ["f1"])
assert "sklearn" not in sys.modules
"""
    environment = {**os.environ, "FASTNN_ENGINE": "numpy"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_metrics_of_an_iterator_are_there_for_callbacks_too(tmp_path):
    best = fastnn.BestModel(tmp_path / "best.safetensors", "val_f1")
    history = Sequential([Dense(3)]).fit(
        X, THREE, metrics=(name for name in ["f1"]), validation_split=0.3, callbacks=best,
        progress=False,
    )  # fmt: skip
    assert best.best == max(history["val_f1"])
