"""Early stopping: end a fit that no longer improves, and keep its best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .checks import real_number, true_or_false, whole_number
from .names import unknown

if TYPE_CHECKING:
    from .training import Training

_MODES = ("auto", "min", "max")


@dataclass(frozen=True)
class EarlyStopping:
    """End a fit once a value has not improved for some epochs, and restore the best epoch.

    Parameters
    ----------
    patience : int or None, default 10
        The fit ends after so many epochs in a row without improvement. None never ends it, and only
        restores the best epoch.
    metric : str, default "val_loss"
        A key of the history: "loss", "val_accuracy", "val_f1", "average_val_loss", ...
    min_delta : float, default 0
        An improvement is better than the best by more than this.
    baseline : float, optional
        A value that counts as the best before the first epoch.
    restore_best : bool, default True
        Whether the network has the parameters and running statistics of the best epoch after the
        fit, however it ends; with an average of the weights, what it would have had if the fit had
        ended there. The optimizer's state stays that of the last step.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; "auto" is "max" for accuracies and those metrics of
        which more is better.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. A fit raises ValueError if its epochs
        have no value of this name.

    Examples
    --------
    >>> from fastnn import Dense, EarlyStopping, Sequential
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> net = Sequential([Dense(1)])
    >>> history = net.fit(X, y, epochs=100, progress=False,
    ...                   early_stopping=EarlyStopping(patience=2, metric="loss", min_delta=0.5))
    >>> history.n_epochs < 100, history.stopped[:14]
    (True, 'early stopping')
    """

    patience: int | None = 10
    metric: str = "val_loss"
    min_delta: float = 0.0
    baseline: float | None = None
    restore_best: bool = True
    mode: str = "auto"

    def __post_init__(self):
        if self.patience is not None:
            whole_number(self.patience, "the patience of early stopping", least=0)
        if not isinstance(self.metric, str):
            raise TypeError(f"metric must be a name such as 'val_loss', not {self.metric!r}")
        real_number(self.min_delta, "min_delta", least=0.0)
        if self.baseline is not None:
            real_number(self.baseline, "baseline")
        true_or_false(self.restore_best, "restore_best")
        if self.mode not in _MODES:
            raise unknown("mode of EarlyStopping", self.mode, _MODES)


def get(given) -> EarlyStopping | None:
    """The early stopping that the argument of fit means: a patience, an object, or none.

    Raises
    ------
    TypeError, ValueError
    """
    if given is None or given is False or isinstance(given, EarlyStopping):
        return given or None
    if given is True:
        return EarlyStopping()
    if not hasattr(given, "__index__"):
        raise TypeError(
            f"early_stopping must be a patience in epochs or EarlyStopping(...), not {given!r}"
        )
    return EarlyStopping(patience=whole_number(given, "the patience of early stopping", least=0))


class Watch:
    """The early stopping of one fit.

    Parameters
    ----------
    rule : EarlyStopping
    larger_is_better : bool

    Attributes
    ----------
    best : float
        The best value; the baseline or an infinity before there is one.
    best_epoch : int or None
        Its position in the history.
    waited : int
        Epochs since.
    weights : tuple of ndarray, or None
        What :meth:`fastnn.training.Training.snapshot` gave at the best epoch.
    """

    def __init__(self, rule: EarlyStopping, larger_is_better: bool):
        self.rule, self._sign = rule, 1.0 if larger_is_better else -1.0
        worst = -self._sign * math.inf
        self.best = worst if rule.baseline is None else rule.baseline
        self.best_epoch: int | None = None
        self.waited = 0
        self.weights: tuple[np.ndarray, ...] | None = None

    @classmethod
    def of(cls, rule: EarlyStopping, directions: Mapping[str, str], follower: str) -> Watch:
        """The watch of a rule, among the values of an epoch and their directions.

        Raises
        ------
        ValueError
            If its metric is none of them; `follower` is the subject of the message.
        """
        if rule.metric not in directions:
            validates = any(name.startswith("val_") for name in directions)
            hint = "" if validates else "; give validation_data or validation_split"
            raise ValueError(
                f"{follower} follows {rule.metric!r}, but the values of an epoch are "
                f"{', '.join(map(repr, directions))}{hint}"
            )
        mode = directions[rule.metric] if rule.mode == "auto" else rule.mode
        return cls(rule, mode == "max")

    def observe(self, training: Training) -> None:
        """Look at an epoch that is complete; stop the training if its time has come."""
        rule, value = self.rule, training.values[self.rule.metric]
        if self._sign * (value - self.best) > rule.min_delta:  # not where the value is NaN
            self.best, self.waited = value, 0
            self.best_epoch = training.history.n_epochs - 1
            if rule.restore_best:
                self.weights = training.snapshot()
            return
        self.waited += 1
        if rule.patience is not None and self.waited >= rule.patience:
            training.stop(self._reason(training))

    def _reason(self, training: Training) -> str:
        rule = self.rule
        epochs = "1 epoch" if self.waited == 1 else f"{self.waited} epochs"
        text = f"early stopping: {rule.metric} has not improved for {epochs}"
        if self.best_epoch is None:
            return text + ("" if rule.baseline is None else f" on the baseline {rule.baseline:g}")
        return text + f"; the best was {self.best:.6g} in epoch {training.epoch - self.waited}"
