"""JAX: one compiled call per epoch, a scan over its minibatches, with all data on the device.

SGD and Adam are written out (D. P. Kingma and J. Ba, Adam, 2015, algorithm 1), and so are the
normalisations and dropout, whose masks come from XLA's own generator, the fastest one here.
"""

from __future__ import annotations

import math
import os
import time

from workloads import make_data, make_weights, row_order


class Trainer:
    """Trains with one thread or with all; XLA reads its flag only when it starts."""

    def __init__(self, threads: int):
        if threads == 1:
            os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        self.jax = jax
        jax.devices()

    def about(self) -> dict:
        return {"jax": self.jax.__version__, "XLA_FLAGS": os.environ.get("XLA_FLAGS", "none")}

    def load(self, workload) -> None:
        self.jax.config.update("jax_enable_x64", workload.dtype == "float64")
        self.workload = workload
        X, y = make_data(workload)
        self.X, self.y = self.jax.device_put(X), self.jax.device_put(y.astype("int32"))
        weights = self.jax.device_put(_parameters(workload))
        zeros = [self.jax.tree.map(self.jax.numpy.zeros_like, weights) for _ in range(2)]
        running = [(self.jax.numpy.zeros(n), self.jax.numpy.ones(n)) for n in workload.sizes[1:-1]]
        step = self.jax.numpy.zeros((), self.X.dtype)
        self.state = (weights, *zeros, step, running, self.jax.random.key(0, impl="rbg"))
        self.run = self.jax.jit(_epoch_function(workload), donate_argnums=0)

    def epoch(self, number: int) -> dict:
        batches = row_order(self.workload, number).reshape(-1, self.workload.batch_size)
        batches = self.jax.device_put(batches.astype("int32"))
        began = time.perf_counter()
        self.state, loss = self.run(self.state, self.X, self.y, batches)
        loss = float(loss)
        self.jax.block_until_ready(self.state)
        return {"seconds": time.perf_counter() - began, "loss": loss}


def _parameters(workload):
    """For every layer W, b, and before an activation that is normalised gamma and beta."""
    import numpy as np

    *hidden, last = make_weights(workload)
    if workload.normalization:
        keeps = workload.normalization == "layer"
        hidden = [(W, b if keeps else b[:0], np.ones_like(b), np.zeros_like(b)) for W, b in hidden]
    return [*hidden, last]


def _epoch_function(workload):
    """(state, X, y, batches) -> (state, mean loss); batches is (steps, rows of a batch)."""
    import jax
    import jax.numpy as jnp

    act = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}[workload.activation]
    rate, keep = workload.lr, 1 - workload.dropout

    def normalise(z, gamma, beta, running):
        axis = 0 if workload.normalization == "batch" else 1
        mean = z.mean(axis=axis, keepdims=True)
        variance = jnp.square(z - mean).mean(axis=axis, keepdims=True)
        if axis == 0:
            unbiased = variance[0] * len(z) / (len(z) - 1)
            now = jax.lax.stop_gradient((mean[0], unbiased))
            running = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, running, now)
        return (z - mean) * jax.lax.rsqrt(variance + 1e-5) * gamma + beta, running

    def loss_of(weights, running, key, x, targets):
        found = []
        for (W, b, *affine), statistics in zip(weights[:-1], running, strict=True):
            z = x @ W + b if len(b) else x @ W
            if affine:
                z, statistics = normalise(z, *affine, statistics)
            found.append(statistics)
            x = act(z)
            if workload.dropout:
                key, own = jax.random.split(key)
                x = jnp.where(jax.random.bernoulli(own, keep, x.shape), x / keep, 0)
        W, b = weights[-1]
        z = x @ W + b
        if workload.loss == "binary_cross_entropy":
            return jnp.mean(jax.nn.softplus(z[:, 0]) - targets * z[:, 0]), found
        picked = jnp.take_along_axis(z, targets[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - picked), found

    def sgd(state, grads):
        weights, m, v, t = state
        return jax.tree.map(lambda w, g: w - rate * g, weights, grads), m, v, t

    def adam(state, grads):
        weights, m, v, t = state
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        # 1 - beta^t, without the cancellation
        m_share, v_share = -jnp.expm1(t * math.log(0.9)), -jnp.expm1(t * math.log(0.999))
        weights = jax.tree.map(
            lambda w, m, v: w - rate * (m / m_share) / (jnp.sqrt(v / v_share) + 1e-8),
            weights, m, v,
        )  # fmt: skip
        return weights, m, v, t

    step = sgd if workload.optimizer == "SGD" else adam

    def run(state, X, y, batches):
        def minibatch(state, rows):
            *trained, running, key = state
            key, own = jax.random.split(key) if workload.dropout else (key, key)
            (loss, running), grads = jax.value_and_grad(loss_of, has_aux=True)(
                trained[0], running, own, X[rows], y[rows]
            )
            return (*step(trained, grads), running, key), loss

        state, losses = jax.lax.scan(minibatch, state, batches)
        return state, losses.mean()

    return run
