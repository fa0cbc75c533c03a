"""Does fastnn with all cores ever lose against one thread? Both in turns, idle and beside a load.

    python bench/threads.py                       # fast engines, all workloads, all cores
    python bench/threads.py --engines c --workload table-200 --busy 2
    python bench/threads.py --together            # two fits at once as well

One process fits two networks that are equal but for the number of threads: a turn of one in one
thread, a turn of the other in several, so that a change in the machine's speed affects both. Each
keeps its network, and so whatever its fits have learned about their own speed. A second pass
repeats that beside processes that only compute (``--busy``). The clock is that of
``history["seconds"]``, as in the other tools: it excludes the checks of ``fit``, which need one
thread in both. Losses and parameters of both must be equal, bit for bit.

``--together`` adds a pass in which two fits run at once in two Python threads, in turns with two
others one after another; all may use all cores. Its clock is that of the wall.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import machine
import report
from contenders.use_fastnn import Trainer
from peers import Peer, choose_engines, start
from workloads import THREADED, WORKLOADS, Workload

import fastnn

#: Seconds of a turn in one thread: long against a wake-up, short against a change of speed.
TURN_SECONDS = 0.05
#: Seconds of the measured turns of a workload, and their smallest number without --rounds.
SECONDS, LEAST_ROUNDS = 2.0, 7
#: Rounds before those that are measured.
WARM_UP = 3
#: Operations of the trial that chooses the rows and epochs of a turn.
TRIAL_FLOPS = 5e8

#: Smallest ratio that is no loss: idle, beside busy processes, and of two fits at once.
IDLE_GOAL, BUSY_GOAL, TOGETHER_GOAL = 0.97, 0.9, 0.9
#: Smallest ratios on an idle machine from these us/step in one thread.
GAIN_GOALS = ((2000, 1.85), (1000, 1.7), (150, 1.2))

ALL = WORKLOADS | THREADED

#: A process that computes until its parent, of which it gets the id, is gone or ends it.
BUSY_CODE = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1000000):
        pass
"""


def cores_of_others(began: float, seconds: float | None) -> float | None:
    """Cores that other processes took since then, when they had run so many seconds; or None."""
    now = machine.seconds_of_others()
    if seconds is None or now is None:
        return None
    return (now - seconds) / (time.perf_counter() - began)


class Turns:
    """Two networks in one process, one for one thread and one for `threads`."""

    def __init__(self, threads: int, engine: str):
        self.threads, self.engine = threads, engine
        self.trainers = {n: Trainer(n, engine) for n in (1, threads)}

    def about(self) -> dict:
        """Version and engine."""
        return self.trainers[1].about()

    def size(self, workload: Workload) -> tuple[int, int]:
        """Rows of an epoch and epochs of a turn that take about TURN_SECONDS in one thread."""
        batches = int(min(workload.steps, max(1, TRIAL_FLOPS // workload.flops)))
        fastnn.set_num_threads(1)
        trainer = self.trainers[1]
        trainer.load(replace(workload, rows=batches * workload.batch_size))
        trainer.epoch(0)  # the kernels are compiled or loaded
        seconds = min(trainer.epoch(number)["seconds"] for number in (1, 2, 3)) / batches
        steps = int(min(workload.steps, max(1, TURN_SECONDS // seconds)))
        return steps * workload.batch_size, max(1, round(TURN_SECONDS / (steps * seconds)))

    def compare(self, workload: Workload, epochs: int, rounds: int | None, warm_up: int) -> dict:
        """Take turns.

        Returns
        -------
        dict
            ``us``, lists of us/step of the measured turns by number of threads; ``used``, what the
            last fit in several threads says about the threads that ran; ``others``, cores that
            other processes took meanwhile, or None; ``same``, whether losses and parameters are
            equal bit for bit.
        """
        for trainer in self.trainers.values():
            trainer.load(workload)
        us: dict[int, list[float]] = {n: [] for n in self.trainers}
        losses: dict[int, list[float]] = {n: [] for n in self.trainers}
        steps = epochs * workload.steps
        measured, number = 0.0, 0
        began, others = time.perf_counter(), machine.seconds_of_others()
        least = warm_up + (rounds or LEAST_ROUNDS)
        while number < least or (rounds is None and measured < SECONDS):
            # Who comes second in one round comes first in the next.
            for n in sorted(self.trainers, reverse=bool(number % 2)):
                fastnn.set_num_threads(n)
                answers = [self.trainers[n].epoch(number) for _ in range(epochs)]
                losses[n] += [answer["loss"] for answer in answers]
                seconds = sum(answer["seconds"] for answer in answers)
                if number >= warm_up:
                    us[n].append(1e6 * seconds / steps)
                    measured += seconds
            number += 1
        one, several = (self.trainers[n].net for n in sorted(self.trainers))
        same_losses = repr(losses[1]) == repr(losses[max(losses)])  # NaN equals NaN
        return {
            "us": us,
            "used": getattr(several.history, "threads_used", "-"),
            "others": cores_of_others(began, others),
            "same": same_losses and one.flat_params.tobytes() == several.flat_params.tobytes(),
        }

    def compare_together(
        self, workload: Workload, epochs: int, rounds: int | None, warm_up: int
    ) -> dict:
        """Two fits one after another and two at once, in turns.

        Returns
        -------
        dict
            ``apart`` and ``together``, lists of wall seconds of the measured turns; ``used``, the
            threads in which the last fits at once ran; ``others``, as in :meth:`compare`;
            ``same``, whether all four networks are equal bit for bit.
        """
        fastnn.set_num_threads(self.threads)
        pairs = {
            kind: [Trainer(self.threads, self.engine) for _ in range(2)]
            for kind in ("apart", "together")
        }
        trainers = [trainer for pair in pairs.values() for trainer in pair]
        for trainer in trainers:
            trainer.load(workload)
        seconds: dict[str, list[float]] = {kind: [] for kind in pairs}
        number, began, others = 0, time.perf_counter(), machine.seconds_of_others()
        least = warm_up + (rounds or LEAST_ROUNDS)

        def turn(trainer) -> None:
            for _ in range(epochs):
                trainer.epoch(number)

        while number < least or (rounds is None and sum(map(sum, seconds.values())) < SECONDS):
            for kind in sorted(pairs, reverse=bool(number % 2)):
                with ThreadPoolExecutor(2 if kind == "together" else 1) as pool:
                    turn_began = time.perf_counter()
                    list(pool.map(turn, pairs[kind]))
                    took = time.perf_counter() - turn_began
                if number >= warm_up:
                    seconds[kind].append(took)
            number += 1
        return {
            **seconds,
            "used": [trainer.net.history.threads_used for trainer in pairs["together"]],
            "others": cores_of_others(began, others),
            "same": len({trainer.net.flat_params.tobytes() for trainer in trainers}) == 1,
        }


@contextmanager
def busy_processes(count: int):
    """Context beside `count` processes that only compute; they end with it in any case."""
    command = [sys.executable, "-c", BUSY_CODE, str(os.getpid())]
    found: list[subprocess.Popen] = []
    try:
        for _ in range(count):
            # Ctrl-C reaches this process alone, which ends the others without their tracebacks.
            found.append(subprocess.Popen(command, start_new_session=True))
        if count:
            time.sleep(0.5)  # until they run
        yield
        if any(process.poll() is not None for process in found):
            print("threads: a busy process ended early", file=sys.stderr)
    finally:
        for process in found:
            process.kill()
        for process in found:
            process.wait()


def goal(us_one: float, busy: int) -> float:
    """The ratio that a workload should reach, by its least us/step in one thread."""
    if busy:
        return BUSY_GOAL
    return next((ratio for least, ratio in GAIN_GOALS if us_one >= least), IDLE_GOAL)


def measure(peer: Peer, workload: Workload, epochs: int, busy: int, options) -> dict | None:
    """Measure a workload and print its line; None if its process fails."""
    rounds, warm_up = (1, 1) if options.quick else (options.rounds, WARM_UP)
    good, found = peer.ask(options.threads, "compare", workload, epochs, rounds, warm_up)
    if not good:
        return None
    one, several = found["us"][1], found["us"][options.threads]
    us_one, us_all = statistics.median(one), statistics.median(several)
    result = {
        "engine": peer.args[0], "workload": workload.name, "title": str(workload), "busy": busy,
        "rows": workload.rows, "epochs_of_a_turn": epochs, "threads": options.threads,
        "us_one": us_one, "us_all": us_all, "ratio": us_one / us_all,
        "us_one_min": min(one), "us_all_min": min(several), "ratio_min": min(one) / min(several),
        "goal": goal(min(one), busy), "used": found["used"], "same": found["same"],
        "others": found["others"], "turns_one": one, "turns_all": several,
    }  # fmt: skip
    others = "-" if found["others"] is None else f"{max(0.0, found['others']):.2f}"
    mark = "" if result["ratio"] >= result["goal"] else f"  below {result['goal']}"
    print(f"{peer.args[0]:<7}{workload.name:<13}{us_one:>11.2f}{us_all:>11.2f}{min(one):>11.2f}"
          f"{min(several):>11.2f}{result['ratio']:>8.3f}{result['ratio_min']:>8.3f}{len(one):>7}"
          f"{others:>8}  {found['used']}{'' if options.quick else mark}", flush=True)  # fmt: skip
    if not found["same"]:
        print(f"  {workload.name} ({peer.args[0]}): DIFFERENT BITS in one thread and in "
              f"{options.threads}", flush=True)  # fmt: skip
    return result


def measure_together(peer: Peer, workload: Workload, epochs: int, options) -> dict | None:
    """Measure two fits at once and print a line; None if the process fails."""
    rounds, warm_up = (1, 1) if options.quick else (options.rounds, WARM_UP)
    asked = workload, epochs, rounds, warm_up
    good, found = peer.ask(options.threads, "compare_together", *asked)
    if not good:
        return None
    apart, together = (found[kind] for kind in ("apart", "together"))
    steps = 2e-6 * epochs * workload.steps
    result = {
        "engine": peer.args[0], "workload": workload.name, "title": str(workload),
        "threads": options.threads, "us_apart": statistics.median(apart) / steps,
        "us_together": statistics.median(together) / steps,
        "ratio": statistics.median(apart) / statistics.median(together),
        "ratio_min": min(apart) / min(together), "goal": TOGETHER_GOAL, "used": found["used"],
        "others": found["others"], "same": found["same"], "turns_apart": apart,
        "turns_together": together,
    }  # fmt: skip
    others = "-" if found["others"] is None else f"{max(0.0, found['others']):.2f}"
    mark = "" if options.quick or result["ratio"] >= TOGETHER_GOAL else f"  below {TOGETHER_GOAL}"
    print(f"{peer.args[0]:<7}{workload.name:<13}{result['us_apart']:>11.2f}"
          f"{result['us_together']:>11.2f}{result['ratio']:>8.3f}{result['ratio_min']:>8.3f}"
          f"{len(apart):>7}{others:>8}  {found['used']}{mark}", flush=True)  # fmt: skip
    if not found["same"]:
        print(f"  {workload.name} ({peer.args[0]}): DIFFERENT BITS at once", flush=True)
    return result


def print_head(busy: int, threads: int) -> None:
    """The title and the names of the columns of a pass."""
    beside = f"beside {busy} busy process{'es' * (busy > 1)}" if busy else "idle"
    names = ("1: us/step", f"{threads}: us/step", "1: least", f"{threads}: least")
    print(f"\n{beside}\n{'engine':<7}{'workload':<13}{''.join(f'{name:>11}' for name in names)}"
          f"{'ratio':>8}{'least':>8}{'rounds':>7}{'others':>8}  threads used")  # fmt: skip


def summary(results: list[dict], together: list[dict]) -> str:
    """One line: the smallest ratio of each pass, and every workload below its goal."""
    passes = []
    idle, busy = ([r for r in results if bool(r["busy"]) == busy] for busy in (False, True))
    for name, found in (("idle", idle), ("busy", busy), ("together", together)):
        if not found:
            continue
        least = min(found, key=lambda result: result["ratio"])
        missed = [
            f"{result['workload']} {result['engine']} {result['ratio']:.3f} of {result['goal']}"
            for result in found
            if result["ratio"] < result["goal"]
        ]
        passes.append(
            f"{name}: smallest ratio {least['ratio']:.3f} ({least['workload']} {least['engine']}), "
            f"{len(missed)} of {len(found)} below their goals"
            + (f" ({', '.join(missed)})" if missed else "")
        )
    return "; ".join(passes)


def run(peers: list[Peer], options, results: list[dict], together: list[dict]) -> int:
    """Append the results of the passes to `results` and `together`; returns how many failed."""
    failed = 0
    sized: dict[tuple[str, str], tuple[Workload, int]] = {}
    for busy in (0, options.busy) if options.busy else (0,):
        print_head(busy, options.threads)
        with busy_processes(busy):
            for peer in peers:
                for name in options.workload or ALL:
                    key = peer.name, name
                    if options.quick:
                        sized[key] = ALL[name].shortened(), 1
                    elif key not in sized:  # both passes do the same work
                        good, size = peer.ask(options.threads, "size", ALL[name])
                        if not good:
                            failed += 1
                            continue
                        sized[key] = replace(ALL[name], rows=size[0]), size[1]
                    result = measure(peer, *sized[key], busy, options)
                    if result is None:
                        failed += 1
                    else:
                        results.append(result)
                peer.close()  # the threads of one engine must not wait beside the other's
    if options.together:
        print("\ntwo fits at once\nengine workload       apart: us   at once   ratio   least"
              " rounds  others  threads used")  # fmt: skip
        for peer in peers:
            for name in options.workload or ALL:
                if (peer.name, name) in sized:
                    result = measure_together(peer, *sized[peer.name, name], options)
                    failed += result is None
                    together += [] if result is None else [result]
            peer.close()
    return failed


def main() -> int:
    """Run the command line; the exit status is 1 if a fit failed or its bits differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="compared with one (default: all cores)")
    parser.add_argument("--busy", type=int, default=1, metavar="N",
                        help="processes of the busy pass (default 1; 0: no pass)")  # fmt: skip
    parser.add_argument("--together", action="store_true",
                        help="also two fits at once, in two Python threads")  # fmt: skip
    parser.add_argument("--workload", action="append", choices=ALL, help="only this one")
    parser.add_argument("--rounds", type=int, help="measured turns (default: for 2 s)")
    parser.add_argument("--engines", help="e.g. numba,c (default: the fast ones)")
    parser.add_argument("--quick", action="store_true", help="everything once, on less: a test")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results"),
                        help="folder of the JSON (default bench/results)")  # fmt: skip
    parser.add_argument("--time-limit", type=float, default=120.0, metavar="SECONDS",
                        help="for each workload")  # fmt: skip
    options = parser.parse_args()
    for name, least in (("threads", 2), ("rounds", 1), ("busy", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be at least {least}, not {value}")
    start(options)
    if machine.cores() == 1:
        print("nothing to compare")
        return 0
    options.threads = options.threads or machine.cores()
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
    print(f"us/step: the median turn in 1 and in {options.threads} threads, and the least; ratio: "
          f"time in 1 / in {options.threads}, of the medians and of the least; others: cores that "
          "other processes took")  # fmt: skip
    tried, limit = [options.threads], options.time_limit
    peers = [
        Peer(f"fastnn {name}", "threads", (), tried, (name,), limit, "Turns")
        for name in choose_engines(options.engines)
    ]
    results: list[dict] = []
    together: list[dict] = []
    failed = 0
    try:
        failed = run(peers, options, results, together)
    except KeyboardInterrupt:
        print("\nstopped: results so far are kept", file=sys.stderr)
    finally:
        for peer in peers:
            peer.close()
    print()
    report.write(options.output, "threads", {
        "machine": machine.describe(), "threads": options.threads, "quick": options.quick,
        "peers": {peer.name: peer.about for peer in peers}, "results": results,
        "together": together,
    })  # fmt: skip
    if results and not options.quick:
        print(summary(results, together))
    same = all(result["same"] for result in (*results, *together))
    return int(bool(failed) or not results or not same)


if __name__ == "__main__":
    sys.exit(main())
