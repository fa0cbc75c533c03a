"""What an epoch costs besides its matrix products: optimizer steps and validation.

    python bench/overheads.py

An optimizer step is compared with moving its bytes: a loop that reads and writes the same vectors
and does one addition for each vector that it writes. The call overhead from Python, the time of a
step of 20 parameters, is subtracted. An epoch with validation data is compared with the same epoch
without them, and with one forward pass over them.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time

import machine
import numba
import numpy as np

from fastnn import Adam, Dense, Sequential, engines, losses, set_num_threads
from fastnn.engines.workspace import Steps, Workspace
from fastnn.tables import HYPER, SLOTS, Rule
from fastnn.update import Update

#: Parameters whose vectors stay in L2 (one thread), and parameters that must come from memory (all
#: threads).
L2_SIZE, MEMORY_SIZE = 20_000, 10_000_000
#: Networks and rows of an epoch of the validation table; batches have 32 rows.
VALIDATED = (((14, 64, 64, 2), 20_000), ((784, 128, 10), 10_000))
HYPERPARAMETERS = {"lr": 1e-3, "epsilon": 1e-8, "momentum": 0.9, "beta1": 0.9, "beta2": 0.999}


@numba.njit(error_model="numpy")
def move_part(w, g, m, v, slots):
    """Read w, g and the slots, write w and the slots."""
    if slots == 0:
        for i in range(w.size):
            w[i] += g[i]
    elif slots == 1:
        for i in range(w.size):
            m[i] += g[i]
            w[i] += m[i]
    else:
        for i in range(w.size):
            m[i] += g[i]
            v[i] += g[i]
            w[i] += m[i]


@numba.njit(parallel=True)
def move(parts, w, g, m, v, slots):
    """:func:`move_part` by several threads."""
    n = w.size
    for part in numba.prange(parts):
        i, end = n * part // parts, n * (part + 1) // parts
        move_part(w[i:end], g[i:end], m[i:end], v[i:end], slots)


def smallest(*functions, turns: int, repeat: int = 1) -> list[float]:
    """The smallest seconds of each function; they take turns, after one that warms up."""
    for function in functions:
        function()
    best = [float("inf")] * len(functions)
    for _ in range(turns):
        for k, function in enumerate(functions):
            began = time.perf_counter()
            for _ in range(repeat):
                function()
            best[k] = min(best[k], (time.perf_counter() - began) / repeat)
    return best


def workspace(rule: Rule, size: int) -> Workspace:
    """A workspace for steps of `size` parameters, with a gradient."""
    net = Sequential([Dense(10)], n_inputs=size // 10 - 1)
    plan = net.lower(losses.get("mse"))
    state = np.zeros(plan.n_state, net.dtype)
    ws = Workspace(plan, net.flat_params, state, 1, Update(rule, ((0, plan.n_params, 1.0, 1.0),)))
    ws.grad[:] = 1e-3
    return ws


def step(rule: Rule, size: int, threads: int, turns: int) -> tuple[float, float]:
    """Seconds of a step less its call overhead, and seconds of moving its bytes."""
    set_num_threads(threads)
    ws, tiny = workspace(rule, size), workspace(rule, 20)
    engine = engines.current()
    steps = Steps(np.array([[HYPERPARAMETERS.get(name, 0.0) for name in HYPER[rule]]]))
    m, v = (np.ones_like(ws.grad) for _ in range(2))
    mover = move_part if threads == 1 else functools.partial(move, threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    seconds, overhead, moving = smallest(
        lambda: engine.update(ws, steps),
        lambda: engine.update(tiny, steps),
        lambda: mover(ws.params, ws.grad, m, v, SLOTS[rule]),
        turns=turns, repeat=max(1, 4_000_000 // size),
    )  # fmt: skip
    return seconds - overhead, moving


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
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="everything once, on less: a test")
    options = parser.parse_args()
    turns, epochs, repeats = (1, 1, 1) if options.quick else (9, 20, 3)
    print(machine.describe())
    print(f"engine {engines.current().name}, {engines.get_num_threads()} threads at most")
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
    print(f"\n{'optimizer step':<36}{'us':>10}{'moving us':>11}{'ratio':>8}")
    memory_size = MEMORY_SIZE // 100 if options.quick else MEMORY_SIZE
    cases = (("L2", L2_SIZE, 1), ("memory", memory_size, engines.get_num_threads()))
    for where, size, threads in cases:
        for rule in (rule for rule in Rule if rule != Rule.muon):  # bench/muon.py measures that
            seconds, moving = step(rule, size, threads, turns)
            name = f"{rule.name}, {size} parameters ({where})"
            print(f"{name:<36}{seconds * 1e6:>10.1f}{moving * 1e6:>11.1f}{seconds / moving:>8.2f}")
    set_num_threads(1)
    print(f"\n{'validation, 1 thread':<36}{'forward':>10}{'beyond':>10}   of an epoch")
    for widths, rows in VALIDATED:
        rows = rows // 20 if options.quick else rows
        pairs = [validation(widths, rows, 32, turns, epochs) for _ in range(repeats)]
        beyond, forward = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"{'-'.join(map(str, widths)):<36}{forward:>10.1%}{beyond:>10.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
