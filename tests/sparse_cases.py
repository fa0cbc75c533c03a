"""What the tests of sparse matrices share: a matrix, networks, and a fit beside the dense one."""

import numpy as np
import scipy.sparse as sp

from fastnn import BatchNorm, Dense, Dropout, Sequential

M, N = 300, 37
rng = np.random.default_rng(0)
Y = rng.integers(0, 3, M)
W = rng.uniform(0.1, 2.0, M)


def matrix(seed=0, m=M, n=N, dtype=np.float32):
    """A matrix with empty rows, a full one, stored zeros and rows that are not sorted."""
    own = np.random.default_rng(seed)
    dense = np.where(own.random((m, n)) < 0.15, own.normal(size=(m, n)), 0)
    dense[[0, 5, m - 1]] = 0
    dense[7] = own.normal(size=n)
    X = sp.csr_array(dense.astype(dtype))
    X.data[::9], X.data[::31] = 0, -0.0
    for row in range(0, m, 3):
        mine = slice(X.indptr[row], X.indptr[row + 1])
        X.indices[mine], X.data[mine] = X.indices[mine][::-1].copy(), X.data[mine][::-1].copy()
    X.has_sorted_indices = False
    return X


def with_indices(X, dtype):
    X = X.copy()
    X.indices, X.indptr = X.indices.astype(dtype), X.indptr.astype(dtype)
    return X


X = matrix()


def network(**options):
    layers = [Dense(8, "tanh"), BatchNorm(), Dropout(0.2), Dense(3)]
    return Sequential(layers, **{"seed": 3, "input_scale": -0.7, **options})


def both(net=network, X=X, y=Y, **options):
    """A network fitted to the sparse X, and one fitted to the dense."""
    pair = net(), net()
    for one, given in zip(pair, (X, X.toarray()), strict=True):
        one.fit(given, y, progress=False, **{"epochs": 2, **options})
    return pair
