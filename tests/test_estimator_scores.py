"""Scores of validation rows, and what decides where there are no probabilities."""

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import get_scorer
from sklearn.neural_network import MLPClassifier

import fastnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
VALUES = X @ RNG.normal(size=4)
LABELS = np.array(["a", "b", "c"])[np.digitize(VALUES, [-1.0, 1.0])]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_validation_scores_of_one_class_are_those_of_scikit_learn():
    options = {"early_stopping": True, "max_iter": 4, "random_state": 0, "hidden_layer_sizes": (5,)}
    ours = fastnn.MLPClassifier(**options).fit(X, np.zeros(60, int))
    theirs = MLPClassifier(**options).fit(X, np.zeros(60, int))
    assert ours.validation_scores_ == theirs.validation_scores_ == [1.0] * 4
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0])


def test_one_validation_row_has_no_r2():
    model = fastnn.MLPRegressor(max_iter=2, early_stopping=True)
    with pytest.raises(ValueError, match="validation set is too small"):
        model.fit(X, VALUES, X_val=X[:1], y_val=VALUES[:1])
    assert model.fit(X, VALUES, X_val=X[:2], y_val=VALUES[:2]).validation_scores_


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "mse"])
@pytest.mark.parametrize("y", [VALUES > 0, LABELS], ids=["two", "three"])
def test_losses_without_probabilities_have_decisions(loss, y):
    model = fastnn.MLPClassifier((8,), loss=loss, learning_rate_init=0.05, random_state=0).fit(X, y)
    assert not hasattr(model, "predict_proba")
    decisions = model.decision_function(X)
    best = (decisions > 0).astype(int) if decisions.ndim == 1 else decisions.argmax(axis=1)
    assert (model.classes_[best] == model.predict(X)).all()
    calibrated = CalibratedClassifierCV(model, cv=2).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    if decisions.ndim == 1:
        assert get_scorer("roc_auc")(model, X, y) > 0.7


def test_losses_with_probabilities_have_no_decisions_as_in_scikit_learn():
    assert not hasattr(fastnn.MLPClassifier(), "decision_function")
    assert not hasattr(MLPClassifier(), "decision_function")
    assert hasattr(fastnn.MLPClassifier(loss="hinge"), "decision_function")
    model = fastnn.MLPClassifier(max_iter=1).fit(X, LABELS)
    with pytest.raises(AttributeError):
        model.decision_function(X)


def test_scores_of_validation_rows_are_weighted_by_class():
    """Else the best network would be one that never predicts a rare class that counts much."""
    y = np.where(VALUES.argsort().argsort() >= 50, "rare", "usual")
    options = {"hidden_layer_sizes": (5,), "early_stopping": True, "max_iter": 8, "random_state": 0}
    given = fastnn.MLPClassifier(class_weight="balanced", **options).fit(X, y, X_val=X, y_val=y)
    recalls = [(given.predict(X)[y == label] == label).mean() for label in ("rare", "usual")]
    assert given.best_validation_score_ == pytest.approx(np.mean(recalls))
    weights = {"rare": 6.0}
    by_class = fastnn.MLPClassifier(class_weight=weights, **options).fit(X, y)
    by_row = fastnn.MLPClassifier(**options).fit(X, y, np.where(y == "rare", 6.0, 1.0))
    assert by_class.validation_scores_ == by_row.validation_scores_
    assert by_class.loss_curve_ == by_row.loss_curve_
