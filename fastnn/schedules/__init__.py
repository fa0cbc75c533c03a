"""Schedules: numbers that change from step to step, such as learning rates and dropout rates.

A step is one minibatch; steps count from 0. In place of a hyperparameter, a schedule's values are
that hyperparameter's: ``Adam(lr=Cosine(1e-3, steps=1000))``,
``SGD(momentum=Linear(0.5, 0.9, 100))``, ``Dropout(Linear(0.5, 0, 1000))``. Given to fit, they
multiply the optimizer's learning rate: ``fit(optimizer=Adam(1e-3), schedule=Cosine())``.
``steps=None``, where it is the default, is the length of the fit. :class:`PerEpoch` makes any
schedule count epochs.
"""

from .base import Function, Schedule, checked_values
from .compositions import PerEpoch, Sequence, Warmup, follows, from_config, get, of_hyperparameter
from .cycles import Cosine, CosLog4, Cyclic, FlatCosine, OneCycle, WarmRestarts
from .decays import Exponential, Linear, Polynomial, StepDecay, TimeDecay, Values
from .plateau import ReduceOnPlateau

__all__ = [
    "CosLog4", "Cosine", "Cyclic", "Exponential", "FlatCosine", "Function", "Linear", "OneCycle",
    "PerEpoch", "Polynomial", "ReduceOnPlateau", "Schedule", "Sequence", "StepDecay", "TimeDecay",
    "Values", "WarmRestarts", "Warmup", "checked_values", "follows", "from_config", "get",
    "of_hyperparameter",
]  # fmt: skip
