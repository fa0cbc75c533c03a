"""Augmented batches in chunks of a few milliseconds of work, made here or ahead in another thread.

Where two threads may be used and it proves faster, another thread makes the next chunks while the
engine trains on the present one.
"""

from __future__ import annotations

import contextvars
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import engines, interrupts
from .engines import threads
from .engines.workspace import Data

if TYPE_CHECKING:
    from .augmented import Augmenter

#: Seconds of work in a chunk of batches, the most of them, and the most elements of X in it.
_CHUNK_SECONDS, _CHUNK_BATCHES, _CHUNK_ELEMENTS = 3e-3, 64, 1 << 18

#: Chunks that the other thread may have ready or in work, and the least of an epoch with so many
#: batches, since none is made ahead of the first one, and the times of several are compared.
_AHEAD, _LEAST_CHUNKS = 2, 8

#: Chunks after which a way of working is judged, and those that the better one then gets.
_TRIAL, _LASTS = 4, 128

#: Seconds after which waiting for the other thread looks at Ctrl-C.
_LOOK = 0.05


@dataclass
class _Chunk:
    """Batches first, ..., end - 1 of an epoch, and what the next one raised."""

    first: int = 0
    end: int = 0
    data: Data | None = None
    error: Exception | None = None


class Chunks:
    """The batches of a fit, chunk by chunk, made here or ahead in another thread.

    Parameters
    ----------
    augmenter : Augmenter
    """

    def __init__(self, augmenter: Augmenter):
        self._augmenter, self._choice = augmenter, Choice()
        self._executor: Any = None
        self._waiting: deque[Any] = deque()
        self._make: Callable[[int, int], _Chunk] | None = None
        self._present, self._next, self._end, self._size = _Chunk(), 0, 0, 1
        self._most = 1

    def begin_epoch(self, whole: Data, epoch: int, first: int, end: int) -> None:
        """Begin with the batches first, ..., end - 1 of an epoch."""
        size, augmenter = whole.batch_size, self._augmenter

        def make(begin: int, stop: int) -> _Chunk:
            rows = slice(begin * size, min(stop * size, whole.n_rows))
            data, error = augmenter.data(whole, rows, size, epoch, begin)
            stop = stop if error is None else begin + data.n_batches
            return _Chunk(begin, stop, data, error)

        self._make, self._present = make, _Chunk(first, first)
        self._next, self._end = first, end
        elements = size * whole.X.shape[1]
        most = _CHUNK_BATCHES, _CHUNK_ELEMENTS // elements, (end - first) // _LEAST_CHUNKS
        self._most = max(1, min(most))
        self._choice.pause()

    def end_epoch(self) -> None:
        """Forget the batches of an epoch, and wait until none is being made."""
        waiting, self._waiting, self._make = self._waiting, deque(), None
        self._present = _Chunk()
        for future in waiting:
            future.cancel()
        for future in waiting:
            if not future.cancelled():
                _result(future)

    def close(self) -> None:
        """End the other thread."""
        executor, self._executor = self._executor, None
        if executor is not None:
            interrupts.interruptible(_shut_down, executor)

    def next(self, batch: int) -> _Chunk:
        """The chunk that begins with a batch, or the present one if that has it.

        Raises
        ------
        Exception
            What the augmentation of this batch raised.
        """
        present = self._present
        if batch < present.end:
            return present
        if present.error is not None:
            raise present.error
        choice = self._choice
        choice.next(present.end - present.first)
        self._grow()
        if choice.is_ahead:
            while len(self._waiting) < _AHEAD + 1 and self._next < self._end:
                self._waiting.append(self._submit())
        assert self._make is not None
        if self._waiting:
            present = _result(self._waiting.popleft())
        else:
            present = self._make(batch, self._advance())
        self._present = present
        if present.error is not None and present.end == present.first:
            raise present.error
        return present

    def _grow(self) -> None:
        """Choose the number of batches of the next chunk."""
        wanted = _CHUNK_SECONDS / max(self._choice.seconds, 1e-9)
        self._size = int(max(1, min(wanted, 2 * self._size, self._most)))

    def _advance(self) -> int:
        """The end of the next chunk to be made, which then has been begun."""
        self._next = min(self._next + self._size, self._end)
        return self._next

    def _submit(self):
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor  # which only these fits need

            self._executor = ThreadPoolExecutor(1, "fastnn-augment")
        first = self._next
        return self._executor.submit(
            contextvars.copy_context().run, _quietly, self._make, first, self._advance()
        )

    @contextmanager
    def one_thread_less(self) -> Iterator[None]:
        """Context of training: while the other thread works, it has one of the threads."""
        if not self._waiting:
            yield
            return
        with threads.limited(max(1, engines.get_num_threads() - 1)):
            yield


def _quietly(make, first: int, end: int) -> _Chunk:
    with np.errstate(all="ignore"):  # as in the thread of the fit
        return make(first, end)


def _result(future) -> _Chunk:
    """Wait for the other thread; Ctrl-C is raised at once."""
    while True:
        try:
            return interrupts.interruptible(future.result, _LOOK)
        except TimeoutError:  # none of the user's, whose exceptions are parts of chunks
            interrupts.check()


def _shut_down(executor) -> None:
    executor.shutdown(wait=True, cancel_futures=True)


class Choice:
    """Whether chunks are made ahead in another thread: what has been faster, tried now and then.

    Attributes
    ----------
    is_ahead : bool
        The way of the present chunk.
    seconds : float
        What a batch takes, as far as it is known.
    """

    def __init__(self):
        self.is_ahead, self.seconds = False, 0.0
        self._found: dict[bool, float] = {}
        self._since, self._left, self._skip = 0.0, _TRIAL, 1

    def pause(self) -> None:
        """Do not count the time until the next chunk."""
        self._since = 0.0

    def next(self, batches: int) -> None:
        """Note that a chunk of so many batches is done, and choose for the next one."""
        now = time.perf_counter()
        began, self._since = self._since, now
        if not began or not batches:
            return
        each = (now - began) / batches
        if self._skip:  # the first chunk of a way: kernels are compiled, or nothing was ahead
            self._skip -= 1
            self.seconds = self.seconds or each
            return
        if self._left == _TRIAL:  # so both ways are judged by as many chunks
            self._found.pop(self.is_ahead, None)
        self.seconds = self._found[self.is_ahead] = min(each, self._found.get(self.is_ahead, each))
        self._left -= 1
        if self._left <= 0:
            self._choose()

    def _choose(self) -> None:
        if engines.get_num_threads() < 2:
            self.is_ahead, self._left = False, _LASTS
            return
        was, other = self.is_ahead, not self.is_ahead
        if other in self._found:
            self.is_ahead = self._found[True] < self._found[False]
            self._left = _LASTS
            # What is known of the way that is not taken is too old then.
            del self._found[not self.is_ahead]
            if self.is_ahead != was:
                self._skip = 1
        else:
            self.is_ahead, self._left, self._skip = other, _TRIAL, 1
            self._found = {was: self._found[was]}
