"""Validation: the loss, the accuracy and the metrics of some rows, and their choice."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from . import run
from .checks import real_number
from .compared import Form, Targets
from .data.split import split_rows
from .engines.protocol import Engine
from .engines.workspace import Data, Workspace
from .losses import LossFunction
from .metric import Metric
from .targets import Target, probability_function


class Validation:
    """What is computed of some rows after each epoch, or by `evaluate`.

    Parameters
    ----------
    engine : Engine
    plan : Plan
    data : Data
        The rows; its order may hold the numbers of some rows of X. Its batch size is set here.
    y : array_like, shape (m,) or (m, columns)
        The targets of these rows as they were given, in their order; checked already.
    target : Target
        The form of the targets.
    loss : LossFunction
    metrics : sequence of Metric
        As :func:`fastnn.metrics.get` gives them.

    Raises
    ------
    ValueError
        If a metric cannot be computed of these rows, as the ROC AUC where a class is missing.
    """

    def __init__(
        self, engine: Engine, plan, data: Data, y, target: Target, loss: LossFunction,
        metrics: Sequence[Metric] = (),
    ):  # fmt: skip
        self.engine, self.data = engine, data
        data.batch_size = run.chunk_rows(plan, data.n_rows)
        # The engine counts the accuracy along with the loss.
        self._metrics = tuple(metric for metric in metrics if not metric.is_counted)
        self._warned: set[str] = set()
        if not self._metrics:
            return
        self._form = Form(target, loss, plan.n_outputs)
        self._targets = Targets(self._form, y)
        if len(self._targets.y) != data.n_rows:
            raise ValueError(f"{len(self._targets.y)} targets for {data.n_rows} rows")
        for metric in self._metrics:
            metric.check_rows(self._targets)

    @property
    def batch_size(self) -> int:
        """Rows of the workspace that it needs."""
        return self.data.batch_size

    def names(self, prefix: str = "val_") -> list[str]:
        """The names of its values."""
        counted = ["loss", "accuracy"] if self.data.metric else ["loss"]
        return [prefix + name for name in counted + [metric.name for metric in self._metrics]]

    def bind(self, ws: Workspace) -> None:
        """Compile and bind what :meth:`values` runs, so that no epoch has to."""
        self.engine.evaluate(ws, self.data, np.zeros((0, 2)), 0, 0)
        for needs in self._needed:
            self.engine.forward(ws, self.data, self._outputs(ws), self._function(needs), 0, 0)

    def values(self, ws: Workspace, prefix: str = "val_") -> dict[str, float]:
        """The values for the parameters of a workspace for prediction, by name.

        Raises
        ------
        TypeError
            If a metric does not return a number.
        Exception
            Whatever a metric raises, with a note that names it.
        """
        values = run.metrics(self.engine, ws, self.data, prefix)
        if not self._metrics:
            return values
        found = {needs: self._predicted(ws, needs) for needs in self._needed}
        for metric in self._metrics:
            value = metric.value(self._targets, found[metric.needs])
            if math.isnan(value) and metric.name not in self._warned:
                self._warn_of_nan(metric.name)
            values[prefix + metric.name] = value
        return values

    def _warn_of_nan(self, name: str) -> None:
        self._warned.add(name)
        warnings.warn(
            f"the metric {name!r} is NaN: it is recorded as NaN, never counts as the best, and is "
            "not reported again in this run",
            RuntimeWarning,
            stacklevel=3,
        )

    @property
    def _needed(self) -> list[str]:
        """The kinds of predictions that the metrics need."""
        return list(dict.fromkeys(metric.needs for metric in self._metrics))

    def _function(self, needs: str) -> str:
        form = self._form
        if needs == "predictions":
            return form.target.function(form.loss, form.n_outputs)
        function = probability_function(form.loss, form.n_outputs)
        assert function is not None  # metrics.get has refused such metrics
        return function

    def _outputs(self, ws: Workspace) -> np.ndarray:
        return np.empty((self.data.n_rows, ws.plan.n_outputs), ws.params.dtype)

    def _predicted(self, ws: Workspace, needs: str) -> np.ndarray:
        """Predictions or probabilities, read-only, as the network gives them."""
        out = self._outputs(ws)
        run.forward(self.engine, ws, self.data, out, self._function(needs))
        target = self._form.target
        by_kind = {"predictions": target.predictions, "probabilities": target.probabilities}
        predicted = by_kind[needs](out).view()
        predicted.flags.writeable = False
        return predicted


def split(data: Data, target: Target, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers for training and for validation: what ``validation_split`` means.

    Classes, as labels or as one-hot rows, have the same proportions in both; other targets are not
    looked at, and weights never.

    Parameters
    ----------
    data : Data
        All rows, with their targets.
    target : Target
        The form of the targets.
    share : float
        Fraction for validation, above 0 and below 1; see :func:`fastnn.data.split.split_rows`.
    seed : int
        The network's.

    Returns
    -------
    train, validation : ndarray of int64
        In ascending order.

    Raises
    ------
    ValueError, TypeError
        If one of them would be empty, or the share is out of range.

    Warns
    -----
    UserWarning
        If a class has a single row, which stays in the training part.
    """
    share = real_number(share, "validation_split", positive=True, below=1)
    classes = None
    if target.kind == "labels":
        classes = data.labels
    elif target.kind == "one_hot":
        assert data.Y is not None
        if (data.Y.max(axis=1) == 1).all():
            classes = data.Y.argmax(axis=1)
    train, validation = split_rows(classes, len(data.X), share, seed)
    if classes is not None:
        _warn_of_single_rows(np.bincount(classes), target)
    return train, validation


def _warn_of_single_rows(counts: np.ndarray, target: Target) -> None:
    single = np.flatnonzero(counts == 1)
    if not len(single):
        return
    verb = f"and {len(single) - 1} more have" if len(single) > 1 else "has"
    warnings.warn(
        f"{target.name_of_class(int(single[0]))} {verb} a single row, which stays in the training "
        "part: the validation part lacks it",
        stacklevel=3,
    )
