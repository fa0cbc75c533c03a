"""Any stack of layers as an estimator: SequentialClassifier and SequentialRegressor."""

from __future__ import annotations

import numpy as np
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .. import losses
from ..losses import LossFunction
from ..model import Sequential
from ..ops.loss import PROBABILITIES
from ..tables import Loss
from ..targets import LABELS, VALUES
from .base import NetworkClassifier, NetworkRegressor
from .fit_callbacks import followed
from .stack import SequentialEstimator


class SequentialClassifier(SequentialEstimator, NetworkClassifier):
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
    >>> X = np.linspace(-1, 1, 80)[:, None]
    >>> y = np.where(np.abs(X[:, 0]) < 0.5, "in", "out")
    >>> net = SequentialClassifier([Dense(16, "tanh"), Dense(1)], epochs=40, random_state=0)
    >>> search = GridSearchCV(net, {"optimizer__lr": [1e-5, 0.05], "layers__0__units": [4, 8]}, cv=2)
    >>> search.fit(X[::-1], y).best_params_["optimizer__lr"]
    0.05
    """

    def __init__(
        self, layers=None, *, loss="auto", optimizer="adam", epochs=None, batch_size="auto",
        steps=None, seconds=None, accumulate=1, schedule=None, metrics=(), early_stopping=None,
        validation_fraction=None, class_weight=None, callbacks=None, shuffle=True, freeze=(),
        ema=None, swa=None, l1=0.0, l2=0.0, penalties="full", input_scale=1.0, random_state=None,
        warm_start=False, verbose=False, engine=None, n_threads=None, dtype="float32",
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
        if self._is_multilabel:
            n_outputs, choices = y.shape[1], (y.shape[1],)
        elif len(self.classes_) > 2:
            n_outputs, choices = len(self.classes_), (len(self.classes_),)
        else:
            loss = self._given_loss()
            takes_one = loss is None or loss.code in LABELS[False]
            n_outputs, choices = (1, (1, 2)) if takes_one else (2, (2,))
        net = self._network(X.shape[1], n_outputs, choices)
        self.n_outputs_ = net.n_outputs
        return net

    def _described_targets(self) -> str:
        if self._is_multilabel:
            return f"y has {len(self.classes_)} columns of 0 and 1"
        return f"y has {len(self.classes_)} class{'es' * (len(self.classes_) != 1)}"

    def _chosen_loss(self) -> LossFunction:
        """The loss; it is never inferred from the labels of a part of the rows.

        Raises
        ------
        ValueError
            If several labels may apply to a row, but the loss is one for numbers.
        """
        given = self._given_loss()
        if given is None:
            single = self._is_multilabel or self.n_outputs_ == 1
            return losses.binary_cross_entropy if single else losses.cross_entropy
        if self._is_multilabel and given.code in VALUES - {Loss.custom}:
            raise ValueError(
                f"the loss {given.name} takes numbers, but several labels may apply to a row: use "
                "'binary_cross_entropy' or 'hinge'"
            )
        return given

    def _targets(self, y) -> np.ndarray:
        """The labels as the network is trained on them."""
        found = self._encoded(y)
        loss = self._given_loss()
        if loss is not None and loss.code == Loss.custom and self.n_outputs_ == 1:
            return found == 1  # numbers would be values for a loss of the user's own
        return found

    def _options(self, sample_weight):
        options = super()._options(sample_weight) | {"class_weight": self._weights_of_classes()}
        if not self._is_multilabel:
            classes = np.arange(max(2, len(self.classes_)))
            loss = options["loss"]
            is_custom = loss.code == Loss.custom and self.n_outputs_ == 1
            options["classes"] = np.array([False, True]) if is_custom else classes
        return options

    def _weights_of_classes(self):
        """The weights of the classes by what stands for the labels in the network."""
        given = self.class_weight
        if not isinstance(given, dict) or self._is_multilabel:
            return given
        labels = self.classes_
        found = compute_class_weight(given, classes=labels, y=labels)
        return dict(enumerate(np.append(found, np.ones(max(0, 2 - len(labels)))).tolist()))

    # -- prediction ---------------------------------------------------------------------------

    def _has_probabilities(self) -> bool:
        try:
            loss = self._given_loss()
        except (TypeError, ValueError):
            return True  # fit says what is wrong with it
        if loss is None or loss.code in PROBABILITIES:
            return True
        raise AttributeError(
            f"the loss {loss.name} has no probabilities: use a cross-entropy or the focal loss"
        )

    @available_if(_has_probabilities)
    def predict_proba(self, X) -> np.ndarray:
        """The probability of each class; only for the cross-entropies and the focal loss.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            With the columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        return super().predict_proba(X)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X) -> np.ndarray:
        """The logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return super().predict_log_proba(X)

    def decision_function(self, X) -> np.ndarray:
        """The outputs of the last layer, of which the largest, or the sign of the only one, decides.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes one number, which is positive for the second.
        """
        logits = self._outputs(X, "logits")
        if self._is_multilabel or logits.shape[1] > 2:
            return logits
        return logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0)


class SequentialRegressor(SequentialEstimator, NetworkRegressor):
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
validation_fraction, callbacks, shuffle, freeze, ema, swa, l1, l2, penalties, input_scale, \
random_state, warm_start, verbose, engine, n_threads, dtype
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
        validation_fraction=None, callbacks=None, shuffle=True, freeze=(), ema=None, swa=None,
        l1=0.0, l2=0.0, penalties="full", input_scale=1.0, random_state=None, warm_start=False,
        verbose=False, engine=None, n_threads=None, dtype="float32",
    ):  # fmt: skip
        self._keep(locals())

    _checks_of_y = {"y_numeric": True}

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
        self._n_targets = 1 if y.ndim == 1 else y.shape[1]
        self._n_per_target = self._chosen_loss().n_per_target
        n_outputs = self._n_targets * self._n_per_target
        return self._network(X.shape[1], n_outputs, (n_outputs,))

    def _described_targets(self) -> str:
        columns = f"y has {self._n_targets} column{'s' * (self._n_targets != 1)}"
        if self._n_per_target == 1:
            return columns
        return f"{columns}, each with {self._n_per_target} outputs of the loss {self.loss!r}"

    def _chosen_loss(self) -> LossFunction:
        return self._given_loss() or losses.mse

    def _targets(self, y) -> np.ndarray:
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
        ValueError
            If `return_std` is True, but the loss has no variance.
        """
        if not return_std and "net_" in self.__dict__ and self._n_per_target == 1:
            return super().predict(X)
        check_is_fitted(self)
        loss = self.net_._loss
        if return_std and loss.code != Loss.gaussian_nll:
            raise ValueError(
                f"return_std needs the loss 'gaussian_nll', but the loss is {loss.name}"
            )
        found = self._outputs(X, self._output_function)
        if loss.code == Loss.gaussian_nll:
            means, variances = np.split(found, 2, axis=1)
            return (_values(means), _values(np.sqrt(variances))) if return_std else _values(means)
        middle = int(np.argmin(np.abs(np.array(loss.quantiles) - 0.5)))
        return _values(found[:, middle :: self._n_per_target])

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
        found = self._outputs(X, self._output_function)
        if self._n_targets == 1:
            return found
        return found.reshape(len(found), self._n_targets, self._n_per_target)


def _values(columns: np.ndarray) -> np.ndarray:
    """A vector if there is one column."""
    return columns[:, 0] if columns.shape[1] == 1 else columns
