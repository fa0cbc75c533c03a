"""Layers: declarations of sizes, names and hyperparameters. They hold no arrays."""

from __future__ import annotations

import numbers

from . import activations, initializers, schedules
from .checks import real_number, true_or_false, whole_number
from .embeddings import Embedding
from .layer import Layer
from .normalizations import BatchNorm, GroupNorm, LayerNorm
from .ops import activation, dense, maxout, prelu, residual, scale
from .preprocessing import (
    Center,
    Impute,
    MinMax,
    QuantileNormal,
    Rescale,
    RobustScale,
    Standardize,
    Whiten,
)  # fmt: skip
from .preprocessing.base import Preprocessing
from .stochastic import Dropout, GaussianNoise


class Dense(Layer):
    """A fully connected layer: a = act(x W + b).

    x is (m, n_in), W is (n_in, units) and b is (units,). Where samples are columns, z = W x + b as
    in A. Ng's course "Deep Learning", W is the transpose of this one.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str or activation, default None
        A name of :mod:`fastnn.activations`, or an object such as ``LeakyReLU(0.1)``; None is
        the identity.
    init : str or initialiser, default "auto"
        Initial weights: a name of :mod:`fastnn.initializers`, or an object such as
        ``Normal(0.01)``; "auto" is He's rule for the ReLU family, LeCun's otherwise: a normal
        distribution of variance 1 / n_in, which many courses call Xavier's.
    bias_init : float or initialiser, default 0.0
        Initial biases.
    l1, l2 : float, default 0
        Penalties that are added to the loss: l1 sum |W| + l2 sum W^2. Biases have none. With
        ``sse``, a minibatch of m of the fit's n rows counts m/n of them in loss and gradient. Both
        together are the elastic net.
    max_norm : float, optional
        After every step the weights of each unit, a column of W, are scaled down to this Euclidean
        norm if theirs is larger (N. Srivastava et al., Dropout, 2014, section 5.1).

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type, or a name is unknown.

    Examples
    --------
    >>> from fastnn import Dense, Sequential
    >>> net = Sequential([Dense(4, "relu"), Dense(1)], n_inputs=3)
    >>> {name: view.shape for name, view in net.parameters().items()}
    {'0.W': (3, 4), '1.W': (4, 1), '0.b': (4,), '1.b': (1,)}
    """

    def __init__(
        self, units, activation=None, init="auto", bias_init=0.0, l1=0, l2=0, max_norm=None
    ):
        self.units = self.n_outputs = whole_number(units, "units")
        if isinstance(activation, numbers.Integral):
            raise TypeError(
                f"activation must be a name, an activation or None, not {activation!r}: a layer is "
                f"told its outputs alone, Dense({activation}); its inputs follow from the layer "
                "before it, those of the first from X or n_inputs of Sequential"
            )
        self.activation = activations.get(activation)
        self.init = initializers.spelled(init)
        self.bias_init = _check_bias_init(bias_init)
        self.l1 = real_number(l1, "l1", least=0)
        self.l2 = real_number(l2, "l2", least=0)
        if max_norm is not None:
            max_norm = real_number(max_norm, "max_norm", positive=True)
        self.max_norm = max_norm

    def lower(self, lowering, name):
        dense.lower(
            lowering, name, self.units, initializers.get(self.init, self.activation),
            initializers.get(self.bias_init), self.l1, self.l2, max_norm=self.max_norm,
        )  # fmt: skip
        activation.lower(lowering, name, self.activation.code, self.activation.argument)

    def config(self):
        limit = {} if self.max_norm is None else {"max_norm": self.max_norm}
        return {
            "layer": "Dense",
            "units": self.units,
            "activation": self.activation.config(),
            "init": initializers.config(self.init),
            "bias_init": initializers.config(self.bias_init),
            "l1": self.l1,
            "l2": self.l2,
            **limit,  # files of earlier versions have none
        }

    def __repr__(self):
        act = self.activation
        first = [] if act == activations.identity else [_function(act)]
        options = _options(self, bias_init=0.0, l1=0, l2=0, max_norm=None)
        return f"Dense({', '.join([str(self.units), *first, *options])})"


def _check_bias_init(bias_init):
    """`bias_init`, if it is a number, "zeros" or an initialiser."""
    if isinstance(bias_init, str) and bias_init != "zeros":
        raise ValueError(f"bias_init must be a number or an initialiser, not {bias_init!r}")
    if not isinstance(bias_init, str | initializers.Initializer):
        real_number(bias_init, "bias_init")
    return bias_init


def _function(act: activations.ActivationFunction) -> str:
    """An activation as it is written: one without arguments by its name."""
    return repr(act.name) if act.config() == act.name else repr(act)


def _options(layer, **defaults) -> list[str]:
    """The arguments of a layer with weights that are not the defaults, as they are written."""
    init = [] if layer.init == "auto" else [f"init={initializers.shown(layer.init)}"]
    values = {name: getattr(layer, name) for name in defaults}
    zeros = ("zeros", initializers.zeros)  # other ways to write the biases' default
    return init + [
        f"{name}={initializers.shown(value)}"
        for name, value in values.items()
        if value != defaults[name] and not (name == "bias_init" and value in zeros)
    ]


def _check_vector_init(init):
    """`init`, if it is a number or an initialiser: the rules with names are for matrices."""
    initializers.get(init)
    if isinstance(init, str):
        raise TypeError(f"init must be a number or an initialiser, not {init!r}")
    return init


def _shown(name: str, init, default: float, option: str) -> str:
    """A layer of one vector as it is written: without the default of `init` and empty options."""
    value = getattr(init, "value", init)  # a Constant's value
    shown = "" if value == default else f"{value!r}"
    return f"{name}({', '.join(filter(None, (shown, option)))})"


class Maxout(Layer):
    """Units that are the largest of several weighted sums (I. Goodfellow et al., 2013, section 2).

    a_j = max over k of (x W + b)_(k units + j). x is (m, n_in), W is (n_in, pieces units) and b is
    (pieces units,): a piece of all units is a block of consecutive columns. The first of equal
    pieces wins, and it alone has a gradient.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    pieces : int, default 2
        Weighted sums of each unit, at least 2.
    init : str or initialiser, default "auto"
        Initial weights, as for :class:`Dense`; "auto" is He's rule.
    bias_init : float or initialiser, default 0.0
        Initial biases.
    l1, l2 : float, default 0
        Penalties on the weights, as for :class:`Dense`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type, or a name is unknown.

    Examples
    --------
    >>> from fastnn import Dense, Maxout, Sequential
    >>> net = Sequential([Maxout(4, pieces=3), Dense(1)], n_inputs=5)
    >>> {name: view.shape for name, view in net.parameters().items()}
    {'0.W': (5, 12), '1.W': (4, 1), '0.b': (12,), '1.b': (1,)}
    """

    def __init__(self, units, pieces=2, init="auto", bias_init=0.0, l1=0, l2=0):
        self.units = self.n_outputs = whole_number(units, "units")
        self.pieces = whole_number(pieces, "pieces", least=2)
        self.init = initializers.spelled(init)
        self.bias_init = _check_bias_init(bias_init)
        self.l1 = real_number(l1, "l1", least=0)
        self.l2 = real_number(l2, "l2", least=0)

    def lower(self, lowering, name):
        dense.lower(
            lowering, name, self.pieces * self.units,
            initializers.get(self.init, activations.relu), initializers.get(self.bias_init),
            self.l1, self.l2,
        )  # fmt: skip
        maxout.lower(lowering, name, self.pieces)

    def config(self):
        return {
            "layer": "Maxout",
            "units": self.units,
            "pieces": self.pieces,
            "init": initializers.config(self.init),
            "bias_init": initializers.config(self.bias_init),
            "l1": self.l1,
            "l2": self.l2,
        }

    def __repr__(self):
        options = _options(self, bias_init=0.0, l1=0, l2=0)
        pieces = [] if self.pieces == 2 else [f"pieces={self.pieces}"]
        return f"Maxout({', '.join([str(self.units), *pieces, *options])})"


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
        If the name is unknown, or the argument is no activation.

    Examples
    --------
    >>> from fastnn import Activation, Dense, Sequential
    >>> Sequential([Dense(4), Activation("relu"), Dense(1)])
    Sequential([Dense(4), Activation('relu'), Dense(1)], seed=0, dtype='float32')
    """

    is_activation = True

    def __init__(self, activation):
        if activation is None:
            raise TypeError("Activation needs a name or an activation")
        self.activation = activations.get(activation)

    def lower(self, lowering, name):
        activation.lower(lowering, name, self.activation.code, self.activation.argument)

    def config(self):
        return {"layer": "Activation", "activation": self.activation.config()}

    def __repr__(self):
        return f"Activation({_function(self.activation)})"


class PReLU(Layer):
    """A learned leaky ReLU: a = z where z > 0, else alpha z (K. He et al., 2015, eq. 1).

    Parameters
    ----------
    init : float or initialiser, default 0.25
        The initial slope alpha.
    shared : bool, default False
        True gives all units one slope, False each unit its own.

    Raises
    ------
    ValueError, TypeError
        If init is neither a number nor an initialiser, or shared is not a bool.

    Examples
    --------
    >>> from fastnn import Dense, PReLU, Sequential
    >>> net = Sequential([Dense(4), PReLU(), Dense(1)], n_inputs=3)
    >>> net.parameters()["1.alpha"]
    array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """

    is_activation = True

    def __init__(self, init=0.25, shared=False):
        self.init = _check_vector_init(init)
        self.shared = true_or_false(shared, "shared")

    def lower(self, lowering, name):
        prelu.lower(lowering, name, initializers.get(self.init), self.shared)

    def config(self):
        return {"layer": "PReLU", "init": initializers.config(self.init), "shared": self.shared}

    def __repr__(self):
        return _shown("PReLU", self.init, 0.25, "shared=True" if self.shared else "")


class Scale(Layer):
    """A learned factor for each column: a = x gamma, or a = x gamma + beta.

    As the first layer it scales the input.

    Parameters
    ----------
    init : float or initialiser, default 1.0
        The initial factors gamma.
    bias : bool, default False
        Whether there are beta, initially 0.

    Raises
    ------
    ValueError, TypeError
        If init is neither a number nor an initialiser, or bias is not a bool.

    Examples
    --------
    >>> from fastnn import Dense, Scale, Sequential
    >>> net = Sequential([Scale(bias=True), Dense(1)], n_inputs=2)
    >>> {name: view.shape for name, view in net.parameters().items()}
    {'1.W': (2, 1), '0.gamma': (2,), '0.beta': (2,), '1.b': (1,)}
    """

    def __init__(self, init=1.0, bias=False):
        self.init = _check_vector_init(init)
        self.bias = true_or_false(bias, "bias")

    def lower(self, lowering, name):
        shift = initializers.get(0.0) if self.bias else None
        scale.lower(lowering, name, initializers.get(self.init), shift)

    def config(self):
        return {"layer": "Scale", "init": initializers.config(self.init), "bias": self.bias}

    def __repr__(self):
        return _shown("Scale", self.init, 1.0, "bias=True" if self.bias else "")


#: Most levels of nested Residual layers.
_MAX_NESTING = 32


class Residual(Layer):
    """Layers with a shortcut around them: a = f(x) + x (K. He et al., 2016, eq. 1).

    If f(x) has another number of columns than x, the shortcut is a learned projection without
    biases, a = f(x) + x W (eq. 2). An activation that follows is applied to the sum. The inner
    layers may be of any kind, including Residual.

    Parameters
    ----------
    layers : iterable of Layer
        f, from its input to its output; at least one.

    Raises
    ------
    ValueError, TypeError
        If there is no layer, an item is not a layer, or layers are nested more than 32 deep.

    Examples
    --------
    >>> from fastnn import Dense, Residual, Sequential
    >>> net = Sequential([Residual([Dense(8, "relu"), Dense(4)]), Dense(1)], n_inputs=3)
    >>> {name: view.shape for name, view in net.parameters().items() if view.ndim == 2}
    {'0.0.W': (3, 8), '0.1.W': (8, 4), '0.projection.W': (3, 4), '1.W': (4, 1)}
    """

    def __init__(self, layers):
        self.layers = check_layers(layers, "Residual")
        self.depth: int = 1 + max((getattr(layer, "depth", 0) for layer in self.layers), default=0)
        if self.depth > _MAX_NESTING:
            raise ValueError(f"Residual layers may be nested {_MAX_NESTING} deep, not {self.depth}")

    def lower(self, lowering, name):
        shortcut = lowering.share()
        for index, layer in enumerate(self.layers):
            layer.lower(lowering, f"{name}.{index}")
        branch, width = lowering.share(), lowering.width
        if lowering.width_of(shortcut) != width:
            init = initializers.get("auto")
            dense.lower(lowering, f"{name}.projection", width, init, reads=shortcut)
            shortcut = lowering.share()
        residual.lower(lowering, name, branch, shortcut)

    def config(self):
        return {"layer": "Residual", "layers": [layer.config() for layer in self.layers]}

    def __repr__(self):
        return f"Residual({self.layers!r})"


def check_layers(given, what: str) -> list[Layer]:
    """`given` as a list of layers; messages call its owner `what`.

    Raises
    ------
    ValueError, TypeError
        If there is none, or an item is not a layer.

    Examples
    --------
    >>> from fastnn.layers import Dense, check_layers
    >>> check_layers(Dense(3), "a network")
    [Dense(3)]
    """
    if isinstance(given, Layer):
        given = [given]
    try:
        found = list(given)
    except TypeError:
        raise TypeError(f"{what} takes a list of layers, not {given!r}") from None
    for layer in found:
        if not isinstance(layer, Layer):
            hint = f": write {layer.__name__}(...)" if isinstance(layer, type) else ""
            raise TypeError(f"layers must be layers such as Dense(10), not {layer!r}{hint}")
    if not found:
        raise ValueError(f"{what} needs at least one layer")
    return found


def check_network(given) -> list[Layer]:
    """The layers of a network: the last one is Dense or Maxout, possibly before activations.

    Raises
    ------
    ValueError, TypeError
        As :func:`check_layers`, or if the last layer is of another kind.

    Examples
    --------
    >>> from fastnn.layers import Activation, Dense, check_network
    >>> check_network((Dense(3), Activation("softmax")))
    [Dense(3), Activation('softmax')]
    """
    found = check_layers(given, "a network")
    top = found
    while top and top[-1].is_activation:
        top = top[:-1]
    if not top or top[-1].n_outputs is None:
        raise ValueError(
            f"the last layer must be Dense or Maxout (or activations after it), not {found[-1]!r}"
        )
    _check_preprocessing(found)
    return found


def _check_preprocessing(layers: list[Layer]) -> None:
    """Refuse preprocessing anywhere but at the beginning, or together with codes."""
    begins = True
    for index, layer in enumerate(layers):
        if not isinstance(layer, Preprocessing):
            begins = False
            if index and isinstance(layer, Embedding) and isinstance(layers[0], Preprocessing):
                raise ValueError(
                    f"Embedding takes codes as they are, but {layers[0]!r} would change them: "
                    "prepare the other columns before"
                )
        elif not begins:
            raise ValueError(
                f"{layer!r} prepares X, so it must come before all other layers; between layers "
                "use BatchNorm or LayerNorm"
            )
        elif index and layer.takes_missing:
            raise ValueError(f"{layer!r} must be the first layer: others take no missing values")


_KINDS: dict[str, type[Layer]] = {
    "Dense": Dense,
    "Activation": Activation,
    "PReLU": PReLU,
    "Embedding": Embedding,
    "BatchNorm": BatchNorm,
    "LayerNorm": LayerNorm,
    "GroupNorm": GroupNorm,
    "Residual": Residual,
    "Dropout": Dropout,
    "GaussianNoise": GaussianNoise,
    "Maxout": Maxout,
    "Scale": Scale,
    "Center": Center,
    "Impute": Impute,
    "MinMax": MinMax,
    "QuantileNormal": QuantileNormal,
    "Rescale": Rescale,
    "RobustScale": RobustScale,
    "Standardize": Standardize,
    "Whiten": Whiten,
}


def from_config(config: dict) -> Layer:
    """The layer for what :meth:`Layer.config` returned.

    Raises
    ------
    KeyError, TypeError, ValueError
        If `config` describes no layer.
    """
    arguments = dict(config)
    kind = _KINDS[arguments.pop("layer")]
    if "layers" in arguments:
        arguments["layers"] = [from_config(inner) for inner in arguments["layers"]]
    if "columns" in arguments:
        arguments["columns"] = {column: sizes for column, *sizes in arguments["columns"]}
    if "activation" in arguments:
        arguments["activation"] = activations.from_config(arguments["activation"])
    for name in {"init", "bias_init"} & arguments.keys():
        arguments[name] = initializers.from_config(arguments[name])
    if isinstance(arguments.get("rate"), dict):
        arguments["rate"] = schedules.from_config(arguments["rate"])
    return kind(**arguments)
