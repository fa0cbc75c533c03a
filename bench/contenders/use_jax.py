"""JAX: one compiled call per epoch, a scan over its minibatches, with all data on the device.

SGD and Adam are written out (D. P. Kingma and J. Ba, Adam, 2015, algorithm 1).
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
        weights = self.jax.device_put(make_weights(workload))
        zeros = [self.jax.tree.map(self.jax.numpy.zeros_like, weights) for _ in range(2)]
        self.state = (weights, *zeros, self.jax.numpy.zeros((), self.X.dtype))
        self.run = self.jax.jit(_epoch_function(workload), donate_argnums=0)

    def epoch(self, number: int) -> dict:
        batches = row_order(self.workload, number).reshape(-1, self.workload.batch_size)
        batches = self.jax.device_put(batches.astype("int32"))
        began = time.perf_counter()
        self.state, loss = self.run(self.state, self.X, self.y, batches)
        loss = float(loss)
        self.jax.block_until_ready(self.state)
        return {"seconds": time.perf_counter() - began, "loss": loss}


def _epoch_function(workload):
    """(state, X, y, batches) -> (state, mean loss); batches is (steps, rows of a batch)."""
    import jax
    import jax.numpy as jnp

    act = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}[workload.activation]
    rate = workload.lr

    def loss_of(weights, x, targets):
        for W, b in weights[:-1]:
            x = act(x @ W + b)
        W, b = weights[-1]
        z = x @ W + b
        if workload.loss == "binary_cross_entropy":
            return jnp.mean(jax.nn.softplus(z[:, 0]) - targets * z[:, 0])
        picked = jnp.take_along_axis(z, targets[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - picked)

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
            loss, grads = jax.value_and_grad(loss_of)(state[0], X[rows], y[rows])
            return step(state, grads), loss

        state, losses = jax.lax.scan(minibatch, state, batches)
        return state, losses.mean()

    return run
