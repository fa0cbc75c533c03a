"""Successive halving: most of the epochs go to the networks that are best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .checks import whole_number
from .names import unknown

_MODES = ("auto", "min", "max")


class Rung(NamedTuple):
    """A selection: after so many epochs, so many networks go on."""

    epochs: int
    keep: int


@dataclass(frozen=True)
class Halving:
    """Successive halving of the networks of :func:`fastnn.train_many`.

    All networks train for a few epochs. Then the best third goes on (for factor 3), the others end;
    after three times as many epochs the best third of those, and so on until one is left or the
    epochs end. All wait for the last one at each selection, so it does not depend on which is
    faster: the same networks go on with any number of threads.

    K. Jamieson and A. Talwalkar, Non-stochastic best arm identification and hyperparameter
    optimization, AISTATS 2016.

    Parameters
    ----------
    factor : int, default 3
        One of so many networks goes on, at least 2; a remainder is rounded up.
    metric : str, default "val_loss"
        A key of the history: "val_loss", "val_accuracy", "loss", ... NaN is worse than all
        numbers, and of equal networks the one that comes first in `specs` is better.
    every : int, optional
        Epochs before the first selection; the next ones are after factor, factor^2, ... times as
        many. By default so many that what is left after the last selection trains longest: for n
        networks and k epochs k / factor^(log n / log factor, rounded up), but at least 1.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better; "auto" knows it for losses, accuracies and metrics.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. `train_many` raises ValueError if a
        network has no value of this name.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn import Dense, Halving
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
    >>> specs = [{"optimizer": fastnn.SGD(lr)} for lr in (1e-4, 1e-3, 1e-2, 1e-1)]
    >>> nets = fastnn.train_many(specs, X, y, layers=[Dense(1)], loss="mse", epochs=40,
    ...                          halving=Halving(2, "loss", every=10), progress=False)
    >>> [net.history.n_epochs for net in nets]
    [10, 10, 20, 40]
    >>> nets[0].history.stopped
    'halving: number 4 of 4 by loss after 10 epochs, 2 go on'
    """

    factor: int = 3
    metric: str = "val_loss"
    every: int | None = None
    mode: str = "auto"

    def __post_init__(self):
        whole_number(self.factor, "the factor of halving", least=2)
        if not isinstance(self.metric, str):
            raise TypeError(f"metric must be a name such as 'val_loss', not {self.metric!r}")
        if self.every is not None:
            whole_number(self.every, "every")
        if self.mode not in _MODES:
            raise unknown("mode of Halving", self.mode, _MODES)

    def rungs(self, n_networks: int, n_epochs: int) -> list[Rung]:
        """The selections among so many networks of at most `n_epochs`.

        Examples
        --------
        >>> Halving(3).rungs(20, 81)
        [Rung(epochs=3, keep=7), Rung(epochs=9, keep=3), Rung(epochs=27, keep=1)]
        """
        found: list[Rung] = []
        count, keeps = n_networks, []
        while count > 1:
            count = -(-count // self.factor)
            keeps.append(count)
        epochs = self.every or max(1, n_epochs // self.factor ** len(keeps))
        for keep in keeps:
            if epochs >= n_epochs:
                break
            found.append(Rung(epochs, keep))
            epochs *= self.factor
        return found

    def ranked(self, values: Mapping[int, float], larger: bool) -> list[int]:
        """The numbers of the networks, the best first, by their values."""

        def key(index: int) -> tuple[bool, float, int]:
            value = values[index]
            return math.isnan(value), -value if larger else value, index

        return sorted(values, key=key)


def get(given) -> Halving | None:
    """The halving that the argument of train_many means.

    Raises
    ------
    TypeError
        If it is neither a :class:`Halving` nor None.
    """
    if given is None or isinstance(given, Halving):
        return given
    raise TypeError(f"halving must be a fastnn.Halving or None, not {given!r}")
