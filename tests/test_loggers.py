"""The loggers, read back with the packages that they write for; and the best model in a file."""

import csv
import importlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import table

import fastnn
from fastnn import SGD, BestModel, CSVLogger, Dense, MLflowLogger, Sequential, TensorBoardLogger

X, Y = table(120)


def network():
    return Sequential([Dense(6, "relu"), Dense(3)], seed=3)


def fit(*callbacks, epochs=5, **arguments):
    return network().fit(
        X, Y, validation_data=(X[:40], Y[:40]), epochs=epochs, callbacks=callbacks, progress=False,
        **arguments,
    )  # fmt: skip


def fit_that_fails(*callbacks, at=3, error=ZeroDivisionError):
    """A fit in whose epoch `at` a callback raises an error."""

    def fail(training):
        if training.epoch == at:
            raise error

    with pytest.raises(error):
        fit(*callbacks, fail)


def resumed(callback, epochs, history, done, state=None):
    """The epochs of a fit that goes on after `done` ones, of which there is the history."""
    loop = network().epochs(
        X, Y, validation_data=(X[:40], Y[:40]), epochs=100, callbacks=[callback], progress=False
    )
    training = loop.training
    training.resumed, training.epochs_done = True, done
    for i in range(done):
        training.history.append({name: values[i] for name, values in history.items()}, len(X))
    if state is not None:
        callback.load_state_dict(state)
    for epoch in loop:
        if epoch.training.epoch == epochs:
            break
    return training.history


# -- CSV ------------------------------------------------------------------------------------------


def read(path):
    """The columns of a CSV file by name; that it ends with a whole line."""
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    assert text.endswith("\r\n")
    names, *rows = csv.reader(text.splitlines())
    assert all(len(row) == len(names) for row in rows)
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def test_a_csv_file_has_all_digits_of_the_history(tmp_path):
    history = fit(CSVLogger(tmp_path / "log.csv"))
    found = read(tmp_path / "log.csv")
    assert list(found) == ["epoch", *history]
    assert found["epoch"] == ["1", "2", "3", "4", "5"]
    for name, values in history.items():
        assert [float(cell) for cell in found[name]] == values
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_each_line_is_in_the_file_when_its_epoch_ends(tmp_path):
    path = tmp_path / "log.csv"
    counts = []
    fit(CSVLogger(path), lambda training: counts.append(len(read(path)["epoch"])), epochs=4)
    assert counts == [1, 2, 3, 4]


def test_a_file_is_replaced_when_the_first_epoch_is_complete(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("old")
    fit_that_fails(lambda training: None, CSVLogger(path), at=1)
    assert read(path)["epoch"] == ["1"]
    path.write_text("old")

    class Fails(fastnn.Callback):
        def on_epoch_begin(self, training):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(CSVLogger(path), Fails())
    assert path.read_text() == "old"


def test_the_epochs_are_counted_from_initial_epoch(tmp_path):
    fit(CSVLogger(tmp_path / "log.csv"), initial_epoch=7, epochs=9)
    assert read(tmp_path / "log.csv")["epoch"] == ["8", "9"]


def test_one_logger_logs_several_fits(tmp_path):
    logger = CSVLogger(tmp_path / "log.csv")
    fit(logger, epochs=3)
    history = fit(logger, epochs=2)
    assert [float(cell) for cell in read(logger.path)["loss"]] == history["loss"]


def test_names_with_commas_and_quotes_and_values_that_come_late(tmp_path):
    """A callback may add values. Those of earlier epochs are then empty."""

    class Adds(fastnn.Callback):
        def on_epoch_end(self, training):
            training.values['a "b", c'] = np.float32(0.5)
            if training.epoch > 2:
                training.values["late"] = float("nan")

    fit(Adds(), CSVLogger(tmp_path / "log.csv"), epochs=4)
    found = read(tmp_path / "log.csv")
    assert found['a "b", c'] == ["0.5"] * 4
    assert found["late"] == ["", "", "nan", "nan"]
    assert found["epoch"] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("left", ["", "8,0.12", "8,0.1,0.2,0.3\r\n9,0", '"', None])
def test_a_resumed_fit_continues_the_file(tmp_path, left):
    """The killed one wrote 5 epochs and perhaps a part of a line after its checkpoint of 3."""
    path = tmp_path / "log.csv"
    history = fit(CSVLogger(path), epochs=5)
    before = path.read_text(encoding="utf-8").splitlines()
    if left is None:
        path.unlink()
    else:
        with open(path, "a", newline="") as file:
            file.write(left)
    loop = resumed(CSVLogger(path), 6, history, 3)
    found = read(path)
    assert found["epoch"] == ["1", "2", "3", "4", "5", "6"]
    assert [float(cell) for cell in found["loss"]] == loop["loss"]
    assert path.read_text(encoding="utf-8").splitlines()[:4] == before[:4]


def test_a_fit_resumed_at_its_beginning_begins_the_file(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("old")
    history = resumed(CSVLogger(path), 2, {}, 0)
    assert [float(cell) for cell in read(path)["loss"]] == history["loss"]


def test_a_directory_that_does_not_exist(tmp_path):
    for callback in (CSVLogger(tmp_path / "no" / "log.csv"), BestModel(tmp_path / "no" / "best")):
        net = network()
        with pytest.raises(FileNotFoundError, match="no"):
            net.fit(X, Y, callbacks=[callback], progress=False)
        assert net._params is None


def test_a_full_disk_keeps_the_old_file_and_ends_the_fit(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastnn.safe_writes.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        fit(CSVLogger(path))
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_the_file_has_the_usual_permissions(tmp_path):
    usual, path = tmp_path / "usual", tmp_path / "log.csv"
    usual.touch()
    fit(CSVLogger(path))
    assert path.stat().st_mode == usual.stat().st_mode


def test_a_killed_process_leaves_whole_lines(tmp_path):
    program = (
        "import sys, numpy as np, fastnn; fastnn.set_engine('numpy');"
        "X = np.ones((4, 2)); y = [0, 1, 0, 1];"
        "fastnn.Sequential([fastnn.Dense(2)]).fit(X, y, epochs=10**6, progress=False,"
        "callbacks=[fastnn.CSVLogger(sys.argv[1])])"
    )
    path = tmp_path / "log.csv"
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stderr=subprocess.PIPE)
    try:
        while not path.exists() or path.stat().st_size < 2000:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()
    found = read(path)
    assert found["epoch"] == [str(i + 1) for i in range(len(found["epoch"]))]


# -- the best model -------------------------------------------------------------------------------


def params_by_epoch(into):
    return lambda training: into.append(training.net.flat_params.copy())


@pytest.mark.parametrize(
    ("metric", "better"),
    [(None, "val_loss"), ("val_loss", "val_loss"), ("val_accuracy", "val_accuracy"),
     ("loss", "loss")],
)  # fmt: skip
def test_the_file_has_the_best_epoch(tmp_path, metric, better):
    best, seen = BestModel(tmp_path / "best.safetensors", metric), []
    history = fit(best, params_by_epoch(seen), epochs=12, optimizer=SGD(2.0, momentum=0.9))
    values = history[better]
    choose = np.argmax if "accuracy" in better else np.argmin
    epoch = int(choose(values))
    assert 0 < epoch < 11 or better != "val_loss"
    assert best.best == values[epoch]
    assert best.best_epoch == epoch + 1
    assert fastnn.load(best.path).flat_params.tobytes() == seen[epoch].tobytes()


def test_without_validation_rows_the_loss_counts(tmp_path):
    best = BestModel(tmp_path / "best.safetensors")
    history = network().fit(X, Y, callbacks=[best], progress=False)
    assert best.best == min(history["loss"])
    with pytest.raises(ValueError, match="'val_loss', but the values of an epoch are 'loss', 'acc"):
        network().fit(X, Y, callbacks=[BestModel(best.path, "val_loss")], progress=False)


def test_small_improvements_do_not_count(tmp_path):
    best = BestModel(tmp_path / "best.safetensors", min_delta=10.0)
    fit(best)
    assert best.best_epoch == 1


def test_the_mode_may_be_given(tmp_path):
    best = BestModel(tmp_path / "best.safetensors", "val_loss", mode="max")
    history = fit(best)
    assert best.best == max(history["val_loss"])
    with pytest.raises(ValueError, match="mode"):
        BestModel(tmp_path / "best", mode="largest")
    with pytest.raises(ValueError, match="min_delta"):
        BestModel(tmp_path / "best", min_delta=-1)


def test_the_averaged_weights_are_saved_if_their_metric_counts(tmp_path):
    best, seen = BestModel(tmp_path / "best.safetensors", "average_val_loss"), []
    history = fit(best, params_by_epoch(seen), ema=0.9, epochs=8)
    epoch = int(np.argmin(history["average_val_loss"]))
    found = fastnn.load(best.path)
    value = found.evaluate(X[:40], Y[:40])["loss"]
    assert value == pytest.approx(history["average_val_loss"][epoch], rel=1e-6)
    assert (found.flat_params != seen[epoch]).any()
    plain = []
    fit(params_by_epoch(plain), ema=0.9, epochs=8)
    assert [one.tobytes() for one in seen] == [one.tobytes() for one in plain]


def test_a_resumed_fit_goes_on_from_the_best(tmp_path):
    best = BestModel(tmp_path / "best.safetensors")
    history = fit(best, epochs=3)
    state = best.state_dict()
    assert state == {"best": history["val_loss"][2], "best_epoch": 3}
    again = BestModel(best.path)
    best.path.unlink()
    resumed(again, 4, history, 3, {"best": -1.0, "best_epoch": 2})
    assert again.state_dict() == {"best": -1.0, "best_epoch": 2}
    assert not best.path.exists()
    resumed(again, 4, history, 3, {"best": None, "best_epoch": None})
    assert again.best_epoch == 4


# -- TensorBoard ----------------------------------------------------------------------------------


def scalars(folder):
    """{tag: {step: value}}, and the texts, of what TensorBoard finds in a folder."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()
    texts = {
        tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in tags["tensors"]
    }
    found = {}
    for tag in tags["scalars"]:
        steps = [event.step for event in events.Scalars(tag)]
        assert len(set(steps)) == len(steps)
        found[tag] = {event.step: event.value for event in events.Scalars(tag)}
    return found, texts


def assert_scalars(folder, history):
    found, _ = scalars(folder)
    assert list(found) == list(history)
    for name, values in history.items():
        assert found[name] == {i + 1: np.float32(value) for i, value in enumerate(values)}


def test_tensorboard_reads_the_history(tmp_path):
    pytest.importorskip("tensorboard")
    history = fit(TensorBoardLogger(tmp_path / "run"), optimizer=SGD(0.25))
    assert_scalars(tmp_path / "run", history)
    _, texts = scalars(tmp_path / "run")
    text = texts["hyperparameters"]
    assert "| optimizer | SGD(lr=0.25" in text
    assert "Dense(6, 'relu')" in text
    assert "| loss | cross_entropy |" in text
    assert "| n_rows | 120 |" in text


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 120)])
def test_tensorboard_reads_loss_and_rate_every_few_steps(tmp_path, weights):
    """8 batches of 16 in an epoch, of which the last has 8 rows."""
    pytest.importorskip("tensorboard")
    logger = TensorBoardLogger(tmp_path, every=4)
    history = fit(logger, batch_size=16, epochs=3, sample_weight=weights, shuffle=False)
    found, _ = scalars(tmp_path / "steps")
    assert set(found) == {"loss", "lr"}
    assert list(found["loss"]) == [4, 8, 12, 16, 20, 24]
    assert set(found["lr"].values()) == {np.float32(1e-3)}
    weights = np.ones(120) if weights is None else weights
    shares = weights[:64].sum(), weights[64:].sum()
    for epoch in range(3):
        halves = [found["loss"][8 * epoch + step] for step in (4, 8)]
        assert np.average(halves, weights=shares) == pytest.approx(history["loss"][epoch], rel=1e-5)


def test_steps_do_not_change_the_bits(tmp_path):
    pytest.importorskip("tensorboard")
    one, other = [], []
    fit(params_by_epoch(one), epochs=2)
    fit(params_by_epoch(other), TensorBoardLogger(tmp_path, every=3), epochs=2)
    assert one[-1].tobytes() == other[-1].tobytes()


def test_a_resumed_fit_continues_the_curves(tmp_path):
    pytest.importorskip("tensorboard")
    history = fit(TensorBoardLogger(tmp_path), epochs=5)
    time.sleep(1.1)  # the names of the files have the time in seconds
    assert_scalars(tmp_path, resumed(TensorBoardLogger(tmp_path), 7, history, 3))


def test_a_checkpoint_finds_all_of_its_epochs_in_the_file(tmp_path):
    pytest.importorskip("tensorboard")
    logger, counts = TensorBoardLogger(tmp_path), []

    def check(training):
        assert logger.state_dict() == {}
        counts.append(len(scalars(tmp_path)[0]["loss"]))

    fit(logger, check, epochs=3)
    assert counts == [1, 2, 3]


def test_a_later_fit_takes_the_place_of_an_earlier_one(tmp_path):
    pytest.importorskip("tensorboard")
    logger = TensorBoardLogger(tmp_path)
    fit(logger, epochs=5)
    assert_scalars(tmp_path, fit(logger, epochs=2))


def test_a_fit_that_fails_closes_its_event_file(tmp_path):
    pytest.importorskip("tensorboard")
    logger = TensorBoardLogger(tmp_path)
    fit_that_fails(logger, at=3)
    assert logger._writer is None
    assert list(scalars(tmp_path)[0]["loss"]) == [1, 2, 3]


# -- MLflow ---------------------------------------------------------------------------------------

#: SQLAlchemy 2.1 warns of something that MLflow 3.17 uses.
of_mlflow = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a database of MLflow, whose creation takes seconds."""
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield tmp_path_factory.mktemp("mlflow") / "logs"


def client(folder):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def assert_metrics(folder, run_id, history):
    for name, values in history.items():
        found = client(folder).get_metric_history(run_id, name)
        assert [(m.step, m.value) for m in found] == [(i + 1, v) for i, v in enumerate(values)]


@of_mlflow
def test_mlflow_reads_the_history(folder):
    logger = MLflowLogger(folder=folder, run_name="first", save_model=True)
    history = fit(logger, optimizer=SGD(0.25))
    run = client(folder).get_run(logger.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert client(folder).get_experiment(run.info.experiment_id).name == "fastnn"
    assert run.data.params["optimizer"].startswith("SGD(lr=0.25")
    assert run.data.params["loss"] == "cross_entropy"
    assert run.data.metrics["val_loss"] == history["val_loss"][-1]
    assert_metrics(folder, logger.run_id, history)
    (file,) = client(folder).list_artifacts(logger.run_id)
    found = fastnn.load(client(folder).download_artifacts(logger.run_id, file.path))
    assert found.evaluate(X[:40], Y[:40])["loss"] == history["val_loss"][-1]


@of_mlflow
@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_mlflow_learns_how_a_fit_ended(folder, error, status):
    logger = MLflowLogger("ends", folder=folder)
    fit_that_fails(logger, error=error)
    run = client(folder).get_run(logger.run_id)
    assert run.info.status == status
    assert len(client(folder).get_metric_history(logger.run_id, "loss")) == 3


@of_mlflow
def test_ctrl_c_at_the_end_of_an_epoch_kills_the_run(folder):
    logger = MLflowLogger("ends", folder=folder)

    def interrupt(training):
        if training.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(logger, interrupt)
    assert client(folder).get_run(logger.run_id).info.status == "KILLED"


@of_mlflow
def test_a_loop_that_is_left_finishes_its_run(folder):
    logger = MLflowLogger("ends", folder=folder)
    for epoch in network().epochs(X, Y, callbacks=[logger], progress=False):
        if epoch.training.epoch == 2:
            break
    run = client(folder).get_run(logger.run_id)
    assert run.info.status == "FINISHED"
    assert len(client(folder).get_metric_history(logger.run_id, "loss")) == 2


@of_mlflow
def test_a_resumed_fit_continues_its_run(folder):
    """The killed process has sent 5 epochs, or 2 of the 3 that its checkpoint knows, or none."""
    first = MLflowLogger("resumed", folder=folder)
    history = fit(first, epochs=5)
    again = MLflowLogger("resumed", folder=folder)
    found = resumed(again, 7, history, 3, first.state_dict())
    assert again.run_id == first.run_id
    run = client(folder).get_run(first.run_id)
    assert run.info.status == "FINISHED"
    steps = [m.step for m in client(folder).get_metric_history(first.run_id, "loss")]
    assert steps == list(range(1, 8))

    short = MLflowLogger("resumed", folder=folder)
    fit(short, epochs=2)
    resumed(again, 5, history, 3, short.state_dict())
    steps = [m.step for m in client(folder).get_metric_history(short.run_id, "loss")]
    assert steps == list(range(1, 6))

    client(folder).delete_run(short.run_id)
    found = resumed(again, 5, history, 3, short.state_dict())
    assert again.run_id != short.run_id
    assert_metrics(folder, again.run_id, found)


@of_mlflow
def test_values_are_sent_once_a_second(folder, monkeypatch):
    sent = []
    original = MLflowLogger._send
    monkeypatch.setattr(
        MLflowLogger, "_send", lambda self: (sent.append(len(self._waiting)), original(self))
    )
    fit(MLflowLogger("seconds", folder=folder), epochs=200)
    assert len(sent) <= 8
    assert sum(sent) == 200 * 6


@of_mlflow
def test_names_that_mlflow_refuses(folder):
    logger = MLflowLogger("names", folder=folder)
    fit(lambda training: training.values.update({"f1(β=2)": 0.5}), logger, epochs=1)
    assert client(folder).get_run(logger.run_id).data.metrics["f1___2_"] == 0.5


@of_mlflow
def test_a_uri_and_the_environment(folder, monkeypatch):
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the environment")
    logger = MLflowLogger(tracking_uri=uri)
    fit(logger, epochs=1)
    run = client(folder).get_run(logger.run_id)
    name = client(folder).get_experiment(run.info.experiment_id).name
    assert name == "of the environment"
    with pytest.raises(ValueError, match="a folder or a tracking_uri, not both"):
        MLflowLogger(folder=folder, tracking_uri=uri)


# -- all of them, with checkpoints ---------------------------------------------------------------


@of_mlflow
@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_logs_of_a_resumed_fit_equal_those_of_an_uninterrupted_one(tmp_path, folder, steps, error):
    """The fit ends in its fifth epoch, at the end or between two steps.

    The checkpoint has 3 epochs after an error; after Ctrl-C all that has been done.
    """
    pytest.importorskip("tensorboard")

    def stop():
        if error is KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
        else:
            raise error

    class Fails(fastnn.Callback):
        def on_epoch_end(self, training):
            if training.epoch == 5 and not steps and not training.resumed:
                stop()

        def on_steps(self, training):
            if training.step == 4 * 8 + steps and steps and not training.resumed:
                stop()

    runs = []

    def callbacks(name):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        runs.append(MLflowLogger("checkpoints", folder=folder))
        return [
            CSVLogger(place / "log.csv"), BestModel(place / "best.safetensors"),
            TensorBoardLogger(place, every=2), runs[-1], Fails(),
        ]  # fmt: skip

    arguments = {"epochs": 8, "batch_size": 16, "optimizer": SGD(0.5)}
    keeps = {"checkpoint": tmp_path / "checkpoint", "checkpoint_every": 3, "resume": True}
    with pytest.raises(error):
        fit(*callbacks("resumed"), **arguments, **keeps)
    time.sleep(1.1)  # the names of TensorBoard's files have the time in seconds
    history = fit(*callbacks("resumed"), **arguments, **keeps)
    expected = fit(*(one for one in callbacks("whole") if not isinstance(one, Fails)), **arguments)
    files = [read(tmp_path / name / "log.csv") for name in ("resumed", "whole")]
    for file in files:
        file.pop("seconds")
    assert files[0] == files[1]
    assert [float(cell) for cell in files[0]["loss"]] == history["loss"] == expected["loss"]
    models = [fastnn.load(tmp_path / name / "best.safetensors") for name in ("resumed", "whole")]
    assert models[0].flat_params.tobytes() == models[1].flat_params.tobytes()
    assert_scalars(tmp_path / "resumed", history)
    steps = [scalars(tmp_path / name / "steps")[0] for name in ("resumed", "whole")]
    assert steps[0] == steps[1]
    assert runs[0].run_id == runs[1].run_id
    for name in ("loss", "val_loss"):
        assert_metrics(folder, runs[0].run_id, {name: expected[name]})


# -- packages that are missing --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "make"),
    [("tensorboard", lambda folder: TensorBoardLogger(folder)),
     ("mlflow", lambda folder: MLflowLogger()),
     ("sqlalchemy", lambda folder: MLflowLogger(folder=folder))],
)  # fmt: skip
def test_a_missing_package_is_named_before_any_fit(tmp_path, monkeypatch, missing, make):
    def without(name, package=None, original=importlib.import_module):
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return original(name, package) if name.startswith("fastnn") else None

    monkeypatch.setattr("fastnn.loggers.import_module", without)
    with pytest.raises(ImportError, match=rf"{missing}: pip install 'fastnn-cpu\[loggers\]'"):
        make(tmp_path)


def test_every_must_be_a_number(tmp_path):
    with pytest.raises(ValueError, match="every"):
        TensorBoardLogger(tmp_path, every=0)
