"""What an epoch costs besides its matrix products: optimizer steps and validation.

    python bench/overheads.py

An optimizer step is compared with moving its bytes: a loop that reads the parameters, the gradient
and the slots, writes parameters and slots, and does one addition for each vector that it writes. It
is also compared with PyTorch's optimizer on one flat tensor, where PyTorch is installed and has it:
the fused one if there is one, else the one that goes over lists of tensors ("foreach"). They take
turns in one process. The call overhead from Python, the time of a step of 20 parameters, is
subtracted from fastnn's. An epoch with validation data is compared with the same epoch without
them, and with one forward pass over them.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from typing import NamedTuple

import machine
import numba
import numpy as np

from fastnn import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Dense,
    Lion,
    Nadam,
    RAdam,
    RMSprop,
    Sequential,
    engines,
    losses,
    set_num_threads,
)
from fastnn.engines import compiled
from fastnn.engines.workspace import Steps, Workspace, aligned_zeros
from fastnn.optimizer import Optimizer
from fastnn.tables import SLOTS
from fastnn.update import Update

try:
    import torch
except ImportError:
    torch = None

#: Parameters whose vectors stay in L2 (one thread), and parameters that must come from memory.
L2_SIZE, MEMORY_SIZE = 20_000, 10_000_000
#: Networks and rows of an epoch of the validation table; batches have 32 rows.
VALIDATED = (((14, 64, 64, 2), 20_000), ((784, 128, 10), 10_000))
#: Each rule by what it is called here: the optimizer, and PyTorch's with its arguments.
OPTIMIZERS = {
    "SGD": (SGD(1e-3), "SGD", {"fused": True}),
    "SGD, momentum": (SGD(1e-3, 0.9), "SGD", {"momentum": 0.9, "fused": True}),
    "SGD, Nesterov": (
        SGD(1e-3, 0.9, nesterov=True),
        "SGD",
        {"momentum": 0.9, "nesterov": True, "fused": True},
    ),
    "Adagrad": (Adagrad(1e-3), "Adagrad", {"fused": True}),
    "RMSprop": (RMSprop(), "RMSprop", {"foreach": True}),
    "RMSprop, momentum": (
        RMSprop(momentum=0.9),
        "RMSprop",
        {"momentum": 0.9, "foreach": True},
    ),
    "RMSprop, centered": (RMSprop(centered=True), "RMSprop", {"centered": True, "foreach": True}),
    "RMSprop, both": (
        RMSprop(momentum=0.9, centered=True),
        "RMSprop",
        {"momentum": 0.9, "centered": True, "foreach": True},
    ),
    "Adam": (Adam(), "Adam", {"fused": True}),
    "AMSGrad": (Adam(amsgrad=True), "Adam", {"amsgrad": True, "fused": True}),
    "AdamW": (AdamW(), "AdamW", {"fused": True}),
    "Nadam": (Nadam(), "NAdam", {"foreach": True}),
    "RAdam": (RAdam(), "RAdam", {"foreach": True}),
    "Adadelta": (Adadelta(), "Adadelta", {"foreach": True}),
    "Lion": (Lion(), None, {}),
}


@numba.njit(error_model="numpy")
def move_part(w, g, slots):
    """Read w, g and the slots, write w and the slots."""
    if len(slots) == 0:
        for i in range(w.size):
            w[i] += g[i]
    elif len(slots) == 1:
        m = slots[0]
        for i in range(w.size):
            m[i] += g[i]
            w[i] += m[i]
    elif len(slots) == 2:
        m, v = slots[0], slots[1]
        for i in range(w.size):
            m[i] += g[i]
            v[i] += g[i]
            w[i] += m[i]
    else:
        m, v, u = slots[0], slots[1], slots[2]
        for i in range(w.size):
            m[i] += g[i]
            v[i] += g[i]
            u[i] += g[i]
            w[i] += m[i]


@numba.njit(parallel=True)
def move(parts, w, g, slots):
    """:func:`move_part` by several threads."""
    n = w.size
    for part in numba.prange(parts):
        i, end = n * part // parts, n * (part + 1) // parts
        move_part(w[i:end], g[i:end], slots[:, i:end])


def smallest(*functions, turns: int, repeat: int = 1, pause: float = 0.0) -> list[float]:
    """The smallest seconds of each function; they take turns, after one that warms up.

    The pause before each lets the other libraries' threads go to sleep.
    """
    for function in functions:
        function()
    best = [float("inf")] * len(functions)
    for _ in range(turns):
        for k, function in enumerate(functions):
            time.sleep(pause)
            began = time.perf_counter()
            for _ in range(repeat):
                function()
            best[k] = min(best[k], (time.perf_counter() - began) / repeat)
    return best


def workspace(optimizer: Optimizer, size: int) -> Workspace:
    """A workspace for steps of `size` parameters, with a gradient."""
    net = Sequential([Dense(10)], n_inputs=size // 10 - 1)
    plan = net.lower(losses.get("mse"))
    state = np.zeros(plan.n_state, net.dtype)
    ws = Workspace(plan, net.flat_params, state, 1, Update.of(plan, optimizer))
    optimizer.reset(ws.slots)
    ws.grad[:] = 1e-3
    return ws


class Times(NamedTuple):
    """Seconds of a step less its call overhead, of moving its bytes, and of PyTorch's step."""

    step: float
    moving: float
    torch: float | None


def step(label: str, size: int, threads: int, turns: int, peer: bool) -> Times:
    """Measure a step of `size` parameters, and if `peer` that of PyTorch.

    A fit would choose the number of threads by measuring; here each is measured by itself.
    """
    optimizer, name, arguments = OPTIMIZERS[label]
    set_num_threads(threads)
    compiled.PARTS = threads
    ws, tiny = workspace(optimizer, size), workspace(optimizer, 20)
    engine = engines.current()
    steps = Steps(optimizer.hyper(100, np.array([1e-3])))
    n_slots = SLOTS[optimizer.rule]
    slots = aligned_zeros(n_slots * size, ws.grad.dtype).reshape(n_slots, size)
    slots.fill(1)
    mover = move_part if threads == 1 else functools.partial(move, threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    functions = [
        lambda: engine.update(ws, steps),
        lambda: engine.update(tiny, steps),
        lambda: mover(ws.params, ws.grad, slots),
    ]
    if peer and torch is not None and name is not None:
        torch.set_num_threads(threads)
        parameter = torch.nn.Parameter(torch.ones(size))
        parameter.grad = torch.full((size,), 1e-3)
        functions.append(getattr(torch.optim, name)([parameter], lr=1e-3, **arguments).step)
    seconds, overhead, moving, *others = smallest(
        *functions, turns=turns, repeat=max(1, 4_000_000 // size), pause=0.02 * peer
    )
    return Times(seconds - overhead, moving, others[0] if others else None)


def print_steps(where: str, size: int, threads: int, turns: int, peer: bool) -> None:
    """Print a table of steps of `size` parameters."""
    label = f"{size} parameters ({where}), {threads} thread{'s' * (threads > 1)}"
    headings = f"{'us':>10}{'moving us':>11}{'ratio':>8}"
    print(f"\n{label:<45}{headings}" + f"{'PyTorch us':>12}{'ratio':>8}" * peer)
    for name, (_, _, arguments) in OPTIMIZERS.items():
        found = step(name, size, threads, turns, peer)
        line = f"{found.step * 1e6:>10.1f}{found.moving * 1e6:>11.1f}"
        line += f"{found.step / found.moving:>8.2f}"
        if found.torch is not None:
            line += f"{found.torch * 1e6:>12.1f}{found.step / found.torch:>8.2f}"
            line += "  fused" if "fused" in arguments else "  foreach"
        print(f"{name:<45}{line}", flush=True)


def validation(widths, rows, batch_size, turns, epochs) -> tuple[float, float]:
    """What validation on a tenth of the rows adds to an epoch, as fractions of the epoch.

    Returns
    -------
    beyond : float
        All but the forward pass over the validation rows.
    forward : float
        That forward pass, measured by itself.
    """
    generator = np.random.default_rng(0)
    X = generator.normal(size=(rows, widths[0])).astype(np.float32)
    y = generator.integers(0, widths[-1], rows)
    held_X, held_y = X[: rows // 10].copy(), y[: rows // 10]

    def network():
        net = Sequential([*(Dense(n, "relu") for n in widths[1:-1]), Dense(widths[-1])])
        net.fit(X, y, optimizer=Adam(1e-4), epochs=1, batch_size=batch_size, progress=False)
        net.predict(held_X)
        return net

    def fit(net, **keywords):
        arguments = {"optimizer": Adam(1e-4), "epochs": epochs, "batch_size": batch_size}
        return lambda: net.fit(X, y, progress=False, **arguments, **keywords)

    plain, watched = network(), network()
    without, with_it, forward = smallest(
        fit(plain),
        fit(watched, validation_data=(held_X, held_y)),
        lambda: [watched.logits(held_X) for _ in range(epochs)],
        turns=turns,
    )
    return (with_it - without - forward) / without, forward / without


def main() -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="everything once, on less: a test")
    options = parser.parse_args()
    turns, epochs, repeats = (1, 1, 1) if options.quick else (9, 20, 3)
    print(machine.describe())
    print(f"engine {engines.current().name}, {engines.get_num_threads()} threads at most")
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
    most = engines.get_num_threads()
    print_steps("L2", L2_SIZE, 1, turns, peer=False)
    memory_size = MEMORY_SIZE // 100 if options.quick else MEMORY_SIZE
    for threads in sorted({1, most}):
        print_steps("memory", memory_size, threads, turns, peer=True)
    set_num_threads(1)
    compiled.PARTS = None
    print(f"\n{'validation, 1 thread':<36}{'forward':>10}{'beyond':>10}   of an epoch")
    for widths, rows in VALIDATED:
        rows = rows // 20 if options.quick else rows
        pairs = [validation(widths, rows, 32, turns, epochs) for _ in range(repeats)]
        beyond, forward = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"{'-'.join(map(str, widths)):<36}{forward:>10.1%}{beyond:>10.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
