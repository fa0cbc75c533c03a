"""What optimizers reach on real data: all with default rates; Muon, AdamW and EMA on tables.

``python bench/convergence.py defaults`` trains one network on digits, MNIST and three tables with
every optimizer and its default learning rate. The expected score is that of PyTorch's optimizer
with the same hyperparameters in the same number of epochs, less one point; where PyTorch has none,
or only one for matrices, that of PyTorch's Adam.

``python bench/convergence.py tables`` compares AdamW and Muon on all tables, each with the learning
rate and the epoch that are best on the validation rows, and the weights with their moving average
(EMA) of the same run. A benchmark of 15 optimizers on 17 tables (arXiv 2604.15297) found Muon ahead
of AdamW everywhere, and EMA a cheap gain for plain multilayer perceptrons.

Scores are accuracies, for regressions R^2, in percent, of the test rows: means over the seeds,
which choose the split of the rows, the initial weights and the order.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from pathlib import Path

import datasets
import machine
import numpy as np

#: Widths of the hidden layers, rows of a batch and epochs of `defaults`.
HIDDEN, BATCH = (128, 128), 64
EPOCHS = {"digits": 60, "mnist": 10, "adult": 10, "letter": 20, "california_housing": 20}

#: Names for fastnn.optimizers.get, and for torch.optim.
OPTIMIZERS = {
    "sgd": "SGD", "momentum": "SGD", "nesterov": "SGD", "adagrad": "Adagrad",
    "rmsprop": "RMSprop", "adam": "Adam", "amsgrad": "Adam", "adamw": "AdamW", "nadam": "NAdam",
    "adadelta": "Adadelta", "radam": "RAdam", "lion": None, "muon": None,
}  # fmt: skip

#: Learning rates that `tables` chooses from.
RATES = {"adamw": (3e-4, 1e-3, 3e-3, 1e-2), "muon": (1e-3, 3e-3, 1e-2, 3e-2)}
TABLES = (
    "adult", "letter", "titanic", "california_housing", "bike_hourly", "diamonds", "abalone",
)  # fmt: skip
TABLE_HIDDEN, TABLE_BATCH, TABLE_EPOCHS, TABLE_ROWS = (256, 256, 256), 256, 40, 10000


def make_optimizer(name: str):
    """fastnn's optimizer; with momentum 0.9 where the name says so."""
    from fastnn import SGD, Adam, optimizers

    if name in ("momentum", "nesterov"):
        return SGD(momentum=0.9, nesterov=name == "nesterov")
    return Adam(amsgrad=True) if name == "amsgrad" else optimizers.get(name)


def make_network(data, hidden, seed: int):
    """A network of ReLU layers for a data set."""
    from fastnn import Dense, Sequential

    layers = [*(Dense(n, "relu") for n in hidden), Dense(data.n_outputs)]
    return Sequential(layers, n_inputs=data.X.shape[1], seed=seed)


def loss_of(data) -> str:
    """Cross-entropy, or the mean squared error of a regression."""
    return "mse" if data.task == "regression" else "cross_entropy"


def score(data, outputs: np.ndarray, y: np.ndarray) -> float:
    """The accuracy or R^2 of a network's last outputs, in percent."""
    if data.task == "classes":
        return 100 * float((outputs.argmax(axis=1) == y).mean())
    error = np.square(outputs[:, 0] - y).mean()
    return 100 * float(1 - error / np.square(y - y.mean()).mean())


def train(data, name: str, seed: int, epochs: int) -> float:
    """The test score of a network that fastnn trained."""
    net = make_network(data, HIDDEN, seed)
    net.fit(
        data.X, data.y, loss=loss_of(data), optimizer=make_optimizer(name), epochs=epochs,
        batch_size=BATCH, progress=False,
    )  # fmt: skip
    return score(data, net.logits(data.X_test), data.y_test)


def train_with_torch(data, name: str, seed: int, epochs: int) -> float:
    """The same with PyTorch's optimizer, from the same weights, in another order of rows."""
    import torch

    net = make_network(data, HIDDEN, seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the fastest for so small a network
    sizes = [data.X.shape[1], *HIDDEN, data.n_outputs]
    layers: list = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        layer = torch.nn.Linear(n_in, n_out)
        with torch.no_grad():
            layer.weight[:] = torch.from_numpy(net.parameters()[f"{index}.W"].T.copy())
            layer.bias[:] = torch.from_numpy(net.parameters()[f"{index}.b"])
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    ours = make_optimizer(name)
    arguments = {"lr": ours.lr}
    if OPTIMIZERS[name] == "SGD":
        arguments |= {"momentum": ours.momentum, "nesterov": ours.nesterov}
    if OPTIMIZERS[name] == "RMSprop":
        arguments |= {"alpha": ours.rho, "eps": ours.epsilon}
    if name == "amsgrad":
        arguments["amsgrad"] = True
    optimizer = getattr(torch.optim, OPTIMIZERS[name])(model.parameters(), **arguments)
    X = torch.from_numpy(data.X)
    regression = data.task == "regression"
    y = torch.from_numpy(data.y)[:, None] if regression else torch.from_numpy(data.y)
    loss = torch.nn.MSELoss() if regression else torch.nn.CrossEntropyLoss()
    for _ in range(epochs):
        order = torch.randperm(len(X))
        for rows in order.split(BATCH):
            optimizer.zero_grad()
            loss(model(X[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return score(data, model(torch.from_numpy(data.X_test)).numpy(), data.y_test)


def defaults(options) -> int:
    """Print the table of optimizers; returns how many miss what is expected."""
    names = options.only or list(OPTIMIZERS)
    missed = 0
    for name, epochs in EPOCHS.items():
        if options.data_sets and name not in options.data_sets:
            continue
        epochs = 1 if options.quick else epochs
        sets = [load(name, options.data, seed, options) for seed in range(options.seeds)]
        print(f"\n{name}: {shape(sets[0], HIDDEN)}, batches of {BATCH}, {epochs} epochs")
        print(f"  {'':<12}{'fastnn':>9}{'spread':>9}{'seconds':>9}{'expected':>10}")
        adam = None
        for optimizer in names:
            began = time.perf_counter()
            found = [train(data, optimizer, seed, epochs) for seed, data in enumerate(sets)]
            seconds = (time.perf_counter() - began) / len(sets)
            expected = None
            if not options.skip_torch:
                if OPTIMIZERS[optimizer] is None and adam is None:
                    adam = peer(sets, "adam", epochs)
                is_own = OPTIMIZERS[optimizer] is not None
                expected = (peer(sets, optimizer, epochs) if is_own else adam) - 1
            mean, spread = statistics.fmean(found), max(found) - min(found)
            reached = expected is None or options.quick or mean >= expected
            missed += not reached
            print(f"  {optimizer:<12}{mean:>9.2f}{spread:>9.2f}{seconds:>9.2f}"
                  f"{'-' if expected is None else f'{expected:.2f}':>10}"
                  f"{'' if reached else '  MISSED'}", flush=True)  # fmt: skip
    return missed


def peer(sets, optimizer: str, epochs: int) -> float:
    """The mean score of PyTorch's optimizer."""
    found = [train_with_torch(data, optimizer, seed, epochs) for seed, data in enumerate(sets)]
    return statistics.fmean(found)


def shape(data, hidden) -> str:
    """The widths of a network, from inputs to outputs."""
    return "-".join(map(str, (data.X.shape[1], *hidden, data.n_outputs)))


def load(name: str, folder: Path, seed: int, options, rows: int | None = None):
    """A data set; `--quick` takes a thousand rows."""
    rows = 1000 if options.quick else rows
    if name == "digits":
        return datasets.digits(seed)
    if name == "mnist":
        return datasets.mnist(folder / name, seed, rows)
    return datasets.table(folder / name, seed, rows)


def train_on_table(data, name: str, rate: float, seed: int, epochs: int) -> dict[str, tuple]:
    """(score of validation, score of the test) of the weights and of their average.

    Each is of the epoch with the best score of validation.
    """
    from fastnn import EMA, optimizers

    optimizer = dataclasses.replace(optimizers.get(name), lr=rate, weight_decay=0.01)
    net, averaged = (make_network(data, TABLE_HIDDEN, seed) for _ in range(2))
    best = {"last": (-np.inf, -np.inf), "EMA": (-np.inf, -np.inf)}
    for _ in range(epochs):
        net.fit(
            data.X, data.y, loss=loss_of(data), optimizer=optimizer, epochs=1, progress=False,
            batch_size=TABLE_BATCH, ema=EMA(0.99, keep="last"),
        )  # fmt: skip
        averaged.flat_params = net.training_state.average.vector
        for kept, found in (("last", net), ("EMA", averaged)):
            best[kept] = max(best[kept], both_scores(data, found))
    return best


def both_scores(data, net) -> tuple[float, float]:
    """The scores on the validation rows and on the test rows."""
    valid = score(data, net.logits(data.X_valid), data.y_valid)
    return valid, score(data, net.logits(data.X_test), data.y_test)


def tables(options) -> int:
    """Print the table of Muon, AdamW and EMA; returns 0."""
    columns = [(name, kept) for name in RATES for kept in ("last", "EMA")]
    epochs = 1 if options.quick else TABLE_EPOCHS
    print(f"\n{epochs} epochs, hidden layers {TABLE_HIDDEN}, batches of {TABLE_BATCH}, "
          f"at most {TABLE_ROWS} rows; learning rates of {RATES}")  # fmt: skip
    print(f"  {'':<20}" + "".join(f"{f'{name} {kept}':>13}" for name, kept in columns))
    wins = dict.fromkeys(columns, 0)
    for table in options.data_sets or TABLES:
        sets = [load(table, options.data, s, options, TABLE_ROWS) for s in range(options.seeds)]
        tests: dict[tuple, list[float]] = {column: [] for column in columns}
        for seed, data in enumerate(sets):
            for name, rates in RATES.items():
                rates = rates[:1] if options.quick else rates
                found = [train_on_table(data, name, rate, seed, epochs) for rate in rates]
                for kept in ("last", "EMA"):
                    tests[name, kept].append(max(f[kept] for f in found)[1])
        means = {column: statistics.fmean(values) for column, values in tests.items()}
        wins[max(means, key=lambda column: means[column])] += 1
        print(f"  {table:<20}" + "".join(f"{means[column]:>13.2f}" for column in columns),
              flush=True)  # fmt: skip
    print(f"  {'best on':<20}" + "".join(f"{wins[column]:>13}" for column in columns))
    return 0


def main() -> int:
    """Run the command line; the exit status is 1 if an optimizer misses what is expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("defaults", "tables"))
    parser.add_argument("--data", type=Path, default=datasets.DATA, help="folder of the data sets")
    parser.add_argument("--only", nargs="*", choices=OPTIMIZERS, help="only these optimizers")
    parser.add_argument("--data-sets", nargs="*", help="only these data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--skip-torch", action="store_true", help="without what is expected")
    parser.add_argument("--quick", action="store_true", help="one epoch of few rows, no goals")
    options = parser.parse_args()
    machine.clean_environment()
    print(machine.describe())
    missed = defaults(options) if options.what == "defaults" else tables(options)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
