"""A running fit: its epochs, one after another, and what callbacks see and change of it."""

from __future__ import annotations

import logging
import math
import reprlib
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from . import full_batch, interrupts, unwatched
from .averages import Averaging
from .callbacks import Calls
from .checkpoints import Keeper
from .checks import real_number
from .early_stopping import Watch
from .engines.workspace import Workspace
from .errors import DivergedError
from .history import History
from .progress import ProgressBar
from .random import Stream
from .run import Fit
from .settings import Settings
from .validation import Validation
from .weights import suspects

if TYPE_CHECKING:
    from .model import Sequential

#: Rows that are shuffled at once; an epoch of fewer rows is shuffled together with later epochs.
_SHUFFLED_ROWS = 1 << 13

log = logging.getLogger("fastnn")
log.addHandler(logging.NullHandler())  # what is shown, and where, is up to the program


class EpochLine(dict):
    """The values of one epoch, by the names of the history.

    Attributes
    ----------
    training : Training
        The fit that goes on.
    """

    def __init__(self, values, training: Training):
        super().__init__(values)
        self.training = training

    def __reduce__(self):
        # A running fit holds addresses of this process, so that a copy has the values alone.
        return dict, (dict(self),)


class Training:
    """A fit, from its preparation to its end; callbacks get it.

    Attributes
    ----------
    net : Sequential
        Its parameters are those of the last step.
    settings : Settings
        The arguments of the fit.
    history : History
        With all complete epochs.
    fit : Fit
        The engine, the arrays and the state.
    validation : Validation or None
    average : Averaging or None
        The average of the weights.
    watch : Watch or None
        Early stopping.
    n_epochs, n_steps : int or None
        How many epochs and steps the fit has, from its first on; None if only time ends it.
    epochs_done : int
        Completed epochs of this fit.
    values : dict
        Those of the last epoch; empty before.
    unwatched_until : float
        Epochs up to which whoever runs the fit sees no single one, so that several may be run
        together: 0 unless it says otherwise.
    resumed : bool
        Whether the fit continues from a checkpoint.
    stopped : str or None
        Why it ends before its last epoch.
    error : BaseException or None
        What ended it, in ``on_fit_end``; None where a loop over its epochs was left.
    """

    #: Whether the engine may run several epochs in one call.
    _may_run_together = True

    def __init__(
        self, net: Sequential, settings: Settings, fit: Fit, history: History,
        validation: Validation | None, validation_ws: Workspace | None, average: Averaging | None,
        watch: Watch | None, bar: ProgressBar, adopt: Callable[[Training], None],
        keeper: Keeper | None = None,
    ):  # fmt: skip
        self.net, self.settings, self.fit, self.history = net, settings, fit, history
        self.validation, self._validation_ws = validation, validation_ws
        self.average, self.watch, self._bar, self._adopt = average, watch, bar, adopt
        self._keeper, self._is_steady = keeper, False
        self.n_epochs, self.n_steps = settings.length(fit.data.n_batches)
        self.values: dict[str, float] = {}
        self.unwatched_until = 0.0
        self.resumed = False
        self.stopped: str | None = None
        self.error: BaseException | None = None
        self._rows = fit.data.order  # the numbers of the rows to train on, or None for all of X
        self.epochs_done = 0
        self._calls = Calls(settings.callbacks)
        self._began, self._ends_at = 0.0, 0.0
        #: Of the epoch under way: when it began, and what a checkpoint has of its start.
        self._in_epoch, self._epoch_began = False, 0.0
        self._epoch_start: tuple[np.ndarray, ...] | None = None

    @property
    def epoch(self) -> int:
        """Completed epochs, counted from ``initial_epoch``."""
        return self.settings.initial_epoch + self.epochs_done

    @property
    def batches(self) -> int | None:
        """Completed steps of the epoch under way; None between two epochs."""
        return self.fit.batches_done if self._in_epoch else None

    @property
    def step(self) -> int:
        """Completed steps of this fit."""
        return self.fit.steps_done

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.fit.rate

    @property
    def lr_factor(self) -> float:
        """A factor of the learning rate of all steps to come; 1 at the beginning of a fit."""
        return self.fit.lr_factor

    @lr_factor.setter
    def lr_factor(self, factor: float) -> None:
        if self.settings.optimizer.full_batch:
            raise ValueError("LBFGS has no learning rate that a factor could change")
        self.fit.lr_factor = real_number(factor, "lr_factor", least=0.0)

    def stop(self, reason: str = "a callback ended it") -> None:
        """End the fit after the present epoch or, between the steps of one, at once.

        Parameters
        ----------
        reason : str
            What ``history.stopped`` says.
        """
        self.stopped = self.stopped or str(reason)

    def snapshot(self) -> tuple[np.ndarray, ...]:
        """Copies of the parameters, the running statistics and the average, as they are now."""
        ws = self.fit.ws
        average = np.empty(0) if self.average is None else self.average.snapshot()
        return ws.params.copy(), ws.state.copy(), average

    def lines(self) -> Iterator[EpochLine]:
        """Train; one line after each epoch, and an empty one before the first.

        Whatever ends it, the network is in order afterwards.

        Raises
        ------
        DivergedError
            If a loss, parameter or slot is not finite; parameters and state are then those of the
            start of the epoch, and the slots those of the optimizer's first step.
        KeyboardInterrupt
            After Ctrl-C, between two calls of the engine; parameters are kept.
        Exception
            Of a loss or a callback. Before the first step the network is what it was.
        """
        before: dict[str, Any] = {}
        try:
            yield EpochLine({}, self)  # it is prepared; from here on whatever ends it is in order
            before = dict(self.net.__dict__)
            self._adopt(self)
            self._begin()
            self._is_steady = True
            if self.settings.optimizer.full_batch:
                full_batch.train(self)
            else:
                yield from self._epochs()
            if self._keeper is not None:
                self._keeper.end(self)
        except BaseException as error:
            self.error = None if isinstance(error, GeneratorExit) else error
            self._keep_interrupted(error)
            kept = isinstance(error, DivergedError | KeyboardInterrupt | GeneratorExit)
            if not kept and not self.fit.steps_done:
                if self.average is not None:
                    self.average.cancel()
                if before:
                    _restore_attributes(self.net, before)
            if isinstance(error, GeneratorExit):
                self.stop("the loop over its epochs ended")
            raise
        finally:
            self._finish()

    def _begin(self) -> None:
        fit, settings = self.fit, self.settings
        log.info(
            "fit: %d rows, loss %s, %r, %s epochs of %d steps, engine %s", fit.data.n_rows,
            self.history.loss_name + (" ('auto')" if settings.loss == "auto" else ""),
            settings.optimizer, self.n_epochs, fit.data.n_batches,
            self.history.engine,
        )  # fmt: skip
        if self.average is not None:
            self.average.begin()
        self._began = time.perf_counter()
        if self._keeper is not None:
            self._keeper.restore(self)
        self._calls.fit_begin(self)
        done_rows = self.epochs_done * fit.data.n_rows + self._rows_of(self.batches or 0)
        used = 0.0 if settings.seconds is None else time.perf_counter() - self._began
        self._bar.begin(done_rows, self.epoch, used)
        if self._keeper is not None:
            self._keeper.begin(self)
        if settings.seconds is not None:
            self._ends_at = self._began + settings.seconds

    def resume(
        self, epochs: int, start: tuple[np.ndarray, ...] | None, stopped: str | None,
        elapsed: float, epoch_seconds: float,
    ) -> None:  # fmt: skip
        """Go on after so many epochs, and in one under way if `start` is what that began with.

        `elapsed` and `epoch_seconds` are what the fit and that epoch have taken.
        """
        now = time.perf_counter()
        self.resumed, self.stopped, self.epochs_done = True, stopped, epochs
        self.values = {name: values[-1] for name, values in self.history.items()}
        self._began, self._epoch_began = now - elapsed, now - epoch_seconds
        self._in_epoch, self._epoch_start = start is not None, start

    def seconds_so_far(self) -> tuple[float, float]:
        """How long the fit and the epoch under way have taken."""
        now = time.perf_counter()
        return now - self._began, now - self._epoch_began if self._in_epoch else 0.0

    def _keep_interrupted(self, error: BaseException) -> None:
        """Write a checkpoint if the fit can go on from where the error came: between two steps."""
        waits = isinstance(error, KeyboardInterrupt | GeneratorExit) and not sys.is_finalizing()
        if self._keeper is not None and waits and self._is_steady and self.stopped is None:
            self._keeper.end(self)

    def _finish(self) -> None:
        """Give the network what it keeps, and let go of the rows."""
        history, fit = self.history, self.fit
        try:
            if self.watch is not None and self.watch.weights is not None:
                self._restore(self.watch.weights)
            if self.average is not None:
                self.average.finish()
            history.stopped, history.n_steps = self.stopped, fit.steps_done
            history.threads_used, history.engine = fit.threads_used, fit.engine.name
            if self.watch is not None:
                history.best_epoch = self.watch.best_epoch
        finally:
            fit.release()
            # After Ctrl-C the line says how far the fit came; an error erases it.
            self._bar.close(keep=not isinstance(self.error, Exception))
            if self._validation_ws is not None:
                self.net._idle.put_back(self._validation_ws)
            log.info("fit: ended after %d steps%s", fit.steps_done, self._why())
            self._calls.fit_end(self)

    def _why(self) -> str:
        if self.error is not None:
            return f" by {type(self.error).__name__}"
        return "" if self.stopped is None else f", {self.stopped}"

    def _restore(self, weights: tuple[np.ndarray, ...]) -> None:
        params, state, average = weights
        ws = self.fit.ws
        ws.params[:], ws.state[:] = params, state
        if self.average is not None:
            ws.average[:] = average

    # -- epochs -------------------------------------------------------------------------------

    def _epochs(self) -> Iterator[EpochLine]:
        runs_together = self._may_run_together and unwatched.is_possible(self, self._bar)
        orders = self._orders(1 if runs_together else None)
        while self._in_epoch or (self.stopped is None and self._is_unfinished):
            self._is_steady = False
            together = unwatched.count(self) if runs_together else 0
            if together > 1:
                values = unwatched.train(self, together, self._rows)
                if values is not None:
                    last = self._complete_epochs(values)
                    self._is_steady = True
                    interrupts.check()
                    yield last
                    continue
                runs_together = False  # one of them will raise an exception
            line = self._epoch(next(orders))
            self._is_steady = True
            if line is None:
                continue
            yield line
            if self._keeper is not None:
                self._keeper.between_epochs(self)

    @property
    def _is_unfinished(self) -> bool:
        return self.n_steps is None or self.step < self.n_steps

    def _orders(self, at_once: int | None = None) -> Iterator[np.ndarray | None]:
        """The order of the rows in each epoch that is run by itself.

        Those of several short epochs are drawn at once, unless it is said how many.
        """
        fit, rows = self.fit, self._rows
        if not self.settings.shuffle:
            while True:
                yield rows
        n_rows = fit.data.n_rows
        if callable(self.settings.shuffle):
            for epoch in count(fit.state.epoch):
                order = _checked_order(self.settings.shuffle(epoch, n_rows), n_rows)
                yield order if rows is None else rows[order]
        at_once = at_once or max(1, _SHUFFLED_ROWS // n_rows)
        while True:
            left = math.inf if self.n_epochs is None else self.n_epochs - self.epochs_done
            for order in fit.engine.permutations(
                fit.seed, Stream.SHUFFLE, fit.state.epoch, int(min(at_once, left)), n_rows
            ):
                yield order if rows is None else rows[order]

    def _epoch(self, order: np.ndarray | None) -> EpochLine | None:
        """Train one epoch, unless a callback stops the fit at its beginning."""
        fit = self.fit
        if not self._in_epoch:  # one that goes on has begun for the callbacks, too
            self._calls.epoch_begin(self)
            if self.stopped is not None:
                return None
            self._epoch_began = time.perf_counter()
        self._bar.begin_epoch()
        self._begin_epoch(order)
        self._in_epoch, self._epoch_start = True, None
        done = self._steps()
        if not fit.is_finite:
            what = "a parameter, a running statistic or the optimizer's state is"
            self._diverged(done - 1, what)
        seconds = time.perf_counter() - self._epoch_began
        return self.complete_epoch(self._values(done), seconds, self._rows_of(done))

    def _begin_epoch(self, order: np.ndarray | None) -> None:
        end, first = self.fit.data.n_batches, self.batches or 0
        if self.n_steps is not None:
            end = min(end, self.n_steps - self.step + first)
        self.fit.begin_epoch(order, first, end, self._epoch_start)

    def _steps(self) -> int:
        """Run the steps of the present epoch; returns how many batches of it are done."""
        fit, n_rows = self.fit, self.fit.data.n_rows
        size, calls = fit.data.batch_size, self._calls
        cut = self._next_cut if calls.follow_steps else None
        done, keeper = fit.epoch_first, self._keeper
        for first, last in fit.slices(cut):
            self._is_steady = False
            done = first + self._run_steps(first, last)
            if done < last:
                self._diverged(done)
            self._bar.advance(min(last * size, n_rows) - first * size)
            if calls.follow_steps:
                calls.after_steps(self)
            self._check_time()
            if self.stopped is not None:
                break
            self._is_steady = True
            if keeper is not None:
                keeper.between_steps(self)
        self._is_steady = False
        return done

    def _run_steps(self, first: int, last: int) -> int:
        """Run the batches first, ..., last - 1 of the epoch, as :meth:`Fit.steps` does."""
        return self.fit.steps(first, last)

    def _next_cut(self, batch: int) -> int:
        return batch + self._calls.steps_to_next(self.step)

    def complete_epoch(self, values: dict[str, float], seconds: float, n_rows: int) -> EpochLine:
        """Count an epoch of these values; validate it, and let all others see it."""
        fit = self.fit
        self._in_epoch = False
        fit.state.epoch += 1
        self.epochs_done += 1
        if self.validation is not None:
            assert self._validation_ws is not None
            measured = self.validation.values(self._validation_ws)
            values |= measured if self.average is None else self.average.validated(measured)
        fit.scheduled.end_epoch(fit.state, values)
        values |= {"lr": fit.rate, "seconds": seconds}
        self.values = values
        self.history.append(values, n_rows)
        if log.isEnabledFor(logging.DEBUG):
            shown = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
            log.debug("epoch %d: %s", self.epoch, shown)
        if self.watch is not None:
            self.watch.observe(self)
        self._bar.finish_epoch(self.epoch, values)
        self._calls.epoch_end(self)
        return EpochLine(values, self)

    def _complete_epochs(self, values: list[dict[str, float]]) -> EpochLine:
        """Count epochs that nobody sees one by one."""
        self.fit.state.epoch += len(values)
        self.epochs_done += len(values)
        self.values = values[-1]
        self._bar.advance(len(values) * self.fit.data.n_rows)
        for line in values:
            self.history.append(line, self.fit.data.n_rows)
        return EpochLine(self.values, self)

    def begin_iteration(self) -> None:
        """Let callbacks see that a full-batch optimizer looks for its next point."""
        if self.stopped is None:
            self._calls.epoch_begin(self)

    def complete_iteration(self, values: dict[str, float], seconds: float) -> None:
        """Count an epoch of a full-batch optimizer, which is one step."""
        self._bar.advance(self.fit.data.n_rows)
        if self._calls.follow_steps:
            self._calls.after_steps(self)
        self._check_time()
        self.complete_epoch(values, seconds, self.fit.data.n_rows)

    def _check_time(self) -> None:
        if self._ends_at and time.perf_counter() >= self._ends_at:
            self.stop(f"after {self.settings.seconds:g} s")

    def _rows_of(self, batches: int) -> int:
        return min(batches * self.fit.data.batch_size, self.fit.data.n_rows)

    def _values(self, batches: int) -> dict[str, float]:
        """The values of an epoch of which so many batches are done."""
        data, n_rows = self.fit.data, self._rows_of(batches)
        loss, n_correct = np.add.reduce(self.fit.results[:batches]).tolist()
        weight = data.weight_sum
        if n_rows < data.n_rows:
            weight = float(n_rows)
            if data.weights is not None:
                rows = slice(n_rows) if data.order is None else data.order[:n_rows]
                weight = float(np.add.accumulate(data.weights[rows])[-1])
        if self.fit.ws.plan.mean:  # an incomplete epoch may have had rows of weight 0 alone
            loss = loss / weight if weight else math.nan
        values = {"loss": loss}
        if data.metric:
            values["accuracy"] = n_correct / n_rows
        return values

    def _diverged(self, batch: int, what: str = "the loss is") -> None:
        fit, epoch = self.fit, self.epochs_done
        others = suspects(fit.ws.plan, fit.data.weights)
        fit.roll_back()
        raise DivergedError(
            f"{what} no longer finite in epoch {epoch}, batch {batch} (both from 0): the "
            f"learning rate {fit.rate:g} is probably too large, or the features differ "
            f"widely in scale{others}. The parameters are those of the start of that epoch; lower "
            "lr or standardise X and fit again",
            epoch,
            batch,
        )


def _checked_order(order, n_rows: int) -> np.ndarray:
    """What a function of the user's returned as the order of the rows of an epoch.

    Raises
    ------
    ValueError
        If it does not hold the number of each row once.
    """
    found = np.asarray(order)
    if found.shape == (n_rows,) and found.dtype.kind in "iu":
        found = np.ascontiguousarray(found, np.int64)
        inside = found.min() >= 0 and found.max() < n_rows
        if inside and np.bincount(found, minlength=n_rows).max() == 1:
            return found
    raise ValueError(
        f"shuffle must return the numbers 0 to {n_rows - 1}, each once, as a vector of integers, "
        f"not {reprlib.repr(order)}"
    )


def _restore_attributes(net: Sequential, before: dict[str, Any]) -> None:
    net.__dict__.update(before)
    for name in net.__dict__.keys() - before.keys():
        del net.__dict__[name]
