"""JAX in bench/accuracy.py: one compiled scan over the batches of an epoch, AdamW written out.

The rows that a last batch lacks are left out of an epoch, since a scan has batches of one size.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from dataclasses import replace

import numpy as np
from pictures import standardised


class Accuracy:
    """Trains one network after another, with as many threads as XLA takes."""

    def __init__(self):
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        self.jax = jax
        jax.devices()
        self._compiled: dict = {}

    def about(self) -> dict:
        return {"jax": self.jax.__version__}

    def load(self, folder, name: str, rows: int | None, held_out: bool) -> None:
        self.data = standardised(folder, name, rows, held_out)
        self._compiled.clear()  # the background of the images is a part of the code
        put = self.jax.device_put
        self.X, self.y = put(self.data.X), put(self.data.y.astype(np.int32))
        self.X_test = put(self.data.X_test)

    def start(self, recipe, seed: int) -> None:
        """Make a network; what it calls is compiled before."""
        key = replace(recipe, epochs=0, lr=0.0)  # of which the code knows nothing
        self._make(recipe, seed)
        if key not in self._compiled:
            found = _functions(recipe, self.data.blank)
            weights, running = self.state[0], self.state[4]
            self._compiled[key] = {
                "epoch": found["epoch"].lower(self.state, self.X, self.y, *self._batches()),
                "predict": found["predict"].lower(weights, running, self.X_test),
            }
            self._compiled[key] = {name: f.compile() for name, f in self._compiled[key].items()}
        self.run = self._compiled[key]
        self._make(recipe, seed)

    def _make(self, recipe, seed: int) -> None:
        jnp = self.jax.numpy
        self.recipe = recipe
        self.rng = np.random.default_rng(seed)
        weights = []
        sizes = (self.X.shape[1], *recipe.hidden, 10)
        for n_in, n_out in itertools.pairwise(sizes):
            W = self.rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out)).astype(np.float32)
            affine = (jnp.ones(n_out),) if recipe.batch_norm and n_out != 10 else ()
            weights.append((jnp.asarray(W), jnp.zeros(n_out), *affine))
        zeros = [self.jax.tree.map(jnp.zeros_like, weights) for _ in range(2)]
        running = [(jnp.zeros(n), jnp.ones(n)) for n in recipe.hidden]
        key = self.jax.random.key(seed, impl="rbg")
        self.state = (weights, *zeros, jnp.zeros(()), running, key)
        self.steps_done, self.batches = 0, len(self.X) // recipe.batch_size
        steps = self.batches * recipe.epochs
        self.rates = np.array([recipe.rate(i, steps) for i in range(steps)], np.float32)

    def epoch(self) -> float:
        """Seconds of an epoch."""
        began = time.perf_counter()
        self.state = self.run["epoch"](self.state, self.X, self.y, *self._batches())
        self.jax.block_until_ready(self.state)
        self.steps_done += self.batches
        return time.perf_counter() - began

    def _batches(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of each batch of an epoch, and the rates of its steps."""
        size = self.recipe.batch_size
        order = self.rng.permutation(len(self.X))[: self.batches * size]
        rates = self.rates[self.steps_done : self.steps_done + self.batches]
        return order.astype(np.int32).reshape(-1, size), rates

    def accuracy(self) -> float:
        """Percent of the test images."""
        found = self.run["predict"](self.state[0], self.state[4], self.X_test)
        return 100 * float((np.asarray(found) == self.data.y_test).mean())


def _functions(recipe, blank: float) -> dict:
    """``epoch(state, X, y, rows, rates)`` -> state, and ``predict(weights, running, X)``."""
    import jax
    import jax.numpy as jnp

    keep = 1 - recipe.dropout

    def outputs(weights, running, x, key):
        """The last layer's; with a key those of training, and new running statistics."""
        found = []
        if key is not None and recipe.noise:
            key, own = jax.random.split(key)
            x = x + recipe.noise * jax.random.normal(own, x.shape)
        for (W, b, *gamma), (mean, variance) in zip(weights[:-1], running, strict=True):
            z = x @ W
            if gamma:
                if key is not None:
                    now = z.mean(axis=0), z.var(axis=0)
                    unbiased = now[0], now[1] * len(z) / (len(z) - 1)
                    found.append(jax.tree.map(
                        lambda old, new: 0.9 * old + 0.1 * jax.lax.stop_gradient(new),
                        (mean, variance), unbiased,
                    ))  # fmt: skip
                    mean, variance = now
                z = (z - mean) * jax.lax.rsqrt(variance + 1e-5) * gamma[0]
            elif key is not None:
                found.append((mean, variance))
            x = jax.nn.relu(z + b)
            if key is not None and recipe.dropout:
                key, own = jax.random.split(key)
                x = jnp.where(jax.random.bernoulli(own, keep, x.shape), x / keep, 0)
        W, b = weights[-1]
        return x @ W + b, found

    def moved(key, X):
        """Square images moved at random by whole pixels, on a blank background, and mirrored."""
        side, most = math.isqrt(X.shape[1]), recipe.shift
        margins = ((0, 0), (most, most), (most, most))
        padded = jnp.pad(X.reshape(-1, side, side), margins, constant_values=blank)
        key, own = jax.random.split(key)
        corners = jax.random.randint(own, (len(X), 2), 0, 2 * most + 1)
        cut = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, at, (side, side)))
        found = cut(padded, corners)
        if recipe.flip:
            found = jnp.where(
                jax.random.bernoulli(key, 0.5, (len(X), 1, 1)), found[:, :, ::-1], found
            )
        return found.reshape(X.shape)

    def loss_of(weights, running, key, x, y):
        z, found = outputs(weights, running, x, key)
        targets = jax.nn.one_hot(y, 10) * (1 - recipe.label_smoothing)
        targets = targets + recipe.label_smoothing / 10
        return -(targets * jax.nn.log_softmax(z)).sum(axis=1).mean(), found

    def epoch(state, X, y, batches, rates):
        def step(state, batch):
            rows, rate = batch
            weights, m, v, t, running, key = state
            x = X[rows]
            if recipe.augment:
                key, own = jax.random.split(key)
                x = moved(own, x)
            key, own = jax.random.split(key)
            grads, running = jax.grad(loss_of, has_aux=True)(weights, running, own, x, y[rows])
            t = t + 1
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
            m_share, v_share = 1 - 0.9**t, 1 - 0.999**t
            weights = jax.tree.map(
                lambda w, m, v: w * (1 - rate * recipe.weight_decay)
                - rate * (m / m_share) / (jnp.sqrt(v / v_share) + 1e-8),
                weights, m, v,
            )  # fmt: skip
            return (weights, m, v, t, running, key), None

        return jax.lax.scan(step, state, (batches, rates))[0]

    def predict(weights, running, X):
        return outputs(weights, running, X, None)[0].argmax(axis=1)

    return {"epoch": jax.jit(epoch, donate_argnums=0), "predict": jax.jit(predict)}
