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


def identity_slope(z, a):
    """g'(z) = 1"""
    return np.ones_like(a)


def step(z):
    """g(z) = 1 where z > 0, else 0: the perceptron's activation"""
    return (z > 0).astype(z.dtype)


def step_slope(z, a):
    """g'(z) = 0: gradient descent cannot train through a step"""
    return np.zeros_like(a)


def sigmoid(z):
    """g(z) = 1 / (1 + e^-z), from e^-|z| so that nothing overflows"""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def sigmoid_slope(z, a):
    """g'(z) = g(z) (1 - g(z))"""
    return a * (1 - a)


def tanh(z):
    """g(z) = (e^z - e^-z) / (e^z + e^-z)"""
    return np.tanh(z)


def tanh_slope(z, a):
    """g'(z) = 1 - g(z)^2"""
    return 1 - a * a


def relu(z):
    """g(z) = max(0, z)"""
    return np.maximum(z, 0)


def relu_slope(z, a):
    """g'(z) = 1 where z > 0, else 0"""
    return (a > 0).astype(a.dtype)


def leaky_relu(z, slope):
    """g(z) = z where z > 0, else slope z (A. L. Maas et al., 2013)"""
    return np.where(z > 0, z, _like(slope, z) * z)


def leaky_relu_slope(z, a, slope):
    """g'(z) = 1 where z > 0, else slope"""
    return np.where(a > 0, _like(1, a), _like(slope, a))


def elu(z, alpha):
    """g(z) = z where z > 0, else alpha (e^z - 1) (D.-A. Clevert et al., 2016)"""
    return np.where(z > 0, z, _like(alpha, z) * np.expm1(np.minimum(z, 0)))


def elu_slope(z, a, alpha):
    """g'(z) = 1 where z > 0, else alpha e^z = g(z) + alpha"""
    return np.where(a > 0, _like(1, a), a + _like(alpha, a))


#: Fixed point of mean 0 and variance 1 (G. Klambauer et al., 2017, eq. 14).
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def selu(z):
    """g(z) = scale elu(z) with the alpha and scale of self-normalising networks"""
    return _like(SELU_SCALE, z) * elu(z, SELU_ALPHA)


def selu_slope(z, a):
    """g'(z) = scale where z > 0, else g(z) + scale alpha"""
    scale, shift = _like(SELU_SCALE, a), _like(SELU_SCALE * SELU_ALPHA, a)
    return np.where(a > 0, scale, a + shift)


def normal_cdf(z):
    """P(z) = erfc(-z / sqrt 2) / 2"""
    # Imported when it is needed: SciPy takes longer to import than a short fit to run.
    from scipy.special import ndtr

    return ndtr(z)


def gelu(z):
    """g(z) = z P(z) with P the normal distribution function (D. Hendrycks and K. Gimpel, 2016)"""
    return z * normal_cdf(z)


def gelu_slope(z, a):
    """g'(z) = P(z) + z p(z) with p the normal density"""
    return normal_cdf(z) + z * np.exp(-z * z / 2) * _like(1 / np.sqrt(2 * np.pi), z)


def silu(z):
    """g(z) = z sigmoid(z) (S. Elfwing et al., 2018)"""
    return z * sigmoid(z)


def silu_slope(z, a):
    """g'(z) = s (1 + z (1 - s)) with s = sigmoid(z)"""
    s = sigmoid(z)
    return s * (1 + z * (1 - s))


def softplus(z):
    """g(z) = log(1 + e^z), as max(z, 0) + log(1 + e^-|z|)"""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def softplus_slope(z, a):
    """g'(z) = sigmoid(z)"""
    return sigmoid(z)


def mish(z):
    """g(z) = z tanh(softplus(z)) (D. Misra, 2020)"""
    return z * np.tanh(softplus(z))


def mish_slope(z, a):
    """g'(z) = t + z (1 - t^2) sigmoid(z) with t = tanh(softplus(z))"""
    t = np.tanh(softplus(z))
    return t + z * (1 - t * t) * sigmoid(z)


def softmax(z, axis=-1):
    """e^z / sum e^z, with the maximum subtracted first so that nothing overflows"""
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_inputs(a, da, axis=-1):
    """dz = a (da - sum of da a): each output depends on every input of its row"""
    return a * (da - (da * a).sum(axis=axis, keepdims=True))


_WITH_ARGUMENT = {Act.leaky_relu, Act.elu}


def activate(act, z, argument=0.0):
    """g(z) for an elementwise activation."""
    function = globals()[Act(act).name]
    return function(z, argument) if act in _WITH_ARGUMENT else function(z)


def activation_slope(act, z, a, argument=0.0):
    """g'(z) for an elementwise activation."""
    function = globals()[f"{Act(act).name}_slope"]
    return function(z, a, argument) if act in _WITH_ARGUMENT else function(z, a)


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


def smooth(loss, t, smoothing):
    """Targets moved towards the uniform ones: t (1 - e) + e / n (C. Szegedy et al., 2016, sec. 7)

    n is the number of classes, which is 2 for each output of the binary cross-entropy.
    """
    n = t.shape[1] if loss == Loss.cross_entropy else 2
    return t * _like(1 - smoothing, t) + _like(smoothing / n, t)


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


def penalty(w, l1, l2):
    """l1 sum |w| + l2 sum w^2"""
    w = w.astype(np.float64)
    return l1 * np.abs(w).sum() + l2 * np.square(w).sum()


def penalty_slope(w, l1, l2):
    """l1 sign(w) + 2 l2 w"""
    return _like(l1, w) * np.sign(w) + _like(2 * l2, w) * w


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


def nesterov(w, g, slots, hyper):
    """v = mu v - lr g, w = w + mu v - lr g: the gradient at the place that momentum leads to

    (I. Sutskever et al., 2013, rearranged so that w is the place where g is taken.)
    """
    (v,) = slots
    rate, mu = (_like(value, w) for value in hyper[:2])
    v *= mu
    v -= rate * g
    w += mu * v - rate * g


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


UPDATES = {
    Rule.sgd: sgd,
    Rule.momentum: momentum,
    Rule.nesterov: nesterov,
    Rule.adam: adam,
}

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
        x = data.features(rows, ws.params.dtype)
        _forward(ws, x)
        out[rows] = apply(ws.buffer(offset, len(x), ws.plan.n_outputs))


@_quiet
def evaluate(ws, data):
    """(sum of the rows' losses, number of hits) over all rows; NaN if it is not finite."""
    loss = hits = 0.0
    for index in range(data.n_batches):
        x, target, weights = _batch(ws, data, index)
        _forward(ws, x)
        loss += _loss(ws, data, target, weights)
        hits += _hits(ws, data, target)
    return (loss if np.isfinite(loss) else np.nan), hits


@_quiet
def loss_and_grad(ws, data):
    """The sum of the rows' losses of one batch; leaves the gradient in ws.grad."""
    x, target, weights = _batch(ws, data, 0)
    _forward(ws, x)
    loss = _loss(ws, data, target, weights)
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
        x, target, weights = _batch(ws, data, index)
        _forward(ws, x)
        results[done] = _loss(ws, data, target, weights), _hits(ws, data, target)
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
    """Rows, targets (one-hot coded where they are labels) and weights of a minibatch."""
    rows = _rows_of(data, index)
    x, plan = data.features(rows, ws.params.dtype), ws.plan
    target = ws.buffer(plan.target, len(x), plan.n_outputs)
    if data.labels is None:
        target[:] = data.Y[rows]
    elif plan.n_outputs == 1:
        target[:, 0] = data.labels[rows]
    else:
        target[:] = 0
        target[np.arange(len(x)), data.labels[rows]] = 1
    weights = np.ones(len(x)) if data.weights is None else data.weights[rows]
    return x, target, weights


def _parameters(row, flat):
    n_in, n_out = row["n_in"], row["n_out"]
    w = flat[row["w"] : row["w"] + n_in * n_out].reshape(n_in, n_out)
    return w, flat[row["b"] : row["b"] + n_out]


def _input(ws, row, x):
    return x if row["x"] == INPUT else ws.buffer(row["x"], len(x), row["n_in"])


def _forward(ws, x):
    for row in ws.plan.rows:
        if row["op"] == Op.LOSS:
            break
        z = _input(ws, row, x)
        if row["op"] == Op.DENSE:
            z = dense(z, *_parameters(row, ws.params))
            ws.buffer(row["z"], len(x), row["n_out"])[:] = z
        softmaxed = row["op"] == Op.SOFTMAX
        a = softmax(z) if softmaxed else activate(row["code"], z, row["arg0"])
        ws.buffer(row["a"], len(x), row["n_out"])[:] = a


def _loss(ws, data, target, weights):
    """The weighted sum of the rows' losses, and the penalties; starts the backward pass.

    What is differentiated is the weighted mean, or for sse the sum, plus the penalties. They
    count in proportion to the rows, so that they count once in what is summed over all batches.
    """
    plan, (m, n) = ws.plan, target.shape
    head = plan.rows[-1]
    code = Loss(head["code"])
    if head["arg0"]:
        target = smooth(code, target, head["arg0"])
    losses, gradient = LOSSES[code](ws.buffer(head["x"], m, n), target)
    mass = weights.sum()
    scale = weights / mass if plan.mean and mass > 0 else weights
    gradient = gradient * scale[:, None].astype(gradient.dtype)
    _pass_down(ws, head, gradient)
    penalties = sum(
        penalty(_parameters(row, ws.params)[0], row["arg1"], row["arg2"])
        for row in plan.rows
        if row["op"] == Op.DENSE and (row["arg1"] or row["arg2"])
    )
    return float((losses * weights).sum()) + penalties * (mass if plan.mean else m / len(data.X))


def _pass_down(ws, row, dx):
    """Write dx, the da of the row below, already multiplied by that row's slope."""
    below = ws.plan.rows[row["below"]]
    if below["op"] != Op.SOFTMAX:
        z, a = (ws.buffer(below[field], len(dx), below["n_out"]) for field in ("z", "a"))
        dx = dx * activation_slope(below["code"], z, a, below["arg0"])
    ws.buffer(row["dx"], len(dx), below["n_out"])[:] = dx


def _backward(ws, x):
    m = len(x)
    for row in ws.plan.rows[-2::-1]:
        dz = ws.buffer(row["da"], m, row["n_out"])
        if row["op"] == Op.DENSE:
            (w, _), (dw, db) = _parameters(row, ws.params), _parameters(row, ws.grad)
            dw[:], db[:] = dense_weights(_input(ws, row, x), dz)
            if row["arg1"] or row["arg2"]:
                dw += penalty_slope(w, row["arg1"], row["arg2"])
        if row["dx"] == NONE:
            break
        if row["op"] == Op.DENSE:
            dz = dense_inputs(dz, w)
        elif row["op"] == Op.SOFTMAX:
            dz = softmax_inputs(ws.buffer(row["a"], m, row["n_out"]), dz)
        _pass_down(ws, row, dz)


def _hits(ws, data, target):
    """How many rows of the batch are classified right."""
    if data.hits is None:
        return 0.0
    output = ws.buffer(ws.plan.logits, *target.shape)
    if data.hits == "class":
        return float((output.argmax(axis=1) == target.argmax(axis=1)).sum())
    return float(((output > 0) == (target > 0.5)).all(axis=1).sum())
