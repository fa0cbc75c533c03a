"""scikit-learn's own checks of estimators, for MLPClassifier and MLPRegressor."""

import functools

import pytest
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

#: Checks that skip themselves where something is missing: pandas, an array API, a method that
#: networks do not have.
MAY_SKIP = {
    "check_array_api_input", "check_class_weight_classifiers_pandas", "check_estimators_unfitted",
    "check_class_weight_classifiers", "check_dataframe_column_names_consistency",
    "check_classifiers_multilabel_output_format_decision_function", "check_array_api_same_namespace",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS)
def test_passes_the_checks_of_scikit_learn(estimator, check, request):
    name = (check.func if isinstance(check, functools.partial) else check).__name__
    try:
        check(estimator)
    except pytest.skip.Exception:
        assert name in MAY_SKIP
        raise
    except Exception as error:
        if type(error).__name__ == "SkipTest":
            assert name in MAY_SKIP, f"{name} skips itself: {error}"
        raise


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_runs_as_many_checks_as_scikit_learn_has_for_its_own_class(estimator):
    import sklearn.neural_network

    own = getattr(sklearn.neural_network, type(estimator).__name__)()
    names = {_name(check) for _, check in estimator_checks_generator(estimator)}
    theirs = {_name(check) for _, check in estimator_checks_generator(own)}
    assert theirs <= names
    assert len(names) >= 45


def _name(check) -> str:
    return (check.func if isinstance(check, functools.partial) else check).__name__
