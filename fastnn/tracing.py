"""Backpropagation in the open: every intermediate of a network by name.

The formulas are those of ``engines/reference.py``; here each result is kept.
"""

from __future__ import annotations

import numpy as np

from .engines import reference
from .engines.tables import Act, Op
from .engines.workspace import Data
from .losses import LossFunction
from .plan import OUTPUT_OF, Plan


def trace(
    plan: Plan, params: np.ndarray, data: Data, loss: LossFunction | None
) -> dict[str, np.ndarray]:
    """Forward pass and, if there are targets, backward pass of all rows.

    Parameters
    ----------
    plan : Plan
        Lowered without a loss, so that all activations are in it.
    params : ndarray
        The flat parameter vector.
    data : Data
        X, and Y or labels for a backward pass.
    loss : LossFunction or None
        If it contains the network's output function, that is applied last.

    Returns
    -------
    dict
        See :meth:`fastnn.Sequential.trace`.
    """
    walk = _Walk(plan, params)
    a = walk.forward(data.features(slice(None), params.dtype))
    output = OUTPUT_OF.get(loss.code) if loss is not None else None
    if output is not None and walk.last_activation() != output:
        a = walk.apply_output(output, a)
    if loss is None or (data.Y is None and data.labels is None):
        return walk.named
    target = _targets(data, plan.n_outputs).astype(params.dtype)
    walk.backward(target, a, loss, output)
    return walk.named


def _targets(data: Data, n_outputs: int) -> np.ndarray:
    if data.labels is None:
        assert data.Y is not None
        return data.Y
    return data.labels[:, None] if n_outputs == 1 else np.eye(n_outputs)[data.labels]


class _Walk:
    """One pass through a plan that keeps everything under the name of its layer."""

    def __init__(self, plan: Plan, params: np.ndarray):
        self.plan = plan
        self.views = {p.name: p.view(params) for p in plan.parameters}
        self.named: dict[str, np.ndarray] = {}
        self._inputs: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._outputs: list[np.ndarray] = []

    def last_activation(self) -> Act:
        row = self.plan.rows[-1]
        return Act.softmax if row["op"] == Op.SOFTMAX else Act(row["code"])

    def forward(self, x: np.ndarray) -> np.ndarray:
        for row, (layer, activation_layer) in zip(self.plan.rows, self.plan.layers, strict=True):
            self._inputs.append(x)
            z = x
            if row["op"] == Op.DENSE:
                z = reference.dense(x, self.views[f"{layer}.W"], self.views[f"{layer}.b"])
                self.named[f"{layer}.z"] = z
                self.named[f"{layer}.a"] = z
            if row["op"] == Op.SOFTMAX:
                x = reference.softmax(z)
            else:
                x = reference.activate(row["code"], z, row["arg0"])
            self.named[f"{activation_layer}.a"] = x
            self._sums.append(z)
            self._outputs.append(x)
        return x

    def apply_output(self, output: Act, z: np.ndarray) -> np.ndarray:
        """The output function that the loss contains, as part of the last layer."""
        a = reference.softmax(z) if output == Act.softmax else reference.activate(output, z)
        self.named[f"{self.plan.layers[-1][1]}.a"] = a
        return a

    def backward(self, target, a, loss: LossFunction, output: Act | None) -> None:
        """Deltas from the top down; the 1/m of a mean goes into dW and db."""
        m = len(target)
        share = 1 / m if loss.mean else 1.0
        top = self.plan.layers[-1][1]
        self.named[f"{top}.da"] = loss.derivative(target, a).astype(a.dtype)
        if output is not None:
            smoothed = target
            if loss.label_smoothing:
                smoothed = reference.smooth(loss.code, target, loss.label_smoothing)
            delta = a - smoothed
        else:
            delta = self._through_activation(len(self.plan.rows) - 1, self.named[f"{top}.da"])
        for index in range(len(self.plan.rows) - 1, -1, -1):
            row, (layer, activation_layer) = self.plan.rows[index], self.plan.layers[index]
            if index < len(self.plan.rows) - 1:
                # Of a layer with softmax, which takes two rows, da is that of the upper row.
                if self.plan.layers[index + 1][0] != layer:
                    self.named[f"{activation_layer}.da"] = delta
                delta = self._through_activation(index, delta)
            if row["op"] != Op.DENSE:
                continue
            if activation_layer != layer:
                self.named[f"{layer}.da"] = delta
            w = self.views[f"{layer}.W"]
            self.named[f"{layer}.dz"] = delta
            dw, db = reference.dense_weights(self._inputs[index], delta)
            penalties = reference.penalty_slope(w, row["arg1"], row["arg2"])
            self.named[f"{layer}.dW"] = dw * dw.dtype.type(share) + penalties
            self.named[f"{layer}.db"] = db * db.dtype.type(share)
            if not any(below["op"] == Op.DENSE for below in self.plan.rows[:index]):
                break
            delta = reference.dense_inputs(delta, w)

    def _through_activation(self, index: int, da: np.ndarray) -> np.ndarray:
        row, z, a = self.plan.rows[index], self._sums[index], self._outputs[index]
        if row["op"] == Op.SOFTMAX:
            return reference.softmax_inputs(a, da)
        return da * reference.activation_slope(row["code"], z, a, row["arg0"])
