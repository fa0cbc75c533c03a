"""Softmax: a = e^x / sum e^x over each row."""

from __future__ import annotations

from ..tables import Act
from .operation import EXP, Call, Operation


class Softmax(Operation):
    """x and a are (m, n)."""

    name = "softmax"
    kind = 3
    backward_reads = ("a",)

    def output_activation(self, code):
        return Act.softmax

    def logits(self, code):
        return "x"

    def forward(self, table, index):
        op = table[index]
        yield Call(
            "softmax_forward", None, index, 0.0, EXP * op.n_out,
            reads=(table.value(op.x, op.n_in),), writes=(table.value(op.a, op.n_out),),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        yield Call(
            "softmax_inputs", table.derivative(index), index, 0.0, float(op.n_out),
            reads=(
                table.value(op.a, op.n_out),
                table.value(op.da, op.n_out),
                *table.epilogue_reads(op.below),
            ),
            writes=(table.value(op.dx, op.n_in),),
        )  # fmt: skip


OPERATION = Softmax()


def lower(lowering, layer: str) -> None:
    """Add softmax over the topmost value."""
    lowering.add(OPERATION, layer, lowering.width)
