"""PyTorch in bench/accuracy.py: eager, fused AdamW, OneCycleLR, all data in tensors."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace

import torch
from pictures import standardised
from torch import nn


class Noise(nn.Module):
    """Adds normal noise in training."""

    def __init__(self, spread: float):
        super().__init__()
        self.spread = spread

    def forward(self, x):
        return x + self.spread * torch.randn_like(x) if self.training else x


def moved(X, most: int, flip: bool, blank: float):
    """Square images moved by at most so many whole pixels, on a blank background, and mirrored."""
    side = math.isqrt(X.shape[1])
    wide = side + 2 * most
    padded = nn.functional.pad(X.view(-1, side, side), [most] * 4, value=blank).flatten(1)
    corners = torch.randint(0, 2 * most + 1, (len(X), 2))
    rows = corners[:, 0, None] + torch.arange(side)
    columns = corners[:, 1, None] + torch.arange(side)
    if flip:
        columns = torch.where(torch.rand(len(X), 1) < 0.5, columns.flip(1), columns)
    return padded.gather(1, (wide * rows[:, :, None] + columns[:, None, :]).flatten(1))


class Accuracy:
    """Trains one network after another, in one thread or in all, whichever is faster."""

    def __init__(self):
        self._most = torch.get_num_threads()

    def about(self) -> dict:
        return {"torch": torch.__version__, "kernels": torch.backends.cpu.get_cpu_capability()}

    def load(self, folder, name: str, rows: int | None, held_out: bool) -> None:
        data = standardised(folder, name, rows, held_out)
        self.blank = data.blank
        self.X, self.y, self.X_test, self.y_test = map(
            torch.from_numpy, (data.X, data.y, data.X_test, data.y_test)
        )

    def start(self, recipe, seed: int) -> None:
        """Make a network, after some steps with another one that show how many threads to use."""
        X, y = self.X, self.y
        self.X, self.y = X[: 20 * recipe.batch_size], y[: 20 * recipe.batch_size]
        seconds = {}
        for n in {1, self._most}:
            torch.set_num_threads(n)
            self._make(replace(recipe, epochs=2), seed)
            self.epoch()
            seconds[n] = self.epoch()
        torch.set_num_threads(min(seconds, key=lambda n: seconds[n]))
        self.X, self.y = X, y
        self._make(recipe, seed)

    def _make(self, recipe, seed: int) -> None:
        torch.manual_seed(seed)
        self.recipe = recipe
        layers: list[nn.Module] = [Noise(recipe.noise)] if recipe.noise else []
        for n_in, n_out in itertools.pairwise((self.X.shape[1], *recipe.hidden)):
            layers.append(nn.Linear(n_in, n_out, bias=not recipe.batch_norm))
            if recipe.batch_norm:
                layers.append(nn.BatchNorm1d(n_out))
            layers.append(nn.ReLU())
            if recipe.dropout:
                layers.append(nn.Dropout(recipe.dropout))
        self.model = nn.Sequential(*layers, nn.Linear(recipe.hidden[-1], 10))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        steps = recipe.epochs * -(-len(self.X) // recipe.batch_size)
        self.schedule = None
        if recipe.one_cycle:
            self.schedule = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer, recipe.lr, total_steps=steps, cycle_momentum=False
            )
        self.loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def epoch(self) -> float:
        """Seconds of an epoch."""
        self.model.train()
        began = time.perf_counter()
        order = torch.randperm(len(self.X))
        X, y = self.X[order], self.y[order]
        size = self.recipe.batch_size
        for x, targets in zip(X.split(size), y.split(size), strict=True):
            if self.recipe.augment:
                x = moved(x, self.recipe.shift, self.recipe.flip, self.blank)
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(self.model(x), targets).backward()
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
        return time.perf_counter() - began

    def accuracy(self) -> float:
        """Percent of the test images."""
        self.model.eval()
        with torch.inference_mode():
            found = self.model(self.X_test).argmax(dim=1)
        return 100 * float((found == self.y_test).double().mean())
