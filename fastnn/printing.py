"""Plans and networks as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .engines.program import crossings, meetings
from .ops import BY_KIND
from .ops.operation import Call, Record, Table
from .tables import INPUT, NONE


def columns(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of aligned cells: a column is as wide as its widest cell."""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]


def plan_table(plan) -> str:
    """A plan as the table that `print(plan)` shows, with its training program."""
    (head,), *lines = plan_lines(plan)
    return "\n".join([head, *columns(lines)])


def plan_lines(plan) -> list[tuple[str, ...]]:
    """What is above the table of a plan, and the cells of its lines."""
    layout = plan.training
    head = f"plan: {plan.n_inputs} -> {plan.n_outputs}, {plan.n_params} parameters"
    head += f", {layout.per_sample} workspace elements per row of a batch"
    table = Table(layout.ops, 1, training=layout.training)
    lines: list[tuple[str, ...]] = [
        ("op", "operation", "shape", "reads", "parameters", "writes", "backward")
    ]
    lines += [_describe(table, index, plan.loss is not None) for index in range(len(table))]
    return [(head,), *lines]


def _describe(table: Table, index: int, has_loss: bool) -> tuple[str, ...]:
    op = table[index]
    home = BY_KIND[op.kind]
    is_loss = has_loss and index == len(table) - 1
    values = [op.edge(number) for number in range(op.n_edges)]
    reads = ", ".join("input" if x == INPUT else f"a{below}" for x, _, _, below in values)
    shape = f"{op.n_in}" if is_loss else f"{op.n_in} -> {op.n_out}"
    found, backward = [], []
    for field, (name, shape_of) in home.parameters(op).items():
        size = math.prod(shape_of)
        found.append(f"{name}[{getattr(op, field)}:{getattr(op, field) + size}]")
        backward.append(f"d{name}")
    for number, (_, gradient, adds, below) in enumerate(values):
        if gradient != NONE:
            letter = "z" if table.is_last_writer(index, number) else "a"
            backward.append(f"{'+' if adds else ''}d{letter}{below}")
    return (
        str(index), home.label(op), shape, reads + (", targets" if is_loss else ""),
        " ".join(found), "loss" if is_loss else _writes(op, index), " ".join(backward),
    )  # fmt: skip


def _writes(op: Record, index: int) -> str:
    keeps_z = op.z not in (op.a, op.x)
    return f"z{index}, a{index}" if keeps_z else f"a{index}"


def program_table(calls: list[Call], parts: int, rows: int, itemsize: int) -> str:
    """A program as text: how each call is split, before which calls the threads meet, what crosses.

    Parameters
    ----------
    calls : list of Call
        See :meth:`fastnn.engines.program.Program.split_for`.
    parts, rows, itemsize : int
        Parts of each call, rows of a batch, bytes of a number.
    """
    lines: list[tuple[str, ...]] = [("", "call", "op", "split", "lines read", "lines written")]
    counts = crossings(calls, parts, rows, itemsize)
    meets = meetings(calls)
    for call, meeting, count in zip(calls, meets, counts, strict=True):
        name = call.kernel + (f" + {call.inner}" if call.inner else "")
        numbers = [f"{number:.0f}" if number else "" for number in count]
        lines.append(("meet" if meeting else "", name, str(call.op), call.split.name, *numbers))
    reads, writes = map(sum, zip(*counts, strict=True))
    lines.append((f"{sum(meets)} meetings", "that cross:", "", "", f"{reads:.0f}", f"{writes:.0f}"))
    return "\n".join(columns(lines))


def summary(net, plan) -> str:
    """The layers of a network with their shapes and numbers of parameters."""
    sizes = [0] * len(net.layers)
    for parameter in plan.parameters:
        sizes[int(parameter.name.split(".")[0])] += parameter.size
    shown = [repr(layer) for layer in net.layers]
    width = max(24, *map(len, shown))
    head = [f"inputs {net.n_inputs}", net.dtype.name, f"seed {net.seed}"]
    head += [
        f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}"
        for name, value in net._options().items()
        if name not in ("n_inputs", "dtype", "seed")
    ]
    lines = [", ".join(head)]
    for index, (layer, size) in enumerate(zip(shown, sizes, strict=True)):
        lines.append(f"{index:>3}  {layer:<{width}} {size:>12,} parameters")
    lines.append(f"     {'total':<{width}} {sum(sizes):>12,} parameters")
    for size, kind in (
        (plan.n_running, "running statistics"),
        (plan.n_state - plan.n_running, "numbers learned of X"),
    ):
        if size:
            lines.append(f"     {'':<{width}} {size:>12,} {kind}")
    return "\n".join(lines)
