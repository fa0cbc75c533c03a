"""Layers: declarations of sizes, names and hyperparameters. They hold no arrays."""

from __future__ import annotations

from . import activations, initializers
from .checks import real_number, whole_number
from .plan import Lowering


class Layer:
    """Base of the layers: it describes itself to a :class:`fastnn.plan.Lowering`."""

    def lower(self, lowering: Lowering, index: int) -> None:
        """Add this layer's operations on top; `index` is its place in the network."""
        raise TypeError(f"{type(self).__name__} must say how it is lowered")

    def initial(self, parameter, seed: int, block: int):
        """Initial values of one of this layer's parameters, as float64."""
        raise TypeError(f"{type(self).__name__} has no parameter {parameter.name!r}")

    def config(self) -> dict:
        """The layer's type and arguments, as written to files."""
        raise TypeError(f"{type(self).__name__} cannot be written to a file")


class Dense(Layer):
    """A fully connected layer: a = act(x W + b).

    x is (m, n_in), W is (n_in, units) and b is (units,); the study notes' W is the transpose.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str or activation, default None
        A name of :mod:`fastnn.activations`, or an object such as ``LeakyReLU(0.1)``; None is
        the identity.
    init : str or initialiser, default "auto"
        Initial weights: a name of :mod:`fastnn.initializers`, or an object such as
        ``Normal(0.01)``; "auto" is He's rule for the ReLU family, LeCun's for SELU, Xavier's
        otherwise.
    bias_init : float or initialiser, default 0.0
        Initial biases.
    l1, l2 : float, default 0
        Penalties that are added to the loss: l1 sum |W| + l2 sum W^2. Biases have none.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or names nothing.

    Examples
    --------
    >>> from fastnn import Dense, Sequential
    >>> net = Sequential([Dense(4, "relu"), Dense(1)], n_inputs=3)
    >>> {name: view.shape for name, view in net.parameters().items()}
    {'0.W': (3, 4), '1.W': (4, 1), '0.b': (4,), '1.b': (1,)}
    """

    def __init__(self, units, activation=None, init="auto", bias_init=0.0, l1=0, l2=0):
        self.units = whole_number(units, "units")
        self.activation = activations.get(activation)
        initializers.get(init)
        self.init = init
        if isinstance(bias_init, str) and bias_init != "zeros":
            raise ValueError(f"bias_init must be a number or an initialiser, not {bias_init!r}")
        if not isinstance(bias_init, str | initializers.Initializer):
            real_number(bias_init, "bias_init")
        self.bias_init = bias_init
        self.l1 = real_number(l1, "l1", least=0)
        self.l2 = real_number(l2, "l2", least=0)

    def lower(self, lowering, index):
        lowering.dense(index, self.units, self.l1, self.l2)
        lowering.activation(index, self.activation.code, self.activation.argument)

    def initial(self, parameter, seed, block):
        chosen = self.bias_init if parameter.name.endswith(".b") else self.init
        return initializers.get(chosen, self.activation).values(parameter.shape, seed, block)

    def config(self):
        return {
            "layer": "Dense",
            "units": self.units,
            "activation": self.activation.config(),
            "init": initializers.config(self.init),
            "bias_init": initializers.config(self.bias_init),
            "l1": self.l1,
            "l2": self.l2,
        }

    def __repr__(self):
        act = self.activation
        shown = repr(act.name) if act.config() == act.name else repr(act)
        return f"Dense({self.units}{'' if act == activations.identity else ', ' + shown})"


class Activation(Layer):
    """An activation as a layer of its own.

    After a Dense layer without activation it is the same as that layer's activation.

    Parameters
    ----------
    activation : str or activation
        A name of :mod:`fastnn.activations`, or an object such as ``LeakyReLU(0.1)``.

    Raises
    ------
    ValueError, TypeError
        If there is none of that name.

    Examples
    --------
    >>> from fastnn import Activation, Dense, Sequential
    >>> Sequential([Dense(4), Activation("relu"), Dense(1)])
    Sequential([Dense(4), Activation('relu'), Dense(1)], seed=0, dtype='float32')
    """

    def __init__(self, activation):
        if activation is None:
            raise TypeError("Activation needs a name or an activation")
        self.activation = activations.get(activation)

    def lower(self, lowering, index):
        lowering.activation(index, self.activation.code, self.activation.argument)

    def config(self):
        return {"layer": "Activation", "activation": self.activation.config()}

    def __repr__(self):
        act = self.activation
        return f"Activation({act.name!r})" if act.config() == act.name else f"Activation({act!r})"


def from_config(config: dict) -> Layer:
    """The layer that :meth:`Layer.config` described."""
    arguments = dict(config)
    kind = {"Dense": Dense, "Activation": Activation}[arguments.pop("layer")]
    arguments["activation"] = activations.from_config(arguments["activation"])
    for name in {"init", "bias_init"} & arguments.keys():
        arguments[name] = initializers.from_config(arguments[name])
    return kind(**arguments)
