"""PReLU: a = x where x > 0, else alpha x, with learned slopes alpha."""

from __future__ import annotations

from ..tables import NONE, Split
from .operation import MOVE, Access, Call, Operation


class PReLU(Operation):
    """x and a are (m, n), alpha (n,) or, where arg0 is 1, (1,) (K. He et al., 2015, eq. 1)."""

    name = "prelu"
    kind = 5
    backward_reads = ("x",)

    def output_activation(self, code):
        return None

    def per_batch(self, op):
        return 2 * op.n_out  # the sums over all rows, and over a block of them

    def check(self, op, door):
        door.parameter(op.w, _slopes(op), "w")
        door.per_batch(op.batch, self.per_batch(op))

    def label(self, op):
        return "prelu, one slope" if op.arg0 else "prelu"

    def parameters(self, op):
        return {"w": ("alpha", (_slopes(op),))}

    def forward(self, table, index):
        op = table[index]
        yield Call(
            "prelu_forward", None, index, 0.0, MOVE * op.n_out,
            reads=(table.value(op.x, op.n_in), _slopes_in("params", op)),
            writes=(table.value(op.a, op.n_out),),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        sums = Access("batch", op.batch, op.batch + self.per_batch(op))
        gradient = _slopes_in("grad", op)
        yield Call(
            "prelu_slopes", None, index, 0.0, 2 * MOVE * op.n_out, Split.blocks,
            (table.value(op.x, op.n_in, ()), table.value(op.da, op.n_out, ())), (sums, gradient),
        )  # fmt: skip
        if op.arg0:
            yield Call(
                "prelu_shared_slope", None, index, 0.0, 0.0, Split.alone, (sums,), (gradient,)
            )
        if op.dx != NONE:
            yield Call(
                "prelu_inputs", table.derivative(index), index, 0.0, MOVE * op.n_out,
                reads=(
                    table.value(op.x, op.n_in),
                    table.value(op.da, op.n_out),
                    _slopes_in("params", op),
                    *table.epilogue_reads(op.below),
                ),
                writes=(table.value(op.dx, op.n_in),),
            )  # fmt: skip


def _slopes_in(space: str, op) -> Access:
    return Access(space, op.w, op.w + _slopes(op))


def _slopes(op) -> int:
    return 1 if op.arg0 else op.n_out


OPERATION = PReLU()


def lower(lowering, layer: str, init, shared: bool) -> None:
    """Add PReLU over the topmost value."""
    shape = (1 if shared else lowering.width,)
    lowering.add(
        OPERATION, layer, lowering.width,
        others={"w": ("alpha", shape, init)}, arg0=float(shared),
    )  # fmt: skip
