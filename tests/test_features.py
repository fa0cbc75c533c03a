"""X of every numeric type is read without a copy, and gives the same bits as its conversion."""

import tracemalloc

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Sequential
from fastnn import features as checks
from fastnn.tables import FEATURE_TYPES

TYPES = [dtype.name for dtype in FEATURE_TYPES]


def features(name, rows=150, columns=11):
    """Numbers that the type can hold and float32 can hold exactly, or rounds."""
    whole = np.arange(rows * columns, dtype=np.int64) * 7919 % 251
    if name == "bool":
        return (whole % 3 == 0).reshape(rows, columns)
    if name.startswith("float"):
        return ((whole - 125) / 16).astype(name).reshape(rows, columns)
    lowest = 0 if name.startswith("u") else 125
    return (whole // 2 - lowest // 2).astype(name).reshape(rows, columns)


def run(X, dtype, scale):
    """Everything that reads X."""
    net = Sequential([Dense(8, "tanh"), Dense(3)], n_inputs=X.shape[1], dtype=dtype,
                     input_scale=scale)  # fmt: skip
    y = np.arange(len(X)) % 3
    history = net.fit(X, y, epochs=2, batch_size=16, validation_data=(X, y), progress=False)
    loss, gradient = net.loss_and_grad(X, y)
    return (
        net.flat_params, net.predict_proba(X), history["val_loss"], net.evaluate(X, y)["loss"],
        loss, gradient,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TYPES)
def test_a_type_gives_the_bits_of_its_conversion(name, dtype, engine, monkeypatch):
    X = features(name)
    scale = 1 / 64
    expected = run(np.ascontiguousarray(X, dtype), dtype, scale)
    read = []
    check = checks.check_features
    monkeypatch.setattr(checks, "_SMALL", 0)
    monkeypatch.setattr(
        "fastnn.network.check_features", lambda *args: (read.append(check(*args)), read[-1])[1]
    )
    for found, wanted in zip(run(X, dtype, scale), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert all(np.shares_memory(array, X) for array in read)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_float16_is_converted_exactly(dtype, engine, monkeypatch):
    monkeypatch.setattr(checks, "_SMALL", 0)
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    X = every[np.isfinite(every)][:, None]
    net = Sequential([Dense(5)], n_inputs=1, dtype=dtype)
    net.parameters()["0.W"][...] = 1
    np.testing.assert_array_equal(net.logits(X)[:, 0], X[:, 0].astype(dtype))


def test_a_scale_multiplies_the_features(engine):
    X = features("uint8")
    y = np.arange(len(X)) % 3
    nets = [Sequential([Dense(3)], n_inputs=11, input_scale=scale) for scale in (1 / 256, 1.0)]
    for net, rows in zip(nets, (X, X.astype(np.float32) / 256), strict=True):
        net.fit(rows, y, epochs=2, progress=False)
    np.testing.assert_array_equal(nets[0].flat_params, nets[1].flat_params)


def test_a_trace_scales_too():
    X = features("uint8")
    net = Sequential([Dense(3)], n_inputs=11, input_scale=1 / 4)
    wanted = Sequential([Dense(3)], n_inputs=11).trace(X / 4.0)
    np.testing.assert_array_equal(net.trace(X)["0.z"], wanted["0.z"])


def test_the_scale_is_kept_in_the_file(tmp_path):
    net = Sequential([Dense(3)], n_inputs=11, input_scale=1 / 255)
    net.fit(features("uint8"), np.arange(150) % 3, epochs=1, progress=False)
    net.save(tmp_path / "net")
    back = fastnn.load(tmp_path / "net")
    assert back.input_scale == 1 / 255
    assert "input_scale=0.00392" in repr(back)
    np.testing.assert_array_equal(
        back.predict_proba(features("uint8")), net.predict_proba(features("uint8"))
    )


@pytest.mark.parametrize("name", ["uint8", "float64"])
def test_x_is_not_copied(name, engine):
    X = np.zeros((12000, 500), name)
    y = np.arange(12000) % 2
    net = Sequential([Dense(4, "relu"), Dense(1)])
    net.fit(X[:64], y[:64], epochs=1, progress=False)
    tracemalloc.start()
    try:
        net.fit(X, y, epochs=1, progress=False)
        net.predict(X)
        net.evaluate(X, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A chunk of 1024 rows in float32 is 2 MB, the copy would be 24 MB.
    assert peak < 14e6


def test_what_float32_cannot_hold_is_refused_without_a_copy(monkeypatch):
    monkeypatch.setattr(checks, "_SMALL", 0)
    X = np.ones((4, 3))
    net = Sequential([Dense(2)], n_inputs=3)
    for bad, message in [(np.nan, r"X\[2, 1\] is nan"), (-np.inf, r"X\[2, 1\] is -inf"),
                         (1e300, "too large for float32")]:  # fmt: skip
        X[2, 1] = bad
        with pytest.raises(ValueError, match=message):
            net.logits(X)
    half = np.full((4, 3), np.inf, np.float16)
    with pytest.raises(ValueError, match="replace or drop"):
        net.logits(half)


@pytest.mark.parametrize("scale", [0, 0.0, 1e-60, 1e60, np.nan, np.inf])
def test_a_scale_of_nothing_is_refused(scale):
    with pytest.raises(ValueError, match="input_scale"):
        Sequential([Dense(1)], input_scale=scale)


def test_a_scale_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="input_scale"):
        Sequential([Dense(1)], input_scale="1/255")


@pytest.mark.parametrize("name", ["complex128", "datetime64[s]", "S3", "V4"])
def test_a_type_that_cannot_be_converted_is_refused(name):
    with pytest.raises(TypeError, match="real numbers"):
        Sequential([Dense(1)], n_inputs=2).logits(np.zeros((3, 2), name))


def test_the_engine_gathers_only_what_it_must(compiled, workspaces):
    """A float32 X in order is read where it lies."""
    net = Sequential([Dense(5)], n_inputs=3)
    X = np.ones((64, 3), np.float32)
    net.logits(np.ones((1 << 16, 3)))
    net.logits(X)
    read = {
        variant.features
        for ws in workspaces
        for bound in ws.programs.values()
        for variant in bound.programs
    }
    assert read == {np.dtype("float64"), None}
