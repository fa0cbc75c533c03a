"""Fitted estimators to and from scikit-learn's, with equal predictions."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from ..layers import Dense
from ..losses import LossFunction
from ..ops.loss import output_function
from ..stochastic import Dropout
from ..tables import Act, Loss

if TYPE_CHECKING:
    from .perceptron import Perceptron

#: scikit-learn's names of the activations that it has.
_ACTIVATIONS = {
    Act.identity: "identity", Act.sigmoid: "logistic", Act.tanh: "tanh", Act.relu: "relu",
}  # fmt: skip

#: What both sides keep of a fit, as they are.
_SHARED = (
    "n_features_in_", "feature_names_in_", "n_iter_", "t_", "loss_", "best_loss_",
    "best_validation_score_", "_no_improvement_count",
)  # fmt: skip
_LISTS = ("loss_curve_", "validation_scores_")

#: Parameters that scikit-learn lacks and that matter in training alone.
_OF_TRAINING = ("dropout", "optimizer", "schedule", "class_weight", "callbacks")


def to_sklearn(estimator: Perceptron) -> MLPClassifier | MLPRegressor:
    """scikit-learn's estimator of the same kind with a copy of the weights.

    Raises
    ------
    NotFittedError
        Before `fit`.
    ValueError
        If scikit-learn has no such network.

    Warns
    -----
    UserWarning
        If a parameter that matters in training alone is left out.
    """
    check_is_fitted(estimator)
    made = MLPClassifier() if is_classifier(estimator) else MLPRegressor()
    parameters = {name: getattr(estimator, name) for name in made.get_params()}
    parameters["activation"] = _activation(estimator)
    if "loss" in parameters:
        parameters["loss"] = "poisson" if estimator.out_activation_ == "exp" else "squared_error"
    made.set_params(**parameters)
    _copy_attributes(estimator, made)
    made.coefs_ = [W.copy() for W in estimator.coefs_]
    made.intercepts_ = [b.copy() for b in estimator.intercepts_]
    made._best_coefs = [W.copy() for W in made.coefs_]
    made._best_intercepts = [b.copy() for b in made.intercepts_]
    made.n_layers_, made.n_outputs_ = len(made.coefs_) + 1, made.coefs_[-1].shape[1]
    made.out_activation_ = estimator.out_activation_
    if is_classifier(estimator):
        made.classes_ = estimator.classes_
        made._label_binarizer = _label_binarizer(estimator)
    _warn_of_what_is_lost(estimator)
    return made


def _activation(estimator: Perceptron) -> str:
    """The one activation of all hidden layers, by scikit-learn's name.

    Raises
    ------
    ValueError
        If what the network computes is not what one of scikit-learn's can.
    """
    net, loss = estimator.net_, estimator._fitted_loss()
    layers = [layer for layer in net.layers if not isinstance(layer, Dropout)]
    normal = [layer for layer in layers if not isinstance(layer, Dense)]
    if normal:
        raise _cannot("normalization", f"a {type(normal[0]).__name__}")
    codes = {layer.activation.code for layer in layers[:-1]}
    if len(codes) > 1:
        raise _cannot("activation", f"{len(codes)} different activations of the hidden layers")
    code = codes.pop() if codes else Act.relu
    if code not in _ACTIVATIONS:
        raise _cannot("activation", code.name)
    last = layers[-1].activation.code
    if last != Act.identity:
        raise _cannot("output_activation", last.name)
    if not _has_such_outputs(estimator, loss):
        raise _cannot("loss", f"{loss.name} with {net.n_outputs} outputs")
    return _ACTIVATIONS[code]


def _has_such_outputs(estimator: Perceptron, loss: LossFunction) -> bool:
    """Whether scikit-learn makes the same predictions of the outputs."""
    n_outputs = estimator.net_.n_outputs
    function = output_function(loss.code, n_outputs)
    if not is_classifier(estimator):
        return function in (None, "exp")
    several = len(estimator.classes_) > 2 and not estimator._is_multilabel  # type: ignore[attr-defined]
    return function == ("softmax" if several else "sigmoid")


def _cannot(parameter: str, what: str) -> ValueError:
    return ValueError(
        f"scikit-learn's MLP has no {what}: to_sklearn needs a network fitted with another "
        f"{parameter}"
    )


def _label_binarizer(estimator: Any) -> LabelBinarizer:
    classes = estimator.classes_
    if not estimator._is_multilabel:
        return LabelBinarizer().fit(classes)
    # Two rows with several ones each say that y has such columns.
    return LabelBinarizer().fit(np.array([[1] * len(classes), [0] * len(classes)]))


def _warn_of_what_is_lost(estimator: Perceptron) -> None:
    defaults = inspect.signature(type(estimator)).parameters
    lost = [
        name for name in _OF_TRAINING
        if name in defaults and getattr(estimator, name) != defaults[name].default
    ]  # fmt: skip
    expected = {Loss.squared_error, Loss.poisson, Loss.binary_cross_entropy, Loss.cross_entropy}
    if estimator._fitted_loss().code not in expected:
        lost.append("loss")
    if lost:
        warnings.warn(
            f"scikit-learn's MLP has no such {', '.join(lost)}: its predictions are the same, but "
            "a further fit would train in another way",
            stacklevel=4,
        )


def _copy_attributes(source: Any, made: Any) -> None:
    for name in _SHARED:
        if hasattr(source, name):
            setattr(made, name, getattr(source, name))
    for name in _LISTS:
        value = getattr(source, name, None)
        setattr(made, name, None if value is None else [float(one) for one in value])


def from_sklearn(kind: type, estimator) -> Perceptron:
    """An estimator of `kind` with the parameters and a copy of the weights of scikit-learn's.

    Raises
    ------
    TypeError
        If it is no estimator of that kind.
    NotFittedError
        If it has not been fitted.
    """
    theirs = MLPClassifier if issubclass(kind, ClassifierMixin) else MLPRegressor
    if not isinstance(estimator, theirs):
        raise TypeError(
            f"{kind.__name__}.from_sklearn takes a fitted {theirs.__name__} of scikit-learn, not "
            f"{estimator!r}"
        )
    check_is_fitted(estimator)
    known = inspect.signature(kind).parameters
    made: Any = kind(**{k: v for k, v in estimator.get_params().items() if k in known})
    made.n_features_in_ = estimator.n_features_in_
    if is_classifier(estimator):
        made.classes_ = estimator.classes_
        made._is_multilabel = estimator._label_binarizer.y_type_.startswith("multilabel")
    loss, n_outputs = made._loss_to_fit(np.zeros((1, estimator.n_outputs_)))
    dtype = np.result_type(*estimator.coefs_, np.float32)
    made.net_ = made._new_net(loss, n_outputs, dtype, None, draws_weights=False)
    made._begin_attributes(loss)
    _copy_attributes(estimator, made)
    made.loss_curve_ = made.loss_curve_ or []
    made.coefs_, made.intercepts_ = estimator.coefs_, estimator.intercepts_
    return made
