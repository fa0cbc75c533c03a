"""What an epoch spends beside its products: optimizer steps, validation and history.

    python bench/overheads.py

An optimizer's step, less the few microseconds of its call from Python, is compared with a loop
that reads and writes the same vectors and does one addition for each that it writes: what moving
the bytes takes. An epoch with validation data is compared with the same epoch and, by itself, one
forward pass over those data.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time

import numba
import numpy as np

from fastnn import Adam, Dense, Sequential, engines, set_num_threads
from fastnn.engines.tables import SLOTS, Rule
from fastnn.engines.workspace import Workspace

#: Parameters: vectors that stay in the second cache, and 10 million.
SIZES = {"second cache": 20_000, "memory": 10_000_000}
TURNS = 9


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


def smallest(*functions, repeat=1):
    """The smallest seconds of each function, all called in turn."""
    best = [float("inf")] * len(functions)
    for _ in range(TURNS + 1):
        for k, function in enumerate(functions):
            began = time.perf_counter()
            for _ in range(repeat):
                function()
            best[k] = min(best[k], (time.perf_counter() - began) / repeat)
    return best


def workspace(rule: Rule, size: int) -> Workspace:
    """What a step of so many parameters needs, with a gradient."""
    net = Sequential([Dense(10)], n_inputs=size // 10 - 1)
    net.loss_and_grad(np.ones((1, size // 10 - 1)), np.ones((1, 10)), loss="mse")
    ws = Workspace(net.plan, net.flat_params, 1, SLOTS[rule])
    ws.grad[:] = 1e-3
    return ws


def step(rule: Rule, size: int, threads: int) -> tuple[float, float]:
    """Seconds of a step beyond those of a step of 20 parameters, and of moving its bytes."""
    set_num_threads(threads)
    ws, tiny = workspace(rule, size), workspace(rule, 20)
    engine, hyper = engines.current(), np.array([[1e-3, 1e-8, 0.9, 0.999]])
    m, v = (np.ones_like(ws.grad) for _ in range(2))
    mover = move_part if threads == 1 else functools.partial(move, threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    found, call, floor = smallest(
        lambda: engine.update(ws, rule, hyper),
        lambda: engine.update(tiny, rule, hyper),
        lambda: mover(ws.params, ws.grad, m, v, SLOTS[rule]),
        repeat=max(1, 4_000_000 // size),
    )
    return found - call, floor


def validation(widths, rows, batch_size) -> tuple[float, float]:
    """(share of an epoch that validation adds beside its forward pass, the pass by itself)."""
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
        arguments = {"optimizer": Adam(1e-4), "epochs": 20, "batch_size": batch_size}
        return lambda: net.fit(X, y, progress=False, **arguments, **keywords)

    plain, watched = network(), network()
    a, b, c = smallest(
        fit(plain),
        fit(watched, validation_data=(held_X, held_y)),
        lambda: [watched.logits(held_X) for _ in range(20)],
    )
    return (b - a - c) / a, c / a


def main() -> int:
    """Print both tables."""
    print(f"{'optimizer step':<36}{'us':>10}{'moving':>10}{'ratio':>8}")
    most = engines.get_num_threads()
    for threads, (where, size) in ((1, next(iter(SIZES.items()))), (most, list(SIZES.items())[1])):
        for rule in Rule:
            found, floor = step(rule, size, threads)
            name = f"{rule.name}, {size} parameters ({where})"
            print(f"{name:<36}{found * 1e6:>10.1f}{floor * 1e6:>10.1f}{found / floor:>8.2f}")
    set_num_threads(1)
    print(f"\n{'validation on a tenth, 1 thread':<36}{'beside':>10}{'forward':>10}")
    for widths, rows, batch in (((14, 64, 64, 2), 20_000, 32), ((784, 128, 10), 10_000, 32)):
        pairs = [validation(widths, rows, batch) for _ in range(3)]
        beside, forward = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"{'-'.join(map(str, widths)):<36}{beside:>10.1%}{forward:>10.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
