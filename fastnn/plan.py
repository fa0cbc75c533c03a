"""Lowering: from layers to a plan, the tables that engines execute.

Only this file and :mod:`.layout` compute offsets. Layers add operations to a :class:`Lowering`;
``finish`` lays out five spaces:

- parameters: one flat vector, all weight matrices first and everything else after them, so that
  weight decay is a prefix; no padding, so its size is the number of parameters;
- state: running statistics, one flat vector;
- per sample: values and gradients. Offsets count elements per sample and are scaled by the
  workspace's row capacity, so one plan serves fit, the ragged last batch and bulk prediction.
  Buffers whose lifetimes do not overlap share memory;
- per batch: float64 sums and statistics;
- scratch: temporaries between two kernels, and sums over the pieces of a large batch.

Training and prediction have a table each. Prediction keeps nothing for a backward pass, leaves out
what changes nothing in it, such as dropout, and folds a normalisation into the operation below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .layout import Flow, Layout
from .nodes import Node, for_prediction
from .ops import Operation
from .random import Stream
from .tables import INPUT, OP, Act, Loss

_FIELDS = frozenset(OP.names or ())

#: No machine can hold more parameters; up to here no offset overflows 64 bits.
MOST_PARAMETERS = 2**48


@dataclass(frozen=True)
class Parameter:
    """One named array within a flat vector."""

    name: str  # "0.W": layer 0, weights
    shape: tuple[int, ...]
    offset: int
    init: Any = None  # an initialiser
    least: float = -math.inf  # of its elements

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self, flat: np.ndarray) -> np.ndarray:
        """This parameter as a view into a flat vector."""
        return flat[self.offset : self.offset + self.size].reshape(self.shape)


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
    n_running : int
        Size of the prefix of the state that holds running statistics; what preprocessing layers
        have learned follows.
    n_weights : int
        Size of the prefix that holds the weight matrices.
    n_inputs, n_outputs : int
        Columns of X, prepared by such layers, and of the output.
    output_layer : str
        The layer whose activation ends the network, even if the loss contains it.
    loss : Loss or None
    mean : bool
        True if the loss is a mean over rows, False for a sum.
    penalty_is_row : bool
        Whether the penalties of a batch count like one more row of weight 1.
    constants : ndarray of float64
        The numbers of operations that do not fit their arguments; read-only.
    schedules : tuple
        Of the hyperparameters of operations, such as dropout rates, that change from step to step:
        ``schedule.values(first_step, count)`` is (count,) float64.
    whole_batches : bool
        Whether no batch may run in pieces, since an operation needs all of its rows.
    user_loss : Custom or None
        The user's function, if that is the loss: a :class:`fastnn.losses.Custom`.
    """

    training: Layout
    prediction: Layout
    layers: tuple[tuple[str, str], ...]
    parameters: tuple[Parameter, ...]
    state: tuple[Parameter, ...]
    n_params: int
    n_state: int
    n_running: int
    n_weights: int
    n_inputs: int
    n_outputs: int
    output_layer: str
    loss: Loss | None
    mean: bool
    penalty_is_row: bool
    constants: np.ndarray
    schedules: tuple[Any, ...] = ()
    whole_batches: bool = False
    user_loss: Any = None

    def __str__(self) -> str:
        from .printing import plan_table

        return plan_table(self)

    def _repr_html_(self) -> str:
        from . import html

        return html.plan(self)


class Lowering:
    """Collects the operations of layers, from input to output, and lays them out.

    Parameters
    ----------
    n_inputs : int
        Columns of X.
    l1, l2 : float
        Penalties on the weights of every layer, in addition to its own.
    penalty_is_row : bool
        See :class:`Plan`.

    Attributes
    ----------
    top : int
        The value that the next layer reads.
    """

    def __init__(
        self, n_inputs: int, l1: float = 0.0, l2: float = 0.0, penalty_is_row: bool = False
    ):
        self.n_inputs = n_inputs
        self.l1, self.l2, self.penalty_is_row = l1, l2, penalty_is_row
        self.top = INPUT
        self._nodes: list[Node] = []
        self._prepared: list[Node] = []
        self._shared: set[int] = set()
        self._output_layer = ""
        self._schedules: list[Any] = []
        self._n_streams = 0

    @property
    def width(self) -> int:
        """Columns of the topmost value."""
        return self.width_of(self.top)

    def width_of(self, value: int) -> int:
        """Columns of a value."""
        return self.n_inputs if value == INPUT else self._nodes[value].n_out

    def add(
        self, home: Operation, layer: str, n_out: int, reads: Sequence[int] = (), *,
        weights=None, others=None, state=None, constants=(), schedule=None, draws=False,
        **fields,
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
            Field of the table: (name, shape, initialiser), and the least value if there is one, of
            weight matrices, of all other parameters, and of running statistics. What lies behind
            the first one of a field has keys that are no fields.
        constants : sequence of float, optional
            Numbers that the operation reads; the field ``constants`` is the offset of the first.
        schedule : optional
            See :class:`Plan`: of a hyperparameter that changes from step to step.
        draws : bool
            Whether it draws random numbers.
        **fields
            Further fields of the table.
        """
        reads = tuple(reads) or (self.top,)
        if schedule is not None:
            fields["schedule"] = len(self._schedules)
            self._schedules.append(schedule)
        if draws:
            fields["stream"] = Stream.OPERATION + self._n_streams
            self._n_streams += 1
        node = Node(
            home, layer, reads, self.width_of(reads[0]), n_out, weights or {}, others or {},
            state or {}, tuple(constants), fields, layer,
        )  # fmt: skip
        self._nodes.append(node)
        self.top = len(self._nodes) - 1

    def prepare(self, layer: str, n_out: int, state: dict[str, tuple]) -> None:
        """Have X prepared before any operation reads it.

        Parameters
        ----------
        layer : str
            The layer's name.
        n_out : int
            Columns of what it makes of X.
        state : dict
            Name: (shape, initialiser) of what it learns, which is kept with running statistics.
        """
        if self._nodes or "." in layer:
            raise ValueError(f"layer {layer} prepares X, so it must come before all other layers")
        named = {name: (name, *about) for name, about in state.items()}
        self._prepared.append(Node(None, layer, (), self.n_inputs, n_out, state=named))  # type: ignore[arg-type]
        self.n_inputs = n_out

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

    def drop_bias(self) -> None:
        """Remove the bias of the topmost operation, which a normalisation above takes out again.

        Not if something comes in between, its activation or another reader.
        """
        if self.top == INPUT:
            return
        node = self._nodes[self.top]
        is_plain = node.code == Act.identity and self.top not in self._shared
        if node.home.adds_bias and is_plain:
            node.others.pop("b", None)

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

    def finish(self, loss: Loss | None = None, mean: bool = True, user_loss=None) -> Plan:
        """Lay out the spaces.

        Parameters
        ----------
        loss : Loss, optional
            The loss that was added as the last operation.
        mean : bool
            Whether it is a mean over rows.
        user_loss : Custom, optional
            The user's function, if that is the loss.
        """
        nodes, top = self._nodes, self.top
        if loss is not None:
            (top,) = nodes[-1].inputs
        n_outputs = self.width_of(top)
        parameters, offsets = _place_vector(nodes, ("weights", "others"))
        # What is learned of X comes last, so that operations do not depend on it.
        n_learned = sum(len(node.state) for node in self._prepared)
        state, state_offsets = _place_vector([*nodes, *self._prepared], ("state",))
        for (index, name), offset in {**offsets, **state_offsets}.items():
            if name in _FIELDS and index < len(nodes):
                nodes[index].fields[name] = offset
        for node in nodes:  # counted from the end, since the optimizer's own come first
            if "schedule" in node.fields:
                node.fields["hyper"] = len(self._schedules) - node.fields.pop("schedule")
        constants: list[float] = []
        for node in nodes:
            if node.constants:
                node.fields["constants"] = len(constants)
                constants += node.constants
        head = loss is not None
        predicted, predicted_top = for_prediction(nodes, top)
        matrices = sum(math.prod(w[1]) for node in nodes for w in node.weights.values())
        return Plan(
            training=Flow(nodes, top, self.n_inputs, n_outputs, head).layout(training=True),
            prediction=Flow(predicted, predicted_top, self.n_inputs, n_outputs, head).layout(
                training=False
            ),
            layers=tuple((node.layer, node.activation_layer) for node in nodes),
            parameters=parameters,
            state=state,
            n_params=sum(parameter.size for parameter in parameters),
            n_state=sum(statistic.size for statistic in state),
            n_running=sum(s.size for s in state[: len(state) - n_learned]),
            n_weights=matrices,
            n_inputs=self.n_inputs,
            n_outputs=n_outputs,
            output_layer=self._output_layer or nodes[top].activation_layer,
            loss=loss,
            mean=mean,
            penalty_is_row=self.penalty_is_row,
            constants=_read_only(constants),
            schedules=tuple(self._schedules),
            whole_batches=any(node.home.needs_whole_batch for node in nodes),
            user_loss=user_loss,
        )


def _read_only(numbers: list[float]) -> np.ndarray:
    """A vector of float64 that engines check once and then rely on."""
    vector = np.array(numbers, np.float64)
    vector.flags.writeable = False
    return vector


def _place_vector(nodes: list[Node], kinds: tuple[str, ...]):
    """The parameters of a flat vector, and {(node, field): offset}."""
    parameters: list[Parameter] = []
    offsets: dict[tuple[int, str], int] = {}
    offset = 0
    for kind in kinds:
        for index, node in enumerate(nodes):
            for name, (suffix, shape, *about) in getattr(node, kind).items():
                parameters.append(Parameter(f"{node.layer}.{suffix}", shape, offset, *about))
                offsets.setdefault((index, name), offset)
                offset += parameters[-1].size
                if offset > MOST_PARAMETERS:
                    raise ValueError(
                        "the network has more than 2**48 parameters: layer "
                        f"{node.layer} alone has {node.n_in} x {node.n_out} weights; make the "
                        "layers smaller"
                    )
    return tuple(parameters), offsets
