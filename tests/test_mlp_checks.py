"""scikit-learn's own checks of estimators, for MLPClassifier and MLPRegressor."""

import functools
from unittest import SkipTest

import pytest
import sklearn.neural_network
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastnn import MLPClassifier, MLPRegressor

ESTIMATORS = [
    MLPClassifier(max_iter=100),
    MLPRegressor(max_iter=100),
    MLPClassifier(solver="lbfgs", max_iter=100),
    MLPRegressor(solver="lbfgs", max_iter=100),
    MLPClassifier(solver="sgd", learning_rate_init=0.05, max_iter=100),
    MLPRegressor(solver="sgd", learning_rate_init=0.01, max_iter=100),
]

#: Checks that skip themselves, and why: pandas or SciPy's array API is missing, or the estimator
#: has no decision_function, as scikit-learn's MLP has none.
SKIPPED = {
    "check_array_api_input": "SCIPY_ARRAY_API",
    "check_sample_weights_pandas_series": "pandas",
    "check_classifier_data_not_an_array": "pandas",
    "check_regressor_data_not_an_array": "pandas",
    "check_classifiers_multilabel_output_format_decision_function": "decision_function",
}


def _name(check) -> str:
    return (check.func if isinstance(check, functools.partial) else check).__name__


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS)
def test_passes_the_checks_of_scikit_learn(estimator, check):
    try:
        check(estimator)
    except SkipTest as skipped:
        reason = SKIPPED.get(_name(check))
        if reason is None or reason not in str(skipped):
            pytest.fail(f"{_name(check)} is not run: {skipped}")
        raise


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_runs_as_many_checks_as_scikit_learn_has_for_its_own_class(estimator):
    own = getattr(sklearn.neural_network, type(estimator).__name__)()
    names = {_name(check) for _, check in estimator_checks_generator(estimator)}
    theirs = {_name(check) for _, check in estimator_checks_generator(own)}
    assert theirs <= names
    assert len(names) >= 45
