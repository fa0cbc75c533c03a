"""Layers: declarations of sizes, names and hyperparameters. They hold no arrays."""

from __future__ import annotations

from . import activations, initializers
from .checks import real_number, whole_number
from .plan import Lowering


class Layer:
    """Base of the layers: it describes itself to a :class:`fastnn.plan.Lowering`."""

    def lower(self, lowering: Lowering, index: int, prefix: str) -> None:
        """Add this layer's operations on top; `prefix` begins its parameters' names."""
        raise TypeError(f"{type(self).__name__} must say how it is lowered")

    def initial(self, parameter, seed: int, block: int):
        """Initial values of one of this layer's parameters, as float64."""
        raise TypeError(f"{type(self).__name__} has no parameter {parameter.name!r}")

    def config(self) -> dict:
        """The layer's type and arguments, as written to files."""
        raise TypeError(f"{type(self).__name__} cannot be written to a file")


class Dense(Layer):
    """A fully connected layer: a = act(x W + b).

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str or activation, default None
        ``identity`` (as None), ``sigmoid``, ``tanh``, ``relu``.
    init : str, default "auto"
        Initial weights: ``he_normal``, ``xavier_normal``, ``zeros``; auto is He's rule for ReLU
        and Xavier's otherwise.
    bias_init : float, default 0.0
        Initial bias.

    Notes
    -----
    x is (m, n_in), W is (n_in, units) and b is (units,); the study notes' W is the transpose.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or names nothing.
    """

    def __init__(self, units, activation=None, init="auto", bias_init=0.0):
        self.units = whole_number(units, "units")
        self.activation = activations.get(activation)
        initializers.get(init)
        self.init = init
        self.bias_init = real_number(bias_init, "bias_init")

    def lower(self, lowering, index, prefix):
        lowering.dense(index, prefix, self.units, self.activation.code)

    def initial(self, parameter, seed, block):
        if parameter.name.endswith(".b"):
            return self.bias_init
        initializer = initializers.get(self.init, self.activation)
        return initializer.values(parameter.shape, seed, block)

    def config(self):
        init = self.init if isinstance(self.init, str) else self.init.name
        return {
            "layer": "Dense",
            "units": self.units,
            "activation": self.activation.name,
            "init": init,
            "bias_init": self.bias_init,
        }

    def __repr__(self):
        act = "" if self.activation == activations.identity else f", {self.activation.name!r}"
        return f"Dense({self.units}{act})"


_BY_NAME = {"Dense": Dense}


def from_config(config: dict) -> Layer:
    """The layer that :meth:`Layer.config` described."""
    arguments = dict(config)
    return _BY_NAME[arguments.pop("layer")](**arguments)
