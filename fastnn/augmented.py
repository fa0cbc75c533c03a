"""Fits whose batches are augmented: each batch is copied, changed by the user's code, trained on.

The random numbers of a batch are those of (seed, epoch, batch), so the bits depend neither on the
threads nor on when it is made.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import interrupts
from .ahead import Chunks
from .augmentation.rows import RowWise
from .checks import is_finite
from .engines.csr import CSR
from .engines.workspace import Data
from .errors import ShapeError
from .layers import Embedding
from .losses import LossFunction
from .random import Stream
from .tables import Loss
from .targets import ZERO_OR_ONE, check_values
from .training import Training

if TYPE_CHECKING:
    from .model import Sequential


class Augmenter:
    """Applies the augmentations of a fit to batches.

    Parameters
    ----------
    net : Sequential
    steps : tuple
        What :func:`fastnn.augmentation.get` returned.
    loss : LossFunction
    n_inputs : int

    Attributes
    ----------
    changes_targets : bool
        Whether one of them has ``augment_pairs``; targets are then rows of numbers.

    Raises
    ------
    ShapeError, ValueError
        If an augmentation cannot be applied to these rows or targets.
    """

    def __init__(self, net: Sequential, steps: tuple, loss: LossFunction, n_inputs: int):
        self._steps, self._dtype, self._loss = steps, net.dtype, loss
        self._n_outputs = net.n_outputs
        first = net.layers[0]
        self._codes = first if isinstance(first, Embedding) else None
        self._seed = net.seed
        self._bits = np.random.Philox(key=np.zeros(2, np.uint64))
        self.changes_targets = any(hasattr(step, "augment_pairs") for step in steps)
        self._is_by_row = self._codes is None and all(
            isinstance(step, RowWise) and type(step).__call__ is RowWise.__call__ for step in steps
        )
        for step in steps:
            wanted = getattr(step, "n_inputs", None)
            if wanted is not None and wanted != n_inputs:
                raise ShapeError(
                    f"{step!r} takes rows of {wanted} elements, but X has {n_inputs} columns: give "
                    "the shape of the images that the rows are"
                )
        if self.changes_targets and loss.code in ZERO_OR_ONE:
            raise ValueError(
                f"the targets of {loss.name} are 0 or 1, but augment mixes them: use cross_entropy "
                "or binary_cross_entropy"
            )

    def data(
        self, whole: Data, rows: slice, batch_size: int, epoch: int, batch: int
    ) -> tuple[Data, Exception | None]:
        """The augmented batches of some rows (places in the order), of which `batch` is the first.

        If one of them raises an exception, the data are those before it.
        """
        data, done = self._copied(whole, rows, batch_size), 0
        if self._is_by_row:
            with suppress(Exception):
                if self._augment_rows(data, epoch, batch):
                    return data, None
            data = self._copied(whole, rows, batch_size)  # to find what went wrong, and where
        assert isinstance(data.X, np.ndarray)
        Y = data.Y if self.changes_targets else None
        try:
            for first in range(0, len(data.X), batch_size):
                some = slice(first, first + batch_size)
                self._augment(data.X[some], None if Y is None else Y[some], epoch, batch)
                done, batch = first + batch_size, batch + 1
        except Exception as error:
            parts: dict[str, Any] = {
                name: None if array is None else array[:done] for name, array in _arrays(data)
            }
            return replace(data, X=data.X[:done], **parts), error
        return data, None

    def stand_in(self, whole: Data) -> Data:
        """Data like those of the first batch."""
        return self._copied(whole, slice(0, min(whole.batch_size, whole.n_rows)), whole.batch_size)

    def _copied(self, whole: Data, rows: slice, batch_size: int) -> Data:
        """Rows with their targets and weights, which may be changed."""
        order = rows if whole.order is None else whole.order[rows]
        parts: dict[str, Any] = {
            name: None if array is None else array[order] for name, array in _arrays(whole)
        }
        if self.changes_targets:
            parts |= {"Y": self._numbers(parts["Y"], parts["labels"]), "labels": None}
        return replace(
            whole, X=self._features(whole, order), order=None, scale=1.0, batch_size=batch_size,
            some_rows=False, epoch_rows=whole.epoch_rows or whole.n_rows, **parts,
        )  # fmt: skip

    def batch(self, data: Data, epoch: int, batch: int) -> Data:
        """The augmented data of one batch."""
        found, error = self.data(data, slice(0, len(data.X)), len(data.X), epoch, batch)
        if error is not None:
            raise error
        return replace(found, epoch_rows=data.epoch_rows)

    def _features(self, whole: Data, rows) -> np.ndarray:
        """Rows of X of the network's dtype, scaled: always a copy, which may be changed."""
        if isinstance(whole.X, np.ndarray) and not isinstance(rows, slice):
            X = whole.X.take(rows, axis=0) if type(whole.X) is np.ndarray else whole.X[rows]
            X = np.asarray(X).astype(self._dtype, copy=False)
            return X if whole.scale == 1 else np.multiply(X, self._dtype.type(whole.scale), out=X)
        X = np.asarray(whole.features(rows, self._dtype))
        return X if isinstance(whole.X, CSR) else np.array(X)

    def _numbers(self, Y: np.ndarray | None, labels: np.ndarray | None) -> np.ndarray:
        """Targets as rows of numbers, a copy; labels are one-hot, or 0 and 1 for one output."""
        if Y is not None:
            return np.array(Y)
        assert labels is not None
        if self._n_outputs == 1:
            return labels[:, None].astype(self._dtype)
        return (labels[:, None] == np.arange(self._n_outputs)).astype(self._dtype)

    def _generator(self, epoch: int, batch: int) -> np.random.Generator:
        """The random numbers of a batch."""
        # In a third of the time of a new Philox, which asks the system for entropy.
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {
                "counter": np.array([0, 0, batch, epoch], np.uint64),
                "key": np.array([self._seed, int(Stream.AUGMENT)], np.uint64),
            },
            "buffer": np.zeros(4, np.uint64), "buffer_pos": 4, "has_uint32": 0, "uinteger": 0,
        }  # fmt: skip
        return np.random.Generator(self._bits)

    def _augment_rows(self, data: Data, epoch: int, batch: int) -> bool:
        """Change batches in place, all at once, with the random numbers that each has by itself.

        Returns whether all elements are finite then.
        """
        X, size = data.X, data.batch_size
        assert isinstance(X, np.ndarray)
        drawn: list[list[tuple]] = [[] for _ in self._steps]
        for first in range(0, len(X), size):
            rng = self._generator(epoch, batch)
            for step, own in zip(self._steps, drawn, strict=True):
                own.append(step.draw(X[first : first + size].shape, X.dtype, rng))
            batch += 1
        for step, own in zip(self._steps, drawn, strict=True):
            joined = (None if p[0] is None else np.concatenate(p) for p in zip(*own, strict=True))
            step.apply(X, tuple(joined))
        return is_finite(X.reshape(-1))

    def _augment(self, X: np.ndarray, Y: np.ndarray | None, epoch: int, batch: int) -> None:
        """Change a batch in place.

        Raises
        ------
        TypeError, ShapeError, ValueError
            If an augmentation returns something else than a finite batch like the one it got.
        Exception
            What it raises itself, with a note that names the batch.
        """
        rng = self._generator(epoch, batch)
        for step in self._steps:
            changes_targets = hasattr(step, "augment_pairs")
            given = X.view()  # whose shape and flags the user's code may change
            try:
                if changes_targets:
                    found = interrupts.interruptible(
                        step.augment_pairs, given, self._narrow(Y), rng
                    )
                else:
                    found = interrupts.interruptible(step, given, rng)
            except Exception as error:
                error.add_note(f"raised by {_place(step, epoch, batch)}")
                raise
            try:
                changed = self._changed_targets(found, Y) if changes_targets else found
                _take(changed, X, "X", given)
                if self._codes is not None:
                    self._codes.check(X, self._dtype, "the batch that it returned")
            except (TypeError, ValueError) as error:
                raise type(error)(f"{_place(step, epoch, batch)}: {error}") from None

    def _narrow(self, Y) -> np.ndarray:
        """The targets without the columns that :meth:`LossFunction.spread` repeats.

        It is another array object, whose elements are those of Y where there are no such columns.
        """
        each = self._loss.n_per_target
        if each == 1:
            return Y.view()
        columns = Y.shape[1] // each
        is_tiled = self._loss.code == Loss.gaussian_nll
        return np.ascontiguousarray(Y[:, :columns] if is_tiled else Y[:, ::each])

    def _changed_targets(self, found, Y):
        """Take the targets that ``augment_pairs`` returned; returns its X."""
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise TypeError(f"augment_pairs must return a pair (X, y), not {_shown(found)}")
        X, y = found
        targets = self._narrow(Y)
        _take(y, targets, "y")
        check_values(targets, self._loss.code, "y")
        Y[...] = self._loss.spread(targets)
        return X


def _arrays(data: Data) -> tuple[tuple[str, np.ndarray | None], ...]:
    """What data have for each row besides X."""
    return ("Y", data.Y), ("labels", data.labels), ("weights", data.weights)


def _place(step, epoch: int, batch: int) -> str:
    name = getattr(step, "__name__", None)
    named = repr(step) if name is None else f"the function {name}"
    return f"augment, {named}, in batch {batch} of epoch {epoch} (both from 0)"


def _shown(value) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of the shape {value.shape}"
    return "None" if value is None else f"an object of the type {type(value).__name__}"


def _take(found, out: np.ndarray, name: str, given: np.ndarray | None = None) -> None:
    """Copy what the user's code returned to where it belongs, unless it is `given`, a view of that.

    Raises
    ------
    TypeError, ShapeError, ValueError
    """
    if not isinstance(found, np.ndarray):
        hint = ": let it return the batch" if found is None else ""
        raise TypeError(
            f"it returned {_shown(found)} as {name}, not an array of {out.dtype} of the shape "
            f"{out.shape}{hint}"
        )
    if found.shape != out.shape:
        raise ShapeError(
            f"it returned {name} of the shape {found.shape}, but the batch has {out.shape}"
        )
    if found.dtype != out.dtype:
        raise TypeError(
            f"it returned {name} of {found.dtype}, but the batch is of {out.dtype}: return it as "
            f"batch.astype({out.dtype.name!r})"
        )
    if found is not given:
        out[...] = found
    if not is_finite(out.reshape(-1)):
        raise ValueError(f"it returned {name} with NaN or infinite elements")


class AugmentedTraining(Training):
    """A fit on arrays whose batches are augmented."""

    #: Every batch is made by the user's code.
    _may_run_together = False

    def __init__(self, *arguments, augmenter: Augmenter):
        super().__init__(*arguments)
        self._chunks = Chunks(augmenter)

    def _begin_epoch(self, order) -> None:
        super()._begin_epoch(order)
        fit = self.fit
        whole = replace(fit.data, order=order)
        self._chunks.begin_epoch(whole, fit.state.epoch, fit.epoch_first, fit.epoch_batches)

    def _run_steps(self, first: int, last: int) -> int:
        fit, whole, done = self.fit, self.fit.data, first
        while done < last:
            self._is_steady = self.stopped is None  # Ctrl-C may come in the user's code
            chunk = self._chunks.next(done)
            self._is_steady = False
            end = min(last, chunk.end)
            assert chunk.data is not None
            fit.data = chunk.data
            try:
                with self._chunks.one_thread_less():
                    done += fit.steps(done - chunk.first, end - chunk.first, done)
            finally:
                fit.data = whole
            if done < end:
                break
        return done - first

    def _steps(self) -> int:
        try:
            return super()._steps()
        finally:
            self._chunks.end_epoch()

    def _finish(self) -> None:
        try:
            self._chunks.close()
        finally:
            super()._finish()
