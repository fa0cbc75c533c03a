"""What every operation must say of itself, and the table of operations as plain numbers."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..tables import INPUT, NONE, OP, Act, Split

#: Rough costs of an element in multiply-adds: where it is moved, or goes through an exponential.
MOVE, EXP = 2.0, 60.0

#: The same for a random word of 32 bits, and for a normal number.
DRAW, NORMAL = 20.0, 120.0

#: Cost of loading a weight from L3; it dominates small batches.
LOAD = 4.0

#: Activations whose derivative needs z; the derivative of the others follows from a.
NEEDS_Z = frozenset({Act.gelu, Act.silu, Act.softplus, Act.mish})

#: The fields of an operation that each of the values which it reads has.
EDGES = (("x", "dx", "adds", "below"), ("x2", "dx2", "adds2", "below2"))


#: The splits with which a part reads or writes only its own share of a range.
BY_ROWS, BY_COLUMNS = (Split.rows,), (Split.columns,)
BY_EITHER = (Split.rows, Split.columns)


class Access(NamedTuple):
    """Elements begin, ..., end-1 of a space that a call reads or writes.

    Attributes
    ----------
    space : str
        "value" (in elements per sample), "params", "grad", "slots", "state", "scratch", "batch",
        "losses", "correct" or "result".
    begin, end : int
    own : tuple of Split
        The splits with which each part touches only its own rows or columns of this range.
    """

    space: str
    begin: int
    end: int
    own: tuple[Split, ...] = ()

    def crosses(self, mine: Split, other: Access, others: Split) -> bool:
        """Whether parts of two calls may touch the same element."""
        if self.space != other.space or self.end <= other.begin or other.end <= self.begin:
            return False
        alike = self[:3] == other[:3] and mine == others
        return not (alike and mine in self.own and mine in other.own)


#: The losses of the rows of a batch, whether each was correct, and their sums.
LOSSES, CORRECT = (Access(space, 0, 1, BY_ROWS) for space in ("losses", "correct"))
RESULT = Access("result", 0, 1)


class Call(NamedTuple):
    """One call of a compiled kernel.

    Attributes
    ----------
    kernel : str
    inner : str or None
        Its epilogue.
    op : int
        Index of the operation.
    fixed, per_row : float
        Its cost, in multiply-adds.
    split : Split
        How its parts share the work.
    reads, writes : tuple of Access
    columns : int
        Columns of the result if it can be split by them as well, else 0.
    """

    kernel: str
    inner: str | None
    op: int
    fixed: float
    per_row: float
    split: Split = Split.rows
    reads: tuple[Access, ...] = ()
    writes: tuple[Access, ...] = ()
    columns: int = 0

    def conflicts(self, before: Call) -> bool:
        """Whether it must not begin before all parts of an earlier call have ended."""
        if self.split == before.split == Split.alone:
            return False
        pairs = [(mine, other) for mine in (*self.reads, *self.writes) for other in before.writes]
        pairs += [(mine, other) for mine in self.writes for other in before.reads]
        return any(mine.crosses(self.split, other, before.split) for mine, other in pairs)


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
        Rows of the largest batch, rounded up: the length of buffers.
    rows : int, optional
        Rows of the largest batch; by default `capacity`.
    gathered, targets : int
        Per-sample offsets of the gathered batch and of its targets, or NONE.
    training : bool
        Whether the layout is that of training.
    """

    def __init__(
        self, ops: np.ndarray, capacity: int, rows: int | None = None, gathered: int = NONE,
        targets: int = NONE, training: bool = False,
    ):  # fmt: skip
        self.records = [Record(*values) for values in ops.tolist()]
        self.capacity = capacity
        self.rows = capacity if rows is None else rows
        self.gathered, self.targets = gathered, targets
        self.training = training
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

    def value(self, offset: int, width: int, own: tuple[Split, ...] = BY_ROWS) -> Access:
        """The value or gradient (m, width) at a per-sample offset, of which each part has a share.

        With ``own=()`` every part touches all of it.
        """
        if offset == INPUT:
            offset = self.gathered
        return Access("value", offset, offset + width, own)

    def epilogue_reads(self, below: int, own: tuple[Split, ...] = BY_ROWS) -> tuple[Access, ...]:
        """What the derivative of the activation of operation number `below` reads."""
        op = self[below]
        return self.value(op.z, op.n_out, own), self.value(op.a, op.n_out, own)

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
    needs_whole_batch : bool
        Whether its results depend on all rows of a batch, which therefore cannot run in pieces.
    folds : bool
        Whether predictions may compute it together with the operation below, if that takes it. It
        is then z = (x - mean) scale + shift with the :func:`coefficients` that it prepares.
    adds_bias : bool
        Whether its parameter b only shifts each column of z, so that it has no effect below a
        normalisation of columns.
    """

    name: ClassVar[str]
    kind: ClassVar[int]
    fuses_activation: ClassVar[bool] = False
    codes: ClassVar[frozenset[int]] = frozenset({int(Act.identity)})
    n_values: ClassVar[int] = 1
    backward_reads: ClassVar[tuple[str, ...]] = ()
    columns_may_differ: ClassVar[bool] = False
    traces_z: ClassVar[bool] = False
    needs_whole_batch: ClassVar[bool] = False
    folds: ClassVar[bool] = False
    adds_bias: ClassVar[bool] = False

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

    def saved(self, op: Record | Any) -> int:
        """Elements per sample that the forward pass leaves for the backward pass."""
        return 0

    def passes_in_prediction(self, op: Record | Any) -> bool:
        """Whether its output equals its input in predictions, which leave it out."""
        return False

    def takes_fold(self, op: Record | Any) -> bool:
        """Whether predictions may fold the operation above into it."""
        return False

    def n_constants(self, op: Record) -> int:
        """How many of the plan's constants it reads."""
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

    def prepare(self, table: Table, index: int) -> Iterator[Call]:
        """The calls before a forward pass of the prediction layout, which read no row."""
        yield from ()

    def penalty(self, table: Table, index: int) -> Iterator[Call]:
        """The calls that add to the loss."""
        yield from ()

    def after_batch(self, table: Table, index: int) -> Iterator[Call]:
        """The calls after a batch of training: what its rows change, such as running statistics."""
        yield from ()

    def after_step(self, table: Table, index: int) -> Iterator[Call]:
        """The calls after a step of the optimizer: what else a step changes in the parameters."""
        yield from ()

    def settle(self, op: Record, state: np.ndarray, batch: np.ndarray) -> None:
        """Set its running statistics to those that the last forward pass of training left.

        `state` and `batch` are the flat state vector and the per-batch space.
        """

    def backward(self, table: Table, index: int) -> Iterator[Call]:
        """The calls of the backward pass: gradients of parameters, then of the values read."""
        raise TypeError(f"{type(self).__name__} must say which calls its backward pass is")


def vectors(space: str, op: Record, own: tuple[Split, ...] = ()) -> tuple[Access, ...]:
    """Its parameters with a number for each column, if it has any, in "params" or "grad"."""
    return tuple(Access(space, at, at + op.n_out, own) for at in (op.w, op.b) if at != NONE)


def epilogue(op: Record) -> str | None:
    """The epilogue that applies the operation's own activation."""
    return None if op.code == Act.identity else Act(op.code).name


def with_activation(name: str, op: Record) -> str:
    """The label of an operation that fuses an activation."""
    return name if op.code == Act.identity else f"{name} + {Act(op.code).name}"


def coefficients(op: Record) -> tuple[Access, ...]:
    """What predictions read of an operation that folds: mean and scale (n,), then the shift, b.

    It leaves mean and scale, of the network's type, in its per-batch space.
    """
    found = Access("batch", op.batch, op.batch + 2 * op.n_out, BY_COLUMNS)
    return (found,) if op.b == NONE else (found, Access("params", op.b, op.b + op.n_out))


def is_value(offset: int) -> bool:
    """Whether an offset field names a value: a buffer, or the batch itself."""
    return offset >= 0 or offset == INPUT
