"""Fits on an iterable of batches: bit for bit those on arrays, and named errors."""

import itertools

import numpy as np
import pytest
from conftest import ENGINES, only, table
from stream_cases import SOURCES, W, X, assert_same, batches, compare, network, plain, rich, y

import fastnn
from fastnn import (
    EMA,
    SGD,
    SWA,
    Adam,
    Callback,
    Dense,
    EarlyStopping,
    Embedding,
    Sequential,
    schedules,
)

# -- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_fit_on_batches_has_the_bits_of_one_on_arrays(engine, source):
    compare(rich, source, validation_data=(X[:40], y[:40]))


@pytest.mark.parametrize(
    "options",
    [
        {"ema": 0.9},
        {"ema": EMA(0.9, every=3, start=4), "validation_data": (X, y)},
        {"optimizer": SGD(schedules.TimeDecay(start=0.1, decay=0.01), momentum=0.9)},
        {"schedule": schedules.Cyclic(start=0.5, peak=1.0, up=3)},
        {"schedule": schedules.ReduceOnPlateau(metric="loss", patience=0, threshold=0.9)},
        {"optimizer": Adam(0.01, clip_norm=0.1, weight_decay=0.01)},
        {"class_weight": {0: 1.0, 1: 2.0, 2: 0.0}},
        {"steps": 7, "epochs": None},
        {"steps": 10, "epochs": None},
        {"steps": 3, "epochs": 2},
        {"early_stopping": EarlyStopping(patience=0, metric="loss", min_delta=1.0)},
        {"freeze": ["0"]},
        {"metrics": ("accuracy",), "validation_data": (X, y)},
    ],
    ids=str,
)
@pytest.mark.parametrize("source", ["list", "function"])
def test_so_it_is_with_every_option(options, source):
    compare(rich, SOURCES[source], **{"epochs": 4, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"swa": SWA(1)},
        {"swa": SWA(0.5)},
        {"swa": SWA(1), "steps": 13},
        {"swa": SWA(1), "steps": 15},
    ],
    ids=str,
)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_averages_of_epochs(source, options):
    compare(rich, source, **options, epochs=4)


@pytest.mark.parametrize("source", ["list", "loader"])
@pytest.mark.parametrize(
    "schedule",
    [schedules.Cosine(), schedules.PerEpoch(schedules.StepDecay(factor=0.5, every=1)), [0.5] * 15],
    ids=str,
)
def test_schedules_that_know_the_length(source, schedule):
    compare(plain, SOURCES[source], schedule=schedule)


def test_schedules_of_a_length_that_is_not_known_are_refused_or_given_steps():
    function = SOURCES["function"](batches())
    for schedule in (
        schedules.Cosine(),
        schedules.PerEpoch(schedules.StepDecay(factor=0.5, every=1)),
    ):
        for change in ({"schedule": schedule}, {"optimizer": Adam(schedule)}):
            net = plain()
            with pytest.raises(ValueError, match=r"not known|does not know"):
                net.fit(function, epochs=2, progress=False, **change)
            assert net.history is None
    net = compare(plain, SOURCES["function"], epochs=None, steps=10, schedule=schedules.Cosine())[0]
    assert net.history.n_steps == 10


@pytest.mark.parametrize("loss", ["mse", "sse", "binary_cross_entropy", "cross_entropy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_and_penalties(engine, loss, weighted):
    data = (X, y, W) if weighted else (X, y)
    compare(
        rich, SOURCES["list"], {"sample_weight": W} if weighted else None, data=data, loss=loss,
        optimizer=SGD(0.001),
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 30, 50, 150])
def test_batches_of_any_size(size):
    compare(plain, SOURCES["list"], size=size, epochs=2)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int64", "bool", "f4"])
def test_any_dtype(engine, dtype):
    Z = (10 * np.abs(X)).astype(dtype)
    compare(lambda: network(input_scale=0.1), SOURCES["list"], data=(Z, y))


@pytest.mark.parametrize("kind", ["labels", "text", "one_hot", "values", "column", "multilabel"])
def test_any_kind_of_targets(kind):
    targets = {
        "labels": y,
        "text": np.array(["red", "green", "blue"])[y],
        "one_hot": np.eye(3)[y],
        "values": X[:, :3] ** 2,
        "column": y[:, None],
        "multilabel": (X[:, :3] > 0).astype(float),
    }[kind]
    compare(plain, SOURCES["function"], data=(X, targets))


def test_pieces_of_large_batches(compiled, monkeypatch):
    monkeypatch.setattr(fastnn.run, "PIECE_ELEMENTS", 1 << 10)
    big, labels = table(3000, n_inputs=5)
    for loss in ("cross_entropy", "sse"):
        compare(
            lambda: network(Dense(8, "tanh", l2=1e-3), Dense(3)), SOURCES["list"],
            data=(big, labels), size=1200, epochs=2, loss=loss, optimizer=SGD(1e-5),
        )  # fmt: skip


def test_the_workspace_grows(engine, workspaces):
    parts = [X[:5], X[5:50], X[50:55], X[55:150]]
    labels = [y[:5], y[5:50], y[50:55], y[55:150]]
    net = rich()
    net.fit(lambda: iter(zip(parts, labels, strict=True)), epochs=3, ema=0.9, progress=False)
    sizes = [ws.rows for ws in workspaces if ws.update is not None]
    assert sizes[0] == 5
    assert len(sizes) == 3
    other, workspaces[:] = rich(), []
    other.fit(list(zip(parts, labels, strict=True)), epochs=3, ema=0.9, progress=False)
    assert [ws.rows for ws in workspaces if ws.update is not None] == [95]
    assert_same(net, other)
    third = rich()
    for _ in range(3):
        for part, label in zip(parts, labels, strict=True):
            third.partial_fit(part, label, batch_size=None, ema=EMA(0.9, keep="last"))
    other.fit([(X, y)], epochs=1, ema=EMA(0.9, keep="last"), progress=False)
    assert np.isfinite(third.flat_params).all()


def test_rows_per_batch_may_differ_and_the_loss_is_that_of_the_rows():
    cuts = [0, 3, 40, 41, 150]
    parts = [(X[a:b], y[a:b], W[a:b]) for a, b in itertools.pairwise(cuts)]
    net, whole = network(), network()
    frozen = SGD(1e-30)
    line = net.fit(parts, epochs=1, optimizer=frozen, progress=False)
    other = whole.fit(X, y, sample_weight=W, batch_size=None, epochs=1, optimizer=frozen,
                      shuffle=False, progress=False)  # fmt: skip
    assert line["loss"][0] == pytest.approx(other["loss"][0], rel=1e-6)
    assert line["accuracy"] == other["accuracy"]
    assert line.n_rows == 150


def test_a_batch_without_weight_is_a_step_as_in_a_fit_on_arrays():
    weights = W.copy()
    weights[32:64] = 0
    compare(plain, SOURCES["function"], {"sample_weight": weights}, data=(X, y, weights))
    with pytest.raises(ValueError, match=r"above 0"):
        plain().fit([(X, y, 0 * W)], epochs=1, progress=False)


def test_on_steps_and_lr_factor_and_stop():
    class Halve(Callback):
        every = 4

        def __init__(self):
            self.steps = []

        def on_steps(self, training):
            self.steps.append(training.step)
            training.lr_factor *= 0.5
            if training.step == 12:
                training.stop("enough")

    one, two = Halve(), Halve()
    net, other = rich(), rich()
    net.fit(X, y, shuffle=False, epochs=4, callbacks=one, progress=False)
    other.fit(lambda: iter(batches()), epochs=4, callbacks=two, progress=False)
    assert one.steps == two.steps == [4, 8, 12]
    assert_same(net, other)
    assert other.history.stopped == "enough"


def test_more_batches_than_are_planned_at_once():
    many = batches(*table(600, n_inputs=5), size=1)
    data = table(600, n_inputs=5)
    schedule = schedules.TimeDecay(decay=0.01)
    compare(plain, SOURCES["function"], data=data, size=1, epochs=2, schedule=schedule)
    net = plain()
    net.fit(iter(many), schedule=schedule, progress=False)
    assert net.history.n_steps == len(net.history["loss"]) * 600 == 600


def test_epochs_on_batches():
    net, other = rich(), rich()
    net.fit(batches(), epochs=4, progress=False)
    lines = list(other.epochs(lambda: iter(batches()), epochs=4, progress=False))
    assert_same(net, other)
    assert [line["loss"] for line in lines] == net.history["loss"]


def test_a_network_with_codes():
    codes = np.column_stack([y.astype(np.float32), X[:, 0]])

    def make():
        return Sequential([Embedding({0: (3, 2)}), Dense(3)], seed=1)

    compare(make, SOURCES["list"], data=(codes, y))
    with pytest.raises(ValueError, match=r"batch 1 of epoch 0"):
        make().fit([(codes, y), (codes + 5, y)], epochs=1, progress=False)


def test_every_engine_is_the_same_on_batches():
    params = []
    for name in ENGINES:
        if name != "numpy":
            with only(name):
                net = rich()
                net.fit(lambda: iter(batches(X, y, W)), epochs=3, ema=0.9, progress=False)
                params.append(net.flat_params)
    assert all(np.array_equal(params[0], other) for other in params)
