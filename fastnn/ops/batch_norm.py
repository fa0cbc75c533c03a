"""BatchNorm: z = gamma (x - mean) / sqrt(variance + epsilon) + beta, then a = act(z)."""

from __future__ import annotations

from ..tables import NONE, Act, Split
from .operation import (
    BY_COLUMNS,
    MOVE,
    Access,
    Call,
    Operation,
    coefficients,
    epilogue,
    vectors,
    with_activation,
)


class BatchNorm(Operation):
    """x and a are (m, n), gamma and beta (n,) or none (S. Ioffe and C. Szegedy, 2015).

    arg1 is epsilon, arg2 the momentum of the running statistics, of which the state holds n means
    and n variances. Training normalises by the mean and the variance of the batch. It leaves 3 n
    numbers in the per-batch space: the means, 1 / sqrt(variance + epsilon), and the unbiased
    variances, by which the batch changes the running ones, or -1 where it is a single row. That
    has no variance: it is normalised by the running statistics, as predictions are, which leave
    the means and gamma / sqrt(variance + epsilon) there, 2 n of the network's type.
    """

    name = "batch_norm"
    kind = 10
    fuses_activation = True
    codes = frozenset(int(act) for act in Act if act != Act.softmax)
    backward_reads = ("x",)
    traces_z = True
    needs_whole_batch = True
    folds = True

    def per_batch(self, op):
        return 3 * op.n_out

    def check(self, op, door):
        if (op.w == NONE) != (op.b == NONE):
            raise ValueError("it has only one of gamma and beta")
        for field in self.parameters(op):
            door.parameter(getattr(op, field), op.n_out, field)
        door.state(op.state, 2 * op.n_out, "state")
        door.per_batch(op.batch, self.per_batch(op))
        if not (op.arg1 > 0 and 0 <= op.arg2 < 1):
            raise ValueError(f"epsilon is {op.arg1}, and the momentum {op.arg2}")

    def label(self, op):
        return with_activation(self.name, op)

    def parameters(self, op):
        if op.w == NONE:
            return {}
        return {"w": ("gamma", (op.n_out,)), "b": ("beta", (op.n_out,))}

    def forward(self, table, index):
        op = table[index]
        if op.fold != NONE:
            return
        if not table.training:
            yield Call(
                "batch_norm_apply", epilogue(op), index, 0.0, 2 * MOVE * op.n_out,
                reads=(table.value(op.x, op.n_in), *coefficients(op)),
                writes=(table.value(op.z, op.n_out), table.value(op.a, op.n_out)),
            )  # fmt: skip
            return
        yield Call(
            "batch_norm_forward", epilogue(op), index, 0.0, 4 * MOVE * op.n_out, Split.columns,
            (table.value(op.x, op.n_in, BY_COLUMNS), _statistics(op),
             *vectors("params", op, BY_COLUMNS)),
            (table.value(op.z, op.n_out, BY_COLUMNS), table.value(op.a, op.n_out, BY_COLUMNS),
             _left(op)),
        )  # fmt: skip

    def prepare(self, table, index):
        op = table[index]
        found, *_ = coefficients(op)
        yield Call(
            "batch_norm_prepare", None, index, 4 * MOVE * op.n_out, 0.0, Split.columns,
            (_statistics(op), *vectors("params", op, BY_COLUMNS)), (found,),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        reads = (table.value(op.x, op.n_in, BY_COLUMNS), table.value(op.da, op.n_out, BY_COLUMNS),
                 _left(op), *vectors("params", op, BY_COLUMNS))  # fmt: skip
        writes = vectors("grad", op, BY_COLUMNS)
        inner = None
        if op.dx != NONE:
            inner = table.derivative(index)
            reads += table.epilogue_reads(op.below, BY_COLUMNS)
            writes += (table.value(op.dx, op.n_in, BY_COLUMNS),)
        yield Call(
            "batch_norm_backward", inner, index, 0.0, 4 * MOVE * op.n_out, Split.columns,
            reads, writes,
        )  # fmt: skip

    def after_batch(self, table, index):
        op = table[index]
        yield Call(
            "batch_norm_statistics", None, index, MOVE * op.n_out, 0.0, Split.columns,
            (_left(op),), (_statistics(op),),
        )  # fmt: skip

    def settle(self, op, state, batch):
        means, _, variances = batch[op.batch : op.batch + 3 * op.n_out].reshape(3, -1)
        if variances[0] >= 0:  # a single row has none
            state[op.state : op.state + op.n_out] = means
            state[op.state + op.n_out : op.state + 2 * op.n_out] = variances


def _statistics(op) -> Access:
    """The running statistics."""
    return Access("state", op.state, op.state + 2 * op.n_out, BY_COLUMNS)


def _left(op) -> Access:
    """What the forward pass of training leaves."""
    return Access("batch", op.batch, op.batch + 3 * op.n_out, BY_COLUMNS)


OPERATION = BatchNorm()


def lower(lowering, layer: str, ones, zeros, momentum: float, epsilon: float, affine: bool):
    """Add batch normalisation over the topmost value, and remove a bias right below it.

    Parameters
    ----------
    lowering : plan.Lowering
    layer : str
        The layer's name.
    ones, zeros : initialiser
    momentum, epsilon : float
    affine : bool
        Whether there are gamma and beta.
    """
    lowering.drop_bias()
    shape = (lowering.width,)
    learned = {"w": ("gamma", shape, ones), "b": ("beta", shape, zeros)}
    lowering.add(
        OPERATION, layer, lowering.width, others=learned if affine else {},
        state={
            "state": ("running_mean", shape, zeros),
            "variance": ("running_var", shape, ones, 0.0),
        },
        arg1=epsilon, arg2=momentum,
    )  # fmt: skip
