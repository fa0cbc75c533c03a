"""Dense: z = x W + b, then a = act(z)."""

from __future__ import annotations

import math

from ..tables import (
    FEW_OUTPUTS,
    MOST_SLABS,
    NONE,
    SLAB_ROWS,
    SLAB_WEIGHTS,
    Act,
    Split,
)
from .operation import (
    BY_COLUMNS,
    BY_EITHER,
    BY_ROWS,
    LOAD,
    MOVE,
    RESULT,
    Access,
    Call,
    Operation,
    coefficients,
    epilogue,
    with_activation,
)


class Dense(Operation):
    """x (m, n_in), W (n_in, n_out), b (n_out,) or none; arg1 and arg2 are the l1 and l2 penalty.

    Its constant, if it has one, is the largest norm of a column of W after a step (max-norm).
    Predictions compute a normalisation that is folded into it before its activation, or after it
    if arg3 is 1.

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
    adds_bias = True

    def takes_fold(self, op):
        return op.n_out > FEW_OUTPUTS

    def per_batch(self, op):
        return op.n_in if _is_penalised(op) else 0

    def n_constants(self, op):
        return 0 if op.constants == NONE else 1

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
        if op.constants != NONE and not 0 < door.plan.constants[op.constants] < math.inf:
            raise ValueError(f"max-norm is {door.plan.constants[op.constants]}")
        if _is_penalised(op):
            door.per_batch(op.batch, op.n_in)

    def label(self, op):
        label = with_activation(self.name, op)
        for name, value in (("l1", op.arg1), ("l2", op.arg2)):
            label += f", {name} {value:g}" if value else ""
        return label + ("" if op.constants == NONE else ", max-norm")

    def parameters(self, op):
        found: dict[str, tuple[str, tuple[int, ...]]] = {"w": ("W", (op.n_in, op.n_out))}
        if op.b != NONE:
            found["b"] = ("b", (op.n_out,))
        return found

    def forward(self, table, index):
        op = table[index]
        size = float(op.n_in * op.n_out)
        narrow = op.n_out <= FEW_OUTPUTS
        own = BY_ROWS if narrow else BY_EITHER
        folded = () if op.fold == NONE else coefficients(table[op.fold])
        yield Call(
            "narrow_forward" if narrow else "dense_forward", epilogue(op), index, LOAD * size, size,
            reads=(table.value(op.x, op.n_in), *_parameters("params", op), *folded),
            writes=(table.value(op.z, op.n_out, own), table.value(op.a, op.n_out, own)),
            columns=0 if narrow else op.n_out,
        )  # fmt: skip

    def penalty(self, table, index):
        op = table[index]
        if _is_penalised(op):
            size = float(op.n_in * op.n_out)
            sums = (Access("batch", op.batch, op.batch + op.n_in),)
            yield Call(
                "penalise", None, index, MOVE * size, 0.0, Split.blocks,
                _parameters("params", op), sums,
            )  # fmt: skip
            yield Call("add_penalty", None, index, 0.0, 0.0, Split.alone, sums, (RESULT,))

    def after_step(self, table, index):
        op = table[index]
        if op.constants != NONE:
            weights = (Access("params", op.w, op.w + op.n_in * op.n_out, BY_COLUMNS),)
            yield Call(
                "limit_norms", None, index, MOVE * op.n_in * op.n_out, 0.0, Split.columns,
                weights, weights,
            )  # fmt: skip

    def backward(self, table, index):
        yield from self._weights(table, index)
        if table[index].dx != NONE:
            yield from self._inputs(table, index)

    def _inputs(self, table, index):
        op = table[index]
        size = float(op.n_in * op.n_out)
        temporary = Access("scratch", 0, self.temporary(op, table.capacity))
        weights = _parameters("params", op)
        below = table.epilogue_reads(op.below, BY_EITHER)
        dx = table.value(op.dx, op.n_in, BY_EITHER)
        if _transposes_gradient(op, table.capacity):
            yield Call(
                "transpose_gradient", None, index, 0.0, MOVE * op.n_out, Split.blocks,
                (table.value(op.da, op.n_out, ()),), (temporary,),
            )  # fmt: skip
            yield Call(
                "dense_inputs_transposed", table.derivative(index), index, 0.0, size, Split.blocks,
                (temporary, *weights, *below), (temporary, dx),
            )  # fmt: skip
            return
        yield Call(
            "transpose_weights", None, index, MOVE * size, 0.0, Split.blocks,
            weights, (temporary,),
        )  # fmt: skip
        yield Call(
            "dense_inputs", table.derivative(index), index, 0.0, size,
            reads=(table.value(op.da, op.n_out), temporary, *below), writes=(dx,),
            columns=op.n_in,
        )  # fmt: skip

    def _weights(self, table, index):
        op = table[index]
        size = float(op.n_in * op.n_out)
        reads = [table.value(op.x, op.n_in, ()), table.value(op.da, op.n_out, BY_COLUMNS)]
        if _is_penalised(op):
            reads += _parameters("params", op)
        gradient = _parameters("grad", op)
        if op.scratch != NONE:
            kept = Access("scratch", op.scratch, op.scratch + MOST_SLABS * int(size + op.n_out))
            yield Call(
                "slab_weights", None, index, 0.0, size, Split.blocks, tuple(reads),
                (kept, *gradient),
            )  # fmt: skip
            yield Call(
                "add_slabs", None, index, MOVE * MOST_SLABS * size, 0.0, Split.blocks,
                (kept, *_parameters("params", op)), gradient,
            )  # fmt: skip
            return
        narrow = op.n_out <= FEW_OUTPUTS
        yield Call(
            "narrow_weights" if narrow else "dense_weights", None, index, 0.0, size, Split.blocks,
            tuple(reads), gradient, columns=0 if narrow else op.n_out,
        )  # fmt: skip


def _parameters(space: str, op) -> tuple[Access, ...]:
    """The weights and biases of an operation, in the space "params" or "grad"."""
    found = (Access(space, op.w, op.w + op.n_in * op.n_out, BY_COLUMNS),)
    return found if op.b == NONE else (*found, Access(space, op.b, op.b + op.n_out, BY_COLUMNS))


def _is_penalised(op) -> bool:
    return bool(op.arg1 or op.arg2)


def _transposes_gradient(op, capacity: int) -> bool:
    """Whether dX = dZ Wt transposes dZ and the result, which is less than W; never if it adds."""
    return not op.adds and capacity * (op.n_in + op.n_out) < op.n_in * op.n_out


OPERATION = Dense()


def lower(
    lowering, layer: str, units: int, init, bias_init=None, l1=0.0, l2=0.0, reads=None,
    max_norm=None,
):  # fmt: skip
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
    max_norm : float, optional
        The largest norm of the weights of a unit.
    """
    n_in = lowering.width if reads is None else lowering.width_of(reads)
    lowering.add(
        OPERATION, layer, units, () if reads is None else (reads,),
        weights={"w": ("W", (n_in, units), init)},
        others={} if bias_init is None else {"b": ("b", (units,), bias_init)},
        constants=() if max_norm is None else (max_norm,),
        arg1=l1 + lowering.l1, arg2=l2 + lowering.l2,
    )  # fmt: skip
