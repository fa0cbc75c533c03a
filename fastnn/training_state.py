"""What training keeps from step to step and from fit to fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .optimizer import Optimizer
from .schedules import Schedule

if TYPE_CHECKING:
    from .averages import AverageState
    from .scheduling import Progress


@dataclass
class TrainingState:
    """What training keeps from step to step besides the parameters.

    A later fit that starts from it and the parameters equals an uninterrupted one, bit for bit.

    Attributes
    ----------
    optimizer : Optimizer
    slots : ndarray, shape (n_slots, n_params)
        State of the optimizer.
    state : ndarray, shape (n_state,)
        Running statistics.
    step : int
        Number of completed steps of the optimizer, whose state they have made.
    total_steps, epoch : int
        Number of completed steps, whatever the optimizer, and of epochs: they choose masks, noise,
        scheduled rates and the orders of rows.
    optimizer_epoch, schedule_step : int
        Number of completed epochs, and of steps of the optimizer, at which its schedules began.
    progress : Progress or None
        How far the schedule has got that was given to the last fit.
    average : AverageState or None
        The average of the weights, if the last fit had one.
    """

    optimizer: Optimizer
    slots: np.ndarray
    state: np.ndarray
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    optimizer_epoch: int = 0
    schedule_step: int = 0
    progress: Progress | None = None
    average: AverageState | None = None

    def with_optimizer(self, optimizer: Optimizer) -> TrainingState:
        """This state for a fit with another optimizer; only one of the same rule keeps the slots.

        So a changed learning rate does not clear the momentum. Schedules that were not there before
        begin with their step 0.
        """
        old = self.optimizer
        if old == optimizer or (old.rule, old.full_batch) != (optimizer.rule, optimizer.full_batch):
            return self
        if _schedules(old) == _schedules(optimizer):
            return replace(self, optimizer=optimizer)
        return replace(
            self, optimizer=optimizer, optimizer_epoch=self.epoch, schedule_step=self.step
        )


def _schedules(optimizer: Optimizer) -> dict:
    """The hyperparameters that follow a schedule, also those of an optimizer within."""
    found: dict[str, Any] = {}
    for name, value in vars(optimizer).items():
        if isinstance(value, Optimizer):
            found[name] = _schedules(value)
        elif isinstance(value, Schedule):
            found[name] = value
    return found
