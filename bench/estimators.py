"""fastnn's MLPClassifier and MLPRegressor beside scikit-learn's, with default parameters.

    python bench/estimators.py                      # everything
    python bench/estimators.py --part fit --table letter --engines numba,c

One hidden layer of 100, batches of 200, Adam, for the same number of epochs, from the same
``random_state``: both draw the same weights and orders, so their last losses must agree. Each
estimator runs in a process of its own and they take turns; the smallest time counts. scikit-learn
runs with its own number of BLAS threads, for which the goals hold, and with one. Data are encoded
by StandardScaler and OneHotEncoder, outside the clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

import machine
import report
from datasets import DATA
from peers import add_common_options, choose_engines, start
from processes import Worker, WorkerError


class Job(NamedTuple):
    """A comparison: a data set, and how the estimators are fitted."""

    table: str
    dtype: str = "float64"
    epochs: int = 1
    sparse: bool = False
    settings: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        words = [self.table, "sparse" if self.sparse else "", self.dtype]
        return " ".join(word for word in words if word)


#: Epochs of a fit, in which scikit-learn takes about a second.
EPOCHS = {"digits": 50, "adult": 4, "letter": 8, "california_housing": 10, "diamonds": 4}
DTYPES = ("float64", "float32")
#: Largest ratios of fastnn's time to scikit-learn's: for each table and for their geometric mean.
FIT_GOALS = {"float64": (1 / 3, 1 / 4.5), "float32": (1 / 4, 1 / 6)}
MNIST_GOALS = {"float64": 1 / 2, "float32": 1 / 3}
GOALS = {"one": 1 / 8, "all": 1 / 3, "lbfgs": 1 / 2, "sparse": 1 / 3, "memory": 1.0}
#: Largest relative difference of the last losses; L-BFGS goes through other sums.
AGREES = {"float64": 1e-6, "float32": 2e-3}
LBFGS_AGREES = 0.05
REFERENCE, ONE_THREAD = "scikit-learn", "scikit-learn, 1 thread"

PARTS = ("fit", "float32-argument", "mnist", "predict", "lbfgs", "sparse", "memory")


class Bench:
    """Runs jobs by all peers in turns, and keeps what was found.

    Attributes
    ----------
    written : list of dict
        One for each line printed.
    missed, wrong : list of str
        Goals that were missed; losses that disagree and peers that failed.
    """

    def __init__(self, options):
        self.quick, self.folder = options.quick, options.data
        self.turns = 1 if options.quick else options.turns
        self._limit = options.time_limit
        self.engines = choose_engines(options.engines)
        self.ways = {REFERENCE: (None,), ONE_THREAD: (None, 1)}
        self.ways |= {f"fastnn {engine}": (engine,) for engine in self.engines}
        if options.quick:
            del self.ways[ONE_THREAD]
        self._workers: dict[str, Worker] = {}
        self.about: dict[str, dict] = {}
        self.written: list[dict] = []
        self.missed: list[str] = []
        self.wrong: list[str] = []

    def peers(self, job: Job, fresh: bool = False) -> dict[str, Worker]:
        """The peers' processes with the data of a job loaded; they stay for the next one."""
        if fresh:
            self.close()
        for name, arguments in self.ways.items():
            if name not in self._workers:
                self._workers[name] = Worker(
                    name, "contenders.estimators", "Estimators", arguments, time_limit=self._limit
                )  # fmt: skip
                self.about[name] = self._workers[name].call("about")
        for worker in self._workers.values():
            what = worker.call("load", self.folder, job.table, job.dtype, job.sparse)
        print(f"\n{job}: {what}", flush=True)
        return dict(self._workers)

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def fit(self, peers: dict[str, Worker], job: Job) -> dict[str, dict]:
        """The least seconds of a fit of each peer, and its last loss."""
        settings = {"max_iter": job.epochs, "tol": 0.0, **dict(job.settings)}
        if dict(job.settings).get("solver") != "lbfgs":
            settings["n_iter_no_change"] = job.epochs + 1
        best: dict[str, dict] = {}
        for worker in peers.values():
            worker.call("fit", 500, settings)  # imports, kernels, threads
        for _ in range(self.turns):
            for name, worker in peers.items():
                found = worker.call("fit", None, settings)
                if name not in best or found["seconds"] < best[name]["seconds"]:
                    best[name] = found
        return best

    def losses_agree(self, job: Job, found: dict[str, dict], within: float) -> None:
        """Note and print which losses differ from scikit-learn's."""
        expected = found[REFERENCE]
        for name, result in found.items():
            gap = abs(result["loss"] / expected["loss"] - 1)
            if not gap <= within or result["epochs"] != expected["epochs"]:
                loss, epochs = (expected[key] for key in ("loss", "epochs"))
                text = (f"{job}: {name} has loss {result['loss']:.8g} after {result['epochs']} "
                        f"epochs, not {loss:.8g} after {epochs}")  # fmt: skip
                print(f"  disagrees: {text}", flush=True)
                self.wrong.append(text)

    def show(self, what: str, found: dict[str, dict], goal: float, unit: float = 1e3) -> None:
        """A line for each peer: its number, and fastnn's as a fraction of scikit-learn's."""
        best = min(found[name]["value"] for name in (REFERENCE, ONE_THREAD) if name in found)
        for name, result in found.items():
            line = f"  {what:<12}{name:<26}{unit * result['value']:>12.4g}"
            if name.startswith("fastnn"):
                ratio = result["value"] / found[REFERENCE]["value"]
                to_best = result["value"] / best
                result |= {"ratio": ratio, "ratio_to_best": to_best}
                line += f"   1/{1 / ratio:<6.3g} (of the faster: 1/{1 / to_best:.3g})"
                line += self.judge(f"{what} of {name}", ratio, goal)
            print(line, flush=True)
        self.written.append({"what": what, "goal": goal, "peers": found})

    def judge(self, what: str, ratio: float, goal: float) -> str:
        """Whether a ratio meets a goal, in words; notes it if not."""
        if self.quick:
            return ""
        if ratio > goal:
            self.missed.append(f"{what}: 1/{1 / ratio:.3g}, goal 1/{1 / goal:.3g}")
        return f"  {'met' if ratio <= goal else 'MISSED'}: goal 1/{1 / goal:.3g}"

    def mean(self, dtype: str, ratios: dict[str, list[float]]) -> None:
        """The geometric mean of the ratios of each engine."""
        for name, values in ratios.items():
            mean = statistics.geometric_mean(values)
            judged = self.judge(f"mean of fits in {dtype} of {name}", mean, FIT_GOALS[dtype][1])
            print(f"  {name}, {dtype}: geometric mean of {len(values)} tables 1/{1 / mean:.3g}"
                  f"{judged}", flush=True)  # fmt: skip
            self.written.append({"what": f"mean {dtype}", "peer": name, "ratio": mean})


def _values(found: dict[str, dict]) -> dict[str, dict]:
    return {name: {**result, "value": result["seconds"]} for name, result in found.items()}


def run_fits(bench: Bench, tables: list[str]) -> None:
    """Fits of all tables in both types, and predictions of what was fitted in float64."""
    for dtype in DTYPES:
        ratios: dict[str, list[float]] = {}
        for table in tables:
            job = Job(table, dtype, 2 if bench.quick else EPOCHS[table])
            peers = bench.peers(job)
            found = _values(bench.fit(peers, job))
            bench.losses_agree(job, found, AGREES[dtype])
            bench.show("fit, ms", found, FIT_GOALS[dtype][0])
            for name, result in found.items():
                if "ratio" in result:
                    ratios.setdefault(name, []).append(result["ratio"])
        bench.mean(dtype, ratios)


def run_float32_argument(bench: Bench, tables: list[str]) -> None:
    """fastnn's fits of float64 rows with dtype="float32", and their scores."""
    for table in tables:
        job = Job(table, epochs=2 if bench.quick else 5 * EPOCHS[table])
        peers = bench.peers(job)
        for name, worker in peers.items():
            settings = {"max_iter": job.epochs, "tol": 0.0, "n_iter_no_change": job.epochs + 1}
            lines = [("float64", settings)]
            if name.startswith("fastnn"):
                lines.append(("float32", {**settings, "dtype": "float32"}))
            elif name == ONE_THREAD:
                continue
            for dtype, chosen in lines:
                seconds = worker.call("fit", None, chosen)["seconds"]
                score = worker.call("score")
                print(f"  {name:<16}dtype {dtype}{1e3 * seconds:>12.4g} ms   test score "
                      f"{score:.4f}", flush=True)  # fmt: skip
                bench.written.append({"what": f"score of {table}, dtype {dtype}",
                                      "peer": name, "score": score})  # fmt: skip


def run_mnist(bench: Bench) -> None:
    """MNIST with one hidden layer of 100."""
    for dtype in DTYPES:
        job = Job("mnist", dtype, 1)
        peers = bench.peers(job)
        found = _values(bench.fit(peers, job))
        bench.losses_agree(job, found, AGREES[dtype])
        bench.show("fit, ms", found, MNIST_GOALS[dtype])


def run_predictions(bench: Bench, tables: list[str]) -> None:
    """``predict`` of one row and of all."""
    for table in tables:
        job = Job(table)
        peers = bench.peers(job)
        bench.fit(peers, job)
        for what, rows, calls, goal, unit in (
            ("1 row, us", 1, 300, GOALS["one"], 1e6), ("all, ms", None, 10, GOALS["all"], 1e3)
        ):  # fmt: skip
            least = dict.fromkeys(peers, float("inf"))
            for _ in range(bench.turns):
                for name, worker in peers.items():
                    seconds = worker.call("predict", rows, 3 if bench.quick else calls)
                    least[name] = min(least[name], seconds)
            bench.show(what, {name: {"value": s} for name, s in least.items()}, goal, unit)


def run_lbfgs(bench: Bench, tables: list[str]) -> None:
    """Some iterations of L-BFGS on all rows."""
    for table in tables:
        job = Job(table, epochs=3 if bench.quick else 20, settings=(("solver", "lbfgs"),))
        peers = bench.peers(job)
        found = _values(bench.fit(peers, job))
        bench.losses_agree(job, found, LBFGS_AGREES)
        bench.show("lbfgs, ms", found, GOALS["lbfgs"])


def run_sparse(bench: Bench, table: str) -> None:
    """A CSR matrix."""
    for dtype in DTYPES:
        job = Job(table, dtype, 2 if bench.quick else EPOCHS[table], sparse=True)
        peers = bench.peers(job)
        found = _values(bench.fit(peers, job))
        bench.losses_agree(job, found, AGREES[dtype])
        bench.show("sparse, ms", found, GOALS["sparse"])


def run_memory(bench: Bench, tables: list[str]) -> None:
    """The peak of the memory of a fit, in a fresh process each."""
    for table in tables:
        job = Job(table)
        peers = bench.peers(job, fresh=True)
        peers.pop(ONE_THREAD, None)
        found = {name: worker.call("memory", 2) for name, worker in peers.items()}
        for name, result in found.items():
            result["value"] = max(result["fit"], 1_000_000)  # less is within the allocator's slack
            print(f"  {name}: process with data and libraries {result['process'] / 1e6:.0f} MB")
        bench.show("fit, MB", found, GOALS["memory"], 1e-6)


def main() -> int:
    """Run the command line; the exit status is 1 if losses disagree or a peer fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    parser.add_argument("--table", action="append", choices=EPOCHS, help="only this one")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one")
    parser.add_argument("--turns", type=int, default=7, help="measured fits (default 7)")
    add_common_options(parser)
    options = parser.parse_args()
    start(options)
    bench = Bench(options)
    tables, others = options.table or list(EPOCHS), True
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
        tables, others = ["digits"], False
    elif not options.data.is_dir():
        print(f"{options.data} is not there: only digits, which scikit-learn has")
        tables, others = ["digits"], False
    parts = {
        "fit": lambda: run_fits(bench, tables),
        "float32-argument": lambda: run_float32_argument(bench, tables),
        "mnist": lambda: others and run_mnist(bench),
        "predict": lambda: run_predictions(bench, tables),
        "lbfgs": lambda: run_lbfgs(bench, tables),
        "sparse": lambda: run_sparse(bench, "adult" if others else "digits"),
        "memory": lambda: run_memory(bench, tables),
    }
    for part in options.part or PARTS:
        try:
            parts[part]()
        except WorkerError as error:
            print(f"  {error}", file=sys.stderr)
            bench.wrong.append(str(error))
            bench.close()
    bench.close()
    report.print_about({name: {0: about} for name, about in bench.about.items()})
    if not bench.quick:
        print(f"\n{len(bench.missed)} goals missed", *bench.missed, sep="\n  ")
    report.write(options.output, "estimators", {
        "machine": machine.describe(), "lines": bench.written, "missed": bench.missed,
        "wrong": bench.wrong,
    })  # fmt: skip
    return int(bool(bench.wrong))


if __name__ == "__main__":
    sys.exit(main())
