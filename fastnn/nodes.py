"""Operations before they have offsets, and which of them predictions execute."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from .ops import Operation
from .tables import INPUT, Act


@dataclass
class Node:
    """An operation before it has offsets; inputs are indices of nodes, or INPUT."""

    home: Operation
    layer: str
    inputs: tuple[int, ...]
    n_in: int
    n_out: int
    weights: dict[str, tuple] = field(default_factory=dict)
    others: dict[str, tuple] = field(default_factory=dict)
    state: dict[str, tuple] = field(default_factory=dict)
    constants: tuple[float, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)
    activation_layer: str = ""

    @property
    def code(self) -> int:
        return self.fields.get("code", int(Act.identity))

    @property
    def arg0(self) -> float:
        return self.fields.get("arg0", 0.0)

    @property
    def is_folded(self) -> bool:
        """Whether the operation below computes it, and it has no value of its own."""
        return self.home.folds and "fold" in self.fields


def for_prediction(nodes: list[Node], top: int) -> tuple[list[Node], int]:
    """The operations of predictions, and the index of the one that gives the output.

    Those that change nothing in predictions are left out. A normalisation by running statistics is
    folded into the operation below if nothing else reads that.
    """
    place = {INPUT: INPUT}
    kept: list[Node] = []
    for index, node in enumerate(nodes):
        inputs = tuple(place[value] for value in node.inputs)
        if node.home.passes_in_prediction(node):
            (place[index],) = inputs
            continue
        place[index] = len(kept)
        kept.append(replace(node, inputs=inputs, fields=dict(node.fields)))
    readers = Counter(value for node in kept for value in node.inputs)
    for index, node in enumerate(kept):
        below = node.inputs[0]
        if node.home.folds and below != INPUT and readers[below] == 1:
            _fold(kept[below], below, node, index)
    return kept, place[top]


def _fold(below: Node, number: int, node: Node, index: int) -> None:
    """Fold a node into the one below: before the activation of that, or after it (arg3 = 1)."""
    is_after = below.code != Act.identity
    if "fold" in below.fields or not below.home.takes_fold(below):
        return
    if is_after and node.code != Act.identity:
        return  # two activations
    below.fields.update(fold=index, arg3=float(is_after))
    if not is_after:
        below.fields.update(code=node.code, arg0=node.arg0)
    node.fields.update(fold=number, code=int(Act.identity), arg0=0.0)
