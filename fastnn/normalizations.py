"""Layers that normalise columns over a batch, or each row on its own. They hold no arrays."""

from __future__ import annotations

from . import initializers
from .checks import real_number, true_or_false, whole_number
from .layer import Layer
from .ops import batch_norm, group_norm


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
        self.affine = true_or_false(affine, "affine")

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
        return f"BatchNorm({', '.join(_options(self, momentum=0.9))})"


class GroupNorm(Layer):
    """Normalise the columns of each row in groups (Y. Wu and K. He, 2018).

    In every row, each group of n / groups consecutive columns gets mean 0 and variance 1; then
    column j is multiplied by gamma_j and beta_j is added, which are learned. Rows do not depend on
    each other, so batches of any size, training and predictions all compute the same.

    Instance normalisation is the case in which every group is one channel: where the columns of a
    table are channels of several consecutive columns each, that is ``GroupNorm(number of
    channels)``. With one group it is :class:`LayerNorm`.

    Parameters
    ----------
    groups : int
        At least 1; it must divide the columns, and a group needs at least 2 columns.
    epsilon : float, default 1e-5
        Added to the variance; above 0.
    affine : bool, default True
        Whether there are gamma, initially 1, and beta, initially 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type; once the number of columns is known,
        if the groups do not divide it or have a single column.

    Examples
    --------
    >>> from fastnn import Activation, Dense, GroupNorm, Sequential
    >>> net = Sequential([Dense(8), GroupNorm(2), Activation("relu"), Dense(1)], n_inputs=3)
    >>> net.parameters()["1.gamma"]
    array([1., 1., 1., 1., 1., 1., 1., 1.], dtype=float32)
    """

    def __init__(self, groups, epsilon=1e-5, affine=True):
        self.groups = whole_number(groups, "groups")
        self.epsilon = real_number(epsilon, "epsilon", positive=True)
        self.affine = true_or_false(affine, "affine")

    def lower(self, lowering, name):
        inits = map(initializers.get, (1.0, 0.0) if self.affine else ())
        group_norm.lower(lowering, name, self.groups, self.epsilon, *inits)

    def config(self):
        return {
            "layer": "GroupNorm",
            "groups": self.groups,
            "epsilon": self.epsilon,
            "affine": self.affine,
        }

    def __repr__(self):
        return f"GroupNorm({', '.join([str(self.groups), *_options(self)])})"


class LayerNorm(Layer):
    """Normalise each row over all of its columns (J. L. Ba et al., 2016, eq. 4).

    Every row gets mean 0 and variance 1; then column j is multiplied by gamma_j and beta_j is
    added, which are learned. Rows do not depend on each other, so batches of any size, training
    and predictions all compute the same.

    Parameters
    ----------
    epsilon : float, default 1e-5
        Added to the variance; above 0.
    affine : bool, default True
        Whether there are gamma, initially 1, and beta, initially 0.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type; once the number of columns is known,
        if there is only one.

    Examples
    --------
    >>> from fastnn import Activation, Dense, LayerNorm, Sequential
    >>> net = Sequential([Dense(4), LayerNorm(), Activation("relu"), Dense(1)], n_inputs=3)
    >>> net.trace([[1.0, 2.0, 3.0]])["1.normalised"].std(axis=1).round(2)
    array([1.], dtype=float32)
    """

    def __init__(self, epsilon=1e-5, affine=True):
        self._norm = GroupNorm(1, epsilon, affine)
        self.epsilon, self.affine = self._norm.epsilon, self._norm.affine

    def lower(self, lowering, name):
        self._norm.lower(lowering, name)

    def config(self):
        return {"layer": "LayerNorm", "epsilon": self.epsilon, "affine": self.affine}

    def __repr__(self):
        return f"LayerNorm({', '.join(_options(self))})"


def _options(layer, **defaults) -> list[str]:
    """The arguments of a normalisation that are not the defaults, as they are written."""
    defaults |= {"epsilon": 1e-5, "affine": True}
    values = {name: getattr(layer, name) for name in defaults}
    return [f"{name}={value!r}" for name, value in values.items() if value != defaults[name]]
