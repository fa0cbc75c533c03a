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
        yield Call("residual_forward", epilogue(op), index, 0.0, MOVE * op.n_out)

    def backward(self, table, index):
        op = table[index]
        cost = MOVE * op.n_out
        if op.dx != NONE:
            yield Call("residual_inputs", table.derivative(index, 0), index, 0.0, cost)
        if op.dx2 != NONE:
            yield Call("residual_shortcut", table.derivative(index, 1), index, 0.0, cost)


OPERATION = Residual()


def lower(lowering, layer: str, branch: int, shortcut: int) -> None:
    """Add the sum of two values of one width."""
    lowering.add(OPERATION, layer, lowering.width_of(branch), (branch, shortcut))
