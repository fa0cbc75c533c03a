"""Full-batch training: SciPy's L-BFGS-B as a generator of epochs, one for each iteration.

SciPy calls the loss and a callback. So that a fit goes on from epoch to epoch as with the other
optimizers, SciPy runs in a thread of its own which asks for one value after another. The engine,
signals and functions of the user stay in the thread of the fit; the two never run at once.
"""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import Any, cast

import numpy as np

from . import run
from .errors import DivergedError
from .lbfgs import LBFGS
from .ops import BY_KIND
from .ops.operation import Table
from .run import Fit
from .tables import NONE

#: Why SciPy stopped, by a part of its message.
_REASONS = {
    "GRADIENT": "converged: no element of the gradient is above gtol",
    "REDUCTION": "converged: an iteration lowered the loss by no more than ftol allows",
    "EVALUATIONS": "max_evaluations is reached",
    "F,G": "max_evaluations is reached",
    "ITERATIONS": None,
    "ABNORMAL": "the line search finds no lower loss, as happens where the loss is as exact as "
    "the network's dtype allows, or not smooth",
}


def check(plan) -> None:
    """Refuse a network whose loss is not a function of the parameters alone.

    Raises
    ------
    ValueError
    """
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


def epochs(fit: Fit, count: int, *, shuffle: bool, progress, validate=None):
    """Minimise the loss of all rows, with an epoch for each iteration that this generator yields.

    There is at least one, also if the parameters are a minimum already.

    Parameters
    ----------
    fit : Fit
        The fit, with its data set; its optimizer is an :class:`LBFGS`.
    count : int
        The most iterations.
    shuffle : bool
        Ignored: the sums over all rows are always taken in their order.
    progress : training.Progress
    validate : callable, optional
        ``validate()`` returns a dict of values for the history.

    Yields
    ------
    dict
        As :func:`fastnn.training.epochs`, after the iteration.

    Raises
    ------
    DivergedError
        If the loss is not finite at the first parameters, or nowhere along a search.
    KeyboardInterrupt
        After Ctrl-C. However the generator ends, the parameters are those of the last iteration.
    """
    objective = Objective(fit)
    search = _Search(objective, cast(LBFGS, fit.state.optimizer), count)
    try:
        began = time.perf_counter()
        while (asked := search.next()) is not None:
            what, x = asked
            if what == "value":
                search.answer(objective(x))
                continue
            objective.accept(x)
            yield _epoch(fit, objective, progress, validate, began)
            began = time.perf_counter()
            search.answer(True)
        if search.is_abnormal and objective.n_infinite:
            _diverged(fit, "the loss is not finite anywhere along the line search")
        fit.stopped = search.reason
        if not fit.steps_done:
            objective.accept(objective.start)
            yield _epoch(fit, objective, progress, validate, began)
    finally:
        try:
            search.stop()
        finally:
            objective.restore()


def _epoch(fit: Fit, objective: Objective, progress, validate, began: float) -> dict[str, float]:
    """Count an epoch; its values for the history."""
    seconds = time.perf_counter() - began
    data, state, optimizer = fit.data, fit.state, cast(LBFGS, fit.state.optimizer)
    fit.count(1)
    state.epoch += 1
    progress.advance(len(data.X))
    values = {"loss": objective.loss}
    if data.metric:
        values["accuracy"] = objective.n_correct / len(data.X)
    if validate is not None:
        values |= validate()
    return {**values, "lr": optimizer.lr, "seconds": seconds}


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
        self._last = x, loss, n_correct, gradient
        if np.isfinite(loss) and np.isfinite(gradient).all():
            if not self._gradient.size:
                self.loss, self.n_correct, self._gradient = loss, n_correct, gradient
            return loss, gradient
        if not self._gradient.size:
            _diverged(self.fit, "the loss or its gradient is not finite")
        self.n_infinite += 1
        promised = abs(float(self._gradient @ (x - self._point)))
        return self.loss + 4 * promised, -self._gradient

    def accept(self, x: np.ndarray) -> None:
        """Keep a point, at which an iteration ended, with the statistics of its batch."""
        if not self._last or not np.array_equal(x, self._last[0]):
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


class _Stopped(Exception):
    """The fit has ended before the search."""


class _Search:
    """SciPy's L-BFGS-B in a thread that waits for an answer after each question.

    Parameters
    ----------
    objective : Objective
    optimizer : LBFGS
    count : int
        The most iterations.

    Attributes
    ----------
    reason : str or None
        Why it ended before `count` iterations.
    is_abnormal : bool
        Whether it ended since a line search failed.
    """

    def __init__(self, objective: Objective, optimizer: LBFGS, count: int):
        from scipy.optimize import minimize  # it takes longer to import than a short fit to run

        self.reason: str | None = None
        self.is_abnormal = False
        self._minimize, self._start = minimize, objective.start
        self._options = {
            "maxcor": optimizer.history, "ftol": optimizer.ftol, "gtol": optimizer.gtol,
            "maxfun": optimizer.max_evaluations, "maxiter": count,
            "maxls": optimizer.max_line_search,
        }  # fmt: skip
        self._questions: SimpleQueue = SimpleQueue()
        self._answers: SimpleQueue = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fastnn LBFGS", daemon=True)
        self._thread.start()

    def next(self) -> tuple[str, np.ndarray] | None:
        """("value", point) or ("accept", point), to be answered; None at the end."""
        what, x = self._questions.get()
        if what == "failed":
            raise x
        if what != "ended":
            return what, x
        self.is_abnormal = "ABNORMAL" in x
        self.reason = next((why for part, why in _REASONS.items() if part in x), x)
        return None

    def answer(self, value) -> None:
        """Let the search go on."""
        self._answers.put(value)

    def stop(self) -> None:
        """End the search, wherever it is."""
        self._answers.put(None)
        self._thread.join()

    def _ask(self, what: str, x: np.ndarray):
        self._questions.put((what, x.copy()))
        answer = self._answers.get()
        if answer is None:
            raise _Stopped
        return answer

    @np.errstate(all="ignore")
    def _run(self) -> None:
        try:
            found = self._minimize(
                lambda x: self._ask("value", x), self._start, jac=True, method="L-BFGS-B",
                callback=lambda x: self._ask("accept", x) is None, options=self._options,
            )  # fmt: skip
        except _Stopped:
            pass
        except BaseException as error:  # it belongs into the thread of the fit
            self._questions.put(("failed", error))
        else:
            self._questions.put(("ended", str(found.message)))
