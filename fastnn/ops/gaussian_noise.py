"""Gaussian noise: a = x + std z with standard normal z, in training only."""

from __future__ import annotations

from ..tables import NONE
from .operation import MOVE, NORMAL, Call, Operation


class GaussianNoise(Operation):
    """x, a and z are (m, n); arg0 is std."""

    name = "gaussian_noise"
    kind = 8

    def output_activation(self, code):
        return None

    def passes_in_prediction(self, node):
        return True

    def check(self, op, door):
        if not 0 <= op.arg0 < float("inf"):
            raise ValueError(f"arg0 is {op.arg0}")
        if op.stream == NONE:
            raise ValueError("it draws numbers, but has no stream")

    def label(self, op):
        return f"gaussian noise {op.arg0:g}"

    def forward(self, table, index):
        op = table[index]
        yield Call(
            "gaussian_noise_forward", None, index, 0.0, NORMAL * op.n_out,
            reads=(table.value(op.x, op.n_in),), writes=(table.value(op.a, op.n_out),),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        if op.dx == NONE:
            return
        yield Call(
            "gaussian_noise_inputs", table.derivative(index), index, 0.0, MOVE * op.n_out,
            reads=(table.value(op.da, op.n_out), *table.epilogue_reads(op.below)),
            writes=(table.value(op.dx, op.n_in),),
        )  # fmt: skip


OPERATION = GaussianNoise()


def lower(lowering, layer: str, std: float) -> None:
    """Add noise to the topmost value."""
    lowering.add(OPERATION, layer, lowering.width, draws=True, arg0=std)
