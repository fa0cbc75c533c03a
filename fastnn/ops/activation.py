"""Activation: a = act(x), element by element, where no operation below can apply it."""

from __future__ import annotations

from ..tables import Act
from . import softmax
from .operation import EXP, Call, Operation, epilogue


class Activation(Operation):
    """x and a are (m, n); arg0 is the argument of leaky ReLU or ELU."""

    name = "activation"
    kind = 2
    codes = frozenset(int(act) for act in Act if act != Act.softmax)

    def z_is_input(self):
        return True

    def label(self, op):
        return Act(op.code).name

    def forward(self, table, index):
        op = table[index]
        yield Call(
            "activation_forward", epilogue(op), index, 0.0, EXP * op.n_out,
            reads=(table.value(op.x, op.n_in),), writes=(table.value(op.a, op.n_out),),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        yield Call(
            "activation_inputs", table.derivative(index), index, 0.0, float(op.n_out),
            reads=(table.value(op.da, op.n_out), *table.epilogue_reads(op.below)),
            writes=(table.value(op.dx, op.n_in),),
        )  # fmt: skip


OPERATION = Activation()


def lower(lowering, layer: str, act: Act, argument: float = 0.0) -> None:
    """Add a = act(z): as the epilogue of the operation below if it has none, else on its own."""
    if act == Act.identity:
        return
    if act == Act.softmax:
        softmax.lower(lowering, layer)
    elif not lowering.fuse(layer, act, argument):
        lowering.add(OPERATION, layer, lowering.width, code=int(act), arg0=argument)
