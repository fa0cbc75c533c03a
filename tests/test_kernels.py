"""Every kernel of the compiled engines runs, in both types."""

import itertools
import struct
import sys

import numpy as np
import pytest
import scipy.sparse
from cases import LOSSES, LOSSES_WITH_ARGUMENT, loss_function
from conftest import DTYPES, table
from test_compiled import OPTIMIZERS
from test_optimizers import OF_EACH_RULE
from users_losses import squares

from fastnn import (
    Activation,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    GaussianNoise,
    GroupNorm,
    LayerNorm,
    Maxout,
    Muon,
    PReLU,
    Residual,
    Scale,
    Sequential,
    engines,
)
from fastnn.engines import compiled as compiled_module
from fastnn.losses import Custom
from fastnn.tables import FEATURE_TYPES, INDEX_TYPES, STORED_TYPES, Act


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_is_called_and_keeps_the_type(compiled, dtype, monkeypatch):
    """Networks that use every kernel there is, and nothing is of another type afterwards."""
    if compiled == "numba":
        from fastnn.engines import jit as kernels
    else:
        from fastnn.engines import native as kernels
    used = set()
    address = kernels.address
    monkeypatch.setattr(engines.current(), "address", lambda *a: used.add(a) or address(*a))
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", 2)
    X, y = table(30, 19, 5, seed=3)
    acts = [act.name for act in Act]
    layers = [Dense(6, act, l1=1e-3, l2=1e-3) for act in acts]
    layers += [Activation("relu"), Activation("tanh"), Dense(5)]
    for loss in ("cross_entropy", "binary_cross_entropy", "mse", "sse"):
        for optimizer in OPTIMIZERS:
            net = Sequential(layers, dtype=dtype)
            net.fit(
                X, y, loss=loss, optimizer=optimizer, epochs=2, batch_size=7, progress=False,
                sample_weight=np.ones(30),
            )  # fmt: skip
            assert net.flat_params.dtype == dtype
            assert net.training_state.slots.dtype == dtype
            assert net.logits(X).dtype == dtype
            assert net.loss_and_grad(X, y)[1].dtype == dtype
            if "entropy" in loss:
                assert net.predict_proba(X).dtype == dtype
    for optimizer in (*OF_EACH_RULE, Adam(clip_norm=0.1), Adam(clip_value=0.1)):
        net = Sequential([Dense(5)], dtype=dtype)
        net.fit(X, y, optimizer=optimizer, epochs=1, batch_size=7, ema=0.9, progress=False)
        assert net.training_state.slots.dtype == dtype
    single = Sequential([Dense(1)], dtype=dtype)
    single.fit(X, y > 2, epochs=1, progress=False)
    for loss in map(loss_function, LOSSES + LOSSES_WITH_ARGUMENT):
        net = Sequential([Dense(6)], dtype=dtype)
        net.fit(X, np.eye(6)[y][:, : 6 // loss.n_per_target], loss, epochs=1, progress=False)
        assert net.flat_params.dtype == dtype
        assert net.predict(X).dtype in (dtype, np.int64)
    Sequential([Dense(1)], dtype=dtype).fit(X, y > 2, "focal", epochs=1, progress=False)
    wide = Sequential([Dense(40), Dense(40), Dense(5)], dtype=dtype)
    wide.fit(X, y, epochs=1, batch_size=7, ema=0.9, progress=False)
    wide.fit(X, y, optimizer=Muon(clip_norm=1.0), epochs=1, batch_size=7, progress=False)
    other = Sequential([Dense(8), Dense(9), Dense(5)], dtype=dtype)
    other.fit(X, y, optimizer=Muon(newton_schulz=2), epochs=1, batch_size=7, progress=False)
    skip = Sequential([Residual([Dense(6), PReLU()]), PReLU(shared=True), Dense(5)], dtype=dtype)
    skip.fit(X, y, epochs=1, batch_size=7, progress=False)
    layers = [Dense(9), GaussianNoise(0.1), Scale(bias=True), BatchNorm(), Dropout(0.2), Maxout(8)]
    layers += [BatchNorm(), Dropout(0.2, "test"), GroupNorm(2), LayerNorm(), BatchNorm()]
    others = Sequential([*layers, Dense(5, max_norm=1)], dtype=dtype)
    others.fit(X, y, epochs=1, batch_size=7, progress=False)
    assert others.predict_proba(X).dtype == dtype
    codes = Sequential([Embedding({0: (9, 2)}), Dense(5)], dtype=dtype)
    codes.fit(np.column_stack([y, X]), y, epochs=1, progress=False)
    wide.fit(X, y, loss=Custom(squares), epochs=1, batch_size=7, progress=False)
    tall = Sequential([Dense(5)], dtype=dtype)
    tall.fit(np.tile(X, (150, 1)), np.tile(y, 150), epochs=1, batch_size=4500, progress=False)
    monkeypatch.setattr("fastnn.features._SMALL", 0)
    for type_ in FEATURE_TYPES:
        assert single.logits(np.ones((3, 19), type_)).dtype == dtype
    for type_, index_type in itertools.product(STORED_TYPES, INDEX_TYPES):
        sparse = scipy.sparse.csr_array(np.ones((3, 19), type_))
        sparse.indices, sparse.indptr = (
            array.astype(index_type) for array in (sparse.indices, sparse.indptr)
        )
        assert single.logits(sparse).dtype == dtype
    others = {"launch", "shuffle", "normals", "warp", "smooth", "cut"}
    assert {name for name, _ in used} | others == set(kernels.names()) | others


def visible_weak_symbols(machine_code):
    """The names in an ELF object that another object with the same names could replace."""
    sections, size, count, _ = struct.unpack_from("<Q10xHHH", machine_code, 0x28)
    headers = [
        struct.unpack_from("<IIQQQQIIQQ", machine_code, sections + i * size) for i in range(count)
    ]
    weak = 2
    found = []
    for _, kind, _, _, at, length, link, _, _, entry in headers:
        if kind != 2:  # a table of symbols
            continue
        for place in range(at, at + length, entry):
            name, info, _, section = struct.unpack_from("<IBBH", machine_code, place)
            if info >> 4 == weak and section:
                begin = headers[link][4] + name
                found.append(machine_code[begin : machine_code.index(b"\0", begin)])
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ELF objects")
def test_no_kernel_of_numba_can_call_into_another_ones_code():
    """Numba's names for functions depend on what else a process compiles, and kernels are kept."""
    pytest.importorskip("numba")
    from fastnn.engines import jit
    from fastnn.engines.jit import cache

    n_defined = 0
    for name in ("product", "product_upper", "dense_forward", "cross_entropy_short", "adam"):
        jit.address(name, "float32")
        kept = (cache.directory() / f"{name}-float32.kernel").read_bytes()
        _, machine_code, _ = cache._unpack(kept)
        assert machine_code[:4] == b"\x7fELF"
        assert visible_weak_symbols(machine_code) == []
        n_defined += machine_code.count(b"multiply_panels")
    assert n_defined >= 2  # two kernels have a subroutine of this name
