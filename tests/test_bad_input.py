"""Every mistake gets an error of its own that says what came and what was expected."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import table

import fastnn
from fastnn import (
    SGD,
    Activation,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    GaussianNoise,
    Sequential,
    errors,
    initializers,
    losses,
    schedules,
)

X, Y = table(20)


def net(**arguments):
    return Sequential([Dense(3)], **arguments)


def trained():
    n = net()
    n.fit(X, Y, epochs=1, progress=False)
    return n


def fitted(loss, units):
    n = Sequential([Dense(units)])
    n.fit(X, (Y > 0).astype(float), loss=loss, epochs=1, progress=False)
    return n


def with_nan(value):
    bad = X.copy()
    bad[3, 2] = value
    return bad


FIT = {
    "wrong features": (errors.ShapeError, "7 features, but the network takes 4",
                       lambda: net(n_inputs=4).fit(X, Y)),
    "one row": (errors.ShapeError, r"reshape\(1, -1\)", lambda: net().fit(X[0], Y[:1])),
    "three dimensions": (errors.ShapeError, "not 3-D", lambda: net().fit(X[None], Y)),
    "a number": (errors.ShapeError, "not 0-D", lambda: net().fit(1.0, Y)),
    "ragged rows": (errors.ShapeError, "rectangular", lambda: net().fit([[1, 2], [3]], [0, 1])),
    "lengths": (errors.ShapeError, "X has 20 rows, but y has 19", lambda: net().fit(X, Y[:-1])),
    "no rows": (errors.ShapeError, "empty", lambda: net().fit(X[:0], Y[:0])),
    "no columns": (errors.ShapeError, "empty", lambda: net().fit(X[:, :0], Y)),
    "NaN": (ValueError, r"X\[3, 2\] is nan", lambda: net().fit(with_nan(np.nan), Y)),
    "infinity": (ValueError, r"X\[3, 2\] is -inf", lambda: net().fit(with_nan(-np.inf), Y)),
    "too large": (ValueError, "too large for float32",
                  lambda: net().fit(X.astype(float) * 1e39, Y)),
    "text": (TypeError, "real numbers", lambda: net().fit(X.astype(str), Y)),
    "objects": (TypeError, "converted", lambda: net().fit(np.array([[object()] * 7] * 20), Y)),
    "complex": (TypeError, "real numbers", lambda: net().fit(X.astype(complex), Y)),
    "y NaN": (ValueError, "nan", lambda: Sequential([Dense(1)]).fit(X, np.full(20, np.nan))),
    "y NaN labels": (ValueError, r"y\[0\] is missing", lambda: net().fit(X, np.full(20, np.nan))),
    "y infinity": (ValueError, "inf", lambda: Sequential([Dense(1)]).fit(X, np.full(20, np.inf))),
    "y columns": (errors.ShapeError, "2 columns, but the network has 3 outputs",
                  lambda: net().fit(X, np.ones((20, 2)))),
    "y three dimensions": (errors.ShapeError, "one or two", lambda: net().fit(X, Y[:, None, None])),
    "y of mixed types": (TypeError, "cannot be sorted",
                         lambda: net().fit(X, np.array([1, "a"] * 10, dtype=object))),
    "too many classes": (ValueError, "20 classes, 0, 1, 2, 3, ..., but the network distinguishes 3",
                         lambda: net().fit(X, np.arange(20))),
    "y fractions": (errors.ShapeError, "fractions",
                    lambda: net().fit(X, np.linspace(0, 1, 20))),
    "probabilities": (ValueError, "sum to 1",
                      lambda: net().fit(X, np.full((20, 3), 0.5), loss="cross_entropy")),
    "probability range": (ValueError, r"\[0, 1\]",
                          lambda: net().fit(X, np.full((20, 3), 2), loss="binary_cross_entropy")),
    "one output": (ValueError, "cross_entropy needs an output for each class",
                   lambda: Sequential([Dense(1)]).fit(X, Y, loss="cross_entropy")),
    "double activation": (ValueError, "applies softmax .* itself",
                          lambda: Sequential([Dense(3, "sigmoid")]).fit(X, Y)),
    "unknown loss": (ValueError, "did you mean 'cross_entropy'",
                     lambda: net().fit(X, Y, loss="cros_entropy")),
    "loss object": (TypeError, "loss must be", lambda: net().fit(X, Y, loss=3)),
    "unknown optimizer": (ValueError, "did you mean 'adam'",
                          lambda: net().fit(X, Y, optimizer="adamm")),
    "optimizer class": (TypeError, "optimizer", lambda: net().fit(X, Y, optimizer=Adam)),
    "epochs zero": (ValueError, "epochs must be at least 1", lambda: net().fit(X, Y, epochs=0)),
    "epochs text": (TypeError, "epochs must be a whole", lambda: net().fit(X, Y, epochs="10")),
    "epochs fraction": (TypeError, "epochs", lambda: net().fit(X, Y, epochs=1.5)),
    "epochs true": (TypeError, "epochs", lambda: net().fit(X, Y, epochs=True)),
    "batch negative": (ValueError, "batch_size must be at least 1",
                       lambda: net().fit(X, Y, batch_size=-5)),
    "batch huge": (ValueError, "at most", lambda: net().fit(X, Y, batch_size=2**40)),
    "progress": (ValueError, "progress", lambda: net().fit(X, Y, progress="yes")),
    "shuffle": (TypeError, "shuffle", lambda: net().fit(X, Y, shuffle="no")),
    "validation": (TypeError, "pair", lambda: net().fit(X, Y, validation_data=X)),
    "validation features": (errors.ShapeError, "validation X has 6 features",
                            lambda: net().fit(X, Y, validation_data=(X[:, :6], Y))),
    "validation labels": (ValueError, "validation y contains the label 9",
                          lambda: net().fit(X, Y, validation_data=(X, np.full(20, 9)))),
    "new label": (ValueError, "label 7, which is none", lambda: trained().fit(X, Y + 5)),
    "sparse y": (TypeError, "y is a sparse matrix: only X may be one",
                 lambda: net().fit(X, __import__("scipy").sparse.eye(20))),
    "weights length": (errors.ShapeError, "each of the 20 rows",
                       lambda: net().fit(X, Y, sample_weight=np.ones(19))),
    "weights negative": (ValueError, "sample_weight must be at least 0",
                         lambda: net().fit(X, Y, sample_weight=-np.ones(20))),
    "weights zero": (ValueError, "above 0 for some row",
                     lambda: net().fit(X, Y, sample_weight=np.zeros(20))),
    "weights NaN": (ValueError, r"sample_weight\[0\] is nan",
                    lambda: net().fit(X, Y, sample_weight=np.full(20, np.nan))),
    "weights text": (TypeError, "sample_weight must hold real numbers",
                     lambda: net().fit(X, Y, sample_weight=["a"] * 20)),
    "batch NaN": (TypeError, "batch_size must be a whole number, not nan",
                  lambda: net().fit(X, Y, batch_size=float("nan"))),
    "batch text": (TypeError, "batch_size must be a whole number, not 'all'",
                   lambda: net().fit(X, Y, batch_size="all")),
    "epochs NaN": (TypeError, "epochs must be a whole number, not nan",
                   lambda: net().fit(X, Y, epochs=float("nan"))),
    "epochs negative": (ValueError, "epochs must be at least 1, not -3",
                        lambda: net().fit(X, Y, epochs=-3)),
    "loss class": (TypeError, "loss must be", lambda: net().fit(X, Y, loss=losses.CrossEntropy)),
    "one class only": (ValueError, r"1 classes, 'a', but the network distinguishes 3:",
                       lambda: net().fit(X, ["a"] * 20)),
    "one class, one output": (ValueError, "one unit for two classes",
                              lambda: Sequential([Dense(1)]).fit(X, ["a"] * 20)),
    "dates": (TypeError, "real numbers",
              lambda: net().fit(X.astype("datetime64[s]"), Y)),
    "negative counts": (ValueError, "y holds -1, but poisson takes counts",
                        lambda: net().fit(X, np.full((20, 3), -1), loss="poisson")),
    "negative validation counts": (
        ValueError, "validation y holds -2",
        lambda: Sequential([Dense(1)]).fit(X, Y, loss="poisson", validation_data=(X, Y - 2))),
    "text counts": (TypeError, "y must hold real numbers",
                    lambda: Sequential([Dense(1)]).fit(X, ["a"] * 20, loss="poisson")),
    "text for mae": (TypeError, "y must hold real numbers",
                     lambda: Sequential([Dense(1)]).fit(X, ["a"] * 20, loss="mae")),
    "labels for mae": (errors.ShapeError, "one column, but the network has 3 outputs",
                       lambda: net().fit(X, Y, loss="mae")),
    "three labels for hinge": (ValueError, "hinge separates two classes, but y has 3, 0, 1, 2",
                               lambda: Sequential([Dense(1)]).fit(X, Y, loss="hinge")),
    "one label for hinge": (ValueError, "hinge separates two classes, but y has 1, 'a'",
                            lambda: Sequential([Dense(1)]).fit(X, ["a"] * 20, loss="hinge")),
    "hinge with three outputs": (ValueError, "one output, but the network has 3: give the last",
                                 lambda: net().fit(X, Y, loss="squared_hinge")),
    "hinge of fractions": (errors.ShapeError, "fractions",
                           lambda: Sequential([Dense(1)]).fit(X, X[:, 0], loss="hinge")),
    "columns for hinge": (ValueError, "y must be 0 or 1 for hinge",
                          lambda: net().fit(X, np.full((20, 3), 0.5), loss="hinge")),
    "columns for focal": (ValueError, "rows of y must each hold a single 1",
                          lambda: net().fit(X, np.ones((20, 3)), loss="focal")),
    "fractions for focal": (ValueError, "y must be 0 or 1 for focal",
                            lambda: net().fit(X, np.full((20, 3), 1 / 3), loss="focal")),
    "focal after sigmoid": (ValueError, "applies softmax .* itself",
                            lambda: Sequential([Dense(3, "sigmoid")]).fit(X, Y, loss="focal")),
    "poisson after relu": (ValueError, "applies exp .* activation 'relu'",
                           lambda: Sequential([Dense(1, "relu")]).fit(X, Y, loss="poisson")),
    "normal after softplus": (
        ValueError, "applies exp .* activation 'softplus'",
        lambda: Sequential([Dense(2, "softplus")]).fit(X, X[:, 0], loss="gaussian_nll")),
    "odd outputs": (ValueError, "a mean and the logarithm of a variance for each .* 3 outputs",
                    lambda: net().fit(X, X[:, 0], loss="gaussian_nll")),
    "means without variances": (errors.ShapeError, "2 columns, but .* 2 outputs for 1 column",
                                lambda: Sequential([Dense(2)]).fit(X, X[:, :2], "gaussian_nll")),
    "outputs of quantiles": (ValueError, "2 quantiles for each target, but the network has 3",
                             lambda: net().fit(X, X[:, 0], losses.Quantile([0.1, 0.9]))),
    "columns of quantiles": (errors.ShapeError, "3 columns, but the network has 3 outputs for 1",
                             lambda: net().fit(X, X[:, :3], losses.Quantile([0.1, 0.5, 0.9]))),
    "masked": (ValueError, "masked", lambda: net().fit(np.ma.masked_less(X, 0), Y)),
}  # fmt: skip

USE = {
    "predict before fit": (errors.NotFittedError, "fit", lambda: net().predict(X)),
    "predict before fit, built": (errors.NotFittedError, "fit", lambda: net(n_inputs=7).predict(X)),
    "proba before fit": (errors.NotFittedError, "fit", lambda: net(n_inputs=7).predict_proba(X)),
    "evaluate before fit": (errors.NotFittedError, "fit", lambda: net(n_inputs=7).evaluate(X, Y)),
    "logits before fit": (errors.NotFittedError, "n_inputs", lambda: net().logits(X)),
    "params before fit": (errors.NotFittedError, "n_inputs", lambda: net().flat_params),
    "save before fit": (errors.NotFittedError, "n_inputs", lambda: net().save("x")),
    "no rows to predict": (errors.ShapeError, "empty", lambda: trained().predict(X[:0])),
    "no rows to evaluate": (errors.ShapeError, "empty", lambda: trained().evaluate(X[:0], Y[:0])),
    "trace before fit": (errors.NotFittedError, "n_inputs", lambda: net().trace(X)),
    "trace features": (errors.ShapeError, "6 features", lambda: trained().trace(X[:, :6])),
    "gradient before fit": (errors.NotFittedError, "n_inputs",
                            lambda: net().loss_and_grad(X, Y)),
    "numerical gradient before fit": (errors.NotFittedError, "n_inputs",
                                      lambda: fastnn.numerical_gradient(net(), X, Y)),
    "step of differences": (ValueError, "step must be above 0",
                            lambda: fastnn.check_gradients(trained(), X, Y, step=0)),
    "probabilities of mae": (ValueError, "needs a cross entropy or the focal loss, .* is mae",
                             lambda: fitted("mae", 1).predict_proba(X)),
    "probabilities of hinge": (ValueError, "is hinge: use predict",
                               lambda: fitted("hinge", 1).predict_proba(X)),
    "probabilities of poisson": (ValueError, "is poisson: use predict",
                                 lambda: fitted("poisson", 1).predict_proba(X)),
    "evaluate negative counts": (ValueError, "y holds -1, but poisson",
                                 lambda: fitted("poisson", 1).evaluate(X, np.full(20, -1))),
    "evaluate quantiles": (errors.ShapeError, "2 columns, but the network has 2 outputs for 1",
                           lambda: fitted(losses.Quantile([0.1, 0.9]), 2).evaluate(X, X[:, :2])),
    "predict features": (errors.ShapeError, "6 features", lambda: trained().predict(X[:, :6])),
    "predict NaN": (ValueError, "nan", lambda: trained().predict(with_nan(np.nan))),
    "evaluate label": (ValueError, "label 9", lambda: trained().evaluate(X, np.full(20, 9))),
    "evaluate text": (ValueError, "label 'a'", lambda: trained().evaluate(X, np.full(20, "a"))),
    "evaluate length": (errors.ShapeError, "20 rows", lambda: trained().evaluate(X, Y[1:])),
    "evaluate columns": (errors.ShapeError, "fitted on labels",
                         lambda: trained().evaluate(X, np.eye(3)[Y])),
    "flat size": (errors.ShapeError, r"shape \(24,\), but \(3,\)",
                  lambda: setattr(trained(), "flat_params", [1, 2, 3])),
    "flat NaN": (ValueError, "finite",
                 lambda: setattr(trained(), "flat_params", np.full(24, np.nan))),
    "flat text": (ValueError, "real", lambda: setattr(trained(), "flat_params", ["a"] * 24)),
}  # fmt: skip

MAKE = {
    "units zero": (ValueError, "units must be at least 1", lambda: Dense(0)),
    "units fraction": (TypeError, "units must be a whole number", lambda: Dense(2.5)),
    "units huge": (ValueError, "units must be at most", lambda: Dense(2**40)),
    "activation": (ValueError, "unknown activation 'rellu'; did you mean 'relu'",
                   lambda: Dense(3, "rellu")),
    "activation type": (TypeError, "activation", lambda: Dense(3, 7)),
    "init": (ValueError, "unknown initialiser 'he'; did you mean 'he_normal'",
             lambda: Dense(3, init="he")),
    "bias": (ValueError, "bias_init must be finite", lambda: Dense(3, bias_init=np.inf)),
    "activation class": (TypeError, r"write LeakyReLU\(\)",
                         lambda: Dense(3, fastnn.activations.LeakyReLU)),
    "no activation": (TypeError, "needs a name", lambda: Activation(None)),
    "slope": (ValueError, "slope must be at least 0", lambda: fastnn.activations.LeakyReLU(-1)),
    "alpha": (ValueError, "alpha must be above 0", lambda: fastnn.activations.ELU(0)),
    "l1": (ValueError, "l1 must be at least 0", lambda: Dense(3, l1=-1)),
    "l2": (ValueError, "l2 must be finite", lambda: Dense(3, l2=np.nan)),
    "l2 text": (TypeError, "l2 must be a number", lambda: Dense(3, l2="0.1")),
    "std": (ValueError, "std must be above 0", lambda: initializers.Normal(0)),
    "range": (ValueError, "low must be below high", lambda: initializers.Uniform(1, 1)),
    "mode": (ValueError, "mode must be", lambda: initializers.xavier_normal(mode="fan_out")),
    "init class": (TypeError, "an initialiser is", lambda: Dense(3, init=initializers.Normal)),
    "bias name": (ValueError, "bias_init must be", lambda: Dense(3, bias_init="he_normal")),
    "orthogonal biases": (ValueError, "orthogonal is for weights",
                          lambda: Sequential([Dense(3, bias_init=initializers.orthogonal)],
                                             n_inputs=2)),
    "smoothing": (ValueError, "label_smoothing must be below 1", lambda: losses.CrossEntropy(1)),
    "delta zero": (ValueError, "delta must be above 0", lambda: losses.Huber(0)),
    "delta text": (TypeError, "delta must be a number", lambda: losses.Huber("1")),
    "delta NaN": (ValueError, "delta must be finite", lambda: losses.Huber(np.nan)),
    "gamma negative": (ValueError, "gamma must be at least 0", lambda: losses.Focal(-0.1)),
    "gamma infinite": (ValueError, "gamma must be finite", lambda: losses.Focal(np.inf)),
    "quantile 0": (ValueError, "q must be above 0", lambda: losses.Quantile(0)),
    "quantile 1": (ValueError, "q must be below 1", lambda: losses.Quantile([0.5, 1])),
    "quantile text": (TypeError, "q must be a number", lambda: losses.Quantile("0.5")),
    "quantile None": (TypeError, "q must be a number", lambda: losses.Quantile(None)),
    "quantiles descend": (ValueError, "must ascend", lambda: losses.Quantile([0.5, 0.1])),
    "quantile twice": (ValueError, "each once", lambda: losses.Quantile([0.5, 0.5])),
    "no quantiles": (ValueError, "at least one quantile", lambda: losses.Quantile([])),
    "outputs for a function": (errors.ShapeError, r"\(3, 2\) do not fit .* 2 for each target",
                               lambda: losses.gaussian_nll(np.ones((3, 2)), np.ones((3, 2)))),
    "odd outputs for a function": (ValueError, "has 3 outputs",
                                   lambda: losses.gaussian_nll(np.ones(3), np.ones((3, 3)))),
    "signs for a hinge": (ValueError, "targets of hinge must be 0 or 1",
                          lambda: losses.hinge([-1, 1], [0.5, 0.5])),
    "running share": (ValueError, "momentum must be below 1, not 1.0", lambda: BatchNorm(1)),
    "running share negative": (ValueError, "momentum must be at least 0", lambda: BatchNorm(-0.1)),
    "running share text": (TypeError, "momentum must be a number", lambda: BatchNorm("0.9")),
    "variance": (ValueError, "epsilon must be above 0, not -1", lambda: BatchNorm(epsilon=-1)),
    "variance NaN": (ValueError, "epsilon must be finite", lambda: BatchNorm(epsilon=np.nan)),
    "affine": (TypeError, "affine must be True or False", lambda: BatchNorm(affine=1)),
    "a normalised output": (ValueError, r"last layer must be Dense .*, not BatchNorm\(\)",
                            lambda: Sequential([Dense(3), BatchNorm()])),
    "nesterov": (ValueError, "nesterov needs a momentum", lambda: SGD(0.1, nesterov=True)),
    "nesterov text": (TypeError, "nesterov must be", lambda: SGD(0.1, 0.9, nesterov="yes")),
    "no dense layer": (ValueError, "last layer must be Dense",
                       lambda: Sequential([Activation("relu")])),
    "too many parameters": (ValueError, r"more than 2\*\*48 parameters",
                            lambda: Sequential([Dense(2**31 - 1)], n_inputs=2**31 - 1)),
    "more than memory": (ValueError, "cannot be allocated",
                         lambda: Sequential([Dense(2**22)], n_inputs=2**22)),
    "lr zero": (ValueError, "lr must be above 0", lambda: Adam(0)),
    "lr negative": (ValueError, "lr must be above 0", lambda: SGD(-1)),
    "lr NaN": (ValueError, "lr must be finite", lambda: SGD(float("nan"))),
    "lr text": (TypeError, "lr must be a number", lambda: SGD("0.1")),
    "momentum": (ValueError, "momentum must be below 1", lambda: SGD(0.1, momentum=1)),
    "beta": (ValueError, "beta2 must be below 1", lambda: Adam(0.1, beta2=1.0)),
    "epsilon": (ValueError, "epsilon must be above 0", lambda: Adam(0.1, epsilon=0)),
    "rate one": (ValueError, "rate must be below 1, not 1.0", lambda: Dropout(1)),
    "rate negative": (ValueError, "rate must be at least 0", lambda: Dropout(-0.1)),
    "rate NaN": (ValueError, "rate must be finite, not nan", lambda: Dropout(np.nan)),
    "rate text": (TypeError, "rate must be a number, not '0.5'", lambda: Dropout("0.5")),
    "rate true": (TypeError, "rate must be a number, not True", lambda: Dropout(True)),
    "rate none": (TypeError, "rate must be a number, not None", lambda: Dropout(None)),
    "rate a class": (TypeError, r"write Linear\(...\)", lambda: Dropout(schedules.Linear)),
    "rate another class": (TypeError, "function of the step, not <class 'int'>",
                           lambda: Dropout(int)),
    "scale at": (ValueError, "scale_at must be 'train' or 'test', not 'predict'",
                 lambda: Dropout(0.5, scale_at="predict")),
    "scale at none": (ValueError, "scale_at must be 'train' or 'test', not None",
                      lambda: Dropout(0.5, scale_at=None)),
    "schedule at test": (ValueError, "use scale_at='train'",
                         lambda: Dropout(schedules.Linear(0.5, 0.1, 9), scale_at="test")),
    "schedule to one": (ValueError, "end of a dropout rate must be below 1, not 1.0",
                        lambda: Dropout(schedules.Linear(0.5, 1, 9))),
    "schedule from below": (ValueError, "start of a dropout rate must be at least 0",
                            lambda: Dropout(schedules.Linear(-0.5, 0.1, 9))),
    "schedule start": (TypeError, "start must be a number, not 'a'",
                       lambda: schedules.Linear("a", 0.1, 9)),
    "schedule end": (ValueError, "end must be finite", lambda: schedules.Linear(0, np.inf, 9)),
    "schedule steps": (ValueError, "steps must be at least 1", lambda: schedules.Linear(0, 1, 0)),
    "schedule steps fraction": (TypeError, "steps must be a whole number, not 2.5",
                                lambda: schedules.Linear(0, 1, 2.5)),
    "noise negative": (ValueError, "std must be at least 0, not -1", lambda: GaussianNoise(-1)),
    "noise infinite": (ValueError, "std must be finite, not inf", lambda: GaussianNoise(np.inf)),
    "noise text": (TypeError, "std must be a number, not '1'", lambda: GaussianNoise("1")),
    "dropout last": (ValueError, r"last layer must be Dense .*, not Dropout\(0.5\)",
                     lambda: Sequential([Dense(3), Dropout(0.5)])),
    "rate of a step": (ValueError, "layer 0 must .* below 1, but it is 3.0 in step 0",
                       lambda: Sequential([Dropout(lambda step: 3), Dense(3)]).fit(X, Y)),
    "step negative": (ValueError, "step must be at least 0, not -1",
                      lambda: net(n_inputs=7).loss_and_grad(X, Y, step=-1)),
    "no layers": (ValueError, "at least one layer", lambda: Sequential([])),
    "no list": (TypeError, "list of layers", lambda: Sequential(5)),
    "a class": (TypeError, r"write Dense\(...\)", lambda: Sequential([Dense])),
    "a size": (TypeError, "layers such as Dense", lambda: Sequential([10, 5])),
    "seed text": (TypeError, "seed", lambda: net(seed="a")),
    "seed negative": (ValueError, "seed", lambda: net(seed=-1)),
    "dtype": (ValueError, "dtype must be", lambda: net(dtype="float16")),
    "dtype nonsense": (ValueError, "dtype must be", lambda: net(dtype="single precision")),
    "n_inputs": (ValueError, "n_inputs must be at least 1", lambda: net(n_inputs=0)),
    "engine": (ValueError, "unknown engine 'nunba'; did you mean 'numba'",
               lambda: fastnn.set_engine("nunba")),
    "engine type": (TypeError, "engine", lambda: fastnn.set_engine(3)),
    "threads zero": (ValueError, "at least 1", lambda: fastnn.set_num_threads(0)),
    "threads text": (ValueError, "whole number", lambda: fastnn.set_num_threads("many")),
    "threads fraction": (TypeError, "whole number", lambda: fastnn.set_num_threads(1.5)),
}  # fmt: skip

ALL = {**FIT, **USE, **MAKE}


@pytest.mark.parametrize("name", ALL)
def test_a_mistake_is_named(name):
    kind, message, act = ALL[name]
    with pytest.raises(kind, match=message) as caught:
        act()
    assert isinstance(caught.value, ValueError | TypeError)


def test_messages_differ():
    texts = {}
    for name, (_, _, act) in ALL.items():
        try:
            act()
        except (ValueError, TypeError) as error:
            texts[name] = str(error)
    assert len(texts) == len(ALL)
    assert all(len(text) > 10 for text in texts.values())


REFUSED = [
    {"epochs": 0}, {"batch_size": 0}, {"loss": "luck"}, {"optimizer": "luck"}, {"y": Y[1:]},
    {"X": with_nan(np.nan)}, {"X": X[:, 1:]}, {"y": Y + 5}, {"y": np.eye(3)[Y]},
    {"validation_data": (X, Y[1:])}, {"progress": 3},
]  # fmt: skip


@pytest.mark.parametrize("arguments", REFUSED, ids=lambda arguments: "".join(arguments))
def test_a_refused_fit_changes_nothing(arguments):
    """A network that was trained is as before, and one that was not takes any table."""
    n = trained()
    twin = trained()
    with pytest.raises((ValueError, TypeError)):
        n.fit(**{"X": X, "y": Y, "epochs": 1, **arguments})
    for network in (n, twin):
        network.fit(X, Y, epochs=2, progress=False)
    np.testing.assert_array_equal(n.flat_params, twin.flat_params)


GOOD = {
    "float64": X.astype(np.float64), "float16": np.round(X, 1).astype(np.float16),
    "integers": np.round(X).astype(np.int16), "bytes": np.abs(np.round(X)).astype(np.uint8),
    "booleans": X > 0, "big-endian": X.astype(">f4"), "Fortran": np.asfortranarray(X),
    "strided": np.repeat(X, 2, axis=1)[:, ::2], "reversed": X[::-1].copy()[::-1],
    "lists": X.tolist(), "objects": X.astype(object), "unmasked": np.ma.array(X),
}  # fmt: skip


def test_memory_mapped_rows(engine, tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    n, expected = net(), net()
    n.fit(mapped, Y, epochs=2, progress=False)
    expected.fit(X, Y, epochs=2, progress=False)
    np.testing.assert_array_equal(n.flat_params, expected.flat_params)


@pytest.mark.parametrize("name", GOOD)
def test_any_array_of_numbers_is_taken_and_left_alone(engine, name):
    values = GOOD[name]
    if isinstance(values, np.ndarray):
        values.flags.writeable = False
    plain = np.ascontiguousarray(np.asarray(values, dtype=np.float32))
    n = net()
    n.fit(values, Y, epochs=2, progress=False)
    expected = net()
    expected.fit(plain, Y, epochs=2, progress=False)
    np.testing.assert_array_equal(n.flat_params, expected.flat_params)
    np.testing.assert_array_equal(n.predict_proba(values), expected.predict_proba(plain))


def test_engine_from_the_environment():
    def run(code, engine):
        return subprocess.run(
            [sys.executable, "-c", f"import fastnn; {code}"],
            env={**os.environ, "FASTNN_ENGINE": engine}, capture_output=True, text=True,
        )  # fmt: skip

    best = next(iter(fastnn.engines.available()))
    code = f"print(fastnn.engines.choice())\nwith fastnn.use_engine('{best}'): "
    found = run(code + "print(fastnn.engines.choice())", "numpy")
    assert found.stdout.splitlines() == [
        "('numpy', 'chosen by FASTNN_ENGINE')",
        f"('{best}', 'chosen by use_engine')",
    ]
    found = run("fastnn.Sequential([fastnn.Dense(1)]).fit([[1.0]], [2.0])", "fast")
    assert "ValueError: unknown FASTNN_ENGINE 'fast'" in found.stderr


@pytest.mark.parametrize("missing", [{"numba"}, {"numba", "c"}])
def test_auto_takes_the_best_engine_that_can_run(monkeypatch, missing):
    troubles = dict.fromkeys(missing, "it is not there: install it")
    monkeypatch.setattr(fastnn.engines, "trouble", troubles.get)
    monkeypatch.setattr(fastnn.engines, "_warned", False)
    assert set(fastnn.engines.available()) == {"numba", "c", "numpy"} - missing
    for name in missing:
        with pytest.raises(ValueError, match=f"{name}' cannot run here: it is not there"):
            fastnn.set_engine(name)
    if "c" not in missing:
        assert fastnn.engines.choice()[0] == "c"
        return
    with pytest.warns(RuntimeWarning, match="pip install numba gives the fast one"):
        assert fastnn.engines.choice()[0] == "numpy"
    assert fastnn.engines.choice()[0] == "numpy"  # a second warning would be an error
    assert net().fit(X, Y, epochs=1, progress=False).engine == "numpy"


def test_threads_from_the_environment(monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "1")
    assert fastnn.get_num_threads() == 1
    monkeypatch.setenv("FASTNN_NUM_THREADS", "0")
    with pytest.raises(ValueError, match="at least 1"):
        fastnn.get_num_threads()
    monkeypatch.delenv("FASTNN_NUM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert fastnn.get_num_threads() == 1


@pytest.mark.parametrize("name", ["FASTNN_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
@pytest.mark.parametrize("value", ["²", "2e3", str(2**40), "-1", "four"])
def test_a_number_of_threads_that_is_none_is_named(monkeypatch, name, value):
    for other in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} must be"):
        fastnn.get_num_threads()


@pytest.mark.parametrize("n", [2**40, 2**64, 1025])
def test_more_threads_than_any_machine_has_are_refused(n):
    with pytest.raises(ValueError, match="at most 1024"):
        fastnn.set_num_threads(n)


def test_labels_of_a_small_type_are_all_different():
    """As many classes as the type of y cannot count."""
    labels = np.arange(100, dtype=np.int8)
    net = Sequential([Dense(300)])
    net.fit(np.eye(100), labels, epochs=1, progress=False)
    assert net.classes_.tolist() == list(range(300))
    with pytest.raises(ValueError, match="True or False, but the network distinguishes 3"):
        Sequential([Dense(3)]).fit(np.eye(2), [True, False], progress=False)
