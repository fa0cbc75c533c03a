"""Residual: z = x + x2, the sum of a branch and its shortcut, then a = act(z)."""

from __future__ import annotations

from ..tables import NONE, Act
from .operation import MOVE, Call, Operation, epilogue, with_activation


class Residual(Operation):
    """x (the branch), x2 (the shortcut) and a are (m, n) (K. He et al., 2016, eq. 1)."""

    name = "residual"
    kind = 4
    n_values = 2
    fuses_activation = True
    codes = frozenset(int(act) for act in Act if act != Act.softmax)
    traces_z = True

    def label(self, op):
        return with_activation(self.name, op)

    def forward(self, table, index):
        op = table[index]
        yield Call(
            "residual_forward", epilogue(op), index, 0.0, MOVE * op.n_out,
            reads=(table.value(op.x, op.n_in), table.value(op.x2, op.n_in)),
            writes=(table.value(op.z, op.n_out), table.value(op.a, op.n_out)),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        kernels = "residual_inputs", "residual_shortcut"
        for number, kernel in enumerate(kernels):
            _, gradient, _, below = op.edge(number)
            if gradient == NONE:
                continue
            yield Call(
                kernel, table.derivative(index, number), index, 0.0, MOVE * op.n_out,
                reads=(table.value(op.da, op.n_out), *table.epilogue_reads(below)),
                writes=(table.value(gradient, op.n_in),),
            )  # fmt: skip


OPERATION = Residual()


def lower(lowering, layer: str, branch: int, shortcut: int) -> None:
    """Add the sum of two values of one width."""
    lowering.add(OPERATION, layer, lowering.width_of(branch), (branch, shortcut))
