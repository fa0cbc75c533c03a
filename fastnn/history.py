"""The results of a fit, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .described import Public


class History(dict[str, list[float]], metaclass=Public, hides=("append", "restore")):
    """The results of a fit: a dict from names to lists with a value for each epoch.

    ``pandas.DataFrame(history)`` has a row for each epoch.

    Keys are ``loss``, ``lr`` (of the epoch's last step), ``seconds`` and, where they apply,
    ``accuracy``, ``val_loss``, ``val_accuracy``, those of metrics such as ``val_f1``, and the same
    for averaged weights, ``average_val_loss`` and so on (before there is an average they are those
    of the weights). Training loss and accuracy are those of each minibatch before its step. Short
    epochs that run in one call of the engine share its seconds equally.

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
    n_steps : int
        Steps of the optimizer.
    stopped : str or None
        Why the fit ended before its last epoch, as where early stopping ended it.
    best_epoch : int or None
        With early stopping, the position of the best epoch in the lists.

    Examples
    --------
    >>> from fastnn import Dense, Sequential
    >>> history = Sequential([Dense(1)]).fit([[0.0], [1.0]], [0.5, 1.0], epochs=3, progress=False)
    >>> list(history), len(history["loss"])
    (['loss', 'lr', 'seconds'], 3)
    """

    def __init__(self, loss_name: str, engine: str, n_threads: int, n_rows: int):
        super().__init__()
        self.loss_name = loss_name
        self.engine = engine
        self.n_threads = n_threads
        self.n_rows = n_rows
        self.n_steps = 0
        self.threads_used: dict[int, int] = {}
        self.stopped: str | None = None
        self.best_epoch: int | None = None
        self._rows_trained = 0
        self._joined: History | None = None  # the last one that was joined to it

    def append(self, values: Mapping[str, float], n_rows: int) -> None:
        """Append the values of one epoch, which took `n_rows` rows."""
        for name, value in values.items():
            self.setdefault(name, []).append(float(value))
        self._rows_trained += n_rows

    def restore(self, lists: Mapping[str, list[float]], rows_trained: int) -> None:
        """Go on with the values of earlier epochs, which took so many rows."""
        lists = dict(lists)
        self.clear()
        self.update(lists)
        self._rows_trained = rows_trained

    def join(self, later: History) -> History:
        """Append the epochs of a later fit, once; values that one of them has not are NaN.

        Returns
        -------
        History
            This one. `n_steps` and `threads_used` are then those of all fits, `loss_name` names all
            losses, and the other attributes are those of the last fit.
        """
        if self._joined is later:
            return self
        done, more = self.n_epochs, later.n_epochs
        for name in later:
            self.setdefault(name, [math.nan] * done)
        for name, values in self.items():
            values.extend(later.get(name, [math.nan] * more))
        if later.loss_name not in self.loss_name.split(", "):
            self.loss_name += f", {later.loss_name}"
        self.engine, self.n_threads, self.n_rows = later.engine, later.n_threads, later.n_rows
        self.n_steps += later.n_steps
        for threads, count in later.threads_used.items():
            self.threads_used[threads] = self.threads_used.get(threads, 0) + count
        self.stopped, self._rows_trained = later.stopped, self._rows_trained + later.rows_trained
        self.best_epoch = None if later.best_epoch is None else done + later.best_epoch
        self._joined = later
        return self

    def has(self, later: History) -> bool:
        """Whether a fit is the last one that was joined to it."""
        return self._joined is later

    def copy(self) -> History:
        """A copy whose lists are its own."""
        new = History(self.loss_name, self.engine, self.n_threads, self.n_rows)
        return new.join(self)

    @property
    def rows_trained(self) -> int:
        """Rows of all epochs together."""
        return self._rows_trained

    @property
    def n_epochs(self) -> int:
        """Epochs, the last of which may be incomplete."""
        return len(self.get("loss", ()))

    @property
    def rows_per_second(self) -> float:
        """Training rows per second over all epochs, excluding validation."""
        seconds = sum(self.get("seconds", ()))
        return self._rows_trained / seconds if seconds > 0 else 0.0

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
        last = {name: values[-1] for name, values in self.items() if values}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in last.items())
        return f"<History of {self.n_epochs} epochs of {self.loss_name}: {shown}>"

    def _repr_html_(self) -> str:
        from . import html

        return html.history(self)
