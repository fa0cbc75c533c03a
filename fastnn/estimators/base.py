"""What all estimators have in common: checked inputs, the engine, and what the network predicts."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from .. import engines
from ..engines import threads
from ..model import Sequential

#: Types of the elements of X that are kept; all others become float64, as in scikit-learn.
_FLOATS = (np.float64, np.float32)


class NetworkEstimator(BaseEstimator):
    """Base of the estimators; subclasses have the parameters `engine`, `n_threads` and `dtype`.

    Attributes
    ----------
    net_ : Sequential
        The network, after `fit`.
    n_outputs_ : int
        Outputs of the network.
    """

    net_: Sequential
    n_outputs_: int
    n_features_in_: int

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Run on the engine and with the threads that the parameters name."""
        with contextlib.ExitStack() as stack:
            if self.engine is not None:
                stack.enter_context(engines.use_engine(self.engine))
            if self.n_threads is not None:
                stack.enter_context(threads.limited(self.n_threads))
            yield

    def _float_types(self):
        """The types of X that a fit accepts, the one to convert others to first."""
        return _FLOATS if self.dtype is None else (np.dtype(self.dtype).type,)

    def _rows_to_fit(self, X, y, reset: bool, **checks):
        """X and y as scikit-learn's `validate_data` returns them; rows of X are contiguous.

        `reset` is False where a fit goes on, whose X must have the features of the first.
        """
        X, y = validate_data(
            self, X, y, accept_sparse="csr", multi_output=True, dtype=self._float_types(),
            order="C", reset=reset, **checks,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _rows(self, X):
        """X of a prediction. A plain array needs none of scikit-learn's checks but the network's.

        Those take longer than the prediction of a row.
        """
        plain = type(X) is np.ndarray and X.ndim == 2 and X.dtype.type in _FLOATS
        fits = plain and X.shape[1] == self.n_features_in_ and len(X)
        if fits and "feature_names_in_" not in self.__dict__:
            return X
        return validate_data(self, X, accept_sparse="csr", dtype=_FLOATS, reset=False)

    def _outputs(self, X, function: str) -> np.ndarray:
        """The network's "output" or "logits", or a function of these ("sigmoid", ...), (m, n)."""
        if "net_" not in self.__dict__:
            check_is_fitted(self)
        net, X = self.net_, self._rows(X)
        if self.engine is None and self.n_threads is None:
            return net._forward(X, net._loss, function)
        with self._running():
            return net._forward(X, net._loss, function)


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """Base of the classifiers.

    The network is trained on the positions of the labels in ``classes_``, with one output for two
    classes; on rows of 0 and 1, one output for each, if several labels may apply to a row.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted; for several labels the numbers of the columns.
    """

    classes_: np.ndarray
    _is_multilabel: bool

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _learn_classes(self, y, classes=None) -> None:
        """Set `classes_` and `n_outputs_` by the labels that y, or `classes`, holds.

        Raises
        ------
        ValueError
            If they are no labels.
        """
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind not in ("binary", "multiclass", "multilabel-indicator"):
            raise ValueError(
                f"Unknown label type: {kind}. {type(self).__name__} takes labels of classes, or "
                "rows of 0 and 1: for numbers use a regressor"
            )
        self._is_multilabel = kind == "multilabel-indicator"
        if self._is_multilabel:
            self.classes_ = np.arange(y.shape[1])
            self.n_outputs_ = y.shape[1]
            return
        self.classes_ = np.unique(y if classes is None else classes)
        self.n_outputs_ = 1 if len(self.classes_) <= 2 else len(self.classes_)

    def _encoded(self, y) -> np.ndarray:
        """Labels as their positions in `classes_` (m,), or rows of 0 and 1 (m, n_outputs).

        Raises
        ------
        ValueError
            If y has other labels, or another form than those that the classes come from.
        """
        if self._is_multilabel:
            if hasattr(y, "toarray"):
                y = y.toarray()
            if y.ndim != 2 or y.shape[1] != self.n_outputs_:
                raise ValueError(
                    f"y has the shape {y.shape}, but the first fit had {self.n_outputs_} columns "
                    "of 0 and 1"
                )
            return y
        if y.ndim != 1:
            raise ValueError(f"y has {y.shape[1]} columns, but the first fit had labels")
        positions = np.searchsorted(self.classes_, y)
        positions = np.minimum(positions, len(self.classes_) - 1)
        if (self.classes_[positions] != y).any():
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {np.unique(y)}."
            )
        return positions

    def _decoded(self, logits: np.ndarray) -> np.ndarray:
        """What the logits predict: labels, or rows of 0 and 1."""
        if self._is_multilabel:
            return (logits > 0).astype(np.int64)
        if logits.shape[1] > 1:
            return self.classes_[logits.argmax(axis=1)]
        best = (logits[:, 0] > 0).astype(np.int64)
        return self.classes_[best if len(self.classes_) == 2 else np.zeros_like(best)]

    def predict(self, X) -> np.ndarray:
        """The classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Labels, or rows of 0 and 1 if several labels may apply to a row.
        """
        return self._decoded(self._outputs(X, "logits"))

    def predict_proba(self, X) -> np.ndarray:
        """The probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            With the columns in the order of ``classes_``.
        """
        exclusive = self.n_outputs_ > 1 and not self._is_multilabel
        p = self._outputs(X, "softmax" if exclusive else "sigmoid")
        if p.shape[1] > 1:
            return p
        return np.concatenate([1 - p, p], axis=1)

    def predict_log_proba(self, X) -> np.ndarray:
        """The logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.log(p, out=p)


class NetworkRegressor(RegressorMixin, NetworkEstimator):
    """Base of the regressors."""

    def predict(self, X) -> np.ndarray:
        """The values.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        values = self._outputs(X, self._output_function)
        return values[:, 0] if values.shape[1] == 1 else values

    @property
    def _output_function(self) -> str:
        """What the loss makes of the logits: "exp" for poisson."""
        from ..ops.loss import output_function

        loss = self.net_._loss
        function = None if loss is None else output_function(loss.code, self.n_outputs_)
        return function or "logits"


def warn(message: str, category=UserWarning) -> None:
    """A warning that points at the line that called `fit`."""
    warnings.warn(message, category, stacklevel=4)
