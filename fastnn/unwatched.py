"""Several epochs in one call of the engine, where nobody looks at single ones.

An epoch of a small network takes less time than the Python code around it, which also needs the
interpreter's lock while other threads train. So epochs that no callback, validation, schedule,
checkpoint or progress bar sees are run together: the order of the engine's call holds those of all
of them, one after another, and no batch has rows of two. The bits are those of single epochs. If a
loss, parameter or slot is not finite at the end, all of them are undone and run one by one, so that
whatever is to be said of the epoch in which it happened is said by the same code.
"""

from __future__ import annotations

import copy
import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from . import run
from .engines.workspace import Steps
from .random import Stream
from .scheduling import follows_schedule

if TYPE_CHECKING:
    from .progress import ProgressBar
    from .run import Fit
    from .training import Training

log = logging.getLogger("fastnn")

#: Seconds that such a run may take, as measured before: Ctrl-C waits for its end.
_SECONDS = 0.025

#: Most rows of all its epochs together: their order takes 512 KB.
_ROWS = 1 << 16

#: Most bytes of the optimizer's slots, of which there is then one more copy.
_SLOT_BYTES = 1 << 20


def is_possible(training: Training, bar: ProgressBar) -> bool:
    """Whether no part of a fit on arrays needs to see the end of an epoch."""
    settings, fit, plan = training.settings, training.fit, training.fit.ws.plan
    seen = (
        settings.callbacks, settings.seconds, settings.schedule, settings.checkpoint,
        training.validation, training.average, training.watch, plan.schedules, plan.user_loss,
        settings.optimizer.full_batch, bar.is_shown, callable(settings.shuffle),
        fit.in_pieces, log.isEnabledFor(logging.DEBUG),
        # Rows in their order are read in place, which takes no order.
        fit.data.order is None and not settings.shuffle,
    )  # fmt: skip
    small = fit.ws.slots.nbytes <= _SLOT_BYTES and 2 * fit.data.n_rows <= _ROWS
    small = small and training.unwatched_until > 0
    return small and not any(seen) and not follows_schedule(settings.optimizer)


def count(training: Training) -> int:
    """How many epochs may be run together now; below 2 they are run one by one."""
    fit, left = training.fit, training.unwatched_until - training.epochs_done
    if training.n_steps is not None:
        left = min(left, (training.n_steps - training.step) // fit.data.n_batches)
    if left < 2:
        return 0
    batches = fit.pace.size * _SECONDS / run.SLICE_SECONDS
    return int(min(left, batches // fit.data.n_batches, _ROWS // fit.data.n_rows))


def _orders(training: Training, epochs: int, rows: np.ndarray | None) -> np.ndarray:
    """The orders of so many epochs, one after another."""
    fit = training.fit
    if training.settings.shuffle:
        n_rows = fit.data.n_rows
        found = fit.engine.permutations(
            fit.seed, Stream.SHUFFLE, fit.state.epoch, epochs, n_rows
        ).reshape(-1)
        return found if rows is None else rows[found]
    assert rows is not None
    return np.tile(rows, epochs)


def train(
    training: Training, epochs: int, rows: np.ndarray | None
) -> list[dict[str, float]] | None:
    """Run so many epochs of some rows; the values of each, or None if all of it has been undone."""
    fit, began = training.fit, time.perf_counter()
    data, n_batches = fit.data, fit.data.n_batches
    rates = fit.scheduled.begin_epoch(fit.state, epochs * n_batches) * fit.lr_factor
    results = np.zeros((epochs, n_batches, 2))
    if not _run(fit, _orders(training, epochs, rows), rates, results.reshape(-1, 2)):
        return None
    seconds = (time.perf_counter() - began) / epochs
    weight = data.weight_sum if fit.ws.plan.mean else 1.0
    sums = np.add.reduce(results, axis=1).tolist()
    values = []
    for (loss, n_correct), rate in zip(sums, rates[n_batches - 1 :: n_batches], strict=True):
        line = {"loss": loss / weight}
        if data.metric:
            line["accuracy"] = n_correct / data.n_rows
        line |= {"lr": float(rate), "seconds": seconds}
        values.append(line)
    return values


def _run(fit: Fit, order: np.ndarray, rates: np.ndarray, results: np.ndarray) -> bool:
    """Train on all batches of some epochs, with these rates, in one call of the engine.

    If not all is finite afterwards, everything is as before, and it returns False.
    """
    ws, state, data = fit.ws, fit.state, copy.copy(fit.data)
    for kept, array in zip(fit.epoch_start, fit.trained, strict=True):
        kept[:] = array
    slots, used = ws.slots.copy(), ws.threads_used.copy()
    hyper = fit.scheduled.optimizer.hyper(state.step + 1, rates)
    data.order, data.epoch_rows = order, data.n_rows
    ws.completed, began = 0, time.perf_counter()
    try:
        fit.engine.run_batches(
            ws, data, Steps(hyper, fit.seed, state.total_steps), results, 0, len(results)
        )
    except BaseException:  # of a handler of a signal
        fit.count(ws.completed, float(rates[max(ws.completed, 1) - 1]))
        raise
    fit.pace.note(len(results), time.perf_counter() - began)
    if ws.completed < len(results) or not fit.is_finite:
        for kept, array in zip((*fit.epoch_start, slots), (*fit.trained, ws.slots), strict=True):
            array[:] = kept
        ws.threads_used.clear()
        ws.threads_used.update(used)
        return False
    fit.count(len(results), float(rates[-1]))
    return True
