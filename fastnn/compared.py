"""What metrics compare: the targets of some rows, and predictions, in the forms that they take."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from .checks import is_finite
from .losses import LossFunction
from .ops.loss import PROBABILITIES
from .targets import Target


@dataclass(frozen=True, eq=False)
class Form:
    """The form of targets and predictions of a network.

    Attributes
    ----------
    target : Target
    loss : LossFunction
    n_outputs : int
    """

    target: Target
    loss: LossFunction
    n_outputs: int

    @property
    def kind(self) -> str:
        """That of the target."""
        return self.target.kind

    @property
    def has_classes(self) -> bool:
        """Whether each row has one class."""
        return self.kind in ("labels", "one_hot")

    @property
    def n_classes(self) -> int:
        """Number of classes, or of independent 0/1 columns."""
        return self.n_outputs if self.target.classes is None else len(self.target.classes)

    @property
    def counts_correct(self) -> bool:
        """Whether the engines count the rows that are classified correctly."""
        return self.target.metric(self.n_outputs) is not None

    @property
    def has_probabilities(self) -> bool:
        """Whether there is a ``predict_proba``."""
        return self.loss.code in PROBABILITIES

    @property
    def described(self) -> str:
        """The targets, for a message."""
        return {
            "labels": "class labels",
            "one_hot": "one-hot rows of classes",
            "multilabel": "independent 0/1 columns",
            "values": "numbers",
        }[self.kind]

    def shaped(self, y) -> np.ndarray:
        """Targets as given, read-only, in the shape that predictions have."""
        y = np.asarray(y)
        if self.kind == "labels" or self.target.vector:
            y = y.reshape(-1)
        elif y.ndim == 1:
            y = y[:, None]
        y = y.view()
        y.flags.writeable = False
        return y

    def coded(self, values: np.ndarray) -> np.ndarray:
        """Targets or predictions as numbers.

        They are the positions of the classes, (m,); columns of 0 and 1, (m, n_outputs); or numbers
        in float64, (m,) or (m, n_targets).
        """
        if self.kind == "labels":
            assert self.target.classes is not None
            return np.searchsorted(self.target.classes, values)
        if self.kind == "one_hot":
            return values.argmax(axis=1)
        if self.kind == "multilabel":
            return values.reshape(len(values), -1).astype(np.int64)
        return values.astype(np.float64, copy=False)


class Targets:
    """The targets of some rows.

    Parameters
    ----------
    form : Form
    y : array_like, shape (m,) or (m, columns)
        As they were given, and checked already.

    Attributes
    ----------
    y : ndarray
        Read-only, in the shape that predictions have.
    """

    def __init__(self, form: Form, y):
        self.form = form
        self.y = form.shaped(y)

    @functools.cached_property
    def coded(self) -> np.ndarray:
        """See :meth:`Form.coded`."""
        return self.form.coded(self.y)

    def check_classes(self, metric: str) -> None:
        """Refuse probabilities in place of classes.

        Raises
        ------
        ValueError
        """
        if self.form.kind not in ("one_hot", "multilabel"):
            return
        soft = ~((self.y == 0) | (self.y == 1)).reshape(len(self.y), -1).all(axis=1)
        if self.form.kind == "one_hot":
            soft |= self.y.sum(axis=1) != 1
        if soft.any():
            raise ValueError(
                f"{metric} needs 0 and 1 in y, but row {int(soft.argmax())} of it holds "
                f"{self.y[soft.argmax()].tolist()}: leave it out, or give a function of your own"
            )

    def check_all_occur(self, metric: str) -> None:
        """Refuse rows of which none has some class, or all or none have some column's.

        Raises
        ------
        ValueError
        """
        form = self.form
        if form.has_classes:
            counts = np.bincount(self.coded, minlength=form.n_classes)
            missing = np.flatnonzero(counts == 0)
            if len(missing):
                name = form.target.name_of_class(int(missing[0]))
                raise ValueError(
                    f"{metric} needs rows of every class, but none of these {len(self.y)} rows has "
                    f"{name}: give other rows, or leave {metric} out"
                )
            return
        ones = self.coded.sum(axis=0)
        same = (ones == 0) | (ones == len(self.y))
        if same.any():
            column = int(same.argmax())
            raise ValueError(
                f"{metric} needs rows with 0 and rows with 1 in every column, but column {column} "
                f"of y is {self.coded[0, column]} in all {len(self.y)} rows: give other rows, or "
                f"leave {metric} out"
            )


def is_usable(predicted: np.ndarray) -> bool:
    """Whether predictions contain neither NaN nor infinity."""
    return predicted.dtype.kind != "f" or is_finite(predicted)
