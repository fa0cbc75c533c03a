"""The memory of a fit beside what it has to keep: parameters, gradient, optimizer, one batch.

    python bench/memory.py

Each network is trained for an epoch in a process of its own. Its peak of resident memory, less
that of the same process after the data and a fit of a tiny network, is compared with

    parameters x (2 + slots of the optimizer + 1 snapshot) + workspace of a batch + scratch

where 2 stands for the parameters and their gradient, and the snapshot is that of the start of the
epoch, to which a fit returns if it diverges.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import numpy as np

NETWORKS = {
    "784-512-512-10, batch 128": ((784, 512, 512, 10), 128),
    "784-2048-2048-10, batch 512": ((784, 2048, 2048, 10), 512),
    "2000-4000-4000-10, batch 256": ((2000, 4000, 4000, 10), 256),
}


def peak() -> int:
    """The most bytes that this process has had in memory."""
    kilobytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobytes


def measure(widths: tuple, batch_size: int) -> dict[str, int]:
    """Bytes that a fit took, and bytes that it had to take."""
    from fastnn import Dense, Sequential
    from fastnn.engines import get_num_threads
    from fastnn.engines.tables import PACK_BYTES
    from fastnn.engines.workspace import Workspace

    X = np.random.default_rng(0).normal(size=(4 * batch_size, widths[0])).astype(np.float32)
    y = np.arange(len(X)) % widths[-1]

    def network(sizes):
        return Sequential([*(Dense(n, "relu") for n in sizes), Dense(widths[-1])])

    network([8, 30]).fit(X, y, epochs=1, batch_size=batch_size, progress=False)
    before = peak()
    net = network(widths[1:-1])
    net.fit(X, y, epochs=1, batch_size=batch_size, progress=False)
    found = peak() - before
    ws = Workspace(net.plan, net.flat_params, batch_size, 2)
    kept = net.flat_params.nbytes * (2 + 2 + 1)
    batch = sum(array.nbytes for array in ws.temporary())
    return {"found": found, "kept": kept, "batch": batch, "pack": PACK_BYTES * get_num_threads()}


def main() -> int:
    """Print a line for each network; the exit status is 1 if one took more than 1.15 times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.network:
        print(json.dumps(measure(*NETWORKS[options.network])))
        return 0
    print(f"{'MB':<32}{'found':>8}{'kept':>8}{'batch':>8}{'pack':>8}{'found / rest':>15}")
    worst = 0.0
    for name in NETWORKS:
        command = [sys.executable, __file__, "--network", name]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        ratio = found["found"] / (found["kept"] + found["batch"] + found["pack"])
        cells = "".join(f"{found[key] / 1e6:>8.1f}" for key in ("found", "kept", "batch", "pack"))
        print(f"{name:<32}{cells}{ratio:>15.2f}")
        worst = max(worst, ratio)
    return int(worst > 1.15)


if __name__ == "__main__":
    sys.exit(main())
