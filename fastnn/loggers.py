"""Callbacks that write each epoch's values to where people and programs read them.

TensorBoard and MLflow are in the extra ``loggers``, and imported when their logger is made.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import safe_writes
from .callbacks import Callback
from .checks import whole_number

if TYPE_CHECKING:
    from .training import Training

#: Seconds for which values may wait before they are written.
_WAIT = 1.0

#: Most metrics in a call of MLflow's.
_BATCH = 1000

#: Most characters of a parameter of a fit in a log.
_CHARACTERS = 2000

#: What a fit is given that describes neither the network nor its training.
_NOT_LOGGED = (
    "callbacks", "checkpoint", "checkpoint_every", "loss", "progress", "resume", "rows",
    "sample_weight", "validation_data",
)  # fmt: skip


class CSVLogger(Callback):
    """Write a line for each epoch to a CSV file.

    The columns are ``epoch``, counted from 1, and the values of :class:`fastnn.History` with all
    their digits. A line is in the file when its epoch ends. A fit that resumes a checkpoint
    continues the file, without what the killed process wrote after that checkpoint. Any other fit
    replaces an existing file, when its first epoch is complete.

    Parameters
    ----------
    path : str or path
        The file, in a directory that exists.

    Raises
    ------
    FileNotFoundError
        When a fit begins, if the directory does not exist.
    OSError
        When a line cannot be written; the fit then ends.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastnn import CSVLogger, Dense, Sequential
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     log = Path(directory) / "log.csv"
    ...     _ = Sequential([Dense(1)]).fit(
    ...         [[0.0], [1.0]], [0.5, 1.0], epochs=3, callbacks=[CSVLogger(log)], progress=False)
    ...     lines = log.read_text().splitlines()
    >>> lines[0], len(lines)
    ('epoch,loss,lr,seconds', 4)
    """

    def __init__(self, path):
        self.path = Path(path)
        self._rows: list[dict[str, float]] = []
        self._names: list[str] = []
        self._file: Any = None

    def on_fit_begin(self, training: Training) -> None:
        """Continue the file of a fit that is resumed."""
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"there is no directory {str(self.path.parent)!r} for the log {self.path.name}"
            )
        safe_writes.check(self.path)
        self._close()
        self._rows = list(_epochs(training)) if training.resumed else []
        if self._rows:
            self._write_all()

    def on_epoch_end(self, training: Training) -> None:
        """Write the line of the epoch."""
        self._rows.append({"epoch": training.epoch, **training.values})
        if self._file is None or not self._rows[-1].keys() <= set(self._names):
            self._write_all()
            return
        self._file.write(_csv([self._cells(self._rows[-1])]))
        self._file.flush()

    def on_fit_end(self, training: Training) -> None:
        """Close the file."""
        self._close()

    def _write_all(self) -> None:
        """Replace the file by one with all lines, and leave it open.

        It is replaced at once, so that there is always a file of whole lines, but where a killed
        process has left a part of one: this is how a resumed fit repairs that.
        """
        self._close()
        self._names = list(dict.fromkeys(name for row in self._rows for name in row))
        lines = [self._names, *map(self._cells, self._rows)]
        safe_writes.replace(self.path, [_csv(lines).encode()])
        self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115

    def _cells(self, row: dict[str, float]) -> list:
        return [row.get(name, "") for name in self._names]

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _epochs(training: Training) -> Iterator[dict[str, float]]:
    """The values of each epoch of the history, and its number."""
    history = training.history
    first = training.epoch - history.n_epochs + 1
    for i in range(history.n_epochs):
        yield {"epoch": first + i, **{name: values[i] for name, values in history.items()}}


def _csv(rows: list[list]) -> str:
    """Lines as in RFC 4180."""
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


class TensorBoardLogger(Callback):
    """Write the values of each epoch as scalars for TensorBoard.

    The tags are the names in :class:`fastnn.History`; the step is the epoch, counted from 1. The
    text ``hyperparameters`` says what the fit was given. In the folder of an earlier fit,
    TensorBoard shows the later one in its place; one that resumes a checkpoint continues the
    curves.

    Parameters
    ----------
    folder : str or path
        Where the event file is written, a run of TensorBoard's.
    every : int, optional
        Also write loss and learning rate every so many steps, as the run ``steps`` in that folder:
        the loss is that of the steps since, in the same epoch.

    Raises
    ------
    ImportError
        If tensorboard is not installed.
    ValueError, TypeError
        If `every` is not a whole number of at least 1.

    Examples
    --------
    >>> from fastnn import Dense, Sequential, TensorBoardLogger
    >>> def train(folder):
    ...     return Sequential([Dense(1)]).fit(
    ...         [[0.0], [1.0]], [0.5, 1.0], callbacks=[TensorBoardLogger(folder)], progress=False)
    """

    def __init__(self, folder, every: int | None = None):
        self.folder = Path(folder)
        if every is not None:
            self.every = whole_number(every, "every")
            self.on_steps = self._write_steps  # type: ignore[method-assign]
        try:
            import_module("tensorboard.summary.writer.event_file_writer")
        except ImportError:
            raise ImportError(
                "TensorBoardLogger needs tensorboard: pip install 'fastnn-cpu[loggers]'"
            ) from None
        self._writer: _EventFile | None = None
        self._steps: _EventFile | None = None

    def on_fit_begin(self, training: Training) -> None:
        """Open an event file and write what the fit was given."""
        self._close()
        self._writer = _EventFile(self.folder, training.epoch + 1)
        given = {name: value.replace("|", "\\|") for name, value in described(training).items()}
        rows = [f"| {name} | {value} |" for name, value in given.items()]
        text = "\n".join(["| name | value |", "| --- | --- |", *rows])
        self._writer.text("hyperparameters", text, training.epoch + 1)
        if "on_steps" in vars(self):
            self._steps = _EventFile(self.folder / "steps", training.step + 1)

    def _write_steps(self, training: Training) -> None:
        assert self._steps is not None
        values = {"lr": training.lr}
        if not training.settings.optimizer.full_batch:
            values["loss"] = _recent_loss(training, self.every)
        self._steps.scalars(values, training.step)

    def on_epoch_end(self, training: Training) -> None:
        """Write the values of the epoch."""
        assert self._writer is not None
        self._writer.scalars(training.values, training.epoch)

    def on_fit_end(self, training: Training) -> None:
        """Close the event files."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """Nothing; but what a checkpoint is not to write again is in the files."""
        for writer in (self._writer, self._steps):
            if writer is not None:
                writer.flush()
        return {}

    def _close(self) -> None:
        for writer in (self._writer, self._steps):
            if writer is not None:
                writer.close()
        self._writer = self._steps = None


class _EventFile:
    """A new file of events in a folder, whose first step is `first`.

    TensorBoard then drops what the folder's older files have from that step on.
    """

    def __init__(self, folder: Path, first: int):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writer = EventFileWriter(str(folder))
        self._flushed = time.monotonic()
        session = event_pb2.SessionLog
        self._add(first, session_log=session(status=session.START))

    def _add(self, step: int, **content) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, **content))

    def text(self, tag: str, text: str, step: int) -> None:
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.plugins.text.metadata import create_summary_metadata

        tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()])
        metadata = create_summary_metadata(display_name=tag, description="")
        value = self._summary.Value(tag=tag, metadata=metadata, tensor=tensor)
        self._add(step, summary=self._summary(value=[value]))

    def scalars(self, values, step: int) -> None:
        items = [self._summary.Value(tag=n, simple_value=v) for n, v in values.items()]
        self._add(step, summary=self._summary(value=items))
        if time.monotonic() - self._flushed >= _WAIT:
            self.flush()

    def flush(self) -> None:
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()


def _recent_loss(training: Training, steps: int) -> float:
    """The loss of the last steps of the epoch under way; at most so many."""
    fit = training.fit
    data, last = fit.data, training.batches or 0
    first = max(0, last - steps)
    loss = math.fsum(fit.results[first:last, 0])
    begin, end = first * data.batch_size, min(last * data.batch_size, data.n_rows)
    if not fit.ws.plan.mean:
        return loss
    if data.weights is None:
        return loss / (end - begin)
    rows = slice(begin, end) if data.order is None else data.order[begin:end]
    weight = float(data.weights[rows].sum(dtype=float))
    return loss / weight if weight else math.nan


def described(training: Training) -> dict[str, str]:
    """What a fit was given, as texts: the network, its training and the sizes of the data."""
    net, settings, history = training.net, training.settings, training.history
    found = {
        "network": repr(net),
        "seed": net.seed,
        "dtype": str(net.dtype),
        "n_params": training.fit.ws.plan.n_params,
        "n_rows": history.n_rows,
        "loss": history.loss_name,
        "engine": history.engine,
    }
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name not in _NOT_LOGGED and value is not None and value != ():
            found[field.name] = value
    found["batch_size"] = settings.rows_of_batch(history.n_rows)
    texts = {name: str(value) for name, value in found.items()}
    return {n: t if len(t) <= _CHARACTERS else f"{t[:_CHARACTERS]}..." for n, t in texts.items()}


class MLflowLogger(Callback):
    """Log a fit as a run of MLflow: what it was given, and the values of each epoch.

    The step of a metric is the epoch, counted from 1. Values are sent once a second and at the
    end. The run ends as FINISHED, after an error as FAILED, after Ctrl-C as KILLED. A fit that
    resumes a checkpoint continues its run.

    Parameters
    ----------
    experiment : str, optional
        An experiment's name; it is created if it does not exist. By default "fastnn" in a folder
        and MLflow's own choice elsewhere.
    folder : str or path, optional
        A folder for everything, without a server: MLflow's database ``mlflow.db`` and the
        ``artifacts``. ``mlflow ui --backend-store-uri sqlite:///folder/mlflow.db`` shows it.
    tracking_uri : str, optional
        A server or a database, in place of the folder. By default the one that MLflow is set to.
    run_name : str, optional
        By default MLflow finds a name.
    save_model : bool, default False
        Whether the run gets the trained network as the file ``model.safetensors``.

    Attributes
    ----------
    run_id : str or None
        The last run.

    Raises
    ------
    ImportError
        If mlflow is not installed, or for a folder the packages of its database.
    ValueError
        If there are both folder and tracking_uri.
    mlflow.exceptions.MlflowException
        When MLflow cannot be reached; the fit then ends.

    Examples
    --------
    >>> from fastnn import Dense, MLflowLogger, Sequential
    >>> def train(folder):
    ...     return Sequential([Dense(1)]).fit(
    ...         [[0.0], [1.0]], [0.5, 1.0], progress=False,
    ...         callbacks=[MLflowLogger("first steps", folder=folder)])
    """

    def __init__(
        self, experiment: str | None = None, *, folder=None, tracking_uri: str | None = None,
        run_name: str | None = None, save_model: bool = False,
    ):  # fmt: skip
        if folder is not None and tracking_uri is not None:
            raise ValueError("MLflowLogger takes a folder or a tracking_uri, not both")
        for package in ("mlflow", *(("sqlalchemy", "alembic") if folder is not None else ())):
            try:
                import_module(package)
            except ImportError:
                raise ImportError(
                    f"MLflowLogger needs {package}: pip install 'fastnn-cpu[loggers]'"
                ) from None
        self.experiment, self.tracking_uri = experiment, tracking_uri
        self.folder = None if folder is None else Path(folder)
        self.run_name, self.save_model = run_name, save_model
        self.run_id: str | None = None
        self._resumed_id: str | None = None
        self._client: Any = None
        self._waiting: list = []
        self._last: dict[str, int] = {}  # the last step that a continued run has
        self._sent = 0.0

    def on_fit_begin(self, training: Training) -> None:
        """Begin a run, or continue that of a fit that is resumed."""
        from mlflow.entities import Param

        self._waiting, self._last, self.run_id = [], {}, None
        client = self._connect()
        if training.resumed and self._resumed_id is not None:
            self._continue(client, self._resumed_id)
        if self.run_id is None:
            run = client.create_run(self._experiment_id(client), run_name=self.run_name)
            self.run_id = run.info.run_id
            params = [Param(_name(n), text) for n, text in described(training).items()]
            client.log_batch(self.run_id, params=params)
        self._client = client
        if training.resumed:
            for name in training.history:
                past = client.get_metric_history(self.run_id, _name(name))
                self._last[name] = max((metric.step for metric in past), default=-1)
            for values in _epochs(training):
                epoch = int(values.pop("epoch"))
                for name, value in values.items():
                    self._log(name, value, epoch)

    def on_epoch_end(self, training: Training) -> None:
        """Log the values of the epoch, not more than once a second."""
        for name, value in training.values.items():
            self._log(name, value, training.epoch)
        if time.monotonic() - self._sent >= _WAIT:
            self._send()

    def on_fit_end(self, training: Training) -> None:
        """Send what is left, and end the run."""
        client, self._client, error = self._client, None, training.error
        if client is None:
            return
        status = "FINISHED"
        if isinstance(error, Exception):
            status = "FAILED"
        elif error is not None and not isinstance(error, GeneratorExit):
            status = "KILLED"
        try:
            self._client = client
            self._send()
            if self.save_model and status != "FAILED":
                with tempfile.TemporaryDirectory() as directory:
                    path = Path(directory) / "model.safetensors"
                    training.net.save(path)
                    client.log_artifact(self.run_id, str(path))
        finally:
            self._client = None
            client.set_terminated(self.run_id, status)

    def state_dict(self) -> dict[str, Any]:
        """The run."""
        return {"run_id": self.run_id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a run, if it still exists."""
        self._resumed_id = state["run_id"]

    def _connect(self):
        from mlflow.tracking import MlflowClient

        uri = self.tracking_uri
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{(self.folder.resolve() / 'mlflow.db').as_posix()}"
        return MlflowClient(tracking_uri=uri)

    def _continue(self, client, run_id: str) -> None:
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):  # the run has been deleted
            client.update_run(run_id, status="RUNNING")
            self.run_id = run_id

    def _experiment_id(self, client) -> str:
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if self.folder is not None:
            name = self.experiment or "fastnn"
        if name is None:
            return os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
        known = client.get_experiment_by_name(name)
        if known is not None:
            return known.experiment_id
        place = None if self.folder is None else (self.folder.resolve() / "artifacts").as_uri()
        return client.create_experiment(name, artifact_location=place)

    def _log(self, name: str, value: float, epoch: int) -> None:
        from mlflow.entities import Metric

        if epoch > self._last.get(name, -1):
            self._waiting.append(Metric(_name(name), float(value), int(1000 * time.time()), epoch))

    def _send(self) -> None:
        while self._waiting:
            self._client.log_batch(self.run_id, metrics=self._waiting[:_BATCH])
            del self._waiting[:_BATCH]
        self._sent = time.monotonic()


def _name(name: str) -> str:
    """A name that MLflow accepts."""
    return re.sub(r"[^\w. /-]", "_", name, flags=re.ASCII)
