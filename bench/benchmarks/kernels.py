"""Products of dense layers, in sizes m x k x n (rows, inputs, outputs)."""

from __future__ import annotations

import numpy as np

from .common import OnEngine

SIZES = ["1x784x128", "10x784x15", "32x14x64", "32x64x64", "128x512x512", "512x2048x2048",
         "64x32x1000", "23x37x53", "4096x100x1"]  # fmt: skip


class Dense(OnEngine):
    """A network of one layer without activation."""

    case_name = "size"
    cases = SIZES

    def prepare(self, size):
        from fastnn import Dense, Sequential

        m, k, n = map(int, size.split("x"))
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((m, k), np.float32)
        self.Y = rng.standard_normal((m, n), np.float32)
        self.net = Sequential([Dense(n)], n_inputs=k)
        self.net.loss_and_grad(self.X, self.Y, loss="mse")
        self.net.logits(self.X)

    def time_forward(self, size, engine, threads):
        """X W + b."""
        self.net.logits(self.X)

    def time_loss_and_grad(self, size, engine, threads):
        """X W + b, mse, and Xt dZ."""
        self.net.loss_and_grad(self.X, self.Y, loss="mse")


class TwoDense(OnEngine):
    """Two layers, k x k and k x n: the backward pass has the product dZ Wt too."""

    case_name = "size"
    cases = ("32x64x64", "128x512x512", "23x37x53")

    def prepare(self, size):
        from fastnn import Dense, Sequential

        m, k, n = map(int, size.split("x"))
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((m, k), np.float32)
        self.Y = rng.standard_normal((m, n), np.float32)
        self.net = Sequential([Dense(k), Dense(n)], n_inputs=k)
        self.net.loss_and_grad(self.X, self.Y, loss="mse")

    def time_loss_and_grad(self, size, engine, threads):
        """Forward and backward."""
        self.net.loss_and_grad(self.X, self.Y, loss="mse")
