"""Lowering: from layers to a plan, the table that engines execute.

This is the only file that computes an offset. A layer describes itself to a :class:`Lowering`
by calling its methods; ``finish`` then lays out the flat vectors and the workspace.

Parameters lie in one flat vector, all weight matrices first and everything else after them, so
that weight decay is a prefix; there is no padding, so its size is the number of parameters.
Workspace offsets count elements per sample and are scaled by the workspace's row capacity, so
the same plan serves fit, the ragged last batch and bulk prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .engines.tables import INPUT, NEEDS_Z, NONE, ROW, Act, Loss, Op

#: More parameters than this fit into no machine, and offsets stay far from overflow.
MOST_PARAMETERS = 2**48

#: Losses on logits, and the output function that each already contains.
OUTPUT_OF = {Loss.binary_cross_entropy: Act.sigmoid, Loss.cross_entropy: Act.softmax}


@dataclass(frozen=True)
class Parameter:
    """One named array within the flat vector."""

    name: str  # "0.W": layer 0, weights
    shape: tuple[int, ...]
    offset: int
    layer: int  # index of the layer that owns it

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self, flat: np.ndarray) -> np.ndarray:
        """This parameter as a view into a flat vector."""
        return flat[self.offset : self.offset + self.size].reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Plan:
    """A lowered network: rows of operations, and where everything lies.

    Attributes
    ----------
    rows : ndarray of engines.tables.ROW
        The operations, bottom to top; the last one is the loss head, if there is a loss.
    layers : tuple of (int, int)
        For each row, the index of the layer that it comes from, and of the one that its
        activation comes from; -1 for the loss head.
    parameters : tuple of Parameter
        In the order of the flat vector.
    n_params, n_weights : int
        Size of the flat vector, and of the prefix that holds the weight matrices.
    per_sample : int
        Elements of workspace for each row of a batch.
    widest_penalty : int
        The most rows of a weight matrix with an l1 or l2 penalty.
    n_inputs, n_outputs : int
        Columns of X and of the output.
    input, target, logits, output : int
        Per-sample offsets of the gathered batch, its targets, the output before sigmoid or
        softmax, and after the last activation.
    loss : Loss or None
    mean : bool
        Whether the loss is a mean over rows (or the sum).
    """

    rows: np.ndarray
    layers: tuple[tuple[int, int], ...]
    parameters: tuple[Parameter, ...]
    n_params: int
    n_weights: int
    per_sample: int
    widest_penalty: int
    n_inputs: int
    n_outputs: int
    input: int
    target: int
    logits: int
    output: int
    loss: Loss | None

    @property
    def mean(self) -> bool:
        return self.loss != Loss.sse

    def __str__(self) -> str:
        head = f"plan: {self.n_inputs} -> {self.n_outputs}, {self.n_params} parameters"
        head += f", {self.per_sample} workspace elements per row of a batch"
        table: list[tuple[str, ...]] = [
            ("row", "operation", "shape", "reads", "parameters", "writes", "backward")
        ]
        for index, row in enumerate(self.rows):
            table.append(self._describe(index, row))
        widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
        return "\n".join([head, *lines])

    def _describe(self, index: int, row) -> tuple[str, ...]:
        op, below = Op(row["op"]), row["below"]
        reads = "input" if row["x"] == INPUT else f"a{below}"
        backward = "" if row["dx"] == NONE else f"dz{below}"
        if op == Op.LOSS:
            label = Loss(row["code"]).name
            label += f", smoothing {row['arg0']:g}" if row["arg0"] else ""
            return str(index), label, f"{row['n_in']}", f"{reads}, target", "", "loss", backward
        shape, parameters, act = f"{row['n_in']} -> {row['n_out']}", "", Act(row["code"])
        label = op.name.lower()
        if op == Op.DENSE:
            parameters = f"W[{row['w']}:{row['w'] + row['n_in'] * row['n_out']}]"
            parameters += f" b[{row['b']}:{row['b'] + row['n_out']}]"
            backward = f"dW db {backward}".rstrip()
            label += "" if act == Act.identity else f" + {act.name}"
            label += "".join(
                f", {name} {row[field]:g}"
                for name, field in (("l1", "arg1"), ("l2", "arg2"))
                if row[field]
            )
        elif op == Op.ACTIVATION:
            label = act.name
        keeps_z = op == Op.DENSE and row["z"] != row["a"]
        writes = f"z{index}, a{index}" if keeps_z else f"a{index}"
        return str(index), label, shape, reads, parameters, writes, backward


class Lowering:
    """Collects what the layers need, bottom to top, and lays it out.

    Parameters
    ----------
    n_inputs : int
        Columns of X.
    l1, l2 : float
        Penalties on the weights of every layer, beside its own.
    """

    def __init__(self, n_inputs: int, l1: float = 0.0, l2: float = 0.0):
        self.n_inputs = n_inputs
        self._l1, self._l2 = l1, l2
        self.width = n_inputs
        self._rows: list[dict] = []
        self._layers: list[tuple[int, int]] = []

    def dense(self, layer: int, units: int, l1: float = 0.0, l2: float = 0.0) -> None:
        """Add z = x W + b, with penalties l1 sum |W| + l2 sum W^2."""
        self._add(layer, Op.DENSE, units, arg1=l1 + self._l1, arg2=l2 + self._l2)

    def activation(self, layer: int, act: Act, argument: float = 0.0) -> None:
        """Add a = act(z): to the dense row below if it has none yet, else as a row of its own."""
        if act == Act.identity:
            return
        last = self._rows[-1] if self._rows else None
        if act == Act.softmax:
            self._add(layer, Op.SOFTMAX, self.width)
        elif last and last["op"] == Op.DENSE and last["code"] == Act.identity:
            last.update(code=act, arg0=argument)
            self._layers[-1] = self._layers[-1][0], layer
        else:
            self._add(layer, Op.ACTIVATION, self.width, code=act, arg0=argument)

    def _add(self, layer: int, op: Op, n_out: int, code: int = Act.identity, **arguments) -> None:
        below = len(self._rows) - 1
        self._rows.append(
            {
                "op": op,
                "code": code,
                "n_in": self.width,
                "n_out": n_out,
                "below": below,
                **arguments,
            }
        )
        self._layers.append((layer, layer))
        self.width = n_out

    def _drop_output(self, loss: Loss) -> None:
        """Leave out a last sigmoid or softmax that the loss contains.

        Raises
        ------
        ValueError
            If another activation, or a second one, would be applied before the loss's own.
        """
        contained = OUTPUT_OF[loss]
        last = self._rows[-1]
        if contained == Act.softmax and last["op"] == Op.SOFTMAX:
            self._rows.pop()
            self._layers.pop()
        elif last["op"] == Op.DENSE and last["code"] == contained:
            last["code"] = Act.identity
        elif last["op"] == Op.ACTIVATION and last["code"] == contained:
            self._rows.pop()
            self._layers.pop()
        last = self._rows[-1]
        if last["op"] != Op.DENSE or last["code"] != Act.identity:
            name = Act.softmax.name if last["op"] == Op.SOFTMAX else Act(last["code"]).name
            raise ValueError(
                f"the loss {loss.name} applies {contained.name} to the network's last output "
                f"itself, but before it comes the activation {name!r}: leave that out"
            )

    def finish(self, loss: Loss | None, smoothing: float = 0.0) -> Plan:
        """Lay out the vectors and the workspace, and put the loss on top.

        Raises
        ------
        ValueError
            If the loss works on logits and another activation would be applied before it.
        """
        if loss in OUTPUT_OF:
            self._drop_output(loss)
        count = len(self._rows)
        rows = np.zeros(count + (loss is not None), ROW)
        for field in ("z", "a", "da", "dx", "below", "w", "b", "state", "scratch"):
            rows[field] = NONE
        for row, values in zip(rows, self._rows, strict=False):
            for field, value in values.items():
                row[field] = value
        body, layers = rows[:count], list(self._layers)
        space = _Space()
        offset_input, offset_target = space.take(self.n_inputs), space.take(self.width)
        self._place_values(body, space)
        self._place_gradients(body, space)
        if loss is not None:
            head = rows[count]
            head["op"], head["code"], head["below"], head["arg0"] = (
                Op.LOSS,
                loss,
                count - 1,
                smoothing,
            )
            head["n_in"], head["n_out"] = self.width, 1
            head["x"], head["dx"] = body[-1]["a"], body[-1]["da"]
            layers.append((-1, -1))
        parameters = self._place_parameters(body)
        rows.flags.writeable = False  # engines check it once and then rely on it
        penalised = [int(row["n_in"]) for row in body if row["arg1"] or row["arg2"]]
        last = body[-1]
        before = "x" if last["op"] == Op.SOFTMAX else "z" if last["code"] == Act.sigmoid else "a"
        return Plan(
            rows=rows,
            layers=tuple(layers),
            parameters=parameters,
            n_params=sum(parameter.size for parameter in parameters),
            n_weights=sum(p.size for p in parameters if len(p.shape) == 2),
            per_sample=space.size,
            widest_penalty=max(penalised, default=0),
            n_inputs=self.n_inputs,
            n_outputs=self.width,
            input=offset_input,
            target=offset_target,
            logits=int(last[before]),
            output=int(last["a"]),
            loss=loss,
        )

    def _place_values(self, body, space: _Space) -> None:
        """Give every row its output; z is kept where a derivative or the logits need it."""
        for index, row in enumerate(body):
            act = Act(row["code"])
            row["x"] = INPUT if index == 0 else body[index - 1]["a"]
            row["a"] = space.take(int(row["n_out"]))
            if row["op"] == Op.ACTIVATION:
                row["z"] = row["x"]
            elif act in NEEDS_Z or (act == Act.sigmoid and index == len(body) - 1):
                row["z"] = space.take(int(row["n_out"]))
            else:
                row["z"] = row["a"]

    def _place_gradients(self, body, space: _Space) -> None:
        """Give every row its gradient.

        A row needs its own gradient and the one below it at the same time, so two buffers take
        turns. Nothing is computed below the lowest row with parameters.
        """
        widths = [int(row["n_out"]) for row in body]
        turns = [space.take(max(widths[turn::2], default=0)) for turn in (0, 1)]
        lowest = next((i for i, row in enumerate(body) if row["op"] == Op.DENSE), len(body))
        for index, row in enumerate(body):
            row["da"] = turns[index % 2]
            if index > lowest:
                row["dx"] = turns[(index - 1) % 2]
                if row["op"] == Op.DENSE:
                    row["scratch"] = 0

    def _place_parameters(self, body) -> tuple[Parameter, ...]:
        """Lay out the flat vector: all weights, then all biases."""
        parameters, offset = [], 0
        for field, name in (("w", "W"), ("b", "b")):
            for row, (layer, _) in zip(body, self._layers, strict=True):
                if row["op"] != Op.DENSE:
                    continue
                n_in, n_out = int(row["n_in"]), int(row["n_out"])
                shape = (n_in, n_out) if field == "w" else (n_out,)
                parameters.append(Parameter(f"{layer}.{name}", shape, offset, layer))
                row[field] = offset
                offset += parameters[-1].size
                if offset > MOST_PARAMETERS:
                    raise ValueError(
                        f"the network has more than 2**48 parameters: layer {layer} alone takes "
                        f"{n_in} x {n_out} weights; make the layers smaller"
                    )
        return tuple(parameters)


class _Space:
    """Hands out consecutive ranges."""

    def __init__(self):
        self.size = 0

    def take(self, size: int) -> int:
        offset = self.size
        self.size += size
        return offset
