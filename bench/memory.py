"""The memory that a fit allocates, compared with the memory that it needs.

    python bench/memory.py

Each network is trained for one epoch with Adam in its own process. Before, the process has made the
data and fitted a tiny network; what its peak of resident memory grows from there is compared with

    parameters x (3 + optimizer slots) + workspace of one batch + packing buffers of each thread

where 3 stands for the parameters, their gradient and a snapshot of the parameters at the start of
the epoch, to which a fit returns if it diverges. The exit status is 1 if a fit took more than 1.15
times that.
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
#: Largest ratio of memory that a fit allocates to memory that it needs.
TOLERANCE = 1.15


def peak() -> int:
    """Peak of the resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(widths: tuple, batch_size: int) -> dict[str, int]:
    """Bytes that a fit allocated (``fit``), and what it needs.

    ``vectors`` are parameters, gradient, slots and snapshot; ``batch`` is the workspace of a batch
    and ``packing`` the packing buffers.
    """
    from fastnn import Adam, Dense, Sequential, get_num_threads, losses, run
    from fastnn.engines.workspace import Workspace
    from fastnn.tables import PACK_BYTES, SLOTS, Rule
    from fastnn.update import Update

    X = np.random.default_rng(0).standard_normal((4 * batch_size, widths[0]), np.float32)
    y = np.arange(len(X)) % widths[-1]

    def network(sizes):
        return Sequential([*(Dense(n, "relu") for n in sizes), Dense(widths[-1])])

    network([8, 30]).fit(X, y, epochs=1, batch_size=batch_size, progress=False)
    before = peak()
    net = network(widths[1:-1])
    net.fit(X, y, epochs=1, batch_size=batch_size, progress=False)
    found = peak() - before
    plan, n_slots = net.lower(losses.get("cross_entropy")), SLOTS[Rule.adam]
    rows = run.piece_rows(plan, batch_size)
    state = np.zeros(plan.n_state, net.dtype)
    ws = Workspace(plan, net.flat_params, state, rows, Update.of(plan, Adam()), batch_size)
    return {
        "fit": found,
        "vectors": net.flat_params.nbytes * (3 + n_slots),
        "batch": sum(array.nbytes for array in ws.temporary()),
        "packing": PACK_BYTES * get_num_threads(),
    }


def main() -> int:
    """Print a line for each network; the exit status is 1 if one is above the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="only the smallest network: a test")
    options = parser.parse_args()
    if options.network:
        print(json.dumps(measure(*NETWORKS[options.network])))
        return 0
    parts = ("vectors", "batch", "packing")
    heads = "".join(f"{head:>9}" for head in ("fit", *parts))
    print(f"{'MB':<32}{heads}{'fit / needed':>15}")
    worst = 0.0
    for name in list(NETWORKS)[:1] if options.quick else NETWORKS:
        command = [sys.executable, __file__, "--network", name]
        for _ in range(2):  # the first run fills the kernel cache: compiling takes memory too
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found = json.loads(done.stdout)
        ratio = found["fit"] / sum(found[part] for part in parts)
        cells = "".join(f"{found[key] / 1e6:>9.1f}" for key in ("fit", *parts))
        print(f"{name:<32}{cells}{ratio:>15.2f}", flush=True)
        worst = max(worst, ratio)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
