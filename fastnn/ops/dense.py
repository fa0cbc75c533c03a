"""Dense: z = x W + b, then a = act(z)."""

from __future__ import annotations

from ..tables import (
    FEW_OUTPUTS,
    MOST_SLABS,
    NONE,
    SLAB_ROWS,
    SLAB_WEIGHTS,
    Act,
)
from .operation import LOAD, MOVE, Call, Operation, epilogue, with_activation


class Dense(Operation):
    """x (m, n_in), W (n_in, n_out), b (n_out,) or none; arg1 and arg2 are the l1 and l2 penalty.

    The backward pass sums dW over the rows of the batch, in slabs where there are many rows for
    few weights, and transposes W, or where that is less the gradient, for dx = dz Wt.
    """

    name = "dense"
    kind = 1
    fuses_activation = True
    codes = frozenset(int(act) for act in Act if act != Act.softmax)
    backward_reads = ("x",)
    columns_may_differ = True
    traces_z = True

    def per_batch(self, op):
        return op.n_in if _is_penalised(op) else 0

    def temporary(self, op, capacity):
        if op.dx == NONE:
            return 0
        if _transposes_gradient(op, capacity):
            return capacity * (op.n_in + op.n_out)
        return op.n_in * op.n_out

    def kept(self, op, capacity, rows):
        if op.da == NONE or op.n_in * op.n_out > SLAB_WEIGHTS or rows < 2 * SLAB_ROWS:
            return 0
        return min(MOST_SLABS, rows // SLAB_ROWS) * (op.n_in + 1) * op.n_out

    def check(self, op, door):
        door.parameter(op.w, op.n_in * op.n_out, "w")
        if op.b != NONE:
            door.parameter(op.b, op.n_out, "b")
        if _is_penalised(op):
            door.per_batch(op.batch, op.n_in)

    def label(self, op):
        label = with_activation(self.name, op)
        for name, value in (("l1", op.arg1), ("l2", op.arg2)):
            label += f", {name} {value:g}" if value else ""
        return label

    def parameters(self, op):
        found: dict[str, tuple[str, tuple[int, ...]]] = {"w": ("W", (op.n_in, op.n_out))}
        if op.b != NONE:
            found["b"] = ("b", (op.n_out,))
        return found

    def forward(self, table, index):
        op = table[index]
        kernel = "narrow_forward" if op.n_out <= FEW_OUTPUTS else "dense_forward"
        size = float(op.n_in * op.n_out)
        yield Call(kernel, epilogue(op), index, LOAD * size, size)

    def penalty(self, table, index):
        op = table[index]
        if _is_penalised(op):
            yield Call("penalise", None, index, MOVE * float(op.n_in * op.n_out), 0.0)
            yield Call("add_penalty", None, index, 0.0, 0.0)

    def backward(self, table, index):
        op = table[index]
        size = float(op.n_in * op.n_out)
        if op.scratch != NONE:
            yield Call("slab_weights", None, index, 0.0, size)
            yield Call("add_slabs", None, index, MOVE * MOST_SLABS * size, 0.0)
        else:
            kernel = "narrow_weights" if op.n_out <= FEW_OUTPUTS else "dense_weights"
            yield Call(kernel, None, index, 0.0, size)
        if op.dx == NONE:
            return
        kernel = "dense_inputs"
        if _transposes_gradient(op, table.capacity):
            yield Call("transpose_gradient", None, index, 0.0, MOVE * op.n_out)
            kernel = "dense_inputs_transposed"
        else:
            yield Call("transpose_weights", None, index, MOVE * size, 0.0)
        yield Call(kernel, table.derivative(index), index, 0.0, size)


def _is_penalised(op) -> bool:
    return bool(op.arg1 or op.arg2)


def _transposes_gradient(op, capacity: int) -> bool:
    """Whether dX = dZ Wt transposes dZ and the result, which is less than W; never if it adds."""
    return not op.adds and capacity * (op.n_in + op.n_out) < op.n_in * op.n_out


OPERATION = Dense()


def lower(lowering, layer: str, units: int, init, bias_init=None, l1=0.0, l2=0.0, reads=None):
    """Add z = x W + b to a plan, without b where bias_init is None.

    Parameters
    ----------
    lowering : plan.Lowering
    layer : str
        The layer's name, which the names of its parameters begin with.
    units : int
        Columns of z.
    init, bias_init : initialiser
    l1, l2 : float
        Penalties of this layer, beside those of the network.
    reads : int, optional
        The value x; left out, the topmost one.
    """
    n_in = lowering.width if reads is None else lowering.width_of(reads)
    lowering.add(
        OPERATION, layer, units, () if reads is None else (reads,),
        weights={"w": ("W", (n_in, units), init)},
        others={} if bias_init is None else {"b": ("b", (units,), bias_init)},
        arg1=l1 + lowering.l1, arg2=l2 + lowering.l2,
    )  # fmt: skip
