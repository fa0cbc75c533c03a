"""An epoch of training in fastnn, scikit-learn, PyTorch and JAX, on the same work.

Every peer runs in its own process, started without variables that change threads or kernels. All
get the same rows, initial weights and row order. PyTorch, JAX and scikit-learn try one thread and
all cores in two warm-up epochs and keep the faster. Then the peers take turns, one epoch each, and
the smallest time is reported. A peer whose losses differ from the others' is named and left out.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import machine
import report
from processes import Worker, WorkerError
from workloads import WORKLOADS, Workload

from fastnn import engines

#: Largest relative difference between the losses of peers that compute the same.
TOLERANCE = 1e-3
#: Seconds between turns, so that the threads of the last peer stop spinning.
PAUSE = 0.05


@dataclass
class Peer:
    """A library and its processes, one for each number of threads that it tries."""

    name: str
    module: str
    needs: tuple[str, ...]
    threads: list[int]
    args: tuple = ()
    time_limit: float = 120.0
    kind: str = "Trainer"
    about: dict[int, dict] = field(default_factory=dict)
    _workers: dict[int, Worker] = field(default_factory=dict)

    def load(self, workload: Workload) -> list[int]:
        """Load a workload; returns the numbers of threads for which that succeeded."""
        return [n for n in self.threads if self.ask(n, "load", workload, lost=False)[0]]

    def ask(self, threads: int, method: str, *args, lost=None):
        """(True, the answer of a process), or (False, `lost`) after a line on stderr."""
        try:
            if threads not in self._workers:
                self._workers[threads] = Worker(
                    self.name, self.module, self.kind, (threads, *self.args),
                    time_limit=self.time_limit,
                )  # fmt: skip
                self.about[threads] = self._workers[threads].call("about")
            return True, self._workers[threads].call(method, *args)
        except WorkerError as error:
            self._workers.pop(threads, None)
            print(f"  {error}", file=sys.stderr)
            return False, lost

    def close(self) -> None:
        """End all its processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


def make_peers(wanted: list[str] | None, engine_names: list[str], quick: bool, time_limit: float,
               kind: str = "Trainer") -> list[Peer]:  # fmt: skip
    """The peers that are wanted and installed; a line names each that is not installed."""
    n = machine.cores()
    tried = [1] if quick or n == 1 else [1, n]
    ours = [Peer(f"fastnn {name}", "use_fastnn", (), [n], (name,)) for name in engine_names]
    others = {
        "scikit-learn": Peer("scikit-learn", "use_sklearn", ("sklearn",), tried),
        "torch": Peer("PyTorch", "use_torch", ("torch",), tried),
    }
    if kind == "Trainer":
        others["jax"] = Peer("JAX", "use_jax", ("jax", "jaxlib"), tried)
    else:
        others["onnxruntime"] = Peer("ONNX Runtime", "use_onnx", ("onnx", "onnxruntime"), tried)
        others["threadpoolctl"] = Peer("NumPy by hand", "use_numpy", ("threadpoolctl",), tried)
    names = {"pytorch": "torch", "sklearn": "scikit-learn", "numpy": "threadpoolctl"}
    keys = [names.get(name.lower(), name.lower()) for name in wanted or others]
    unknown = [name for name in keys if name not in (*others, "fastnn")]
    if unknown:
        raise SystemExit(
            f"no peer {', '.join(unknown)}: choose from {', '.join(others)} (fastnn always runs)"
        )
    found = []
    for key, peer in [*((None, peer) for peer in ours), *others.items()]:
        if key not in (None, *keys):
            continue
        missing = [name for name in peer.needs if find_spec(name) is None]
        if missing:
            print(f"left out: {peer.name}, since {', '.join(missing)} is not installed")
            continue
        peer.module = f"contenders.{peer.module}"
        peer.kind, peer.time_limit = kind, time_limit
        found.append(peer)
    return found


def choose_engines(text: str | None) -> list[str]:
    """Engines by name; by default all that can run here except the slow reference."""
    available = list(engines.available())
    if text is None:
        return [name for name in available if name != "numpy"] or available
    names = text.split(",")
    unknown = [name for name in names if name not in available]
    if unknown:
        raise SystemExit(f"no engine {', '.join(unknown)} here: choose from {', '.join(available)}")
    return names


def compare(workload: Workload, peers: list[Peer], epochs: int) -> dict[str, dict]:
    """Train with every peer in turn.

    Returns
    -------
    dict
        For each peer without an error: its ``threads``, and lists of the ``seconds`` of each
        measured epoch, of the ``whole`` call where it is timed, and of the ``loss`` of all epochs.
    """
    chosen = warm_up(workload, peers)
    for number in range(2, 2 + epochs):
        take_turns(peers, chosen, number)
    return chosen


def warm_up(workload: Workload, peers: list[Peer]) -> dict[str, dict]:
    """Load a workload and train for two epochs; what :func:`compare` returns, without times."""
    chosen = {}
    for peer in peers:
        trials = {}
        for threads in peer.load(workload):
            answers = []
            for number in range(2):
                good, answer = peer.ask(threads, "epoch", number)
                if not good:
                    break
                answers.append(answer)
            else:
                trials[threads] = answers
            time.sleep(PAUSE)
        if trials:
            best = min(trials, key=lambda n: trials[n][1]["seconds"])
            losses = [answer["loss"] for answer in trials[best]]
            chosen[peer.name] = {"threads": best, "loss": losses, "seconds": [], "whole": []}
    return chosen


def take_turns(peers: list[Peer], chosen: dict[str, dict], number: int) -> None:
    """One epoch of every peer; one that fails is left out from now on."""
    for peer in peers:
        if peer.name not in chosen:
            continue
        mine = chosen[peer.name]
        good, answer = peer.ask(mine["threads"], "epoch", number)
        if not good:
            del chosen[peer.name]
            continue
        for key, value in answer.items():
            mine[key].append(value)
        time.sleep(PAUSE)


def disagreements(results: dict[str, dict], tolerance: float = TOLERANCE) -> dict[str, str]:
    """The peers whose losses differ from the others', with a message for each."""
    found = {}
    for name, mine in results.items():
        others = [other["loss"] for key, other in results.items() if key != name]
        if not others:
            continue
        # The median of all; of two peers, the other one: both disagree then.
        voters = others if len(others) == 1 else [*others, mine["loss"]]
        for epoch, (loss, *rest) in enumerate(zip(mine["loss"], *voters, strict=True)):
            finite = [value for value in rest if math.isfinite(value)]
            median = statistics.median(finite) if finite else math.nan
            gap = abs(loss - median) / max(abs(median), 1e-30)
            if not gap <= tolerance:
                found[name] = (
                    f"{name} disagrees and is left out: loss {loss:.6g} in epoch {epoch}, others "
                    f"{median:.6g}, relative difference {gap:.1e} (allowed {tolerance:g})"
                )
                break
    return found


def run(workload: Workload, peers: list[Peer], epochs: int) -> dict:
    """Compare on one workload; a peer that disagrees is named and left out."""
    results = compare(workload, peers, epochs)
    wrong = disagreements(results)
    for line in wrong.values():
        print(f"  {line}")
    if not results:
        print("  every peer failed")
    elif len(results) == 1:
        print("  only one peer ran: nothing to compare its losses with")
    measured = {}
    for name, result in results.items():
        if name not in wrong:
            seconds = min(result["seconds"])
            measured[name] = result | {
                "us_per_step": 1e6 * seconds / workload.steps,
                "gflops": 1e-9 * workload.flops * workload.steps / seconds,
            }
            if result["whole"]:
                measured[name]["whole_us_per_step"] = 1e6 * min(result["whole"]) / workload.steps
    return {"workload": workload.name, "title": str(workload), "dtype": workload.dtype,
            "rows": workload.rows, "peers": measured, "disagreed": wrong}  # fmt: skip


def measure_peak(quick: bool) -> dict:
    """The measured peak of the machine, or an empty dict after a line with the reason."""
    try:
        peak = machine.measure_peak(0.05 if quick else 0.4)
    except RuntimeError as error:
        print(f"peak not measured: {error}")
        return {}
    print(
        f"peak: {peak['float32_one']:.0f} GFLOP/s float32 on one core, {peak['float32_all']:.0f} "
        f"on all; float64 {peak['float64_one']:.0f} and {peak['float64_all']:.0f}; "
        f"copying {peak['copy_all']:.1f} GB/s read and written"
    )
    times = peak["float32_all"] / peak["float32_one"]
    if times < 0.8 * machine.cores():
        print(f"all cores together reach only {times:.1f} times the peak of one: they share "
              "hardware, or other programs run, and then all numbers here are wrong")  # fmt: skip
    return peak


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """The options that peers.py and predict.py share."""
    parser.add_argument("--peers", help="only fastnn and these, e.g. scikit-learn,jax")
    parser.add_argument("--engines", help="fastnn's engines, e.g. numba,c (default: the fast ones)")
    parser.add_argument("--quick", action="store_true", help="everything once, on less: a test")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results"),
                        help="folder of the JSON and PNG (default bench/results)")  # fmt: skip
    parser.add_argument("--time-limit", type=float, default=120.0, metavar="SECONDS",
                        help="for each answer of a peer")  # fmt: skip


def start(options) -> None:
    """Make the output folder, clean the environment and describe the machine."""
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"cannot write to {options.output}: {error.strerror}") from None
    removed = machine.clean_environment()
    print(machine.describe())
    if removed:
        print(f"removed from the environment: {', '.join(removed)}")
    if machine.cores() == 1:
        print("one core: all run in one thread")


def main() -> int:
    """Run the command line; the exit status is 1 if a workload has no result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="only this one")
    parser.add_argument("--epochs", type=int, default=5, help="measured epochs (default 5)")
    add_common_options(parser)
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")
    start(options)
    peers = make_peers(
        options.peers and options.peers.split(","), choose_engines(options.engines),
        options.quick, options.time_limit,
    )  # fmt: skip
    peak = measure_peak(options.quick)
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
    print("us/step: the smallest of the measured epochs; of peak: of all cores; fastnn takes: the "
          "time of its first engine as a fraction of the peer's")  # fmt: skip
    results = []
    try:
        for name in options.workload or WORKLOADS:
            workload = WORKLOADS[name].shortened() if options.quick else WORKLOADS[name]
            print(f"\n{name}: {workload}, {workload.rows} rows, {workload.steps} steps", flush=True)
            results.append(run(workload, peers, 1 if options.quick else options.epochs))
            if results[-1]["peers"]:
                report.print_table(results[-1], peak)
    except KeyboardInterrupt:
        print("\nstopped: results so far are kept", file=sys.stderr)
    finally:
        for peer in peers:
            peer.close()
    about = {peer.name: peer.about for peer in peers}
    report.print_about(about)
    report.write(options.output, "peers", {
        "machine": machine.describe(), "peak": peak, "quick": options.quick,
        "peers": about, "workloads": results,
    })  # fmt: skip
    report.draw(options.output / "peers.png", results, machine.describe())
    empty = Counter(not result["peers"] for result in results)[True]
    return int(bool(empty) or not results)


if __name__ == "__main__":
    sys.exit(main())
