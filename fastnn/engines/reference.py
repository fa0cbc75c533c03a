"""The numpy engine: one readable function per operation, with the formulas of the notes.

It is the judge of the compiled engines: what they do in tiles and parts is written here as one
expression. Rows are samples: X is (m, n_in), W is (n_in, n_out), Z = X W + b.
"""

from __future__ import annotations

import numpy as np

from .tables import INPUT, NONE, Act, Loss, Op, Rule

name = "numpy"

# -- activations: a = g(z), and g'(z) written with a where that is simpler ---------------------


def identity(z):
    """g(z) = z"""
    return z


def sigmoid(z):
    """g(z) = 1 / (1 + e^-z), from e^-|z| so that nothing overflows."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def tanh(z):
    """g(z) = (e^z - e^-z) / (e^z + e^-z)"""
    return np.tanh(z)


def relu(z):
    """g(z) = max(0, z)"""
    return np.maximum(z, 0)


def identity_slope(z, a):
    """g'(z) = 1"""
    return np.ones_like(a)


def sigmoid_slope(z, a):
    """g'(z) = g(z) (1 - g(z))"""
    return a * (1 - a)


def tanh_slope(z, a):
    """g'(z) = 1 - g(z)^2"""
    return 1 - a * a


def relu_slope(z, a):
    """g'(z) = 1 where z > 0, else 0"""
    return (a > 0).astype(a.dtype)


def softmax(z, axis=-1):
    """e^z / sum e^z, with the maximum subtracted first so that nothing overflows."""
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


ACTIVATIONS = {Act.identity: identity, Act.sigmoid: sigmoid, Act.tanh: tanh, Act.relu: relu}
SLOPES = {
    Act.identity: identity_slope,
    Act.sigmoid: sigmoid_slope,
    Act.tanh: tanh_slope,
    Act.relu: relu_slope,
}

# -- losses: (loss of each row in float64, gradient of their sum with respect to a) -------------


def sse(a, t):
    """l = sum over outputs of (a - t)^2"""
    error = a - t
    return np.square(error, dtype=np.float64).sum(axis=1), 2 * error


def mse(a, t):
    """l = mean over outputs of (a - t)^2"""
    loss, gradient = sse(a, t)
    return loss / a.shape[1], gradient / a.shape[1]


def binary_cross_entropy(z, t):
    """l = sum over outputs of -(t log s + (1-t) log (1-s)) with s = sigmoid(z); dz = s - t"""
    x = z.astype(np.float64)
    loss = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    return loss.sum(axis=1), sigmoid(z) - t


def cross_entropy(z, t):
    """l = -sum over classes of t log p with p = softmax(z); dz = p - t"""
    x = z.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return -(t * log_p).sum(axis=1), softmax(z) - t


LOSSES = {
    Loss.mse: mse,
    Loss.sse: sse,
    Loss.binary_cross_entropy: binary_cross_entropy,
    Loss.cross_entropy: cross_entropy,
}

# -- one dense row ------------------------------------------------------------------------------


def dense(x, w, b):
    """z = x W + b"""
    return x @ w + b


def dense_weights(x, dz):
    """dW = xt dz, and db = the column sums of dz"""
    return x.T @ dz, dz.sum(axis=0)


def dense_inputs(dz, w):
    """dx = dz Wt"""
    return dz @ w.T


# -- optimizer steps, in place ------------------------------------------------------------------


def sgd(w, g, slots, hyper):
    """w = w - lr g"""
    w -= _like(hyper[0], w) * g


def momentum(w, g, slots, hyper):
    """v = mu v - lr g, w = w + v"""
    (v,) = slots
    rate, mu = (_like(value, w) for value in hyper[:2])
    v *= mu
    v -= rate * g
    w += v


def adam(w, g, slots, hyper):
    """m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, w = w - lr m / (sqrt v + eps)"""
    m, v = slots
    rate, epsilon, b1, b2 = (_like(value, w) for value in hyper[:4])
    m *= b1
    m += _like(1 - hyper[2], w) * g
    v *= b2
    v += _like(1 - hyper[3], w) * (g * g)
    w -= rate * m / (np.sqrt(v) + epsilon)


def _like(value, array):
    return array.dtype.type(value)


UPDATES = {Rule.sgd: sgd, Rule.momentum: momentum, Rule.adam: adam}

# -- the engine's functions ---------------------------------------------------------------------

# An overflow shows in the loss, which is checked; NumPy need not warn of it as well.
_quiet = np.errstate(over="ignore", invalid="ignore")


@_quiet
def forward(ws, data, out, function="logits"):
    """Write the outputs of all rows into `out`, which is (n, n_outputs).

    `function` is "logits", "output" (after the last activation), or "sigmoid" or "softmax" of
    the logits.
    """
    offset = ws.plan.output if function == "output" else ws.plan.logits
    apply = {"sigmoid": sigmoid, "softmax": softmax}.get(function, identity)
    for index in range(data.n_batches):
        rows = _rows_of(data, index)
        x = data.X[rows]
        _forward(ws, x)
        out[rows] = apply(ws.buffer(offset, len(x), ws.plan.n_outputs))


@_quiet
def evaluate(ws, data):
    """(sum of the rows' losses, number of hits) over all rows; NaN if it is not finite."""
    loss = hits = 0.0
    for index in range(data.n_batches):
        x, target = _batch(ws, data, index)
        _forward(ws, x)
        loss += _loss(ws, target, 1.0)
        hits += _hits(ws, data, target)
    return (loss if np.isfinite(loss) else np.nan), hits


@_quiet
def loss_and_grad(ws, data):
    """The sum of the rows' losses of one batch; leaves the gradient in ws.grad."""
    x, target = _batch(ws, data, 0)
    _forward(ws, x)
    loss = _loss(ws, target, _scale(ws.plan, len(x)))
    _backward(ws, x)
    if not np.isfinite(loss):
        ws.grad.fill(np.nan)
    return loss


@_quiet
def update(ws, rule, hyper):
    """One optimizer step from ws.grad, with the hyperparameters of that step."""
    UPDATES[rule](ws.params, ws.grad, ws.slots, hyper)


@_quiet
def run_batches(ws, data, rule, hyper, results, first, last):
    """Train on the minibatches first, ..., last-1 of an epoch.

    hyper is (last - first, HYPER_COLUMNS); results, (last - first, 2), takes each batch's sum of
    losses and number of hits. Returns how many batches were trained on: fewer than asked for
    only where the loss of the next one is not finite.
    """
    for done, index in enumerate(range(first, last)):
        x, target = _batch(ws, data, index)
        _forward(ws, x)
        results[done] = _loss(ws, target, _scale(ws.plan, len(x))), _hits(ws, data, target)
        if not np.isfinite(results[done, 0]):
            return done
        _backward(ws, x)
        update(ws, rule, hyper[done])
    return last - first


# -- walking the plan ---------------------------------------------------------------------------


def _rows_of(data, index):
    start = index * data.batch_size
    rows = slice(start, min(start + data.batch_size, len(data.X)))
    return rows if data.order is None else data.order[rows]


def _batch(ws, data, index):
    """The rows of a minibatch and their targets, one-hot coded where they are labels."""
    rows = _rows_of(data, index)
    x, plan = data.X[rows], ws.plan
    target = ws.buffer(plan.target, len(x), plan.n_outputs)
    if data.labels is None:
        target[:] = data.Y[rows]
    elif plan.n_outputs == 1:
        target[:, 0] = data.labels[rows]
    else:
        target[:] = 0
        target[np.arange(len(x)), data.labels[rows]] = 1
    return x, target


def _scale(plan, m):
    """The loss of a batch is the mean over its rows, or for sse the sum."""
    return 1 / m if plan.mean else 1.0


def _parameters(row, flat):
    n_in, n_out = row["n_in"], row["n_out"]
    w = flat[row["w"] : row["w"] + n_in * n_out].reshape(n_in, n_out)
    return w, flat[row["b"] : row["b"] + n_out]


def _input(ws, row, x):
    return x if row["x"] == INPUT else ws.buffer(row["x"], len(x), row["n_in"])


def _forward(ws, x):
    for row in ws.plan.rows:
        if row["op"] == Op.DENSE:
            w, b = _parameters(row, ws.params)
            z = dense(_input(ws, row, x), w, b)
            a = ACTIVATIONS[Act(row["code"])](z)
            ws.buffer(row["z"], len(x), row["n_out"])[:] = z
            ws.buffer(row["a"], len(x), row["n_out"])[:] = a


def _loss(ws, target, scale):
    """The sum of the rows' losses; starts the backward pass with the gradient of scale times it."""
    head = ws.plan.rows[-1]
    m, n = target.shape
    losses, gradient = LOSSES[Loss(head["code"])](ws.buffer(head["x"], m, n), target)
    below = ws.plan.rows[head["below"]]
    ws.buffer(head["dx"], m, n)[:] = gradient * gradient.dtype.type(scale) * _slope(ws, below, m)
    return float(losses.sum())


def _slope(ws, row, m):
    z, a = (ws.buffer(row[field], m, row["n_out"]) for field in ("z", "a"))
    return SLOPES[Act(row["code"])](z, a)


def _backward(ws, x):
    m = len(x)
    for row in ws.plan.rows[::-1]:
        if row["op"] != Op.DENSE:
            continue
        dz = ws.buffer(row["da"], m, row["n_out"])
        dw, db = _parameters(row, ws.grad)
        dw[:], db[:] = dense_weights(_input(ws, row, x), dz)
        if row["dx"] != NONE:
            w, _ = _parameters(row, ws.params)
            below = ws.plan.rows[row["below"]]
            dx = dense_inputs(dz, w) * _slope(ws, below, m)
            ws.buffer(row["dx"], m, row["n_in"])[:] = dx


def _hits(ws, data, target):
    """How many rows of the batch are classified right."""
    if data.hits is None:
        return 0.0
    output = ws.buffer(ws.plan.logits, *target.shape)
    if data.hits == "class":
        return float((output.argmax(axis=1) == target.argmax(axis=1)).sum())
    return float(((output > 0) == (target > 0.5)).all(axis=1).sum())
