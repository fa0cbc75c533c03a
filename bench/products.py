"""Matrix products of a dense layer by size: fastnn, OpenBLAS, PyTorch, and the machine's peak.

"forward" is X W, "weights" Xt dZ, and "inputs" dZ Wt, in which fastnn's transpose is timed too.
fastnn and "OpenBLAS compiled" are called from compiled code, the others from Python. Each product
is repeated on the same matrices. The contenders take turns, and the best turn is reported, in
GFLOP/s and percent of the peak of as many cores as threads (--threads).
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import machine
import report
from peers import PAUSE, start
from processes import Worker, WorkerError

SQUARES = (16, 24, 32, 48, 64, 100, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)
#: (batch, inputs, outputs) of the layers of networks.
LAYERS = (
    (32, 14, 64), (32, 64, 64), (32, 784, 128), (32, 784, 512), (32, 512, 512), (128, 784, 512),
    (128, 512, 512), (512, 784, 2048), (512, 2048, 2048), (200, 20, 100), (10, 784, 15),
    (128, 512, 10), (1, 784, 128), (100000, 20, 3),
)  # fmt: skip

CONTENDERS = {
    "fastnn": ("numba", "contenders.use_fastnn", "Multiplier", ("numba",)),
    "OpenBLAS": ("threadpoolctl", "contenders.use_numpy", "Multiplier", ()),
    "OpenBLAS compiled": ("scipy", "contenders.use_numpy", "CompiledMultiplier", ()),
    "PyTorch": ("torch", "contenders.use_torch", "Multiplier", ()),
}


def gflops(workers: dict, product: str, shape: tuple, turns: int, work: float) -> dict[str, float]:
    """GFLOP/s of every contender, the best of `turns`; one that fails is named and removed.

    `work` is the number of floating-point operations of a turn.
    """
    operations = 2.0 * shape[0] * shape[1] * shape[2]
    count = int(max(1, min(work / operations, 2e7 / (shape[0] * max(shape[2], 1)), 20000)))
    best = dict.fromkeys(workers, 0.0)
    for _ in range(turns):
        for name, worker in list(workers.items()):
            try:
                seconds = worker.call("seconds", product, *shape, count)
            except WorkerError as error:
                print(f"  left out from now on: {error}", file=sys.stderr)
                del workers[name]
                best.pop(name)
                continue
            best[name] = max(best[name], operations / seconds / 1e9)
            if operations > 1e8:
                time.sleep(PAUSE)
    return best


def bytes_moved(shape: tuple) -> float:
    """Bytes of the three float32 matrices, each moved once."""
    m, k, n = shape
    return 4.0 * (m * k + k * n + m * n)


def draw(path: Path, products: list[dict], peak: dict, title: str) -> None:
    """Draw GFLOP/s of the square products over their size, and the roofline."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    squares = [
        found for found in products
        if found["product"] == "forward" and len(set(found["shape"])) == 1
    ]  # fmt: skip
    if not squares:
        return
    sizes = [found["shape"][0] for found in squares]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for name in squares[0]["gflops"]:
        gflops = [found["gflops"].get(name) for found in squares]
        axes.plot(sizes, gflops, marker="o", label=name)
    roof = peak.get("float32_all")
    if roof:
        axes.axhline(roof, color="black", linewidth=1, label="peak of multiply-adds")
    if "copy_all" in peak:
        line = [2.0 * n**3 / bytes_moved((n, n, n)) * peak["copy_all"] for n in sizes]
        axes.plot(sizes, line, color="grey", linestyle=":", label="memory bandwidth, no caches")
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 1.1 * roof if roof else None)
    axes.set_xticks(sizes, sizes, rotation=45)
    axes.minorticks_off()
    axes.set_xlabel("m = k = n, float32")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def main() -> int:
    """Run the command line; the exit status is 1 if nothing was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", help="some of: " + ", ".join(list(CONTENDERS)[1:]))
    parser.add_argument("--quick", action="store_true", help="a few small products, once: a test")
    parser.add_argument("--time-limit", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.threads < 1:
        parser.error(f"--threads must be at least 1, not {options.threads}")
    chosen = options.peers.split(",") if options.peers else list(CONTENDERS)[1:]
    unknown = set(chosen) - set(CONTENDERS)
    if unknown:
        parser.error(f"--peers: there is no {', '.join(sorted(unknown))}")
    start(options)
    try:
        peak = machine.measure_peak(0.05 if options.quick else 0.4, options.threads)
    except RuntimeError as error:
        print(f"peak not measured: {error}")
        peak = {}
    roof = peak.get("float32_all")
    workers: dict[str, Worker] = {}
    for name, (needs, module, kind, args) in CONTENDERS.items():
        if name != "fastnn" and name not in chosen:
            continue
        if find_spec(needs) is None:
            print(f"left out: {name}, since {needs} is not installed")
            continue
        try:
            arguments = (options.threads, *args)
            workers[name] = Worker(name, module, kind, arguments, time_limit=options.time_limit)
        except WorkerError as error:
            print(f"left out: {error}", file=sys.stderr)
    squares = (16, 64) if options.quick else SQUARES
    cases = [("forward", (n, n, n)) for n in squares]
    for layer in LAYERS[:2] if options.quick else LAYERS:
        cases += [(product, layer) for product in ("forward", "weights", "inputs")]
    turns, work = (1, 1e6) if options.quick else (5, 3e9)
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
    products = []
    print(f"{options.threads} thread{'s' * (options.threads > 1)}, GFLOP/s (percent of the peak)")
    print(f"{'':<28}" + "".join(f"{name:>19}" for name in workers), flush=True)
    try:
        for product, shape in cases:
            found = gflops(workers, product, shape, turns, work)
            products.append({"product": product, "shape": shape, "gflops": found})
            cells = (f"{g:.1f}" + (f" ({g / roof:>3.0%})" if roof else "") for g in found.values())
            label = f"{product:<9}{'x'.join(map(str, shape)):<19}"
            print(label + "".join(f"{cell:>19}" for cell in cells), flush=True)
    except KeyboardInterrupt:
        print("\nstopped: results so far are kept", file=sys.stderr)
    finally:
        for worker in workers.values():
            worker.close()
    name = f"products-{options.threads}"
    report.write(options.output, name, {
        "machine": machine.describe(), "peak": peak, "threads": options.threads,
        "products": products,
    })  # fmt: skip
    title = f"{machine.describe()}; {options.threads} thread{'s' * (options.threads > 1)}"
    draw(options.output / f"{name}.png", products, peak, f"{title}, {date.today()}")
    return int(not products)


if __name__ == "__main__":
    sys.exit(main())
