"""Training: epochs as a generator, shuffling, the history, and the progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .engines.workspace import Data
from .errors import DivergedError
from .random import Stream
from .run import Fit

#: Rows that are shuffled at once; an epoch of fewer rows is shuffled together with later epochs.
_SHUFFLED_ROWS = 1 << 13


class History(Mapping):
    """The results of a fit: a mapping from names to lists with a value for each epoch.

    Keys are ``loss``, ``lr`` (of the epoch's last step), ``seconds`` and, where they apply,
    ``accuracy``, ``val_loss``, ``val_accuracy``, ``average_val_loss`` and ``average_val_accuracy``,
    which are those of averaged weights (or, before there is an average, of the weights). Training
    loss and accuracy are those of each minibatch before its step.

    Attributes
    ----------
    loss_name : str
        The loss that was minimised.
    engine : str
        The engine that ran.
    n_threads : int
        Threads that the fit could use.
    threads_used : dict of int to int
        How many minibatches ran in how many threads, which the compiled engines choose by
        measuring; empty for the numpy engine.
    n_rows : int
        Rows of an epoch.
    stopped : str or None
        Why the fit ended before its last epoch, as where :class:`fastnn.LBFGS` has converged.

    Examples
    --------
    >>> from fastnn import Dense, Sequential
    >>> history = Sequential([Dense(1)]).fit([[0.0], [1.0]], [0.0, 1.0], epochs=3, progress=False)
    >>> list(history), len(history["loss"])
    (['loss', 'lr', 'seconds'], 3)
    """

    def __init__(self, loss_name: str, engine: str, n_threads: int, n_rows: int):
        self.loss_name = loss_name
        self.engine = engine
        self.n_threads = n_threads
        self.n_rows = n_rows
        self.threads_used: dict[int, int] = {}
        self.stopped: str | None = None
        self._lists: dict[str, list[float]] = {}

    def append(self, **values: float) -> None:
        """Append the values of one epoch."""
        for name, value in values.items():
            self._lists.setdefault(name, []).append(float(value))

    def __getitem__(self, name: str) -> list[float]:
        return self._lists[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lists)

    def __len__(self) -> int:
        return len(self._lists)

    @property
    def rows_per_second(self) -> float:
        """Training rows per second over all epochs, excluding validation."""
        seconds = sum(self._lists.get("seconds", ()))
        epochs = len(self._lists.get("seconds", ()))
        return self.n_rows * epochs / seconds if seconds > 0 else 0.0

    def plot(self, path=None):
        """Plot the learning curves (extra ``plot``).

        Parameters
        ----------
        path : str or path, optional
            File to write; its extension selects the format.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from .plots import learning_curves

        return learning_curves(self, path)

    def __repr__(self) -> str:
        epochs = len(self._lists.get("loss", ()))
        last = {name: values[-1] for name, values in self._lists.items() if values}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in last.items())
        return f"<History of {epochs} epochs: {shown}>"


def epochs(fit: Fit, count: int, *, shuffle: bool, progress: Progress, validate=None):
    """Run epochs of minibatch descent, one for each value that this generator yields.

    Parameters
    ----------
    fit : Fit
        The fit, with its data set.
    count : int
    shuffle : bool
        Whether every epoch takes the rows in a new order.
    progress : Progress
    validate : callable, optional
        ``validate()`` returns a dict of values for the history.

    Yields
    ------
    dict
        The epoch's loss, accuracy, values of `validate`, learning rate of the last step, and
        seconds.

    Raises
    ------
    DivergedError
        If a loss, parameter or slot is not finite; parameters and state are then those of the
        start of the epoch, and the slots those of the optimizer's first step.
    KeyboardInterrupt
        After Ctrl-C, between two calls of the engine; parameters are kept.
    """
    state, data, first_epoch = fit.state, fit.data, fit.state.epoch
    n_rows = len(data.X)
    orders = _orders(fit, first_epoch, count, n_rows) if shuffle else None
    for epoch in range(count):
        began = time.perf_counter()
        fit.begin_epoch(None if orders is None else next(orders))
        for first, last in fit.slices():
            done = fit.steps(first, last)
            if done < last - first:
                _diverged(fit, epoch, first + done)
            progress.advance(min(last * data.batch_size, n_rows) - first * data.batch_size)
        if not fit.is_finite:
            what = "a parameter, a running statistic or the optimizer's state is"
            _diverged(fit, epoch, data.n_batches - 1, what)
        seconds = time.perf_counter() - began
        state.epoch += 1
        values = _epoch_values(fit)
        if validate is not None:
            values |= validate()
        fit.scheduled.end_epoch(state, values)
        yield {**values, "lr": fit.rate, "seconds": seconds}


def train(fit: Fit, count: int, record, **arguments) -> None:
    """Run the :func:`epochs` of a fit; ``record(values)`` is called after each."""
    for values in epochs(fit, count, **arguments):
        record(values)


def _orders(fit: Fit, first: int, count: int, n_rows: int) -> Iterator[np.ndarray]:
    """The order of the rows in each epoch; those of several short epochs are drawn at once."""
    at_once = max(1, _SHUFFLED_ROWS // n_rows)
    for epoch in range(0, count, at_once):
        n_orders = min(at_once, count - epoch)
        yield from fit.engine.permutations(
            fit.seed, Stream.SHUFFLE, first + epoch, n_orders, n_rows
        )


def _epoch_values(fit: Fit) -> dict[str, float]:
    loss, n_correct = np.add.reduce(fit.results).tolist()
    values = {"loss": loss / fit.data.weight_sum if fit.ws.plan.mean else loss}
    if fit.data.metric:
        values["accuracy"] = n_correct / len(fit.data.X)
    return values


def value_names(data: Data, validates: bool, averages: bool) -> list[str]:
    """The names of the values of an epoch that a schedule can follow."""
    names = ["loss", "accuracy"] if data.metric else ["loss"]
    prefixes = ["val_"] * validates + ["average_val_"] * (validates and averages)
    return names + [prefix + name for prefix in prefixes for name in names]


def _diverged(fit: Fit, epoch: int, batch: int, what: str = "the loss is"):
    fit.roll_back()
    user_loss = fit.ws.plan.user_loss
    suspect = "" if user_loss is None else f", or the loss function {user_loss.name} gave it"
    raise DivergedError(
        f"{what} no longer finite in epoch {epoch}, batch {batch} (both from 0): the "
        f"learning rate {fit.rate:g} is probably too large, or the features differ "
        f"widely in scale{suspect}. The parameters are those of the start of that epoch; lower lr "
        "or standardise X and fit again",
        epoch,
        batch,
    )


class Progress:
    """A progress bar over the rows of all epochs, or nothing.

    Parameters
    ----------
    show : bool or "auto"
        "auto" shows it on a terminal if tqdm is installed.
    total : int
        Rows of all epochs together.

    Raises
    ------
    ImportError
        If `show` is True and tqdm is not installed.
    """

    def __init__(self, show, total: int):
        self._bar: Any = None
        if show is False or (show == "auto" and not _on_terminal()):
            return
        try:
            from tqdm import tqdm
        except ImportError:
            if show == "auto":
                return
            raise ImportError("a progress bar needs tqdm: pip install 'fastnn[cli]'") from None
        if sys.stderr is None:
            raise ValueError("a progress bar needs stderr, which this process does not have")
        self._bar = tqdm(total=total, unit="row", unit_scale=True, dynamic_ncols=True)

    def advance(self, rows: int) -> None:
        """Advance the bar by a number of rows."""
        if self._bar is not None:
            self._bar.update(rows)

    def finish_epoch(self, epoch: int, epochs: int, values: dict[str, float]) -> None:
        """Show the values of the epoch."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch}/{epochs}", refresh=False)
            shown = {name: f"{value:.4f}" for name, value in values.items()}
            self._bar.set_postfix(shown, refresh=epoch == epochs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()


def _on_terminal() -> bool:
    """Whether stderr is a terminal; it is None in a process without a console."""
    return sys.stderr is not None and sys.stderr.isatty()
