"""scikit-learn's own checks of estimators, for MLPClassifier and MLPRegressor."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastnn import MLPClassifier, MLPRegressor

ESTIMATORS = [
    MLPClassifier(max_iter=100), MLPRegressor(max_iter=100),
    MLPClassifier(solver="lbfgs"), MLPRegressor(solver="lbfgs"),
    MLPClassifier(solver="sgd", learning_rate_init=0.05, max_iter=100),
    MLPRegressor(solver="sgd", tol=1e-2, random_state=42),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS)
def test_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
