"""Check y, and convert it to the arrays that engines read."""

from __future__ import annotations

import functools
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .checks import is_missing
from .engines.csr import CSR
from .engines.workspace import Data
from .errors import ShapeError
from .features import dense_array, real_array
from .ops.loss import PROBABILITIES, check_outputs, output_function
from .tables import Loss

if TYPE_CHECKING:
    from .losses import LossFunction

#: Losses whose targets may be numbers; rows of class probabilities; independent 0/1 columns, of
#: which a positive output predicts a 1.
VALUES = frozenset({
    Loss.mse, Loss.sse, Loss.mae, Loss.huber, Loss.quantile, Loss.poisson, Loss.gaussian_nll,
    Loss.squared_error, Loss.custom,
})  # fmt: skip
CLASSES = frozenset({Loss.cross_entropy, Loss.focal})
SIGNS = frozenset({Loss.binary_cross_entropy, Loss.hinge, Loss.squared_hinge})
#: By how much the sum of a row of probabilities may differ from 1.
_SUM_ERROR = 1.01e-3

#: Losses whose targets are 0 or 1 and nothing in between.
ZERO_OR_ONE = frozenset({Loss.hinge, Loss.squared_hinge, Loss.focal})

#: Losses that take labels, with one output and (True) with several.
LABELS = {
    False: SIGNS | {Loss.focal, Loss.custom},
    True: CLASSES
    | {Loss.mse, Loss.sse, Loss.squared_error, Loss.binary_cross_entropy, Loss.custom},
}


@dataclass(frozen=True, eq=False)
class Target:
    """The form of a fit's targets, in which predictions are returned.

    Attributes
    ----------
    kind : {"labels", "one_hot", "multilabel", "values"}
        Class labels; rows of class probabilities; independent 0/1 columns; numbers.
    classes : ndarray or None
        The labels, sorted, for kind "labels".
    vector : bool
        Whether y had one dimension.
    """

    kind: str
    classes: np.ndarray | None
    vector: bool

    @functools.cached_property
    def counts(self) -> bool:
        """Whether the classes are 0, 1, ..., each of which is its own position."""
        classes = self.classes
        if classes is None or classes.dtype.kind not in "iu":
            return False
        # Not np.array_equal, which turns an exception of a signal handler into False.
        return not (classes != np.arange(len(classes))).any()

    def name_of_class(self, index: int) -> str:
        """A class for a message: its label, or the number of its column."""
        if self.classes is None:
            return f"the class of column {index}"
        return f"the class {self.classes[index : index + 1].tolist()[0]!r}"

    def metric(self, n_outputs: int) -> str | None:
        """How accuracy is counted: by the largest output ("class"), by signs ("sign"), or not."""
        if self.kind == "labels":
            return "class" if n_outputs > 1 else "sign"
        return {"one_hot": "class", "multilabel": "sign"}.get(self.kind)

    def function(self, loss: LossFunction, n_outputs: int) -> str:
        """The function of the logits of which :meth:`predictions` are made, as engines name it."""
        if self.kind != "values":
            return "logits"
        return output_function(loss.code, n_outputs) or "output"

    def predictions(self, out: np.ndarray) -> np.ndarray:
        """Outputs (m, n_outputs) as predictions in the form of the fitted y."""
        if self.kind == "values":
            return out[:, 0] if self.vector else out
        return self._decide(out)

    def probabilities(self, p: np.ndarray) -> np.ndarray:
        """The output function of the logits, (m, n_outputs), with a column for each class."""
        if self.kind == "labels" and p.shape[1] == 1:
            return np.concatenate([1 - p, p], axis=1)
        return p

    def _decide(self, logits: np.ndarray) -> np.ndarray:
        """Logits as classes, or as 0 and 1."""
        n_outputs = logits.shape[1]
        if self.kind == "labels":
            assert self.classes is not None
            best = logits.argmax(axis=1) if n_outputs > 1 else (logits[:, 0] > 0).astype(np.int64)
            return self.classes[best]
        if self.kind == "one_hot":
            return (np.arange(n_outputs) == logits.argmax(axis=1)[:, None]).astype(np.int64)
        decided = (logits > 0).astype(np.int64)
        return decided[:, 0] if self.vector else decided


def probability_function(loss: LossFunction, n_outputs: int) -> str | None:
    """The function of the logits that gives probabilities of classes; None if the loss has none."""
    return output_function(loss.code, n_outputs) if loss.code in PROBABILITIES else None


def choose_loss(y, n_outputs: int) -> Loss:
    """The loss that ``loss="auto"`` infers from the targets.

    The rule is that of scikit-learn's ``type_of_target``, and the number of outputs. One column is
    continuous if it holds a fraction, binary if it is text, booleans or at most two different
    values, and multiclass otherwise. With several outputs, one column gives cross_entropy; with one
    output, a binary column and text give binary_cross_entropy, and other numbers mse (so does a
    column of one single number that is neither 0 nor 1, which is no class of two). Several columns
    give cross_entropy if they are one-hot rows, binary_cross_entropy if they are other rows of
    zeros and ones, and mse otherwise.
    """
    y = dense_array(y, "y")
    if y.ndim == 2 and y.shape[1] > 1:
        if y.dtype.kind in "biuf" and ((y == 0) | (y == 1)).all():
            one_hot = (y.sum(axis=1) == 1).all()
            return Loss.cross_entropy if one_hot else Loss.binary_cross_entropy
        return Loss.mse
    y = y.reshape(-1)
    if n_outputs > 1:
        return Loss.cross_entropy
    return Loss.mse if _are_numbers(y) and not _are_binary(y) else Loss.binary_cross_entropy


def _are_binary(y: np.ndarray) -> bool:
    """Whether numbers are whole and have two values, or one that is 0 or 1."""
    try:
        y = np.asarray(y, float if y.dtype.kind == "O" else None)
    except (TypeError, ValueError, OverflowError):
        return False
    if not len(y):
        return False
    for rows in (y[:100], y):  # the first of which mostly say that there are more values
        least, most = rows.min(), rows.max()
        whole = least == np.round(least) and most == np.round(most)
        if not whole or not ((rows == least) | (rows == most)).all():
            return False
    return bool(least != most or least in (0, 1))


def _are_numbers(y: np.ndarray) -> bool:
    """Whether y holds numbers: neither text nor True and False."""
    if y.dtype.kind != "O":
        return y.dtype.kind in "iuf"
    return all(isinstance(v, numbers.Real) and not isinstance(v, bool | np.bool_) for v in y)


def _check_rows(y, n_rows: int, n_outputs: int, loss: LossFunction, what: str) -> np.ndarray:
    y = dense_array(y, what)
    if y.ndim not in (1, 2):
        raise ShapeError(f"{what} must have one or two dimensions, not {y.ndim}")
    if len(y) != n_rows:
        raise ShapeError(f"X has {n_rows} rows, but {what} has {len(y)}")
    check_outputs(loss.code, n_outputs, loss.n_per_target)
    columns = 1 if y.ndim == 1 else y.shape[1]
    n_targets = n_outputs // loss.n_per_target
    if columns == n_targets or (columns == 1 and loss.code in LABELS[True]):
        return y
    if columns == 1 and loss.code in SIGNS:
        raise ValueError(
            f"{loss.name} separates the two classes of {what} by one output, but the network has "
            f"{n_outputs}: give the last layer one unit, use cross_entropy, or give a column of "
            "0 and 1 for each output"
        )
    each = f" for {n_targets} column{'s' * (n_targets > 1)}" if loss.n_per_target > 1 else ""
    raise ShapeError(
        f"{what} has {'one column' if columns == 1 else f'{columns} columns'}, but the network "
        f"has {n_outputs} outputs{each}"
    )


def describe_target(y, n_rows: int, n_outputs: int, loss: LossFunction, classes=None) -> Target:
    """The form of y as targets of a network with that loss; `classes` are all labels, if given.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If y does not match the rows, the outputs or the loss.
    """
    y, code = _check_rows(y, n_rows, n_outputs, loss, "y"), loss.code
    vector = y.ndim == 1
    if code == Loss.cross_entropy and n_outputs == 1:
        raise ValueError(
            "cross_entropy needs an output for each class, but the network has one output: "
            "use binary_cross_entropy, or as many units in the last layer as there are classes"
        )
    if y.ndim == 2 and y.shape[1] > 1 and y.shape[1] == n_outputs // loss.n_per_target:
        kind = "one_hot" if code in CLASSES else "multilabel" if code in SIGNS else "values"
        return Target(kind, None, False)
    flat = y.reshape(-1)
    _check_present(flat, "y")
    takes_numbers = code in VALUES and (code != Loss.custom or _are_numbers(flat))
    if takes_numbers and (n_outputs == 1 or code not in LABELS[True]):
        return Target("values", None, vector and n_outputs == 1)
    if flat.dtype.kind == "f":
        are_whole = bool(np.isfinite(flat).all() and (flat == np.round(flat)).all())
        if code == Loss.binary_cross_entropy and n_outputs == 1 and not are_whole:
            return Target("multilabel", None, vector)  # soft targets between 0 and 1
        if not are_whole:
            outputs = f"{n_outputs} outputs" if n_outputs > 1 else f"the loss {loss.name}"
            raise ShapeError(
                f"y holds fractions in one column, but the network has {outputs}: "
                "give class labels, or a column for each output"
            )
    if classes is not None:
        classes = given_classes(classes, n_outputs, loss)
    else:
        classes = _classes(flat, max(n_outputs, 2), code)
    return Target("labels", classes, vector)


def _check_present(labels: np.ndarray, what: str) -> None:
    """Refuse labels of which one is missing."""
    if labels.dtype.kind == "O" or hasattr(labels.dtype, "na_object"):
        row = next((row for row, label in enumerate(labels) if is_missing(label)), None)
    elif labels.dtype.kind in "fmM" and (labels != labels).any():
        row = int((labels != labels).argmax())
    else:
        return
    if row is not None:
        raise ValueError(
            f"{what}[{row}] is missing ({labels[row]}): drop the rows without a label, such as by "
            f"keep = pandas.notna({what}), or give them one"
        )


def given_classes(classes, n_outputs: int, loss: LossFunction) -> np.ndarray:
    """The sorted labels that the argument `classes` of a fit names.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If it is no vector of distinct labels, or there are not as many as the network separates.
    """
    classes = dense_array(classes, "classes")
    if classes.ndim != 1:
        raise ShapeError(f"classes must be a list of labels, not {classes.ndim}-D")
    found = _classes(classes, max(n_outputs, 2), loss.code, "classes")
    if len(_sorted_distinct(classes)) != len(classes):
        raise ValueError("classes holds a label twice: give each label once")
    return found


def _classes(labels: np.ndarray, n_classes: int, loss: Loss, what: str = "y") -> np.ndarray:
    """The sorted labels; whole numbers below n_classes give all of 0, ..., n_classes - 1."""
    if labels.dtype.kind == "T":
        labels = _strings(labels, what)
    try:
        classes = _sorted_distinct(labels)
    except TypeError:
        raise TypeError(
            f"{what} mixes labels of types that cannot be sorted, such as str and int"
        ) from None
    if len(classes) and classes.dtype.kind == "f" and np.isnan(classes[-1]):
        raise ValueError(f"{what} contains NaN: replace or drop it first")
    if classes.dtype.kind in "biuf" and classes[0] >= 0 and classes[-1] < n_classes:
        if classes.dtype.kind == "b" and n_classes > 2:
            raise ValueError(
                f"{what} is True or False, but the network distinguishes {n_classes} classes: give "
                "the last layer one or two units"
            )
        if classes.dtype.kind == "b":
            return np.array([False, True])
        # A type that holds every class; y's own may be too small.
        return np.arange(n_classes).astype(
            np.result_type(classes.dtype, np.min_scalar_type(n_classes - 1))
        )
    if len(classes) != n_classes:
        if loss in SIGNS - {Loss.binary_cross_entropy}:
            raise ValueError(
                f"{loss.name} separates two classes, but {what} has {len(classes)}, "
                f"{_first(classes)}: use cross_entropy with one unit for each class"
            )
        raise ValueError(
            f"{what} has {len(classes)} classes, {_first(classes)}, but the network distinguishes "
            f"{n_classes}: give the last layer one unit for each class"
            + (" (or one unit for two classes)" if n_classes == 2 else "")
        )
    return classes


def _sorted_distinct(labels: np.ndarray) -> np.ndarray:
    """The distinct labels in order; NaNs are at the end, possibly several."""
    if labels.dtype.kind not in "biuf" or not len(labels):
        return np.unique(labels)
    # np.unique imports numpy.ma, which takes longer than a short fit.
    labels = np.sort(labels)
    return labels[np.append(True, labels[1:] != labels[:-1])]


def _strings(labels: np.ndarray, what: str) -> np.ndarray:
    """Labels of NumPy's StringDType, of which none is missing, in its form without missing ones."""
    if not hasattr(labels.dtype, "na_object"):
        return labels
    _check_present(labels, what)
    return labels.astype(np.dtypes.StringDType())


def _comparable(classes: np.ndarray, labels: np.ndarray, what: str) -> tuple:
    """Classes and labels of types that NumPy compares: StringDType does not go with others."""
    kinds = classes.dtype.kind + labels.dtype.kind
    if kinds == "TT":
        return classes, _strings(labels, what)
    return (classes.astype(object), labels.astype(object)) if "T" in kinds else (classes, labels)


def _first(values: np.ndarray, most: int = 4) -> str:
    shown = ", ".join(repr(value) for value in values[:most].tolist())
    return shown + (", ..." if len(values) > most else "")


def make_data(
    X: np.ndarray | CSR, y, n_outputs: int, target: Target, loss: LossFunction, dtype, scale: float,
    what: str = "y",
) -> Data:  # fmt: skip
    """Rows and targets for an engine; X has been checked already and is multiplied by `scale`.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If y does not match X or the form of the fit's targets.
    """
    y = _check_rows(y, len(X), n_outputs, loss, what)
    metric = target.metric(n_outputs)
    if target.kind == "labels":
        if y.ndim == 2 and y.shape[1] > 1:
            raise ShapeError(
                f"{what} has {y.shape[1]} columns, but the network was fitted on labels"
            )
        labels = _encode(y.reshape(-1), target, what)
        return Data(X, labels=labels, scale=scale, metric=metric)
    n_targets = n_outputs // loss.n_per_target
    if (1 if y.ndim == 1 else y.shape[1]) != n_targets:
        raise ShapeError(f"{what} has one column, but the network has {n_outputs} outputs")
    try:
        Y = real_array(y.reshape(len(X), n_targets), dtype, what)
    except (TypeError, ValueError):
        if n_targets == 1:
            _check_present(y.reshape(-1), what)
        raise
    check_values(Y, loss.code, what)
    return Data(X, Y=loss.spread(Y), scale=scale, metric=metric)


def check_values(Y: np.ndarray, loss: Loss, what: str) -> None:
    """Refuse numbers that are no targets of the loss."""
    if loss in (Loss.binary_cross_entropy, Loss.cross_entropy) and not ((Y >= 0) & (Y <= 1)).all():
        raise ValueError(f"{what} must lie in [0, 1] for {loss.name}")
    if loss == Loss.cross_entropy and not (abs(Y.sum(axis=1) - 1) <= _SUM_ERROR).all():
        raise ValueError(f"the rows of {what} must each sum to 1 for cross_entropy")
    if loss == Loss.poisson and Y.min() < 0:
        raise ValueError(
            f"{what} holds {Y.min():g}, but poisson takes counts, which are at least 0: use mse or "
            "gaussian_nll for other numbers"
        )
    if loss in ZERO_OR_ONE and not ((Y == 0) | (Y == 1)).all():
        raise ValueError(f"{what} must be 0 or 1 for {loss.name}")
    if loss == Loss.focal and not (Y.sum(axis=1) == 1).all():
        raise ValueError(
            f"the rows of {what} must each hold a single 1 for focal: use binary_cross_entropy for "
            "classes of which several may apply"
        )


def check_weights(weights, n_rows: int, some: bool = True) -> np.ndarray | None:
    """Weights of the rows as float64, or None; `some` of them must be above 0.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If there is not one for each row, or one is negative or not finite, or all are 0.
    """
    if weights is None:
        return None
    weights = dense_array(weights, "sample_weight")
    if weights.shape != (n_rows,):
        raise ShapeError(
            f"sample_weight must have one number for each of the {n_rows} rows, but its shape "
            f"is {weights.shape}"
        )
    weights = real_array(weights, np.float64, "sample_weight")
    if weights.min() < 0 or (some and not weights.max() > 0):
        above = ", and above 0 for some row" if some else ""
        raise ValueError(f"sample_weight must be at least 0{above}")
    check_sum(weights, "sample_weight", some)
    return weights


#: The sum of all weights lies between the inverse of this and this: sums of weights times losses
#: are then finite and not 0, unless the losses themselves are not.
_MOST_WEIGHT = 2.0**1000


def check_sum(weights: np.ndarray, what: str, some: bool = True) -> None:
    """Refuse weights whose sum overflows or, if `some` of them must count, vanishes.

    Raises
    ------
    ValueError
        If their sum is not between 2**-1000 and 2**1000.
    """
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if total > _MOST_WEIGHT or (some and total < 1 / _MOST_WEIGHT):
        raise ValueError(
            f"{what} must sum to a number between {1 / _MOST_WEIGHT:.1g} and {_MOST_WEIGHT:.1g}, "
            f"but the sum is {total:g}: only the ratios of weights matter, so divide all of them "
            f"by their {'largest' if total > 1 else 'mean'}"
        )


def _encode(labels: np.ndarray, target: Target, what: str) -> np.ndarray:
    """Labels as int32 positions in the sorted classes."""
    classes = target.classes
    assert classes is not None
    are_positions = target.counts and labels.dtype.kind in "iu" and labels.size > 0
    if are_positions and labels.min() >= 0 and labels.max() < len(classes):  # none is searched
        return labels.astype(np.int32)
    classes, labels = _comparable(classes, labels, what)
    positions, wrong = positions_of(labels, classes)
    if wrong is not None:
        _check_present(labels, what)
        raise ValueError(
            f"{what} contains the label {np.asarray(labels[wrong]).item()!r}, which is none of the "
            f"fitted classes {_first(classes)}"
        )
    return positions.astype(np.int32)


def positions_of(labels: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Labels (m,) as positions in the sorted classes, and the first row whose label is none."""
    try:
        positions = np.searchsorted(classes, labels)
        positions = np.minimum(positions, len(classes) - 1)
        wrong = np.flatnonzero(classes[positions] != labels)
    except TypeError:  # of types that have no order
        return np.zeros(len(labels), np.int64), 0
    return positions, int(wrong[0]) if len(wrong) else None
