"""Activation functions, by name, as objects, and as functions with ``.derivative``.

==============  ===========================================  ==================================
name            g(z)                                         source
==============  ===========================================  ==================================
``identity``    z
``step``        1 where z > 0, else 0                        F. Rosenblatt, 1958
``sigmoid``     1 / (1 + e^-z)
``tanh``        (e^z - e^-z) / (e^z + e^-z)
``relu``        max(0, z)                                    V. Nair and G. Hinton, 2010
``leaky_relu``  z where z > 0, else 0.01 z                   A. L. Maas et al., 2013
``elu``         z where z > 0, else e^z - 1                  D.-A. Clevert et al., 2016
``selu``        1.0507 z where z > 0, else 1.7581 (e^z - 1)  G. Klambauer et al., 2017
``gelu``        z P(z), P the normal distribution function   D. Hendrycks and K. Gimpel, 2016
``silu``        z sigmoid(z)                                 S. Elfwing et al., 2018
``softplus``    log(1 + e^z)                                 C. Dugas et al., 2000
``mish``        z tanh(softplus(z))                          D. Misra, 2020
``softmax``     e^z / sum e^z over an axis                   J. S. Bridle, 1990
==============  ===========================================  ==================================

Examples
--------
>>> import numpy as np
>>> from fastnn import activations
>>> activations.relu(np.array([-1.0, 0.0, 2.0]))
array([0., 0., 2.])
>>> activations.relu.derivative(np.array([-1.0, 0.0, 2.0]))
array([0., 0., 1.])
>>> activations.LeakyReLU(0.1)(np.array([-1.0, 0.0, 2.0]))
array([-0.1,  0. ,  2. ])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import described, engines
from .checks import real_number
from .described import Public
from .names import find
from .tables import Act

#: e^-z may overflow to infinity or underflow to 0; both give the correct limit.
_quiet = np.errstate(over="ignore", under="ignore")


@dataclass(frozen=True)
class ActivationFunction(metaclass=Public, hides=("argument", "code", "config")):
    """A function of a layer's weighted sum z, element by element.

    Attributes
    ----------
    name : str
        The public name.

    Examples
    --------
    >>> from fastnn import activations
    >>> float(activations.sigmoid(0.0)), float(activations.sigmoid.derivative(0.0))
    (0.5, 0.25)
    """

    code: Act
    argument: float = 0.0

    @property
    def name(self) -> str:
        """The public name."""
        return self.code.name

    @_quiet
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
        return engines.reference.activation.activate(self.code, _real(z), self.argument)

    @_quiet
    def derivative(self, z):
        """g'(z), elementwise; step, ReLU and leaky ReLU have their left derivative at z = 0.

        Parameters
        ----------
        z : array_like, any shape
            Converted to float64 unless it is float32.

        Returns
        -------
        ndarray, the same shape
        """
        z = _real(z)
        a = engines.reference.activation.activate(self.code, z, self.argument)
        return engines.reference.activation.derivative(self.code, z, a, self.argument)

    def config(self):
        """The name, or a dict of name and argument, as written to files."""
        return self.name

    def __repr__(self) -> str:
        return self.name


class LeakyReLU(ActivationFunction):
    """z where z > 0, else slope z (A. L. Maas et al., 2013).

    Parameters
    ----------
    slope : float, default 0.01
        At least 0.

    Raises
    ------
    ValueError, TypeError
        If the slope is negative, not finite or not a number.

    Examples
    --------
    >>> from fastnn import Dense, activations
    >>> Dense(3, activations.LeakyReLU(0.2))
    Dense(3, LeakyReLU(0.2))
    """

    def __init__(self, slope=0.01):
        super().__init__(Act.leaky_relu, real_number(slope, "slope", least=0))

    def config(self):
        return {"name": self.name, "slope": self.argument}

    def __repr__(self) -> str:
        return f"LeakyReLU({self.argument:g})"


class ELU(ActivationFunction):
    """z where z > 0, else alpha (e^z - 1) (D.-A. Clevert et al., 2016).

    Parameters
    ----------
    alpha : float, default 1.0
        Above 0; the function tends to -alpha for large negative z.

    Raises
    ------
    ValueError, TypeError
        If alpha is not above 0, not finite or not a number.

    Examples
    --------
    >>> from fastnn.activations import ELU
    >>> ELU(0.5)([-100.0, 1.0])
    array([-0.5,  1. ])
    """

    def __init__(self, alpha=1.0):
        super().__init__(Act.elu, real_number(alpha, "alpha", positive=True))

    def config(self):
        return {"name": self.name, "alpha": self.argument}

    def __repr__(self) -> str:
        return f"ELU({self.argument:g})"


class Softmax(ActivationFunction):
    """e^z / sum e^z over an axis, with the maximum subtracted first.

    Each output depends on the whole row. As a layer it works on the last axis.

    Examples
    --------
    >>> from fastnn import softmax
    >>> softmax([1.0, 2.0, 0.0]).round(2)
    array([0.24, 0.67, 0.09])
    """

    def __init__(self):
        super().__init__(Act.softmax)

    @_quiet
    def __call__(self, z, axis=-1):
        """Softmax over an axis.

        Parameters
        ----------
        z : array_like, of at least one dimension
            Converted to float64 unless it is float32.
        axis : int, default -1

        Returns
        -------
        ndarray, the same shape

        Raises
        ------
        ValueError
            If z is empty along the axis or has no such axis.
        """
        z = _real(z)
        if not -z.ndim <= axis < z.ndim or z.shape[axis] == 0:
            raise ValueError(f"softmax needs elements along axis {axis}, but z has shape {z.shape}")
        return engines.reference.softmax.softmax(z, axis)

    @_quiet
    def derivative(self, z, axis=-1):
        """The Jacobian: the derivative of every output with respect to every input.

        Parameters
        ----------
        z : array_like, of at least one dimension
        axis : int, default -1

        Returns
        -------
        ndarray, the shape of z with the axis moved to the end, and one more axis of that length
            J[..., i, j] = a_i (delta_ij - a_j): output i, with respect to input j.
        """
        a = np.moveaxis(self(z, axis), axis, -1)
        return a[..., :, None] * (np.eye(a.shape[-1], dtype=a.dtype) - a[..., None, :])


def _real(z) -> np.ndarray:
    z = np.asarray(z)
    return z if z.dtype in (np.float32, np.float64) else z.astype(np.float64)


identity = ActivationFunction(Act.identity)
step = ActivationFunction(Act.step)
sigmoid = ActivationFunction(Act.sigmoid)
tanh = ActivationFunction(Act.tanh)
relu = ActivationFunction(Act.relu)
leaky_relu = LeakyReLU()
elu = ELU()
selu = ActivationFunction(Act.selu)
gelu = ActivationFunction(Act.gelu)
silu = ActivationFunction(Act.silu)
softplus = ActivationFunction(Act.softplus)
mish = ActivationFunction(Act.mish)
softmax = Softmax()

_BY_NAME: dict[str, ActivationFunction] = {code.name: globals()[code.name] for code in Act}


def get(activation) -> ActivationFunction:
    """Look up an activation by name; None gives the identity, an activation is returned as is.

    A name of Keras, PyTorch or scikit-learn that means the same is taken, in any spelling: "swish",
    "linear", "logistic", "ReLU".

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If the argument is neither a name, an activation nor None.

    Examples
    --------
    >>> from fastnn import activations
    >>> activations.get("tanh") is activations.tanh
    True
    >>> activations.get("swish"), activations.get("LeakyReLU")
    (silu, LeakyReLU(0.01))
    """
    if activation is None:
        return identity
    if isinstance(activation, ActivationFunction):
        return activation
    if isinstance(activation, type) and issubclass(activation, ActivationFunction):
        raise TypeError(f"activation must be an object: write {activation.__name__}()")
    if callable(activation):
        name = getattr(activation, "__name__", type(activation).__name__)
        known = f"write {name!r}" if name in _BY_NAME else f"the names are {', '.join(_BY_NAME)}"
        raise TypeError(
            f"activation must be a name or an activation, not the function {name}: {known}"
        )
    if not isinstance(activation, str):
        raise TypeError(f"activation must be a name, an activation or None, not {activation!r}")
    return _BY_NAME[find("activation", activation, _BY_NAME)]


def from_config(config) -> ActivationFunction:
    """The activation for what :meth:`ActivationFunction.config` returned."""
    if isinstance(config, str):
        return get(config)
    arguments = dict(config)
    return {"leaky_relu": LeakyReLU, "elu": ELU}[arguments.pop("name")](**arguments)


described.describe(_BY_NAME, __doc__, described.activation)
