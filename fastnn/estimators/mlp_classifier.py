"""MLPClassifier: a multilayer perceptron for classes, with the interface of scikit-learn's."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import check_array, column_or_1d

from .. import losses
from ..losses import LossFunction
from ..tables import Loss
from ..targets import CLASSES, SIGNS
from .base import NetworkClassifier
from .fit_callbacks import followed
from .perceptron import Perceptron, check_partial_fit

#: Losses that a classifier learns classes by; those among them of which two classes take two
#: outputs.
_OF_CLASSES = CLASSES | SIGNS | {Loss.mse, Loss.sse, Loss.squared_error, Loss.custom}
_TWO_OUTPUTS = {Loss.cross_entropy, Loss.mse, Loss.sse, Loss.squared_error}


def _lacks_probabilities(estimator) -> bool:
    """Whether decisions are all that a classifier gives; else an AttributeError."""
    if not hasattr(estimator, "predict_proba"):
        return True
    raise AttributeError("the loss gives probabilities: use predict_proba")


class MLPClassifier(NetworkClassifier, Perceptron):
    """A multilayer perceptron that predicts classes, with scikit-learn's interface.

    Parameters, attributes, errors and, for an int as `random_state`, the network itself are those
    of ``sklearn.neural_network.MLPClassifier``; those from `dropout` on are fastnn's own. Labels
    of y may be of any type; a y of rows of 0 and 1 says which of several labels apply.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Units of each hidden layer; an int is one layer.
    activation : str, activation or list of these, default="relu"
        "identity", "logistic", "tanh", "relu", or one of :mod:`fastnn.activations`, by name or as
        an object; a list has one for each hidden layer.
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
        How it is trained: by L-BFGS on all rows at once, by gradient descent with momentum, or by
        Adam.
    alpha : float, default=0.0001
        Strength of the penalty on the weights: alpha / 2 times the sum of their squares is added
        to the losses of a minibatch's rows, before these are divided by the number of rows.
    batch_size : int or "auto", default="auto"
        Rows of a minibatch; "auto" is 200, or all rows if there are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        For "sgd" and for `optimizer`: "invscaling" divides the rate by the power `power_t` of the
        number of rows seen; "adaptive" divides it by 5 whenever the stopping rule would end the
        fit, which it does once the rate is at most 1e-6.
    learning_rate_init : float, default=0.001
        The learning rate, also that of an `optimizer` given by name.
    power_t : float, default=0.5
        The exponent of "invscaling".
    max_iter : int, default=200
        Most epochs, or iterations of L-BFGS.
    shuffle : bool, default=True
        Whether every epoch takes the rows in another order.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the validation rows, the orders and dropout. An int gives
        the network that scikit-learn's class gives for it, to rounding.
    tol : float, default=1e-4
        An epoch is an improvement if its loss is lower, or its validation score higher, by more
        than this. For L-BFGS the largest element of the gradient at which it has converged.
    verbose : bool or int, default=False
        Whether each epoch prints a line.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the last fit.
    momentum : float, default=0.9
        The momentum of "sgd", from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether it is Nesterov's.
    early_stopping : bool, default=False
        Whether what has to improve is the score of validation rows in place of the training loss.
        The weights of the best epoch are kept then.
    validation_fraction : float, default=0.1
        The fraction of the rows that `early_stopping` sets aside, unless `fit` gets X_val.
    beta_1, beta_2 : float, default=0.9 and 0.999
        Adam's decay rates, from 0 to below 1.
    epsilon : float, default=1e-8
        Added to the square root in Adam's denominator.
    n_iter_no_change : int, default=10
        Epochs without improvement after which the fit ends.
    max_fun : int, default=15000
        Most passes over the rows of L-BFGS.
    dropout : float or list of float, default=0.0
        The probability with which a hidden unit is left out of a step; a list has one for each
        hidden layer.
    normalization : {"batch", "layer"} or None, default=None
        A :class:`BatchNorm` or :class:`LayerNorm` before each hidden activation.
    output_activation : str or activation, default="auto"
        An activation of the outputs for losses that contain none. "auto" is none.
    loss : str or loss, default="log_loss"
        What is minimised: "log_loss" is the cross entropy, of one output for two classes. Also a
        loss of :mod:`fastnn.losses` for classes, by name or as an object.
    optimizer : str or Optimizer, default=None
        In place of `solver`: a name such as "adamw" with the rate `learning_rate_init`, or an
        object with its own, such as ``AdamW(0.003)``.
    schedule : Schedule, callable or array-like, default=None
        Factors of the learning rate for each step: see :mod:`fastnn.schedules`.
    class_weight : dict, "balanced" or None, default=None
        A weight for each class, which multiplies the sample weights of its rows; a class that the
        dict lacks has 1. "balanced" makes all classes count alike. The scores of validation rows
        are weighted so, too.
    callbacks : Callback, callable or list of these, default=None
        What else runs after steps and epochs: see :class:`fastnn.Callback`.
    n_threads : int, default=None
        The most threads of a fit or prediction; None is :func:`fastnn.get_num_threads`.
    engine : {"auto", "numba", "c", "numpy"}, default=None
        What computes; None is what :func:`fastnn.set_engine` says.
    dtype : {"float32", "float64"}, default=None
        The type of the weights and of all arithmetic. None is float32 for an X of float32, and
        float64 otherwise; "float32" takes about half the time.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted; for rows of 0 and 1 the numbers of the columns.
    coefs_, intercepts_ : list of ndarray
        Weights (n_in, n_out) and biases (n_out,) of each layer: views of the network's, which
        change it. Assigning a list of equal shapes sets them.
    loss_ : float
        The training loss of the last epoch, with the penalty.
    best_loss_ : float or None
        The lowest; None with early stopping and for L-BFGS.
    loss_curve_, validation_curve_ : list of float
        The training loss of each epoch, and the loss of the validation rows if there are any,
        both with the penalty.
    validation_scores_ : list of float or None
        With early stopping, the score of the validation rows after each epoch.
    best_validation_score_ : float or None
        The highest of them.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Rows that training has seen.
    n_layers_, n_outputs_ : int
        Layers with input and output, and outputs of the network.
    out_activation_ : str
        What makes predictions of the last layer's weighted sums.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of str
        The names of the columns, if X was a data frame with names.
    net_ : Sequential
        The network.

    Raises
    ------
    ValueError, TypeError
        In `fit`, if a parameter or an argument is invalid.

    Examples
    --------
    >>> import fastnn
    >>> X, y = [[0.0], [0.1], [0.9], [1.0]], ["no", "no", "yes", "yes"]
    >>> model = fastnn.MLPClassifier((8,), solver="lbfgs", random_state=1).fit(X, y)
    >>> model.predict([[0.0], [1.0]])
    array(['no', 'yes'], dtype='<U3')
    """

    _parameter_constraints: ClassVar[dict] = {
        **Perceptron._parameter_constraints,
        "loss": [str, LossFunction],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        dropout=0.0,
        normalization=None,
        output_activation="auto",
        loss="log_loss",
        optimizer=None,
        schedule=None,
        class_weight=None,
        callbacks=None,
        n_threads=None,
        engine=None,
        dtype=None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.normalization = normalization
        self.output_activation = output_activation
        self.loss = loss
        self.optimizer = optimizer
        self.schedule = schedule
        self.class_weight = class_weight
        self.callbacks = callbacks
        self.n_threads = n_threads
        self.engine = engine
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    @followed
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
        """Train on rows, from new weights or, with `warm_start`, from those of the last fit.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels, or rows of 0 and 1.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, at least 0.
        X_val, y_val : array-like, default=None
            Rows to validate after each epoch; `early_stopping` then sets no others aside.

        Returns
        -------
        MLPClassifier
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or an argument is invalid.
        DivergedError
            If the weights become infinite or NaN.
        """
        return self._fit(X, y, sample_weight, X_val, y_val)

    @available_if(check_partial_fit)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Train one epoch on some rows, going on with the weights and the optimizer's state.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
        sample_weight : array-like of shape (n_samples,), default=None
        classes : array-like of shape (n_classes,), default=None
            All labels that y may hold in any call: needed in the first one, unless y holds rows
            of 0 and 1.

        Returns
        -------
        MLPClassifier
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or an argument is invalid.
        DivergedError
            If the weights become infinite or NaN.
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    _checks: ClassVar[dict[str, Any]] = {}

    @available_if(_lacks_probabilities)
    def decision_function(self, X) -> np.ndarray:
        """The outputs of the last layer: the largest, or the sign of the only one, decides.

        As in scikit-learn's class it does not exist where there are probabilities, which a hinge
        loss or the mean squared error lacks.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes one number, which is positive for the second.

        Raises
        ------
        NotFittedError, ValueError
            Before `fit`, or if X does not fit.
        """
        return self._decision(X)

    def _targets_to_fit(self, y, first, incremental, classes):
        if incremental:
            self._check_classes(y, first, classes)
        elif first:
            self._learn_classes(y)
        elif set(labels := unique_labels(y)) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {labels}"
            )
        return self._encoded_for_net(y)

    def _check_classes(self, y, first: bool, classes) -> None:
        """The argument `classes` of partial_fit."""
        if first:
            multilabel = type_of_target(y).startswith("multilabel")
            if classes is None and not multilabel:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self._learn_classes(y, None if multilabel else unique_labels(classes))
        if classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )

    def _encoded_for_net(self, y, what: str = "y") -> np.ndarray:
        loss = self._chosen_loss()
        encoded = self._encoded(y, loss, what)
        # A loss of the user's takes 0 and 1 for numbers, and False and True for labels.
        is_own = loss.code == Loss.custom and encoded.ndim == 1 and len(self.classes_) <= 2
        return encoded.astype(bool) if is_own else encoded

    def _chosen_loss(self) -> LossFunction:
        """The loss for the classes that are known.

        Raises
        ------
        ValueError
            If it does not learn such classes.
        """
        if isinstance(self.loss, str) and self.loss == "log_loss":
            several = len(self.classes_) > 2 and not self._is_multilabel
            return losses.cross_entropy if several else losses.binary_cross_entropy
        loss = losses.get(self.loss)
        if loss.code not in _OF_CLASSES:
            raise ValueError(
                f"the loss {loss.name} is for numbers, not for classes: use 'log_loss', or an "
                "MLPRegressor"
            )
        if self._is_multilabel and loss.code in CLASSES:
            raise ValueError(
                f"the loss {loss.name} is for one class per row, but y has rows of 0 and 1: use "
                "'log_loss' or 'binary_cross_entropy'"
            )
        return loss

    def _loss_to_fit(self, y):
        loss, n_classes = self._chosen_loss(), len(self.classes_)
        if n_classes > 2 or self._is_multilabel:
            return loss, n_classes
        return loss, 2 if loss.code in _TWO_OUTPUTS else 1

    def _loss_of_probabilities(self):
        try:
            return losses.get(self.loss), 2
        except (TypeError, ValueError):
            return None, 2  # "log_loss", or what fit will refuse

    def _classes_of_net(self):
        if self._is_multilabel:
            return None
        return np.arange(max(2, len(self.classes_)))

    def _classes_to_stratify(self, y):
        return y if y.ndim == 1 and len(self.classes_) <= 2 else None

    def _validation_targets(self, y):
        y = check_array(y, ensure_2d=False, dtype=None, accept_sparse="csr", input_name="y_val")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return self._encoded_for_net(y, "y_val"), self._with_class_weights(y, None)

    def _validation_score(self, rows, loss):
        X, y, weight = rows

        def score(values: dict[str, float]) -> float:
            """The accuracy; the network has counted it, unless there are weights or one class."""
            if weight is None and "val_accuracy" in values and len(self.classes_) > 1:
                return values["val_accuracy"]
            predicted = self._decoded(self.net_._forward(X, loss, "logits"))
            known = y if self._is_multilabel else self._labels_of(y)
            correct = (predicted == known).reshape(len(y), -1).all(axis=1)
            return float(np.average(correct, weights=weight))

        return score

    def _labels_of(self, encoded: np.ndarray) -> np.ndarray:
        if encoded.ndim == 2:
            return self.classes_[encoded.argmax(axis=1)]
        return self.classes_[encoded.astype(np.int64)]
