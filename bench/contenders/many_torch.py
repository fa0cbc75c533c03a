"""Many networks in PyTorch: ``vmap`` over their stacked parameters, Adam on the stack.

All networks take the same rows in a step, drawn anew for each epoch, which is its fastest form. For
the check of the losses each takes fastnn's order of rows.
"""

from __future__ import annotations

import copy
import time

import torch
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional
from workloads import make_data, make_weights, row_order

from contenders.use_torch import ACTIVATIONS, Trainer, make_linear


class Many:
    """Trains the networks of a stack with so many threads."""

    def __init__(self, threads: int):
        torch.set_num_threads(threads)

    about = Trainer.about

    def load(self, stack) -> None:
        self.stack, workload = stack, stack.workload
        X, y = make_data(workload)
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)
        if workload.loss == "binary_cross_entropy":
            self.y = self.y.to(self.X.dtype)[:, None]
        self._models = [self._module(seed) for seed in range(stack.count)]
        self._run(1, None)

    def run(self) -> dict:
        began = time.perf_counter()
        losses = self._run(self.stack.epochs, None)
        return {"seconds": time.perf_counter() - began, "loss": losses}

    def check(self, count: int) -> list[float]:
        """The last losses of the first networks with fastnn's orders of rows."""
        workload, epochs = self.stack.workload, self.stack.epochs
        orders = torch.stack([
            torch.stack([
                torch.from_numpy(row_order(workload, epoch, seed))
                for seed in range(self.stack.count)
            ])
            for epoch in range(epochs)
        ])  # fmt: skip
        return self._run(epochs, orders)[:count]

    def _module(self, seed: int) -> torch.nn.Sequential:
        workload, layers = self.stack.workload, []
        *hidden, last = make_weights(workload, seed)
        for W, b in hidden:
            layers += [make_linear(W, b, torch.float32, True), ACTIVATIONS[workload.activation]()]
        return torch.nn.Sequential(*layers, make_linear(*last, torch.float32, True))

    def _run(self, epochs: int, orders) -> list[float]:
        """The mean loss of the last epoch of each network."""
        workload = self.stack.workload
        params, buffers = stack_module_state(self._models)
        base = copy.deepcopy(self._models[0]).to("meta")
        loss_of = functional.cross_entropy
        if workload.loss == "binary_cross_entropy":
            loss_of = functional.binary_cross_entropy_with_logits

        def loss(p, b, x, targets):
            return loss_of(functional_call(base, (p, b), (x,)), targets)

        rows_of_each = None if orders is None else 0
        gradients = vmap(grad_and_value(loss), in_dims=(0, 0, rows_of_each, rows_of_each))
        optimizer = torch.optim.Adam(list(params.values()), lr=workload.lr, fused=True)
        size = workload.batch_size
        for epoch in range(epochs):
            total = torch.zeros(len(self._models), dtype=torch.float64)
            order = torch.randperm(len(self.X)) if orders is None else orders[epoch]
            X, y = self.X[order], self.y[order]
            along = X.ndim - 2
            batches = zip(X.split(size, dim=along), y.split(size, dim=along), strict=True)
            for x, targets in batches:
                found, value = gradients(params, buffers, x, targets)
                for name, parameter in params.items():
                    parameter.grad = found[name]
                optimizer.step()
                total += value * x.shape[along]
        return (total / len(self.X)).tolist()
