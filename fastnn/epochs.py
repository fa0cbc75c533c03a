"""The epochs of a fit as an iterator, which is what runs it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from . import advice, interrupts
from .training import EpochLine, Training

_BUSY = (
    "the network is being trained, by a callback's own fit or in another thread: a network has one "
    "fit at a time"
)


class Epochs(Iterator[EpochLine]):
    """The epochs of a fit: each ``next`` trains one. See :meth:`fastnn.Sequential.epochs`.

    The network knows it by a weak reference, so that a loop that is left ends the fit.

    Attributes
    ----------
    training : Training
    """

    def __init__(self, training: Training):
        self.training = training
        self._lines = training.lines()
        self._has_ended, self._gave_way, self._was_seen = False, False, False
        next(self._lines)

    def __next__(self) -> EpochLine:
        return self._advance(self._next)

    def advance(self) -> EpochLine:
        """``next``, for callers that ignore floating-point errors and are not the main thread."""
        return self._advance(self._lines.__next__)

    def _advance(self, following: Callable[[], EpochLine]) -> EpochLine:
        if self._has_ended:
            raise StopIteration
        current = self.training.net._epochs
        if not self._gave_way and current is not None and current() is self:
            try:
                line = following()
                if not self._was_seen:
                    self._was_seen = True
                    advice.look_at_epoch(self.training)
                return line
            except BaseException as error:
                if self.is_running:  # another thread has called it
                    raise
                self._end_by(error)
                if not self._gave_way:
                    raise
        self._has_ended = True
        raise RuntimeError(
            "another fit of this network has begun since, so these epochs cannot go on"
        )

    @interrupts.deferred
    @np.errstate(all="ignore")
    def _end_by(self, error: BaseException) -> None:
        """End the fit, if it is not that from which the exception came.

        Ctrl-C after the last check of an epoch, and handlers of other signals, raise when the fit
        has come to its yield.
        """
        self._has_ended = True
        if not self._gave_way:
            self.training.net._epochs = None
        if self._lines.gi_frame is not None:  # type: ignore[attr-defined]
            with contextlib.suppress(type(error)):
                self._lines.throw(error)  # type: ignore[attr-defined]

    @interrupts.deferred
    @np.errstate(all="ignore")
    def _next(self) -> EpochLine:
        return next(self._lines)

    @property
    def is_running(self) -> bool:
        """Whether a call of it is under way: of a callback, or in another thread."""
        return self._lines.gi_running  # type: ignore[attr-defined]

    @interrupts.deferred
    @np.errstate(all="ignore")
    def close(self) -> None:
        """End the fit; the network keeps what it has. A loop that is left does so by itself."""
        if self.is_running:  # a callback of its own calls
            self.training.stop("its epochs were closed")
            return
        self._has_ended = True
        self._lines.close()  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def give_way(self) -> None:
        """End the fit, because another one begins; ``next`` then raises RuntimeError.

        Raises
        ------
        RuntimeError
            If a call of it is under way.
        """
        if self.is_running:
            raise RuntimeError(_BUSY)
        self._gave_way = True
        try:
            self._lines.close()  # type: ignore[attr-defined]
        except ValueError:  # another thread has begun to call it
            if not self.is_running:
                raise
            self._gave_way = False
            raise RuntimeError(_BUSY) from None
