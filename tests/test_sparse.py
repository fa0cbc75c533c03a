"""Sparse matrices as X: on every engine the bits of the dense matrix, which is never made."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import DTYPES
from sparse_cases import M, N, W, X, Y, both, matrix, network, with_indices
from training_cases import assert_same

import fastnn
from fastnn import (
    LBFGS,
    Adam,
    Dense,
    Embedding,
    Sequential,
    features,
    run,
    train_many,
)
from fastnn.engines import compiled as compiled_module
from fastnn.engines.csr import CSR
from fastnn.engines.workspace import Data
from fastnn.errors import CheckpointError


@pytest.fixture(autouse=True)
def stays_sparse(monkeypatch):
    """A small matrix would be made dense, which costs less."""
    monkeypatch.setattr(features, "_SMALL", 0)


def gathers(monkeypatch):
    """The dtypes of the sparse X that a compiled engine has read, as they come."""
    seen, original = set(), compiled_module._addresses

    def addresses(X):
        if isinstance(X, CSR):
            seen.add((X.values.dtype.name, X.indices.dtype.name))
        return original(X)

    monkeypatch.setattr(compiled_module, "_addresses", addresses)
    return seen


# -- bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fit_has_the_bits_of_the_dense_matrix(engine, dtype, monkeypatch):
    seen = gathers(monkeypatch)
    kinds = set(itertools.product(("float32", "float64"), ("int32", "int64")))
    for values, indices in sorted(kinds):
        given = with_indices(X.astype(values), indices)
        net, other = both(lambda: network(dtype=dtype), given, batch_size=32)
        assert_same(net, other)
        for method in ("predict", "predict_proba", "logits"):
            ours, theirs = getattr(net, method)(given), getattr(other, method)(given.toarray())
            assert ours.tobytes() == theirs.tobytes()
        assert net.evaluate(given, Y) == other.evaluate(given.toarray(), Y)
    assert seen == (kinds if engine != "numpy" else set())


def test_the_gathered_rows_are_those_of_the_oracle(engine):
    """A network whose outputs are its inputs, so that nothing rounds: element by element."""
    for scale, values in ((1.0, "float32"), (-0.3, "float64")):
        given = X.astype(values)
        expected = np.zeros((M, N), np.float32)
        for row, column in itertools.product(range(M), range(N)):
            expected[row, column] = np.float32(scale) * np.float32(0)
            for k in range(given.indptr[row], given.indptr[row + 1]):
                if given.indices[k] == column:
                    value = np.float32(given.data[k] + 0)
                    expected[row, column] = np.float32(scale) * value
        net = Sequential([Dense(N, init="zeros")], n_inputs=N, input_scale=scale)
        net.parameters()["0.W"][:] = np.eye(N)
        found = net.logits(given)
        np.testing.assert_array_equal(found, expected)
        inputs = Data(features.check_features(given, N, np.float32), scale=scale)
        gathered = inputs.features(slice(None), np.dtype(np.float32))
        assert gathered.tobytes() == expected.tobytes()


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_and_threads_change_no_bit(compiled, parts, monkeypatch, n_threads, workspaces):
    first, _ = both(batch_size=64)
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", parts)
    n_threads(2)
    workspaces.clear()
    net, other = both(batch_size=64)
    assert_same(net, first)
    assert_same(other, first)
    assert (workspaces[0].ran[:parts] > 0).all()
    assert net.logits(X).tobytes() == first.logits(X).tobytes()


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False}, {"sample_weight": W}, {"class_weight": "balanced"},
        {"rows": np.arange(0, M, 2), "sample_weight": W}, {"validation_split": 0.2},
        {"rows": np.arange(100), "validation_split": 0.3},
        {"validation_data": (matrix(1), Y), "metrics": ["f1"], "early_stopping": 1},
        {"batch_size": None}, {"batch_size": None, "shuffle": False}, {"batch_size": 1, "steps": 9},
        {"accumulate": 3}, {"loss": "mse"}, {"ema": 0.9},
    ],
    ids=lambda options: "-".join(options),
)  # fmt: skip
def test_whatever_a_fit_does_with_rows(engine, options):
    if "f1" in options.get("metrics", ()):
        pytest.importorskip("sklearn")
    assert_same(*both(**options))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_batches_in_pieces(engine, accumulate, monkeypatch):
    """So much smaller is the memory that a batch has three pieces; and LBFGS's too."""
    monkeypatch.setattr(run, "PIECE_ELEMENTS", 1)
    given, y = matrix(2, 1500), np.arange(1500) % 3
    plain = lambda: Sequential([Dense(5, "relu"), Dense(3)])  # noqa: E731
    assert_same(*both(plain, given, y, batch_size=700, accumulate=accumulate))
    for optimizer, shuffle in ((LBFGS(), True), (Adam(), False)):
        options = {"optimizer": optimizer, "batch_size": None, "shuffle": shuffle}
        assert_same(*both(plain, given, y, **options, epochs=3))
    net = both(plain, given, y, epochs=1)[0]
    loss, gradient = net.loss_and_grad(given, y)
    other_loss, other = net.loss_and_grad(given.toarray(), y)
    assert (loss, gradient.tobytes()) == (other_loss, other.tobytes())


def test_predictions_in_chunks(engine):
    given = matrix(4, 5000)
    net, _ = both(epochs=1)
    expected = net.logits(given.toarray())
    assert net.logits(given).tobytes() == expected.tobytes()
    for first, last in ((0, 1), (4990, 5000), (17, 900)):
        some = net.logits(given[first:last])
        np.testing.assert_allclose(some, expected[first:last], rtol=1e-5, atol=1e-6)


def test_every_other_entry_point(engine):
    net, other = network(), network()
    dense = X.toarray()
    for one, given in ((net, X), (other, dense)):
        for epoch in one.epochs(given, Y, epochs=2, progress=False):
            assert epoch["loss"] > 0
        one.partial_fit(given, Y)
        one.partial_fit(given[:70], Y[:70], batch_size=None)
    assert_same(net, other)
    specs = [{"seed": seed, "dtype": dtype} for seed in (0, 1) for dtype in DTYPES]
    common = {"layers": [Dense(4, "relu"), Dense(3)], "epochs": 2, "validation_split": 0.2}
    nets, others = (train_many(specs, x, Y, **common, progress=False) for x in (X, dense))
    for net, other in zip(nets, others, strict=True):
        assert_same(net, other)


def test_traces():
    net, _ = both(epochs=1)
    for y in (None, Y):
        trace, other = net.trace(X, y), net.trace(X.toarray(), y)
        assert trace.keys() == other.keys()
        assert all(trace[name].tobytes() == other[name].tobytes() for name in trace)


def test_a_stream_of_sparse_batches(engine):
    cuts = [slice(first, first + 64) for first in range(0, M, 64)]
    net, other = network(), network()
    net.fit([(X[cut], Y[cut], W[cut]) for cut in cuts], epochs=2, progress=False)
    dense = X.toarray()
    other.fit([(dense[cut], Y[cut], W[cut]) for cut in cuts], epochs=2, progress=False)
    assert_same(net, other)
    assert net.history.n_rows == M
    with pytest.raises(TypeError, match=r"batch 1 .*X has the dtype float64"):
        network().fit([(X, Y), (X.astype("float64"), Y)], progress=False)


def test_columns_of_codes(engine):
    codes = sp.csr_array(np.column_stack([Y, X.toarray()[:, :4], Y > 1]).astype(np.float32))
    layers = lambda: Sequential([Embedding({0: (3, 2), 5: (2, 1)}), Dense(3)])  # noqa: E731
    net, other = both(layers, codes)
    assert_same(net, other)
    assert net.logits(codes).tobytes() == other.logits(codes.toarray()).tobytes()
    codes.data[np.flatnonzero(codes.indices == 5)[0]] = 2
    row = int((Y > 1).argmax())
    with pytest.raises(ValueError, match=rf"X\[{row}, 5\] is 2, but .* the codes 0 to 1"):
        net.predict(codes)


def test_a_fit_goes_on_from_a_checkpoint(engine, tmp_path):
    path = tmp_path / "checkpoint"
    options = {"checkpoint": path, "resume": True, "progress": False, "batch_size": 50}
    net, other = network(), network()
    net.fit(X, Y, epochs=2, **options)
    net = network()
    ordered = X.copy()
    ordered.sort_indices()
    ordered.eliminate_zeros()  # the same matrix
    net.fit(ordered, Y, epochs=5, **options)
    other.fit(X, Y, epochs=5, batch_size=50, progress=False)
    assert_same(net, other)
    changed = X.copy()
    changed.data[1] += 1
    with pytest.raises(CheckpointError, match="values of X"):
        network().fit(changed, Y, epochs=6, **options)


# -- memory ------------------------------------------------------------------------------------

_MEMORY = """
import resource, sys
import numpy as np, scipy.sparse as sp
from fastnn import Dense, Sequential
m, n, stored = 20000, 5000, 10
rng = np.random.default_rng(0)

def rows(m):
    columns = np.argsort(rng.random((m, 40)), axis=1)[:, :stored] * 125
    values = rng.normal(size=m * stored).astype(np.float32)
    return sp.csr_array((values, columns.ravel(), np.arange(0, m * stored + 1, stored)), (m, n))

def train(X):
    y = np.arange(X.shape[0]) % 3
    net = Sequential([Dense(4, "relu"), Dense(3)])
    net.fit(X, y, batch_size=100, epochs=1, validation_split=0.1, progress=False)
    return net.predict(X)

train(rows(2000))  # what threads, kernels and a chunk of predictions need
X = rows(m)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
train(X)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss counts kilobytes")
def test_training_never_holds_the_dense_matrix(engine):
    """That would take 400 MB; the peak of the process may grow by a tenth of it."""
    code = f"import fastnn; fastnn.set_engine({engine!r})\n{_MEMORY}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 40_000
    assert fastnn.engines.current().name == engine
