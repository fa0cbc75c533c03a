"""The errors that fastnn raises beyond plain ``ValueError`` and ``TypeError``.

Every message says what was given, what was expected and what to do about it.
"""

from __future__ import annotations


class ShapeError(ValueError):
    """An array has the wrong number of dimensions, rows or features."""


class NotFittedError(ValueError, AttributeError):
    """The network has no parameters, or no loss, yet: call ``fit`` first."""


class DivergedError(ValueError):
    """A loss, parameter or optimizer slot became infinite or NaN during ``fit``.

    Attributes
    ----------
    epoch, batch : int
        Where it happened, both counted from 0 within this call of ``fit``.
    """

    def __init__(self, message: str, epoch: int, batch: int):
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch

    def __reduce__(self):
        return type(self), (self.args[0], self.epoch, self.batch)


class ModelFileError(ValueError):
    """A model file is truncated, damaged, or was not written by fastnn."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, or is that of another fit."""


class EngineError(RuntimeError):
    """A compiled kernel returned a status that no correct plan can cause."""
