"""Fits that are killed again and again, for test_kills.py: ``python killed_fits.py ENGINE N SEED``.

One process, which has compiled the kernels, forks a child for each attempt: the child goes on from
the checkpoint, and the parent kills it after a random time. Prints what was found, as JSON.
"""

import hashlib
import json
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from checkpoint_cases import Slower, contents, left

import fastnn
from fastnn import (
    EMA,
    SGD,
    SWA,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    EarlyStopping,
    Sequential,
    checkpoint_files,
    checkpoints,
    run,
    schedules,
    training,
)

#: Where a child is, for its parent to see.
PHASES = "preparing", "steps", "writing", "completing", "between"
phase = mmap.mmap(-1, 1)

#: Most seconds before a kill, whatever a fit took on a busy machine.
LONGEST = 0.4

rng = np.random.default_rng(0)
X = rng.normal(size=(1500, 20)).astype(np.float32)
y = (X[:, 0] + X[:, 1] ** 2 + rng.normal(size=len(X)) > 1).astype(int)


def adaptive():
    """Everything that follows the validation."""
    net = Sequential([Dense(48, "relu"), Dropout(0.2), Dense(2)], seed=1)
    return net, [], {
        "optimizer": Adam(0.02), "epochs": 14, "validation_split": 0.2, "checkpoint_every": 1,
        "ema": EMA(0.9, keep="best"), "early_stopping": EarlyStopping(6),
        "schedule": schedules.ReduceOnPlateau(patience=0, factor=0.7, threshold=0.05),
    }  # fmt: skip


def averaged():
    """Running statistics, small batches that are kept apart, and an average of epochs."""
    net = Sequential([Dense(40, "relu"), BatchNorm(), Dense(2)], seed=2, dtype="float64")
    return net, [], {
        "optimizer": SGD(schedules.Cosine(0.1), momentum=0.9), "epochs": 9, "accumulate": 2,
        "swa": SWA(0.5), "checkpoint_every": 2,
    }  # fmt: skip


def within_epochs():
    """Checkpoints in the middle of long epochs."""
    net = Sequential([Dense(256, "tanh"), Dropout(0.1), Dense(256, "relu"), Dense(2)], seed=3)
    return net, [], {
        "optimizer": Adam(), "epochs": 6, "batch_size": 4, "checkpoint_every": "0.02s",
        "validation_data": (X[:300], y[:300]), "early_stopping": 5,
    }  # fmt: skip


def counted():
    """A number of steps, and a callback that has a state."""
    net = Sequential([Dense(128, "relu"), Dense(128, "relu"), Dense(2)], seed=4)
    return net, [Slower(7)], {"steps": 1333, "batch_size": 16, "checkpoint_every": "0.004s"}


def fit(config, **more):
    net, callbacks, arguments = config()
    arguments = {"progress": False, "callbacks": callbacks, **arguments, **more}
    history = net.fit(X, y, **arguments)
    return digest([*left(net, history), *[(one.seen, one.lowest) for one in callbacks]])


def digest(found):
    return hashlib.sha256(repr(found).encode()).hexdigest()


def in_file(path):
    """The digest of a checkpoint, but for times and numbers of threads."""
    tensors, about = contents(path)
    skipped = f"history.{about['history'].index('seconds')}"
    tensors = {name: array.tobytes() for name, array in sorted(tensors.items())}
    del tensors[skipped], about["tensors"][skipped], about["threads_used"]
    for name in ("elapsed", "epoch_seconds"):
        del about["numbers"][name]
    return digest([tensors, about])


def watched(module, name, at):
    """Let a function say where the process is."""
    function = getattr(module, name)

    def wrapped(*args, **kwargs):
        before = phase[0]
        phase[0] = PHASES.index(at)
        try:
            return function(*args, **kwargs)
        finally:
            phase[0] = before

    setattr(module, name, wrapped)


def attempt(config, path, result):
    """Go on with a fit in a child; its process id."""
    phase[0] = 0
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        phase[0] = PHASES.index("between")
        Path(result).write_text(fit(config, checkpoint=path, resume=True))
        status = 0
    finally:
        os._exit(status)


def killed_run(config, folder, draw, most, found):
    """Kill a fit until it ends, or has been killed often enough; then let it end."""
    path, result = Path(folder) / "run.ckpt", Path(folder) / "result"
    seconds = found["seconds"][config.__name__]
    kills = 0
    while True:
        child = attempt(config, path, result)
        if kills < most:
            time.sleep(draw.uniform(0, min(0.6 * seconds, LONGEST)))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "a child failed"
            break
        kills += 1
        found["phases"][PHASES[phase[0]]] += 1
        found["temporaries"] += any(name.startswith(".run.ckpt-") for name in os.listdir(folder))
        if path.exists():
            found["files_within_epochs"] += contents(path)[1]["batches"] is not None
    left_over = sorted(name for name in os.listdir(folder) if name not in ("run.ckpt", "result"))
    return kills, Path(result).read_text(), in_file(path), left_over


def is_enough(found, n_kills):
    """Whether there were so many kills, and of every kind; it may take more for that."""
    n, kinds = found["kills"].total(), ("temporaries", "files_within_epochs")
    of_every_kind = all(found[kind] for kind in kinds) and found["phases"]["steps"]
    return n >= n_kills and (of_every_kind or n >= 10 * n_kills)


def main(engine, n_kills, seed):
    warnings.simplefilter("error")
    fastnn.set_engine(engine)
    run.SLICE_SECONDS = 0.01
    fastnn.set_num_threads(1)  # a child of a process with threads has none of them
    watched(checkpoint_files, "write", "writing")
    watched(checkpoints.Keeper, "__init__", "preparing")
    watched(run.Fit, "steps", "steps")
    watched(training.Training, "complete_epoch", "completing")
    draw, configs = random.Random(seed), [adaptive, averaged, within_epochs, counted]
    found = {"phases": Counter(), "temporaries": 0, "files_within_epochs": 0, "seconds": {}}
    found |= {"kills": Counter(), "differ": []}
    expected = {}
    for config in configs:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.ckpt"
            fit(config)  # compiles what is missing
            began = time.perf_counter()
            expected[config] = fit(config, checkpoint=path), in_file(path)
            found["seconds"][config.__name__] = time.perf_counter() - began
            assert expected[config][0] == fit(config)
    while not is_enough(found, n_kills):
        config = min(configs, key=lambda config: found["kills"][config.__name__])
        with tempfile.TemporaryDirectory() as folder:
            most = draw.randint(2, 8)
            kills, *results, left_over = killed_run(config, folder, draw, most, found)
        found["kills"][config.__name__] += kills
        if (*results,) != expected[config] or left_over:
            found["differ"].append([config.__name__, kills, left_over])
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
