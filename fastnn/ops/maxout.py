"""Maxout: a_j = the largest of the pieces x_j, x_(units + j), x_(2 units + j), ..."""

from __future__ import annotations

from ..tables import NONE
from .operation import MOVE, Call, Operation


class Maxout(Operation):
    """x is (m, pieces n), a is (m, n), pieces is arg1 (I. Goodfellow et al., 2013, section 2).

    The first of equal pieces wins, and alone has a gradient. A NaN in any piece makes a NaN, and
    then no piece has a gradient.
    """

    name = "maxout"
    kind = 13
    backward_reads = ("x",)
    columns_may_differ = True

    def check(self, op, door):
        if not (op.arg1 >= 2 and op.n_in == op.arg1 * op.n_out):
            raise ValueError(f"{op.arg1} pieces of {op.n_out} columns, but n_in is {op.n_in}")

    def label(self, op):
        return f"maxout, {op.arg1:g} pieces"

    def forward(self, table, index):
        op = table[index]
        yield Call(
            "maxout_forward", None, index, 0.0, MOVE * op.n_in,
            reads=(table.value(op.x, op.n_in),), writes=(table.value(op.a, op.n_out),),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        if op.dx == NONE:
            return
        yield Call(
            "maxout_inputs", table.derivative(index), index, 0.0, 2 * MOVE * op.n_in,
            reads=(
                table.value(op.x, op.n_in),
                table.value(op.da, op.n_out),
                *table.epilogue_reads(op.below),
            ),
            writes=(table.value(op.dx, op.n_in),),
        )  # fmt: skip


OPERATION = Maxout()


def lower(lowering, layer: str, pieces: int) -> None:
    """Add the maximum over the pieces of the topmost value, which divide its columns."""
    lowering.add(OPERATION, layer, lowering.width // pieces, arg1=float(pieces))
