"""Dropout: a = x f in training, where f is 0 with the probability of the rate, else a constant."""

from __future__ import annotations

import numpy as np

from ..tables import NONE
from .operation import DRAW, MOVE, Call, Operation


class Dropout(Operation):
    """x, a and f are (m, n); arg0 is the rate unless it follows a schedule.

    arg1 = 0: f is 1 / (1 - rate), and predictions leave the operation out. arg1 = 1: f is 1, and
    predictions multiply by 1 - rate (N. Srivastava et al., 2014, section 4).
    """

    name = "dropout"
    kind = 7

    def output_activation(self, code):
        return None

    def saved(self, op):
        return op.n_out

    def passes_in_prediction(self, node):
        return not node.fields.get("arg1", 0.0)

    def check(self, op, door):
        if not 0 <= op.arg0 < 1 or op.arg1 not in (0, 1):
            raise ValueError(f"arg0 is {op.arg0}, arg1 is {op.arg1}")
        if op.stream == NONE:
            raise ValueError("it draws numbers, but has no stream")

    def label(self, op):
        rate = "scheduled" if op.hyper != NONE else f"{op.arg0:g}"
        return f"dropout {rate}{', scaled in predictions' if op.arg1 else ''}"

    def forward(self, table, index):
        op = table[index]
        kernel, cost = ("dropout_forward", DRAW) if table.training else ("dropout_scale", MOVE)
        kept = () if op.saved == NONE else (table.value(op.saved, op.n_out),)
        yield Call(
            kernel, None, index, 0.0, cost * op.n_out,
            reads=(table.value(op.x, op.n_in),), writes=(table.value(op.a, op.n_out), *kept),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        if op.dx == NONE:
            return
        yield Call(
            "dropout_inputs", table.derivative(index), index, 0.0, MOVE * op.n_out,
            reads=(
                table.value(op.da, op.n_out),
                table.value(op.saved, op.n_out),
                *table.epilogue_reads(op.below),
            ),
            writes=(table.value(op.dx, op.n_in),),
        )  # fmt: skip


OPERATION = Dropout()


class Rates:
    """The rates of a layer by a schedule, each of which is checked before its step."""

    def __init__(self, schedule, layer: str):
        self.schedule, self.layer = schedule, layer

    def with_schedule(self, schedule) -> Rates:
        """The rates by another schedule: the same one as it is in a fit."""
        return Rates(schedule, self.layer)

    def values(self, first_step: int, count: int) -> np.ndarray:
        """The rates of `count` steps.

        Raises
        ------
        ValueError
            If one is not in [0, 1).
        """
        rates = np.asarray(self.schedule.values(first_step, count), np.float64)
        if rates.shape != (count,):
            raise ValueError(
                f"the schedule of layer {self.layer}, {self.schedule!r}, gives {rates.shape} "
                f"values for {count} steps"
            )
        bad = np.flatnonzero(~((rates >= 0) & (rates < 1)))
        if bad.size:
            raise ValueError(
                f"the dropout rate of layer {self.layer} must be at least 0 and below 1, but it is "
                f"{rates[bad[0]]} in step {first_step + bad[0]} (from 0): change {self.schedule!r}"
            )
        return rates


def lower(lowering, layer: str, rate, scales_predictions: bool) -> None:
    """Add dropout over the topmost value; the rate is a number or a schedule."""
    is_fixed = isinstance(rate, float)
    lowering.add(
        OPERATION, layer, lowering.width, draws=True, arg0=rate if is_fixed else 0.0,
        arg1=float(scales_predictions), schedule=None if is_fixed else Rates(rate, layer),
    )  # fmt: skip
