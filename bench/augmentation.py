"""Epochs with augmentation beside training and augmentation alone. ``--quick`` is for CI.

A batch is augmented in one thread while another one trains on the batch before. So an epoch should
take at most 1.1 times as long as the longer of the two, with one thread each. All three are
measured in turn, several times, and the least time of each counts, since other programs only add to
it.
"""

from __future__ import annotations

import argparse
import time

import machine
import numpy as np

import fastnn
from fastnn import Adam, Dense, Sequential
from fastnn.augmentation import Images, Mixup

SHAPE = (28, 28)

#: Hidden units and rows of a batch.
NETWORKS = [([128], 32), ([512, 512], 128), ([1024, 1024], 64)]


def noise(batch, rng):
    """A function of a user's, in NumPy."""
    batch += rng.normal(0, 0.1, batch.shape)
    return batch


AUGMENTATIONS = {
    "shift, rotate, scale": Images(SHAPE, shift=2, rotate=10, scale=0.1),
    "and elastic": Images(SHAPE, shift=2, rotate=10, scale=0.1, elastic=(36, 5)),
    "Mixup": Mixup(0.2),
    "noise in NumPy": noise,
}


def data(rows):
    rng = np.random.default_rng(0)
    return rng.random((rows, 784), np.float32), rng.integers(0, 10, rows)


def alone(augment, X, y, batch):
    """Seconds in which one thread augments all batches of an epoch."""
    rng, one_hot = np.random.Generator(np.random.Philox(0)), np.eye(10, dtype=np.float32)[y]
    order = rng.permutation(len(X))
    began = time.perf_counter()
    for first in range(0, len(X), batch):
        rows = order[first : first + batch]
        if hasattr(augment, "augment_pairs"):
            augment.augment_pairs(X[rows], one_hot[rows], rng)
        else:
            augment(X[rows], rng)
    return time.perf_counter() - began


def network(hidden):
    return Sequential([*(Dense(n, "relu") for n in hidden), Dense(10)], seed=0)


def trained(net, X, y, batch, epochs, threads, augment=None):
    """Seconds of each epoch of a fit."""
    fastnn.set_num_threads(threads)
    history = net.fit(
        X, y, loss="cross_entropy", optimizer=Adam(), epochs=epochs, batch_size=batch,
        augment=augment, progress=False,
    )  # fmt: skip
    fastnn.set_num_threads(None)
    return list(history["seconds"])


def measure(hidden, batch, augment, rows, repeats, epochs):
    """The least seconds of an epoch: (training alone, augmentation alone, both)."""
    X, y = data(rows)
    training, augmentation, both = [], [], []
    plain, augmented = network(hidden), network(hidden)
    for _ in range(repeats):
        training += trained(plain, X, y, batch, epochs, 1)
        augmentation += [alone(augment, X, y, batch) for _ in range(epochs)]
        both += trained(augmented, X, y, batch, epochs, 2, augment)
    return min(training), min(augmentation), min(both)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="everything once, on less: a test")
    parser.add_argument("--engine", default="auto", help="the engine to measure")
    options = parser.parse_args()
    fastnn.set_engine(options.engine)
    rows, repeats, epochs = (512, 1, 2) if options.quick else (20_000, 3, 4)
    print(f"{machine.describe()}\nengine {fastnn.engines.choice()[0]}, {rows} rows, ms per epoch")
    if options.quick:
        print("--quick tests that everything runs: its numbers say nothing")
    print("| hidden | batch | augmentation | training alone | augmentation alone | both | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for hidden, batch in NETWORKS:
        for name, augment in AUGMENTATIONS.items():
            found = measure(hidden, batch, augment, rows, repeats, epochs)
            training, augmentation, both = (1e3 * seconds for seconds in found)
            ratio = both / max(training, augmentation)
            units = "-".join(map(str, hidden))
            print(
                f"| {units} | {batch} | {name} | {training:.1f} | {augmentation:.1f} | {both:.1f} "
                f"| {ratio:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
