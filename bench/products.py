"""The products of a dense layer over their size, beside OpenBLAS and PyTorch, under the roofline.

Forward is X W, weights Xt dZ, inputs dZ Wt with the transposing that it takes. fastnn and "OpenBLAS
compiled" are called from compiled code, the others from Python. One product after another on the
same matrices; the best of several turns that the contenders take, GFLOP/s and percent of the peak
of so many cores. --threads 2 measures all with two.
"""

from __future__ import annotations

import argparse
import sys
import time
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
    """GFLOP/s of every contender, the best of some turns; a line for one that fails."""
    operations = 2.0 * shape[0] * shape[1] * shape[2]
    count = int(max(1, min(work / operations, 2e7 / (shape[0] * max(shape[2], 1)), 20000)))
    best = dict.fromkeys(workers, 0.0)
    for _ in range(turns):
        for name, worker in list(workers.items()):
            try:
                seconds = worker.call("seconds", product, *shape, count)
            except WorkerError as error:
                print(f"  left out from here on: {error}", file=sys.stderr)
                del workers[name]
                best.pop(name)
                continue
            best[name] = max(best[name], operations / seconds / 1e9)
            if operations > 1e8:
                time.sleep(PAUSE)
    return best


def bytes_moved(shape: tuple) -> float:
    """Bytes of the three matrices, each once."""
    m, k, n = shape
    return 4.0 * (m * k + k * n + m * n)


def draw(path: Path, rows: list[dict], peak: dict, cores: str, title: str) -> None:
    """GFLOP/s of the square products over their size, and the roofline."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    squares = [row for row in rows if row["product"] == "forward" and len(set(row["shape"])) == 1]
    if not squares:
        return
    sizes = [row["shape"][0] for row in squares]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for name in squares[0]["gflops"]:
        axes.plot(sizes, [row["gflops"].get(name) for row in squares], marker="o", label=name)
    roof = peak.get(f"float32_{cores}")
    if roof:
        axes.axhline(roof, color="black", linewidth=1, label="peak of the arithmetic")
    if "copy_all" in peak:
        line = [2.0 * n**3 / bytes_moved((n, n, n)) * peak["copy_all"] for n in sizes]
        axes.plot(sizes, line, color="grey", linestyle=":", label="from memory, not caches")
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 1.1 * roof if roof else None)
    axes.set_xticks(sizes, sizes, rotation=45)
    axes.minorticks_off()
    axes.set_xlabel("rows = columns = depth, float32")
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
    start(options)
    try:
        peak = machine.measure_peak(0.05 if options.quick else 0.4)
    except RuntimeError as error:
        print(f"no peak: {error}")
        peak = {}
    cores = "one" if options.threads == 1 else "all"
    roof = peak.get(f"float32_{cores}")
    chosen = options.peers.split(",") if options.peers else list(CONTENDERS)[1:]
    unknown = set(chosen) - set(CONTENDERS)
    if unknown:
        parser.error(f"--peers: there is no {', '.join(sorted(unknown))}")
    workers: dict[str, Worker] = {}
    for name, (needs, module, kind, args) in CONTENDERS.items():
        if name != "fastnn" and name not in chosen:
            continue
        if find_spec(needs) is None:
            print(f"{name} is left out: {needs} is not installed")
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
    rows = []
    print(f"{options.threads} thread{'s' * (options.threads > 1)}, GFLOP/s (percent of the peak)")
    print(f"{'':<28}" + "".join(f"{name:>19}" for name in workers), flush=True)
    try:
        for product, shape in cases:
            found = gflops(workers, product, shape, turns, work)
            rows.append({"product": product, "shape": shape, "gflops": found})
            cells = (f"{g:.1f}" + (f" ({g / roof:>3.0%})" if roof else "") for g in found.values())
            label = f"{product:<9}{'x'.join(map(str, shape)):<19}"
            print(label + "".join(f"{cell:>19}" for cell in cells), flush=True)
    except KeyboardInterrupt:
        print("\nstopped: what was measured is kept", file=sys.stderr)
    finally:
        for worker in workers.values():
            worker.close()
    name = f"products-{options.threads}"
    report.write(options.output, name, {
        "machine": machine.describe(), "peak": peak, "threads": options.threads, "rows": rows,
    })  # fmt: skip
    draw(options.output / f"{name}.png", rows, peak, cores, machine.describe())
    return int(not rows)


if __name__ == "__main__":
    sys.exit(main())
