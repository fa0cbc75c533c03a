"""What the estimators have beyond scikit-learn's."""

import numpy as np
import pytest
import sklearn.neural_network
from conftest import ENGINES
from estimator_cases import CLASSES, fitted, made, of_fastnn, of_sklearn, table, targets
from scipy import sparse
from sklearn.exceptions import NotFittedError

import fastnn
from fastnn import losses, schedules

X, SUMS = table()
EVERY = ("two", "four", "labels", "number", "numbers")


def test_dropout_is_in_training_alone_and_drawn_from_random_state():
    plain, dropped = made("four"), made("four", {"dropout": 0.5})
    assert [type(layer).__name__ for layer in dropped.net_.layers] == ["Dense", "Dropout", "Dense"]
    assert dropped.loss_ > plain.loss_
    assert (dropped.predict_proba(X) == dropped.predict_proba(X)).all()
    assert dropped.loss_ == made("four", {"dropout": 0.5}).loss_
    assert dropped.loss_ != made("four", {"dropout": 0.5, "random_state": 1}).loss_
    each = made("four", {"dropout": [0.0, 0.2], "hidden_layer_sizes": (4, 4)})
    assert [type(layer).__name__ for layer in each.net_.layers] == ["Dense", "Dense", "Dropout",
                                                                    "Dense"]  # fmt: skip
    with pytest.raises(ValueError, match="dropout has 2 values for 1 hidden layers"):
        made("four", {"dropout": [0.1, 0.2]})


@pytest.mark.parametrize(("name", "layer"), [("batch", "BatchNorm"), ("layer", "LayerNorm")])
def test_normalization_is_before_each_activation(name, layer):
    estimator = made("four", {"normalization": name, "hidden_layer_sizes": (6, 5)})
    names = [type(one).__name__ for one in estimator.net_.layers]
    assert names == ["Dense", layer, "Activation"] * 2 + ["Dense"]
    assert [b.shape for b in estimator.intercepts_] == [(6,), (5,), (4,)]
    far = fitted(of_fastnn("four")(normalization="batch", max_iter=40, random_state=0),
                 1000 * X + 5000, targets("four", SUMS))  # fmt: skip
    assert far.score(1000 * X + 5000, targets("four", SUMS)) > 0.6


def test_normalised_networks_keep_their_best_statistics():
    estimator = made("four", {"normalization": "batch", "early_stopping": True, "max_iter": 30,
                              "learning_rate_init": 0.1, "n_iter_no_change": 50})  # fmt: skip
    best = int(np.argmax(estimator.validation_scores_)) + 1
    same = made("four", {"normalization": "batch", "early_stopping": True, "max_iter": best,
                         "learning_rate_init": 0.1, "n_iter_no_change": 50})  # fmt: skip
    assert (estimator.predict_proba(X) == same.predict_proba(X)).all()


def test_each_hidden_layer_may_have_an_activation_of_its_own():
    functions = ["gelu", fastnn.activations.LeakyReLU(0.2), "logistic"]
    estimator = made("number", {"activation": functions, "hidden_layer_sizes": (5, 4, 3)})
    names = [layer.activation.name for layer in estimator.net_.layers]
    assert names == ["gelu", "leaky_relu", "sigmoid", "identity"]
    assert made("number", {"activation": "silu"}).loss_ < 10
    with pytest.raises(ValueError, match="activation has 1 values for 2 hidden layers"):
        made("number", {"activation": ["relu"], "hidden_layer_sizes": (5, 4)})


def test_output_activation_is_that_of_the_outputs():
    y = 1 / (1 + np.exp(-targets("number", SUMS)))
    estimator = fitted(fastnn.MLPRegressor(output_activation="logistic", max_iter=3), X, y)
    assert estimator.out_activation_ == "logistic"
    assert 0 < estimator.predict(X).min() < estimator.predict(X).max() < 1
    with pytest.raises(ValueError, match="activation"):
        made("four", {"output_activation": "tanh"})


@pytest.mark.parametrize("loss", [
    "mse", "sse", "mae", "huber", losses.Huber(0.5), "quantile", "gaussian_nll", "squared_error",
    losses.Quantile(0.9),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("kind", ["number", "numbers"])
def test_regressors_take_every_loss_of_numbers(kind, loss):
    small = {"loss": loss, "max_iter": 60, "batch_size": 32, "learning_rate_init": 0.01}
    estimator = made(kind, small)
    assert estimator.predict(X).shape == targets(kind, SUMS).shape
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0]
    above = loss.argument if isinstance(loss, losses.Quantile) else 0.5
    if kind == "number" and above == 0.9:
        assert (targets(kind, SUMS) < estimator.predict(X)).mean() > 0.7


def test_several_quantiles_are_columns():
    estimator = made("number", {"loss": losses.Quantile([0.1, 0.5, 0.9]), "max_iter": 60,
                                "learning_rate_init": 0.02, "batch_size": 32})  # fmt: skip
    predicted = estimator.predict(X)
    assert predicted.shape == (len(X), 3)
    assert (predicted[:, 0] < predicted[:, 2]).mean() > 0.8


@pytest.mark.parametrize("loss", [
    "log_loss", "cross_entropy", "binary_cross_entropy", "focal", "hinge", "squared_hinge", "mse",
    "sse", "squared_error", losses.CrossEntropy(0.1),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("kind", CLASSES)
def test_classifiers_take_every_loss_of_classes(kind, loss):
    name = loss if isinstance(loss, str) else loss.name
    parameters = {"loss": loss, "max_iter": 150, "batch_size": 32, "learning_rate_init": 0.01}
    if kind == "labels" and name in ("cross_entropy", "focal"):
        with pytest.raises(ValueError, match="for one class per row"):
            made(kind, parameters)
        return
    estimator = made(kind, parameters)
    assert estimator.score(X, targets(kind, SUMS)) > (0.6 if kind == "labels" else 0.85)
    if name in ("hinge", "squared_hinge", "mse", "sse", "squared_error"):
        assert not hasattr(estimator, "predict_proba")
        assert not hasattr(fastnn.MLPClassifier(loss=loss), "predict_proba")
    else:
        p = estimator.predict_proba(X)
        assert p.shape == (len(X), {"two": 2}.get(kind, 4))
        if kind != "labels":
            np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


def test_losses_of_the_other_kind_are_refused():
    with pytest.raises(ValueError, match="the loss mae is for numbers"):
        made("four", {"loss": "mae"})
    with pytest.raises(ValueError, match="the loss hinge is for classes"):
        made("number", {"loss": "hinge"})


def test_losses_of_the_user_are_losses():
    def squares(y, z):
        return ((z - y) ** 2).sum(axis=1), 2 * (z - y)

    for kind in ("two", "four", "number"):
        estimator = made(kind, {"loss": losses.Custom(squares), "max_iter": 60})
        assert estimator.loss_ < estimator.loss_curve_[0]
        assert estimator.predict(X).dtype == targets(kind, SUMS).dtype


@pytest.mark.parametrize("optimizer", [
    "sgd", "adam", "adamw", "lion", "rmsprop", "nadam", "radam", "adagrad", "adadelta", "muon",
])  # fmt: skip
def test_every_optimizer_trains_by_name_with_the_rate(optimizer):
    estimator = made("four", {"optimizer": optimizer, "learning_rate_init": 0.02, "max_iter": 20,
                              "hidden_layer_sizes": (8, 8)})  # fmt: skip
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0]
    assert estimator._optimizer.lr == 0.02


def test_optimizers_and_schedules_are_objects():
    estimator = made("four", {"optimizer": fastnn.AdamW(0.05), "schedule": schedules.Cosine()})
    rates = estimator.net_.history["lr"]
    assert rates[0] <= 0.05
    assert rates[-1] < 0.2 * rates[0]
    assert made("four", {"optimizer": "lbfgs"}).loss_ == made("four", {"solver": "lbfgs"}).loss_
    with pytest.raises(ValueError, match="adamw"):
        made("four", {"optimizer": "adamx"})


def test_class_weight_multiplies_the_weights_of_rows():
    y = targets("four", SUMS)
    weights = np.where(y == "a", 5.0, 1.0)
    weighted = made("four", {"class_weight": {"a": 5}})
    assert weighted.loss_ == made("four", sample_weight=weights).loss_
    assert (weighted.predict(X) == "a").sum() > (made("four").predict(X) == "a").sum()
    counts = {label: len(y) / (4 * (y == label).sum()) for label in "abcd"}
    balanced = made("four", {"class_weight": "balanced"})
    assert balanced.loss_ == pytest.approx(made("four", {"class_weight": counts}).loss_)
    with pytest.raises(ValueError, match="a weight for 'z', which is none of the classes"):
        made("four", {"class_weight": {"z": 2}})


@pytest.mark.parametrize("kind", EVERY)
def test_validation_rows_of_ones_own_give_a_curve_and_early_stopping(kind):
    y = targets(kind, SUMS)
    estimator = of_fastnn(kind)(max_iter=6, random_state=0)
    fitted(estimator, X[:150], y[:150], X_val=X[150:], y_val=y[150:])
    assert len(estimator.validation_curve_) == estimator.n_iter_ == 6
    assert estimator.validation_scores_ is None
    targets_of_net, _ = estimator._validation_targets(y[150:])
    expected = estimator.net_.evaluate(X[150:], targets_of_net)["loss"]
    assert estimator.validation_curve_[-1] == pytest.approx(expected)
    fitted(estimator.set_params(early_stopping=True), X[:150], y[:150], X_val=X[150:],
           y_val=y[150:])  # fmt: skip
    assert estimator.t_ == 6 * 150
    assert estimator.best_validation_score_ == pytest.approx(
        estimator.score(X[150:], y[150:]), abs=1e-9
    )
    with pytest.raises(ValueError, match="X_val and y_val belong together"):
        estimator.fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="X has 3 features"):
        estimator.fit(X, y, X_val=X[:, :3], y_val=y)


def test_the_curve_of_poisson_is_half_the_deviance():
    y = targets("counts", SUMS)
    estimator = fastnn.MLPRegressor("poisson", max_iter=4, alpha=0)
    fitted(estimator, X[:150], y[:150], X_val=X[150:], y_val=y[150:])
    from sklearn.metrics import mean_poisson_deviance

    deviance = mean_poisson_deviance(y[150:], estimator.predict(X[150:]))
    assert estimator.validation_curve_[-1] == pytest.approx(deviance / 2)


def test_callbacks_follow_the_fit():
    seen = []

    class Follow(fastnn.Callback):
        def on_epoch_end(self, training):
            seen.append(training.values["loss"])
            if len(seen) == 3:
                training.stop("enough")

    estimator = made("four", {"callbacks": [Follow()], "max_iter": 50})
    assert seen == pytest.approx(estimator.loss_curve_)
    assert (len(seen), estimator.net_.history.stopped) == (3, "enough")
    with pytest.raises(TypeError, match="callbacks must hold"):
        made("four", {"callbacks": [3]})


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_and_n_threads_say_what_computes(engine):
    estimator = made("four", {"engine": engine, "n_threads": 1})
    assert (estimator.net_.history.engine, estimator.net_.history.n_threads) == (engine, 1)
    assert (estimator.predict(X) == made("four").predict(X)).mean() > 0.98


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse_rows_train_like_dense_ones(kind, container):
    y = targets(kind, SUMS)
    thin = np.where(X > 0.5, X, 0)
    parameters = {"max_iter": 4, "random_state": 0, "early_stopping": True}
    dense = fitted(of_fastnn(kind)(**parameters), thin, y)
    few = fitted(of_fastnn(kind)(**parameters), container(thin), y)
    np.testing.assert_allclose(few.loss_curve_, dense.loss_curve_, rtol=1e-12)
    assert (few.predict(container(thin)) == dense.predict(thin)).all()


# -- scikit-learn's classes -------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", [*EVERY, "counts"])
def test_estimators_go_to_scikit_learn_and_back(kind, activation):
    parameters = {"activation": activation, "hidden_layer_sizes": (7, 5)}
    if kind == "counts":
        parameters["loss"] = "poisson"
    y = targets(kind, SUMS)
    own = made(kind, parameters)
    theirs = fitted(of_sklearn(kind)(max_iter=5, random_state=1, **parameters), X, y)
    theirs_too = own.to_sklearn()
    for here, there in ((own, theirs_too), (of_fastnn(kind).from_sklearn(theirs), theirs)):
        if kind in CLASSES:
            assert (here.predict(X) == there.predict(X)).all()
            np.testing.assert_allclose(here.predict_proba(X), there.predict_proba(X), atol=1e-14)
        else:
            np.testing.assert_allclose(here.predict(X), there.predict(X), rtol=1e-10, atol=1e-12)
        for name in ("loss_curve_", "n_iter_", "t_", "n_layers_", "out_activation_", "best_loss_"):
            assert getattr(here, name) == getattr(there, name)
        known = there.get_params()
        assert {name: here.get_params()[name] for name in known} == known
    back = of_fastnn(kind).from_sklearn(own.to_sklearn())
    for _ in range(3):  # with a new state of the optimizer on both sides
        assert back.partial_fit(X, y).loss_ == pytest.approx(theirs_too.partial_fit(X, y).loss_)


@pytest.mark.parametrize(("kind", "parameters", "word"), [
    ("four", {"normalization": "layer"}, "LayerNorm"), ("four", {"activation": "gelu"}, "gelu"),
    ("four", {"activation": ["relu", "tanh"], "hidden_layer_sizes": (3, 3)}, "different"),
    ("number", {"output_activation": "tanh"}, "tanh"), ("two", {"loss": "hinge"}, "hinge"),
    ("two", {"loss": "cross_entropy"}, "cross_entropy with 2 outputs"),
    ("number", {"loss": "gaussian_nll"}, "gaussian_nll"),
])  # fmt: skip
def test_what_scikit_learn_lacks_is_refused(kind, parameters, word):
    with pytest.raises(ValueError, match=f"scikit-learn's MLP has no .*{word}"):
        made(kind, parameters).to_sklearn()


def test_what_matters_in_training_alone_is_left_out_with_a_warning():
    estimator = made("two", {"dropout": 0.3, "class_weight": "balanced", "loss": "focal"})
    with pytest.warns(UserWarning, match="has no such dropout, class_weight, loss"):
        there = estimator.to_sklearn()
    np.testing.assert_allclose(there.predict_proba(X), estimator.predict_proba(X), atol=1e-14)


def test_from_sklearn_takes_fitted_estimators_of_the_same_kind():
    with pytest.raises(TypeError, match=r"takes a fitted MLPClassifier of scikit-learn, not"):
        fastnn.MLPClassifier.from_sklearn(sklearn.neural_network.MLPRegressor())
    with pytest.raises(NotFittedError):
        fastnn.MLPRegressor.from_sklearn(sklearn.neural_network.MLPRegressor())
