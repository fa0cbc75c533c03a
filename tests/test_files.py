"""Model files: equal bits back. Damaged files are in test_hostile_files.py."""

import os
import sys

import numpy as np
import pytest
from conftest import table
from keep_files import HERE, networks, rows

import fastnn
from fastnn import Dense, Sequential

X, Y = table(40)


def trained(labels=None, **arguments):
    labels = np.arange(3) if labels is None else labels
    net = Sequential([Dense(5, "tanh"), Dense(3)], **arguments)
    net.fit(X, labels[Y], epochs=2, progress=False)
    return net


@pytest.mark.parametrize("labels", [
    np.arange(3), np.array(["é", "b", "c"]), np.array([1.0, 2.0, 7.0]),
    np.array(["x", "y", "z"], dtype=object), np.array([b"x", b"y", b"z"]),
], ids=lambda labels: labels.dtype.str)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_bits_come_back(tmp_path, engine, dtype, labels):
    net = trained(labels, seed=2**40, dtype=dtype)
    net.save(tmp_path / "m.safetensors")
    back = fastnn.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(back.flat_params, net.flat_params)
    assert back.flat_params.dtype == dtype
    np.testing.assert_array_equal(back.predict_proba(X), net.predict_proba(X))
    assert back.predict(X).dtype == labels.dtype
    np.testing.assert_array_equal(back.predict(X), net.predict(X))
    assert back.evaluate(X, labels[Y]) == net.evaluate(X, labels[Y])
    assert repr(back) == repr(net)
    assert str(back.plan) == str(net.plan)


def test_regression_and_untrained_networks(tmp_path):
    net = Sequential([Dense(4, "relu"), Dense(1)])
    net.fit(X, X[:, 0], epochs=1, progress=False)
    net.save(tmp_path / "a")
    np.testing.assert_array_equal(fastnn.load(tmp_path / "a").predict(X), net.predict(X))
    untrained = Sequential([Dense(2)], n_inputs=7)
    untrained.save(tmp_path / "b")
    back = fastnn.load(tmp_path / "b")
    np.testing.assert_array_equal(back.flat_params, untrained.flat_params)
    with pytest.raises(fastnn.errors.NotFittedError):
        back.predict(X)


def test_a_loaded_network_trains_on(tmp_path):
    net = trained()
    net.save(tmp_path / "m")
    back = fastnn.load(tmp_path / "m")
    with pytest.warns(fastnn.errors.FitWarning, match="no state of its training"):
        back.fit(X, Y, epochs=1, progress=False)
    assert np.isfinite(back.flat_params).all()


def test_another_program_can_read_it(tmp_path):
    from safetensors.numpy import load_file

    net = trained()
    net.save(tmp_path / "m")
    tensors = load_file(tmp_path / "m")
    assert {name: t.shape for name, t in tensors.items()} == {
        "0.W": (7, 5), "0.b": (5,), "1.W": (5, 3), "1.b": (3,),
    }  # fmt: skip


def test_saving_replaces_whole_files_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "m"
    net = trained()
    net.save(path)
    kept = path.read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastnn.safe_writes.os.replace", full)
    net.flat_params[:] = 0
    with pytest.raises(OSError, match="No space"):
        net.save(path)
    assert path.read_bytes() == kept
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_saved_file_may_be_read_as_any_other(tmp_path):
    net = Sequential([Dense(2)], n_inputs=7)
    before = os.umask(0o027)
    try:
        net.save(tmp_path / "m")
        net.save(tmp_path / "m")
    finally:
        os.umask(before)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o640


def test_labels_that_no_file_can_hold(tmp_path):
    labels = np.empty(3, dtype=object)
    labels[:] = [("a", 1), ("b", 2), ("c", 3)]
    net = trained(labels)
    with pytest.raises(TypeError, match="labels of type tuple cannot be written"):
        net.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_and_a_missing_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        fastnn.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        trained().save(tmp_path / "none" / "m")


@pytest.mark.parametrize("path", sorted(HERE.glob("*.safetensors")), ids=lambda path: path.stem)
def test_files_of_earlier_versions_are_read(engine, path):
    """Equal parameters for ever, equal answers to rounding."""
    net = fastnn.load(path)
    kept = np.load(path.with_suffix(".npz"))
    np.testing.assert_array_equal(net.flat_params, kept["flat_params"])
    assert net.flat_params.dtype == kept["flat_params"].dtype
    np.testing.assert_allclose(net.logits(rows()), kept["logits"], rtol=1e-4, atol=1e-6)
    predicted = net.predict(rows())
    assert predicted.dtype == kept["predict"].dtype
    if predicted.dtype.kind == "f":
        np.testing.assert_allclose(predicted, kept["predict"], rtol=1e-4, atol=1e-6)
    else:
        np.testing.assert_array_equal(predicted, kept["predict"])


@pytest.mark.filterwarnings("ignore:the gradient of the layers:fastnn.errors.FitWarning")
@pytest.mark.parametrize("case", list(networks()), ids=lambda case: case[0])
def test_networks_of_every_kind_come_back(tmp_path, engine, case):
    _, net, arguments = case
    net.fit(rows(), epochs=1, progress=False, **arguments)
    net.save(tmp_path / "m")
    back = fastnn.load(tmp_path / "m")
    np.testing.assert_array_equal(back.flat_params, net.flat_params)
    np.testing.assert_array_equal(back.logits(rows()), net.logits(rows()))
    np.testing.assert_array_equal(back.predict(rows()), net.predict(rows()))
    y = arguments["y"]
    assert back.evaluate(rows(), y) == net.evaluate(rows(), y)
    assert [layer.config() for layer in back.layers] == [layer.config() for layer in net.layers]
    assert repr(back) == repr(net)


def test_every_kind_of_network_has_a_kept_file():
    assert {path.stem for path in HERE.glob("*.safetensors")} == {
        f"1-{name}" for name, _, _ in networks()
    }
