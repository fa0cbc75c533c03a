"""Lowering: from layers to a plan, the table that engines execute.

This is the only file that computes an offset. A layer describes itself to a :class:`Lowering`
by calling its methods; ``finish`` then lays out the flat vectors and the workspace.

Parameters lie in one flat vector, all weight matrices first and everything else after them, so
that weight decay is a prefix; there is no padding, so its size is the number of parameters.
Workspace offsets count elements per sample and are scaled by the workspace's row capacity, so
the same plan serves fit, the ragged last batch and bulk prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .engines.tables import INPUT, NONE, ROW, Act, Loss, Op

#: Losses on logits, and the output function that each already contains.
OUTPUT_OF = {Loss.binary_cross_entropy: "sigmoid", Loss.cross_entropy: "softmax"}


@dataclass(frozen=True)
class Parameter:
    """One named array within the flat vector."""

    name: str  # "0.W": layer 0, weights
    shape: tuple[int, ...]
    offset: int
    layer: int  # index of the layer that owns it

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

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
    labels : tuple of str
        What each row stands for, for people.
    parameters : tuple of Parameter
        In the order of the flat vector.
    n_params, n_weights : int
        Size of the flat vector, and of the prefix that holds the weight matrices.
    per_sample, scratch : int
        Elements of workspace for each row of a batch, and beside that.
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
    labels: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    n_params: int
    n_weights: int
    per_sample: int
    scratch: int
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
        reads = "input" if row["x"] == INPUT else f"a{row['below']}"
        if row["op"] == Op.LOSS:
            below = row["below"]
            shape, parameters, writes = f"{row['n_in']}", "", "loss"
            backward = f"dz{below}"
            reads += ", target"
        else:
            shape = f"{row['n_in']} -> {row['n_out']}"
            parameters = f"W[{row['w']}:{row['w'] + row['n_in'] * row['n_out']}]"
            parameters += f" b[{row['b']}:{row['b'] + row['n_out']}]"
            writes = f"a{index}" if row["z"] == row["a"] else f"z{index}, a{index}"
            backward = "dW db" if row["dx"] == NONE else f"dW db dz{row['below']}"
        return str(index), self.labels[index], shape, reads, parameters, writes, backward


class Lowering:
    """Collects what the layers need, bottom to top, and lays it out.

    Parameters
    ----------
    n_inputs : int
        Columns of X.
    """

    def __init__(self, n_inputs: int):
        self.n_inputs = n_inputs
        self.width = n_inputs
        self._rows: list[dict] = []
        self._labels: list[str] = []
        self._weights: list[tuple[str, tuple[int, ...], int, int, str]] = []
        self._others: list[tuple[str, tuple[int, ...], int, int, str]] = []

    def dense(self, layer: int, prefix: str, units: int, act: Act) -> None:
        """Add z = x W + b and a = act(z)."""
        index = len(self._rows)
        self._rows.append(
            {"op": Op.DENSE, "code": act, "n_in": self.width, "n_out": units, "below": index - 1}
        )
        self._labels.append("dense" if act == Act.identity else f"dense + {act.name}")
        self._weights.append((f"{prefix}.W", (self.width, units), layer, index, "w"))
        self._others.append((f"{prefix}.b", (units,), layer, index, "b"))
        self.width = units

    def finish(self, loss: Loss | None) -> Plan:
        """Lay out the vectors and the workspace, and put the loss on top.

        Raises
        ------
        ValueError
            If the loss works on logits and the last activation would be applied before it.
        """
        rows = np.zeros(len(self._rows) + (loss is not None), ROW)
        for field in ("z", "a", "da", "dx", "below", "w", "b", "state", "scratch"):
            rows[field] = NONE
        for row, values in zip(rows, self._rows, strict=False):
            for field, value in values.items():
                row[field] = value
        labels = list(self._labels)
        last = len(self._rows) - 1
        act = Act(rows[last]["code"])
        fused = OUTPUT_OF.get(loss) if loss is not None else None
        if loss is not None and fused and act != Act.identity:
            if act.name != fused:
                raise ValueError(
                    f"the loss {loss.name} applies {fused} to the network's last output itself, "
                    f"but the last layer has the activation {act.name!r}: leave it out"
                )
            rows[last]["code"] = Act.identity
            labels[last] = "dense"
            act = Act.identity

        # Values: the batch, then what each row writes. A row overwrites z with a, but for a last
        # sigmoid, below which the logits are wanted.
        space = _Space()
        offset_input = space.take(self.n_inputs)
        offset_target = space.take(self.width)
        for index, row in enumerate(rows[: last + 1]):
            row["x"] = INPUT if index == 0 else rows[index - 1]["a"]
            row["a"] = space.take(int(row["n_out"]))
            keeps_z = index == last and act == Act.sigmoid
            row["z"] = space.take(int(row["n_out"])) if keeps_z else row["a"]

        # Gradients: a row needs its own and the one below it at the same time, so two buffers
        # take turns.
        widths = [int(row["n_out"]) for row in rows[: last + 1]]
        turns = [space.take(max(widths[turn::2], default=0)) for turn in (0, 1)]
        scratch = 0
        for index, row in enumerate(rows[: last + 1]):
            row["da"] = turns[index % 2]
            if index > 0:
                row["dx"] = turns[(index - 1) % 2]
                row["scratch"] = 0
                scratch = max(scratch, int(row["n_in"] * row["n_out"]))
        if loss is not None:
            head = rows[last + 1]
            head["op"], head["code"], head["below"] = Op.LOSS, loss, last
            head["n_in"], head["n_out"] = self.width, 1
            head["x"], head["dx"] = rows[last]["a"], rows[last]["da"]
            labels.append(loss.name)

        parameters, offset = [], 0
        for name, shape, layer, index, field in [*self._weights, *self._others]:
            parameters.append(Parameter(name, shape, offset, layer))
            rows[index][field] = offset
            offset += parameters[-1].size
        return Plan(
            rows=rows,
            labels=tuple(labels),
            parameters=tuple(parameters),
            n_params=offset,
            n_weights=sum(int(np.prod(shape)) for _, shape, *_ in self._weights),
            per_sample=space.size,
            scratch=scratch,
            n_inputs=self.n_inputs,
            n_outputs=self.width,
            input=offset_input,
            target=offset_target,
            logits=int(rows[last]["z"]),
            output=int(rows[last]["a"]),
            loss=loss,
        )


class _Space:
    """Hands out consecutive ranges."""

    def __init__(self):
        self.size = 0

    def take(self, size: int) -> int:
        offset = self.size
        self.size += size
        return offset
