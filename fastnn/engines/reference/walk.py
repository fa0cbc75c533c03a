"""One pass of a minibatch through the operations of a plan."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from ...ops import BY_KIND
from ...tables import INPUT, NONE, Act
from .activation import derivative
from .batches import targets_of

_FORMULAS = {home.kind: import_module(f".{home.name}", __package__) for home in BY_KIND.values()}


class Pass:
    """The values and gradients of one minibatch; operations read and write them through it.

    Parameters
    ----------
    ws : Workspace
    x : ndarray, shape (m, n_inputs)
        The rows, in the network's dtype.
    note : callable, optional
        ``note(index, name, array)`` is told every intermediate: z, a, da, dz of an operation.
    training : bool, optional
        Whether it computes as in training: with statistics of the batch, masks and noise; by
        default if the workspace is one for training.
    seed, step : int
        Of the random numbers.
    hyper : ndarray, shape (n,), optional
        The hyperparameters of the step.
    first_row : int
        The number of the first row within its batch, which may run in pieces.
    """

    def __init__(
        self, ws, x, note=None, training=None, seed=0, step=0, hyper=None, first_row=0
    ):  # fmt: skip
        self.ws, self.x, self.m = ws, x, len(x)
        self.training = ws.layout.training if training is None else training
        self.seed, self.step, self.hyper, self.first_row = seed, step, hyper, first_row
        self.note = note or (lambda index, name, array: None)
        self.differentiates = ws.layout.training
        self.continues = False
        self.loss = 0.0
        self.scale = self.penalty_scale = self.penalty_share = self.parameter_scale = 1.0
        self.targets = self.weights = np.empty(0)

    def load_targets(self, data, rows, continued=None) -> None:
        """Set targets, weights and the factors of the gradient.

        `continued` is None for a batch of its own; for a piece of a batch it says whether another
        piece came before. What is differentiated is the weighted mean of the rows' losses, or for
        sse the sum, plus the penalties; sse counts m/n of them in each batch, and so once in an
        epoch. Where the penalties are a row, they are one of weight 1 in each batch.
        """
        plan = self.ws.plan
        self.targets = targets_of(data, rows, self.m, plan.n_outputs, self.x.dtype)
        self.weights = np.ones(self.m) if data.weights is None else data.weights[rows]
        self.weight_sum = self.weights.sum() if continued is None else data.weight_sum
        self.continues = bool(continued)
        if plan.mean:
            self.scale = 1 / self.weight_sum if self.weight_sum > 0 else 0.0
        if plan.penalty_is_row:
            self.penalty_scale = self.scale
            if not self.differentiates:  # the batches of an evaluation together have one such row
                self.penalty_share = self.m / data.n_rows
        elif not plan.mean:
            n_rows = data.epoch_rows or data.n_rows
            self.penalty_scale = self.m / n_rows if continued is None else data.share

    def forward(self) -> None:
        """All operations but the loss, bottom to top."""
        for index in range(self._n_body):
            op = self.ws.table[index]
            _FORMULAS[op.kind].forward(self, index, op)

    def head(self) -> None:
        """The loss, with the penalties."""
        index = self._n_body
        op = self.ws.table[index]
        _FORMULAS[op.kind].forward(self, index, op)

    def penalties(self) -> float:
        """What operations add to the loss, counted like the rows of this batch."""
        terms = 0.0
        for index in range(self._n_body):
            op = self.ws.table[index]
            terms += getattr(_FORMULAS[op.kind], "loss_terms", _no_terms)(self, index, op)
        plan = self.ws.plan
        if plan.penalty_is_row:
            return terms * self.penalty_share
        return terms * (self.weight_sum if plan.mean else self.penalty_scale)

    def backward(self) -> None:
        """All operations that a gradient reaches, top to bottom."""
        for index in reversed(range(self._n_body)):
            op = self.ws.table[index]
            if op.da != NONE:
                _FORMULAS[op.kind].backward(self, index, op)

    def after_batch(self) -> None:
        """What the rows of a batch of training change in operations: running statistics."""
        self._run_hooks("after_batch")

    def after_step(self) -> None:
        """What operations change in the parameters after a step of the optimizer."""
        self._run_hooks("after_step")

    def _run_hooks(self, name: str) -> None:
        for index in range(self._n_body):
            op = self.ws.table[index]
            calls = getattr(BY_KIND[op.kind], name)(self.ws.table, index)
            update = self.ws.update
            if any(update is None or update.needs(call) for call in calls):
                getattr(_FORMULAS[op.kind], name)(self, index, op)

    @property
    def _n_body(self) -> int:
        return len(self.ws.table) - (self.ws.plan.loss is not None)

    # -- what operations read and write -------------------------------------------------------

    def value(self, op, field):
        """A value that an operation names."""
        offset = getattr(op, field)
        if offset == INPUT:
            return self.x
        return self.ws.buffer(offset, self.m, op.n_out if field in "za" else op.n_in)

    def saved(self, op, columns):
        """What the forward pass leaves for the backward pass, or None if there is none."""
        return None if op.saved == NONE else self.ws.buffer(op.saved, self.m, columns)

    def own_hyper(self, op, otherwise):
        """The operation's own hyperparameter of this step, if it follows a schedule."""
        return otherwise if op.hyper == NONE or self.hyper is None else self.hyper[-op.hyper]

    def write(self, index, field, values) -> None:
        """Write z or a of an operation."""
        op = self.ws.table[index]
        self.ws.buffer(getattr(op, field), self.m, op.n_out)[:] = values
        self.note(index, field, values)

    def gradient(self, index):
        """dz of an operation: its da, to which the derivative has been applied."""
        op = self.ws.table[index]
        return self.ws.buffer(op.da, self.m, op.n_out)

    def send(self, index, contribution, number=0) -> None:
        """Add to the gradient of a value that is read, or start it; the last one makes it dz."""
        op = self.ws.table[index]
        _, offset, adds, below = op.edge(number)
        source = self.ws.table[below]
        gradient = self.ws.buffer(offset, self.m, source.n_out)
        gradient[:] = gradient + contribution if adds else contribution
        if not self.ws.table.is_last_writer(index, number):
            return
        self.note(below, "da", gradient)
        if source.code != Act.identity:
            z, a = self.value(source, "z"), self.value(source, "a")
            gradient *= derivative(source.code, z, a, source.arg0)
        self.note(below, "dz", gradient)

    def parameter(self, index, field):
        """A parameter of an operation."""
        return self._view(index, field, self.ws.params)

    def add_gradient(self, index, field, values, noted="") -> None:
        """The gradient of a parameter: written by a batch, added to by its further pieces.

        It is noted as the derivative of the parameter's name, or not at all if `noted` is None.
        """
        view = self._view(index, field, self.ws.grad)
        if self.parameter_scale != 1:  # a trace has it here, and not in every dz
            values = values * values.dtype.type(self.parameter_scale)
        view[:] = view + values if self.continues else values
        if noted is not None:
            self.note(index, f"d{self._names(index)[field][0]}", view)

    def add_to_gradient(self, index, field, values) -> None:
        """Add a further term to the gradient of a parameter."""
        view = self._view(index, field, self.ws.grad)
        view += values
        self.note(index, f"d{self._names(index)[field][0]}", view)

    def _names(self, index):
        op = self.ws.table[index]
        return BY_KIND[op.kind].parameters(op)

    def _view(self, index, field, flat):
        op = self.ws.table[index]
        shape = self._names(index)[field][1]
        start = getattr(op, field)
        return flat[start : start + int(np.prod(shape))].reshape(shape)


def _no_terms(p, index, op):
    return 0.0
