"""Two versions of fastnn, measured in turns: is the second as fast, and are its results the same?

Install each version into its own folder, then name the folders:

    pip install --no-deps --target /tmp/before git+file://$PWD@main~1
    pip install --no-deps --target /tmp/after .
    python bench/versions.py /tmp/before /tmp/after

The two run in their own processes and take turns, epoch by epoch, so that a change in the machine's
speed affects both. Each line gives the smallest time of each version, in us per training step or
per prediction of one row; the median ratio after / before of neighbouring measurements; and whether
both computed the same losses or logits, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import machine
import numpy as np
from workloads import THREADED, WORKLOADS, make_data, make_network, make_optimizer

HERE = Path(__file__).parent
#: Workloads by name; without names, only those of WORKLOADS are measured.
ALL = WORKLOADS | THREADED


def work(engine: str) -> None:
    """Run in a worker: answer each line of JSON on stdin with one on stdout."""
    import fastnn

    fastnn.set_engine(engine)
    print(json.dumps(fastnn.__file__), flush=True)
    workload = net = X = y = None
    for line in sys.stdin:
        task, *arguments = json.loads(line)
        answer: object = None
        if task == "load":
            workload = ALL[arguments[0]]
            X, y = make_data(workload)
            net = make_network(workload)
        elif task == "epoch":
            history = net.fit(
                X, y, loss=workload.loss, optimizer=make_optimizer(workload), epochs=1,
                batch_size=workload.batch_size, progress=False,
            )  # fmt: skip
            answer = [history["seconds"][-1], history["loss"][-1]]
        elif task == "predict":
            rows, calls = arguments
            some = X[:rows]
            net.predict_proba(some)
            began = time.perf_counter()
            for _ in range(calls):
                net.predict_proba(some)
            answer = [(time.perf_counter() - began) / calls, float(np.sum(net.logits(some)))]
        print(json.dumps(answer), flush=True)


class Version:
    """A worker process that imports fastnn from a folder."""

    def __init__(self, folder: Path, engine: str):
        code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(HERE)!r}]\n"
        code += f"import versions; versions.work({engine!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        imported = Path(self._answer("start"))
        if folder not in imported.parents:
            raise SystemExit(f"{folder} has no fastnn: {imported} was imported instead")

    def ask(self, *task):
        """The worker's answer to a task; a worker that ends is an error."""
        try:
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer is missing too
        return self._answer(" ".join(map(str, task)))

    def _answer(self, task: str):
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"a worker ended during: {task}")
        return json.loads(answer)

    def close(self) -> None:
        """End the worker."""
        self._process.kill()
        self._process.wait()


def compare(versions, task, rounds: int) -> tuple[list[float], float, bool]:
    """(smallest seconds of each, median ratio, whether both computed the same)."""
    times: list[list[float]] = [[], []]
    same = True
    for number in range(rounds + 1):
        answers = [version.ask(*task) for version in versions]
        same = same and answers[0][1] == answers[1][1]
        if number:  # the first round warms up
            for found, (seconds, _) in zip(times, answers, strict=True):
                found.append(seconds)
    ratios = [after / before for before, after in zip(*times, strict=True)]
    return [min(found) for found in times], statistics.median(ratios), same


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path, help="folder with the first version")
    parser.add_argument("after", type=Path, help="folder with the second version")
    parser.add_argument("--engines", default="c,numba", help="default: c,numba")
    parser.add_argument("--workload", action="append", help="only this one of workloads.py")
    parser.add_argument("--rounds", type=int, default=15, help="measurements (default 15)")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    unknown = set(arguments.workload or ()) - set(ALL)
    if unknown:
        parser.error(f"no workload {', '.join(sorted(unknown))}: see workloads.py")
    removed = machine.clean_environment()
    if removed:
        print(f"removed from the environment: {', '.join(removed)}")
    print(machine.describe())
    print(f"{'workload':22}{'engine':8}{'before us':>12}{'after us':>12}{'ratio':>8}  same")
    for engine in arguments.engines.split(","):
        folders = (arguments.before.resolve(), arguments.after.resolve())
        versions = [Version(folder, engine) for folder in folders]
        for name in arguments.workload or WORKLOADS:
            workload = ALL[name]
            tasks = {"": ("epoch",), " one row": ("predict", 1, 2000)}
            for version in versions:
                version.ask("load", name)
            for suffix, task in tasks.items():
                (before, after), ratio, same = compare(versions, task, arguments.rounds)
                unit = 1e6 / (1 if suffix else workload.steps)
                print(
                    f"{name + suffix:22}{engine:8}{before * unit:12.2f}{after * unit:12.2f}"
                    f"{ratio:8.3f}  {same}",
                    flush=True,
                )
        for version in versions:
            version.close()


if __name__ == "__main__":
    main()
