"""Layouts: which operations a table has and where their buffers are, by liveness analysis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .buffers import Buffers
from .nodes import Node
from .ops import BY_KIND
from .ops.operation import EDGES, NEEDS_Z, Record, Table
from .tables import INPUT, NONE, OP, Act

#: The fields of an operation that are offsets or indices.
_NONE_AT_FIRST = (
    "x", "x2", "z", "a", "saved", "da", "dx", "dx2", "below", "below2", "fold", "w", "b", "state",
    "batch", "scratch", "constants", "hyper", "stream",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Layout:
    """The table of operations for training or for prediction, with the offsets of its buffers.

    Attributes
    ----------
    ops : ndarray of tables.OP
        The operations in the order of the forward pass; the last one is the loss, if any.
    training : bool
    per_sample : int
        Elements of the network's type for each row of a batch.
    per_batch : int
        Elements of float64 for each batch.
    scratch : int
        Elements of the network's type; :meth:`sized` sets it for a number of rows.
    norms : int
        Per-batch offset of the sums of squares of the gradient, or NONE; :meth:`sized` sets it.
    gathered, targets, logits, output : int
        Per-sample offsets of the gathered batch, its targets, the output before sigmoid or
        softmax, and the output after the last activation.
    """

    ops: np.ndarray
    training: bool
    per_sample: int
    per_batch: int
    gathered: int
    targets: int
    logits: int
    output: int
    scratch: int = 0
    norms: int = NONE

    def sized(
        self, capacity: int, rows: int, norms: int = 0, temporary: int = 0,
        trains: Callable[[int, int], bool] | None = None,
    ) -> Layout:  # fmt: skip
        """The layout for batches of at most `capacity` rows, pieces of a batch of `rows`.

        `norms` float64 elements follow the per-batch space, for the norm of the gradient, and the
        optimizer has `temporary` elements of scratch. ``trains(begin, end)`` says whether any of
        these parameters is trained, by default all: the backward pass ends at the lowest operations
        that have one.

        The scratch space is laid out here: first one range for the temporaries of any operation
        and of the optimizer, which all share, then a range per operation for the sums that survive
        between pieces.
        """
        ops = self.ops.copy()
        homes = [BY_KIND[kind] for kind in ops["kind"].tolist()]
        if trains is not None:
            _end_backward_pass(ops, homes, trains)
        records = Table(ops, capacity).records
        size = 0
        if self.training:
            size = max(h.temporary(r, capacity) for h, r in zip(homes, records, strict=True))
            size = max(size, temporary)
            for op, home, record in zip(ops, homes, records, strict=True):
                kept = home.kept(record, capacity, rows)
                if kept:
                    op["scratch"] = size
                    size += kept
        ops.flags.writeable = False  # engines check it once and then rely on it
        return replace(
            self, ops=ops, scratch=size, per_batch=self.per_batch + norms,
            norms=self.per_batch if norms else NONE,
        )  # fmt: skip


def _end_backward_pass(ops: np.ndarray, homes, trains: Callable[[int, int], bool]) -> None:
    """Leave out the gradients of values that depend on no trained parameter."""
    reached: set[int] = set()
    for index, (op, home) in enumerate(zip(ops, homes, strict=True)):
        record = Record(*op.item())
        for _, gradient, _, below in EDGES[: record.n_edges]:
            if op[below] not in reached:
                op[gradient] = NONE
        own = home.parameters(record).items()
        sizes = ((getattr(record, field), math.prod(shape)) for field, (_, shape) in own)
        below_it = {record.below, record.below2}
        if reached & below_it or any(trains(at, at + size) for at, size in sizes):
            reached.add(index)
        else:
            op["da"] = op["saved"] = NONE


class Flow:
    """Liveness analysis: when values and gradients are written and read, and their buffers.

    Time runs over the forward pass, operation i at time i, and then over the backward pass,
    operation i at time 2 n - i for n operations. The loss and every other reader of the output are
    at time n.
    """

    def __init__(self, nodes: list[Node], top: int, n_inputs: int, n_outputs: int, head: bool):
        self.nodes, self.top, self.head = nodes, top, head
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self.n = len(nodes) - head
        #: Values whose gradient is needed: those that depend on parameters.
        self.needs_gradient: set[int] = set()
        for index, node in enumerate(nodes[: self.n]):
            if node.weights or node.others or self.needs_gradient.intersection(node.inputs):
                self.needs_gradient.add(index)
        #: Readers of each value as (operation, number of its input), in the order of operations.
        self.readers: dict[int, list[tuple[int, int]]] = {INPUT: []}
        for index, node in enumerate(nodes):
            self.readers[index] = []
            for number, value in enumerate(node.inputs):
                self.readers[value].append((index, number))

    def layout(self, training: bool) -> Layout:
        """Lay out the buffers and fill the table for training or prediction."""
        buffers = Buffers()
        ops = self._declared()
        gathered = buffers.add(self.n_inputs, -1, self._last_use(INPUT, training))
        targets = buffers.add(self.n_outputs, -1, self.n)
        values, sums = self._values(buffers, training)
        gradients = self._gradients(buffers, training)
        saved = self._saved(buffers, ops, gradients) if training else {}
        buffers.place()
        per_batch = 0
        for index, node in enumerate(self.nodes):
            op = ops[index]
            if index < self.n:
                op["a"] = buffers.offset(values[index])
                op["z"] = op["a"] if sums[index] is None else buffers.offset(sums[index])
                if index in gradients:
                    op["da"] = buffers.offset(gradients[index])
                if index in saved:
                    op["saved"] = buffers.offset(saved[index])
            self._connect(op, index, ops, buffers, gradients)
            statistics = node.home.per_batch(Record(*op.item()))
            if statistics:
                op["batch"] = per_batch
                per_batch += statistics
        ops.flags.writeable = False
        last = ops[self.top]
        return Layout(
            ops, training, buffers.size, per_batch, buffers.offset(gathered),
            buffers.offset(targets), int(last[self.nodes[self.top].home.logits(int(last["code"]))]),
            int(last["a"]),
        )  # fmt: skip

    def _declared(self) -> np.ndarray:
        """The table with what layers declare, without buffers."""
        ops = np.zeros(len(self.nodes), OP)
        for name in _NONE_AT_FIRST:
            ops[name] = NONE
        for op, node in zip(ops, self.nodes, strict=True):
            op["kind"], op["n_in"], op["n_out"] = node.home.kind, node.n_in, node.n_out
            for name, value in node.fields.items():
                op[name] = value
        return ops

    def _connect(self, op, index: int, ops, buffers: Buffers, gradients: dict[int, int]) -> None:
        """Fill in the values that an operation reads, and the gradients that it writes."""
        node = self.nodes[index]
        for number, value in enumerate(node.inputs):
            x, dx, adds, below = EDGES[number]
            op[x] = INPUT if value == INPUT else ops[value]["a"]
            if value == INPUT:
                continue
            op[below] = value
            if value in gradients:
                op[dx] = buffers.offset(gradients[value])
                op[adds] = self._first_writer(value) != (index, number)
        if node.home.z_is_input():
            op["z"] = op["x"]

    def _first_writer(self, value: int) -> tuple[int, int]:
        """The reader that the backward pass reaches first: it overwrites the gradient."""
        highest = self.readers[value][-1][0]
        return min(reader for reader in self.readers[value] if reader[0] == highest)

    def _backward_time(self, index: int) -> int:
        return 2 * self.n - index if index < self.n else self.n

    def _derivative_time(self, index: int) -> int:
        """The time of the last write of da, which applies the derivative of the activation."""
        return self._backward_time(self.readers[index][0][0])

    def _last_use(self, value: int, training: bool) -> int:
        """The time at which a value is read last."""
        times = [-1] + [min(index, self.n) for index, _ in self.readers[value]]
        if value == self.top:
            times.append(self.n)
        if not training:
            return max(times)
        for index, number in self.readers[value]:
            home = self.nodes[index].home
            if index in self.needs_gradient and EDGES[number][0] in home.backward_reads:
                times.append(self._backward_time(index))
            if self._z_is(value, index):
                times.append(self._derivative_time(index))
        if value in self.needs_gradient:
            node = self.nodes[value]
            if "a" in node.home.backward_reads:
                times.append(self._backward_time(value))
            if node.code != Act.identity and self.readers[value]:
                times.append(self._derivative_time(value))
        return max(times)

    def _z_is(self, value: int, index: int) -> bool:
        """Whether a value is the z of an operation above whose derivative needs it."""
        node = self.nodes[index]
        return (
            node.home.z_is_input()
            and node.code in NEEDS_Z
            and index in self.needs_gradient
            and bool(self.readers[index])
        )

    def _values(self, buffers: Buffers, training: bool):
        """Buffers of every operation's a, and of its z if that is kept as well."""
        values: dict[int, int] = {}
        sums: dict[int, int | None] = {}
        for index in range(self.n):
            node = self.nodes[index]
            end = max(index, self._last_use(index, training))
            if node.is_folded:
                values[index], sums[index] = values[node.inputs[0]], None
                buffers.extend(values[index], end)
                continue
            values[index] = buffers.add(node.n_out, index, end)
            times = []
            if node.home.fuses_activation:
                if training and node.code in NEEDS_Z and self.readers[index]:
                    times.append(self._derivative_time(index))
                if index == self.top and node.home.logits(node.code) == "z":
                    times.append(self.n)
            sums[index] = buffers.add(node.n_out, index, max(times)) if times else None
        if self.nodes[self.top].home.logits(self.nodes[self.top].code) in ("x", "z"):
            # The logits are the input of an activation that is an operation of its own.
            below = self.nodes[self.top].inputs[0]
            if sums[self.top] is None and below != INPUT:
                buffers.extend(values[below], self.n)
        return values, sums

    def _saved(self, buffers: Buffers, ops, gradients: dict[int, int]) -> dict[int, int]:
        """Buffers of what forward passes leave for backward passes besides values."""
        found = {}
        for index in gradients:
            size = self.nodes[index].home.saved(Record(*ops[index].item()))
            if size:
                found[index] = buffers.add(size, index, self._backward_time(index))
        return found

    def _gradients(self, buffers: Buffers, training: bool) -> dict[int, int]:
        """Buffers of the gradients: of all values that need one, or of the loss alone."""
        if not training:
            # The kernel of a loss writes its gradient in every program.
            return {self.top: buffers.add(self.n_outputs, self.n, self.n)} if self.head else {}
        gradients = {}
        for value in sorted(self.needs_gradient):
            if not self.readers[value]:
                continue
            start = self._backward_time(self._first_writer(value)[0])
            gradients[value] = buffers.add(
                self.nodes[value].n_out, start, self._backward_time(value)
            )
        return gradients
