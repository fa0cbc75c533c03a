"""Objects in processes of their own, with a time limit on every call."""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import signal
from contextlib import suppress

_running: set[Worker] = set()


@atexit.register
def _close_all() -> None:
    """End what a stopped program leaves; multiprocessing would wait for it."""
    for worker in list(_running):
        worker.close()


class WorkerError(Exception):
    """A worker failed, died or took too long; the text is one line with its name and the cause."""


class Worker:
    """An object in a freshly started process.

    Parameters
    ----------
    name : str
        Its name in error messages.
    module, kind : str
        The class of the object; only the new process imports the module.
    args : tuple
        Arguments of the class.
    time_limit : float
        Seconds for the start and for each call.

    Raises
    ------
    WorkerError
        If the object cannot be made.
    """

    def __init__(
        self, name: str, module: str, kind: str, args: tuple = (), *, time_limit: float
    ):  # fmt: skip
        self.name = name
        self.time_limit = time_limit
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, module, kind, args))
        # Not daemonic: such a process may start none itself, and fastnn takes it for a worker of a
        # pool, which gets one thread.
        self._process.start()
        _running.add(self)
        theirs.close()
        self._answer("its start")

    def call(self, method: str, *args):
        """Call a method of the object and return what it returns.

        Raises
        ------
        WorkerError
            If it raises, its process dies or the time limit passes; the process has then ended.
        """
        try:
            self._connection.send((method, args))
        except OSError:
            self._fail("its process is gone")
        return self._answer(method)

    def _answer(self, what: str):
        try:
            if not self._connection.poll(self.time_limit):
                self._fail(f"{what} took longer than {self.time_limit:g} s")
            good, value = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join(5)
            self._fail(f"its process died during {what} ({_cause(self._process.exitcode)})")
        if not good:
            self._fail(f"{what} failed: {value}")
        return value

    def _fail(self, text: str):
        self.close()
        raise WorkerError(f"{self.name}: {text}")

    def close(self) -> None:
        """End the process."""
        _running.discard(self)
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _cause(status: int | None) -> str:
    if status is not None and status < 0:
        with suppress(ValueError):
            return signal.Signals(-status).name
    return f"exit status {status}"


def _serve(connection, module: str, kind: str, args: tuple) -> None:
    """Make the object, then answer calls until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # silences what libraries print
    served = None
    with suppress(EOFError, ConnectionError):
        while True:
            try:
                if served is None:
                    answer, served = None, getattr(importlib.import_module(module), kind)(*args)
                else:
                    method, arguments = connection.recv()
                    answer = getattr(served, method)(*arguments)
            except EOFError:
                raise
            except Exception as error:  # whatever a peer raises is reported and ends its process
                text = " ".join(str(error).split())[:300]
                connection.send((False, f"{type(error).__name__}: {text}"))
                return
            connection.send((True, answer))
