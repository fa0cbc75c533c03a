"""What a checkpoint costs: its time as a share of a minute of training. ``--quick`` is for CI.

A checkpoint every minute may take 1% of it, 0.6 s. What is timed is all that a fit waits for:
checksums, the file, and the disk, which has it when the call returns. The time depends on the disk,
so the time of writing as many bytes in one piece is shown beside it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import machine
import numpy as np

import fastnn
from fastnn import EMA, Adam, Dense, EarlyStopping, Sequential
from fastnn.checkpoints import capture

#: Name, units of the layers, rows of X, and what the fit keeps besides parameters and slots.
WORKLOADS = [
    ("14-64-64-2", [14, 64, 64, 2], {}),
    ("784-512-512-10, EMA", [784, 512, 512, 10], {"ema": EMA()}),
    ("1000-2700-2700-10, best weights", [1000, 2700, 2700, 10], {"early_stopping": 5}),
    ("1000-2700-2700-10, best weights, EMA", [1000, 2700, 2700, 10],
     {"early_stopping": EarlyStopping(5), "ema": EMA()}),
]  # fmt: skip


class Timed:
    """Times checkpoints in the middle of an epoch, where they are largest."""

    def __init__(self, folder, repeats):
        self.path, self._repeats = Path(folder) / "run.ckpt", repeats
        self.seconds, self.plain = [], []

    def __call__(self, training):
        keeper = training._keeper
        for _ in range(self._repeats):
            began = time.perf_counter()
            keeper._write(training, capture(training))
            self.seconds.append(time.perf_counter() - began)
            self.plain.append(self._plainly(self.path.stat().st_size))
        training.stop()

    def _plainly(self, size):
        """Seconds of writing that many bytes, as a disk allows."""
        content = bytes(size)
        began = time.perf_counter()
        with open(self.path.with_name("plain"), "wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
        return time.perf_counter() - began


def measure(sizes, keeps, folder, repeats):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(256, sizes[0])).astype(np.float32)
    y = rng.integers(0, sizes[-1], len(X))
    net = Sequential([*(Dense(n, "relu") for n in sizes[1:-1]), Dense(sizes[-1])])
    timed = Timed(folder, repeats)

    class InTheSecondEpoch(fastnn.Callback):
        def on_steps(self, training):
            if training.epochs_done == 1:
                timed(training)

    net.fit(
        X, y, optimizer=Adam(), epochs=2, validation_data=(X, y), checkpoint=timed.path,
        callbacks=InTheSecondEpoch(), progress=False, **keeps,
    )  # fmt: skip
    return net.flat_params.size, timed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--folder", help="on the disk to be measured")
    arguments = parser.parse_args()
    repeats = 2 if arguments.quick else 9
    print(machine.describe())
    print(f"{'network':38} {'parameters':>10} {'MB':>6} {'ms':>7} {'most':>7} {'% of a minute':>13}"
          f" {'disk alone, ms':>15}")  # fmt: skip
    for name, sizes, keeps in WORKLOADS:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            n_params, timed = measure(sizes, keeps, folder, repeats)
            megabytes = timed.path.stat().st_size / 1e6
        median, most = np.median(timed.seconds), max(timed.seconds)
        print(f"{name:38} {n_params:10,} {megabytes:6.1f} {1e3 * median:7.1f} {1e3 * most:7.1f}"
              f" {100 * median / 60:13.3f} {1e3 * np.median(timed.plain):15.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
