"""What bench/muon.py times: orthogonalisations, and epochs of fastnn and of PyTorch."""

from __future__ import annotations

import itertools
import time

import numpy as np

WIDTHS, BATCH_SIZE = (784, 512, 512, 10), 128


def rows(batches: int):
    """(X, y) of some batches."""
    rng = np.random.default_rng(0)
    X = rng.random((batches * BATCH_SIZE, WIDTHS[0]), np.float32)
    return X, rng.integers(0, WIDTHS[-1], len(X))


class Orthogonaliser:
    """Muon's calls for one hidden matrix, in a given number of threads."""

    def __init__(self, engine: str, threads: int):
        import fastnn
        from fastnn.engines import compiled

        fastnn.set_engine(engine)
        fastnn.set_num_threads(threads)
        compiled.PARTS, compiled.LEAST_WORK = threads, 0.0
        self._ready: dict = {}

    def seconds(self, n_in: int, n_out: int, count: int) -> float:
        """The least seconds of one orthogonalisation with its momentum and step."""
        engine, ws, steps = self._ready.setdefault((n_in, n_out), self._prepared(n_in, n_out))
        best = float("inf")
        for _ in range(count):
            began = time.perf_counter()
            engine.update(ws, steps)
            best = min(best, time.perf_counter() - began)
        return best

    def _prepared(self, n_in: int, n_out: int):
        import fastnn
        from fastnn import losses
        from fastnn.engines import current
        from fastnn.engines.workspace import Steps, Workspace
        from fastnn.update import Update

        layers = [fastnn.Dense(n_in), fastnn.Dense(n_out), fastnn.Dense(1)]
        net = fastnn.Sequential(layers, n_inputs=1)
        plan, optimizer, engine = net.lower(losses.get("mse")), fastnn.Muon(), current()
        state = np.zeros(plan.n_state, net.dtype)
        ws = Workspace(plan, net.flat_params, state, 1, Update.of(plan, optimizer))
        ws.grad[:] = np.random.default_rng(0).normal(size=ws.grad.size)
        steps = Steps(optimizer.hyper(1, np.full(1, 1e-3)))
        engine.update(ws, steps)
        # From the program of a step, keep Muon's calls alone.
        ((variant, step),) = ws.programs[engine.name].programs.items()
        muons = step.only(lambda call: call.kernel.startswith("muon_"))
        ws.programs[engine.name].programs[variant] = muons
        return engine, ws, steps


class Fastnn:
    """Epochs with one optimizer after another, in as many threads as fastnn chooses."""

    def __init__(self, engine: str, batches: int):
        import fastnn

        fastnn.set_engine(engine)
        self._data = rows(batches)
        self._nets: dict = {}

    def epoch(self, name: str, keywords: dict) -> float:
        """Seconds of a step."""
        from fastnn import AdamW, Dense, Muon, Sequential

        if name not in self._nets:
            *hidden, last = WIDTHS[1:]
            net = Sequential([*(Dense(n, "relu") for n in hidden), Dense(last)])
            self._nets[name] = net, AdamW() if name == "AdamW" else Muon(**keywords)
        net, optimizer = self._nets[name]
        X, y = self._data
        history = net.fit(
            X, y, optimizer=optimizer, epochs=1, batch_size=BATCH_SIZE, progress=False
        )
        return history["seconds"][-1] / (len(X) // BATCH_SIZE)


class Torch:
    """The same network with torch.optim.Muon, and fused AdamW for all else."""

    def __init__(self, threads: int, batches: int):
        import torch

        torch.set_num_threads(threads)
        X, y = rows(batches)
        self._data = torch.from_numpy(X), torch.from_numpy(y)
        self._models: dict = {}

    def epoch(self, name: str, keywords: dict) -> float:
        """Seconds of a step."""
        import torch
        from torch import nn

        if name not in self._models:
            layers: list[nn.Module] = []
            for n_in, n_out in itertools.pairwise(WIDTHS):
                layers += [nn.Linear(n_in, n_out), nn.ReLU()]
            model = nn.Sequential(*layers[:-1])
            hidden = [] if name == "AdamW" else [model[2].weight]
            others = [p for p in model.parameters() if not any(p is w for w in hidden)]
            used = [torch.optim.AdamW(others, fused=True)]
            if hidden:
                used.append(torch.optim.Muon(hidden, lr=0.02, weight_decay=0.0, **keywords))
            self._models[name] = model, used
        model, used = self._models[name]
        X, y = self._data
        began = time.perf_counter()
        for x, targets in zip(X.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True):
            for optimizer in used:
                optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(x), targets).backward()
            for optimizer in used:
                optimizer.step()
        return (time.perf_counter() - began) / (len(X) // BATCH_SIZE)
