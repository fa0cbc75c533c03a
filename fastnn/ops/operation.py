"""What every operation must say of itself, and the table of operations as plain numbers."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..tables import INPUT, NONE, OP, Act

#: Rough costs of an element in multiply-adds: where it is moved, or goes through an exponential.
MOVE, EXP = 2.0, 60.0

#: Cost of loading a weight from L3; it dominates small batches.
LOAD = 4.0

#: Activations whose derivative needs z; the derivative of the others follows from a.
NEEDS_Z = frozenset({Act.gelu, Act.silu, Act.softplus, Act.mish})

#: The fields of an operation that each of the values which it reads has.
EDGES = (("x", "dx", "adds", "below"), ("x2", "dx2", "adds2", "below2"))


class Call(NamedTuple):
    """One call of a compiled kernel: `inner` is its epilogue, costs are in multiply-adds."""

    kernel: str
    inner: str | None
    op: int
    fixed: float
    per_row: float


class Record(namedtuple("_Fields", OP.names or ())):  # type: ignore[misc]
    """One operation of a table, as plain ints and floats."""

    __slots__ = ()

    if TYPE_CHECKING:  # mypy cannot read the names from a dtype

        def __getattr__(self, name: str) -> Any: ...

    def edge(self, number: int) -> tuple[int, int, int, int]:
        """(value, gradient, whether it is added to, operation below) of a value that is read."""
        return tuple(getattr(self, name) for name in EDGES[number])  # type: ignore[return-value]

    @property
    def n_edges(self) -> int:
        """How many values it reads."""
        return 1 if self.x2 == NONE else 2


class Table:
    """The operations of a layout, and what binding and the reference engine ask of them.

    Parameters
    ----------
    ops : ndarray of tables.OP
    capacity : int
        Rows of the largest batch.
    """

    def __init__(self, ops: np.ndarray, capacity: int):
        self.records = [Record(*values) for values in ops.tolist()]
        self.capacity = capacity
        self._last_writers: dict[int, tuple[int, int]] = {}
        for index in range(len(self.records) - 1, -1, -1):
            record = self.records[index]
            for number in range(record.n_edges):
                _, gradient, _, below = record.edge(number)
                if gradient != NONE:
                    self._last_writers[below] = index, number

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def is_last_writer(self, index: int, number: int = 0) -> bool:
        """Whether nothing is added to the gradient of a value that is read after this."""
        return self._last_writers.get(self[index].edge(number)[3]) == (index, number)

    def derivative(self, index: int, number: int = 0) -> str | None:
        """The epilogue that turns the gradient of a value that is read into the dz below."""
        code = self[self[index].edge(number)[3]].code
        if code == Act.identity or not self.is_last_writer(index, number):
            return None
        return f"{Act(code).name}_derivative"


class Operation:
    """Base of the operations: what is true of one on every engine.

    Attributes
    ----------
    name : str
        The name of its files and the prefix of its kernels.
    kind : int
        Its code in the tables.
    fuses_activation : bool
        Whether it applies an activation to its output as an epilogue.
    codes : frozenset of int
        The values of the field ``code`` that it knows.
    n_values : int
        How many values it reads.
    backward_reads : tuple of str
        The fields of the values that its own backward pass reads.
    columns_may_differ : bool
        Whether it writes another number of columns than it reads.
    traces_z : bool
        Whether a trace shows its output before the activation as z.
    """

    name: ClassVar[str]
    kind: ClassVar[int]
    fuses_activation: ClassVar[bool] = False
    codes: ClassVar[frozenset[int]] = frozenset({int(Act.identity)})
    n_values: ClassVar[int] = 1
    backward_reads: ClassVar[tuple[str, ...]] = ()
    columns_may_differ: ClassVar[bool] = False
    traces_z: ClassVar[bool] = False

    # -- how it is laid out ---------------------------------------------------------------------

    def z_is_input(self) -> bool:
        """Whether z, which the derivative of its activation may need, is its input."""
        return False

    def output_activation(self, code: int) -> Act | None:
        """The activation that ends the operation, or None if it ends in something else."""
        return Act(code)

    def logits(self, code: int) -> str:
        """The field of the value before a sigmoid or softmax that ends the operation."""
        return "z" if code == Act.sigmoid else "a"

    def per_batch(self, op: Record | Any) -> int:
        """Elements of float64 in the per-batch space."""
        return 0

    def temporary(self, op: Record, capacity: int) -> int:
        """Elements of scratch that one call of it leaves for the next."""
        return 0

    def kept(self, op: Record, capacity: int, rows: int) -> int:
        """Elements of scratch that survive between the pieces of a batch of so many rows."""
        return 0

    # -- how it is checked and printed ----------------------------------------------------------

    def check(self, op: Record, door) -> None:
        """Refuse a damaged operation: whatever is not true of every operation.

        `door` is a :class:`fastnn.engines.boundary.Door`, which knows the sizes of all spaces.

        Raises
        ------
        ValueError
        """

    def label(self, op: Record) -> str:
        """What `print(plan)` calls it."""
        return self.name

    def parameters(self, op: Record) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Field: (name, shape) of each of its parameters."""
        return {}

    # -- what runs ------------------------------------------------------------------------------

    def forward(self, table: Table, index: int) -> Iterator[Call]:
        """The calls of the forward pass."""
        raise TypeError(f"{type(self).__name__} must say which calls its forward pass is")

    def penalty(self, table: Table, index: int) -> Iterator[Call]:
        """The calls that add to the loss."""
        yield from ()

    def backward(self, table: Table, index: int) -> Iterator[Call]:
        """The calls of the backward pass: gradients of parameters, then of the values read."""
        raise TypeError(f"{type(self).__name__} must say which calls its backward pass is")


def epilogue(op: Record) -> str | None:
    """The epilogue that applies the operation's own activation."""
    return None if op.code == Act.identity else Act(op.code).name


def with_activation(name: str, op: Record) -> str:
    """The label of an operation that fuses an activation."""
    return name if op.code == Act.identity else f"{name} + {Act(op.code).name}"


def is_value(offset: int) -> bool:
    """Whether an offset field names a value: a buffer, or the batch itself."""
    return offset >= 0 or offset == INPUT
