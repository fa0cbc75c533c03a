"""Group normalisation: z = (x - mean) inv gamma + beta in each group of columns, a = act(z)."""

from __future__ import annotations

from ..tables import NONE, Act, Split
from .operation import MOVE, Access, Call, Operation, epilogue, vectors, with_activation

#: Cost of an element, in multiply-adds: it is converted to float64 and summed twice.
_COST = 4 * MOVE


class GroupNorm(Operation):
    """x, z and a are (m, n), gamma and beta (n,) or none (Y. Wu and K. He, 2018, eq. 1 to 6).

    A group is n / groups consecutive columns, and groups is arg2; one group is layer normalisation
    (J. L. Ba et al., 2016, eq. 4). In each row, a group has its own mean, and
    inv = 1 / sqrt(biased variance + epsilon), where epsilon is arg1. Both are saved for the
    backward pass: (m, groups, 2).
    """

    name = "group_norm"
    kind = 11
    fuses_activation = True
    codes = frozenset(int(act) for act in Act if act != Act.softmax)
    backward_reads = ("x",)
    traces_z = True

    def saved(self, op):
        return 2 * _groups(op)

    def per_batch(self, op):
        return 2 * op.n_out if op.w != NONE else 0  # the sums of dgamma and dbeta

    def check(self, op, door):
        groups = _groups(op)
        if op.n_out % groups or op.n_out < 2 * groups:
            raise ValueError(f"{groups} groups of {op.n_out} columns")
        if not 0 < op.arg1 < float("inf"):
            raise ValueError(f"epsilon is {op.arg1}")
        if (op.w == NONE) != (op.b == NONE):
            raise ValueError("it has gamma without beta, or beta without gamma")
        if op.w != NONE:
            door.parameter(op.w, op.n_out, "w")
            door.parameter(op.b, op.n_out, "b")
            door.per_batch(op.batch, self.per_batch(op))

    def label(self, op):
        groups = _groups(op)
        return with_activation("layer_norm" if groups == 1 else f"group_norm, {groups} groups", op)

    def parameters(self, op):
        return {} if op.w == NONE else {"w": ("gamma", (op.n_out,)), "b": ("beta", (op.n_out,))}

    def forward(self, table, index):
        op = table[index]
        yield Call(
            "group_norm_forward", epilogue(op), index, 0.0, _COST * op.n_out,
            reads=(table.value(op.x, op.n_in), *vectors("params", op)),
            writes=(
                table.value(op.z, op.n_out), table.value(op.a, op.n_out), *_statistics(table, op),
            ),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        # dx first: its rows need no meeting, and dgamma can share the one of the operation below.
        if op.dx != NONE:
            yield Call(
                "group_norm_inputs", table.derivative(index), index, 0.0, _COST * op.n_out,
                reads=(
                    table.value(op.x, op.n_in),
                    table.value(op.da, op.n_out),
                    *_statistics(table, op),
                    *vectors("params", op),
                    *table.epilogue_reads(op.below),
                ),
                writes=(table.value(op.dx, op.n_in),),
            )  # fmt: skip
        if op.w != NONE:
            sums = Access("batch", op.batch, op.batch + self.per_batch(op))
            yield Call(
                "group_norm_parameters", None, index, 0.0, _COST * op.n_out, Split.blocks,
                (
                    table.value(op.x, op.n_in, ()),
                    table.value(op.da, op.n_out, ()),
                    *_statistics(table, op, ()),
                ),
                (sums, *vectors("grad", op)),
            )  # fmt: skip


def _groups(op) -> int:
    if not 1 <= op.arg2 <= op.n_out:
        raise ValueError(f"groups is {op.arg2}, of {op.n_out} columns")
    return int(op.arg2)


def _statistics(table, op, *own) -> tuple[Access, ...]:
    return () if op.saved == NONE else (table.value(op.saved, 2 * _groups(op), *own),)


OPERATION = GroupNorm()


def lower(lowering, layer: str, groups: int, epsilon: float, init=None, shift_init=None) -> None:
    """Normalise the topmost value in groups of columns.

    Parameters
    ----------
    lowering : plan.Lowering
    layer : str
        The layer's name.
    groups : int
    epsilon : float
    init, shift_init : initialiser, optional
        Of gamma and beta; left out, there are none.

    Raises
    ------
    ValueError
        If the groups do not divide the columns, or a group is one column.
    """
    n = lowering.width
    what = f"layer {layer} normalises {groups} group{'s' if groups > 1 else ''} of {n} columns"
    if n % groups:
        raise ValueError(f"{what}: the number of groups must divide the columns")
    if n == groups:
        raise ValueError(
            f"{what}: a group of a single column is its own mean, so the result would always be "
            "0; give each group at least 2 columns"
        )
    others = {} if init is None else {
        "w": ("gamma", (n,), init), "b": ("beta", (n,), shift_init),
    }  # fmt: skip
    lowering.add(OPERATION, layer, n, others=others, arg1=epsilon, arg2=float(groups))
