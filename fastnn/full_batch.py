"""Full-batch training by SciPy's L-BFGS-B, which calls the loss, and a function per iteration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from . import blas, run
from .errors import DivergedError
from .lbfgs import LBFGS
from .ops import BY_KIND
from .ops.operation import Table
from .run import Fit
from .tables import NONE

if TYPE_CHECKING:
    from .settings import Settings
    from .training import Training

#: Iterations, where only time ends a fit.
_ENDLESS = 2**31 - 1

#: Why SciPy stopped, by a part of its message.
_REASONS = {
    "GRADIENT": "converged: no element of the gradient is above gtol",
    "REDUCTION": "converged: an iteration lowered the loss by no more than ftol allows",
    "EVALUATIONS": "max_evaluations is reached",
    "ITERATIONS": None,
    "ABNORMAL": "the line search finds no lower loss, as happens where the loss is as exact as "
    "the network's dtype allows, or not smooth",
}


def check(plan, settings: Settings) -> None:
    """Refuse what goes with steps, and a loss that is not a function of the parameters alone.

    Raises
    ------
    ValueError
    """
    average, accumulate = settings.average, settings.accumulate
    if settings.checkpoint is not None:
        raise ValueError(
            "LBFGS keeps its curvature inside SciPy, which no checkpoint can hold: leave out "
            "checkpoint, or save the network in a callback"
        )
    if settings.schedule is not None:
        raise ValueError("LBFGS has no learning rate that a schedule could change: leave it out")
    if settings.augment:
        raise ValueError(
            "LBFGS needs a loss that is the same in every evaluation, but augment changes the "
            "batches at random: leave it out, or use another optimizer such as 'adam'"
        )
    if average is not None or accumulate > 1:
        what = "ema and swa" if average is not None else "accumulate"
        raise ValueError(f"LBFGS takes no steps on batches: leave out {what}")
    table = Table(plan.training.ops, 1, training=True)
    for index, op in enumerate(table.records):
        layer = plan.layers[index][0]
        if op.stream != NONE:
            raise ValueError(
                f"LBFGS needs a loss that is the same in every evaluation, but layer {layer} draws "
                "random numbers in training: leave it out, or use another optimizer such as 'adam'"
            )
        calls = BY_KIND[op.kind].after_step(table, index)
        if any(access.space == "params" for call in calls for access in call.writes):
            raise ValueError(
                f"LBFGS cannot keep the max_norm of layer {layer}, which changes the weights after "
                "a step: leave it out, or use another optimizer such as 'adam'"
            )


def train(training: Training) -> None:
    """Minimise the loss of all rows; an epoch is an iteration, and a step.

    There is at least one, also if the parameters are a minimum already.

    Raises
    ------
    DivergedError
        If the loss is not finite at the first parameters, or nowhere along a search.
    KeyboardInterrupt
        After Ctrl-C. However it ends, the parameters are those of the last iteration.
    """
    from scipy.optimize import minimize  # it takes longer to import than a short fit to run

    fit, settings = training.fit, training.settings
    optimizer, objective = cast(LBFGS, settings.optimizer), Objective(fit)
    began = time.perf_counter()

    def begin() -> None:
        nonlocal began
        training.begin_iteration()
        if training.stopped is not None:
            raise _Stopped
        began = time.perf_counter()

    def accept(x: np.ndarray) -> None:
        objective.accept(x)
        fit.count(1, optimizer.lr)
        training.complete_iteration(objective.values(), time.perf_counter() - began)
        if training.n_steps is None or fit.steps_done < training.n_steps:
            begin()

    options: dict[str, Any] = {
        "maxcor": optimizer.history, "ftol": optimizer.ftol, "gtol": optimizer.gtol,
        "maxfun": optimizer.max_evaluations, "maxls": optimizer.max_line_search,
        "maxiter": _ENDLESS if training.n_steps is None else training.n_steps,
    }  # fmt: skip
    try:
        begin()
        with blas.in_one_thread():
            found = minimize(
                objective, objective.start, jac=True, method="L-BFGS-B", callback=accept,
                options=options,
            )  # fmt: skip
        if "ABNORMAL" in found.message and objective.n_infinite:
            _diverged(fit, "the loss is not finite anywhere along the line search")
        why = next((why for part, why in _REASONS.items() if part in found.message), None)
        if why is not None:
            training.stop(why)
        if not fit.steps_done:
            accept(objective.start)
    except _Stopped:
        pass
    finally:
        objective.restore()


class _Stopped(Exception):
    """The training has been stopped."""


def _diverged(fit: Fit, what: str):
    raise DivergedError(
        f"{what} in epoch {fit.steps_done} (from 0): the features may differ widely in scale, or "
        "be too large. The parameters are those of the last iteration; standardise X and fit again",
        fit.steps_done,
        0,
    )


class Objective:
    """The loss of all rows as a function of the trained parameters, in float64.

    Parameters
    ----------
    fit : Fit

    Attributes
    ----------
    loss, n_correct : float
        At the accepted point.
    n_infinite : int
        Points since the accepted one at which the loss is not finite.
    """

    def __init__(self, fit: Fit):
        self.fit, self.ws = fit, fit.ws
        self._batch = fit.data.one_batch(0, fit.ws.capacity)
        self._ranges = [slice(begin, end) for begin, end, *_ in fit.ws.update.groups]
        self.start = self._trained(self.ws.params)
        self.loss, self.n_correct, self.n_infinite = np.nan, 0.0, 0
        self._point, self._gradient = self.start, np.zeros(0)
        self._kept = self.ws.params.copy()
        self._last: tuple[Any, ...] = ()

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """(loss, gradient) at a point of a search.

        Where the loss is not finite, a larger one that makes the search turn back: the loss of the
        accepted point plus four times the decrease that its gradient promises, and the gradient of
        a slope upwards.
        """
        begin = 0
        for part in self._ranges:
            end = begin + part.stop - part.start
            self.ws.params[part] = x[begin:end]
            begin = end
        loss, n_correct = run.loss_and_grad(self.fit.engine, self.ws, self._batch)
        if self.ws.plan.mean:
            loss /= self.fit.data.weight_sum
        gradient = self._trained(self.ws.grad)
        self._last = x.copy(), loss, n_correct, gradient  # SciPy may change x
        if np.isfinite(loss) and np.isfinite(gradient).all():
            if not self._gradient.size:
                self.loss, self.n_correct, self._gradient = loss, n_correct, gradient
            return loss, gradient
        if not self._gradient.size:
            _diverged(self.fit, "the loss or its gradient is not finite")
        self.n_infinite += 1
        promised = abs(float(self._gradient @ (x - self._point)))
        return self.loss + 4 * promised, -self._gradient

    def values(self) -> dict[str, float]:
        """The values of the accepted point for the history."""
        values = {"loss": self.loss}
        if self.fit.data.metric:
            values["accuracy"] = self.n_correct / self.fit.data.n_rows
        return values

    def accept(self, x: np.ndarray) -> None:
        """Keep a point, at which an iteration ended, with the statistics of its batch."""
        if not self._last or (x != self._last[0]).any():
            self(x)
        self._point, self.loss, self.n_correct, self._gradient = self._last
        self._kept[:] = self.ws.params
        self.n_infinite = 0
        for op in self.ws.table.records:
            if self.ws.update.moves_statistics(op.state):
                BY_KIND[op.kind].settle(op, self.ws.state, self.ws.batch)

    def restore(self) -> None:
        """Set the parameters to those of the accepted point."""
        self.ws.params[:] = self._kept

    def _trained(self, flat: np.ndarray) -> np.ndarray:
        return np.concatenate([flat[part] for part in self._ranges]).astype(np.float64)
