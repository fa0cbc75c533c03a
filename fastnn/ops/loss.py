"""Loss: the head of a plan, from the last value and the targets to the loss of each row."""

from __future__ import annotations

from collections.abc import Sequence

from ..tables import INPUT, NONE, Act, Loss, Split
from .operation import CORRECT, EXP, LOSSES, RESULT, Call, Operation

#: Losses whose outputs are probabilities of classes.
PROBABILITIES = frozenset({Loss.binary_cross_entropy, Loss.cross_entropy, Loss.focal})

_OUTPUT_FUNCTIONS = {
    Loss.binary_cross_entropy: "sigmoid",
    Loss.cross_entropy: "softmax",
    Loss.poisson: "exp",
    Loss.gaussian_nll: "mean_variance",
}

#: Cross-entropy of rows with at most so many elements is computed by columns, unless a batch has
#: at most so few rows. Both ways give the same bits.
_SHORT, _FEW_ROWS = 16, 8

_KERNELS = {
    Loss.mse: "squared_error",
    Loss.sse: "squared_error",
    Loss.squared_error: "squared_error",
    Loss.mae: "absolute_error",
}


_ARGUMENTS = {Loss.huber: "delta", Loss.quantile: "q", Loss.focal: "gamma"}


class Head(Operation):
    """x is (m, n_in), the targets have as many columns; arg0 is the loss's argument.

    That is the label smoothing, the delta of Huber, the gamma of focal, the factor of the reported
    squared error, or a quantile; several quantiles are constants, one for each column. The head
    starts the backward pass: its kernel writes dx.
    """

    name = "loss"
    kind = 6
    codes = frozenset(int(loss) for loss in Loss)
    columns_may_differ = True

    def output_activation(self, code):
        return None

    def n_constants(self, op):
        return op.n_in if op.code == Loss.quantile and op.constants != NONE else 0

    def check(self, op, door):
        if op.code == Loss.gaussian_nll and op.n_in % 2:
            raise ValueError(f"n_in is {op.n_in}, which is no pairs of mean and variance")
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
        if op.code == Loss.squared_error:
            return label + (f", reported times {op.arg0:g}" if op.arg0 != 1 else "")
        if op.code in _ARGUMENTS:
            return label if op.constants != NONE else f"{label}, {_ARGUMENTS[op.code]} {op.arg0:g}"
        return label + (f", smoothing {op.arg0:g}" if op.arg0 else "")

    def forward(self, table, index):
        op = table[index]
        kernel = _KERNELS.get(op.code, Loss(op.code).name)
        if op.code == Loss.custom:
            kernel = "custom_loss"
        if kernel == "cross_entropy" and op.n_in <= _SHORT and table.rows > _FEW_ROWS:
            kernel = "cross_entropy_short"
        if op.code == Loss.focal and op.n_in == 1:
            kernel = "focal_binary"
        if op.constants != NONE:
            kernel = "quantiles"
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


def output_function(loss: Loss, n_outputs: int) -> str | None:
    """The function that a loss on logits contains: it turns them into what is predicted.

    It is "sigmoid", "softmax", "exp", or "mean_variance", which is exp for the second half of the
    outputs; None for a loss on the outputs themselves.
    """
    if loss == Loss.focal:
        return "sigmoid" if n_outputs == 1 else "softmax"
    return _OUTPUT_FUNCTIONS.get(loss)


def check_outputs(loss: Loss, n_outputs: int, per_target: int) -> None:
    """Refuse a number of outputs that is no multiple of those for each target.

    Raises
    ------
    ValueError
    """
    if not n_outputs % per_target:
        return
    what = f"{per_target} quantiles"
    if loss == Loss.gaussian_nll:
        what = "a mean and the logarithm of a variance"
    raise ValueError(
        f"the loss {loss.name} takes {what} for each target, but the network has {n_outputs} "
        f"output{'s' * (n_outputs > 1)}: give the last layer {per_target} units for each target"
    )


def lower(
    lowering, loss: Loss, argument: float = 0.0, quantiles: Sequence[float] = (), user_loss=None
) -> None:
    """Add the loss of the topmost value, which is the network's output.

    A last sigmoid or softmax that the loss contains is left out.

    Parameters
    ----------
    lowering : Lowering
    loss : Loss
    argument : float
        See :class:`Head`.
    quantiles : sequence of float
        Several quantiles, which repeat for each target; else the argument is the only one.
    user_loss : Custom, optional
        The function of the loss "custom".

    Raises
    ------
    ValueError
        If another activation, or a second one, would be applied before the loss's own, or the
        number of outputs does not fit the loss.
    """
    width = lowering.width
    check_outputs(loss, width, 2 if loss == Loss.gaussian_nll else len(quantiles) or 1)
    contained = output_function(loss, width)
    if contained is not None:
        last = lowering.last_activation()
        if last is not None and last.name == contained:
            lowering.drop_activation()
        _refuse_activation(lowering, loss, contained)
    constants = tuple(quantiles) * (width // len(quantiles)) if quantiles else ()
    in_python = float(user_loss is not None and user_loss.is_python)
    lowering.add(
        OPERATION, "", 1, constants=constants, code=int(loss), arg0=argument, arg3=in_python
    )


def _refuse_activation(lowering, loss: Loss, contained: str) -> None:
    last = lowering.last_activation()
    if last == Act.identity:
        return
    name = lowering.last_operation() if last is None else last.name
    applied = "exp" if contained == "mean_variance" else contained
    raise ValueError(
        f"the loss {loss.name} applies {applied} to the network's last output "
        f"itself, but before it comes the activation {name!r}: leave that out"
    )


def mean(loss: Loss | None) -> bool:
    """Whether the loss is a mean over rows, or their sum."""
    return loss != Loss.sse
