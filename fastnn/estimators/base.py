"""What all estimators have in common: checked inputs, the engine, and what the network predicts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from .. import advice, engines
from ..engines import threads
from ..losses import LossFunction
from ..model import Sequential
from ..ops.loss import PROBABILITIES, output_function
from ..tables import FEATURE_TYPES, Loss
from ..targets import SIGNS, VALUES, positions_of, probability_function
from ..weights import with_class_weights
from .fit_callbacks import FitCallbacks
from .parameters import NestedParameters

#: Where the frames lie that are between a call of an estimator and its own code.
_INNER = tuple(os.path.dirname(path) + os.sep for path in (__file__, sklearn.__file__))

#: Types of the elements of X that fits of MLPs and sparse matrices keep; all others become float64,
#: as in scikit-learn.
_FLOATS = (np.float64, np.float32)

#: Types of an array that networks read as they are; all others become the first.
READ_AS_THEY_ARE = sorted(FEATURE_TYPES, key=lambda dtype: (dtype.kind != "f", -dtype.itemsize))
_READ_AS_THEY_ARE = frozenset(dtype.type for dtype in READ_AS_THEY_ARE)

#: Losses that learn the numbers 0 and 1 of a class that applies or not; others learn signs.
_NUMBERS = VALUES - {Loss.custom}

#: Losses of classes that say for several outputs, one by one, whether each class applies.
_BY_COLUMN = SIGNS - {Loss.binary_cross_entropy}


class NetworkEstimator(NestedParameters, FitCallbacks, BaseEstimator):
    """Base of the estimators; subclasses have the parameters `engine`, `n_threads` and `dtype`.

    Attributes
    ----------
    net_ : Sequential
        The network, after `fit`.
    n_features_in_ : int
        Columns of X.
    """

    #: What scikit-learn's `validate_data` is told of missing values in X: True or "allow-nan".
    _all_finite: bool | str = True

    net_: Sequential
    n_features_in_: int
    engine: str | None
    n_threads: int | None
    dtype: str | None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return "net_" in self.__dict__

    @contextlib.contextmanager
    def _undone_if_it_fails(self) -> Iterator[None]:
        """What a fit has set is undone if it ends before the network begins to train."""
        before = dict(self.__dict__)
        net = before.get("net_")
        history = None if net is None else net.history
        try:
            yield
        except BaseException:
            net = self.__dict__.get("net_")
            if net is None or net.history is None or net.history is history:
                self.__dict__.update(before)
                for name in self.__dict__.keys() - before.keys():
                    if "callback" not in name:  # what scikit-learn needs to end its callbacks
                        del self.__dict__[name]
            raise

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Run on the engine and with the threads that the parameters name."""
        with contextlib.ExitStack() as stack:
            if self.engine is not None:
                stack.enter_context(engines.use_engine(self.engine))
            if self.n_threads is not None:
                stack.enter_context(threads.limited(self.n_threads))
            yield

    def _float_types(self) -> tuple[Any, ...]:
        """The types of X that a fit accepts, the one to convert others to first."""
        return _FLOATS if self.dtype is None else (np.dtype(self.dtype).type,)

    def _rows_to_fit(self, X, y, reset: bool, **checks):
        """X and y as scikit-learn's `validate_data` returns them; rows of X are contiguous.

        `reset` is False where a fit goes on, whose X must have the features of the first.
        """
        X, y = validate_data(
            self, X, y, accept_sparse="csr", multi_output=True, dtype=self._float_types(),
            order="C", reset=reset, ensure_all_finite=self._all_finite, **checks,
        )  # fmt: skip
        if sparse.issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _rows(self, X):
        """X of a prediction, as scikit-learn's `validate_data` returns it."""
        types = _FLOATS if sparse.issparse(X) else READ_AS_THEY_ARE
        return validate_data(
            self, X, accept_sparse="csr", dtype=types, order="C", reset=False,
            ensure_all_finite=self._all_finite,
        )  # fmt: skip

    def _outputs(self, X, function: str) -> np.ndarray:
        """The network's "output" or "logits", or a function of these ("sigmoid", ...), (m, n).

        A plain array needs none of scikit-learn's checks but the network's, which take a tenth of
        the time; what these refuse goes to scikit-learn's for the words of its errors.
        """
        own = self.__dict__
        if "net_" not in own:
            check_is_fitted(self)
        net = self.net_
        plain = type(X) is np.ndarray and X.dtype.type in _READ_AS_THEY_ARE
        if plain and "feature_names_in_" not in own:
            with contextlib.suppress(ValueError):
                if self.engine is None and self.n_threads is None:
                    return net._forward(X, net._loss, function)
                with self._running():
                    return net._forward(X, net._loss, function)
        X = self._rows(X)
        with self._running():
            return net._forward(X, net._loss, function)

    def _fitted_loss(self) -> LossFunction:
        """The loss of the fit; a NotFittedError before it."""
        if "net_" not in self.__dict__:
            check_is_fitted(self)
        loss = self.net_._loss
        assert loss is not None
        return loss


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """A warning that points at the line that called the estimator."""
    advice.warn(message, category, _INNER)


def _gives_probabilities(estimator) -> bool:
    """Whether the loss is one of probabilities; else an AttributeError that names it."""
    net = estimator.__dict__.get("net_")
    loss = estimator._loss_of_probabilities()[0] if net is None else net._loss
    if loss is None or loss.code in PROBABILITIES:
        return True
    raise AttributeError(
        f"probabilities need a cross entropy or the focal loss, but the loss is {loss.name}: use "
        "predict, or another loss"
    )


def _distinct(labels: np.ndarray):
    """The labels, each once, for a message; sorted, if they have an order."""
    try:
        return np.unique(labels)
    except TypeError:
        return list(dict.fromkeys(labels.tolist()))


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """Base of the classifiers.

    The network is trained on the positions of the labels in ``classes_``, with one output for two
    classes or one for each; on rows of 0 and 1, one output for each column, if several labels may
    apply to a row.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted; for several labels the numbers of the columns.
    """

    classes_: np.ndarray
    class_weight: Any
    _is_multilabel: bool

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _learn_classes(self, y, classes=None) -> None:
        """Set `classes_` by the labels that y, or `classes`, holds.

        Raises
        ------
        ValueError
            If they are no labels.
        """
        if y.ndim == 1 and y.dtype.kind in "biuUS":
            kind = "multiclass"  # without the time that it takes to say so
        else:
            kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind not in ("binary", "multiclass", "multilabel-indicator"):
            raise ValueError(
                f"Unknown label type: {kind}. {type(self).__name__} takes labels of classes, or "
                "rows of 0 and 1: for numbers use a regressor"
            )
        self._is_multilabel = kind == "multilabel-indicator"
        if self._is_multilabel:
            self.classes_ = np.arange(y.shape[1])
        else:
            self.classes_ = np.unique(y if classes is None else classes)

    def _encoded(self, y, loss: LossFunction | None = None, what: str = "y") -> np.ndarray:
        """Labels as their positions in `classes_` (m,), or rows of 0 and 1 (m, columns).

        `loss` is what they are for: a hinge loss of several classes takes a column for each. `what`
        is the name of the argument.

        Raises
        ------
        ValueError
            If y has other labels, or another form than those that the classes come from.
        """
        if self._is_multilabel:
            if hasattr(y, "toarray"):
                y = y.toarray()
            if y.ndim != 2 or y.shape[1] != len(self.classes_):
                raise ValueError(
                    f"{what} has the shape {y.shape}, but the first fit had {len(self.classes_)} "
                    "columns of 0 and 1"
                )
            return y
        if y.ndim != 1:
            raise ValueError(f"{what} has {y.shape[1]} columns, but the first fit had labels")
        positions, wrong = positions_of(y, self.classes_)
        if wrong is not None:
            raise ValueError(
                f"`{what}` has classes not in `self.classes_`. `self.classes_` has "
                f"{self.classes_}. '{what}' has {_distinct(y)}."
            )
        if loss is not None and self._takes_columns(loss):
            return (np.arange(len(self.classes_)) == positions[:, None]).astype(np.float64)
        return positions

    def _takes_columns(self, loss: LossFunction) -> bool:
        """Whether the loss learns one of several classes by a column of 0 and 1 for each."""
        return loss.code in _BY_COLUMN and len(self.classes_) > 2

    def _with_class_weights(self, y, weights: np.ndarray | None) -> np.ndarray | None:
        """The weights of rows times those of their classes, which `class_weight` has.

        Raises
        ------
        ValueError, TypeError
            If it has no weights of these classes, or a row may have several.
        """
        if self.class_weight is None:
            return weights
        if self._is_multilabel:
            raise ValueError(
                "class_weight needs one class for each row, but several labels may apply to a "
                "row: use sample_weight"
            )
        classes, positions = self.classes_.tolist(), self._encoded(y)
        return with_class_weights(weights, self.class_weight, classes, positions, some=True)

    @property
    def _learns_numbers(self) -> bool:
        """Whether outputs are near 0 or 1, and not negative or positive."""
        return self._fitted_loss().code in _NUMBERS

    def _decoded(self, logits: np.ndarray) -> np.ndarray:
        """What the logits predict: labels, or rows of 0 and 1."""
        several = logits.shape[1] > 1
        if several and not self._is_multilabel:
            return self.classes_[logits.argmax(axis=1)]
        applies = logits > (0.5 if self._learns_numbers else 0.0)
        if self._is_multilabel:
            return applies.astype(np.int64)
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(logits))
        return self.classes_[applies[:, 0].view(np.int8)]

    def predict(self, X) -> np.ndarray:
        """The classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Labels, or rows of 0 and 1 if several labels may apply to a row.

        Raises
        ------
        NotFittedError, ValueError
            Before `fit`, or if X does not fit.
        """
        return self._decoded(self._outputs(X, "logits"))

    def _decision(self, X) -> np.ndarray:
        """The logits, of which the largest decides; one, whose sign decides, for two classes."""
        logits = self._outputs(X, "logits")
        if self._learns_numbers:
            logits -= 0.5
        if self._is_multilabel or logits.shape[1] > 2:
            return logits
        return logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0)

    def _loss_of_probabilities(self) -> tuple[LossFunction | None, int]:
        """Before a fit: the loss, if the parameters alone say it, and a number of outputs."""
        return None, 1

    @available_if(_gives_probabilities)
    def predict_proba(self, X) -> np.ndarray:
        """The probability of each class.

        It exists for the cross entropies and the focal loss. Where each class has been learned
        against all others, the rows are divided by their sums.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            With the columns in the order of ``classes_``.

        Raises
        ------
        NotFittedError, ValueError
            Before `fit`, or if X does not fit.
        """
        function = probability_function(self._fitted_loss(), self.net_.n_outputs)
        assert function is not None
        p = self._outputs(X, function)
        if self._is_multilabel:
            return p if p.shape[1] > 1 else np.concatenate([1 - p, p], axis=1)
        if p.shape[1] == 1:
            return np.concatenate([1 - p, p], axis=1)
        return p / p.sum(axis=1, keepdims=True) if function == "sigmoid" else p

    @available_if(_gives_probabilities)
    def predict_log_proba(self, X) -> np.ndarray:
        """The logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)

        Raises
        ------
        NotFittedError, ValueError
            Before `fit`, or if X does not fit.
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
            Several quantiles are columns. For ``gaussian_nll`` the means.

        Raises
        ------
        NotFittedError, ValueError
            Before `fit`, or if X does not fit.
        """
        loss = self._fitted_loss()
        values = self._outputs(X, output_function(loss.code, self.net_.n_outputs) or "output")
        return self._shaped(values, loss)

    def _shaped(self, values: np.ndarray, loss: LossFunction) -> np.ndarray:
        """Outputs of the network in the form of y."""
        if loss.code == Loss.gaussian_nll:
            values = values[:, : values.shape[1] // 2]
        return values[:, 0] if values.shape[1] == 1 else values
