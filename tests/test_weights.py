"""Weights of classes: the bits of sample weights, and an error for every mistake."""

import numpy as np
import pytest
from conftest import DTYPES, table

import fastnn
from fastnn import Dense, Sequential, errors, losses, one_hot
from fastnn.targets import describe_target, make_data
from fastnn.weights import weights_of_rows

X, Y = table(60)
NAMES = np.array(["pear", "apple", "plum"])
BY_NUMBER = {0: 0.5, 1: 2.0, 2: 3.25}
OF_ROWS = np.array([0.5, 2.0, 3.25])[Y]
SAMPLE = np.linspace(0, 2, len(X))
#: name: (targets, class weights, weight of each row, outputs, loss)
FORMS = {
    "numbers": (Y, BY_NUMBER, OF_ROWS, 3, "cross_entropy"),
    "text": (NAMES[Y], {"apple": 1, "plum": 3, "pear": 0.0},
             np.array([0.0, 1.0, 3.0])[Y], 3, "cross_entropy"),
    "bytes": (NAMES.astype("S")[Y], {b"apple": 1, b"plum": 3, b"pear": 0.5},
              np.array([0.5, 1.0, 3.0])[Y], 3, "cross_entropy"),
    "numpy's keys": (Y.astype(np.int16), {np.int64(k): np.float32(w) for k, w in BY_NUMBER.items()},
                     OF_ROWS, 3, "cross_entropy"),
    "objects": (NAMES.astype(object)[Y], {"apple": 1, "plum": 3, "pear": 2},
                np.array([2.0, 1.0, 3.0])[Y], 3, "cross_entropy"),
    "one-hot rows": (one_hot(Y, 3), BY_NUMBER, OF_ROWS, 3, "cross_entropy"),
    "one-hot coded for mse": (Y, BY_NUMBER, OF_ROWS, 3, "mse"),
    "one output": (Y > 0, {False: 3, True: 0.25}, np.where(Y > 0, 0.25, 3.0), 1, "auto"),
    "one output, text": (np.where(Y > 0, "yes", "no"), {"no": 3, "yes": 0.25},
                         np.where(Y > 0, 0.25, 3.0), 1, "binary_cross_entropy"),
}  # fmt: skip


def fit(y, outputs=3, loss="cross_entropy", dtype="float32", **arguments):
    net = Sequential([Dense(4, "tanh"), Dense(outputs)], dtype=dtype)
    net.fit(X, y, loss=loss, epochs=2, batch_size=16, progress=False, **arguments)
    return net


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_class_weights_are_sample_weights(engine, form, dtype):
    y, class_weight, of_rows, outputs, loss = FORMS[form]
    for sample in (None, SAMPLE):
        found = fit(y, outputs, loss, dtype, class_weight=class_weight, sample_weight=sample)
        weights = of_rows if sample is None else sample * of_rows
        expected = fit(y, outputs, loss, dtype, sample_weight=weights)
        assert found.flat_params.tobytes() == expected.flat_params.tobytes()
        assert dict(found.history)["loss"] == dict(expected.history)["loss"]
        unweighted = fit(y, outputs, loss, dtype)
        assert found.flat_params.tobytes() != unweighted.flat_params.tobytes()


def rows(y, class_weight, sample_weight=None, outputs=3, loss=losses.cross_entropy):
    target = describe_target(y, len(X), outputs, loss)
    data = make_data(X, y, outputs, target, loss, np.dtype("float64"), 1.0)
    return weights_of_rows(sample_weight, class_weight, data, target)


@pytest.mark.parametrize("sample", [None, SAMPLE], ids=["alone", "with sample weights"])
@pytest.mark.parametrize("y", [Y, NAMES[Y]], ids=["numbers", "text"])
def test_balanced_weights_are_scikit_learns(y, sample):
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    classes = np.unique(y)
    expected = compute("balanced", classes=classes, y=y, sample_weight=sample)
    expected = expected[np.searchsorted(classes, y)] * (1.0 if sample is None else sample)
    np.testing.assert_array_equal(rows(y, "balanced", sample), expected)


def test_balanced_classes_count_alike():
    for sample in (None, SAMPLE):
        found = rows(Y, "balanced", sample)
        totals = np.bincount(Y, found)
        np.testing.assert_allclose(totals, totals[0])
        np.testing.assert_allclose(found.sum(), 60 if sample is None else sample.sum())
    np.testing.assert_array_equal(rows(one_hot(Y, 3), "balanced"), rows(Y, "balanced"))


def test_validation_and_evaluate_are_not_weighted(engine):
    history = fit(Y, class_weight=BY_NUMBER, validation_data=(X, Y)).history
    expected = fit(Y, sample_weight=OF_ROWS, validation_data=(X, Y))
    assert history["val_loss"] == expected.history["val_loss"]
    assert expected.evaluate(X, Y)["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)


def test_the_loss_is_the_weighted_mean(engine):
    net = Sequential([Dense(3)], n_inputs=X.shape[1])
    expected, _ = net.loss_and_grad(X, Y, "cross_entropy", sample_weight=OF_ROWS)
    history = net.fit(X, Y, batch_size=None, epochs=1, class_weight=BY_NUMBER, progress=False)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-6)


SOFT = np.full((60, 3), 1 / 3)
WRONG = {
    "values": (ValueError, "the targets are numbers: use sample_weight",
               lambda: fit(X[:, 0], 1, "mse", class_weight="balanced")),
    "columns": (ValueError, "independent 0/1 columns",
                lambda: fit(one_hot(Y, 3), 3, "binary_cross_entropy", class_weight=BY_NUMBER)),
    "probabilities": (ValueError, "row 0 of y holds probabilities",
                      lambda: fit(SOFT, class_weight="balanced")),
    "new label": (ValueError, "a weight for 3, which is none of the classes 0, 1, 2",
                  lambda: fit(Y, class_weight={**BY_NUMBER, 3: 1.0})),
    "number for text": (ValueError, "a weight for 0, which is none of the classes 'apple', 'pear'",
                        lambda: fit(NAMES[Y], class_weight=BY_NUMBER)),
    "missing label": (ValueError, "no weight for the class 1: give one for each of 0, 1, 2",
                      lambda: fit(Y, class_weight={0: 1.0, 2: 1.0})),
    "empty": (ValueError, "no weight for the class 0", lambda: fit(Y, class_weight={})),
    "negative": (ValueError, "the weight of the class 1 in class_weight must be at least 0",
                 lambda: fit(Y, class_weight={0: 1, 1: -1, 2: 1})),
    "NaN": (ValueError, "the weight of the class 2 .* must be finite, not nan",
            lambda: fit(Y, class_weight={0: 1, 1: 1, 2: np.nan})),
    "infinite": (ValueError, "must be finite, not inf",
                 lambda: fit(Y, class_weight={0: 1, 1: 1, 2: np.inf})),
    "text weight": (TypeError, "the weight of the class 0 .* must be a number, not '1'",
                    lambda: fit(Y, class_weight={0: "1", 1: 1, 2: 1})),
    "None weight": (TypeError, "must be a number, not None",
                    lambda: fit(Y, class_weight={0: None, 1: 1, 2: 1})),
    "all zero": (ValueError, "above 0 for some class",
                 lambda: fit(Y, class_weight=dict.fromkeys(range(3), 0))),
    "all rows zero": (ValueError, "some row one above 0",
                      lambda: fit(Y, class_weight=BY_NUMBER | {1: 0.0}, sample_weight=Y == 1)),
    "too large": (ValueError, "a finite weight",
                  lambda: fit(Y, class_weight=BY_NUMBER | {1: 1e300}, sample_weight=OF_ROWS * 1e9)),
    "class without rows": (ValueError, "the class 3 has none: give a dict",
                           lambda: fit(Y, 4, class_weight="balanced")),
    "class without weight": (ValueError, "the class 1 has none with a weight above 0",
                             lambda: fit(Y, class_weight="balanced", sample_weight=Y != 1)),
    "other text": (ValueError, "None, 'balanced' or a dict .*not 'auto'",
                   lambda: fit(Y, class_weight="auto")),
    "list": (TypeError, r"None, 'balanced' or a dict .*not \[1, 2, 3\]",
             lambda: fit(Y, class_weight=[1, 2, 3])),
    "sample weights too": (errors.ShapeError, "sample_weight must have one number",
                           lambda: fit(Y, class_weight="balanced", sample_weight=[1.0])),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_have_errors(name):
    error, message, call = WRONG[name]
    with fastnn.use_engine("numpy"), pytest.raises(error, match=message):
        call()


def test_a_mistake_leaves_the_network_unchanged():
    net = fit(Y)
    before, history = net.flat_params.copy(), net.history
    with pytest.raises(ValueError, match="none of the classes"):
        net.fit(X, Y, class_weight={5: 1}, progress=False)
    np.testing.assert_array_equal(net.flat_params, before)
    assert net.history is history
