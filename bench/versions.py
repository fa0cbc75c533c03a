"""Two versions of fastnn side by side, in one run: is the second as fast as the first?

Install each into a folder of its own and name the folders:

    pip install --no-deps --target /tmp/before git+file://$PWD@main~1
    pip install --no-deps --target /tmp/after .
    python bench/versions.py /tmp/before /tmp/after

Both run in processes of their own that take turns, epoch by epoch, so that a machine that changes
its speed changes it for both. Printed is the smallest time of each and the median of the ratios of
neighbouring epochs: the second version's time divided by the first one's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def work(engine: str) -> None:
    """The worker: answers one line of JSON with another until its input ends."""
    sys.path.insert(0, str(HERE))
    import numpy as np
    from workloads import WORKLOADS, make_data, make_network, make_optimizer

    import fastnn

    fastnn.set_engine(engine)
    workload = net = X = y = None
    for line in sys.stdin:
        task, *arguments = json.loads(line)
        answer: object = None
        if task == "load":
            workload = WORKLOADS[arguments[0]]
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
    """A worker that imports fastnn from a folder."""

    def __init__(self, folder: str, engine: str):
        code = f"import sys; sys.path[:0] = [{folder!r}, {str(HERE)!r}]\n"
        code += f"import versions; versions.work({engine!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *task):
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"a worker ended while it was asked to {task}")
        return json.loads(answer)


def compare(versions, task, rounds: int) -> tuple[list[float], float, bool]:
    """(smallest seconds of each, median ratio, whether both computed the same)."""
    times: list[list[float]] = [[], []]
    same = True
    for number in range(rounds + 1):
        answers = [version.ask(*task) for version in versions]
        same = same and answers[0][1] == answers[1][1]
        if number:  # the first one warms up
            for found, (seconds, _) in zip(times, answers, strict=True):
                found.append(seconds)
    ratios = [after / before for before, after in zip(*times, strict=True)]
    return [min(found) for found in times], statistics.median(ratios), same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path, help="folder with the first version")
    parser.add_argument("after", type=Path, help="folder with the second version")
    parser.add_argument("--engines", default="c,numba")
    parser.add_argument("--workload", action="append", help="name of workloads.py; default: all")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    sys.path.insert(0, str(HERE))
    from workloads import WORKLOADS

    print(f"{'workload':14}{'engine':8}{'before us':>12}{'after us':>12}{'ratio':>8}  same")
    for engine in arguments.engines.split(","):
        versions = [
            Version(str(folder.resolve()), engine) for folder in (arguments.before, arguments.after)
        ]
        for name in arguments.workload or WORKLOADS:
            workload = WORKLOADS[name]
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


if __name__ == "__main__":
    main()
