"""Embedding: columns of whole numbers are replaced by rows of learned tables."""

from __future__ import annotations

from ..tables import INPUT, Split
from .operation import MOVE, Access, Call, Operation

#: Numbers of each embedded column among the constants: column, rows and columns of its table.
_NUMBERS = 3


class Embedding(Operation):
    """x is the input (m, n_in), a (m, n_out): the other columns, then a row of each table.

    arg0 is the number of embedded columns, which the constants list in ascending order. Their
    tables (n_values, dim) lie one after another in the flat vector, and arg1 is their size.
    """

    name = "embedding"
    kind = 9
    backward_reads = ("x",)
    columns_may_differ = True

    def output_activation(self, code):
        return None

    def n_constants(self, op):
        return _NUMBERS * int(op.arg0)

    def check(self, op, door):
        if op.x != INPUT:
            raise ValueError("it reads a value that is not the input")
        numbers = door.plan.constants[op.constants : op.constants + self.n_constants(op)]
        if not all(number.is_integer() for number in numbers.tolist()):
            raise ValueError("its constants are not whole numbers")
        tables = numbers.astype(int).reshape(-1, _NUMBERS).tolist()
        columns = [column for column, _, _ in tables]
        if (
            not columns
            or columns != sorted(set(columns))
            or not 0 <= columns[0] <= columns[-1] < (op.n_in)
        ):
            raise ValueError(f"it embeds the columns {columns} of {op.n_in}")
        if min(min(n_values, dim) for _, n_values, dim in tables) < 1:
            raise ValueError("one of its tables is empty")
        if op.n_out != op.n_in - len(columns) + sum(dim for _, _, dim in tables):
            raise ValueError(f"its tables do not make {op.n_out} columns of {op.n_in}")
        size = sum(n_values * dim for _, n_values, dim in tables)
        if op.arg1 != size:
            raise ValueError(f"its tables have {size} elements, not {op.arg1}")
        door.parameter(op.w, size, "w")

    def label(self, op):
        return f"embedding of {int(op.arg0)} column{'s' if op.arg0 > 1 else ''}"

    def parameters(self, op):
        return {"w": ("E", (int(op.arg1),))}

    def forward(self, table, index):
        op = table[index]
        yield Call(
            "embedding_forward", None, index, 0.0, MOVE * op.n_out,
            reads=(table.value(op.x, op.n_in), _tables("params", op)),
            writes=(table.value(op.a, op.n_out),),
        )  # fmt: skip

    def backward(self, table, index):
        op = table[index]
        yield Call(
            "embedding_tables", None, index, MOVE * op.arg1, MOVE * op.n_out, Split.blocks,
            (table.value(op.x, op.n_in, ()), table.value(op.da, op.n_out, ())),
            (_tables("grad", op),),
        )  # fmt: skip


def _tables(space: str, op) -> Access:
    return Access(space, op.w, op.w + int(op.arg1))


OPERATION = Embedding()


def lower(lowering, layer: str, columns: dict[int, tuple[int, int]], init) -> None:
    """Add an embedding of columns of the input.

    Parameters
    ----------
    lowering : plan.Lowering
    layer : str
    columns : dict
        (n_values, dim) of each embedded column, in ascending order.
    init : callable
        The initialiser of a table, from its dim.

    Raises
    ------
    ValueError
        If it is not the first layer, or the input has no such column.
    """
    if lowering.top != INPUT or "." in layer:
        raise ValueError(
            f"layer {layer}: Embedding reads columns of X, so it must be the network's first layer"
        )
    if max(columns) >= lowering.width:
        raise ValueError(
            f"layer {layer} embeds column {max(columns)}, but X has {lowering.width} columns, "
            f"0 to {lowering.width - 1}"
        )
    constants: list[float] = []
    others: dict[str, tuple] = {}
    for column, (n_values, dim) in columns.items():
        constants += (column, n_values, dim)
        # The first one has a name of the table, the offset of all.
        others[f"table of {column}" if others else "w"] = (f"E{column}", (n_values, dim), init(dim))
    n_out = lowering.width - len(columns) + sum(dim for _, dim in columns.values())
    size = sum(n_values * dim for n_values, dim in columns.values())
    lowering.add(
        OPERATION, layer, n_out, others=others, constants=constants, arg0=float(len(columns)),
        arg1=float(size),
    )  # fmt: skip
