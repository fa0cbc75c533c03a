"""What networks that are trained on the same rows have in common."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from . import advice, preparation
from .engines.csr import CSR
from .features import check_features, names_of
from .layers import Embedding
from .preparation import Checked, Targets
from .run import TrainingState
from .scheduling import Scheduled
from .settings import Settings

if TYPE_CHECKING:
    from .model import Sequential


class Shared:
    """What networks have in common and is made once: X, what is known of targets, plans."""

    def __init__(self, X, y):
        self.X, self.y = X, y
        self._features: dict[str, np.ndarray | CSR] = {}
        self._targets: dict[tuple, tuple[Targets, tuple]] = {}
        self._plans: dict[str, dict] = {}
        self._names = names_of(X)
        self._advised: frozenset[str] = frozenset()

    def check(self, net: Sequential, y, settings: Settings) -> Checked:
        """The fit of a network, checked; nothing is allocated for it."""
        net._plans = self._plans.setdefault(_architecture(net), net._plans)
        X = self._features_of(net)
        targets = self._targets_of(net, X, y, settings)
        checked = preparation.check(net, X.shape[1], targets, settings)
        data, plan = checked.targets.data, checked.plan
        state = TrainingState(settings.optimizer, np.empty((0, 0)), np.empty(0))
        _, n_steps = settings.length(data.n_batches)
        Scheduled(
            state, plan.schedules, settings.schedule, data.n_batches, n_steps, checked.directions
        )
        net._advised |= self._advised
        advice.look(checked)
        # What it says concerns most of the networks; what an epoch says, nobody's line of code.
        net._advised |= {"still"}
        self._advised = net._advised
        return preparation.with_names(checked, self._names)

    def _features_of(self, net: Sequential) -> np.ndarray | CSR:
        """X as the network reads it, before its preprocessing layers."""
        if net._chain:
            return net._read(self.X, net.n_inputs)
        dtype = net.dtype.name
        if dtype not in self._features:
            self._features[dtype] = check_features(self.X, None, net.dtype)
        X = self._features[dtype]
        is_known = net.n_inputs in (None, X.shape[1]) and not isinstance(net.layers[0], Embedding)
        return X if is_known else net._read(X, net.n_inputs)

    def _targets_of(self, net: Sequential, X, y, settings: Settings) -> Targets:
        """The targets of some rows, which networks with the same arguments share."""
        given = (
            y, settings.loss, settings.rows, settings.sample_weight, settings.class_weight,
            settings.classes, settings.validation_data,
        )  # fmt: skip
        seed = net.seed if settings.validation_split else None
        key = (
            *map(_identity, given), settings.validation_split, seed, net.dtype.name, net.n_outputs,
            net.input_scale, bool(net._chain),
        )  # fmt: skip
        if key not in self._targets:
            found = preparation.targets_of(net, X, y, settings)
            self._targets[key] = found, given  # identities last as long as the objects
        found, _ = self._targets[key]
        valid = None if found.valid is None else copy.copy(found.valid)
        return found._replace(data=copy.copy(found.data), valid=valid)


def _architecture(net: Sequential) -> str:
    """Networks for which this is equal have the same plans."""
    try:
        return repr(([layer.config() for layer in net.layers], net.l1, net.l2, net.penalties))
    except TypeError:  # a layer of the user that has none
        return f"network {id(net)}"


def _identity(value) -> tuple:
    """Equal for equal plain values and for the same object."""
    plain = isinstance(value, str | int | float | bool | None)
    return type(value), value if plain else id(value)
