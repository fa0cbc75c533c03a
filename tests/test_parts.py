"""The small parts: activations as functions, the digits, splitting, pictures, start-up."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import table

import fastnn
from fastnn import Dense, Sequential, data
from fastnn.engines import threads


def test_the_digits_are_scikit_learns():
    X, y = data.load_digits()
    assert X.shape == (1797, 64)
    assert X.dtype == np.uint8
    assert X.max() == 16
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    datasets = pytest.importorskip("sklearn.datasets")
    expected = datasets.load_digits(return_X_y=True)
    np.testing.assert_array_equal(X, expected[0])
    np.testing.assert_array_equal(y, expected[1])


def test_a_stratified_split_keeps_the_shares():
    labels = np.repeat([0, 1, 2], [100, 40, 8])
    train, test = data.stratified_split(labels)
    assert sorted([*train, *test]) == list(range(148))
    assert np.bincount(labels[test]).tolist() == [25, 10, 2]
    again = data.stratified_split(labels)
    np.testing.assert_array_equal(train, again[0])
    assert not np.array_equal(train, data.stratified_split(labels, seed=1)[0])


def test_digits_reach_the_accuracy_of_the_readme():
    X, y = data.load_digits()
    train, test = data.stratified_split(y)
    net = Sequential([Dense(128, "relu"), Dense(10)])
    net.fit(X[train] / 16, y[train], optimizer=fastnn.Adam(0.003), epochs=40, progress=False)
    assert net.evaluate(X[test] / 16, y[test])["accuracy"] >= 0.975


def test_learning_curves_are_drawn(tmp_path):
    X, y = table()
    net = Sequential([Dense(3)])
    history = net.fit(X, y, epochs=3, validation_data=(X, y), progress=False)
    figure = history.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), history["val_accuracy"])
    regression = Sequential([Dense(1)]).fit(X, X[:, 0], epochs=1, progress=False)
    assert len(regression.plot().axes) == 1


def test_importing_fastnn_imports_little():
    """Only NumPy: everything else comes with its first use."""
    code = "import sys, fastnn; print(*[m for m in sys.modules if '.' not in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "fastnn" in loaded
    assert not loaded & {"numba", "scipy", "matplotlib", "sklearn", "tqdm", "click", "safetensors"}


def test_every_public_name_exists():
    for name in fastnn.__all__:
        assert getattr(fastnn, name) is not None
    assert set(fastnn.__all__) <= set(dir(fastnn))
    with pytest.raises(AttributeError, match="Sequentail"):
        fastnn.Sequentail  # noqa: B018


def test_cpu_count_respects_quota_and_affinity(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: 3)
    assert threads.cpu_count() == 3
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: None)
    assert threads.cpu_count() == 8
