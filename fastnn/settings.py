"""The arguments of a fit, checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import averages, callbacks, checkpoints, early_stopping, optimizers, schedules
from .checks import real_number, true_or_false, whole_number

#: Epochs of a fit, if the user limits it in no way.
_EPOCHS = 10

#: Rows of a batch, if the user leaves it open.
_BATCH_SIZE = 32


@dataclass(frozen=True)
class Settings:
    """What :meth:`fastnn.Sequential.fit` was told besides X and y; it documents the arguments.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.
    """

    loss: Any = "auto"
    optimizer: Any = "adam"
    epochs: int | None = None
    batch_size: Any = "auto"
    steps: int | None = None
    seconds: float | None = None
    rows: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    classes: Any = None
    validation_data: Any = None
    validation_split: float = 0.0
    metrics: Any = ()
    early_stopping: Any = None
    callbacks: Any = ()
    shuffle: Any = True
    augment: Any = None
    freeze: Any = ()
    accumulate: int = 1
    ema: Any = None
    swa: Any = None
    schedule: Any = None
    checkpoint: Any = None
    checkpoint_every: Any = 1
    resume: bool = False
    initial_epoch: int = 0
    progress: Any = "auto"

    def __post_init__(self):
        self._set(optimizer=optimizers.get(self.optimizer))
        self._check_length()
        if self.batch_size is not None and not _is_auto(self.batch_size):
            self._set(batch_size=whole_number(self.batch_size, "batch_size"))
        self._set(accumulate=whole_number(self.accumulate, "accumulate"))
        if not isinstance(self.shuffle, bool | np.bool_) and not callable(self.shuffle):
            raise TypeError(
                "shuffle must be True, False or a function of (epoch, n_rows) that returns the "
                f"order of the rows, not {self.shuffle!r}"
            )
        if not callable(self.shuffle):
            self._set(shuffle=bool(self.shuffle))
        if self.progress not in (True, False, "auto"):
            raise ValueError(f"progress must be True, False or 'auto', not {self.progress!r}")
        if self.augment is not None:
            from . import augmentation

            self._set(augment=augmentation.get(self.augment))
        split = real_number(self.validation_split, "validation_split", least=0.0, below=1.0)
        self._set(validation_split=split)
        if split and self.validation_data is not None:
            raise ValueError("give validation_data or validation_split, not both")
        if self.schedule is not None:
            self._set(schedule=schedules.get(self.schedule))
        self._set(early_stopping=early_stopping.get(self.early_stopping))
        self._set(callbacks=callbacks.get(self.callbacks))
        for name in ("metrics", "freeze"):  # which are read more than once
            if isinstance(getattr(self, name), Iterator):
                self._set(**{name: tuple(getattr(self, name))})
        averages.get(self.ema, self.swa)
        self._check_checkpoint()

    def _set(self, **values) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_checkpoint(self) -> None:
        true_or_false(self.resume, "resume")
        checkpoints.period(self.checkpoint_every)
        if self.checkpoint is not None:
            self._set(checkpoint=checkpoints.path_of(self.checkpoint))
        elif self.resume:
            raise ValueError("resume=True needs the file to go on from: give checkpoint=path, too")

    def _check_length(self) -> None:
        initial = whole_number(self.initial_epoch, "initial_epoch", least=0)
        steps, seconds, epochs = self.steps, self.seconds, self.epochs
        if steps is not None:
            steps = whole_number(steps, "steps", most=2**53)
        if seconds is not None:
            seconds = real_number(seconds, "seconds", positive=True)
        if epochs is not None:
            epochs = whole_number(epochs, "epochs")
        elif steps is None and seconds is None:
            epochs = initial + _EPOCHS
        if epochs is not None and epochs <= initial:
            raise ValueError(
                f"epochs counts from 0 and is {epochs}, but initial_epoch is {initial}: give more "
                "epochs"
            )
        self._set(initial_epoch=initial, steps=steps, seconds=seconds, epochs=epochs)

    @property
    def average(self):
        """The EMA or SWA, or None."""
        return averages.get(self.ema, self.swa)

    def rows_of_batch(self, n_rows: int) -> int:
        """The rows of a batch, of `n_rows` in all."""
        size, optimizer = self.batch_size, self.optimizer
        if _is_auto(size):
            size = None if optimizer.full_batch else _BATCH_SIZE
        if optimizer.full_batch and size is not None and size < n_rows:
            raise ValueError(
                f"{type(optimizer).__name__} takes all {n_rows} rows at once, but batch_size is "
                f"{size}: leave it out, or use another optimizer such as 'adam'"
            )
        return n_rows if size is None else min(size, n_rows)

    def length(self, n_batches: int | None) -> tuple[int | None, int | None]:
        """(epochs, steps) of a fit with so many batches in an epoch; None where it is not known.

        The epochs count from the first of this fit, and the last may be incomplete.
        """
        steps = self.steps
        epochs = None if self.epochs is None else self.epochs - self.initial_epoch
        if n_batches is None:
            return epochs, steps
        if epochs is not None:
            steps = epochs * n_batches if steps is None else min(steps, epochs * n_batches)
        return (None, None) if steps is None else (-(-steps // n_batches), steps)


def _is_auto(value) -> bool:
    return isinstance(value, str) and value == "auto"
