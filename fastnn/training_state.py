"""What training keeps from step to step and from fit to fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .optimizer import Optimizer

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
    optimizer_epoch : int
        Number of completed epochs at which the state of the optimizer began.
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
    progress: Progress | None = None
    average: AverageState | None = None
