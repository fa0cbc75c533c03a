"""The network of MLPClassifier and MLPRegressor: its layers, its weights, other estimators'."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from .. import activations
from ..activations import ActivationFunction
from ..layers import Activation, Dense
from ..losses import LossFunction
from ..model import Sequential
from ..normalizations import BatchNorm, LayerNorm
from ..stochastic import Dropout
from ..tables import Act
from . import draws
from .base import NetworkEstimator

NORMALIZATIONS = {"batch": BatchNorm, "layer": LayerNorm}


class Architecture(NetworkEstimator):
    """Base of the two estimators: the network that their parameters describe."""

    alpha: float
    hidden_layer_sizes: Any
    activation: Any
    dropout: Any
    normalization: str | None
    output_activation: Any

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights of each layer (n_in, n_out), as views that change the network."""
        return [W for W, _ in self._matrices()]

    @coefs_.setter
    def coefs_(self, values) -> None:
        self._assign("coefs_", values, [W for W, _ in self._matrices()])

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases of each layer (n_out,), as views; zeros where a BatchNorm replaces them."""
        return [b for _, b in self._matrices()]

    @intercepts_.setter
    def intercepts_(self, values) -> None:
        self._assign("intercepts_", values, [b for _, b in self._matrices()])

    def _matrices(self) -> list[tuple[np.ndarray, np.ndarray]]:
        if "net_" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} has no weights yet: call fit first")
        named = self.net_.parameters()
        found = []
        for name in sorted((n[:-2] for n in named if n.endswith(".W")), key=int):
            W = named[f"{name}.W"]
            b = named.get(f"{name}.b")
            found.append((W, np.zeros(W.shape[1], W.dtype) if b is None else b))
        return found

    def to_sklearn(self):
        """scikit-learn's estimator with a copy of the weights, which predicts the same.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            Fitted; parameters that matter in training alone, such as `dropout`, are left out with
            a warning.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If scikit-learn has no such network: with a normalisation, with other activations.
        """
        from .conversion import to_sklearn

        return to_sklearn(self)

    @classmethod
    def from_sklearn(cls, estimator):
        """An estimator with the parameters and a copy of the weights of scikit-learn's.

        Parameters
        ----------
        estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
            Fitted.

        Returns
        -------
        MLPClassifier or MLPRegressor
            It predicts the same. A further fit starts the state of Adam or of the momentum anew.

        Raises
        ------
        TypeError
            If it is no such estimator.
        NotFittedError
            If it has not been fitted.
        """
        from .conversion import from_sklearn

        return from_sklearn(cls, estimator)

    def _assign(self, what: str, values, views: list[np.ndarray]) -> None:
        shapes = [np.shape(value) for value in values]
        if shapes != [view.shape for view in views]:
            raise ValueError(
                f"{what} has the shapes {[view.shape for view in views]}, but {shapes} were "
                "assigned"
            )
        for view, value in zip(views, values, strict=True):
            view[:] = value

    def _hidden_units(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if not all(isinstance(size, Integral) for size in sizes):
            raise TypeError(f"hidden_layer_sizes must hold whole numbers, got {sizes}.")
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _per_layer(self, value, name: str, n_layers: int) -> list:
        """A parameter that is one value for all hidden layers or a list of one for each."""
        if not isinstance(value, list | tuple):
            return [value] * n_layers
        if len(value) != n_layers:
            raise ValueError(
                f"{name} has {len(value)} values for {n_layers} hidden layers: give one for each, "
                "or a single one"
            )
        return list(value)

    def _layers(self, loss: LossFunction, n_outputs: int) -> tuple[list, list[float]]:
        """The layers, and for each Dense the factor of its initial weights."""
        units = self._hidden_units()
        functions = [
            _activation(one, "activation")
            for one in self._per_layer(self.activation, "activation", len(units))
        ]
        rates = self._per_layer(self.dropout, "dropout", len(units))
        layers: list = []
        for size, function, rate in zip(units, functions, rates, strict=True):
            if self.normalization is None:
                layers.append(Dense(size, function, init="zeros"))
            else:
                layers += [Dense(size, init="zeros"), NORMALIZATIONS[self.normalization]()]
                layers.append(Activation(function))
            if rate:
                layers.append(Dropout(rate))
        last = (
            None
            if _is_auto(self.output_activation)
            else _activation(self.output_activation, "output_activation")
        )
        layers.append(Dense(n_outputs, last, init="zeros"))
        # Sigmoids get smaller weights; the output layer follows the hidden ones.
        factors = [2.0 if function.code == Act.sigmoid else 6.0 for function in functions]
        return layers, [*factors, factors[-1] if factors else 6.0]

    def _new_net(
        self, loss: LossFunction, n_outputs: int, dtype, random, draws_weights: bool = True
    ) -> Sequential:  # fmt: skip
        """A network with weights drawn as scikit-learn draws them, or of zeros."""
        layers, factors = self._layers(loss, n_outputs)
        net = Sequential(layers, dtype=np.dtype(dtype).name, l2=self.alpha / 2, penalties="per_row")
        net.build(self.n_features_in_, loss)
        if draws_weights:
            draws.initial_weights(net, random, factors)
        if any(isinstance(layer, Dropout) for layer in layers):
            net.seed = int(random.randint(2**31 - 1))
        return net

    def _continued(self, loss: LossFunction, n_outputs: int, dtype, random) -> Sequential:
        """A network of the present parameters of the estimator with the weights of the last fit."""
        net, before = self._new_net(loss, n_outputs, dtype, random, draws_weights=False), self.net_
        pairs = list(zip(net.parameters().values(), before.parameters().values(), strict=False))
        same = len(net.parameters()) == len(before.parameters())
        if not same or any(new.shape != old.shape for new, old in pairs):
            raise ValueError(
                "warm_start goes on with the network of the last fit, but the parameters now say "
                f"{net.layers}, and it has {before.layers}: use warm_start=False for a new one"
            )
        state = zip(net.state_dict(), before.state_dict().values(), strict=True)
        net.load_state_dict(dict(state))
        return net


def _activation(given, parameter: str) -> ActivationFunction:
    """The activation that a parameter names; an error says which parameter it is about."""
    try:
        return activations.get(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{parameter}: {error}") from None


def function_of(layer) -> ActivationFunction:
    """The activation of a Dense layer."""
    assert isinstance(layer, Dense)
    return layer.activation


def _is_auto(value) -> bool:
    return isinstance(value, str) and value == "auto"
