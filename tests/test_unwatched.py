"""Epochs that nobody sees one by one run in one call of the engine, with the same bits."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from conftest import table

import fastnn
from fastnn import SGD, Adam, BatchNorm, Dense, Dropout, RAdam, Sequential, unwatched
from fastnn.engines.workspace import Data
from fastnn.errors import DivergedError

X, Y = table(100)
LAYERS = (Dense(9, "relu"), Dense(3))


@pytest.fixture
def together(monkeypatch):
    """How many epochs each run of several had."""
    found = []
    original = unwatched.train

    def note(training, epochs, rows):
        found.append(epochs)
        return original(training, epochs, rows)

    monkeypatch.setattr(unwatched, "train", note)
    return found


def trained(y=Y, layers=LAYERS, **arguments):
    net = Sequential(layers, seed=3)
    given = {"epochs": 40, "batch_size": 32, "progress": False, **arguments}
    net.fit(X, y, **given)
    return net


def contents(net):
    """All that a fit leaves, but for times."""
    state, history = net.training_state, net.history
    values = {name: found for name, found in history.items() if name != "seconds"}
    counted = state.step, state.total_steps, state.epoch, history.n_steps, history.rows_trained
    arrays = net.flat_params, state.slots, state.state
    return [values, counted, history.stopped, [array.tobytes() for array in arrays]]


FITS = {
    "ragged": {},
    "whole": {"batch_size": 25},
    "all rows": {"batch_size": None},
    "steps": {"steps": 70, "epochs": None},
    "some rows": {"rows": np.arange(0, 100, 3), "batch_size": 7},
    "some rows in order": {"shuffle": False, "rows": np.arange(0, 100, 3), "batch_size": 7},
    "weights": {"sample_weight": np.arange(100) % 7, "optimizer": RAdam(0.01)},
    "a sum": {"y": X[:, :3], "loss": "sse", "optimizer": SGD(1e-5, momentum=0.9)},
    "penalties": {"y": X[:, :1], "layers": (Dense(9, "tanh", l2=0.1), Dense(1)), "loss": "sse",
                  "optimizer": SGD(1e-4)},
    "noise": {"layers": (Dense(9, "relu"), Dropout(0.3), Dense(3)), "optimizer": Adam(0.01)},
    "statistics": {"layers": (Dense(9, "relu"), BatchNorm(), Dense(3)), "optimizer": Adam(0.01)},
    "accumulated": {"batch_size": 9, "accumulate": 3},
}  # fmt: skip


@pytest.mark.parametrize("fit", FITS)
def test_several_epochs_have_the_bits_of_single_ones(engine, fit, together, monkeypatch):
    monkeypatch.setattr(unwatched, "_SECONDS", 60.0)
    found = contents(trained(**FITS[fit]))
    assert together
    assert max(together) > 10
    together.clear()
    alone = contents(trained(**FITS[fit], callbacks=lambda training: None))
    assert not together
    assert found == alone


def test_a_second_fit_goes_on(compiled, together, monkeypatch):
    monkeypatch.setattr(unwatched, "_SECONDS", 60.0)
    nets = [Sequential([Dense(9, "relu"), Dense(3)], seed=3) for _ in range(2)]
    for epochs in (20, 13):
        nets[0].fit(X, Y, epochs=epochs, progress=False)
    for epoch, _ in enumerate(nets[1].epochs(X, Y, epochs=33, progress=False)):
        assert epoch < 33
    assert len(together) >= 2
    np.testing.assert_array_equal(nets[0].flat_params, nets[1].flat_params)


def test_the_time_is_shared_among_them(together, monkeypatch):
    monkeypatch.setattr(unwatched, "_SECONDS", 60.0)
    seconds = trained().history["seconds"]
    assert len(seconds) == 40
    assert len(set(seconds[-together[-1] :])) == 1
    assert all(value > 0 for value in seconds)


@pytest.mark.parametrize("parts", [1, 3])
def test_threads_and_parts_change_no_bit(compiled, parts, n_threads, together, monkeypatch):
    monkeypatch.setattr(unwatched, "_SECONDS", 60.0)
    alone = contents(trained(callbacks=lambda training: None))
    monkeypatch.setattr("fastnn.engines.compiled.LEAST_WORK", 0.0)
    monkeypatch.setattr("fastnn.engines.compiled.PARTS", parts if parts > 1 else None)
    n_threads(2)
    assert contents(trained()) == alone
    assert together


WATCHED = {
    "callbacks": lambda training: None,
    "seconds": 1e6,
    "schedule": fastnn.schedules.Cosine(),
    "optimizer": SGD(fastnn.schedules.Linear(0.1, 0.01, steps=10)),
    "validation_data": (X, Y),
    "validation_split": 0.2,
    "early_stopping": fastnn.EarlyStopping(5, "loss"),
    "ema": 0.9,
    "swa": 0.5,
    "shuffle ": False,
    "shuffle": lambda epoch, n: np.arange(n),
}


@pytest.mark.parametrize("what", WATCHED)
def test_whatever_sees_an_epoch_gets_each(what, together):
    trained(**{what.strip(): WATCHED[what]})
    assert not together


def test_other_things_that_see_each_epoch(together, tmp_path, caplog):
    trained(checkpoint=tmp_path / "file")
    pytest.importorskip("tqdm")
    trained(progress=True, epochs=5)
    with caplog.at_level(logging.DEBUG, "fastnn"):
        trained(epochs=5)
    assert len([record for record in caplog.records if record.levelname == "DEBUG"]) == 5
    for _ in Sequential([Dense(3)]).epochs(X, Y, epochs=20, progress=False):
        pass
    assert not together


@pytest.mark.parametrize("lr", [0.3, 0.4, 0.5, 0.8])
def test_a_divergence_is_that_of_single_epochs(engine, lr, together, monkeypatch):
    """Everything is undone and run again, so that the error names the epoch."""
    monkeypatch.setattr(unwatched, "_SECONDS", 60.0)
    found = []
    for callbacks in ((), lambda training: None):
        net = Sequential([Dense(8, "identity"), Dense(1)], seed=3)
        with pytest.raises(DivergedError) as caught:
            net.fit(X, X[:, 0], loss="mse", optimizer=SGD(lr), epochs=200, batch_size=32,
                    callbacks=callbacks, progress=False)  # fmt: skip
        used = net.history.threads_used
        found.append([*contents(net), str(caught.value), caught.value.epoch, used])
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore::fastnn.errors.FitWarning")
def test_slots_alone_that_are_not_finite_are_undone(compiled, monkeypatch):
    monkeypatch.setattr(unwatched, "_SECONDS", 60.0)
    found = []
    for callbacks in ((), lambda training: None):
        net = Sequential([Dense(1)], seed=3)
        with pytest.raises(DivergedError) as caught:
            net.fit(1e19 * X, X[:, 0], loss="sse", optimizer=Adam(1e-30), epochs=50,
                    callbacks=callbacks, progress=False)  # fmt: skip
        found.append([*contents(net), str(caught.value)])
    assert found[0] == found[1]


def test_train_many_stops_at_a_selection(together, monkeypatch):
    monkeypatch.setattr(unwatched, "_SECONDS", 60.0)
    nets = fastnn.train_many(
        [{"seed": seed} for seed in range(4)], X, Y, layers=LAYERS, epochs=32,
        batch_size=25, halving=fastnn.Halving(2, "loss", every=8), progress=False,
    )  # fmt: skip
    assert together
    assert sorted(net.history.n_epochs for net in nets) == [8, 8, 16, 32]


def test_the_order_of_a_call_is_bounded(together, monkeypatch):
    monkeypatch.setattr(unwatched, "_SECONDS", 60.0)
    monkeypatch.setattr(unwatched, "_ROWS", 450)
    trained()
    assert set(together) <= {2, 3, 4}


def test_rows_and_numbers_of_batches():
    data = Data(X, order=np.arange(60) % 20, batch_size=8, epoch_rows=20)
    rows = [data.rows_of(index) for index in range(data.n_batches)]
    assert [(one.start, one.stop) for one in rows[:4]] == [(0, 8), (8, 16), (16, 20), (20, 28)]
    assert data.n_batches == 9
    assert rows[-1] == slice(56, 60)
    assert [data.batch_of(one.start) for one in rows] == list(range(9))
    one_batch = replace(data, order=np.arange(50), batch_size=50)
    assert one_batch.n_batches == 1
    assert one_batch.rows_of(0) == slice(0, 50)


def test_a_part_of_an_epoch_is_refused(compiled, workspaces):
    net = trained(epochs=1)
    fit = net._prepared
    data = Data(X, labels=Y.astype(np.int32), order=np.arange(90), batch_size=32, epoch_rows=40)
    with pytest.raises(ValueError, match="90 rows are no whole number of epochs of 40"):
        fit.engine.run_batches(fit.ws, data, None, np.zeros((1, 2)), 0, 1)
