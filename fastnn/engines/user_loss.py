"""A user's loss in the compiled engines: the address that a kernel calls, and what it raised."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from ..errors import EngineError
from ..tables import Status

_CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
_OK, _STOPPED = int(Status.OK), int(Status.STOPPED)


class UserLoss:
    """The user's loss of a plan, for the arrays of a workspace.

    Parameters
    ----------
    ws : Workspace
        Its plan has been checked.

    Attributes
    ----------
    address : int
        Of the function that kernels call; it is valid as long as this object lives.
    """

    address: int

    def __init__(self, ws):
        self._loss = ws.plan.user_loss
        self._raised: list[BaseException] = []
        self._function: Any  # what keeps the machine code
        head, n = ws.table[len(ws.table) - 1], ws.plan.n_outputs
        y, a, da = (
            ws.buffer(offset, ws.capacity, n) for offset in (ws.layout.targets, head.x, head.dx)
        )
        y.flags.writeable = a.flags.writeable = False
        self._y, self._a = y, a
        if self._loss.is_python:
            answers = _answers(self._loss.rows, (y, a, da, ws.row_loss), self._raised)
            next(answers)
            self._function = _CALL(answers.send)
            self.address = ctypes.cast(self._function, ctypes.c_void_p).value or 0
        else:
            self._function = self._loss.compiled(ws.params.dtype)
            self.address = self._function.address

    def raise_error(self) -> None:
        """Raise what the function raised when it returned STOPPED."""
        if self._raised:
            raise self._raised.pop()
        raise EngineError(f"the loss function {self._loss.name} could not be called")

    def raise_of_rows(self, rows: int) -> None:
        """Raise what a compiled function raises for the first rows of the workspace, if it does.

        Compiled code cannot pass on an exception: it leaves NaN.
        """
        if not self._loss.is_python:
            self._loss.rows(self._y[:rows], self._a[:rows])


def _answers(
    function: Callable, arrays: tuple[np.ndarray, ...], raised: list[BaseException]
) -> Generator[int, int, None]:
    """A generator that is sent the rows of a batch, computes its losses, and yields a status.

    It stands for a function. Python runs the handlers of signals where a function begins, so what
    they raise would come before the function's own try statement, and ctypes would discard it; but
    a generator goes on inside its try statement.
    """
    y, a, da, loss = arrays
    status, waits = _OK, True
    while True:
        try:
            while True:
                waits = True
                rows = yield status
                waits = False
                loss[:rows], da[:rows] = function(y[:rows], a[:rows])
                status = _OK
        except BaseException as error:
            if waits and isinstance(error, GeneratorExit):
                return
            raised.append(error)
            status = _STOPPED
