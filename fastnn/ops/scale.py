"""Scale: a = x gamma (+ beta), with learned numbers for each column."""

from __future__ import annotations

from ..tables import NONE, Split
from .operation import MOVE, Access, Call, Operation, vectors


class Scale(Operation):
    """x and a are (m, n), gamma (n,), and beta (n,) or none."""

    name = "scale"
    kind = 12
    backward_reads = ("x",)

    def per_batch(self, op):
        return 2 * op.n_out  # the sums of dgamma and dbeta

    def check(self, op, door):
        door.parameter(op.w, op.n_out, "w")
        if op.b != NONE:
            door.parameter(op.b, op.n_out, "b")
        door.per_batch(op.batch, self.per_batch(op))

    def label(self, op):
        return "scale" if op.b == NONE else "scale and shift"

    def parameters(self, op):
        found = {"w": ("gamma", (op.n_out,))}
        return found if op.b == NONE else found | {"b": ("beta", (op.n_out,))}

    def forward(self, table, index):
        op = table[index]
        yield Call(
            "scale_forward", None, index, 0.0, MOVE * op.n_out,
            reads=(table.value(op.x, op.n_in), *vectors("params", op)),
            writes=(table.value(op.a, op.n_out),),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        # dx first: its rows need no meeting, and dgamma can share the one of the operation below.
        if op.dx != NONE:
            yield Call(
                "scale_inputs", table.derivative(index), index, 0.0, MOVE * op.n_out,
                reads=(
                    table.value(op.da, op.n_out),
                    *vectors("params", op),
                    *table.epilogue_reads(op.below),
                ),
                writes=(table.value(op.dx, op.n_in),),
            )  # fmt: skip
        yield Call(
            "scale_parameters", None, index, 0.0, 2 * MOVE * op.n_out, Split.blocks,
            (table.value(op.x, op.n_in, ()), table.value(op.da, op.n_out, ())),
            (Access("batch", op.batch, op.batch + self.per_batch(op)), *vectors("grad", op)),
        )  # fmt: skip


OPERATION = Scale()


def lower(lowering, layer: str, init, shift_init=None) -> None:
    """Scale the topmost value; without beta where shift_init is None."""
    shape = (lowering.width,)
    others = {"w": ("gamma", shape, init)}
    if shift_init is not None:
        others["b"] = ("beta", shape, shift_init)
    lowering.add(OPERATION, layer, lowering.width, others=others)
