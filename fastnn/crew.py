"""Threads that work on many tasks, and the thread that waits for them."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from . import interrupts
from .engines import threads

#: Seconds between two looks at Ctrl-C and at the progress, while other threads work.
_LOOK = 0.05


class Crew:
    """Runs tasks side by side, each in one thread of a copy of the caller's context.

    While at least as many tasks are left as there are cores, each has one thread; the last ones
    may use the cores that are free.

    Parameters
    ----------
    n_threads : int
        Most threads of all tasks together.
    look : callable
        Called in the caller's thread every 0.05 s.
    """

    def __init__(self, n_threads: int, look: Callable[[], None]):
        self._n_threads, self._look = n_threads, look
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._tasks: deque[Callable[[], None]] = deque()
        self._unfinished = 0
        self._all_done = threading.Event()
        self._raised: list[BaseException] = []

    def run(self, tasks: Iterable[Callable[[], None]]) -> None:
        """Run all tasks, the first ones first; returns when none runs any more.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C; the tasks have been ended as it ends fits.
        BaseException
            What a task raised; the others have been ended, too.
        """
        self._tasks = deque(tasks)
        self._unfinished = len(self._tasks)
        if not self._tasks:
            return
        self._all_done.clear()
        workers: list[threading.Thread] = []
        try:
            for _ in range(min(self._n_threads, self._unfinished)):
                worker = self._worker()
                workers.append(worker)
                worker.start()
            while not self._all_done.wait(_LOOK):
                self._look()
                interrupts.check()
        except BaseException:
            self._ending.set()
            raise
        finally:
            _join(workers)
        self._look()
        if self._raised:
            raise self._raised[0]

    def _worker(self) -> threading.Thread:
        context, errors = contextvars.copy_context(), np.geterr()
        return threading.Thread(target=context.run, args=(self._work, errors), name="fastnn")

    def _work(self, errors) -> None:
        limit = threads.limited(self._share)
        try:
            with limit, interrupts.ended_by(self._ending), np.errstate(**errors):
                while (task := self._next()) is not None:
                    task()
                    with self._lock:
                        self._unfinished -= 1
        except BaseException as error:
            self._raised.append(error)
            self._ending.set()
        finally:
            if not self._unfinished or self._ending.is_set():
                self._all_done.set()

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            return self._tasks.popleft() if self._tasks and not self._ending.is_set() else None

    def _share(self) -> int:
        """Threads that each task may have now."""
        return max(1, self._n_threads // max(1, self._unfinished))


def _join(workers: list[threading.Thread]) -> None:
    """Wait for the threads, also if a signal handler raises: they end within a tenth of a second.

    Otherwise they would go on to train networks that the caller takes for finished.
    """
    error: BaseException | None = None
    while True:
        try:
            for worker in workers:
                if worker.ident is not None:  # it has been started
                    worker.join()
            break
        except BaseException as raised:
            error = raised
    if error is not None:
        raise error
