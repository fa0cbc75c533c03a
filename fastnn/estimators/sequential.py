"""Any stack of layers as an estimator: SequentialClassifier and SequentialRegressor."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target

from .. import losses
from ..losses import LossFunction
from ..model import Sequential
from ..tables import Loss
from ..targets import LABELS, SIGNS, VALUES
from .base import NetworkClassifier, NetworkRegressor
from .fit_callbacks import followed
from .stack import SequentialEstimator


class SequentialClassifier(NetworkClassifier, SequentialEstimator):
    """A classifier of any layers, with any loss, optimizer and schedule.

    All arguments but `layers`, those about validation and the last ones are those of
    :class:`fastnn.Sequential` and of its `fit`, which say more about each.

    Parameters
    ----------
    layers : list of Layer or callable, optional
        From input to output. The last layer has one unit for each class, or one unit for two
        classes; for rows of 0 and 1 one for each column. A function of (n_inputs, n_outputs)
        returns the list; its other arguments can be set as ``layers__name``. By default one hidden
        layer of 100 ReLU units. The list is never changed.
    loss : str or loss, default "auto"
        "auto" is the cross-entropy, with a sigmoid if there is one output or if several labels may
        apply to a row, else with a softmax.
    optimizer : str or Optimizer, default "adam"
    epochs : int, optional
        By default 10, unless `steps` or `seconds` limits the fit.
    batch_size : int, None or "auto", default "auto"
        "auto" is 32, or all rows for LBFGS.
    steps : int, optional
    seconds : float, optional
    accumulate : int, default 1
    schedule : Schedule, callable or array_like, optional
    metrics : iterable of str, callable or Metric, optional
        What `history_` has of the validation rows besides loss and accuracy. A function gets the
        positions of the labels in ``classes_``.
    early_stopping : int or EarlyStopping, optional
        A patience in epochs, or more.
    validation_fraction : float, optional
        Fraction of the rows that is put aside for validation if `fit` is given no other rows for
        it. By default 0.1 where early stopping or metrics need it, else 0.
    class_weight : dict or "balanced", optional
        Weights by label, which is 1 for a label that the dict lacks.
    callbacks : callback or list of them, optional
        Those of :class:`fastnn.Callback` and functions; with scikit-learn 1.9 also its own, such
        as ProgressBar, which `set_callbacks` takes as well.
    shuffle : bool or callable, default True
    augment : callable or list of them, optional
        What changes batches at random: see :mod:`fastnn.augmentation`.
    freeze : iterable of int or str
    ema : float or EMA, optional
    swa : int, float or SWA, optional
    l1, l2 : float, default 0
    penalties : {"full", "per_row"}
    input_scale : float, default 1
    random_state : int, RandomState or None
        An int is the seed of the network; the others draw one for every fit.
    warm_start : bool, default False
        Whether `fit` goes on from the last one, with its network and optimizer.
    verbose : bool, default False
        Whether a progress bar is shown.
    engine : {"c", "numba", "numpy"}, optional
    n_threads : int, optional
        Most threads of a fit or prediction.
    dtype : {"float32", "float64"}, default "float32"

    Attributes
    ----------
    net_ : Sequential
        The trained network, whose classes are the positions of the labels in ``classes_``.
    classes_ : ndarray
    n_outputs_, n_features_in_, n_iter_ : int
        Units of the last layer, features, and epochs of all fits that went on from each other.
    feature_names_in_ : ndarray of str
        If X had such names.
    history_ : History
        Of the last fit.
    loss_curve_, validation_curve_ : list of float
        The loss of each epoch, on the training and on the validation rows.

    Raises
    ------
    ValueError, TypeError
        In `fit`, if an argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from fastnn import Dense, SequentialClassifier
    >>> X = np.random.default_rng(0).uniform(-1, 1, (80, 1))
    >>> y = np.where(np.abs(X[:, 0]) < 0.5, "in", "out")
    >>> net = SequentialClassifier([Dense(16, "tanh"), Dense(1)], epochs=40, random_state=0)
    >>> grid = {"optimizer__lr": [1e-5, 0.05], "layers__0__units": [4, 8]}
    >>> GridSearchCV(net, grid, cv=2).fit(X, y).best_params_["optimizer__lr"]
    0.05
    """

    def __init__(
        self, layers=None, *, loss="auto", optimizer="adam", epochs=None, batch_size="auto",
        steps=None, seconds=None, accumulate=1, schedule=None, metrics=(), early_stopping=None,
        validation_fraction=None, class_weight=None, callbacks=None, shuffle=True, augment=None,
        freeze=(), ema=None, swa=None, l1=0.0, l2=0.0, penalties="full", input_scale=1.0,
        random_state=None, warm_start=False, verbose=False, engine=None, n_threads=None,
        dtype="float32",
    ):  # fmt: skip
        self._keep(locals())

    @followed
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels, or rows of 0 and 1 if several labels may apply to a row.
        sample_weight : array-like of shape (n_samples,), optional
        X_val, y_val : like X and y, optional
            Rows for validation after every epoch.

        Returns
        -------
        SequentialClassifier
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If an argument, or a parameter of the estimator, is invalid.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val))

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train one epoch on some rows, from where the last call or fit has ended.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
        classes : array-like, optional
            All labels; the first call needs them, unless several may apply to a row.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        SequentialClassifier
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If an argument, or a parameter of the estimator, is invalid.
        """
        return self._partial_fit(X, y, sample_weight, classes)

    def _check_first_part(self, y, classes) -> None:
        several = type_of_target(y).startswith("multilabel")
        if classes is None and not several:
            raise ValueError("classes must be passed on the first call to partial_fit.")

    def _prepared(self, X, y, goes_on: bool, classes=None) -> Sequential:
        """The network to train: the present one, or a new one for these targets."""
        if goes_on:
            if classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                    f"{self.classes_!r}"
                )
            return self.net_
        self._learn_classes(y, classes)
        n_classes, loss = len(self.classes_), self._given_loss()
        choices: tuple[int, ...]
        if self._is_multilabel or n_classes > 2:
            choices = (n_classes,)
        elif loss is not None and loss.code in SIGNS - {Loss.binary_cross_entropy}:
            choices = (1,)
        else:
            takes_one = loss is None or loss.code in LABELS[False] | VALUES
            choices = (1, 2) if takes_one else (2,)
        net = self._network(X.shape[1], choices[0], choices)
        self.n_outputs_ = net.n_outputs
        return net

    def _described_targets(self, n_outputs: int) -> str:
        if self._is_multilabel:
            return f"y has {len(self.classes_)} columns of 0 and 1"
        return f"y has {len(self.classes_)} class{'es' * (len(self.classes_) != 1)}"

    def _chosen_loss(self) -> LossFunction:
        given = self._given_loss()
        if given is not None:
            return given
        single = self._is_multilabel or self.n_outputs_ == 1
        return losses.binary_cross_entropy if single else losses.cross_entropy

    def _targets(self, y, what: str = "y") -> np.ndarray:
        """The labels as the network is trained on them."""
        loss = self._chosen_loss()
        found = self._encoded(y, loss, what)
        if loss.code == Loss.custom and self.n_outputs_ == 1:
            return found == 1  # numbers would be values for a loss of the user's own
        return found

    def _options(self, y, sample_weight):
        options = super()._options(y, sample_weight)
        loss = options["loss"]
        if not (self._is_multilabel or self._takes_columns(loss)):
            classes = np.arange(max(2, len(self.classes_)))
            if loss.code == Loss.custom and self.n_outputs_ == 1:
                options["classes"] = classes == 1
            elif not (loss.code in VALUES and self.n_outputs_ == 1):  # which learns 0 and 1
                options["classes"] = classes
        return options

    def _weights(self, y, sample_weight):
        """The weights of the rows times those of their classes."""
        return self._with_class_weights(y, super()._weights(y, sample_weight))

    # -- prediction ---------------------------------------------------------------------------

    def _loss_of_probabilities(self):
        if "net_" in self.__dict__:
            return super()._loss_of_probabilities()
        try:
            return self._given_loss(), 1
        except (TypeError, ValueError):
            return None, 1  # fit says what is wrong with it

    def decision_function(self, X) -> np.ndarray:
        """The outputs of the last layer: the largest, or the sign of the only one, decides.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes one number, which is positive for the second.
        """
        return self._decision(X)


class SequentialRegressor(NetworkRegressor, SequentialEstimator):
    """A regressor of any layers, with any loss, optimizer and schedule.

    Parameters
    ----------
    layers : list of Layer or callable, optional
        From input to output. The last layer has one unit for each column of y; for
        ``gaussian_nll`` two, and for several quantiles as many. A function of (n_inputs,
        n_outputs) returns the list; its other arguments can be set as ``layers__name``. By
        default one hidden layer of 100 ReLU units. The list is never changed.
    loss : str or loss, default "auto"
        "auto" is the mean squared error.
    optimizer, epochs, batch_size, steps, seconds, accumulate, schedule, metrics, early_stopping, \
validation_fraction, callbacks, shuffle, augment, freeze, ema, swa, l1, l2, penalties, \
input_scale, random_state, warm_start, verbose, engine, n_threads, dtype
        As for :class:`fastnn.SequentialClassifier`.

    Attributes
    ----------
    net_ : Sequential
    n_outputs_, n_features_in_, n_iter_ : int
        Units of the last layer, features, and epochs of all fits that went on from each other.
    feature_names_in_ : ndarray of str
        If X had such names.
    history_ : History
        Of the last fit.
    loss_curve_, validation_curve_ : list of float
        The loss of each epoch, on the training and on the validation rows.

    Raises
    ------
    ValueError, TypeError
        In `fit`, if an argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Adam, Dense, SequentialRegressor
    >>> from fastnn.losses import Quantile
    >>> X = np.linspace(-1, 1, 80)[:, None]
    >>> y = X[:, 0] ** 2
    >>> net = SequentialRegressor([Dense(16, "tanh"), Dense(3)], loss=Quantile([0.1, 0.5, 0.9]),
    ...                           optimizer=Adam(0.01), epochs=200, random_state=0)
    >>> net.fit(X, y).score(X, y) > 0.9
    True
    >>> net.predict_quantiles(X).shape
    (80, 3)
    """

    def __init__(
        self, layers=None, *, loss="auto", optimizer="adam", epochs=None, batch_size="auto",
        steps=None, seconds=None, accumulate=1, schedule=None, metrics=(), early_stopping=None,
        validation_fraction=None, callbacks=None, shuffle=True, augment=None, freeze=(), ema=None,
        swa=None, l1=0.0, l2=0.0, penalties="full", input_scale=1.0, random_state=None,
        warm_start=False, verbose=False, engine=None, n_threads=None, dtype="float32",
    ):  # fmt: skip
        self._keep(locals())

    _checks_of_y: ClassVar[dict[str, Any]] = {"y_numeric": True}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @followed
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional
        X_val, y_val : like X and y, optional
            Rows for validation after every epoch.

        Returns
        -------
        SequentialRegressor
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If an argument, or a parameter of the estimator, is invalid.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val))

    def partial_fit(self, X, y, sample_weight=None):
        """Train one epoch on some rows, from where the last call or fit has ended.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        SequentialRegressor
            The estimator.

        Raises
        ------
        ValueError, TypeError
            If an argument, or a parameter of the estimator, is invalid.
        """
        return self._partial_fit(X, y, sample_weight)

    def _prepared(self, X, y, goes_on: bool, classes=None) -> Sequential:
        """The network to train: the present one, or a new one for these targets."""
        if goes_on:
            return self.net_
        n_outputs = (1 if y.ndim == 1 else y.shape[1]) * self._chosen_loss().n_per_target
        return self._network(X.shape[1], n_outputs, (n_outputs,))

    def _described_targets(self, n_outputs: int) -> str:
        each = self._chosen_loss().n_per_target
        n_columns = n_outputs // each
        columns = f"y has {n_columns} column{'s' * (n_columns != 1)}"
        return columns if each == 1 else f"{columns}, each with {each} outputs of the loss"

    def _chosen_loss(self) -> LossFunction:
        return self._given_loss() or losses.mse

    def _targets(self, y, what: str = "y") -> np.ndarray:
        return y

    # -- prediction ---------------------------------------------------------------------------

    def predict(self, X, return_std=False):
        """The values, in the form of y: one for each target, whatever the loss has of it.

        It is the mean for ``gaussian_nll``, and of several quantiles the one next to the median.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        return_std : bool, default False
            For ``gaussian_nll``: also the standard deviations.

        Returns
        -------
        values : ndarray of shape (n_samples,) or (n_samples, n_targets)
        deviations : ndarray of the same shape
            Where `return_std` is True.

        Raises
        ------
        NotFittedError, ValueError
            Before `fit`, if X does not fit, or if `return_std` is True for a loss without variance.
        """
        if not return_std:
            return super().predict(X)
        loss = self._fitted_loss()
        if loss.code != Loss.gaussian_nll:
            raise ValueError(
                f"return_std needs the loss 'gaussian_nll', but the loss is {loss.name}"
            )
        means, variances = np.split(self._outputs(X, "mean_variance"), 2, axis=1)
        deviations = np.sqrt(variances)
        if means.shape[1] == 1:
            return means[:, 0], deviations[:, 0]
        return means, deviations

    def _shaped(self, values, loss):
        if loss.quantiles:
            middle = int(np.argmin(np.abs(np.array(loss.quantiles) - 0.5)))
            values = values[:, middle :: loss.n_per_target]
        return super()._shaped(values, loss)

    def _has_quantiles(self) -> bool:
        try:
            loss = self._chosen_loss()
        except (TypeError, ValueError):
            return True
        if loss.code == Loss.quantile:
            return True
        raise AttributeError(f"the loss {loss.name} has no quantiles: use losses.Quantile")

    @available_if(_has_quantiles)
    def predict_quantiles(self, X) -> np.ndarray:
        """All quantiles; only for the loss :class:`fastnn.losses.Quantile`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles) or (n_samples, n_targets, n_quantiles)
            Three dimensions where y has several columns.
        """
        found, each = self._outputs(X, "output"), self._fitted_loss().n_per_target
        return found if found.shape[1] == each else found.reshape(len(found), -1, each)
