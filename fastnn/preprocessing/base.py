"""The base of the preprocessing layers."""

from __future__ import annotations

import inspect
from typing import NamedTuple

import numpy as np

from .. import initializers
from ..layer import Layer

#: The name of what every layer learns: the number of rows, 0 before, and how far off 0 they lie.
LEARNED = "learned"

#: The name of what the network's dtype rounds off the numbers that a layer subtracts.
REST = "rest"


class Linear(NamedTuple):
    """x -> x * scale + shift, or x @ scale + shift where scale is a matrix (n, n), else (n,)."""

    scale: np.ndarray
    shift: np.ndarray


class Preprocessing(Layer):
    """Base of the preprocessing layers; they come before all others.

    What a layer learns has names and shapes: its state. All arithmetic is in float64.
    """

    #: Whether it learns anything.
    learns = True

    #: Whether X may have missing values.
    takes_missing = False

    #: Whether it is a linear function, :meth:`linear`, of which predictions make weights.
    is_linear = True

    #: The name of the learned numbers that it subtracts, of which no digit may be lost: columns may
    #: lie far off 0.
    subtracts: str | None = None

    #: Whether what it learns of a column depends on that column alone.
    is_by_column = True

    def width(self, n_inputs: int) -> int:
        """Columns that it makes of so many.

        Raises
        ------
        ValueError
            If it cannot have so many.
        """
        return n_inputs

    def shapes(self, n_inputs: int) -> dict[str, tuple[int, ...]]:
        """The names and shapes of what it learns."""
        return {}

    def learn(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """What is learned from the training rows.

        Parameters
        ----------
        X : ndarray of float64, shape (m, n_inputs)

        Raises
        ------
        ValueError
            If nothing can be learned from them.
        """
        return {}

    def transform(self, X: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
        """Rows as the next layer gets them.

        Parameters
        ----------
        X : ndarray of float64, shape (m, n_inputs)
            The layer may write into it.
        state : dict
            What it has learned, in float64.
        """
        linear = self.linear(state)
        X *= linear.scale
        X += linear.shift
        return X

    def linear(self, state: dict[str, np.ndarray]) -> Linear:
        """The layer as a linear function."""
        raise NotImplementedError

    def lower(self, lowering, name):
        n_inputs = lowering.width
        shapes = self.shapes(n_inputs)
        state = {LEARNED: (2,), **shapes} if self.learns else {}
        if self.subtracts is not None:
            state[REST] = shapes[self.subtracts]
        zeros = initializers.get(0.0)
        lowering.prepare(name, self.width(n_inputs), {k: (s, zeros) for k, s in state.items()})

    def config(self):
        names = inspect.signature(type(self)).parameters
        return {"layer": type(self).__name__, **{name: getattr(self, name) for name in names}}

    def __repr__(self):
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name, parameter in inspect.signature(type(self)).parameters.items()
            if getattr(self, name) != parameter.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def rounding(values: np.ndarray) -> np.ndarray:
    """Spreads up to this are none: of columns with these values that are constant but for rounding.

    Neither are those that are no normal numbers in float32, by which nothing can be divided.
    """
    eps, least = np.finfo(np.float64).eps, np.finfo(np.float32).tiny
    return np.maximum(10 * eps * np.abs(values), least)


def centred(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means of the columns, and X without them: exactly 0 in a column that is constant."""
    deviations = X - X[0]
    means = deviations.mean(axis=0)
    deviations -= means
    return X[0] + means, deviations


def by_channel(values: np.ndarray, channels: int | None) -> np.ndarray:
    """The mean of the columns' values over all columns of a channel, for each column.

    The columns of an image are its pixels, and within each the channels.
    """
    if channels is None:
        return values
    means = values.reshape(-1, channels).mean(axis=0)
    return np.tile(means, len(values) // channels)
