"""The base of the layers."""

from __future__ import annotations

from .described import Public
from .plan import Lowering


class Layer(metaclass=Public, hides=("check", "config", "is_activation", "lower", "n_outputs")):
    """Base of the layers. A layer adds its operations to a :class:`fastnn.plan.Lowering`.

    Attributes
    ----------
    n_outputs : int or None
        Number of outputs of a layer that can be a network's last one.
    is_activation : bool
        Whether it can follow that layer.
    """

    n_outputs: int | None = None
    is_activation: bool = False

    def lower(self, lowering: Lowering, name: str) -> None:
        """Add this layer's operations; `name` is its path in the network, such as "2.0"."""
        raise TypeError(f"{type(self).__name__} must define lower")

    def config(self) -> dict:
        """The layer's type and arguments, as written to files."""
        raise TypeError(f"{type(self).__name__} cannot be written to a file")
