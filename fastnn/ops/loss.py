"""Loss: the head of a plan, from the last value and the targets to the loss of each row."""

from __future__ import annotations

from ..tables import INPUT, NONE, Act, Loss, Split
from .operation import CORRECT, EXP, LOSSES, RESULT, Call, Operation

#: Losses on logits, and the output function that each already contains.
OUTPUT_OF = {Loss.binary_cross_entropy: Act.sigmoid, Loss.cross_entropy: Act.softmax}

#: Cross-entropy of rows with at most so many elements is computed by columns, unless a batch has
#: at most so few rows. Both ways give the same bits.
_SHORT, _FEW_ROWS = 16, 8

_KERNELS = {Loss.mse: "squared_error", Loss.sse: "squared_error"}


class Head(Operation):
    """x is (m, n_in), the targets have as many columns; arg0 is the label smoothing.

    It starts the backward pass: its kernel writes dx.
    """

    name = "loss"
    kind = 6
    codes = frozenset(int(loss) for loss in Loss)
    columns_may_differ = True

    def output_activation(self, code):
        return None

    def check(self, op, door):
        if op.below == NONE or op.dx == NONE or op.x == INPUT:
            raise ValueError("a loss needs an operation below")
        if op.adds:
            raise ValueError("a loss starts the backward pass, but it adds to a gradient")
        door.is_head(op)
        if (op.code == Loss.custom) != (door.plan.user_loss is not None):
            raise ValueError("only the loss 'custom' is a user's function")
        if op.arg3 != (op.code == Loss.custom and door.plan.user_loss.is_python):
            raise ValueError(f"arg3 is {op.arg3}")

    def label(self, op):
        label = Loss(op.code).name + (" in Python" if op.arg3 else "")
        return label + (f", smoothing {op.arg0:g}" if op.arg0 else "")

    def forward(self, table, index):
        op = table[index]
        kernel = _KERNELS.get(op.code, Loss(op.code).name)
        if op.code == Loss.custom:
            kernel = "custom_loss"
        if kernel == "cross_entropy" and op.n_in <= _SHORT and table.rows > _FEW_ROWS:
            kernel = "cross_entropy_short"
        yield Call(
            kernel, table.derivative(index), index, 0.0, EXP * op.n_in,
            Split.alone if op.arg3 else Split.rows,
            reads=(
                table.value(op.x, op.n_in),
                table.value(table.targets, op.n_in),
                *table.epilogue_reads(op.below),
            ),
            writes=(table.value(op.dx, op.n_in), LOSSES),
        )  # fmt: skip

    def penalty(self, table, index):
        yield Call(
            "sum_rows", None, index, 0.0, 0.0, Split.alone, (LOSSES, CORRECT, RESULT), (RESULT,)
        )


OPERATION = Head()


def lower(lowering, loss: Loss, smoothing: float, user_loss=None) -> None:
    """Add the loss of the topmost value, which is the network's output.

    `user_loss` is the function of the loss "custom".

    A last sigmoid or softmax that the loss contains is left out.

    Raises
    ------
    ValueError
        If another activation, or a second one, would be applied before the loss's own.
    """
    contained = OUTPUT_OF.get(loss)
    if contained is not None and lowering.last_activation() == contained:
        lowering.drop_activation()
    last = lowering.last_activation()
    if contained is not None and last != Act.identity:
        name = lowering.last_operation() if last is None else last.name
        raise ValueError(
            f"the loss {loss.name} applies {contained.name} to the network's last output "
            f"itself, but before it comes the activation {name!r}: leave that out"
        )
    in_python = float(user_loss is not None and user_loss.is_python)
    lowering.add(OPERATION, "", 1, code=int(loss), arg0=smoothing, arg3=in_python)


def mean(loss: Loss | None) -> bool:
    """Whether the loss is a mean over rows, or their sum."""
    return loss != Loss.sse
