"""Weights of rows and classes of the estimators."""

import numpy as np
import pytest
from scipy import sparse

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.utils.class_weight import compute_sample_weight

import fastnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
VALUES = X @ RNG.normal(size=4)
LABELS = np.array(["a", "b", "c"])[np.digitize(VALUES, [-1.0, 1.0])]
COLUMNS = (X[:, :3] > 0).astype(int)
CLASSIFIERS = ("MLPClassifier", "SequentialClassifier")
#: Labels of only two classes in an object array, numbers and text.
Y = {"text": LABELS, "numbers": VALUES > 0, "floats": np.digitize(VALUES, [-1.0, 1.0]) * 1.0}


def made(name, **parameters):
    options = {"epochs": 2} if name[0] == "S" else {"max_iter": 2, "dtype": "float32"}
    return getattr(fastnn, name)(**options, random_state=0).set_params(**parameters)


def parameters_of(estimator):
    return estimator.net_.flat_params


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("y", Y.values(), ids=Y)
@pytest.mark.parametrize("weight", ["balanced", {"a": 3.0, 1: 3, False: 2}])
def test_weights_of_classes_are_those_of_scikit_learn(name, y, weight):
    if isinstance(weight, dict):
        weight = {k: v for k, v in weight.items() if (k == "a") == (y is LABELS)}
    sample = RNG.uniform(0, 2, 60)
    expected = compute_sample_weight(weight, y)
    by_class = made(name, class_weight=weight).fit(X, y)
    by_row = made(name).fit(X, y, sample_weight=expected)
    np.testing.assert_allclose(parameters_of(by_class), parameters_of(by_row), rtol=1e-5, atol=1e-6)
    if weight != "balanced":
        both = made(name, class_weight=weight).fit(X, y, sample_weight=sample)
        product = made(name).fit(X, y, sample_weight=sample * expected)
        np.testing.assert_array_equal(parameters_of(both), parameters_of(product))


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "mse", "focal", "cross_entropy"])
def test_every_loss_of_classes_takes_their_weights(name, loss):
    by_class = made(name, loss=loss, class_weight={"b": 4}).fit(X, LABELS)
    by_row = made(name, loss=loss).fit(X, LABELS, np.where(LABELS == "b", 4.0, 1.0))
    np.testing.assert_array_equal(parameters_of(by_class), parameters_of(by_row))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_rows_may_lack_classes_that_have_weights(name):
    """As in a part of the rows, or a fold of a cross-validation."""
    weights = {"a": 1.0, "b": 2.0, "c": 3.0}
    some = LABELS != "b"
    made(name, class_weight=weights).fit(X[some], LABELS[some])
    for weight in (weights, "balanced"):
        estimator = made(name, class_weight=weight).partial_fit(X, LABELS, classes=["a", "b", "c"])
        estimator.partial_fit(X[some], LABELS[some])
        estimator.partial_fit(X[:1], LABELS[:1])
        assert np.isfinite(parameters_of(estimator)).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_weights_that_no_classes_have_are_refused(name):
    with pytest.raises(ValueError, match="a weight for 'z', which is none of the classes"):
        made(name, class_weight={"z": 2}).fit(X, LABELS)
    with pytest.raises(ValueError, match="class 'a' in class_weight must be at least 0"):
        made(name, class_weight={"a": -1}).fit(X, LABELS)
    with pytest.raises(ValueError, match="some row one above 0"):
        made(name, class_weight={"a": 0, "b": 0, "c": 1}).fit(
            X, LABELS, sample_weight=LABELS == "a"
        )
    with pytest.raises(ValueError, match="several labels may apply"):
        made(name, class_weight="balanced").fit(X, COLUMNS)


@pytest.mark.parametrize("name", ["MLPClassifier", "SequentialClassifier", "SequentialRegressor"])
def test_a_number_weighs_all_rows(name):
    y = VALUES if name.endswith("Regressor") else LABELS
    one = made(name).fit(X, y, sample_weight=2)
    other = made(name).fit(X, y, sample_weight=np.full(60, 2.0))
    np.testing.assert_array_equal(parameters_of(one), parameters_of(other))


@pytest.mark.parametrize("name", ["MLPClassifier", "SequentialClassifier", "SequentialRegressor"])
@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array])
def test_columns_of_labels_may_be_sparse(name, container):
    dense = made(name).fit(X, COLUMNS, X_val=X, y_val=COLUMNS)
    found = made(name).fit(X, container(COLUMNS), X_val=X, y_val=container(COLUMNS))
    np.testing.assert_array_equal(found.predict(X), dense.predict(X))
    assert found.validation_curve_ == dense.validation_curve_
