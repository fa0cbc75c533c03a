"""What normalisation and dropout cost: fastnn with and without them, and beside its peers.

    python bench/layers.py                      # fast engines, PyTorch and JAX
    python bench/layers.py --engines c --peers jax --workload table-64

Every combination of layers is trained by every peer in processes of its own, one epoch each in
turns, so that a change in the machine's speed affects all; the smallest time is reported. The
masks of dropout differ from library to library, so its losses agree only roughly.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import machine
import report
from peers import (
    TOLERANCE,
    add_common_options,
    choose_engines,
    disagreements,
    make_peers,
    start,
    take_turns,
    warm_up,
)
from workloads import WORKLOADS, Workload

#: Networks, and the largest ratio to their plain step, to PyTorch's and to JAX's step with the
#: same layers.
GOALS = {"digits-512": (1.25, 0.5, 0.8), "table-64": (1.4, 0.06, 0.5)}
#: Largest ratio of dropout alone to the plain step of the wide network.
DROPOUT_GOAL = 1.05
#: Largest relative difference between losses with masks of different generators.
ROUGHLY = 0.05
RATE = 0.2


def variants(base: Workload) -> dict[str, Workload]:
    """The combinations of layers by name."""
    return {
        "plain": base,
        "Dropout": replace(base, dropout=RATE),
        "BatchNorm": replace(base, normalization="batch"),
        "BatchNorm, Dropout": replace(base, normalization="batch", dropout=RATE),
        "LayerNorm, Dropout": replace(base, normalization="layer", dropout=RATE),
    }


def measure(base: Workload, options) -> dict[str, dict]:
    """us/step of every peer for every combination of layers."""
    engines = choose_engines(options.engines)
    wanted = (options.peers or "torch,jax").split(",")
    peers, chosen = {}, {}
    try:
        for name, workload in variants(base).items():
            peers[name] = make_peers(wanted, engines, options.quick, options.time_limit)
            chosen[name] = warm_up(workload, peers[name])
        for number in range(2, 2 + (1 if options.quick else options.epochs)):
            for name in chosen:
                take_turns(peers[name], chosen[name], number)
    finally:
        for found in peers.values():
            for peer in found:
                peer.close()
    measured = {}
    for name, results in chosen.items():
        roughly = "Dropout" in name
        wrong = disagreements(results, ROUGHLY if roughly else TOLERANCE)
        for line in wrong.values():
            print(f"  {name}: {line}")
        measured[name] = {
            peer: 1e6 * min(found["seconds"]) / base.steps
            for peer, found in results.items()
            if peer not in wrong
        }
    return measured


def show(workload: str, measured: dict[str, dict]) -> None:
    """A line for each combination and engine: its time, and its ratios beside the goals."""
    of_plain, of_torch, of_jax = GOALS[workload]
    for name, times in measured.items():
        goals: dict[str, float | None] = {"plain": None, "PyTorch": None, "JAX": None}
        if "," in name:
            goals = {"plain": of_plain, "PyTorch": of_torch, "JAX": of_jax}
        elif name == "Dropout" and workload == "digits-512":
            goals["plain"] = DROPOUT_GOAL
        for engine in (key for key in times if key.startswith("fastnn")):
            mine = times[engine]
            others = {"plain": measured["plain"].get(engine), **times}
            shown = []
            for other, goal in goals.items():
                if others.get(other) is None or (other == "plain" and name == "plain"):
                    continue
                ratio = mine / others[other]
                mark = "" if goal is None else f" ({'met' if ratio <= goal else 'goal'} {goal:g})"
                shown.append(f"{ratio:.3f} of {other}{mark}")
            print(f"  {name:<20}{engine:<14}{mine:>10.2f} us/step   {', '.join(shown)}", flush=True)


def main() -> int:
    """Run the command line; the exit status is 1 if a combination has no result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", action="append", choices=GOALS, help="only this one")
    parser.add_argument("--epochs", type=int, default=15, help="measured epochs (default 15)")
    add_common_options(parser)
    options = parser.parse_args()
    start(options)
    results = []
    for name in options.workload or GOALS:
        workload = WORKLOADS[name].shortened() if options.quick else WORKLOADS[name]
        print(f"\n{name}: {workload}, {workload.rows} rows, {workload.steps} steps", flush=True)
        measured = measure(workload, options)
        show(name, measured)
        results.append({"workload": name, "title": str(workload), "us_per_step": measured})
    report.write(options.output, "layers", {
        "machine": machine.describe(), "quick": options.quick, "workloads": results,
    })  # fmt: skip
    return int(any(not times for result in results for times in result["us_per_step"].values()))


if __name__ == "__main__":
    sys.exit(main())
