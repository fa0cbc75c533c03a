"""PyTorch in eager mode, with fused optimizers and all data in tensors (no DataLoader)."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn
from workloads import make_data, make_weights, row_order

from contenders.common import operands, timed

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def make_module(workload) -> nn.Sequential:
    """The network with fastnn's initial weights; nn.Linear keeps the transposed W.

    As users write it, a layer before a batch normalisation has no bias.
    """
    layers: list[nn.Module] = []
    dtype = getattr(torch, workload.dtype)
    *hidden, last = make_weights(workload)
    for W, b in hidden:
        n = len(b)
        layers.append(make_linear(W, b, dtype, workload.normalization != "batch"))
        if workload.normalization:
            kind = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}[workload.normalization]
            layers.append(kind(n, dtype=dtype))
        layers.append(ACTIVATIONS[workload.activation]())
        if workload.dropout:
            layers.append(nn.Dropout(workload.dropout))
    return nn.Sequential(*layers, make_linear(*last, dtype, True))


def make_linear(W, b, dtype, bias: bool) -> nn.Linear:
    linear = nn.Linear(*W.shape, bias=bias, dtype=dtype)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(W.T.copy()))
        if bias:
            linear.bias.copy_(torch.from_numpy(b))
    return linear


class Trainer:
    """Trains with a given number of threads."""

    def __init__(self, threads: int):
        torch.set_num_threads(threads)

    def about(self) -> dict:
        return {
            "torch": torch.__version__,
            "kernels": torch.backends.cpu.get_cpu_capability(),
            "MKL": torch.backends.mkl.is_available(),
            "oneDNN": torch.backends.mkldnn.is_available(),
        }

    def load(self, workload) -> None:
        self.workload = workload
        X, y = make_data(workload)
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)
        self.model = make_module(workload)
        optimizer = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}[workload.optimizer]
        self.optimizer = optimizer(self.model.parameters(), lr=workload.lr, fused=True)
        self.loss = nn.CrossEntropyLoss()
        if workload.loss == "binary_cross_entropy":
            self.y = self.y.to(self.X.dtype)[:, None]
            self.loss = nn.BCEWithLogitsLoss()

    def epoch(self, number: int) -> dict:
        order = torch.from_numpy(row_order(self.workload, number))
        model, optimizer, loss_of = self.model, self.optimizer, self.loss
        began = time.perf_counter()
        # One gather for the whole epoch saves a dispatch per batch.
        X, y = self.X[order], self.y[order]
        losses = []
        size = self.workload.batch_size
        for x, targets in zip(X.split(size), y.split(size), strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(x), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        mean = torch.stack(losses).mean(dtype=torch.float64).item()
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "loss": mean}


class Predictor:
    """Softmax of a module in inference mode, with a given number of threads."""

    def __init__(self, threads: int):
        torch.set_num_threads(threads)

    about = Trainer.about

    def load(self, workload) -> None:
        self.X = torch.from_numpy(make_data(workload)[0])
        self.model = nn.Sequential(make_module(workload), nn.Softmax(dim=1)).eval()

    def outputs(self, rows: int) -> np.ndarray:
        with torch.inference_mode():
            return self.model(self.X[:rows]).numpy()

    def calls(self, rows: int, count: int) -> np.ndarray:
        with torch.inference_mode():
            return timed(self.model, self.X[:rows], count)


class Multiplier:
    """``torch.mm`` into an existing tensor."""

    def __init__(self, threads: int):
        torch.set_num_threads(threads)

    about = Trainer.about

    def seconds(self, product: str, rows: int, n_in: int, n_out: int, count: int) -> float:
        """Mean seconds of one product over `count` repetitions."""
        a, b = (torch.from_numpy(matrix) for matrix in operands(product, rows, n_in, n_out))
        out = a @ b
        began = time.perf_counter()
        for _ in range(count):
            torch.mm(a, b, out=out)
        return (time.perf_counter() - began) / count
