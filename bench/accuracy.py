"""Time to an accuracy on MNIST and Fashion-MNIST, beside PyTorch, JAX and scikit-learn.

    python bench/accuracy.py --data DIR             # everything: about two hours
    python bench/accuracy.py --part goals --data-set mnist --contender fastnn --seeds 1

DIR contains the folders ``mnist`` and ``fashion_mnist`` of four idx files each; what is absent is
skipped. Parts: `goals`, the seconds of training until a share of the test images is correct;
`best`, the best accuracy within a minute of training; `most`, what fastnn reaches at all within ten
minutes; `textbook`, two classic runs.

All contenders train 784-512-512-10 ("same"), each with what its library has of dropout, batch
normalisation, label smoothing and schedules, and the network that suits it best ("own"); see
recipes.py. Each has a process of its own, and they take turns. fastnn and JAX choose their threads;
PyTorch and scikit-learn try one and all cores before each run, and keep the faster. The clock runs
while an epoch is trained: not while data are read, code is compiled or the test images are
classified.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path

import machine
import pictures
import report
from peers import start
from processes import Worker, WorkerError
from recipes import GOALS, TEXTBOOK, Recipe, chosen

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
#: Contender: its module, and the packages that it needs.
CONTENDERS = {
    "fastnn": ("accuracy_fastnn", ()),
    "PyTorch": ("accuracy_torch", ("torch",)),
    "JAX": ("accuracy_jax", ("jax", "jaxlib")),
    "scikit-learn": ("accuracy_sklearn", ("sklearn", "threadpoolctl")),
}
PARTS, WAYS = ("goals", "best", "most", "textbook"), ("same", "own")
#: The most time of a run, in that of those for the best accuracy, --limit.
MINUTES = {"goals": 5, "best": 1, "most": 10}
#: A curve: for each epoch the seconds until its end, and the accuracy then in percent.
Curve = list[tuple[float, float]]


class Bench:
    """The contenders' processes, and what was found.

    Attributes
    ----------
    results : list of dict
        One for each part, data set, contender and way: the ``curves`` of its seeds.
    wrong : list of str
        What failed.
    """

    def __init__(self, options):
        self.options = options
        self.results: list[dict] = []
        self.about: dict[str, dict] = {}
        self.wrong: list[str] = []
        self.lines: list[str] = []
        self._workers: dict[str, Worker] = {}

    def say(self, line: str = "") -> None:
        """Print a line and keep it for the text of the results."""
        print(line, flush=True)
        self.lines.append(line)

    def worker(self, name: str) -> Worker:
        """The process of a contender."""
        if name not in self._workers:
            arguments = (self.options.engine,) if name == "fastnn" else ()
            self._workers[name] = Worker(
                name, f"contenders.{CONTENDERS[name][0]}", "Accuracy", arguments,
                time_limit=self.options.time_limit,
            )  # fmt: skip
            self.about[name] = self._workers[name].call("about")
        return self._workers[name]

    def load(self, name: str, data: str) -> Worker:
        """Let a contender read a data set."""
        options, worker = self.options, self.worker(name)
        worker.call("load", options.data, data, options.rows, options.held_out)
        return worker

    def failed(self, name: str, error: WorkerError) -> None:
        """Note that a contender failed; it has a new process for its next run."""
        print(f"  {error}", file=sys.stderr)
        self.wrong.append(str(error))
        self._workers.pop(name, None)

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def train(self, name: str, recipe: Recipe, seed: int, limit: float) -> Curve:
        """Train until the recipe's last epoch, or the end of the time."""
        worker = self.worker(name)
        worker.call("start", recipe, seed)
        curve: Curve = []
        seconds = 0.0
        while len(curve) < recipe.epochs and seconds < limit:
            seconds += worker.call("epoch")
            curve.append((seconds, worker.call("accuracy")))
        return curve

    def fill(self, name: str, recipe: Recipe, seed: int, limit: float) -> Curve:
        """Train with as many epochs as fit into the time, by that of the second epoch."""
        worker = self.worker(name)
        worker.call("start", dataclasses.replace(recipe, epochs=2), seed)
        worker.call("epoch")
        epochs = max(1, int(0.97 * limit / worker.call("epoch")))
        return self.train(name, dataclasses.replace(recipe, epochs=epochs), seed, limit)


def run(bench: Bench, part: str, data: str) -> None:
    """All contenders on one data set, in turns; then the table."""
    options = bench.options
    jobs = []
    names, ways = options.contender or installed(), options.way or WAYS
    if part == "most":
        names, ways = [name for name in names if name == "fastnn"], ("most",)
    for name in names:
        for way in ways:
            recipe = chosen(name, way, data)
            if options.quick:
                recipe = dataclasses.replace(recipe, epochs=min(recipe.epochs, 2))
            if not any(job["contender"] == name and job["recipe"] == recipe for job in jobs):
                jobs.append({"contender": name, "way": way, "recipe": recipe, "curves": []})
    for name in {job["contender"]: None for job in jobs}:
        try:
            bench.load(name, data)
        except WorkerError as error:
            bench.failed(name, error)
            jobs = [job for job in jobs if job["contender"] != name]
    train = bench.fill if part == "best" else bench.train
    limit = MINUTES[part] * options.limit
    for seed in range(options.seeds):
        for job in jobs:
            try:
                curve = train(job["contender"], job["recipe"], seed, limit)
            except WorkerError as error:
                bench.failed(job["contender"], error)
                bench.load(job["contender"], data)
                continue
            job["curves"].append(curve)
            print(f"  {job['contender']}, {job['way']}, seed {seed}: {len(curve)} epochs in "
                  f"{curve[-1][0]:.1f} s, best {max(a for _, a in curve):.2f}%",
                  flush=True)  # fmt: skip
    jobs = [{"part": part, "data": data, **job} for job in jobs if job["curves"]]
    show(bench, part, data, jobs)
    bench.results += jobs


def show(bench: Bench, part: str, data: str, jobs: list[dict]) -> None:
    """A line for each contender and way, then fastnn's times as fractions of the others'."""
    goals = GOALS[data]
    if not jobs:
        return
    what = f"the best in {MINUTES[part] * bench.options.limit:g} s"
    if part == "goals":
        what = "time to an accuracy"
    bench.say(f"\n{data}, {what}: seconds of training, median (range) of {bench.options.seeds}")
    heads = "".join(f"{f'to {goal:g}%':>22}" for goal in goals)
    bench.say(f"  {'':<20}{heads}{'best, %':>24}{'after, s':>10}")
    for job in jobs:
        cells = [spread([time_to(curve, goal) for curve in job["curves"]]) for goal in goals]
        best = spread([max(a for _, a in curve) for curve in job["curves"]], 2)
        job["to_best"] = statistics.median(time_to_best(curve) for curve in job["curves"])
        bench.say(f"  {job['contender'] + ', ' + job['way']:<20}"
                  + "".join(f"{cell:>22}" for cell in cells)
                  + f"{best:>24}{job['to_best']:>10.1f}")  # fmt: skip
    for job in jobs:
        bench.say(f"  {job['contender']}, {job['way']}: {job['recipe']}")
    if part == "goals":
        compare(bench, data, jobs)


def compare(bench: Bench, data: str, jobs: list[dict]) -> None:
    """fastnn's least time to each goal beside the other contenders' least."""

    def least(name: str, goal: float) -> float:
        return min((median_time(job, goal) for job in jobs if job["contender"] == name),
                   default=math.inf)  # fmt: skip

    for goal in GOALS[data]:
        ours = least("fastnn", goal)
        for name in CONTENDERS:
            theirs = least(name, goal)
            if name != "fastnn" and math.isfinite(ours) and math.isfinite(theirs):
                bench.say(f"  to {goal:g}% fastnn takes {ours / theirs:.3f} of {name}'s time")
    for job in jobs:
        best = statistics.median(max(a for _, a in curve) for curve in job["curves"])
        ours = least("fastnn", best)
        if job["contender"] == "scikit-learn" and math.isfinite(ours):
            bench.say(f"  to {best:.2f}%, the best of scikit-learn, {job['way']}, fastnn takes "
                      f"{ours / job['to_best']:.3f} of its time")  # fmt: skip


def time_to(curve: Curve, goal: float) -> float:
    """Seconds until the accuracy is reached; infinite if it is not."""
    return next((seconds for seconds, accuracy in curve if accuracy >= goal), math.inf)


def time_to_best(curve: Curve) -> float:
    """Seconds until the curve's highest accuracy."""
    return time_to(curve, max(accuracy for _, accuracy in curve))


def median_time(job: dict, goal: float) -> float:
    """The median of the seeds; infinite if more than half do not reach it."""
    return statistics.median_high(time_to(curve, goal) for curve in job["curves"])


def spread(values: list[float], digits: int = 1) -> str:
    """Median and range as text; "-" stands for what is not reached."""

    def text(value: float) -> str:
        return f"{value:.{digits}f}" if math.isfinite(value) else "-"

    middle = text(statistics.median_high(values))
    if len(values) == 1 or middle == "-":
        return middle
    return f"{middle} ({text(min(values))}..{text(max(values))})"


def textbook(bench: Bench) -> None:
    """The classic runs, by fastnn."""
    options = bench.options
    worker = bench.load("fastnn", "digits" if options.stand_in else "mnist")
    bench.say("\nclassic runs on MNIST, batches of 10, sigmoid: median (range)")
    for key, task in TEXTBOOK.items():
        found = [worker.call("textbook", key, seed, 1 if options.quick else None)
                 for seed in range(options.seeds)]  # fmt: skip
        accuracies = [one["accuracy"] for one in found]
        seconds = [one["seconds"] for one in found]
        bench.say(f"  {task.title:<32}{task.epochs:>4} epochs{spread(seconds):>20} s"
                  f"{spread(accuracies, 2):>26}% (books: about {task.expected:g}%)")  # fmt: skip
        bench.results.append({"part": "textbook", "data": "mnist", "title": task.title,
                              "accuracy": accuracies, "seconds": seconds})  # fmt: skip


def installed() -> list[str]:
    """The contenders whose packages are here; a line names the others."""
    found = []
    for name, (_, needs) in CONTENDERS.items():
        lacking = [package for package in needs if find_spec(package) is None]
        if lacking:
            print(f"left out: {name}, since {', '.join(lacking)} is not installed")
        else:
            found.append(name)
    return found


def draw(path: Path, results: list[dict], title: str) -> None:
    """Accuracy over seconds: one panel for each part and data set, a line for each seed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    panels = list({(job["part"], job["data"]): None for job in results if "curves" in job})
    if not panels:
        print("no picture: nothing to compare")
        return
    figure = Figure(figsize=(6.5 * len(panels), 4.5), layout="constrained")
    colors = {name: f"C{i}" for i, name in enumerate(CONTENDERS)}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        goals = GOALS[panel[1]]
        for job in results:
            if (job["part"], job["data"]) != panel:
                continue
            name, way = job["contender"], job["way"]
            for i, curve in enumerate(job["curves"]):
                axes.plot(
                    *zip(*curve, strict=True), color=colors[name], marker=".", linewidth=1,
                    linestyle="-" if way == "same" else "--", label=None if i else f"{name}, {way}",
                )  # fmt: skip
        for goal in goals:
            axes.axhline(goal, color="black", linewidth=0.5)
        axes.set_ylim(goals[0] - 1.5, goals[-1] + 0.7)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("seconds of training")
        axes.set_ylabel("test images correct, %")
        axes.set_title(f"{panel[1]}, {panel[0]}")
        axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120)
    print(f"written: {path}")


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of both data sets")
    parser.add_argument("--data-set", action="append", choices=pictures.NAMES, help="only this one")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one")
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="only this one")
    parser.add_argument("--way", action="append", choices=WAYS, help="only this one")
    parser.add_argument("--engine", help="fastnn's engine (default: its own choice)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS",
                        help="of training for best; goals have 5, most 10 times it")  # fmt: skip
    parser.add_argument("--rows", type=int, help="only the first training images")
    parser.add_argument("--held-out", action="store_true", help="the last 10,000 training images "
                        "stand for the test images: with these, recipes are chosen")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="everything once, on less: a test")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results"),
                        help="folder of text, JSON and PNG (default bench/results)")  # fmt: skip
    parser.add_argument("--time-limit", type=float, default=900.0, metavar="SECONDS",
                        help="for each answer of a contender")  # fmt: skip
    options = parser.parse_args()
    if options.seeds < 1 or not options.limit > 0:
        parser.error("--seeds must be at least 1 and --limit above 0")
    return options


def main() -> int:
    """Run the command line; the exit status is 1 if a contender fails."""
    options = parse()
    if options.quick:
        options.seeds, options.limit, options.rows = 1, min(options.limit, 1.0), 2000
    names = []
    for name in options.data_set or pictures.NAMES:
        reason = pictures.missing(options.data, name)
        if reason is None:
            names.append(name)
        else:
            print(f"skipped: {name}, since {reason}")
    options.stand_in = options.quick and "mnist" not in names
    if options.stand_in:
        print("--quick: fastnn's digits stand for MNIST")
        names = ["digits"]
    if not names:
        return 0
    start(options)
    bench = Bench(options)
    try:
        for part in options.part or PARTS:
            if part == "textbook":
                if options.stand_in or "mnist" in names:
                    textbook(bench)
                continue
            for name in names:
                run(bench, part, name)
    except WorkerError as error:
        bench.failed("a contender", error)
    except KeyboardInterrupt:
        print("\nstopped: results so far are kept", file=sys.stderr)
    finally:
        bench.close()
    report.print_about({name: {0: about} for name, about in bench.about.items()})
    for job in bench.results:
        if "recipe" in job:
            job["recipe"] = dataclasses.asdict(job["recipe"])
    report.write(options.output, "accuracy", {
        "machine": machine.describe(), "quick": options.quick, "about": bench.about,
        "results": bench.results, "wrong": bench.wrong,
    })  # fmt: skip
    text = options.output / "accuracy.txt"
    text.write_text("\n".join([machine.describe(), *bench.lines]) + "\n")
    print(f"written: {text}")
    draw(options.output / "accuracy.png", bench.results, machine.describe())
    return int(bool(bench.wrong))


if __name__ == "__main__":
    sys.exit(main())
