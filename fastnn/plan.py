"""Lowering: from layers to a plan, the tables that engines execute.

This is the only file that computes an offset. Layers add operations to a :class:`Lowering`;
``finish`` lays out five spaces:

- parameters: one flat vector, all weight matrices first and everything else after them, so that
  weight decay is a prefix; no padding, so its size is the number of parameters;
- state: running statistics, one flat vector;
- per sample: values and gradients. Offsets count elements per sample and are scaled by the
  workspace's row capacity, so one plan serves fit, the ragged last batch and bulk prediction.
  Buffers whose lifetimes do not overlap share memory;
- per batch: float64 sums and statistics;
- scratch: temporaries between two kernels, and sums over the pieces of a large batch.

Training and prediction have a table each: prediction keeps nothing for a backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .buffers import Buffers
from .ops import BY_KIND, Operation
from .ops.operation import EDGES, NEEDS_Z, Record, Table
from .tables import INPUT, NONE, OP, Act, Loss

#: No machine can hold more parameters; up to here no offset overflows 64 bits.
MOST_PARAMETERS = 2**48


@dataclass(frozen=True)
class Parameter:
    """One named array within a flat vector."""

    name: str  # "0.W": layer 0, weights
    shape: tuple[int, ...]
    offset: int
    init: Any = None  # an initialiser

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self, flat: np.ndarray) -> np.ndarray:
        """This parameter as a view into a flat vector."""
        return flat[self.offset : self.offset + self.size].reshape(self.shape)


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

    def sized(self, capacity: int, rows: int) -> Layout:
        """The layout for batches of at most `capacity` rows, pieces of a batch of `rows`.

        It lays out the scratch space: first one range for the temporaries of any operation, which
        all operations share, then a range per operation for the sums that survive between pieces.
        """
        ops = self.ops.copy()
        homes = [BY_KIND[kind] for kind in ops["kind"].tolist()]
        records = Table(ops, capacity).records
        size = 0
        if self.training:
            size = max(h.temporary(r, capacity) for h, r in zip(homes, records, strict=True))
            for op, home, record in zip(ops, homes, records, strict=True):
                kept = home.kept(record, capacity, rows)
                if kept:
                    op["scratch"] = size
                    size += kept
        ops.flags.writeable = False  # engines check it once and then rely on it
        return replace(self, ops=ops, scratch=size)


@dataclass(frozen=True, eq=False)
class Plan:
    """A lowered network.

    Attributes
    ----------
    training, prediction : Layout
        The tables of operations.
    layers : tuple of (str, str)
        For each operation, the name of the layer that it comes from, and of the layer that its
        activation comes from; empty for the loss.
    parameters, state : tuple of Parameter
        In the order of their flat vectors.
    n_params, n_state : int
        Sizes of the flat vectors.
    n_weights : int
        Size of the prefix that holds the weight matrices.
    n_inputs, n_outputs : int
        Columns of X and of the output.
    output_layer : str
        The layer whose activation ends the network, even if the loss contains it.
    loss : Loss or None
    mean : bool
        True if the loss is a mean over rows, False for a sum.
    constants : ndarray of float64
        The numbers of operations that do not fit their arguments; read-only.
    """

    training: Layout
    prediction: Layout
    layers: tuple[tuple[str, str], ...]
    parameters: tuple[Parameter, ...]
    state: tuple[Parameter, ...]
    n_params: int
    n_state: int
    n_weights: int
    n_inputs: int
    n_outputs: int
    output_layer: str
    loss: Loss | None
    mean: bool
    constants: np.ndarray

    def __str__(self) -> str:
        from .printing import plan_table

        return plan_table(self)


@dataclass
class _Node:
    """An operation before it has offsets; inputs are indices of nodes, or INPUT."""

    home: Operation
    layer: str
    inputs: tuple[int, ...]
    n_in: int
    n_out: int
    weights: dict[str, tuple] = field(default_factory=dict)
    others: dict[str, tuple] = field(default_factory=dict)
    state: dict[str, tuple] = field(default_factory=dict)
    constants: tuple[float, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)
    activation_layer: str = ""

    @property
    def code(self) -> int:
        return self.fields.get("code", int(Act.identity))


class Lowering:
    """Collects the operations of layers, from input to output, and lays them out.

    Parameters
    ----------
    n_inputs : int
        Columns of X.
    l1, l2 : float
        Penalties on the weights of every layer, in addition to its own.

    Attributes
    ----------
    top : int
        The value that the next layer reads.
    """

    def __init__(self, n_inputs: int, l1: float = 0.0, l2: float = 0.0):
        self.n_inputs = n_inputs
        self.l1, self.l2 = l1, l2
        self.top = INPUT
        self._nodes: list[_Node] = []
        self._shared: set[int] = set()
        self._output_layer = ""

    @property
    def width(self) -> int:
        """Columns of the topmost value."""
        return self.width_of(self.top)

    def width_of(self, value: int) -> int:
        """Columns of a value."""
        return self.n_inputs if value == INPUT else self._nodes[value].n_out

    def add(
        self, home: Operation, layer: str, n_out: int, reads: Sequence[int] = (), *,
        weights=None, others=None, state=None, constants=(), **fields,
    ) -> None:  # fmt: skip
        """Add an operation; its output becomes the topmost value.

        Parameters
        ----------
        home : Operation
        layer : str
            The layer's name.
        n_out : int
            Columns that it writes.
        reads : sequence of int
            The values that it reads; by default the topmost one.
        weights, others, state : dict, optional
            Field of the table: (name, shape, initialiser) of weight matrices, of all other
            parameters, and of running statistics.
        constants : sequence of float, optional
            Numbers that the operation reads; the field ``constants`` is the offset of the first.
        **fields
            Further fields of the table.
        """
        reads = tuple(reads) or (self.top,)
        node = _Node(
            home, layer, reads, self.width_of(reads[0]), n_out, weights or {}, others or {},
            state or {}, tuple(constants), fields, layer,
        )  # fmt: skip
        self._nodes.append(node)
        self.top = len(self._nodes) - 1

    def share(self) -> int:
        """The topmost value, now marked as read more than once: no activation is fused into it."""
        self._shared.add(self.top)
        return self.top

    def fuse(self, layer: str, act: Act, argument: float) -> bool:
        """Fuse an activation into the topmost operation; False if it cannot or has one already."""
        if self.top == INPUT or self.top in self._shared:
            return False
        node = self._nodes[self.top]
        if not node.home.fuses_activation or node.code != Act.identity:
            return False
        node.fields.update(code=int(act), arg0=argument)
        node.activation_layer = layer
        return True

    def last_activation(self) -> Act | None:
        """The activation at the end of the network, or None if it ends in another operation."""
        node = self._nodes[self.top]
        return node.home.output_activation(node.code)

    def last_operation(self) -> str:
        """The name of the operation at the end of the network."""
        return self._nodes[self.top].home.name

    def drop_activation(self) -> None:
        """Remove the activation at the end of the network, which the loss applies itself."""
        node = self._nodes[self.top]
        self._output_layer = node.activation_layer
        if node.home.fuses_activation:
            node.fields.update(code=int(Act.identity), arg0=0.0)
            node.activation_layer = node.layer
        else:
            self._nodes.pop()
            self.top = node.inputs[0]

    def finish(self, loss: Loss | None = None, mean: bool = True) -> Plan:
        """Lay out the spaces.

        Parameters
        ----------
        loss : Loss, optional
            The loss that was added as the last operation.
        mean : bool
            Whether it is a mean over rows.
        """
        nodes, top = self._nodes, self.top
        if loss is not None:
            (top,) = nodes[-1].inputs
        n_outputs = self.width_of(top)
        parameters, offsets = _place_vector(nodes, ("weights", "others"))
        state, state_offsets = _place_vector(nodes, ("state",))
        flow = _Flow(nodes, top, self.n_inputs, n_outputs, loss is not None)
        for vector_offsets in (offsets, state_offsets):
            for (index, name), offset in vector_offsets.items():
                flow.common[index][name] = offset
        constants: list[float] = []
        for index, node in enumerate(nodes):
            if node.constants:
                flow.common[index]["constants"] = len(constants)
                constants += node.constants
        matrices = sum(math.prod(w[1]) for node in nodes for w in node.weights.values())
        return Plan(
            training=flow.layout(training=True),
            prediction=flow.layout(training=False),
            layers=tuple((node.layer, node.activation_layer) for node in nodes),
            parameters=parameters,
            state=state,
            n_params=sum(parameter.size for parameter in parameters),
            n_state=sum(statistic.size for statistic in state),
            n_weights=matrices,
            n_inputs=self.n_inputs,
            n_outputs=n_outputs,
            output_layer=self._output_layer or nodes[top].activation_layer,
            loss=loss,
            mean=mean,
            constants=_read_only(constants),
        )


def _read_only(numbers: list[float]) -> np.ndarray:
    """A vector of float64 that engines check once and then rely on."""
    vector = np.array(numbers, np.float64)
    vector.flags.writeable = False
    return vector


def _place_vector(nodes: list[_Node], kinds: tuple[str, ...]):
    """The parameters of a flat vector, and {(node, field): offset}."""
    parameters: list[Parameter] = []
    offsets: dict[tuple[int, str], int] = {}
    offset = 0
    for kind in kinds:
        for index, node in enumerate(nodes):
            for name, (suffix, shape, init) in getattr(node, kind).items():
                parameters.append(Parameter(f"{node.layer}.{suffix}", shape, offset, init))
                offsets.setdefault((index, name), offset)
                offset += parameters[-1].size
                if offset > MOST_PARAMETERS:
                    raise ValueError(
                        "the network has more than 2**48 parameters: layer "
                        f"{node.layer} alone has {node.n_in} x {node.n_out} weights; make the "
                        "layers smaller"
                    )
    return tuple(parameters), offsets


class _Flow:
    """Liveness analysis: when values and gradients are written and read, and their buffers.

    Time runs over the forward pass, operation i at time i, and then over the backward pass,
    operation i at time 2 n - i for n operations. The loss and every other reader of the output are
    at time n.
    """

    def __init__(self, nodes: list[_Node], top: int, n_inputs: int, n_outputs: int, head: bool):
        self.nodes, self.top, self.head = nodes, top, head
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self.n = len(nodes) - head
        self.common: list[dict[str, Any]] = [{} for _ in nodes]
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
        ops = np.zeros(len(self.nodes), OP)
        for name in ("x", "x2", "z", "a", "da", "dx", "dx2", "below", "below2", "w", "b", "state",
                     "batch", "scratch", "constants"):  # fmt: skip
            ops[name] = NONE
        gathered = buffers.add(self.n_inputs, -1, self._last_use(INPUT, training))
        targets = buffers.add(self.n_outputs, -1, self.n)
        values, sums = self._values(buffers, training)
        gradients = self._gradients(buffers, training)
        buffers.place()
        per_batch = 0
        for index, node in enumerate(self.nodes):
            op = ops[index]
            op["kind"], op["n_in"], op["n_out"] = node.home.kind, node.n_in, node.n_out
            for name, value in {**node.fields, **self.common[index]}.items():
                op[name] = value
            if index < self.n:
                op["a"] = buffers.offset(values[index])
                op["z"] = op["a"] if sums[index] is None else buffers.offset(sums[index])
                if index in gradients:
                    op["da"] = buffers.offset(gradients[index])
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
