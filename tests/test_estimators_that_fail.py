"""A fit that fails before it trains leaves an estimator as it was."""

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import fastnn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
VALUES = X @ RNG.normal(size=4)
LABELS = np.array(["a", "b", "c"])[np.digitize(VALUES, [-1.0, 1.0])]

SMALL = {
    "MLPClassifier": {"hidden_layer_sizes": (4,), "solver": "lbfgs", "max_iter": 3, "tol": 1e9},
    "MLPRegressor": {"hidden_layer_sizes": (4,), "solver": "lbfgs", "max_iter": 3, "tol": 1e9},
    "SequentialClassifier": {"epochs": 2},
    "SequentialRegressor": {"epochs": 2},
}


def made(name, **parameters):
    return getattr(fastnn, name)(**SMALL[name], random_state=0).set_params(**parameters)


def y_of(name):
    return LABELS if name.endswith("Classifier") else VALUES


def raising(training):
    raise RuntimeError("the callback's own")


#: Arguments of a fit that is refused, given (X, y), and the type and a word of its error.
CALLS = {
    "NaN": (lambda y: {"X": X * np.nan, "y": y}, "NaN"),
    "lengths": (lambda y: {"X": X[:, :2], "y": y[:9]}, "samples"),
    "weights": (lambda y: {"X": X[:, :2], "y": y, "sample_weight": np.ones(3)}, "weight"),
    "negative": (lambda y: {"X": X[:, :2], "y": y, "sample_weight": -np.ones(60)}, "at least 0"),
    "one weight": (
        lambda y: {"X": X[:, :2], "y": y, "sample_weight": np.zeros(60)},
        "zero|above 0",
    ),
    "no y_val": (lambda y: {"X": X[:, :2], "y": y, "X_val": X[:, :2]}, "y_val"),
    "X_val": (lambda y: {"X": X[:, :2], "y": y, "X_val": X, "y_val": y}, "features"),
    "y_val": (lambda y: {"X": X[:, :2], "y": y, "X_val": X[:, :2], "y_val": y[:9]}, "rows|samples"),
}
PARAMETERS = {
    "MLP": [
        {"activation": "none such"}, {"dropout": [0.1, 0.2]}, {"loss": "none such"},
        {"optimizer": "none such"}, {"schedule": "none such"}, {"callbacks": 3}, {"max_iter": 0},
        {"callbacks": fastnn.Callback}, {"n_threads": 0},
        {"early_stopping": True, "solver": "adam", "validation_fraction": 0.001},
    ],
    "Sequential": [
        {"layers": 3}, {"layers": [fastnn.Dense(7)]}, {"loss": "none such"}, {"epochs": 0},
        {"optimizer": "none such"}, {"schedule": "none such"}, {"callbacks": 3},
        {"metrics": "none such"}, {"dtype": "float16"}, {"validation_fraction": 2.0},
        {"n_threads": 0},
    ],
}  # fmt: skip


def state(estimator):
    """What an estimator has, and what it predicts."""
    attributes = {k: v for k, v in vars(estimator).items() if k.endswith("_") or k[0] == "_"}
    return attributes, estimator.predict(X)


def check_unchanged(estimator, before):
    attributes, predicted = state(estimator)
    assert attributes.keys() == before[0].keys()
    assert all(attributes[name] is before[0][name] for name in attributes)
    assert (predicted == before[1]).all()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("call", CALLS)
def test_arguments_that_are_refused_change_nothing(name, call):
    given, word = CALLS[call]
    y = y_of(name)
    for warm in (False, True):
        estimator = made(name, warm_start=warm)
        with pytest.raises(ValueError, match=word):
            estimator.fit(**given(y))
        with pytest.raises(NotFittedError):
            estimator.predict(X)
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)
        estimator.fit(X, y)
        before = state(estimator)
        with pytest.raises(ValueError):  # noqa: PT011  # with warm_start also for the features
            estimator.fit(**given(y))
        check_unchanged(estimator, before)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [(n, p) for n in SMALL for p in PARAMETERS["MLP" if n[0] == "M" else "Sequential"]],
    ids=str,
)
def test_parameters_that_are_refused_change_nothing(name, parameters):
    y = y_of(name)
    new = made(name, **parameters)
    with pytest.raises((ValueError, TypeError)):
        new.fit(X[:, :2], y)
    with pytest.raises(NotFittedError):
        new.predict(X)
    estimator = made(name).fit(X, y)
    parameters_before = estimator.get_params(deep=False)
    before = state(estimator)
    estimator.set_params(**parameters)
    with pytest.raises((ValueError, TypeError)):
        estimator.fit(X[:, :2], y)
    check_unchanged(estimator.set_params(**parameters_before), before)
    assert len(estimator.fit(X[:, :2], y).predict(X[:, :2])) == len(X)


class Raising(fastnn.Callback):
    """Raises an exception at some place of a fit."""

    def __init__(self, place):
        setattr(self, place, raising)


@pytest.mark.parametrize("name", SMALL)
def test_an_error_before_the_first_step_changes_nothing_and_one_later_keeps_the_steps(name):
    y = y_of(name)
    estimator = made(name).fit(X, y)
    before = state(estimator)
    estimator.set_params(callbacks=[Raising("on_fit_begin")])
    with pytest.raises(RuntimeError, match="own"):
        estimator.fit(X[:, :2], y)
    check_unchanged(estimator, before)
    estimator.set_params(callbacks=[Raising("on_epoch_end")])
    with pytest.raises(RuntimeError, match="own"):
        estimator.fit(X[:, :2], y)
    assert estimator.n_features_in_ == 2
    assert len(estimator.predict(X[:, :2])) == 60


@pytest.mark.parametrize("name", SMALL)
def test_parts_that_are_refused_change_nothing(name):
    y = y_of(name)
    classes = {"classes": ["a", "b", "c"]} if y is LABELS else {}
    stochastic = {"solver": "adam"} if name[0] == "M" else {}
    estimator = made(name, **stochastic)
    with pytest.raises(ValueError, match="NaN"):
        estimator.partial_fit(X * np.nan, y, **classes)
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    if classes:
        with pytest.raises(ValueError, match="classes must be passed on the first call"):
            estimator.partial_fit(X, y)
        with pytest.raises(ValueError, match=r"'y' has \['a' 'b' 'c'\]"):
            estimator.partial_fit(X, y, classes=["a", "b"])
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)
    estimator.partial_fit(X, y, **classes)
    before = state(estimator)
    with pytest.raises(ValueError, match="features"):
        estimator.partial_fit(X[:, :2], y)
    with pytest.raises(ValueError, match="weight"):
        estimator.partial_fit(X, y, sample_weight=np.ones(2))
    if classes:
        for other in (np.arange(60) % 2, np.array([1, "a", None] * 20, object)):
            with pytest.raises(ValueError, match="classes not in"):
                estimator.partial_fit(X, other)
    check_unchanged(estimator, before)


@pytest.mark.parametrize("name", ["MLPClassifier", "SequentialClassifier"])
def test_labels_of_validation_rows_that_are_no_classes_are_named(name):
    with pytest.raises(ValueError, match="`y_val` has classes not in"):
        made(name).fit(X, LABELS, X_val=X, y_val=np.where(LABELS == "a", "z", LABELS))
    two = np.array([[1, 0], [1, 1]] * 30)
    with pytest.raises(ValueError, match=r"y_val has the shape \(60,\)"):
        made(name).fit(X, two, X_val=X, y_val=two[:, 0])
    with pytest.raises(ValueError, match="y_val has 2 columns"):
        made(name).fit(X, LABELS, X_val=X, y_val=two)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_validation_rows_of_weight_zero_are_refused_before_training(name):
    estimator = made(name, solver="adam", early_stopping=True)
    with pytest.raises(ValueError, match="at least one non-zero"):
        estimator.fit(X, y_of(name), sample_weight=np.arange(60) == 3)
    with pytest.raises(NotFittedError):
        estimator.predict(X)


@pytest.mark.parametrize("name", SMALL)
def test_ctrl_c_before_the_first_step_ends_the_program_and_changes_nothing(name, monkeypatch):
    """As while kernels are compiled: a network of first weights is no result."""
    y = y_of(name)
    estimator = made(name).fit(X, y)
    before = state(estimator)

    def interrupted(self, *rows, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fastnn.Sequential, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X[:, :2], y)
    check_unchanged(estimator, before)
    new = made(name)
    with pytest.raises(KeyboardInterrupt):
        new.fit(X, y)
    with pytest.raises(NotFittedError):
        new.predict(X)


def test_units_are_whole_numbers():
    for sizes in ((3.5,), [[3]], ("3",)):
        with pytest.raises(TypeError, match="hidden_layer_sizes must hold whole numbers"):
            fastnn.MLPClassifier(sizes).fit(X, LABELS)
    assert fastnn.MLPClassifier(np.array([2, 3]), max_iter=1).fit(X, LABELS).n_layers_ == 4
