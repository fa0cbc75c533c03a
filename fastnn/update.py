"""What a step of an optimizer changes: the groups of parameters, clipping, and averaging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Self

import numpy as np

from .muon import Muon, hidden_matrices
from .names import unknown
from .ops.operation import Access, Call
from .optimizer import Optimizer
from .plan import Parameter, Plan
from .tables import GROUP, NONE, NORM_BLOCK, SLOTS, Rule


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
    still : tuple of (begin, end)
        Ranges of the flat vector of statistics that a step leaves as they are.
    matrices : tuple of (index, (begin, end, rate, decay))
        For Muon, the operations whose weight matrices are orthogonalised, and the groups of these,
        which are none of the others.
    turns : int
        Newton-Schulz steps of an orthogonalisation.
    every : int
        One of so many steps takes longer than the others.
    """

    rule: Rule
    groups: tuple[tuple[int, int, float, float], ...]
    clips: str | None = None
    averages: bool = False
    still: tuple[tuple[int, int], ...] = ()
    matrices: tuple[tuple[int, tuple[int, int, float, float]], ...] = ()
    turns: int = 0
    every: int = 1

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
            Layers and parameters that stay as they are, with the statistics of these layers. One
            name or number stands for itself.
        averages : bool

        Raises
        ------
        TypeError
            If `freeze` holds something else than names and numbers.
        ValueError
            If a layer does not exist or has no parameters, nothing is left to train, or Muon finds
            no hidden matrix.
        """
        clips = None if optimizer.clip_norm is None else "norm"
        clips = clips if optimizer.clip_value is None else "value"
        rates = _by_name(plan, optimizer.lr_factors or {}, "lr_factors")
        frozen = _by_name(plan, dict.fromkeys(_names(freeze), 0.0), "freeze")

        def rate(parameter: Parameter) -> float:
            return _factor(rates, parameter, 1.0) * _factor(frozen, parameter, 1.0)

        still = ((s.offset, s.offset + s.size) for s in plan.state if rate(s) == 0)
        hidden = hidden_matrices(plan) if isinstance(optimizer, Muon) else {}
        groups, of_matrices = _groups(plan, optimizer, rate, frozenset(hidden))
        matrices = tuple((hidden[group[0]], group) for group in of_matrices)
        turns, every = 0, 1
        if isinstance(optimizer, Muon):
            turns, every = optimizer.newton_schulz, optimizer.every
        return cls(
            optimizer.rule, groups, clips, averages, tuple(still), matrices, turns, every
        )  # fmt: skip

    @property
    def n_slots(self) -> int:
        """Flat vectors of the optimizer's state."""
        return SLOTS[self.rule]

    def per_batch(self, n_params: int) -> int:
        """Elements of float64 in the per-batch space, for norms of the gradient or of matrices."""
        return -(-n_params // NORM_BLOCK) if self.clips == "norm" or self.matrices else 0

    def scratch(self, ops: np.ndarray) -> int:
        """Elements of the scratch space that a step needs, for a table of operations."""
        sizes = [ops[["n_in", "n_out"]][index].item() for index, _ in self.matrices]
        return max((self.buffers(*size)[-1][1] for size in sizes), default=0)

    @staticmethod
    def buffers(n_in: int, n_out: int) -> list[tuple[int, int]]:
        """The ranges of scratch for a matrix: Y twice, A and B, each from a cache line on."""
        ranges, begin, n = [], 0, min(n_in, n_out)
        for size in (n_in * n_out, n_in * n_out, n * n, n * n):
            ranges.append((begin, begin + size))
            begin += -(-size // 16) * 16
        return ranges

    def trains(self, begin: int, end: int) -> bool:
        """Whether it changes one of the parameters begin, ..., end-1."""
        groups = [*self.groups, *(group for _, group in self.matrices)]
        return any(first < end and begin < last for first, last, *_ in groups)

    def needs(self, call: Call) -> bool:
        """Whether a step needs a call of the backward pass, or one that follows the optimizer's.

        It does not if nothing but frozen parameters and statistics, or their gradients, comes from
        the call.
        """
        spaces = {access.space for access in call.writes}
        if "value" in spaces or not spaces & {"grad", "params", "state"}:
            return True
        return any(self._changes(access) for access in call.writes)

    def moves_statistics(self, at: int) -> bool:
        """Whether it changes the statistics at an offset of their vector, if that is not NONE."""
        return at != NONE and not any(begin <= at < end for begin, end in self.still)

    def _changes(self, access: Access) -> bool:
        if access.space == "state":
            return self.moves_statistics(access.begin)
        is_flat = access.space in ("grad", "params")
        return is_flat and self.trains(access.begin, access.end)

    def table(self) -> np.ndarray:
        """The groups as engines read them, and behind them those of the matrices."""
        groups = np.array([*self.groups, *(group for _, group in self.matrices)], GROUP)
        groups.flags.writeable = False
        return groups


def _groups(plan: Plan, optimizer: Optimizer, rate_of, apart: frozenset[int]) -> tuple:
    """The groups, and those of the matrices at the offsets `apart`, one for each."""
    decays = _by_name(plan, optimizer.decay_factors or {}, "decay_factors")
    found: list[list] = []
    alone: list[tuple] = []
    decays_others = optimizer.adamw if isinstance(optimizer, Muon) else optimizer
    for parameter in plan.parameters:
        rate = rate_of(parameter)
        if rate == 0 or not parameter.size:
            continue
        is_weights = parameter.offset < plan.n_weights
        decay = _factor(decays, parameter, 1.0) if is_weights else decays.get(parameter.name, 0.0)
        end = parameter.offset + parameter.size
        if parameter.offset in apart:
            alone.append((parameter.offset, end, rate, decay))
            continue
        decay = decay if decays_others.weight_decay != 0 else 0.0
        if found and found[-1][1:] == [parameter.offset, rate, decay]:
            found[-1][1] = end  # it continues the range before
        else:
            found.append([parameter.offset, end, rate, decay])
    if not found and not alone:
        raise ValueError(
            "every parameter is frozen, so there is nothing to train: leave a layer out of freeze, "
            "or give it a factor above 0 in lr_factors"
        )
    return tuple(map(tuple, found)), tuple(alone)


def _names(freeze) -> list[str]:
    """What is frozen, as names."""
    if freeze is None:
        return []
    given = [freeze] if isinstance(freeze, str | Integral) else freeze
    if not isinstance(given, Iterable):
        raise TypeError(f"freeze must list layers or parameters, such as [0, '1.W'], not {given!r}")
    found = []
    for name in given:
        if isinstance(name, bool) or not isinstance(name, str | Integral):
            raise TypeError(
                f"freeze must name layers or parameters, such as 0 or '1.W', not {name!r}"
            )
        found.append(str(name))
    return found


def _by_name(plan: Plan, given: Mapping[str, float], what: str) -> Mapping[str, float]:
    """The factors, if each is of a parameter or of a layer that has some.

    What is frozen may also be a layer that has nothing but statistics.
    """
    named = [*plan.parameters, *(plan.state if what == "freeze" else ())]
    names = [parameter.name for parameter in plan.parameters]
    for name in given:
        if name in names or any(parameter.name.startswith(f"{name}.") for parameter in named):
            continue
        layers = {layer for pair in plan.layers for layer in pair if layer}
        if any(layer == name or layer.startswith(f"{name}.") for layer in layers):
            raise ValueError(
                f"{what} names layer {name}, which has no parameters: name one of the layers "
                f"{', '.join(_layers(named))}"
            )
        raise unknown(f"layer or parameter in {what}:", name, [*_layers(named), *names])
    return given


def _layers(named: list[Parameter]) -> list[str]:
    """The layers that have parameters, and those that they are inside, in order."""
    parts = [parameter.name.split(".")[:-1] for parameter in named]
    found = {tuple(names[:n]) for names in parts for n in range(1, len(names) + 1)}
    ordered = sorted(found, key=lambda names: [(len(name), name) for name in names])
    return [".".join(names) for names in ordered]


def _fits(name: str, parameter: Parameter) -> bool:
    return parameter.name == name or parameter.name.startswith(f"{name}.")


def _factor(factors: Mapping[str, float], parameter: Parameter, otherwise: float) -> float:
    """The factor of the longest name that fits a parameter."""
    names = [name for name in factors if _fits(name, parameter)]
    return factors[max(names, key=len)] if names else otherwise
