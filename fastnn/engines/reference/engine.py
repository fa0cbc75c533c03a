"""The functions of the numpy engine; see :mod:`fastnn.engines.protocol`."""

from __future__ import annotations

import numpy as np

from ... import random
from .activation import identity
from .batches import n_correct, rows_of
from .loss import OUTPUT_FUNCTIONS
from .update import step
from .walk import Pass

# An overflow shows in the loss, which is checked; NumPy need not warn of it as well.
_quiet = np.errstate(all="ignore")


@_quiet
def forward(ws, data, out, function="logits", first=0, last=None):
    """Write the outputs of the rows into `out`."""
    layout = ws.layout
    offset = layout.output if function == "output" else layout.logits
    apply = OUTPUT_FUNCTIONS.get(function, identity)
    for index in range(first, data.n_batches if last is None else last):
        p = _start(ws, data, index)
        p.forward()
        start = index * data.batch_size
        out[start : start + p.m] = apply(ws.buffer(offset, p.m, ws.plan.n_outputs))


@_quiet
def evaluate(ws, data, results, first=0, last=None):
    """Write (sum of losses, n_correct) of each batch; returns whether all losses are finite."""
    for index in range(first, data.n_batches if last is None else last):
        results[index - first] = _to_loss(ws, data, index)[1:]
        if not np.isfinite(results[index - first, 0]):
            return False
    return True


@_quiet
def loss_and_grad(ws, data, results, first=0, last=None, steps=None):
    """Add the gradient of pieces of one batch to ws.grad; the first piece overwrites it."""
    for index in range(first, data.n_batches if last is None else last):
        if index == 0:
            results[:] = 0
        p, loss, correct = _to_loss(ws, data, index, steps, continued=index > 0)
        results += loss, correct
        if not np.isfinite(results[0]):
            ws.grad.fill(np.nan)
            return
        p.backward()
        if data.separate:
            p.after_batch()


@_quiet
def update(ws, steps):
    """One optimizer step from ws.grad for each row of hyperparameters."""
    for hyper in steps.hyper:
        step(ws, hyper, Pass(ws, np.empty((0, ws.plan.n_inputs), ws.params.dtype)))


@_quiet
def run_batches(ws, data, steps, results, first, last):
    """Train on the minibatches first, ..., last-1; returns how many."""
    for done, index in enumerate(range(first, last)):
        ws.completed = done
        p, *results[done] = _to_loss(ws, data, index, steps, done)
        if not np.isfinite(results[done, 0]):
            return done
        p.backward()
        p.after_batch()
        step(ws, steps.hyper[done], p)
    ws.completed = last - first
    return ws.completed


def permutations(seed, stream, first, count, n):
    """The orders of rows that random.py defines."""
    if count == 1:  # in pieces, which need less memory
        return random.permutation(seed, stream, first, n)[None]
    return random.permutations(seed, stream, first, count, n)


def _start(ws, data, index, **training) -> Pass:
    return Pass(ws, data.features(rows_of(data, index), ws.params.dtype), **training)


def _to_loss(ws, data, index, steps=None, done=0, continued=None):
    """(pass, loss with penalties, n_correct) of a minibatch or of a piece of a batch.

    The minibatch is that of step number `done` of the steps.
    """
    step = {}
    if steps is not None:
        hyper = steps.hyper[done] if len(steps.hyper) else None
        step = {"seed": steps.seed, "step": steps.first + done, "hyper": hyper}
    first_row = 0 if continued is None else index * data.batch_size
    p = _start(ws, data, index, **step, first_row=first_row)
    p.load_targets(data, rows_of(data, index), continued)
    p.forward()
    logits = ws.buffer(ws.layout.logits, *p.targets.shape)
    correct = n_correct(data.metric, logits, p.targets)
    p.head()
    is_last_piece = continued is None or index == data.n_batches - 1
    return p, p.loss + (p.penalties() if is_last_piece else 0.0), correct
