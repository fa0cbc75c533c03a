"""Metrics: numbers that compare targets with predictions, by name, as objects or as functions.

================  ==========================================================================
name              of what it is computed
================  ==========================================================================
``accuracy``      share of rows whose class, or all of whose 0/1 columns, are predicted
``top_3``, ...    share of rows whose class is among the 3 most probable: ``TopK(3)``
``log_loss``      mean of -log p for the probability p of the true class, or of each column
``roc_auc``       area under the ROC curve of the probabilities: of the second of two classes,
                  else the mean over the classes (or columns) of one against the others
``f1``            2 precision recall / (precision + recall): of the second of two classes,
                  else the mean over the classes (or columns); see :class:`F1`
``r2``            coefficient of determination; mean over the columns
``mae``           mean absolute error over rows and columns
``mse``           mean squared error over rows and columns
``rmse``          root of the mean squared error of each column; mean over the columns
================  ==========================================================================

All but ``accuracy`` are scikit-learn's functions, which is imported when one of them is used.
``f1`` leaves out classes that neither occur nor are predicted, as scikit-learn does. With one-hot
rows a class is the number of its column; rows that are probabilities are refused. For independent
0/1 columns ``log_loss``, ``roc_auc`` and ``f1`` are means over the columns, and ``top_3`` does not
apply.

A function ``f(y_true, y_pred)`` is a metric, too. It gets arrays in the form of fit's y: labels as
they were given and as `predict` returns them, one-hot rows or numbers. :class:`Metric` says whether
it wants probabilities instead, and whether smaller is better.

Where a prediction is infinite or NaN, metrics by name are NaN. A metric that is NaN is recorded so,
with one RuntimeWarning for each metric and fit, and is never the best.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

from .checks import whole_number
from .compared import Form, is_usable
from .losses import LossFunction
from .metric import Metric
from .names import find, unknown
from .targets import Target


class _BuiltIn(Metric):
    """Base of the metrics that have names: functions of targets in codes."""

    needs = "predictions"
    greater_is_better = True
    function = None

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return repr(self.name)

    def _key(self) -> tuple:
        return type(self), self.name

    def check(self, form: Form) -> None:
        super().check(form)
        _sklearn(self.name)

    def _needs_classes(self, form: Form, or_columns: bool) -> None:
        if form.has_classes or (or_columns and form.kind == "multilabel"):
            return
        what = "one class for each row" if not or_columns else "classes"
        raise ValueError(
            f"the metric {self.name!r} needs {what}, but with the loss {form.loss.name} the "
            f"targets are {form.described}: leave it out, or give a function of your own"
        )

    def _compute(self, targets, predicted):
        if not is_usable(predicted):
            return math.nan
        form = targets.form
        if self.needs == "predictions":
            predicted = form.coded(predicted)
        return self._of(form, targets.coded, predicted)

    def _of(self, form: Form, y: np.ndarray, predicted: np.ndarray) -> float:
        """The value of targets and predictions as :meth:`Form.coded` gives them."""
        raise TypeError(f"{type(self).__name__} must define _of")


class _Accuracy(_BuiltIn):
    """The share of correct rows."""

    is_counted = True

    def check(self, form):
        self._needs_classes(form, or_columns=True)

    def _of(self, form, y, predicted):
        return float((y == predicted).reshape(len(y), -1).all(axis=1).mean())


class TopK(_BuiltIn):
    """The share of rows whose class is among the k most probable ones; also "top_3".

    Where probabilities are equal, later classes come first, as in scikit-learn's
    ``top_k_accuracy_score``.

    Parameters
    ----------
    k : int, default 5
        At most the number of classes.

    Raises
    ------
    ValueError, TypeError
        If it is out of range or not a whole number.

    Examples
    --------
    >>> from fastnn.metrics import TopK
    >>> TopK(3)
    'top_3'
    """

    needs = "probabilities"

    def __init__(self, k=5):
        self.k = whole_number(k, "k")
        super().__init__(f"top_{self.k}")

    def check(self, form):
        self._needs_classes(form, or_columns=False)
        if self.k > form.n_classes:
            raise ValueError(
                f"{self.name} needs at least {self.k} classes, but there are {form.n_classes}"
            )
        super().check(form)

    def check_rows(self, targets):
        targets.check_classes(self.name)

    def _of(self, form, y, p):
        if self.k == form.n_classes:
            return 1.0
        if form.n_classes == 2:
            p = p[:, 1]
        score = _sklearn(self.name).top_k_accuracy_score
        return score(y, p, k=self.k, labels=np.arange(form.n_classes))


class F1(_BuiltIn):
    """2 precision recall / (precision + recall); "f1" is F1().

    By default that of the second of two classes, else the mean over the classes, or over
    independent 0/1 columns. Classes that neither occur nor are predicted are left out, and 0/0
    is 0.

    Parameters
    ----------
    average : {"macro", "weighted", "micro"}, optional
        "macro" is the mean over the classes, "weighted" that weighted by their rows, "micro" that
        of all decisions together.
    positive : label, optional
        The class whose F1 it is; with one-hot rows or 0/1 columns, the number of the column.

    Raises
    ------
    ValueError
        If the average is unknown, or both are given; in fit, if there is no such class.

    Examples
    --------
    >>> from fastnn.metrics import F1
    >>> F1(), F1(average="weighted"), F1(positive="spam")
    ('f1', 'f1_weighted', 'f1_spam')
    """

    def __init__(self, average=None, positive=None):
        averages = ("macro", "weighted", "micro")
        if average is not None and average not in averages:
            raise unknown("average of F1", average, averages)
        if average is not None and positive is not None:
            raise ValueError("F1 takes an average over classes or one positive class, not both")
        self.average, self.positive = average, positive
        suffix = average if positive is None else positive
        super().__init__("f1" if suffix is None else f"f1_{suffix}")

    def _key(self):
        return *super()._key(), self.average, repr(self.positive)

    def check(self, form):
        self._needs_classes(form, or_columns=True)
        if self.positive is not None:
            self._column(form)
        super().check(form)

    def check_rows(self, targets):
        targets.check_classes(self.name)

    def _column(self, form: Form) -> int:
        """The position of the positive class."""
        classes = form.target.classes
        known = list(range(form.n_outputs)) if classes is None else classes.tolist()
        if self.positive in known:
            return known.index(self.positive)
        shown = ", ".join(map(repr, known[:4])) + (", ..." if len(known) > 4 else "")
        raise ValueError(f"F1(positive={self.positive!r}) is none of the classes {shown}")

    def _of(self, form, y, predicted):
        f1_score = _sklearn(self.name).f1_score
        if self.positive is not None:
            i = self._column(form)
            if form.has_classes:
                y, predicted = (y == i).astype(np.int64), (predicted == i).astype(np.int64)
            else:
                y, predicted = y[:, i], predicted[:, i]
        elif form.kind == "multilabel" and y.shape[1] == 1:
            y, predicted = y[:, 0], predicted[:, 0]
        elif self.average is not None or form.n_classes > 2 or form.kind == "multilabel":
            return f1_score(y, predicted, average=self.average or "macro", zero_division=0)
        return f1_score(y, predicted, zero_division=0)


class _LogLoss(_BuiltIn):
    needs = "probabilities"
    greater_is_better = False

    def check(self, form):
        self._needs_classes(form, or_columns=True)
        super().check(form)
        if form.has_classes and form.loss.name == "binary_cross_entropy" and form.n_outputs > 1:
            raise ValueError(
                "the metric 'log_loss' needs probabilities that sum to 1, but those of "
                f"binary_cross_entropy with {form.n_outputs} outputs are independent: use "
                "cross_entropy, or leave it out"
            )

    def check_rows(self, targets):
        targets.check_classes(self.name)

    def _of(self, form, y, p):
        log_loss = _sklearn(self.name).log_loss
        if form.has_classes:
            return log_loss(y, p, labels=np.arange(form.n_classes))
        return np.mean([log_loss(y[:, j], p[:, j], labels=[0, 1]) for j in range(y.shape[1])])


class _RocAuc(_BuiltIn):
    needs = "probabilities"

    def check(self, form):
        self._needs_classes(form, or_columns=True)
        super().check(form)

    def check_rows(self, targets):
        targets.check_classes(self.name)
        targets.check_all_occur(self.name)

    def _of(self, form, y, p):
        roc_auc_score = _sklearn(self.name).roc_auc_score
        if not form.has_classes:
            return np.mean([roc_auc_score(y[:, j], p[:, j]) for j in range(y.shape[1])])
        if form.n_classes == 2:
            return roc_auc_score(y, p[:, 1])
        # As multi_class="ovr", which refuses the independent probabilities of several sigmoids.
        return np.mean([roc_auc_score(y == j, p[:, j]) for j in range(form.n_classes)])


class _Regression(_BuiltIn):
    """A function of numbers."""

    greater_is_better = False

    def check(self, form):
        if form.kind != "values":
            raise ValueError(
                f"the metric {self.name!r} compares numbers, but with the loss {form.loss.name} "
                f"the targets are {form.described}: use 'accuracy', 'f1' or 'log_loss', for example"
            )
        per_target = form.loss.n_per_target
        if per_target > 1:
            raise ValueError(
                f"the metric {self.name!r} compares one number with each target, but with the loss "
                f"{form.loss!r} there are {per_target}: give a function of your own of y and all "
                "outputs"
            )
        super().check(form)

    def _of(self, form, y, predicted):
        if self.name == "mae":
            return _sklearn("mae").mean_absolute_error(y, predicted)
        squares = _sklearn(self.name).mean_squared_error(y, predicted, multioutput="raw_values")
        return np.mean(np.sqrt(squares) if self.name == "rmse" else squares)


class _R2(_Regression):
    greater_is_better = True

    def check_rows(self, targets):
        if len(targets.y) < 2:
            raise ValueError("the metric 'r2' needs at least two rows, but there is one")

    def _of(self, form, y, predicted):
        return _sklearn("r2").r2_score(y, predicted)


_BY_NAME: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _Accuracy("accuracy"), _LogLoss("log_loss"), _RocAuc("roc_auc"), F1(), _R2("r2"),
        _Regression("mae"), _Regression("mse"), _Regression("rmse"),
    )
}  # fmt: skip
_TOP = re.compile("top_([0-9]{1,9})")
NAMES = (*_BY_NAME, "top_3")


def get(items, target: Target, loss: LossFunction, n_outputs: int) -> tuple[Metric, ...]:
    """The metrics of a fit, checked.

    Parameters
    ----------
    items : iterable of str, callable or Metric; or one of them
    target : Target
        The form of the fit's targets.
    loss : LossFunction
    n_outputs : int

    Raises
    ------
    ValueError
        If a name is unknown or occurs twice, or a metric does not go with the targets or the loss.
    TypeError
        If one is something else.
    ImportError
        If one needs scikit-learn, which is missing.
    """
    found = _resolved(items)
    if not found:
        return found
    form = Form(target, loss, n_outputs)
    names = {"loss"}
    for metric in found:
        metric.check(form)
        if metric.name in names:
            what = "the loss is" if metric.name == "loss" else "another metric is"
            raise ValueError(
                f"a metric is called {metric.name!r}, as {what}: give it a name of its own, "
                "Metric(function, name=...)"
            )
        if metric.name == "accuracy" and form.counts_correct and not metric.is_counted:
            raise ValueError(
                "a metric is called 'accuracy', which every classification has: give it a name "
                "of its own, Metric(function, name=...)"
            )
        names.add(metric.name)
    return found


def direction(name: str, metrics=()) -> str:
    """Whether smaller or larger values of a number of the history are better.

    Parameters
    ----------
    name : str
        A key of the history, such as "loss", "val_accuracy" or "average_val_f1".
    metrics : iterable of str, callable or Metric
        The metrics of the fit.

    Returns
    -------
    {"min", "max"}

    Raises
    ------
    ValueError, TypeError
        If there is no value of that name, or a metric is none.

    Examples
    --------
    >>> from fastnn.metrics import direction
    >>> direction("val_loss"), direction("val_f1", metrics=["f1"])
    ('min', 'max')
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a metric must be text, not {name!r}")
    directions = {"loss": False, "accuracy": True, "lr": False, "seconds": False}
    found = _resolved(metrics)
    directions |= {metric.name: metric.greater_is_better for metric in found}
    for prefix in ("", "val_", "average_val_"):
        base = name.removeprefix(prefix)
        if name.startswith(prefix) and base in directions:
            return "max" if directions[base] else "min"
    known = [p + n for p in ("", "val_") for n in ("loss", "accuracy")]
    raise unknown("value of an epoch", name, known + [f"val_{metric.name}" for metric in found])


def _resolved(items) -> tuple[Metric, ...]:
    """Names, functions and metrics as metrics."""
    if isinstance(items, str | Metric) or callable(items):
        items = (items,)
    if not isinstance(items, Iterable):
        raise TypeError(f"metrics must be a list of names, functions and Metrics, not {items!r}")
    return tuple(_resolve(item) for item in items)


def _resolve(item) -> Metric:
    if isinstance(item, Metric):
        return item
    if isinstance(item, str):
        if item in _BY_NAME:
            return _BY_NAME[item]
        top = _TOP.fullmatch(item)
        if top:
            return TopK(int(top[1]))
        return _resolve(find("metric", item, NAMES))
    return Metric(item)


def _sklearn(metric: str):
    try:
        import sklearn.metrics as functions
    except ImportError as error:
        raise ImportError(
            f"the metric {metric!r} needs scikit-learn: pip install scikit-learn"
        ) from error
    return functions
