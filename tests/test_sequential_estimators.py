"""SequentialClassifier and SequentialRegressor: every parameter, and scikit-learn's own checks."""

import contextlib
import functools
import inspect
import pickle
import unittest

import numpy as np
import pytest
import sklearn
from sklearn import exceptions
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastnn import (
    EMA,
    LBFGS,
    SGD,
    Adam,
    BatchNorm,
    Callback,
    Dense,
    Dropout,
    EarlyStopping,
    Impute,
    Sequential,
    SequentialClassifier,
    SequentialRegressor,
    Standardize,
    losses,
    schedules,
)
from fastnn.augmentation import Noise

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4)).astype(np.float32)
#: Three classes, two, rows of 0 and 1, and numbers.
Y3 = np.array(["low", "mid", "top"])[np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])]
Y2 = np.where(X[:, 0] > 0, "yes", "no")
YM = (X[:, :2] > 0).astype(int)
YR = (X[:, 0] ** 2 + X[:, 1]).astype(np.float64)
POSITIONS = np.unique(Y3, return_inverse=True)[1]
WEIGHTS = RNG.random(120)

LAYERS = [Dense(6, "tanh"), Dense(3)]


def build(n_inputs, n_outputs, width=6, activation="tanh"):
    return [Dense(width, activation), Dense(n_outputs)]


def classifier(**parameters):
    return SequentialClassifier(**{"layers": LAYERS, "epochs": 2, "random_state": 0} | parameters)


def regressor(**parameters):
    given = {"layers": build, "epochs": 2, "random_state": 0} | parameters
    return SequentialRegressor(**given)


# -- scikit-learn's checks ------------------------------------------------------------------------

#: A batch of all rows, since weights of minibatches are no repeated rows; scikit-learn wants
#: float64 from float64.
FULL = {"batch_size": None, "dtype": "float64", "random_state": 0}
CHECKED = [
    SequentialClassifier(optimizer=Adam(0.01), epochs=50, **FULL),
    SequentialRegressor(optimizer=Adam(0.02), epochs=120, **FULL),
]
#: What is skipped, and for want of what.
SKIPPED = {
    "check_sample_weights_pandas_series": "pandas",
    "check_classifier_data_not_an_array": "pandas",
    "check_regressor_data_not_an_array": "pandas",
    "check_array_api_input": "SCIPY_ARRAY_API",
}


def name_of(check):
    return check.func.__name__ if isinstance(check, functools.partial) else check.__name__


def run(check, estimator):
    """A check; one that is skipped must be known to be."""
    try:
        check(estimator)
    except unittest.SkipTest as reason:
        if SKIPPED.get(name_of(check), "nothing") in str(reason):
            raise
        pytest.fail(f"{name_of(check)} must not be skipped: {reason}")


def with_checks(estimators):
    """scikit-learn's decorator; it hands on a generator, which pytest 9 warns of."""
    mark = parametrize_with_checks(estimators)
    names, checks = mark.args
    return pytest.mark.parametrize(names, list(checks), ids=mark.kwargs["ids"])


@with_checks(CHECKED)
def test_scikit_learn_checks(estimator, check):
    run(check, estimator)


@pytest.mark.parametrize(("estimator", "of_1_9"), list(zip(CHECKED, (68, 61), strict=True)))
def test_none_of_the_checks_is_missing(estimator, of_1_9):
    """All are run and expected to pass; with SCIPY_ARRAY_API and pandas none is skipped."""
    names = [name_of(check) for _, check in estimator_checks_generator(estimator)]
    if sklearn.__version__.startswith("1.9."):
        assert len(names) == of_1_9
    assert len(names) > 50
    assert sum(name in SKIPPED for name in names) <= len(SKIPPED) - 1


#: What no fit of minibatches, or in float32, passes.
NOT_FOR_MINIBATCHES = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
    "check_regressor_multioutput",
}
FAST = {"optimizer": Adam(0.02), "random_state": 0}


@pytest.mark.parametrize(
    "estimator", [SequentialClassifier(**FAST), SequentialRegressor(epochs=40, **FAST)]
)
def test_minibatches_in_float32_pass_the_other_checks(estimator):
    for one, check in estimator_checks_generator(estimator):
        if name_of(check) not in NOT_FOR_MINIBATCHES:
            with contextlib.suppress(unittest.SkipTest):
                run(check, one)


def test_both_have_the_same_parameters():
    names = [list(inspect.signature(c).parameters.items()) for c in (
        SequentialClassifier, SequentialRegressor
    )]  # fmt: skip
    assert [n for n in names[0] if n[0] != "class_weight"] == names[1]


# -- parameters that are those of Sequential ------------------------------------------------------

FITS = {
    "loss": ["squared_error", losses.CrossEntropy(0.1), losses.Focal(1.0)],
    "optimizer": ["sgd", SGD(0.1, momentum=0.9), LBFGS()],
    "batch_size": [None, 7],
    "steps": [3],
    "accumulate": [2],
    "schedule": [schedules.Exponential(rate=0.1), lambda step: 1 / (step + 1)],
    "shuffle": [False, lambda epoch, n_rows: np.arange(n_rows)[::-1]],
    "augment": [Noise(0.1), [Noise(0.1), lambda batch, rng: batch]],
    "freeze": [[0], ("1.W",)],
    "ema": [0.9, EMA(0.5)],
    "swa": [0],
    "early_stopping": [EarlyStopping(1, metric="loss", min_delta=0.5)],
    "validation_fraction": [0.25],
}
NETWORKS = {
    "l1": [0.1],
    "l2": [0.1],
    "penalties": ["per_row"],
    "input_scale": [0.1],
    "dtype": ["float64"],
}
RENAMED = {"validation_fraction": "validation_split"}
CASES = [(name, value) for part in (FITS, NETWORKS) for name in part for value in part[name]]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_parameter_does_what_it_does_in_sequential(name, value):
    """Bit for bit, and something else than without it."""
    extra = {"l2": 0.1} if name == "penalties" else {}
    options, arguments = {"epochs": 2, "loss": "cross_entropy"}, {"seed": 0, **extra}
    own = options if name in FITS else arguments
    own[RENAMED.get(name, name)] = value
    if name == "early_stopping":
        options["epochs"] = 50
    net = Sequential(LAYERS, **arguments)
    history = net.fit(X, POSITIONS, progress=False, classes=range(3), **options)
    found = classifier(**extra).set_params(epochs=options["epochs"], **{name: value}).fit(X, Y3)
    assert (found.net_.flat_params == net.flat_params).all()
    assert found.loss_curve_ == history["loss"] == found.history_["loss"]
    assert found.n_iter_ == history.n_epochs
    plain = classifier(**extra).set_params(epochs=options["epochs"]).fit(X, Y3)
    before, after = plain.net_.flat_params, found.net_.flat_params
    assert plain.net_.dtype != found.net_.dtype or (before != after).any()


def test_sample_weights_and_validation_rows_reach_the_fit():
    net = Sequential(LAYERS, seed=0)
    history = net.fit(
        X, POSITIONS, epochs=2, sample_weight=WEIGHTS, validation_data=(X[:9], POSITIONS[:9]),
        progress=False,
    )  # fmt: skip
    found = classifier().fit(X, Y3, WEIGHTS, X_val=X[:9].tolist(), y_val=Y3[:9])
    assert (found.net_.flat_params == net.flat_params).all()
    assert found.validation_curve_ == history["val_loss"]
    with pytest.raises(ValueError, match="X_val and y_val belong together"):
        classifier().fit(X, Y3, X_val=X)
    with pytest.raises(ValueError, match="zero"):
        classifier().fit(X, Y3, np.zeros(120))
    with pytest.raises(ValueError, match="classes not in"):
        classifier().fit(X, Y3, X_val=X[:1], y_val=["other"])


def test_the_number_of_epochs():
    assert classifier(epochs=3).fit(X, Y3).n_iter_ == 3
    assert classifier(epochs=None).fit(X, Y3).n_iter_ == 10
    timed = classifier(epochs=None, seconds=0.05).fit(X, Y3)
    assert timed.history_.stopped == "after 0.05 s"


def test_early_stopping_puts_rows_aside():
    found = classifier(early_stopping=2, epochs=200, optimizer=Adam(0.1)).fit(X, Y3)
    assert found.history_.stopped.startswith("early stopping")
    assert found.n_iter_ == len(found.validation_curve_) < 200
    assert found.history_.n_rows == 109
    given = classifier(early_stopping=2, epochs=200, optimizer=Adam(0.1))
    assert given.fit(X, Y3, X_val=X, y_val=Y3).history_.n_rows == 120
    assert not classifier().fit(X, Y3).validation_curve_


def test_metrics_are_those_of_validation_rows():
    def first(y_true, y_pred):
        return float(y_true[0])

    found = classifier(metrics=["f1", first]).fit(X, Y3, X_val=X[:50], y_val=Y3[:50])
    assert {"val_f1", "val_first", "val_accuracy"} <= set(found.history_)
    assert found.history_["val_first"][0] == POSITIONS[0]
    assert len(classifier(metrics="f1").fit(X, Y3).history_["val_f1"]) == 2


def test_weights_of_classes():
    given = {"low": 5.0, "top": 0.5}  # "mid" counts once, as in scikit-learn
    rows = np.array([given.get(label, 1.0) for label in Y3])
    weighted = classifier(class_weight=given).fit(X, Y3, WEIGHTS)
    by_rows = classifier().fit(X, Y3, WEIGHTS * rows)
    assert (weighted.net_.flat_params == by_rows.net_.flat_params).all()
    counts = np.bincount(POSITIONS)
    balanced = classifier(class_weight="balanced").fit(X, Y3)
    by_rows = classifier().fit(X, Y3, (120 / (3 * counts))[POSITIONS])
    np.testing.assert_allclose(
        balanced.net_.flat_params, by_rows.net_.flat_params, rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="several labels"):
        classifier(layers=build, class_weight="balanced").fit(X, YM)


def test_random_state():
    """An int is the seed; a RandomState and None draw one for every fit."""
    assert classifier(random_state=7).fit(X, Y3).net_.seed == 7
    state = np.random.RandomState(0)
    seeds = [classifier(random_state=state).fit(X, Y3).net_.seed for _ in range(2)]
    assert seeds[0] != seeds[1]
    again = classifier(random_state=np.random.RandomState(0)).fit(X, Y3).net_.seed
    assert again == seeds[0]
    nets = [classifier(random_state=None).fit(X, Y3).net_ for _ in range(2)]
    assert nets[0].seed != nets[1].seed
    with pytest.raises(ValueError, match="cannot be used to seed"):
        classifier(random_state="0").fit(X, Y3)


def test_warm_start_goes_on():
    twice = classifier(warm_start=True).fit(X, Y3).fit(X, Y3)
    once = classifier(epochs=4).fit(X, Y3)
    assert (twice.net_.flat_params == once.net_.flat_params).all()
    assert twice.loss_curve_ == once.loss_curve_
    assert twice.n_iter_ == 4
    assert classifier().fit(X, Y3).fit(X, Y3).n_iter_ == 2
    with pytest.raises(ValueError, match="features"):
        twice.fit(X[:, :2], Y3)
    with pytest.raises(ValueError, match="classes not in"):
        twice.fit(X, np.where(Y3 == "low", "new", Y3))


def test_partial_fit_is_an_epoch():
    parts = classifier()
    for _ in range(2):
        parts.partial_fit(X, Y3, classes=["top", "low", "mid"])
    assert (parts.net_.flat_params == classifier().fit(X, Y3).net_.flat_params).all()
    assert parts.n_iter_ == 2
    parts.partial_fit(X[:5], Y3[:5])
    with pytest.raises(ValueError, match="not the same as on last call"):
        parts.partial_fit(X, Y3, classes=["a"])
    lasting = regressor(schedule=schedules.Cosine())
    assert lasting.partial_fit(X, YR).partial_fit(X, YR).history_["lr"] == [0.001]
    several = classifier(layers=build).partial_fit(X, YM).partial_fit(X, YM[:, ::-1])
    assert several.predict(X).shape == YM.shape


def test_the_rest_of_the_parameters(capsys):
    seen = []
    found = classifier(callbacks=lambda training: seen.append(training.epoch)).fit(X, Y3)
    assert seen == [1, 2]
    assert classifier(callbacks=[Callback()]).fit(X, Y3).n_iter_ == 2
    assert not capsys.readouterr().err
    classifier(verbose=True).fit(X, Y3)
    assert "epoch" in capsys.readouterr().err.lower()
    one = classifier(engine="numpy", n_threads=1).fit(X, Y3)
    assert (one.history_.engine, one.history_.n_threads) == ("numpy", 1)
    np.testing.assert_allclose(one.decision_function(X), found.decision_function(X), atol=1e-4)


def test_ctrl_c_keeps_what_has_been_learned():
    def interrupt(training):
        if training.epoch == 2:
            raise KeyboardInterrupt

    found = classifier(epochs=5, callbacks=interrupt)
    with pytest.raises(KeyboardInterrupt):
        found.fit(X, Y3)
    assert found.n_iter_ == 2
    assert (found.predict(X) == classifier().fit(X, Y3).predict(X)).all()
    with pytest.raises(ValueError, match="epochs must be"):
        found.set_params(epochs=0).fit(X, Y3)
    assert (found.predict(X) == classifier().fit(X, Y3).predict(X)).all()


# -- layers ---------------------------------------------------------------------------------------


def test_layers_are_a_list_or_a_function():
    given = [Dense(6, "tanh"), BatchNorm(), Dropout(0.1), Dense(3)]
    shown = repr(given)
    found = classifier(layers=given).fit(X, Y3)
    assert found.layers is given
    assert found.net_.layers[0] is not given[0]
    assert repr(given) == shown
    copied = clone(found)
    assert copied.layers is not given
    assert copied.layers[0] is not given[0]
    by_function = classifier(layers=build).fit(X, Y3)
    assert (by_function.net_.flat_params == classifier().fit(X, Y3).net_.flat_params).all()
    assert repr(classifier(layers=None).fit(X, Y3).net_.layers) == "[Dense(100, 'relu'), Dense(3)]"
    assert (pickle.loads(pickle.dumps(found)).predict(X) == found.predict(X)).all()


def test_missing_values_reach_a_layer_that_replaces_them():
    gaps = X.copy()
    gaps[::7, 1] = np.nan
    layers = [Impute(), Standardize(), *LAYERS]
    for given in (layers, lambda *_: layers):
        found = classifier(layers=given).fit(gaps, Y3, X_val=gaps, y_val=Y3).partial_fit(gaps, Y3)
        assert np.isfinite(found.predict_proba(gaps)).all()
        assert (found.predict(gaps.tolist()) == found.predict(gaps)).all()
        with pytest.raises(ValueError, match="inf"):
            found.fit(np.where(np.isnan(gaps), np.inf, gaps), Y3)
    assert classifier(layers=layers).__sklearn_tags__().input_tags.allow_nan
    for given in ([Standardize(), *LAYERS], lambda *_: LAYERS):
        estimator = classifier(layers=given)
        assert not estimator.__sklearn_tags__().input_tags.allow_nan
        with pytest.raises(ValueError, match="NaN"):
            estimator.fit(gaps, Y3)
        with pytest.raises(ValueError, match="NaN"):
            estimator.fit(X, Y3).predict(gaps)


@pytest.mark.parametrize(
    ("estimator", "y", "message"),
    [
        (classifier(layers=[Dense(2)]), Y3, r"2 units, but y has 3 classes: .* Dense\(3\)"),
        (classifier(), Y2, r"3 units, but y has 2 classes: .* Dense\(1\) or Dense\(2\)"),
        (classifier(), YM, r"3 units, but y has 2 columns of 0 and 1: .* Dense\(2\)"),
        (classifier(loss="hinge"), Y2, r"end with Dense\(1\), or let it"),
        (classifier(loss="cross_entropy", layers=[Dense(1)]), Y2, r"1 unit, .* Dense\(2\), or"),
        (regressor(layers=[Dense(1)]), YM, r"1 unit, but y has 2 columns: .* Dense\(2\)"),
        (regressor(layers=[Dense(1)], loss="gaussian_nll"), YR, r"1 column, each with 2 outputs"),
    ],
)
def test_the_last_layer_goes_with_the_targets(estimator, y, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)
    with pytest.raises(exceptions.NotFittedError):
        estimator.predict(X)


@pytest.mark.parametrize("layers", [Dense(1), "relu", 3, lambda n_inputs, n_outputs: None])
def test_layers_that_are_none(layers):
    with pytest.raises(TypeError, match="layers must be a list of layers"):
        classifier(layers=layers).fit(X, Y3)


# -- what is predicted ----------------------------------------------------------------------------

LEARNS = {"epochs": 60, "optimizer": Adam(0.03)}


FORMS = {"two": Y2, "three": Y3, "several": YM}
OF_CLASSES = [
    (loss, form)
    for loss in ("auto", "hinge", "squared_hinge", "focal", "mse")
    for form in FORMS
    if (loss, form) != ("focal", "several")  # a loss of one class per row
]


@pytest.mark.parametrize(("loss", "form"), OF_CLASSES)
def test_classes_are_learned_by_any_loss(loss, form):
    y = FORMS[form]
    found = classifier(layers=build, loss=loss, **LEARNS).fit(X, y)
    assert found.score(X, y) > 0.85
    assert hasattr(found, "predict_proba") == (loss in ("auto", "focal"))
    assert hasattr(clone(found), "predict_proba") == (loss in ("auto", "focal"))
    decided, predicted = found.decision_function(X), found.predict(X)
    if y is Y2:
        assert (np.where(decided > 0, "yes", "no") == predicted).all()
    elif y is Y3:
        assert (found.classes_[decided.argmax(axis=1)] == predicted).all()
    else:
        assert ((decided > 0) == predicted).all()


def test_two_units_for_two_classes():
    two = classifier(layers=[Dense(2)], **LEARNS).fit(X, Y2)
    assert two.decision_function(X).shape == (120,)
    assert ((two.decision_function(X) > 0) == (two.predict(X) == "yes")).all()
    np.testing.assert_allclose(two.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(two.predict_log_proba(X)), two.predict_proba(X), rtol=1e-5)


def half_squares(y, a):
    return ((a - y) ** 2).sum(axis=1) / 2, a - y


def logistic(y, a):
    signs = np.where(y > 0.5, 1, -1).astype(a.dtype)
    return np.logaddexp(0, -signs * a).sum(axis=1), -signs / (1 + np.exp(signs * a))


def test_a_loss_of_the_users_own():
    own = classifier(layers=build, loss=losses.Custom(logistic), **LEARNS)
    assert own.fit(X, Y2).score(X, Y2) > 0.9
    assert own.fit(X, YM).score(X, YM) > 0.85
    assert not hasattr(own, "predict_proba")
    assert own.set_params(loss=losses.Custom(half_squares)).fit(X, Y3).score(X, Y3) > 0.85
    numbers = regressor(loss=losses.Custom(half_squares), epochs=120, optimizer=Adam(0.02))
    assert numbers.fit(X, YR).score(X, YR) > 0.7


def test_one_class_and_other_labels():
    alone = classifier(layers=build).fit(X, np.full(120, "only"))
    assert (alone.predict(X) == "only").all()
    for y in (Y2 == "yes", np.where(Y2 == "yes", 7, -3), np.where(Y2 == "yes", 2.0, 1.0)):
        found = classifier(layers=build, **LEARNS).fit(X, y)
        assert found.predict(X).dtype == y.dtype
        assert found.score(X, y) > 0.9
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        classifier().fit(X, YR)


@pytest.mark.parametrize("loss", ["auto", "mae", "huber", "quantile", "gaussian_nll", "poisson"])
def test_numbers_are_learned_by_any_loss(loss):
    y = np.exp(X[:, 0]) if loss == "poisson" else YR
    found = regressor(loss=loss, epochs=120, optimizer=Adam(0.02)).fit(X, y)
    assert found.predict(X).shape == (120,)
    assert found.score(X, y) > 0.7
    if loss == "poisson":
        assert found.predict(X).min() > 0
    if loss == "gaussian_nll":
        mean, deviation = found.predict(X, return_std=True)
        assert (mean == found.predict(X)).all()
        assert deviation.shape == (120,)
        assert np.mean(np.abs(y - mean) < 2 * deviation) > 0.8
    else:
        with pytest.raises(ValueError, match="return_std needs the loss 'gaussian_nll'"):
            found.predict(X, return_std=True)


def test_several_quantiles_and_targets():
    several = np.stack([YR, -X[:, 2]], axis=1)
    loss = losses.Quantile([0.1, 0.4, 0.9])
    found = regressor(loss=loss, epochs=150, optimizer=Adam(0.02)).fit(X, several)
    assert found.n_outputs_ == 6
    q = found.predict_quantiles(X)
    assert q.shape == (120, 2, 3)
    assert (found.predict(X) == q[:, :, 1]).all()
    assert 0.0 < np.mean(several < q[:, :, 0]) < 0.25
    assert 0.75 < np.mean(several < q[:, :, 2]) < 1.0
    assert found.score(X, several) > 0.5
    assert regressor(loss=loss).fit(X, YR).predict_quantiles(X).shape == (120, 3)
    assert not hasattr(regressor(), "predict_quantiles")
    both = regressor(loss="gaussian_nll").fit(X, several).predict(X, return_std=True)
    assert [part.shape for part in both] == [(120, 2), (120, 2)]
