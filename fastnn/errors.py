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


class DataFileError(ValueError):
    """A file of data is truncated, damaged, or of another kind than the one that is read."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, or is that of another fit."""


class EngineError(RuntimeError):
    """A compiled kernel returned a status that no correct plan can cause."""


class FitWarning(UserWarning):
    """A fit runs, but probably does not do what is meant; the message says what to do.

    ``warnings.simplefilter("ignore", fastnn.errors.FitWarning)`` mutes all of them.
    """


class TrainManyError(ExceptionGroup):
    """Some networks of :func:`fastnn.train_many` failed; the others are trained.

    Attributes
    ----------
    networks : list of Sequential
        All networks; what a failed one keeps is what the error of its fit says.
    failed : dict of int to Exception
        What failed networks raised, by their positions in `specs`.
    """

    networks: list
    failed: dict[int, Exception]

    def __new__(cls, message, exceptions, networks=(), failed=()):
        """An error of these networks; without them it is a plain group."""
        found = super().__new__(cls, message, exceptions)
        found.networks, found.failed = list(networks), dict(failed)
        return found

    def derive(self, exceptions):
        """A group of some of the errors, for ``except*``."""
        return type(self)(self.message, exceptions, self.networks, self.failed)

    def __reduce__(self):
        return type(self), (self.message, self.exceptions, self.networks, self.failed)


class TrainManyInterrupt(KeyboardInterrupt):
    """Ctrl-C during :func:`fastnn.train_many`, which keeps what has been trained.

    Attributes
    ----------
    networks : list of Sequential
        All networks: finished ones, those that have a part of their epochs, with the history of
        it, and those that were not begun.
    failed : dict of int to Exception
        What failed networks raised, by their positions in `specs`.
    """

    def __init__(self, message: str, networks=(), failed=()):
        super().__init__(message)
        self.networks: list = list(networks)
        self.failed: dict[int, Exception] = dict(failed)

    def __reduce__(self):
        return type(self), (self.args[0], self.networks, self.failed)
