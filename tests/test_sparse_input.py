"""Sparse matrices that are converted, summed up and checked before any kernel reads them."""

import copy
import itertools
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import DTYPES
from sparse_cases import M, N, X, Y, both, matrix, network, with_indices

from fastnn import (
    engines,
    features,
    sparse,
)
from fastnn.engines import boundary
from fastnn.engines.csr import CSR
from fastnn.engines.workspace import Data, Workspace
from fastnn.errors import EngineError, ShapeError


@pytest.fixture(autouse=True)
def stays_sparse(monkeypatch):
    """A small matrix would be made dense, which costs less."""
    monkeypatch.setattr(features, "_SMALL", 0)


# -- what is given -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Constructing a DIA")
@pytest.mark.parametrize("form", ["csc", "coo", "bsr", "lil", "dok", "dia"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_other_formats_are_converted(form, kind):
    given = getattr(sp, f"{form}_{kind}")(matrix())
    assert given.format == form
    net, _ = both()
    assert net.logits(given).tobytes() == net.logits(X.toarray()).tobytes()
    assert given.format == form


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float64", ">f4", "object"])
def test_values_of_any_type(dtype):
    values = sp.csr_array(np.where(X.toarray() > 0.3, 3, 0).astype(np.float32))
    given = sp.csr_array((values.data.astype(dtype), values.indices, values.indptr), values.shape)
    given.data = values.data.astype(dtype)
    dense = values.toarray().astype(dtype).astype(np.float32)
    net, _ = both()
    assert net.logits(given).tobytes() == net.logits(dense).tobytes()
    complex_values = given.astype(np.complex64) if dtype != "object" else given
    complex_values.data = complex_values.data.astype(np.complex64)
    with pytest.raises(TypeError, match="X must hold real numbers, not complex64"):
        net.logits(complex_values)


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("dtype", ["float32", "int8", "bool"])
def test_what_is_stored_twice_is_added_up(form, dtype):
    """In the order in which it is stored, which the last bits show; the matrix is not changed."""
    own = np.random.default_rng(0)
    rows, columns = own.integers(0, M, 9000), own.integers(0, N, 9000)
    values = (own.normal(size=9000) * 50).astype(dtype)
    given = sp.coo_array((values, (rows, columns)), shape=(M, N))
    if form != "coo":
        major, minor = (rows, columns) if form == "csr" else (columns, rows)
        order = np.argsort(major, kind="stable")
        indptr = np.searchsorted(major[order], np.arange((M if form == "csr" else N) + 1))
        parts = values[order], minor[order], indptr
        given = getattr(sp, f"{form}_array")(parts, shape=(M, N))
    before = copy.deepcopy(given)
    found = sparse.compressed_rows(given)
    assert found.dense(slice(None)).tobytes() == given.toarray().tobytes()
    assert len(found.values) < 8000
    net, _ = both()
    dense = given.toarray().astype(np.float32)
    assert net.logits(given).tobytes() == net.logits(dense).tobytes()
    assert given.nnz == before.nnz == 9000
    assert (given.data == before.data).all()


def test_no_array_of_a_csr_matrix_is_copied():
    for values, indices in itertools.product(DTYPES, ("int32", "int64")):
        given = with_indices(X.astype(values), indices)
        given.data.flags.writeable = given.indices.flags.writeable = False
        found = features.check_features(given, N, np.dtype(values))
        assert isinstance(found, CSR)
        pairs = zip(
            (found.values, found.indices, found.indptr), (given.data, given.indices, given.indptr),
            strict=True,
        )  # fmt: skip
        assert all(np.shares_memory(ours, theirs) for ours, theirs in pairs)


def test_sorted_columns_are_found_in_blocks(monkeypatch):
    """Whatever the size of the blocks in which a matrix is looked at."""
    ordered, unsorted = matrix(), matrix()
    ordered.sort_indices()
    for block in (1, 7, 100, 1 << 20):
        monkeypatch.setattr(sparse, "_BLOCK", block)
        assert sparse._ascends(sparse.compressed_rows(ordered))
        assert not sparse._ascends(sparse.compressed_rows(unsorted))
        for row in (7, 200, 298):
            wrong = ordered.copy()
            at = wrong.indptr[row]
            assert wrong.indptr[row + 1] > at + 1
            wrong.indices[at] = wrong.indices[at + 1]
            assert not sparse._ascends(CSR(wrong.data, wrong.indices, wrong.indptr, N))


def test_a_small_matrix_is_made_dense(monkeypatch):
    monkeypatch.setattr(features, "_SMALL", M * N)
    found = features.check_features(X, N, np.dtype(np.float32))
    assert type(found) is np.ndarray
    assert found.tobytes() == X.toarray().tobytes()


def test_nothing_imports_scipy_for_it():
    code = """
import sys
import numpy as np
from fastnn import Dense, Sequential, engines
engine = "c" if "c" in engines.available() else "numba"
engines.set_engine(engine)
net = Sequential([Dense(1)])
net.fit(np.ones((4, 2)), [0.0, 1.0, 2.0, 3.0], loss="mse", epochs=1, progress=False)
assert engine == "numba" or "scipy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# -- what is refused ---------------------------------------------------------------------------


def changed(form="csr", **arrays):
    """A sparse matrix whose arrays were replaced by others."""
    given = X.asformat(form).copy()
    for name, array in arrays.items():
        setattr(given, name, array)
    return given


def replaced(array, at, value):
    array = array.copy()
    array[at] = value
    return array


POINTERS, COLUMNS = X.indptr, X.indices
C = X.tocsc()

DAMAGED = {
    "indptr short": ("indptr has 300 elements instead of 301", {"indptr": POINTERS[:-1]}),
    "indptr long": ("indptr has 302 el", {"indptr": np.append(POINTERS, POINTERS[-1])}),
    "indptr begins": ("indptr begins with 2", {"indptr": replaced(POINTERS, 0, 2)}),
    "indptr negative": ("indptr descends", {"indptr": replaced(POINTERS, 9, -5)}),
    "indptr descends": ("indptr descends", {"indptr": replaced(POINTERS, 9, POINTERS[20])}),
    "indptr ends": ("indptr ends with 99999999, but indices has",
                    {"indptr": replaced(POINTERS, -1, 99999999)}),
    "indptr floats": ("indptr must be a vector of whole", {"indptr": POINTERS.astype(float)}),
    "indptr matrix": ("indptr must be a vector of whole", {"indptr": POINTERS[None]}),
    "indices negative": ("indices holds -1, but must be 0 to 36",
                         {"indices": replaced(COLUMNS, 3, -1)}),
    "indices large": ("indices holds 37, but must be 0 to 36",
                      {"indices": replaced(COLUMNS, 3, 37)}),
    "indices huge": ("indices holds 9007199254740992",
                     {"indices": replaced(COLUMNS.astype("int64"), 3, 1 << 53)}),
    "indices short": ("data has .* elements, but indices has", {"indices": COLUMNS[:-1]}),
    "indices floats": ("indices must be a vector", {"indices": COLUMNS.astype(float)}),
    "data short": ("data has .* elements, but indices has", {"data": X.data[:-3]}),
    "data matrix": ("data must be a vector", {"data": X.data[None]}),
    "data and indices short": ("indptr ends with",
                               {"data": X.data[:-3], "indices": COLUMNS[:-3]}),
    "csc row": ("CSC.*indices holds 300, but must be 0 to 299",
                {"form": "csc", "indices": replaced(C.indices, 3, 300)}),
    "csc indptr": ("CSC.*indptr descends", {"form": "csc", "indptr": replaced(C.indptr, 3, 9**6)}),
    "coo row": ("COO.*row holds 300", {"form": "coo", "row": replaced(X.tocoo().row, 3, 300)}),
    "coo col": ("COO.*col holds -7", {"form": "coo", "col": replaced(X.tocoo().col, 3, -7)}),
    "coo data": ("COO.*equally long", {"form": "coo", "data": X.data[:-1]}),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_matrix_is_refused(name):
    message, arrays = DAMAGED[name]
    given = changed(**arrays)
    net, _ = both(epochs=1)
    before = net.flat_params.copy()
    for call in (
        lambda: net.fit(given, Y, progress=False), lambda: net.predict(given),
        lambda: net.evaluate(given, Y),
        lambda: net.fit(X, Y, validation_data=(given, Y), progress=False),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"X.*is damaged: .*{message.split('*')[-1]}"):
            call()
    assert (net.flat_params == before).all()


REFUSED = {
    "columns": (ShapeError, "X has 36 features, but the network takes 37", X[:, :36]),
    "no rows": (ShapeError, r"X is empty: its shape is \(0, 37\)", X[:0]),
    "vector": (ShapeError, r"X must be a matrix \(rows, features\), not 1-D", sp.coo_array(Y)),
    "NaN": (ValueError, r"X\[7, 0\] is nan: replace or drop",
            changed(data=replaced(X.data, POINTERS[7], np.nan))),
    "infinite": (ValueError, r"X\[297, \d+\] is -inf",
                 changed(data=replaced(X.data, POINTERS[297], -np.inf))),
    "large": (ValueError, r"X\[7, 0\] is 1e\+300, which is too large for float32",
              changed(data=replaced(X.data.astype(float), POINTERS[7], 1e300))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("small", [0, 1000, 1 << 20])
def test_what_no_network_takes_is_refused(name, small, monkeypatch):
    net, _ = both(epochs=1)
    monkeypatch.setattr(features, "_SMALL", small)
    error, message, given = REFUSED[name]
    for call in (net.predict, lambda given: net.fit(given, Y[: given.shape[0]], progress=False)):
        with pytest.raises(error, match=message):
            call(given)


def test_only_x_may_be_sparse():
    class Other:
        def toarray(self): ...

    with pytest.raises(TypeError, match=r"X is a sparse matrix: only .* of SciPy; use X.toarray"):
        network().fit(Other(), Y)
    with pytest.raises(TypeError, match="y is a sparse matrix: only X may be one"):
        network().fit(X, sp.csr_array(np.eye(3)[Y]))
    with pytest.raises(TypeError, match="y is missing"):
        network().fit(X)


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [("indptr", 40, -9), ("indptr", 40, 1 << 30), ("indptr", 41, 0), ("indices", 60, -1),
     ("indices", 60, N), ("indptr", M, 1 << 30)],
)  # fmt: skip
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_the_kernels_read_nothing_outside(compiled, name, at, value, index_type):
    """Even of a matrix that is changed after its check."""
    given = with_indices(X, index_type)
    net, _ = both(epochs=1)
    data = Data(features.check_features(given, N, net.dtype))
    getattr(given, name)[at] = value
    ws = Workspace(net.lower(None), net.flat_params, np.zeros(net.plan.n_state, "f4"), M)
    with pytest.raises(EngineError, match="out of range, or an index of a sparse X"):
        engines.current().forward(ws, data, np.zeros((M, 3), np.float32))
    if name == "indptr":
        data.order = np.arange(M)  # prefetches too
        with pytest.raises(EngineError, match="out of range, or an index of a sparse X"):
            engines.current().forward(ws, data, np.zeros((M, 3), np.float32))


@pytest.mark.parametrize(
    ("field", "array", "message"),
    [
        ("values", X.data.astype(np.float16), "values of X must be one of"),
        ("values", X.data.astype(np.float32)[::2], "contiguous"),
        ("values", X.data.tolist(), "values of X must be one of"),
        ("indices", COLUMNS.astype(np.int16), "indices of X must be one of"),
        ("indices", COLUMNS.astype(np.int64), "indptr of X must be an array of int64"),
        ("indptr", POINTERS[:1], "indptr of X has 1 elements"),
        ("indptr", POINTERS[None], "have one dimension"),
    ],
)
def test_the_boundary_refuses_other_arrays(field, array, message):
    arrays = {"values": X.data, "indices": COLUMNS, "indptr": POINTERS, field: array}
    with pytest.raises((TypeError, ValueError), match=message):
        boundary.check_stored(CSR(**arrays, n_columns=N))
