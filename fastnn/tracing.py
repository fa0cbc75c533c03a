"""Trace of the forward and backward pass: every intermediate value by name.

The reference engine computes the values; this module stores them.
"""

from __future__ import annotations

import numpy as np

from .engines.reference.loss import OUTPUT_FUNCTIONS
from .engines.reference.walk import Pass
from .engines.workspace import Data, Workspace
from .losses import LossFunction
from .ops import BY_KIND
from .ops.loss import output_function
from .plan import Plan
from .run import with_schedules


def trace(
    plan: Plan, params: np.ndarray, state: np.ndarray, data: Data, loss: LossFunction | None,
    seed: int, step: int = 0,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Forward pass and, if there are targets, backward pass of all rows.

    Without targets it computes as predictions do, with them as the first step of a training.

    Parameters
    ----------
    plan : Plan
        Lowered for the loss.
    params, state : ndarray
        The flat vectors.
    data : Data
        X, and Y or labels for a backward pass.
    loss : LossFunction or None
        If it contains an output function (sigmoid, softmax, exp), that is applied last.
    seed : int
        Of the network.
    step : int
        Of the training whose masks, noise and scheduled rates are taken.

    Returns
    -------
    dict
        See :meth:`fastnn.Sequential.trace`.
    """
    backward = data.Y is not None or data.labels is not None
    # The layout of training has all layers.
    walk = _Walk(
        plan, Workspace(plan, params, state, data.n_rows, training=True), data, backward, seed, step
    )
    walk.forward()
    output = output_function(loss.code, plan.n_outputs) if loss is not None else None
    if output is not None:
        walk.apply_output(output)
    if backward:
        assert loss is not None
        walk.backward(loss)
    return walk.named


class _Walk:
    """One pass through a plan that stores every value under the name of its layer."""

    def __init__(self, plan: Plan, ws: Workspace, data: Data, training: bool, seed: int,
                 step: int):  # fmt: skip
        self.plan, self.ws, self.data = plan, ws, data
        self.named: dict[str, np.ndarray] = {}
        # Predictions follow no schedule, and some have no values outside of a fit.
        hyper = with_schedules(plan, np.empty((1, 0)), step)[0] if training else None
        X = data.features(slice(None), ws.params.dtype)
        self._pass = Pass(ws, X, self._note, training, seed, step, hyper=hyper)
        self._top, self._last = plan.output_layer, plan.layers[-1 if plan.loss is None else -2][1]

    def _note(self, index: int, name: str, array: np.ndarray) -> None:
        """Store an intermediate value of an operation.

        A layer may be two operations, for instance Dense and softmax: its z and dz are those of the
        first, its a and da those of the second.
        """
        layer, activation_layer = self.plan.layers[index]
        home = BY_KIND[self.ws.table[index].kind]
        if name in ("a", "da"):
            own = self.named.get(f"{activation_layer}.{name}")
            if name == "da" and own is not None:
                return
            self.named[f"{activation_layer}.{name}"] = array.copy()
            return
        if name in ("z", "dz") and not home.traces_z:
            return
        self.named[f"{layer}.{name}"] = array.copy()
        # A layer with a later layer's activation fused into it has a = z and da = dz.
        if name in ("z", "dz") and layer != activation_layer:
            self.named[f"{layer}.{name.replace('z', 'a')}"] = array.copy()

    def forward(self) -> None:
        """The forward pass, with the targets if there are any."""
        if self.data.Y is not None or self.data.labels is not None:
            self._pass.load_targets(self.data, slice(None))
        self._pass.forward()

    def apply_output(self, output: str) -> None:
        """The output function that the loss contains, as part of the last layer."""
        z = self.named[f"{self._last}.a"]
        self.named[f"{self._top}.a"] = OUTPUT_FUNCTIONS[output](z)

    def backward(self, loss: LossFunction) -> None:
        """The derivatives of each row's own loss; the factor 1/m of a mean is in dW and db."""
        p = self._pass
        targets, a = p.targets, self.named[f"{self._top}.a"]
        scale = p.scale
        p.scale = 1.0
        self.named[f"{self._top}.da"] = loss.derivative_of_rows(targets, a).astype(a.dtype)
        p.head()
        p.parameter_scale = scale
        p.backward()
