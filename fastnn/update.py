"""What a step of an optimizer changes: the groups of parameters, clipping, and averaging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from .optimizer import Optimizer
from .plan import Parameter, Plan
from .tables import GROUP, NORM_BLOCK, SLOTS, Rule


@dataclass(frozen=True)
class Update:
    """A step of an optimizer on the flat vector of a plan.

    Attributes
    ----------
    rule : Rule
    groups : tuple of (begin, end, rate, decay)
        As in :data:`fastnn.tables.GROUP`.
    clips : {None, "norm", "value"}
        What of the gradient is limited.
    averages : bool
        Whether the parameters and statistics are averaged over steps.
    """

    rule: Rule
    groups: tuple[tuple[int, int, float, float], ...]
    clips: str | None = None
    averages: bool = False

    @classmethod
    def of(
        cls, plan: Plan, optimizer: Optimizer, freeze: Iterable = (), averages: bool = False
    ) -> Self:
        """The step of an optimizer for a plan.

        Parameters
        ----------
        plan : Plan
        optimizer : Optimizer
        freeze : iterable of str or int
            Layers and parameters that stay as they are.
        averages : bool

        Raises
        ------
        ValueError
            If a layer does not exist or has no parameters, or nothing is left to train.
        """
        clips = None if optimizer.clip_norm is None else "norm"
        clips = clips if optimizer.clip_value is None else "value"
        return cls(optimizer.rule, _groups(plan, optimizer, freeze), clips, averages)

    @property
    def n_slots(self) -> int:
        """Flat vectors of the optimizer's state."""
        return SLOTS[self.rule]

    def per_batch(self, n_params: int) -> int:
        """Elements of float64 in the per-batch space, for the norm of the gradient."""
        return -(-n_params // NORM_BLOCK) if self.clips == "norm" else 0

    def table(self) -> np.ndarray:
        """The groups as engines read them."""
        groups = np.array(list(self.groups), GROUP)
        groups.flags.writeable = False
        return groups


def _groups(plan: Plan, optimizer: Optimizer, freeze) -> tuple:
    rates = _by_name(plan, optimizer.lr_factors or {}, "lr_factors")
    decays = _by_name(plan, optimizer.decay_factors or {}, "decay_factors")
    frozen = _by_name(plan, {str(name): 0.0 for name in freeze}, "freeze")
    found: list[list] = []
    for parameter in plan.parameters:
        rate = _factor(rates, parameter, 1.0) * _factor(frozen, parameter, 1.0)
        if rate == 0:
            continue
        is_weights = parameter.offset < plan.n_weights
        decay = _factor(decays, parameter, 1.0) if is_weights else decays.get(parameter.name, 0.0)
        decay = decay if optimizer.weight_decay != 0 else 0.0
        end = parameter.offset + parameter.size
        if found and found[-1][1:] == [parameter.offset, rate, decay]:
            found[-1][1] = end  # it continues the range before
        else:
            found.append([parameter.offset, end, rate, decay])
    if not found:
        raise ValueError("every parameter is frozen, so there is nothing to train")
    return tuple(map(tuple, found))


def _by_name(plan: Plan, given: Mapping[str, float], what: str) -> Mapping[str, float]:
    """The factors, if each is of a parameter or of a layer that has some."""
    for name in given:
        if not any(_fits(name, parameter) for parameter in plan.parameters):
            known = sorted({parameter.name for parameter in plan.parameters})
            raise ValueError(
                f"{what} names {name!r}, but there is no such layer with parameters: the "
                f"parameters are {', '.join(known)}"
            )
    return given


def _fits(name: str, parameter: Parameter) -> bool:
    return parameter.name == name or parameter.name.startswith(f"{name}.")


def _factor(factors: Mapping[str, float], parameter: Parameter, otherwise: float) -> float:
    """The factor of the longest name that fits a parameter."""
    names = [name for name in factors if _fits(name, parameter)]
    return factors[max(names, key=len)] if names else otherwise
