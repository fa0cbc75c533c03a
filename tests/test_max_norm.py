"""Max-norm: after every step no unit's weights have a larger norm than the limit."""

import numpy as np
import pytest
from conftest import COMPILED, DTYPES, table

import fastnn
from fastnn import SGD, Dense, Sequential
from fastnn.engines import compiled as compiled_module
from fastnn.engines import reference


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [1, 3, 40, 900])
def test_a_step_scales_long_columns_and_no_others(engine, dtype, units):
    X, y = table()
    nets = [
        Sequential([Dense(units, max_norm=limit), Dense(3)], n_inputs=7, dtype=dtype)
        for limit in (None, 0.9)
    ]
    for net in nets:
        net.fit(X, y, optimizer=SGD(0.05), epochs=1, batch_size=None, progress=False)
    free, limited = (net.parameters()["0.W"].astype(float) for net in nets)
    norms = np.linalg.norm(free, axis=0)
    long = norms > 0.9
    if units > 3:
        assert 0 < long.sum() < units
    np.testing.assert_array_equal(limited[:, ~long], free[:, ~long])
    np.testing.assert_allclose(
        limited[:, long], free[:, long] * 0.9 / norms[long], rtol=20 * np.finfo(dtype).eps
    )
    for name in ("1.W", "0.b", "1.b"):
        np.testing.assert_array_equal(nets[0].parameters()[name], nets[1].parameters()[name])


@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_and_pieces_change_no_bit(dtype, monkeypatch):
    X, y = table(n=1500)
    found = set()
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    for engine in COMPILED:
        for parts in (1, 2, 5):
            for elements in (fastnn.run.PIECE_ELEMENTS, 1):
                monkeypatch.setattr(compiled_module, "PARTS", parts)
                monkeypatch.setattr("fastnn.run.PIECE_ELEMENTS", elements)
                with fastnn.use_engine(engine):
                    net = Sequential([Dense(50, "tanh", max_norm=0.5), Dense(3)], dtype=dtype)
                    net.fit(X, y, epochs=2, batch_size=1100, progress=False)
                found.add(net.flat_params.tobytes())
    assert len(found) == 1


def test_the_reference_is_the_formula():
    w = np.random.default_rng(0).normal(size=(6, 4))
    w[:, 2] = 0
    found = reference.dense.limit_norms(w, 2.0)
    for j in range(4):
        norm = float(np.sqrt((w[:, j] ** 2).sum()))
        np.testing.assert_allclose(found[:, j], w[:, j] * min(1, 2 / max(norm, 1e-300)), rtol=1e-15)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_bad_limits(value):
    with pytest.raises(ValueError, match="max_norm"):
        Dense(3, max_norm=value)


def test_a_file_keeps_the_limit(tmp_path):
    net = Sequential([Dense(3, max_norm=2), Dense(1)], n_inputs=4)
    net.save(tmp_path / "net")
    assert fastnn.load(tmp_path / "net").layers[0].max_norm == 2.0
    assert "max-norm" in str(net.plan)
