"""The four estimators in the hands of scikit-learn: pipelines, searches, ensembles and the rest."""

import pickle
import sys
import tracemalloc

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE
from sklearn.inspection import permutation_importance
from sklearn.linear_model import Ridge
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

import fastnn
from fastnn import (
    Adam,
    Dense,
    MLPClassifier,
    MLPRegressor,
    SequentialClassifier,
    SequentialRegressor,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((160, 4))
Y = np.where(X[:, 0] - X[:, 1] > 0, "high", "low")
YR = X[:, 0] - 2 * X[:, 1]


def build(n_inputs, n_outputs, width=8):
    return [Dense(width, "relu"), Dense(n_outputs)]


def perceptron(kind):
    return kind(
        hidden_layer_sizes=(8,), learning_rate_init=0.02, batch_size=32, max_iter=15, random_state=0
    )


def sequential(kind):
    return kind(build, optimizer=Adam(0.02), epochs=15, random_state=0)


CLASSIFIERS = [perceptron(MLPClassifier), sequential(SequentialClassifier)]
REGRESSORS = [perceptron(MLPRegressor), sequential(SequentialRegressor)]


@pytest.fixture
def model(request):
    return clone(request.param)


def of(estimators):
    names = [type(one).__name__ for one in estimators]
    return pytest.mark.parametrize("model", estimators, ids=names, indirect=True)


classifiers, regressors = of(CLASSIFIERS), of(REGRESSORS)
all_four = of(CLASSIFIERS + REGRESSORS)


def targets(model):
    return Y if is_classifier(model) else YR


def length(model):
    """The name of the number of epochs."""
    return "epochs" if hasattr(model, "epochs") else "max_iter"


@all_four
def test_kinds(model):
    assert is_classifier(model) != is_regressor(model)


@all_four
def test_pipeline(model):
    pipeline = make_pipeline(StandardScaler(), model).fit(1000 * X, targets(model))
    assert pipeline.score(1000 * X, targets(model)) > 0.9
    name = type(model).__name__.lower()
    pipeline.set_params(**{f"{name}__{length(model)}": 1})
    assert pipeline.fit(X, targets(model))[-1].n_iter_ == 1


@all_four
def test_column_transformer(model):
    table = np.column_stack([X[:, :2], RNG.integers(0, 3, 160)]).astype(object)
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), [0, 1]), ("codes", OneHotEncoder(), [2])],
        sparse_threshold=1.0,
    )
    pipeline = make_pipeline(columns, model).fit(table, targets(model))
    assert sparse.issparse(columns.fit_transform(table))
    assert pipeline[-1].n_features_in_ == 5
    assert pipeline.score(table, targets(model)) > 0.9


@all_four
def test_cross_validation(model):
    assert cross_val_score(model, X, targets(model), cv=2).mean() > 0.85
    assert cross_val_predict(model, X, targets(model), cv=2).shape == (160,)


@all_four
def test_learning_curve(model):
    sizes, train, test = learning_curve(
        model, X, targets(model), train_sizes=[0.5, 1.0], cv=2, shuffle=True, random_state=0
    )
    assert train.shape == test.shape == (2, 2)
    assert sizes.tolist() == [40, 80]


@all_four
def test_permutation_importance(model):
    fitted = model.fit(X, targets(model))
    found = permutation_importance(fitted, X, targets(model), n_repeats=2, random_state=0)
    assert set(np.argsort(found.importances_mean)[-2:]) == {0, 1}


@classifiers
def test_calibration(model):
    calibrated = CalibratedClassifierCV(model, cv=2).fit(X, Y)
    assert calibrated.score(X, Y) > 0.9
    if isinstance(model, SequentialClassifier):  # of decisions, where there are no probabilities
        hinge = model.set_params(loss="hinge")
        assert CalibratedClassifierCV(hinge, cv=2).fit(X, Y).score(X, Y) > 0.9


@classifiers
def test_ensembles_of_classifiers(model):
    other = GaussianNB()
    bagged = BaggingClassifier(model, n_estimators=2, random_state=0).fit(X, Y)
    assert bagged.score(X, Y) > 0.9
    seeds = {one.random_state for one in bagged.estimators_}
    assert len(seeds) == 2
    for voting in ("hard", "soft"):
        vote = VotingClassifier([("net", model), ("bayes", other)], voting=voting)
        assert vote.fit(X, Y).score(X, Y) > 0.9
    stacked = StackingClassifier([("net", model), ("bayes", other)], final_estimator=other, cv=2)
    assert stacked.fit(X, Y).score(X, Y) > 0.9
    assert OneVsRestClassifier(model).fit(X, Y).score(X, Y) > 0.9


@regressors
def test_ensembles_of_regressors(model):
    other = Ridge()
    assert BaggingRegressor(model, n_estimators=2).fit(X, YR).score(X, YR) > 0.8
    assert VotingRegressor([("net", model), ("line", other)]).fit(X, YR).score(X, YR) > 0.9
    assert StackingRegressor([("net", model), ("line", other)], cv=2).fit(X, YR).score(X, YR) > 0.9
    both = np.stack([YR, -YR], axis=1)
    assert MultiOutputRegressor(model).fit(X, both).score(X, both) > 0.8
    assert model.fit(X, both).predict(X).shape == (160, 2)
    scaled = TransformedTargetRegressor(model, transformer=StandardScaler())
    assert scaled.fit(X, 100 + 1000 * YR).score(X, 100 + 1000 * YR) > 0.8


@all_four
def test_halving_search(model):
    grid = {length(model): [1, 15]}
    search = HalvingGridSearchCV(model, grid, cv=2, min_resources=80, random_state=0)
    search.fit(X, targets(model))
    assert search.best_params_ == {length(model): 15}
    assert search.n_iterations_ >= 1


@all_four
def test_halving_search_over_epochs(model):
    """The number of epochs is the resource."""
    search = HalvingGridSearchCV(
        model.set_params(optimizer="adam"), {"optimizer__lr": [1e-7, 0.02]}, cv=2,
        resource=length(model), max_resources=12, min_resources=4, factor=2, random_state=0,
    )  # fmt: skip
    search.fit(X, targets(model))
    assert search.best_params_["optimizer__lr"] == 0.02
    assert search.best_estimator_.n_iter_ == 8


@all_four
def test_pickling_and_cloning(model):
    fitted = model.fit(X, targets(model))
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict(X) == fitted.predict(X)).all()
    fresh = clone(fitted)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        check_is_fitted(fresh)
    assert repr(fresh) == repr(fitted)
    assert (fresh.fit(X, targets(model)).predict(X) == fitted.predict(X)).all()


@all_four
def test_predictions_on_sparse_rows_are_those_on_dense_ones(model):
    thin = np.where(np.abs(X) > 0.5, X, 0)
    fitted = model.fit(sparse.csr_matrix(thin), targets(model))
    dense = clone(model).fit(thin, targets(model))
    assert (fitted.predict(thin) == fitted.predict(sparse.csc_matrix(thin))).all()
    if is_regressor(model):
        np.testing.assert_allclose(fitted.predict(thin), dense.predict(thin), atol=1e-4)
    else:
        np.testing.assert_allclose(fitted.predict_proba(thin), dense.predict_proba(thin), atol=1e-4)


@all_four
def test_metadata_routing(model):
    """Weights reach the fit of a step of a pipeline in a search, where they are asked for."""
    weights = np.where(np.arange(160) % 2, 1.0, 0.0)
    with sklearn.config_context(enable_metadata_routing=True):
        asked = clone(model).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, asked)
        scorer = get_scorer("accuracy" if is_classifier(model) else "r2")
        search = GridSearchCV(
            pipeline, {f"{pipeline.steps[1][0]}__random_state": [0]}, cv=2,
            scoring=scorer.set_score_request(sample_weight=False),
        )  # fmt: skip
        search.fit(X, targets(model), sample_weight=weights)
        routed = search.best_estimator_
    scaled = StandardScaler().fit_transform(X)
    direct = clone(model).fit(scaled, targets(model), sample_weight=weights)
    assert (routed.predict(X) == direct.predict(scaled)).all()
    plain = model.fit(scaled, targets(model))
    assert direct.net_.flat_params.shape == plain.net_.flat_params.shape
    assert (direct.net_.flat_params != plain.net_.flat_params).any()
    assert "X_val" in str(model.get_metadata_routing())


@all_four
def test_html(model):
    fitted = model.fit(X, targets(model))
    assert type(model).__name__ in fitted._repr_html_()
    assert "random_state" in fitted._repr_html_()


@all_four
def test_a_failed_candidate_of_a_search_is_scored_as_such(model):
    with pytest.warns(sklearn.exceptions.FitFailedWarning, match="2 fits failed"):
        search = GridSearchCV(
            model, {"engine": ["c", "no such engine"]}, cv=2, error_score=-1.0
        ).fit(X, targets(model))
    assert search.best_params_ == {"engine": "c"}
    assert search.cv_results_["mean_test_score"].min() == -1


@classifiers
def test_feature_elimination_by_a_function_of_the_network(model):
    def importance(fitted):
        return np.abs(fitted.net_.parameters()["0.W"]).sum(axis=1)

    found = RFE(model, n_features_to_select=2, importance_getter=importance).fit(X, Y)
    assert found.n_features_ == 2


@all_four
def test_several_scores(model):
    names = ["accuracy", "neg_log_loss"] if is_classifier(model) else ["r2", "neg_max_error"]
    found = cross_validate(model, X, targets(model), cv=2, scoring=names, return_estimator=True)
    assert {f"test_{name}" for name in names} <= set(found)
    assert all(one.n_iter_ == 15 for one in found["estimator"])


@all_four
def test_names_of_features(model):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    fitted = model.fit(frame, targets(model))
    assert fitted.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[["b", "a", "c", "d"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        fitted.predict(X)


# -- the package ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "MLPClassifier", "MLPRegressor", "SequentialClassifier", "SequentialRegressor"
])  # fmt: skip
def test_without_scikit_learn(name, monkeypatch):
    from fastnn import estimators

    assert name in dir(fastnn)
    assert name not in fastnn.__all__  # a star import imports no scikit-learn
    assert name in dir(estimators)
    monkeypatch.delitem(vars(estimators), name, raising=False)
    monkeypatch.delitem(vars(fastnn), name, raising=False)
    monkeypatch.setitem(sys.modules, "sklearn.utils.validation", None)
    message = rf"fastnn.{name} needs .* pip install 'fastnn-cpu\[sklearn\]'"
    with pytest.raises(ImportError, match=message):
        getattr(fastnn, name)


def test_unknown_names_of_the_package():
    from fastnn import estimators

    with pytest.raises(AttributeError, match="no attribute 'MLPTransformer'"):
        estimators.MLPTransformer  # noqa: B018


@pytest.mark.parametrize("name", ["MLPClassifier", "SequentialClassifier"])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16"])
def test_predictions_read_rows_of_any_type_without_a_copy(name, dtype):
    rows = np.random.default_rng(0).integers(0, 200, (4000, 300)).astype(dtype)
    as_floats = rows.astype(np.float64)
    estimator = getattr(fastnn, name)(random_state=0).set_params(
        **({"epochs": 1} if name[0] == "S" else {"solver": "lbfgs", "max_iter": 1, "tol": 1e9})
    )
    estimator.fit(as_floats[:50], np.arange(50) % 2)
    expected = estimator.predict_proba(as_floats)
    tracemalloc.start()
    found = estimator.predict_proba(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found == expected).all()
    assert peak < as_floats.nbytes / 2
