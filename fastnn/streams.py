"""Fits on an iterable of batches: each of its items is one step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from . import interrupts
from .averages import SWA
from .engines.workspace import Data
from .errors import NotFittedError, ShapeError
from .features import are_array, is_name, no_array
from .ops import BY_KIND
from .ops.operation import Table
from .run import SLICE_SECONDS
from .settings import Settings
from .sparse import is_sparse
from .targets import check_sum, check_weights
from .training import Training
from .weights import classes_of_rows, weights_of_classes

if TYPE_CHECKING:
    from .augmented import Augmenter
    from .model import Sequential

#: Steps for which schedules are computed at once, where an epoch has an unknown number of batches.
_PLANNED = 256

#: What :meth:`Source.pull` gives after the last item.
END = object()

#: Arguments of fit that belong to arrays, and what means that they are not given.
_OF_ARRAYS = {
    "batch_size": "auto", "rows": None, "sample_weight": None, "validation_split": 0.0,
    "accumulate": 1,
}  # fmt: skip


def of(X, y, options: dict[str, Any]) -> Source | None:
    """The batches that X stands for, or None if X are the rows; `options` are those of fit.

    Raises
    ------
    ValueError, TypeError
        If y is missing, or an option belongs to arrays.
    """
    if is_name(X):
        raise TypeError(no_array(X, "X", y))
    if y is not None:
        return None
    if are_array(X) or not (hasattr(X, "__iter__") or callable(X)):
        raise TypeError(
            "y is missing: give X and y, or as X an iterable of batches, each of which is a pair "
            "(X, y)"
        )
    for name, default in _OF_ARRAYS.items():
        given = options.get(name, default)
        if given is not default and not (isinstance(given, type(default)) and given == default):
            raise ValueError(
                f"{name} belongs to a fit on arrays: here every item (X, y) or (X, y, "
                f"sample_weight) of the iterable is a batch, taken as it comes; leave out {name}"
            )
    if isinstance(options.get("class_weight"), str):
        raise ValueError(
            "class_weight='balanced' needs the labels of all rows: give a dict with a weight for "
            "each class"
        )
    return Source(X, options)


class Source:
    """The batches of a fit, opened once for every epoch.

    Parameters
    ----------
    given : iterable or callable
        What fit was given as X. A callable without ``__iter__`` returns the iterable of an epoch.
    options : dict
        The arguments of fit.

    Attributes
    ----------
    options : dict
        Those of the fit: an iterator serves one epoch.
    must_reach : int or None
        Steps that a single iterator has to serve, if they alone end the fit.
    n_batches, n_rows : int or None
        Those of an epoch, if they are known.
    most_rows : int
        Rows of the largest batch, as far as it is known.
    first : tuple
        The first batch: (X, y, weights or None).
    """

    def __init__(self, given, options: dict[str, Any]):
        self._given = given
        self.is_once = hasattr(given, "__next__")
        self.must_reach = None
        if self.is_once:
            options = self._one_epoch(options)
        self.options = options
        self._iterator: Iterator | None = None
        self._waiting: list[Any] = []
        self.n_batches = self._length()
        self.n_rows: int | None = None
        self.most_rows = 0
        if isinstance(given, list | tuple):
            rows = [_rows_of(item) for item in given]
            self.n_rows, self.most_rows = sum(rows), max(rows, default=0)
        try:
            self.first = self._first()
        except BaseException:
            self.close()
            raise

    def _one_epoch(self, options: dict[str, Any]) -> dict[str, Any]:
        initial = options.get("initial_epoch", 0)
        epochs, steps = options.get("epochs"), options.get("steps")
        if epochs is None:
            self.must_reach = steps
            return options | {"epochs": initial + 1}
        if epochs > initial + 1:
            raise ValueError(
                f"an iterator serves one epoch, but epochs is {epochs}: give a list of batches, "
                "another iterable that can be repeated, or a function that returns a new iterator"
            )
        return options

    def _length(self) -> int | None:
        try:
            return len(self._given) or None
        except TypeError:  # also that of an object whose __len__ knows no number
            return None

    def _first(self) -> tuple[Any, Any, Any]:
        self.open()
        item = self.pull()
        if item is END:
            raise ValueError(
                "the iterable of batches is empty"
                + (": an iterator serves one fit, and this one is at its end" * self.is_once)
            )
        self._waiting.append(item)
        first = parts_of(item, 0, 0)
        self.most_rows = max(self.most_rows, _rows_of(item))
        return first

    @property
    def rows_of_epoch(self) -> int:
        """Rows of an epoch, if all batches are as large as the first, or 0."""
        if self.n_rows is not None:
            return self.n_rows
        return (self.n_batches or 0) * _rows_of(self.first)

    def open(self) -> None:
        """Begin an epoch, unless its first batch waits."""
        if self._waiting:
            return
        given = self._given
        if not hasattr(given, "__iter__"):
            given = interrupts.interruptible(given)
        self._iterator = interrupts.interruptible(iter, given)

    def pull(self) -> Any:
        """The next item, or :data:`END`."""
        if self._waiting:
            return self._waiting.pop()
        assert self._iterator is not None
        return interrupts.interruptible(next, self._iterator, END)

    def put_back(self, item) -> None:
        """Give an item to the next :meth:`pull`."""
        self._waiting.append(item)

    def close(self) -> None:
        """Let go of the batches; a generator is closed."""
        iterator, self._iterator = self._iterator, None
        self._waiting.clear()
        if hasattr(iterator, "close"):
            interrupts.interruptible(iterator.close)  # type: ignore[union-attr]


def parts_of(item, epoch: int, batch: int) -> tuple[Any, Any, Any]:
    """(X, y, weights or None) of an item.

    Raises
    ------
    TypeError
        If it is no pair or triple.
    """
    if isinstance(item, tuple | list) and len(item) in (2, 3):
        return (*item, None)[:3]  # type: ignore[return-value]
    size = f" of {len(item)}" if isinstance(item, tuple | list) else ""
    raise TypeError(
        f"{_place(epoch, batch)} is a {type(item).__name__}{size}, not a pair (X, y) or a triple "
        "(X, y, sample_weight): if the iterable holds the rows of X, give y as well"
    )


def _rows_of(item) -> int:
    """The rows of a batch, or 0 if it is none, which is an error when it is its turn."""
    try:
        X = item[0]
        return X.shape[0] if is_sparse(X) else len(X)
    except Exception:
        return 0


def _place(epoch: int, batch: int) -> str:
    return f"batch {batch} of epoch {epoch} (both from 0)"


class Converter:
    """Turns the batches of a fit into data for an engine, and refuses those that do not fit.

    Parameters
    ----------
    net : Sequential
    source : Source
    settings : Settings

    Attributes
    ----------
    source : Source
    n_inputs : int
        Columns of X as given.
    loss : LossFunction
    target : Target
        The form of the targets, which the first batch decides on if no fit has.
    first : Data
        The first batch.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If the first batch does not fit.
    """

    def __init__(self, net: Sequential, source: Source, settings: Settings):
        self._net, self.source = net, source
        self.n_inputs: int = net.n_inputs or 0
        self._class_weight = settings.class_weight
        self._of_class: np.ndarray | None = None
        self._dtype: np.dtype | None = None
        #: The rows of an epoch, where a sum of losses divides its penalties among the batches.
        self._epoch_rows: int | None = None
        X, y, _ = source.first
        self._inferred = settings.classes is None
        try:
            X = net._features(X, net.n_inputs)
            self.n_inputs = net.n_inputs or X.shape[1]
            self.loss, self.target = net._describe(y, len(X), settings.loss, settings.classes)
        except (TypeError, ValueError) as error:
            raise self._named(error, 0, 0) from None
        self._inferred = self._inferred and self.target is not net._target
        self.first = self.data(source.first, 0, 0)

    def divide_penalties(self, plan) -> None:
        """Have each batch count its share of the penalties, where the loss is a sum.

        Raises
        ------
        ValueError
            If the share is not known.
        """
        table = Table(plan.training.ops, 1, training=True)
        penalises = any(
            call.kernel == "add_penalty"
            for index, op in enumerate(table.records)
            for call in BY_KIND[op.kind].penalty(table, index)
        )
        if plan.mean or not penalises:
            return
        if self.source.n_rows is None:
            raise ValueError(
                "a loss that is a sum divides the penalties l1 and l2 among the batches by their "
                "rows, but how many rows there are is not known: give a list of batches, or take "
                "a loss that is a mean, such as mse"
            )
        self._epoch_rows = self.first.epoch_rows = self.source.n_rows

    def data(self, parts: tuple[Any, Any, Any], epoch: int, batch: int) -> Data:
        """The data of a batch.

        Raises
        ------
        ShapeError, ValueError, TypeError
            The message says which batch it is.
        """
        try:
            return self._data(*parts)
        except (TypeError, ValueError) as error:
            raise self._named(error, epoch, batch) from None

    def _data(self, X, y, weights) -> Data:
        if hasattr(X, "dtype"):
            self._check_dtype(X)
        X = self._net._features(X, self.n_inputs)
        data = self._net._data(X, y, self.target, self.loss)
        data.weights = check_weights(weights, len(X), some=False)
        data.epoch_rows = self._epoch_rows
        if self._class_weight is not None:
            self._weigh(data)
        return data

    def _check_dtype(self, X) -> None:
        known = isinstance(X, np.ndarray) or is_sparse(X)
        dtype = X.dtype if known else np.asarray(X).dtype
        if self._dtype is None:
            self._dtype = dtype
        elif dtype != self._dtype:
            raise TypeError(
                f"X has the dtype {dtype}, but that of the first batch is {self._dtype}: give all "
                "batches one dtype"
            )

    def _weigh(self, data: Data) -> None:
        classes, positions = classes_of_rows(data, self.target)
        if self._of_class is None:
            self._of_class = weights_of_classes(self._class_weight, classes)
        of_rows = self._of_class[positions]
        data.weights = of_rows if data.weights is None else data.weights * of_rows
        check_sum(data.weights, "class_weight times sample_weight", some=False)

    def _named(self, error: Exception, epoch: int, batch: int) -> Exception:
        """An error of arguments that says which batch it is about."""
        kinds = (ShapeError, NotFittedError, TypeError, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        message = f"{_place(epoch, batch)}: {error}"
        if self._inferred and "classes" in str(error):
            message += "; the first batch decides which there are, unless classes=[...] says it"
        return kind(message)


class StreamTraining(Training):
    """A fit on an iterable of batches."""

    def __init__(
        self, *arguments, source: Source, converter: Converter, augmenter: Augmenter | None = None
    ):
        super().__init__(*arguments)
        self._source, self._converter, self._augmenter = source, converter, augmenter
        self._set_length()
        average = self.settings.average
        self._must_know_last = isinstance(average, SWA)
        self._weight, self._n_rows_done = 0.0, 0

    #: Every step reads an item of the user's.
    _may_run_together = False

    def _set_length(self) -> None:
        self.n_epochs, self.n_steps = self.settings.length(self._source.n_batches)

    def _finish(self) -> None:
        try:
            super()._finish()
        finally:
            self._source.close()

    @property
    def _is_unfinished(self) -> bool:
        has_epochs = self.n_epochs is None or self.epochs_done < self.n_epochs
        return has_epochs and super()._is_unfinished

    def _begin_epoch(self, order) -> None:
        fit, source, first = self.fit, self._source, self.batches or 0
        left = None if self.n_steps is None else self.n_steps - self.step + first
        known = [n for n in (source.n_batches, left) if n is not None]
        self._end = min(known, default=None)
        end = self._end
        if source.n_batches is None:
            end = first + _PLANNED if end is None else min(end, first + _PLANNED)
        fit.begin_epoch(None, first, end, self._epoch_start)
        self._planned = fit.epoch_batches
        # The number of the last one: an average may begin or end with it.
        fit.epoch_batches = -1 if self._end is None else self._end
        if len(fit.results) < self._planned:
            fit.results = np.concatenate([
                fit.results[:first], np.zeros((self._planned - first, 2)),
            ])  # fmt: skip
        self._weight, self._n_rows_done = 0.0, 0
        source.open()
        for batch in range(first):  # where the epoch goes on from a checkpoint
            item = source.pull()
            if item is END:
                raise ValueError(
                    f"the checkpoint is that of {first} batches of an epoch, but the iterable has "
                    f"only {batch}: give the batches of that fit"
                )
            self._count(self._next_data(item, batch))

    def _steps(self) -> int:
        """Run the steps of the present epoch; returns how many batches of it are done."""
        source, bar, keeper = self._source, self._bar, self._keeper
        shown, rows = time.perf_counter(), 0
        for batch in count(self.fit.epoch_first):
            self._is_steady = self.stopped is None
            if self.stopped is not None or batch == self._end != source.n_batches:
                break
            item = source.pull()
            if item is END or batch == source.n_batches:
                self._end_epoch(batch, item)
                break
            rows += self._step(item, batch)
            if time.perf_counter() > shown + SLICE_SECONDS / 2:
                bar.advance(rows)
                shown, rows = time.perf_counter(), 0
            self._is_steady = self.stopped is None
            interrupts.check()
            if keeper is not None and self._is_steady:
                keeper.between_steps(self)
        self._is_steady = False
        bar.advance(rows)
        return batch

    def _next_data(self, item, batch: int) -> Data:
        epoch = self.epochs_done
        data = self._converter.data(parts_of(item, epoch, batch), epoch, batch)
        if self._augmenter is None:
            return data
        return self._augmenter.batch(data, self.fit.state.epoch, batch)

    def _count(self, data: Data) -> None:
        """Count the rows of a batch, and their weights."""
        self._n_rows_done += len(data.X)
        if data.weights is None:
            self._weight += len(data.X)
        else:  # in one chain over the rows of the epoch, as where they are one array
            chain = np.add.accumulate(np.concatenate([[self._weight], data.weights]))
            self._weight = float(chain[-1])

    def _step(self, item, batch: int) -> int:
        """Train on a batch; returns its rows."""
        fit, calls, data = self.fit, self._calls, self._next_data(item, batch)
        if self._must_know_last and self._source.n_batches is None:
            self._look_ahead(batch)
        n_rows = len(data.X)
        if n_rows > fit.ws.rows:
            fit.make_room(n_rows)
        if batch == self._planned:
            fit.plan_steps(batch, _PLANNED)
            self._planned += _PLANNED
        if batch == len(fit.results):
            fit.results = np.concatenate([fit.results, np.zeros_like(fit.results)])
        fit.data, self._is_steady = data, False
        if not fit.steps(0, 1, batch):
            self._diverged(batch)
        self._count(data)
        if calls.follow_steps:
            calls.after_steps(self)
        self._check_time()
        return n_rows

    def _look_ahead(self, batch: int) -> None:
        item = self._source.pull()
        if item is END:
            self._source.n_batches = self.fit.epoch_batches = batch + 1
            self._set_length()
        else:
            self._source.put_back(item)

    def _end_epoch(self, batches: int, item) -> None:
        """Note how many batches an epoch has, or refuse another number."""
        source = self._source
        if source.n_batches is None:
            source.n_batches = batches
            self._set_length()
        elif item is not END or batches < source.n_batches:
            has = f"more than {source.n_batches}" if item is not END else f"only {batches}"
            first = "the first had" if self.epochs_done else "its length says"
            raise ValueError(
                f"epoch {self.epochs_done} (from 0) has {has} batches, but {first} "
                f"{source.n_batches}: all epochs must have as many"
            )
        if source.must_reach is not None and self.step < source.must_reach:
            raise ValueError(
                f"the iterable ended after {self.step} batches, but steps is {source.must_reach}: "
                "give a list or a function that returns a new iterator, or epochs=1"
            )

    def _values(self, batches: int) -> dict[str, float]:
        loss, n_correct = np.add.reduce(self.fit.results[:batches]).tolist()
        self.history.n_rows = max(self.history.n_rows, self._n_rows_done)
        if self.fit.ws.plan.mean:
            if not self._weight > 0:
                raise ValueError("sample_weight must be above 0 for some row of an epoch")
            loss /= self._weight
        values = {"loss": loss}
        if self.fit.data.metric:
            values["accuracy"] = n_correct / self._n_rows_done
        return values

    def _rows_of(self, batches: int) -> int:
        return self._n_rows_done
