"""Muon: its products beside the machine's peak, and what a step costs and what it is worth.

    python bench/muon.py                          # speed, beside AdamW and PyTorch
    python bench/muon.py --accuracy               # of ways to pay less, on digits and letters

The flops of an orthogonalisation are those that it needs: of symmetric products only what lies on
and above the diagonal. What is compared takes turns, the peak of the machine among it, and the best
turn is reported.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
from importlib.util import find_spec
from pathlib import Path

import machine
import numpy as np
import report
from peers import add_common_options, choose_engines, start
from processes import Worker, WorkerError

SHAPES = ((512, 512), (1024, 1024), (512, 2048), (256, 256), (128, 128))
#: Least share of the peak, for the first three shapes.
GOAL = 0.75
#: Variants of the optimizer; of the last one, PyTorch has no counterpart.
VARIANTS: dict[str, dict] = {
    "AdamW": {}, "Muon": {}, "every=2": {"every": 2}, "every=4": {"every": 4},
    "every=8": {"every": 8}, "newton_schulz=3": {"newton_schulz": 3},
    "newton_schulz=3, every=4": {"newton_schulz": 3, "every": 4},
}  # fmt: skip
OF_TORCH: dict[str, dict] = {"AdamW": {}, "Muon": {}, "newton_schulz=3": {"ns_steps": 3}}
LETTERS = Path(__file__).resolve().parents[2] / "shared" / "data" / "letter" / "letter.csv.gz"
MODULE = "contenders.muon_steps"


def flops(n_in: int, n_out: int, turns: int = 5) -> int:
    """Multiplications and additions of an orthogonalisation, without the sums of its squares."""
    r, c = max(n_in, n_out), min(n_in, n_out)
    triangle = c * (c + 1) // 2
    return turns * 2 * (triangle * r + triangle * c + r * c * c)


def orthogonalisations(engine: str, options) -> list[dict]:
    """GFLOP/s in one thread and in all, and the share of the peak measured in between."""
    found = []
    turns, count = (1, 1) if options.quick else (options.turns, 5)
    shapes = SHAPES[-1:] if options.quick else SHAPES
    for threads in sorted({1, machine.cores()}):
        peak = 0.0
        best = dict.fromkeys(shapes, float("inf"))
        with Worker(
            engine, MODULE, "Orthogonaliser", (engine, threads), time_limit=options.time_limit
        ) as worker:
            for _ in range(turns):
                seconds = 0.02 if options.quick else 0.1
                peak = max(peak, machine.measure_peak(seconds, threads)["float32_all"])
                for shape in shapes:
                    best[shape] = min(best[shape], worker.call("seconds", *shape, count))
        for shape in shapes:
            gflops = flops(*shape) / best[shape] / 1e9
            goal = f" ({'met' if gflops >= GOAL * peak else 'goal'} {GOAL:.0%})"
            print(
                f"  {'x'.join(map(str, shape)):<11}{threads} thread{'s' if threads > 1 else ' '}"
                f"{1e3 * best[shape]:>10.3f} ms{gflops:>8.1f} GFLOP/s{gflops / peak:>8.1%} of "
                f"{peak:.1f}{goal if shape in SHAPES[:3] else ''}",
                flush=True,
            )
            found.append({"shape": shape, "threads": threads, "gflops": gflops, "peak": peak})
    return found


def steps(engines: list[str], options) -> dict[str, dict[str, float]]:
    """Seconds of a step of 784-512-512-10 with batches of 128, by library and variant."""
    batches, turns = (1, 1) if options.quick else (16, options.turns)
    workers = {
        f"fastnn {engine}": Worker(
            engine, MODULE, "Fastnn", (engine, batches), time_limit=options.time_limit
        )
        for engine in engines
    }
    if find_spec("torch"):
        for threads in sorted({1, machine.cores()}):
            name = f"PyTorch, {threads} thread{'s' * (threads > 1)}"
            arguments = (threads, batches)
            workers[name] = Worker(name, MODULE, "Torch", arguments, time_limit=options.time_limit)
    best: dict[str, dict[str, float]] = {name: {} for name in workers}
    try:
        for turn in range(-2, turns):  # the first two warm up
            for variant, keywords in VARIANTS.items():
                for name, worker in workers.items():
                    if name.startswith("PyTorch"):
                        if variant not in OF_TORCH:
                            continue
                        keywords = OF_TORCH[variant]
                    else:
                        keywords = VARIANTS[variant]
                    seconds = worker.call("epoch", variant, keywords)
                    if turn >= 0:
                        best[name][variant] = min(best[name].get(variant, seconds), seconds)
    finally:
        for worker in workers.values():
            worker.close()
    print(f"\n  {'us/step':<20}" + "".join(f"{variant:>26}" for variant in VARIANTS))
    for name, times in best.items():
        cells = [
            f"{1e6 * times[variant]:.0f} ({times[variant] / times['AdamW']:.1f})"
            if variant in times
            else "-"
            for variant in VARIANTS
        ]
        print(f"  {name:<20}" + "".join(f"{cell:>26}" for cell in cells), flush=True)
    return best


def read_letters():
    """(X, y) of the letter recognition table, standardised."""
    with gzip.open(LETTERS, "rt", newline="") as file:
        _, *lines = csv.reader(file)
    X = np.array([line[:-1] for line in lines], np.float32)
    _, y = np.unique([line[-1] for line in lines], return_inverse=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def accuracies(options) -> dict[str, dict[str, float]]:
    """Test accuracy of each variant, the mean of three seeds, at the better of two rates."""
    from fastnn import AdamW, Dense, Muon, Sequential, data

    X, y = data.load_digits()
    tables = {"digits": (X / np.float32(16), y, (128, 128), 15, 32)}
    if LETTERS.exists():
        tables["letter"] = (*read_letters(), (256, 256), 12, 128)
    found: dict[str, dict[str, float]] = {}
    for name, (X, y, widths, epochs, batch_size) in tables.items():
        train, test = data.stratified_split(y)
        found[name] = {}
        for variant, keywords in VARIANTS.items():
            total = []
            for seed in range(1 if options.quick else 3):
                layers = [*(Dense(n, "relu") for n in widths), Dense(int(y.max()) + 1)]
                net = Sequential(layers, seed=seed)
                optimizer = AdamW() if variant == "AdamW" else Muon(**keywords)
                net.fit(
                    X[train], y[train], optimizer=optimizer, batch_size=batch_size,
                    epochs=1 if options.quick else epochs, progress=False,
                )  # fmt: skip
                total.append(net.evaluate(X[test], y[test])["accuracy"])
            found[name][variant] = float(np.mean(total))
            print(f"  {name:<10}{variant:<28}{found[name][variant]:.4f}", flush=True)
    return found


def main() -> int:
    """Run the command line; the exit status is 1 if nothing was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accuracy", action="store_true", help="train instead of measuring speed")
    parser.add_argument("--turns", type=int, default=7, help="of each measurement (default 7)")
    add_common_options(parser)
    options = parser.parse_args()
    start(options)
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
    content: dict = {"machine": machine.describe(), "quick": options.quick}
    if options.accuracy or options.quick:
        content["accuracy"] = accuracies(options)
    if not options.accuracy:
        engines = choose_engines(options.engines)
        try:
            for engine in engines:
                print(f"\northogonalisation, float32, engine {engine}")
                content[engine] = orthogonalisations(engine, options)
            content["steps"] = steps(engines, options)
        except (WorkerError, RuntimeError) as error:
            print(f"stopped: {error}", file=sys.stderr)
            return 1
    report.write(options.output, "muon", content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
