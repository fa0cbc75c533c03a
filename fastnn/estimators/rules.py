"""What scikit-learn's MLP does after each epoch, as callbacks of a fit.

It records the loss, prints a line if it is verbose, lowers the learning rate, and ends the fit
where the training loss, or the score of validation rows, has not improved for some epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..callbacks import Callback
from ..weights import mean_of_batches

if TYPE_CHECKING:
    from ..training import Training
    from .perceptron import Perceptron

#: The learning rate of "adaptive" below which there is no other division by 5 but the end.
_LEAST_RATE = 1e-6


class EpochRecord(Callback):
    """Writes losses and counters into the attributes of an estimator.

    Parameters
    ----------
    estimator : Perceptron
    constants : ndarray of shape (n_rows,) or None
        What scikit-learn's loss of each row has beyond that of the network.
    valid_constant : float
        The mean of these of the validation rows.
    """

    def __init__(self, estimator: Perceptron, constants=None, valid_constant: float = 0.0):
        self.estimator, self._constants = estimator, constants
        self._valid_constant, self._constant = valid_constant, 0.0
        self._weighs_batches = False

    def on_fit_begin(self, training: Training) -> None:
        self.estimator.n_iter_ = 0
        data, constants = training.fit.data, self._constants
        steps = not training.settings.optimizer.full_batch
        self._weighs_batches = steps and data.weights is not None and training.fit.ws.plan.mean
        if constants is not None and not self._weighs_batches:
            rows = slice(None) if data.order is None else data.order
            weights = None if data.weights is None else data.weights[rows]
            self._constant = float(np.average(constants[rows], weights=weights))

    def on_epoch_end(self, training: Training) -> None:
        estimator, values = self.estimator, training.values
        if self._weighs_batches:
            losses = training.fit.results[:, 0]  # of each batch, the sum over its rows
            estimator.loss_ = mean_of_batches(losses, training.fit.data, self._constants)
        else:
            estimator.loss_ = values["loss"] + self._constant
        estimator.n_iter_ += 1
        estimator.loss_curve_.append(estimator.loss_)
        if "val_loss" in values:
            estimator.validation_curve_.append(values["val_loss"] + self._valid_constant)


class Rules(EpochRecord):
    """The stopping rule and the learning rate.

    Parameters
    ----------
    estimator : Perceptron
        Its parameters `tol`, `n_iter_no_change`, `verbose`, `power_t`, and what earlier fits have
        left: losses, scores, the count of epochs without improvement, the learning rate.
    base : float
        The learning rate that a factor of 1 means.
    mode : {"constant", "invscaling", "adaptive"}
    score : callable or None
        The score of the validation rows, as a function of the values of an epoch, if it is what
        has to improve.
    **options
        Those of :class:`EpochRecord`.
    """

    def __init__(
        self, estimator: Perceptron, base: float, mode: str,
        score: Callable[[dict[str, float]], float] | None, **options,
    ):  # fmt: skip
        super().__init__(estimator, **options)
        self._base, self._mode, self._score = base, mode, score
        self._tol, self._patience = estimator.tol, estimator.n_iter_no_change
        self._verbose = estimator.verbose

    def on_fit_begin(self, training: Training) -> None:
        super().on_fit_begin(training)
        if self.estimator._rate is None:
            self.estimator._rate = self._base
        self._set_rate(training, self.estimator._rate)

    def _set_rate(self, training: Training, rate: float) -> None:
        self.estimator._rate = rate
        if rate != self._base or training.lr_factor != 1:
            training.lr_factor = rate / self._base

    def on_epoch_end(self, training: Training) -> None:
        super().on_epoch_end(training)
        estimator = self.estimator
        estimator.t_ += training.fit.data.n_rows
        if self._verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if self._score is None:
            self._watch_loss(estimator.loss_)
        else:
            self._watch_score(float(self._score(training.values)), training)
        if self._mode == "invscaling":
            self._set_rate(training, self._base / (estimator.t_ + 1) ** estimator.power_t)
        if estimator._no_improvement_count > self._patience:
            self._end_or_slow_down(training)

    def _watch_loss(self, loss: float) -> None:
        estimator = self.estimator
        improves = loss <= estimator.best_loss_ - self._tol
        estimator._no_improvement_count = 0 if improves else estimator._no_improvement_count + 1
        estimator.best_loss_ = min(estimator.best_loss_, loss)

    def _watch_score(self, score: float, training: Training) -> None:
        estimator = self.estimator
        estimator.validation_scores_.append(score)
        if self._verbose:
            print(f"Validation score: {score:f}")
        fails = score < estimator.best_validation_score_ + self._tol
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if fails else 0
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            estimator._best_state = training.net.state_dict()

    def _end_or_slow_down(self, training: Training) -> None:
        """No improvement for too long: the end, unless the rate is adaptive and not yet small."""
        estimator = self.estimator
        what = "Training loss" if self._score is None else "Validation score"
        message = (
            f"{what} did not improve more than tol={self._tol:f} for {self._patience:.0f} "
            "consecutive epochs."
        )
        if self._mode == "adaptive" and estimator._rate > _LEAST_RATE:
            estimator._no_improvement_count = 0
            self._set_rate(training, estimator._rate / 5)
            message += f" Setting learning rate to {estimator._rate:f}"
        else:
            training.stop(message)
            small = " Learning rate too small." if self._mode == "adaptive" else ""
            message += f"{small} Stopping."
        if self._verbose:
            print(message)


def r2(y: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None) -> float:
    """The coefficient of determination, mean over the columns, as scikit-learn's `r2_score`."""
    w = weights if weights is None or y.ndim == 1 else weights[:, None]
    mean = np.average(y, axis=0, weights=weights)
    errors, spread = (predicted - y) ** 2, (y - mean) ** 2
    if w is not None:
        errors, spread = w * errors, w * spread
    spread = spread.sum(axis=0)
    if np.all(spread > 0):
        return float(np.mean(1 - errors.sum(axis=0) / spread))
    from sklearn.metrics import r2_score  # which says what a constant column scores

    return float(r2_score(y, predicted, sample_weight=weights))
