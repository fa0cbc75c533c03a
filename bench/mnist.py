"""Two goals on MNIST, and the time that scikit-learn takes for the same work.

a) 784-30-10, all sigmoid, batches of 10, SGD, 30 epochs: 95% of the test images correct.
b) 784-128-10, ReLU and softmax, batches of 32, Adam, 5 epochs: 97.5%.

Each library runs in its own process, one after the other, in float32, with the same rows, epochs,
batch size, optimizer and loss. Seconds are those of the whole ``fit``. Everything that is not named
here is fastnn's default.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
from processes import Worker, WorkerError

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "mnist"
FILES = (
    "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A network, its training, and the test accuracy that it must reach."""

    title: str
    hidden: int
    activation: str
    loss: str
    optimizer: str
    lr: float
    batch_size: int
    epochs: int
    goal: float


TASKS = {
    "a": Task("784-30-10 sigmoid, batch 10, SGD", 30, "sigmoid", "binary_cross_entropy",
              "SGD", 0.5, 10, 30, 0.95),
    "b": Task("784-128-10 ReLU, batch 32, Adam", 128, "relu", "cross_entropy",
              "Adam", 0.001, 32, 5, 0.975),
}  # fmt: skip


def read_idx(path: Path) -> np.ndarray:
    """Read an array of bytes in the idx format: two zero bytes, type, rank, sizes, values."""
    with gzip.open(path) as file:
        content = file.read()
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an idx file of bytes")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape.astype(int))


def load(folder: Path, quick: bool):
    """Training and test images as float32 in [0, 1], shape (m, 784), and their labels."""
    images, labels, test_images, test_labels = (read_idx(folder / name) for name in FILES)
    X, X_test = (a.reshape(len(a), -1).astype(np.float32) / 255 for a in (images, test_images))
    rows = 2000 if quick else len(X)
    return X[:rows], labels[:rows].astype(int), X_test, test_labels.astype(int)


class WithFastnn:
    """Trains a task with fastnn."""

    def run(self, key: str, folder: Path, quick: bool) -> dict:
        """Seconds of the fit, test accuracy, and what ran."""
        import fastnn

        task = TASKS[key]
        X, y, X_test, y_test = load(folder, quick)
        optimizer = getattr(fastnn, task.optimizer)(task.lr)

        def fit(rows, epochs):
            layers = [fastnn.Dense(task.hidden, task.activation), fastnn.Dense(10)]
            net = fastnn.Sequential(layers, n_inputs=784)
            began = time.perf_counter()
            net.fit(
                X[:rows], y[:rows], loss=task.loss, optimizer=optimizer, epochs=epochs,
                batch_size=task.batch_size, progress=False,
            )  # fmt: skip
            return net, time.perf_counter() - began

        # The first fit compiles or loads the kernels, which is timed separately.
        _, start = fit(100, 1)
        net, seconds = fit(len(X), 1 if quick else task.epochs)
        accuracy = float((net.predict(X_test) == y_test).mean())
        what = f"fastnn {fastnn.__version__}, engine {net.history.engine}"
        return {"seconds": seconds, "accuracy": accuracy, "what": what, "start": start}


class WithSklearn:
    """Trains a task with scikit-learn's MLPClassifier."""

    def run(self, key: str, folder: Path, quick: bool) -> dict:
        """Seconds of the fit, test accuracy, and what ran."""
        import sklearn
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        task = TASKS[key]
        X, y, X_test, y_test = load(folder, quick)
        # With one-hot (multilabel) targets it has sigmoid outputs and binary cross-entropy.
        targets = np.eye(10, dtype=int)[y] if task.loss == "binary_cross_entropy" else y
        epochs = 1 if quick else task.epochs
        model = MLPClassifier(
            (task.hidden,), activation={"sigmoid": "logistic"}.get(task.activation, "relu"),
            solver=task.optimizer.lower(), alpha=0, batch_size=task.batch_size,
            learning_rate_init=task.lr, max_iter=epochs, tol=0, n_iter_no_change=epochs + 1,
            momentum=0, nesterovs_momentum=False, random_state=0,
        )  # fmt: skip
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, targets)
        seconds = time.perf_counter() - began
        accuracy = float((model.predict_proba(X_test).argmax(axis=1) == y_test).mean())
        what = f"scikit-learn {sklearn.__version__}"
        return {"seconds": seconds, "accuracy": accuracy, "what": what}


CONTENDERS = {"fastnn": "WithFastnn", "scikit-learn": "WithSklearn"}


def run(name: str, key: str, folder: Path, quick: bool, time_limit: float) -> dict | None:
    """Train in a new process; None if that fails, after a line on stderr."""
    try:
        with Worker(name, "mnist", CONTENDERS[name], time_limit=time_limit) as worker:
            return worker.call("run", key, folder, quick)
    except WorkerError as error:
        print(f"  {error}", file=sys.stderr)
        return None


def main() -> int:
    """Run the command line; the exit status is 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the four .gz files")
    parser.add_argument("--task", choices=TASKS, action="append", help="only this one")
    parser.add_argument("--skip-sklearn", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one epoch of 2000 rows, no goals")
    parser.add_argument("--time-limit", type=float, default=1800, help="seconds for each fit")
    options = parser.parse_args()
    missing = [name for name in FILES if not (options.data / name).is_file()]
    if missing:
        print(
            f"mnist: {options.data} lacks {', '.join(missing)}: download the four files of MNIST "
            "and name their folder with --data",
            file=sys.stderr,
        )
        return 2
    machine.clean_environment()
    print(machine.describe())
    missed = False
    for key in options.task or TASKS:
        task = TASKS[key]
        epochs = "1 epoch of 2000 rows" if options.quick else f"{task.epochs} epochs"
        print(f"\n({key}) {task.title}, {epochs}, learning rate {task.lr:g}, {task.loss}")
        results = {}
        for name in CONTENDERS if not options.skip_sklearn else ["fastnn"]:
            found = run(name, key, options.data, options.quick, options.time_limit)
            if found is None:
                missed |= name == "fastnn"
                continue
            results[name] = found
            start = f"   ({found['start']:.2f} s before, for kernels)" if "start" in found else ""
            print(f"  {found['what']:<28} {found['seconds']:8.2f} s   "
                  f"test accuracy {found['accuracy']:.4f}{start}")  # fmt: skip
        if len(results) == 2:
            share = results["fastnn"]["seconds"] / results["scikit-learn"]["seconds"]
            print(f"  fastnn takes {share:.1%} of scikit-learn's time")
        if "fastnn" in results and not options.quick:
            reached = results["fastnn"]["accuracy"] >= task.goal
            missed |= not reached
            print(f"  goal {task.goal:.1%}: {'reached' if reached else 'MISSED'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
