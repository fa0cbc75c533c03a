"""Fits on arrays in files, which may be larger than memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ENGINES, table

from fastnn import SGD, BatchNorm, Dense, Dropout, GaussianNoise, Sequential

X, y = table(150, n_inputs=5)
W = np.random.default_rng(1).uniform(0.1, 2.0, 150)


def network(*layers, **options):
    return Sequential(layers or [Dense(8, "tanh"), Dense(3)], seed=3, **options)


def plain():
    return network()


def rich():
    return network(
        Dense(8, "tanh", l2=1e-3), BatchNorm(), Dropout(0.2), GaussianNoise(0.1), Dense(3, l1=1e-4)
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "float64", "int16", ">f4"])
def test_a_fit_on_a_file_has_the_bits_of_one_in_memory(engine, tmp_path, dtype):
    Z = (10 * np.abs(X)).astype(dtype)
    file = np.memmap(tmp_path / "X", dtype, "w+", shape=Z.shape)
    file[:] = Z
    labels = np.memmap(tmp_path / "y", y.dtype, "w+", shape=y.shape)
    labels[:] = y
    for mode in ("r", "c", "r+"):
        net, other = plain(), plain()
        read = np.memmap(tmp_path / "X", dtype, mode, shape=Z.shape)
        net.fit(read, labels, epochs=2, progress=False)
        other.fit(Z, y, epochs=2, progress=False)
        assert np.array_equal(net.flat_params, other.flat_params)
    np.save(tmp_path / "X.npy", Z)
    net = plain()
    net.fit(np.load(tmp_path / "X.npy", mmap_mode="r"), y, epochs=2, progress=False)
    assert np.array_equal(net.flat_params, other.flat_params)


def test_a_file_whose_rows_are_not_aligned(tmp_path):
    (tmp_path / "X").write_bytes(b"abc" + X.tobytes())
    read = np.memmap(tmp_path / "X", np.float32, "r", offset=3, shape=X.shape)
    net, other = plain(), plain()
    net.fit(read, y, epochs=1, progress=False)
    other.fit(X, y, epochs=1, progress=False)
    assert np.array_equal(net.flat_params, other.flat_params)


_LARGE = """
import os, resource, sys
import numpy as np
from fastnn import Dense, Sequential, engines
folder, limit, dtypes = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
net = Sequential([Dense(4, "relu"), Dense(3)])
options = dict(steps=20, progress=False, validation_split=0.001)

def array(dtype, rows=None):
    path = os.path.join(folder, dtype)
    rows = rows or os.path.getsize(path) // (4000 * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r", shape=(rows, 4000)), np.arange(rows) % 3

for dtype in dtypes:  # what threads and kernels need
    X, y = array(dtype, 200)
    net.fit(X, y, **options)
    net.fit(np.concatenate([X] * 2), np.tile(y, 2), rows=np.arange(300), **options)
with open("/proc/self/status") as lines:
    limit += int(next(line for line in lines if line.startswith("VmData")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
for dtype in dtypes:
    X, y = array(dtype)
    try:
        X.copy()
    except MemoryError:
        pass
    else:
        sys.exit("the limit does not hold")
    net.fit(X, y, **options)
    net.fit(X, y, rows=np.arange(0, len(X), 2), class_weight="balanced", **options)
    if engines.choice()[0] != "numpy":  # which converts large chunks, and several at a time
        net.predict(X)
    if X.dtype.kind == "f":
        last = len(X) - 2
        with open(X.filename, "r+b") as file:
            file.seek((last * 4000 + 7) * X.itemsize)
            file.write(np.array(np.nan, dtype).tobytes())
        try:
            net.fit(X, y, **options)
        except ValueError as error:
            assert f"X[{last}, 7] is nan" in str(error), error
        else:
            sys.exit("NaN is not noticed")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", ENGINES)
def test_a_file_larger_than_memory(tmp_path, name):
    """The process may allocate a quarter of what X takes; the files are sparse."""
    dtypes = ["float32", "float16", "uint8"]
    for dtype in dtypes:
        with open(tmp_path / dtype, "wb") as file:
            file.truncate(112 << 20)
    environment = {**os.environ, "FASTNN_ENGINE": name, "FASTNN_NUM_THREADS": "2"}
    command = [sys.executable, "-c", _LARGE, str(tmp_path), str(28 << 20), *dtypes]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr


def test_shuffled_rows_of_a_file_are_those_of_the_order(tmp_path, compiled):
    """Every row of the file is read exactly once in an epoch, in an order of its own."""
    n = 2000
    file = np.memmap(tmp_path / "X", np.float64, "w+", shape=(n, 1))
    file[:, 0] = np.arange(n)
    net = Sequential([Dense(1, init="zeros")])
    history = net.fit(file, file[:, 0], loss="mse", batch_size=1, optimizer=SGD(1e-30), epochs=3,
                      progress=False)  # fmt: skip
    assert np.allclose(history["loss"], (np.arange(n) ** 2.0).mean(), rtol=1e-6)
