"""From the same random_state the estimators train scikit-learn's network, to rounding."""

import numpy as np
import pytest
from conftest import ENGINES
from estimator_cases import fitted, of_fastnn, of_sklearn, table, targets

X, SUMS = table()
WEIGHTS = np.random.default_rng(5).uniform(0.1, 3.0, len(X))

#: Targets, whether rows are weighted, and parameters.
CASES = [
    *((kind, weighted, {}) for kind in ("two", "four", "labels", "number", "numbers")
      for weighted in (False, True)),
    ("counts", False, {"loss": "poisson"}),
    ("counts", True, {"loss": "poisson"}),
    *(("four", False, {"activation": name}) for name in ("identity", "logistic", "tanh")),
    ("four", False, {"hidden_layer_sizes": (9, 5, 7)}),
    ("number", False, {"hidden_layer_sizes": ()}),
    ("four", True, {"alpha": 1.0}),
    ("four", False, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    ("two", False, {"shuffle": False}),
    ("two", False, {"batch_size": 230}),
    ("two", False, {"batch_size": 1, "max_iter": 3}),
    *((kind, False, {"solver": "sgd", "learning_rate": mode, "learning_rate_init": 0.05})
      for kind in ("two", "number") for mode in ("constant", "invscaling", "adaptive")),
    ("four", False, {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2}),
    ("four", True, {"solver": "sgd", "momentum": 0.0}),
    ("four", False, {"solver": "sgd", "momentum": 0.5, "nesterovs_momentum": False}),
    ("four", False, {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4}),
    ("number", False, {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.02, "max_iter": 120,
                       "n_iter_no_change": 1, "learning_rate_init": 0.02}),
    *((kind, weighted, {"early_stopping": True, "learning_rate_init": 0.02, "max_iter": 60,
                        "validation_fraction": 0.25, "n_iter_no_change": 3})
      for kind in ("two", "four", "labels", "number", "numbers") for weighted in (False, True)),
    ("four", False, {"n_iter_no_change": 2, "tol": 0.05, "max_iter": 60}),
]  # fmt: skip


def pair(kind, parameters):
    """scikit-learn's estimator and fastnn's, with the same parameters."""
    common = {"hidden_layer_sizes": (12,), "batch_size": 50, "max_iter": 25, "random_state": 3}
    parameters = {**common, **parameters}
    return of_sklearn(kind)(**parameters), of_fastnn(kind)(**parameters)


def agree(own, theirs):
    """The same attributes after the same calls."""
    np.testing.assert_allclose(own.loss_curve_, theirs.loss_curve_, rtol=1e-10)
    assert own.loss_ == pytest.approx(theirs.loss_, rel=1e-10)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(own, name) == getattr(theirs, name), name
    for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
        if getattr(theirs, name) is None:
            assert getattr(own, name) is None, name
        else:
            np.testing.assert_allclose(getattr(own, name), getattr(theirs, name), rtol=1e-9)
    for name in ("coefs_", "intercepts_"):
        for mine, other in zip(getattr(own, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-9)
    if hasattr(theirs, "classes_"):
        assert own.classes_.tolist() == theirs.classes_.tolist()
        assert own.classes_.dtype == theirs.classes_.dtype
        np.testing.assert_allclose(own.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
        np.testing.assert_allclose(
            own.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-6, atol=1e-6
        )
        assert (own.predict(X) == theirs.predict(X)).all()
    else:
        np.testing.assert_allclose(own.predict(X), theirs.predict(X), rtol=1e-7, atol=1e-8)
    assert own.predict(X).dtype == theirs.predict(X).dtype


@pytest.mark.parametrize(("kind", "weighted", "parameters"), CASES)
def test_the_losses_follow_scikit_learn(kind, weighted, parameters):
    y, weights = targets(kind, SUMS), WEIGHTS if weighted else None
    theirs, own = pair(kind, parameters)
    for estimator in (theirs, own):
        fitted(estimator, X, y, sample_weight=weights)
    agree(own, theirs)
    score = theirs.score(X, y, sample_weight=weights)
    assert own.score(X, y, sample_weight=weights) == pytest.approx(score, rel=1e-7)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_engine_follows_scikit_learn(engine, weighted):
    theirs, own = pair("four", {"alpha": 0.5})
    own.set_params(engine=engine)
    for estimator in (theirs, own):
        fitted(estimator, X, targets("four", SUMS), sample_weight=WEIGHTS if weighted else None)
    agree(own, theirs)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["four", "number"])
def test_warm_starts_follow_scikit_learn(kind, solver):
    theirs, own = pair(kind, {"warm_start": True, "solver": solver, "max_iter": 6})
    for estimator in (theirs, own):
        for alpha in (1e-4, 1e-4, 0.1):
            fitted(estimator.set_params(alpha=alpha), X, targets(kind, SUMS))
    assert len(own.loss_curve_) == 18
    agree(own, theirs)


@pytest.mark.parametrize("kind", ["two", "four", "labels", "number", "numbers"])
@pytest.mark.parametrize("parameters", [
    {}, {"solver": "sgd"}, {"solver": "sgd", "learning_rate": "invscaling"},
], ids=str)  # fmt: skip
def test_partial_fits_follow_scikit_learn(kind, parameters):
    theirs, own = pair(kind, {"batch_size": "auto", **parameters})
    y = targets(kind, SUMS)
    for estimator in (theirs, own):
        for part in (slice(0, 90), slice(90, 230), slice(0, 50), slice(30, 31), slice(40, 200)):
            classes = {"two": [0, 1], "four": list("abcd"), "labels": [0, 1, 2, 3]}.get(kind)
            known = {} if classes is None else {"classes": classes}
            estimator.partial_fit(X[part], y[part], **known)
    assert len(own.loss_curve_) == 5
    agree(own, theirs)


def test_a_partial_fit_after_a_fit_goes_on_with_its_optimizer():
    theirs, own = pair("four", {})
    for estimator in (theirs, own):
        fitted(estimator, X, targets("four", SUMS))
        for _ in range(3):
            estimator.partial_fit(X, targets("four", SUMS))
    agree(own, theirs)


def test_a_generator_is_drawn_from_as_scikit_learn_does():
    theirs, own = pair("two", {"early_stopping": True})
    for estimator in (theirs, own):
        estimator.set_params(random_state=np.random.RandomState(8))
        fitted(estimator, X, targets("two", SUMS))
        fitted(estimator, X, targets("two", SUMS))
    agree(own, theirs)


@pytest.mark.parametrize("kind", ["two", "four", "labels", "number", "numbers", "counts"])
@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs_finds_what_scikit_learn_finds(kind, weighted):
    extra = {"loss": "poisson"} if kind == "counts" else {}
    theirs, own = pair(kind, {"solver": "lbfgs", "max_iter": 20, **extra})
    for estimator in (theirs, own):
        weights = WEIGHTS if weighted else None
        fitted(estimator, X, targets(kind, SUMS), sample_weight=weights)
    assert own.loss_ == pytest.approx(theirs.loss_, rel=1e-5)
    assert (own.n_iter_, own.t_) == (theirs.n_iter_, theirs.t_)


@pytest.mark.parametrize("kind", ["four", "number"])
def test_float32_stays_float32_and_follows_scikit_learn(kind):
    theirs, own = pair(kind, {"max_iter": 10})
    for estimator in (theirs, own):
        fitted(estimator, X.astype(np.float32), targets(kind, SUMS))
    np.testing.assert_allclose(own.loss_curve_, theirs.loss_curve_, rtol=1e-4)
    assert {array.dtype for array in own.coefs_ + own.intercepts_} == {np.dtype("float32")}
    name = "predict" if kind == "number" else "predict_proba"
    assert getattr(own, name)(X.astype(np.float32)).dtype == np.float32


def test_the_lines_of_verbose_fits_are_those_of_scikit_learn(capsys):
    for parameters in (
        {"max_iter": 2}, {"early_stopping": True, "n_iter_no_change": 1},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.3, "n_iter_no_change": 1},
        {"tol": 10.0, "n_iter_no_change": 2},
    ):  # fmt: skip
        theirs, own = pair("two", {"verbose": True, **parameters})
        fitted(theirs, X, targets("two", SUMS))
        expected = capsys.readouterr().out
        fitted(own, X, targets("two", SUMS))
        assert capsys.readouterr().out == expected
