"""Fits of the estimators: what they keep, how they go on, and how they end."""

import copy
import pickle
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from estimator_cases import fitted, made, of_fastnn, table, targets
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import fastnn

X, SUMS = table()
EVERY = ("two", "four", "labels", "number", "numbers")


def test_importing_fastnn_does_not_import_scikit_learn():
    code = "import sys, fastnn; fastnn.Sequential; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", EVERY)
def test_weights_are_views_that_change_the_network(kind):
    estimator = made(kind)
    before = estimator.predict(X)
    estimator.coefs_[-1][:] = 0
    estimator.intercepts_[-1][:] = 0
    assert (estimator.net_.parameters()["1.W"] == 0).all()
    kept = made(kind)
    estimator.coefs_, estimator.intercepts_ = kept.coefs_, kept.intercepts_
    assert (estimator.predict(X) == before).all()
    with pytest.raises(ValueError, match="coefs_ has the shapes"):
        estimator.coefs_ = [np.zeros((2, 2))]


@pytest.mark.parametrize("kind", EVERY)
def test_copies_predict_the_same(kind):
    estimator = made(kind)
    for other in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        assert (other.predict(X) == estimator.predict(X)).all()
        assert fitted(other, X, targets(kind, SUMS)).loss_ == estimator.loss_
    assert not hasattr(clone(estimator), "coefs_")
    assert clone(estimator).get_params() == estimator.get_params()


@pytest.mark.parametrize("kind", EVERY)
def test_before_a_fit_there_are_no_predictions(kind):
    estimator = of_fastnn(kind)()
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        estimator.predict(X)
    for name in ("coefs_", "intercepts_", "loss_", "n_iter_"):
        assert not hasattr(estimator, name)
    with pytest.raises(NotFittedError):
        estimator.to_sklearn()


@pytest.mark.parametrize("kind", EVERY)
def test_one_row_is_predicted_as_among_others(kind):
    estimator = made(kind)
    all_rows = estimator.predict(X)
    for i in range(3):
        assert np.all(estimator.predict(X[i : i + 1])[0] == all_rows[i])
    assert (estimator.predict(X.tolist()) == all_rows).all()
    assert (estimator.predict(np.asfortranarray(X)) == all_rows).all()


@pytest.mark.parametrize(("given", "message"), [
    (lambda: X[:, :3], "X has 3 features, but .* is expecting 6 features"),
    (lambda: X[0], "Expected 2D array, got 1D array instead"),
    (lambda: np.where(X > 0, X, np.nan), "Input X contains NaN"),
    (lambda: np.where(X > 0, X, np.inf), "Input X contains infinity"),
    (lambda: X[:0], "Found array with 0 sample"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["two", "number"])
def test_bad_rows_are_refused_in_the_words_of_scikit_learn(kind, given, message):
    with pytest.raises(ValueError, match=message):
        made(kind).predict(given())


def test_bad_targets_are_refused():
    estimator = fastnn.MLPClassifier(max_iter=2)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        estimator.fit(X, SUMS[:, 0])
    with pytest.raises(ValueError, match="Unknown label type: multiclass-multioutput"):
        estimator.fit(X, SUMS.round().astype(int))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.fit(X, [0, 1])
    with pytest.raises(ValueError, match=r"Input y contains NaN|y contains NaN"):
        fastnn.MLPRegressor().fit(X, np.full(len(X), np.nan))


def test_a_single_class_is_always_predicted():
    estimator = fitted(fastnn.MLPClassifier(max_iter=3), X, ["only"] * len(X))
    assert set(estimator.predict(X)) == {"only"}
    assert estimator.classes_.tolist() == ["only"]


@pytest.mark.parametrize("kind", EVERY)
def test_float32_is_kept_or_made(kind):
    y = targets(kind, SUMS)
    small = X.astype(np.float32)
    kept = fitted(of_fastnn(kind)((8,) if kind in ("two", "four", "labels") else "squared_error",
                                  max_iter=2), small, y)  # fmt: skip
    assert kept.net_.dtype == np.float32
    assert made(kind).net_.dtype == np.float64
    forced = made(kind, {"dtype": "float32"})
    assert {W.dtype for W in forced.coefs_} == {np.dtype("float32")}
    wide = fitted(of_fastnn(kind)(dtype="float64", max_iter=2), small, y)
    assert wide.net_.dtype == np.float64
    assert forced.score(X, y) == pytest.approx(made(kind).score(X, y), abs=0.02)


@pytest.mark.parametrize("kind", ["two", "four", "number"])
def test_sample_weights_count_like_repeated_rows(kind):
    y = targets(kind, SUMS)
    counts = np.random.default_rng(0).integers(0, 4, len(X))
    options = {"hidden_layer_sizes": (6,), "solver": "lbfgs", "max_iter": 15, "random_state": 0}
    weighted = fitted(of_fastnn(kind)(**options), X, y, sample_weight=counts)
    repeated = fitted(of_fastnn(kind)(**options), X.repeat(counts, axis=0), y.repeat(counts))
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-6)
    with pytest.raises(ValueError, match="sample_weight"):
        of_fastnn(kind)().fit(X, y, sample_weight=np.ones(3))


# -- going on ---------------------------------------------------------------------------------


def test_warm_start_with_early_stopping_keeps_the_best_of_all_fits():
    estimator = made("four", {"warm_start": True, "early_stopping": True, "max_iter": 20})
    best, weights = estimator.best_validation_score_, [W.copy() for W in estimator.coefs_]
    fitted(estimator.set_params(learning_rate_init=10.0, max_iter=2), X, targets("four", SUMS))
    assert estimator.best_validation_score_ == best
    for kept, expected in zip(estimator.coefs_, weights, strict=True):
        assert (kept == expected).all()
    assert len(estimator.validation_scores_) == len(estimator.loss_curve_)


def test_early_stopping_may_begin_in_a_later_fit():
    estimator = made("four", {"warm_start": True})
    fitted(estimator.set_params(early_stopping=True), X, targets("four", SUMS))
    assert len(estimator.validation_scores_) == 5
    fitted(estimator.set_params(early_stopping=False), X, targets("four", SUMS))
    assert len(estimator.loss_curve_) == 15


def test_warm_start_needs_the_same_classes_and_units():
    estimator = made("four", {"warm_start": True})
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
        estimator.fit(X, np.where(targets("four", SUMS) == "a", "b", "c"))
    with pytest.raises(ValueError, match="warm_start goes on with the network of the last fit"):
        estimator.set_params(hidden_layer_sizes=(3,)).fit(X, targets("four", SUMS))


def test_partial_fit_needs_classes_once_and_keeps_them():
    estimator, y = fastnn.MLPClassifier((4,)), targets("four", SUMS)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        estimator.partial_fit(X, y)
    estimator.partial_fit(X[y == "a"], y[y == "a"], classes=list("abcd"))
    estimator.partial_fit(X[y != "a"], y[y != "a"])
    assert estimator.predict_proba(X).shape == (len(X), 4)
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        estimator.partial_fit(X, y, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
        estimator.partial_fit(X, np.full(len(X), "z"))
    with pytest.raises(ValueError, match="early_stopping"):
        estimator.set_params(early_stopping=True).partial_fit(X, y)


def test_partial_fit_of_several_labels_needs_no_classes():
    estimator, y = fastnn.MLPClassifier((8,), learning_rate_init=0.02), targets("labels", SUMS)
    for _ in range(60):
        estimator.partial_fit(X, y)
    assert estimator.score(X, y) > 0.7
    with pytest.raises(ValueError, match="the first fit had 4 columns"):
        estimator.partial_fit(X, y[:, :3])


@pytest.mark.parametrize("kind", ["two", "number"])
def test_lbfgs_has_no_partial_fit(kind):
    for parameters in ({"solver": "lbfgs"}, {"optimizer": "lbfgs"}, {"optimizer": fastnn.LBFGS()}):
        estimator = of_fastnn(kind)(**parameters)
        assert not hasattr(estimator, "partial_fit")
        with pytest.raises(AttributeError):
            _ = estimator.partial_fit
    assert hasattr(of_fastnn(kind)(), "partial_fit")


def test_partial_fit_follows_a_changed_alpha():
    estimator = made("number", {"learning_rate_init": 0.01})
    largest = max(abs(W).max() for W in estimator.coefs_)
    for _ in range(100):
        estimator.set_params(alpha=1000.0).partial_fit(X, targets("number", SUMS))
    assert max(abs(W).max() for W in estimator.coefs_) < 0.5 * largest


# -- ends -------------------------------------------------------------------------------------


class _Interrupt(fastnn.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, training):
        if training.epoch == self.epoch:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0)


@pytest.mark.parametrize("kind", ["four", "number"])
@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_ctrl_c_warns_and_keeps_the_weights(kind, parameters):
    estimator = of_fastnn(kind)(max_iter=50, random_state=0, callbacks=_Interrupt(3), **parameters)
    with pytest.warns(UserWarning, match="Training interrupted by user") as caught:
        estimator.fit(X, targets(kind, SUMS))
    assert caught[0].filename == __file__
    assert estimator.n_iter_ == 3
    assert estimator.score(X, targets(kind, SUMS)) > -100


def test_weights_that_are_not_finite_are_a_value_error_in_scikit_learns_words():
    estimator = fastnn.MLPRegressor(solver="sgd", learning_rate_init=1e6, random_state=0)
    with pytest.raises(fastnn.errors.DivergedError, match="non-finite parameter weights") as caught:
        estimator.fit(X, targets("number", SUMS))
    assert isinstance(caught.value, ValueError)
    assert "learning rate" in str(caught.value)


def test_a_failed_fit_of_bad_arguments_changes_nothing():
    estimator = made("four")
    before = estimator.predict(X)
    for bad in (X[:, :2], np.full_like(X, np.nan)):
        with pytest.raises(ValueError, match=r"X"):
            estimator.partial_fit(bad, targets("four", SUMS))
    assert (estimator.predict(X) == before).all()


def test_an_estimator_has_a_representation_in_html_and_routes_metadata():
    assert "MLPClassifier" in made("two")._repr_html_()
    request = fastnn.MLPClassifier().get_metadata_routing().fit.requests
    assert set(request) == {"sample_weight", "X_val", "y_val"}


def test_feature_names_are_checked():
    estimator = made("two")
    estimator.feature_names_in_ = np.array(list("abcdef"), dtype=object)  # as of a data frame
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        estimator.predict(X)


def test_feature_names_come_from_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    estimator = fitted(fastnn.MLPClassifier(max_iter=2), frame, targets("two", SUMS))
    assert estimator.feature_names_in_.tolist() == list("abcdef")
    assert len(estimator.predict(frame)) == len(X)
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[list("fedcba")])


def test_a_fit_says_nothing_on_its_own():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastnn.MLPRegressor(tol=100.0, max_iter=200).fit(X, targets("number", SUMS))
