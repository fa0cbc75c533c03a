"""Checkpoints of another fit, and bad arguments: errors say what is wrong, and change nothing."""

import functools
import os

import numpy as np
import pytest
from conftest import table

import fastnn
from fastnn import (
    LBFGS,
    Adam,
    BatchNorm,
    Dense,
    Dropout,
    EarlyStopping,
    Sequential,
    checkpoints,
    schedules,
)
from fastnn.errors import CheckpointError
from fastnn.fit_descriptions import text_of
from fastnn.losses import Custom

X, Y = table(300)


def network(**more):
    return Sequential(
        [Dense(9, "relu"), Dropout(0.2), BatchNorm(), Dense(3)], **{"seed": 1, **more}
    )


def fit(net=None, X=X, Y=Y, **more):
    """A fit of 12 steps in 4 epochs."""
    net = network() if net is None else net
    net.fit(X, Y, **{"epochs": 4, "batch_size": 100, "progress": False, **more})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.ckpt"


# -- other fits -----------------------------------------------------------------------------------


def layers(*more):
    return Sequential([*more, Dense(3)], seed=1)


def loss(y, a):
    return ((a - y) ** 2).sum(axis=1), 2 * (a - y)


def other_loss(y, a):
    return loss(y, a)


WEIGHTS = np.linspace(1, 2, len(X))
MORE = np.append(X, X[:1], axis=0), np.append(Y, 0)
ONE_HOT = {"Y": np.eye(3)[Y]}

#: What a fit is given, what the other one is given besides, and the message.
OTHERS = {
    "layers": ({}, {"net": layers()}, r"layers is 4 of them there, but 1 here"),
    "a layer": (
        {"net": layers(Dense(5))}, {"net": layers(Dense(6))},
        r"layer 0 is Dense\(5, .* there, but Dense\(6, .* here"),
    "an activation": (
        {"net": layers(Dense(5, "relu"))}, {"net": layers(Dense(5, "tanh"))},
        "layer 0 is .*activation=relu.* there, but .*activation=tanh"),
    "dtype": ({}, {"net": network(dtype="float64")}, "dtype is float32 there, but float64 here"),
    "seed": ({}, {"net": network(seed=2)}, "seed is 1 there, but 2 here"),
    "l2": ({}, {"net": network(l2=0.1)}, "l2 is .* there, but 0.1 here"),
    "scale": ({}, {"net": network(input_scale=0.5)}, "input_scale is 1.0 there, but 0.5"),
    "loss": ({**ONE_HOT, "loss": "mse"}, {"loss": "sse"}, "loss is .*'mse'.* there, but .*'sse'"),
    "smoothing": ({}, {"loss": fastnn.losses.CrossEntropy(0.1)}, "loss is .* but .*0.1"),
    "your loss": (
        {**ONE_HOT, "loss": Custom(loss)}, {"loss": Custom(other_loss)},
        "loss is .*'loss'.* there, but .*'other_loss'"),
    "optimizer": ({}, {"optimizer": "sgd"}, r"optimizer is Adam\(\) there, but SGD\(.*\) here"),
    "rate": ({}, {"optimizer": Adam(0.1)}, r"optimizer is Adam\(\) there, but Adam\(lr=0.1\)"),
    "factors": (
        {"optimizer": Adam(lr_factors={0: 0.5})}, {"optimizer": Adam(lr_factors={0: 0.25})},
        r"optimizer is .*'0': 0.5.* there, but .*'0': 0.25"),
    "batch size": ({}, {"batch_size": 99}, "batch_size is 100 there, but 99 here"),
    "accumulate": ({}, {"batch_size": 50, "accumulate": 2}, "accumulate is 1 there, but 2 here"),
    "steps": ({}, {"steps": 11}, "steps is None there, but 11 here"),
    "initial epoch": ({}, {"initial_epoch": 1}, "initial_epoch is 0 there, but 1 here"),
    "shuffle": ({}, {"shuffle": False}, "shuffle is True there, but False here"),
    "freeze": ({}, {"freeze": [0]}, r"what is trained is \['0.W'.* there, but \['3.W'"),
    "ema": ({"ema": 0.9}, {"ema": 0.8}, r"ema or swa is EMA\(decay=0.9\) there, but EMA\(decay="),
    "swa": ({"ema": 0.9}, {"ema": None, "swa": 1}, r"ema or swa is EMA.* there, but SWA\(start"),
    "schedule": (
        {"schedule": schedules.Cosine()}, {"schedule": schedules.OneCycle()},
        r"schedule is Cosine\(\) there, but OneCycle\(\) here"),
    "a function": (
        {"schedule": functools.partial(np.power, 0.5)}, {"schedule": lambda step: 1.0},
        r"schedule is Function\(partial\(.*there, but Function\(test_other_checkpoints.<la"),
    "early stopping": (
        {"early_stopping": EarlyStopping(9, "loss")}, {"early_stopping": EarlyStopping(8, "loss")},
        "early_stopping is .*patience=9.* there, but .*patience=8"),
    "rows": ({}, {"X": MORE[0], "Y": MORE[1]}, "rows of X is 300 there, but 301 here"),
    "type": (
        {"X": np.tile(X, (70, 1)), "Y": np.tile(Y, 70), "batch_size": 9999},
        {"X": np.tile(X, (70, 1)).astype(np.float64)}, "type of X is float32 there, but float64"),
    "values": ({}, {"X": X + 1}, "values of X is '?[0-9a-f]{16}.* there, but"),
    "the last row": ({}, {"X": np.append(X[:-1], X[:1], axis=0)}, "values of X is"),
    "targets": ({}, {"Y": np.roll(Y, 1)}, "y is .*checksum [0-9a-f]{16}.* there, but"),
    "labels": ({}, {"Y": np.array(["a", "b", "c"])[Y]}, r"form of y is .*\[0, 1, 2\].*'b', 'c'"),
    "weights": ({}, {"sample_weight": WEIGHTS}, "weights of rows is None there, but"),
    "other weights": (
        {"sample_weight": WEIGHTS}, {"sample_weight": WEIGHTS[::-1]}, "weights of rows is"),
    "class weights": ({}, {"class_weight": "balanced"}, "weights of rows is None there, but"),
    "some rows": ({"rows": np.arange(50)}, {"rows": np.arange(1, 51)}, "numbers of the rows is"),
    "split": ({}, {"validation_split": 0.1}, "the values of an epoch is|numbers of the rows is"),
    "validation": (
        {"validation_data": (X, Y)}, {"validation_data": (X + 1, Y)}, "validation values of X is"),
    "validation targets": (
        {"validation_data": (X, Y)}, {"validation_data": (X, np.roll(Y, 1))}, "validation y is"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_the_checkpoint_of_another_fit(path, name):
    given, more, message = OTHERS[name]
    given = dict(given)
    fit(**{**given, "net": given.get("net") or network()}, checkpoint=path, epochs=1)
    content = path.read_bytes()
    net = more.get("net") or Sequential((given.get("net") or network()).layers, seed=1)
    before = None if net._params is None else net._params.copy()
    options = {**given, **more, "net": net}
    with pytest.raises(CheckpointError, match=message) as caught:
        fit(**options, checkpoint=path, resume=True)
    text = str(caught.value)
    assert text.startswith(f"{str(path)!r} is the checkpoint of another fit: ")
    assert "To go on with that fit, repeat its arguments and data; to begin anew, leave out" in text
    assert len(text) < 800 + len(str(path))
    assert "0x" not in text
    assert net.history is None
    assert (net._params is None) == (before is None)
    assert path.read_bytes() == content
    fit(**options, checkpoint=path)  # replaces it


def test_text_of_objects_does_not_depend_on_the_process():
    class Called:
        def __init__(self):
            self.count = id(self)

        def __call__(self, step):
            return 1.0

        def __repr__(self):
            return f"Called({self.count})"

    for make in (
        lambda: lambda step: 1.0,
        Called,
        lambda: functools.partial(Called(), a={"x", "y"}),
    ):
        texts = {text_of(schedules.get(make())) for _ in range(3)}
        assert len(texts) == 1
        assert "0x" not in texts.pop()
    assert text_of({3, 1, 2}) == "{1, 2, 3}"
    long = text_of(np.arange(10.0).astype(object).tolist() * 1000)
    assert len(long) < 5000
    assert long != text_of(np.arange(10.0).astype(object).tolist() * 999 + [9.5] * 10)


# -- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"checkpoint": 3}, TypeError, "checkpoint must be a path, not 3"),
    ({"checkpoint": ""}, ValueError, "must be the path of a file, not ''"),
    ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1, not 0"),
    ({"checkpoint_every": 1.5}, TypeError, "checkpoint_every must be a whole number, not 1.5"),
    ({"checkpoint_every": "60"}, ValueError, "epochs or seconds such as '60s', not '60'"),
    ({"checkpoint_every": "0s"}, ValueError, "checkpoint_every must be above 0"),
    ({"checkpoint_every": "-1s"}, ValueError, "such as '60s', not '-1s'"),
    ({"checkpoint_every": "nans"}, ValueError, "such as '60s', not 'nans'"),
    ({"resume": True}, ValueError, "resume=True needs the file to go on from"),
    ({"resume": "yes", "checkpoint": "a"}, TypeError, "resume must be True or False"),
    ({"optimizer": LBFGS(), "checkpoint": "a", "batch_size": None}, ValueError,
     "no checkpoint can hold"),
])  # fmt: skip
def test_bad_arguments(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        fit(**arguments)
    assert os.listdir(tmp_path) == []


def test_periods():
    assert checkpoints.period(3) == (3, None)
    assert checkpoints.period(np.int64(3)) == (3, None)
    assert checkpoints.period("60s") == (None, 60.0)
    assert checkpoints.period("0.5 s") == (None, 0.5)
