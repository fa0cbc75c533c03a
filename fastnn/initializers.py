"""Initial values of weights, drawn from (seed, block, element).

``auto`` is He for the ReLU family and Xavier otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from . import random
from .activations import ActivationFunction
from .engines.tables import Act
from .names import unknown


@dataclass(frozen=True)
class Zeros:
    """All zeros. Hidden units that start alike stay alike: good for biases only."""

    name = "zeros"

    def values(self, shape, seed: int, block: int) -> np.ndarray:
        """The initial values as float64, of the given shape."""
        return np.zeros(shape)


@dataclass(frozen=True)
class FanInNormal:
    """Normal with variance gain / n_in, so that the signal keeps its size from layer to layer.

    gain 1 is Xavier's rule with the fan-in, 1/sqrt(n_in) (X. Glorot and Y. Bengio, 2010, as the
    notes have it); gain 2 is He's, for units of which half are off (K. He et al., 2015).
    """

    name: str
    gain: float

    def values(self, shape, seed: int, block: int) -> np.ndarray:
        """The initial values as float64, of the shape (n_in, n_out)."""
        draws = random.normal(seed, random.Stream.INITIAL, block, math.prod(shape))
        return draws.reshape(shape) * math.sqrt(self.gain / shape[0])


_BY_NAME = {
    "zeros": Zeros(),
    "xavier_normal": FanInNormal("xavier_normal", 1.0),
    "he_normal": FanInNormal("he_normal", 2.0),
}


def get(init, activation: ActivationFunction | None = None):
    """The initialiser with a name; "auto" is told from the activation.

    Raises
    ------
    ValueError, TypeError
        If there is none of that name, or it is not a name.
    """
    if init == "auto":
        init = "he_normal" if activation and activation.code == Act.relu else "xavier_normal"
    if hasattr(init, "values"):
        return init
    if not isinstance(init, str):
        raise TypeError(f"init must be a name or an initialiser, not {init!r}")
    if init not in _BY_NAME:
        raise unknown("initialiser", init, ["auto", *_BY_NAME])
    return _BY_NAME[init]
