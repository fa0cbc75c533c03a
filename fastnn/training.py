"""The training loop: epochs, shuffling, validation, progress, and what stops it.

Between Python and the engine passes one call per slice of about 100 ms. How an epoch is sliced
changes nothing in the results.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import random
from .checks import is_finite
from .engines.tables import HYPER_COLUMNS
from .engines.workspace import Data, Workspace
from .errors import DivergedError
from .optimizers import Optimizer

#: Seconds of work per call of the engine.
SLICE_SECONDS = 0.1

#: Rows that are shuffled at once, whether they belong to one epoch or several.
_SHUFFLED_ROWS = 1 << 13


class History(Mapping):
    """What each epoch of a fit gave: a mapping from names to lists.

    Keys are ``loss``, ``lr``, ``seconds`` and, where they apply, ``accuracy``, ``val_loss`` and
    ``val_accuracy``. Training loss and accuracy are those of the minibatches as they were met,
    before each step.

    Attributes
    ----------
    loss_name : str
        The loss that was minimised.
    engine : str
        The engine that ran.
    n_threads : int
        Threads it could use.
    n_rows : int
        Rows of an epoch.

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
        self._lists: dict[str, list[float]] = {}

    def append(self, **values: float) -> None:
        """Note the values of one epoch."""
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
        """Training rows per second over all epochs, validation left out."""
        seconds = sum(self._lists.get("seconds", ()))
        epochs = len(self._lists.get("seconds", ()))
        return self.n_rows * epochs / seconds if seconds > 0 else 0.0

    def plot(self, path=None):
        """Draw the learning curves (extra ``plot``).

        Parameters
        ----------
        path : str or path, optional
            Where to write the picture; its ending chooses the format.

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


@dataclass
class TrainingState:
    """What a run of training carries from step to step besides the parameters.

    With it and the parameters, a later fit goes on as if there had been no pause.
    """

    optimizer: Optimizer
    slots: np.ndarray
    step: int = 0
    epoch: int = 0


def train(
    engine,
    ws: Workspace,
    state: TrainingState,
    data: Data,
    history: History,
    *,
    seed: int,
    epochs: int,
    shuffle: bool,
    progress: Progress,
    validate=None,
) -> None:
    """Run epochs of minibatch descent.

    Parameters
    ----------
    engine
        One of :mod:`fastnn.engines`.
    ws : Workspace
        Its params and slots are trained in place.
    state : TrainingState
        Counted on; its slots are those of `ws`.
    data : Data
        The training rows; its order is set here.
    history : History
        Takes a line per finished epoch.
    validate : callable, optional
        ``validate()`` gives a dict of values for the history.

    Raises
    ------
    DivergedError
        If a loss or a parameter is not finite; the parameters are then those of the start of the
        epoch, and the optimizer's memory is cleared.
    KeyboardInterrupt
        After Ctrl-C, between two calls of the engine; parameters and history are kept.
    """
    n_batches, n_rows = data.n_batches, len(data.X)
    if shuffle:
        data.order = np.arange(n_rows)
    results = np.zeros((n_batches, 2))
    at_start = np.empty_like(ws.params)
    orders = _orders(seed, state.epoch, epochs, n_rows)
    slice_batches = 1
    # An empty range binds the program: compiling kernels is not part of any epoch.
    engine.run_batches(ws, data, state.optimizer.rule, np.zeros((0, HYPER_COLUMNS)), results, 0, 0)
    with _deferred_interrupt() as interrupted:
        for epoch in range(epochs):
            epoch_began = time.perf_counter()
            at_start[:] = ws.params
            if shuffle:
                data.order = next(orders)
            first = 0
            while first < n_batches:
                last = min(first + slice_batches, n_batches)
                rates = np.full(last - first, state.optimizer.lr)
                hyper = state.optimizer.hyper(state.step + 1, rates)
                began = time.perf_counter()
                done = engine.run_batches(
                    ws, data, state.optimizer.rule, hyper, results[first:last], first, last
                )
                elapsed = time.perf_counter() - began
                state.step += done
                if done < last - first:
                    _diverged(ws, state, at_start, epoch, first + done)
                slice_batches = _next_slice(last - first, elapsed)
                progress.advance(min(last * data.batch_size, n_rows) - first * data.batch_size)
                first = last
                if interrupted():
                    raise KeyboardInterrupt
            if not is_finite(ws.params):
                _diverged(ws, state, at_start, epoch, n_batches - 1)
            seconds = time.perf_counter() - epoch_began
            state.epoch += 1
            line = _epoch_values(results, data, ws.plan.mean)
            if validate is not None:
                line |= validate()
            history.append(**line, lr=state.optimizer.lr, seconds=seconds)
            progress.finish_epoch(epoch + 1, epochs, line)
            if interrupted():
                raise KeyboardInterrupt


def _orders(seed: int, first: int, epochs: int, n_rows: int) -> Iterator[np.ndarray]:
    """The order of the rows in each epoch; those of several short epochs are drawn at once."""
    at_once = max(1, _SHUFFLED_ROWS // n_rows)
    for epoch in range(0, epochs, at_once):
        some = min(at_once, epochs - epoch)
        if some == 1:
            yield random.permutation(seed, random.Stream.SHUFFLE, first + epoch, n_rows)
        else:
            yield from random.permutations(seed, random.Stream.SHUFFLE, first + epoch, some, n_rows)


def _epoch_values(results, data: Data, mean: bool) -> dict[str, float]:
    loss, right = np.add.reduce(results).tolist()
    values = {"loss": loss / data.mass if mean else loss}
    if data.hits:
        values["accuracy"] = right / len(data.X)
    return values


def _next_slice(batches: int, seconds: float) -> int:
    """Batches that should take SLICE_SECONDS, at most 8 times as many as the last time."""
    wanted = batches * SLICE_SECONDS / max(seconds, 1e-9)
    return int(max(1, min(wanted, 8 * batches)))


def _diverged(ws, state: TrainingState, at_start, epoch: int, batch: int):
    ws.params[:] = at_start
    ws.slots.fill(0)
    state.step = 0
    raise DivergedError(
        f"the loss is not finite any more in epoch {epoch}, batch {batch} (both from 0): the "
        f"learning rate {state.optimizer.lr:g} is probably too large, or the features differ "
        "widely in scale. The parameters are those of the start of that epoch; lower lr or "
        "standardise X and fit again",
        epoch,
        batch,
    )


@contextlib.contextmanager
def _deferred_interrupt():
    """Note Ctrl-C instead of raising it at once; gives a function that tells whether it came.

    Only in the main thread, and only if nobody else handles it: elsewhere Python raises it.
    """
    came = threading.Event()
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


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
        if show is False or (show == "auto" and not sys.stderr.isatty()):
            return
        try:
            from tqdm import tqdm
        except ImportError:
            if show == "auto":
                return
            raise ImportError("a progress bar needs tqdm: pip install 'fastnn[cli]'") from None
        self._bar = tqdm(total=total, unit="row", unit_scale=True, dynamic_ncols=True)

    def advance(self, rows: int) -> None:
        """So many rows more have been trained on."""
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
