"""Layers: declarations of sizes, names and hyperparameters. They hold no arrays."""

from __future__ import annotations

import numpy as np

from . import activations, initializers, schedules
from .checks import real_number, whole_number
from .layer import Layer
from .ops import activation, batch_norm, dense, embedding, prelu, residual
from .stochastic import Dropout, GaussianNoise


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
        act = self.activation
        return f"Activation({act.name!r})" if act.config() == act.name else f"Activation({act!r})"


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
        initializers.get(init)
        if isinstance(init, str):
            raise TypeError(f"init must be a number or an initialiser, not {init!r}")
        if not isinstance(shared, bool):
            raise TypeError(f"shared must be True or False, not {shared!r}")
        self.init = init
        self.shared = shared

    def lower(self, lowering, name):
        prelu.lower(lowering, name, initializers.get(self.init), self.shared)

    def config(self):
        return {"layer": "PReLU", "init": initializers.config(self.init), "shared": self.shared}

    def __repr__(self):
        value = getattr(self.init, "value", self.init)  # a Constant's value
        init = "" if value == 0.25 else f"{value!r}"
        shared = "shared=True" if self.shared else ""
        return f"PReLU({', '.join(filter(None, (init, shared)))})"


#: Most values of an embedded column: float32 represents every code below it.
_MOST_VALUES = 1 << 24


class Embedding(Layer):
    """Learned vectors in place of columns of codes: a network's first layer.

    A code v of an embedded column, a whole number from 0 to n_values - 1, is replaced by row v of
    the column's table E (C. Guo and F. Berkhahn, Entity embeddings of categorical variables, 2016).
    The output begins with the other columns of X; the vectors follow in the order of their columns.

    Parameters
    ----------
    columns : dict of int to (int, int)
        For each embedded column of X, (n_values, dim): how many codes there are, and the number of
        columns that replace it. ``{3: (7, 4)}`` replaces column 3 by 4 columns.
    init : str or initialiser, optional
        Initial tables (n_values, dim); by default uniform between -1/sqrt(dim) and 1/sqrt(dim)
        (Y. Gorishniy et al., Revisiting deep learning models for tabular data, 2021).

    Raises
    ------
    ValueError, TypeError
        If there is no column, or a number is out of range or not whole.

    Notes
    -----
    Tables are no weight matrices: neither the network's l1 and l2 nor weight decay change them.
    X is checked in fit and prediction: a code out of range is an error. `input_scale` must be 1.

    Examples
    --------
    >>> from fastnn import Dense, Embedding, Sequential
    >>> net = Sequential([Embedding({1: (7, 4)}), Dense(1)], n_inputs=3)
    >>> {name: view.shape for name, view in net.parameters().items()}
    {'1.W': (6, 1), '0.E1': (7, 4), '1.b': (1,)}
    """

    def __init__(self, columns, init=None):
        if not isinstance(columns, dict) or not columns:
            raise TypeError(
                f"Embedding takes a dict of columns such as {{3: (n_values, dim)}}, not {columns!r}"
            )
        found = {}
        for column, sizes in columns.items():
            if not isinstance(sizes, tuple | list) or len(sizes) != 2:
                raise TypeError(f"column {column!r} needs (n_values, dim), not {sizes!r}")
            place = f"of column {column!r}"
            found[whole_number(column, "an embedded column", least=0)] = (
                whole_number(sizes[0], f"n_values {place}", most=_MOST_VALUES),
                whole_number(sizes[1], f"dim {place}"),
            )
        self.columns: dict[int, tuple[int, int]] = dict(sorted(found.items()))
        if init is not None:
            initializers.get(init)
        self.init = init

    def lower(self, lowering, name):
        embedding.lower(lowering, name, self.columns, self._init)

    def _init(self, dim: int) -> initializers.Initializer:
        if self.init is not None:
            return initializers.get(self.init)
        return initializers.Uniform(-(dim**-0.5), dim**-0.5)

    def check(self, X, what: str = "X") -> None:
        """Refuse codes that no table has.

        Parameters
        ----------
        X : ndarray, shape (m, n_inputs)

        Raises
        ------
        ValueError
            If a code of an embedded column is not a whole number below its n_values.
        """
        for column, (n_values, _) in self.columns.items():
            codes = X[:, column] if column < X.shape[1] else X[:0, 0]
            wrong = ~((codes >= 0) & (codes < n_values) & (codes == np.floor(codes)))
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(
                    f"{what}[{row}, {column}] is {codes[row]}, but the embedded column {column} "
                    f"has the codes 0 to {n_values - 1}: code its values as such whole numbers"
                )

    def config(self):
        init = {} if self.init is None else {"init": initializers.config(self.init)}
        columns = [[column, *sizes] for column, sizes in self.columns.items()]
        return {"layer": "Embedding", "columns": columns, **init}

    def __repr__(self):
        return f"Embedding({self.columns!r})"


class BatchNorm(Layer):
    """Batch normalisation: z = gamma (x - mean) / sqrt(variance + epsilon) + beta, by columns.

    Training takes the mean and the biased variance of the batch (S. Ioffe and C. Szegedy, 2015,
    algorithm 1), whose gradient includes that of both; sample weights do not enter them. Each step
    moves the running statistics, running = momentum running + (1 - momentum) batch, with the
    unbiased variance of the batch, as in PyTorch. Predictions and evaluations use the running
    statistics. So does a batch of one row, which has no variance: they are then constants, and the
    step leaves them as they are.

    It may come anywhere but last: first, where it normalises X, before an activation, after one, or
    inside Residual. The biases of a Dense layer without activation right below it would have no
    effect, since the mean takes them out again: that layer has none, whatever its `bias_init`.
    A batch is not cut into pieces of bounded memory, as it is in networks without BatchNorm.

    Parameters
    ----------
    momentum : float, default 0.9
        Share of the running statistics that a step keeps, from 0 to below 1; PyTorch's `momentum`
        is 1 minus this one.
    epsilon : float, default 1e-5
        Added to the variances, above 0.
    affine : bool, default True
        Whether gamma, initially 1, and beta, initially 0, are learned; else there are none.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from fastnn import Activation, BatchNorm, Dense, Sequential
    >>> net = Sequential([Dense(4), BatchNorm(), Activation("relu"), Dense(1)], n_inputs=3)
    >>> {name: view.shape for name, view in net.parameters().items()}
    {'0.W': (3, 4), '3.W': (4, 1), '1.gamma': (4,), '1.beta': (4,), '3.b': (1,)}
    >>> sorted(net.state_dict().keys() - net.parameters().keys())
    ['1.running_mean', '1.running_var']
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, affine=True):
        self.momentum = real_number(momentum, "momentum", least=0, below=1)
        self.epsilon = real_number(epsilon, "epsilon", positive=True)
        if not isinstance(affine, bool):
            raise TypeError(f"affine must be True or False, not {affine!r}")
        self.affine = affine

    def lower(self, lowering, name):
        ones, zeros = initializers.get(1.0), initializers.get(0.0)
        batch_norm.lower(lowering, name, ones, zeros, self.momentum, self.epsilon, self.affine)

    def config(self):
        return {
            "layer": "BatchNorm",
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "affine": self.affine,
        }

    def __repr__(self):
        defaults = {"momentum": 0.9, "epsilon": 1e-5, "affine": True}
        values = {name: getattr(self, name) for name in defaults}
        shown = [f"{n}={value!r}" for n, value in values.items() if value != defaults[n]]
        return f"BatchNorm({', '.join(shown)})"


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
    """The layers of a network: the last one is Dense, possibly followed by activations.

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
            f"the last layer must be Dense (or activations after it), not {found[-1]!r}"
        )
    return found


_KINDS: dict[str, type[Layer]] = {
    "Dense": Dense,
    "Activation": Activation,
    "PReLU": PReLU,
    "Embedding": Embedding,
    "BatchNorm": BatchNorm,
    "Residual": Residual,
    "Dropout": Dropout,
    "GaussianNoise": GaussianNoise,
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
