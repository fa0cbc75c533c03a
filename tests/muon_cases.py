"""Networks with one hidden matrix, and steps of them."""

import numpy as np
from conftest import poison

from fastnn import Dense, Sequential, engines, losses
from fastnn.engines.workspace import Steps, Workspace
from fastnn.update import Update


def relative_error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def one_matrix(n_in, n_out, dtype, optimizer, **keywords):
    """A workspace of a network with one hidden matrix, and its (weights, slots, gradient)."""
    net = Sequential([Dense(n_in), Dense(n_out), Dense(2)], n_inputs=2, dtype=dtype)
    plan = net.lower(losses.get("mse"))
    update = Update.of(plan, optimizer, **keywords)
    ws = Workspace(plan, net.flat_params, np.zeros(plan.n_state, dtype), 4, update)
    poison(ws)
    rng = np.random.default_rng(n_in + 1000 * n_out)
    ws.grad[:] = rng.normal(size=ws.grad.size)
    at = plan.training.ops["w"][1]
    place = slice(at, at + n_in * n_out)
    slots = ws.slots[:, place].reshape(2, n_in, n_out)
    return ws, (ws.params[place].reshape(n_in, n_out), slots, ws.grad[place].reshape(n_in, n_out))


def take_steps(ws, optimizer, count=1, first=1):
    engines.current().update(ws, Steps(optimizer.hyper(first, np.full(count, optimizer.lr))))
