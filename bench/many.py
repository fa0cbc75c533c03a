"""Many independent networks on the same rows: ``train_many`` beside other ways to train them.

    python bench/many.py                        # both stacks, all peers
    python bench/many.py --stack narrow --rows 1000 --turns 10

Every peer runs in a process of its own. All networks have the same data, fastnn's initial weights,
Adam and the same number of epochs. The clock starts with the data in the library's own form; in
fastnn the networks are made within it. The peers take turns, and the smallest time is reported.
PyTorch tries one thread and all cores. The losses of some networks must agree when all take the
rows in fastnn's order, and the mean losses of the timed runs must agree roughly.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec

import machine
import report
from peers import TOLERANCE, add_common_options, choose_engines, start
from processes import Worker, WorkerError
from workloads import Workload


@dataclass(frozen=True)
class Stack:
    """So many networks of a workload, with seeds from 0 on."""

    workload: Workload
    count: int
    epochs: int

    def __str__(self) -> str:
        w = self.workload
        return (
            f"{self.count} networks of {'-'.join(map(str, w.sizes))}, batch {w.batch_size}, "
            f"{w.rows} rows, {self.epochs} epochs"
        )


STACKS = {
    "narrow": Stack(Workload("many", (14, 64, 64, 2), "relu", 32, "Adam", 1e-3, 4000), 64, 10),
    "wide": Stack(Workload("many", (100, 384, 384, 1), "relu", 256, "Adam", 1e-3, 8192), 16, 3),
}

#: Largest ratio of the time of train_many to that of a peer.
GOALS = {
    "narrow": {"one after another": 1 / 1.9, "scikit-learn": 1 / 8, "PyTorch vmap": 1 / 6},
    "wide": {"PyTorch vmap": 0.9},
}

#: Networks whose losses are compared, and the largest relative difference of the mean losses of
#: runs with other orders of rows.
CHECKED, ROUGHLY = 2, 0.02


def contenders(engine: str) -> dict[str, tuple[str, tuple[str, ...], list[tuple]]]:
    """The module of each peer, what it needs, and the arguments of its ways to run."""
    cores = machine.cores()
    tried = sorted({1, cores})
    return {
        "train_many": ("many_fastnn", (), [(cores, engine, True)]),
        "one after another": ("many_fastnn", (), [(n, engine, False) for n in tried]),
        "scikit-learn": ("many_sklearn", ("sklearn", "joblib"), [(cores,)]),
        "PyTorch vmap": ("many_torch", ("torch",), [(n,) for n in tried]),
    }


def start_workers(stack: Stack, engine: str, options) -> dict[str, list[Worker]]:
    """The processes of each peer that is installed, with the stack loaded."""
    found: dict[str, list[Worker]] = {}
    wanted = None if options.peers is None else options.peers.lower().split(",")
    for name, (module, needs, ways) in contenders(engine).items():
        if needs and wanted is not None and not {*name.lower().split(), *needs} & {*wanted}:
            continue
        missing = [need for need in needs if find_spec(need) is None]
        if missing:
            print(f"left out: {name}, since {', '.join(missing)} is not installed")
            continue
        for arguments in ways:
            try:
                worker = Worker(
                    name, f"contenders.{module}", "Many", arguments,
                    time_limit=options.time_limit,
                )  # fmt: skip
                worker.call("load", stack)
                found.setdefault(name, []).append(worker)
            except WorkerError as error:
                print(f"  {error}", file=sys.stderr)
    return found


def measure(stack: Stack, engine: str, options) -> dict[str, dict]:
    """The least seconds of each peer, the mean of its losses, and whether they agree."""
    workers = start_workers(stack, engine, options)
    times: dict[str, list[list[float]]] = {name: [[] for _ in ws] for name, ws in workers.items()}
    results: dict[str, dict] = {}
    try:
        losses = {}
        for _ in range(1 if options.quick else options.turns):
            for name, ways in workers.items():
                for way, worker in enumerate(ways):
                    answer = worker.call("run")
                    times[name][way].append(answer["seconds"])
                    losses[name] = answer["loss"]
        for name, ways in workers.items():
            least = [min(seconds) for seconds in times[name]]
            results[name] = {
                "seconds": min(least), "of_each_way": least,
                "loss": statistics.fmean(losses[name]),
                "about": ways[least.index(min(least))].call("about"),
            }  # fmt: skip
            if name not in ("train_many", "one after another"):
                results[name]["checked"] = ways[0].call("check", CHECKED)
        results["train_many"]["losses"] = losses["train_many"]
        if "scikit-learn" in workers:
            workers["scikit-learn"][0].call("end")
    finally:
        for ways in workers.values():
            for worker in ways:
                worker.close()
    return results


def disagreements(results: dict[str, dict], roughly: float) -> list[str]:
    """What is wrong with the losses, in lines."""
    mine, found = results["train_many"], []
    for name, result in results.items():
        gap = abs(result["loss"] / mine["loss"] - 1)
        if not gap <= roughly:
            found.append(f"{name}: mean loss {result['loss']:.5f}, not {mine['loss']:.5f}")
        for seed, loss in enumerate(result.get("checked", ())):
            gap = abs(loss / mine["losses"][seed] - 1)
            if not gap <= TOLERANCE:
                found.append(f"{name}: network {seed} has loss {loss:.6f}, not "
                             f"{mine['losses'][seed]:.6f}")  # fmt: skip
    return found


def show(kind: str, stack: Stack, results: dict[str, dict]) -> bool:
    """A line for each peer; whether all goals are met."""
    mine, met = results["train_many"]["seconds"], True
    each = stack.count * stack.epochs * stack.workload.steps
    for name, result in results.items():
        goal, ratio = GOALS[kind].get(name), mine / result["seconds"]
        mark = ""
        if goal is not None:
            met &= ratio <= goal
            mark = f"  {'met' if ratio <= goal else 'MISSED'}: goal {goal:.3f}"
        print(f"  {name:<20}{result['seconds']:>9.3f} s{1e6 * result['seconds'] / each:>9.2f} "
              f"us/step{ratio:>9.3f}{mark}", flush=True)  # fmt: skip
    return met


def main() -> int:
    """Run the command line; the exit status is 1 if losses disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", action="append", choices=STACKS, help="only this one")
    parser.add_argument("--rows", type=int, help="rows of the data")
    parser.add_argument("--turns", type=int, default=7, help="measured runs (default 7)")
    add_common_options(parser)
    options = parser.parse_args()
    start(options)
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
    written, wrong = [], []
    for kind in options.stack or STACKS:
        stack = STACKS[kind]
        if options.rows:
            stack = replace(stack, workload=replace(stack.workload, rows=options.rows))
        if options.quick:
            rows = 4 * stack.workload.batch_size
            stack = Stack(replace(stack.workload, rows=rows), 4, 2)
        for engine in choose_engines(options.engines):
            print(f"\n{stack}, engine {engine}: seconds, and train_many's as a fraction")
            results = measure(stack, engine, options)
            lines = disagreements(results, 0.5 if options.quick else ROUGHLY)
            print("".join(f"  disagrees: {line}\n" for line in lines), end="")
            wrong += lines
            met = show(kind, stack, results)
            written.append({"stack": str(stack), "engine": engine, "met": met, "peers": results})
    report.write(options.output, "many", {"machine": machine.describe(), "stacks": written})
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
