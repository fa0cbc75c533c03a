"""Activation functions, by name, as objects, and as functions with ``.derivative``.

>>> import numpy as np
>>> from fastnn import activations
>>> activations.relu(np.array([-1.0, 0.0, 2.0]))
array([0., 0., 2.])
>>> activations.relu.derivative(np.array([-1.0, 0.0, 2.0]))
array([0., 0., 1.])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .engines import reference
from .engines.tables import Act
from .names import unknown


@dataclass(frozen=True)
class ActivationFunction:
    """An elementwise function of a layer's weighted sum z.

    Attributes
    ----------
    code : Act
        What engines know it as.
    """

    code: Act

    @property
    def name(self) -> str:
        return self.code.name

    def __call__(self, z):
        """g(z), elementwise.

        Parameters
        ----------
        z : array_like, any shape
            Converted to float64 unless it is float32.

        Returns
        -------
        ndarray, the same shape
        """
        return reference.ACTIVATIONS[self.code](_real(z))

    def derivative(self, z):
        """g'(z), elementwise; the shape and type of the result are those of g(z).

        The derivative of ReLU at 0 is 0.
        """
        z = _real(z)
        return reference.SLOPES[self.code](z, reference.ACTIVATIONS[self.code](z))

    def __repr__(self) -> str:
        return self.name


def _real(z) -> np.ndarray:
    z = np.asarray(z)
    return z if z.dtype in (np.float32, np.float64) else z.astype(np.float64)


identity = ActivationFunction(Act.identity)
sigmoid = ActivationFunction(Act.sigmoid)
tanh = ActivationFunction(Act.tanh)
relu = ActivationFunction(Act.relu)

_BY_NAME = {code.name: ActivationFunction(code) for code in Act}


def get(activation) -> ActivationFunction:
    """The activation with a name; None is the identity, and objects are returned as they are.

    Raises
    ------
    ValueError, TypeError
        If there is none of that name, or it is neither.
    """
    if activation is None:
        return identity
    if isinstance(activation, ActivationFunction):
        return activation
    if not isinstance(activation, str):
        raise TypeError(f"activation must be a name, an activation or None, not {activation!r}")
    if activation not in _BY_NAME:
        raise unknown("activation", activation, _BY_NAME)
    return _BY_NAME[activation]
