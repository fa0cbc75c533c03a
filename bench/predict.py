"""Prediction of one row and of many, compared with ONNX Runtime, PyTorch, scikit-learn and NumPy.

As for training, every peer runs in its own process in a clean environment, tries one thread and all
cores, and takes turns with the others. Its probabilities must agree with NumPy's in float64.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

import machine
import numpy as np
import report
from contenders.use_numpy import probabilities
from peers import PAUSE, Peer, add_common_options, choose_engines, make_peers, start
from workloads import WORKLOADS, Workload, make_data, make_weights

#: Largest absolute difference from the probabilities of NumPy in float64.
TOLERANCE = 1e-4

NETWORKS = ("table-64", "digits-512")
BULK = 20_000


def best_threads(peer: Peer, workload: Workload, rows: int, expected, count: int) -> int | None:
    """The number of threads with which the peer is fastest, or None if it fails or disagrees.

    The outputs are checked with every number of threads; a line names a peer that disagrees.
    """
    medians = {}
    for threads in peer.load(workload):
        good, found = peer.ask(threads, "outputs", rows)
        if not good:
            continue
        gap = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
        if not gap <= TOLERANCE:
            print(f"  {peer.name} disagrees and is left out: a probability differs by {gap:.1e} "
                  f"(allowed {TOLERANCE:g})")  # fmt: skip
            return None
        good, seconds = peer.ask(threads, "calls", rows, count)
        if good:
            medians[threads] = float(np.median(seconds))
        time.sleep(PAUSE)
    return min(medians, key=medians.get) if medians else None


def compare(workload: Workload, rows: int, peers: list[Peer], turns: int, calls: int) -> dict:
    """Predict with every peer in turn.

    Returns
    -------
    dict
        For each peer that agrees: its ``threads``, the number of ``calls``, and the percentiles
        ``p50`` and ``p99`` of a call in microseconds.
    """
    weights = [(W.astype(float), b.astype(float)) for W, b in make_weights(workload)]
    expected = probabilities(weights, make_data(workload)[0][:rows].astype(float))
    chosen = {peer.name: best_threads(peer, workload, rows, expected, calls) for peer in peers}
    seconds: dict[str, list] = {name: [] for name, threads in chosen.items() if threads}
    for _ in range(turns):
        for peer in peers:
            if peer.name not in seconds:
                continue
            good, found = peer.ask(chosen[peer.name], "calls", rows, calls)
            if not good:
                del seconds[peer.name]
                continue
            seconds[peer.name].append(found)
            time.sleep(PAUSE)
    results = {}
    for name, parts in seconds.items():
        p50, p99 = np.percentile(1e6 * np.concatenate(parts), [50, 99])
        results[name] = {"threads": chosen[name], "calls": turns * calls, "p50": p50, "p99": p99}
    return results


def print_table(results: dict) -> None:
    """A line for each peer."""
    ours = report.first_engine(results)
    print(f"  {'':<14}{'p50 us':>12}{'p99 us':>12}{'fastnn takes':>14}{'threads':>9}{'calls':>8}")
    for name, found in results.items():
        ratio = "-"
        if ours is not None and name != ours:
            ratio = f"{results[ours]['p50'] / found['p50']:.3f}"
        threads = "its own" if name.startswith("fastnn") else str(found["threads"])
        print(f"  {name:<14}{found['p50']:>12.1f}{found['p99']:>12.1f}{ratio:>14}{threads:>9}"
              f"{found['calls']:>8}", flush=True)  # fmt: skip


def main() -> int:
    """Run the command line; the exit status is 1 if a case has no result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_common_options(parser)
    options = parser.parse_args()
    start(options)
    peers = make_peers(
        options.peers and options.peers.split(","), choose_engines(options.engines),
        options.quick, options.time_limit, "Predictor",
    )  # fmt: skip
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
    cases = []
    try:
        for name in NETWORKS:
            for rows in (1, BULK):
                bulk = 200 if options.quick and rows > 1 else rows
                workload = replace(WORKLOADS[name], rows=max(bulk, 256))
                shape = "-".join(map(str, workload.sizes))
                print(f"\n{shape} {workload.activation}, {bulk} row{'s' * (bulk > 1)}", flush=True)
                turns, calls = (1, 5) if options.quick else (10, 500) if bulk == 1 else (15, 2)
                results = compare(workload, bulk, peers, turns, calls)
                if results:
                    print_table(results)
                else:
                    print("  every peer failed")
                cases.append({"network": shape, "rows": bulk, "peers": results})
    except KeyboardInterrupt:
        print("\nstopped: results so far are kept", file=sys.stderr)
    finally:
        for peer in peers:
            peer.close()
    about = {peer.name: peer.about for peer in peers}
    report.print_about(about)
    report.write(options.output, "predict", {
        "machine": machine.describe(), "quick": options.quick, "peers": about, "cases": cases,
    })  # fmt: skip
    return int(not cases or not all(case["peers"] for case in cases))


if __name__ == "__main__":
    sys.exit(main())
