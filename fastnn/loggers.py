"""Callbacks that write each epoch's values: to a CSV file, for TensorBoard, for MLflow.

TensorBoard and MLflow are in the extra ``loggers`` and imported when their logger is made.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .callbacks import Callback

#: Seconds for which values may wait before they are written.
_WAIT = 1.0

#: Limits of MLflow: metrics and parameters of a call, and characters of a parameter.
_METRICS, _PARAMETERS, _CHARACTERS = 1000, 100, 6000


class CSVLogger(Callback):
    """Write a line for each epoch to a CSV file.

    The columns are ``epoch``, which begins with 1, and the values of :class:`fastnn.History`, in
    full precision. Each line is on disk when its epoch ends. A fit that resumes a checkpoint
    continues the file: lines that the killed process wrote after its checkpoint are dropped. Any
    other fit replaces an existing file when its first epoch is complete.

    Parameters
    ----------
    path : str or path
        The file; its directory must exist.

    Raises
    ------
    FileNotFoundError
        When a fit begins, if the directory does not exist.

    Examples
    --------
    >>> from fastnn import CSVLogger, Dense, Sequential
    >>> directory = getfixture("tmp_path")
    """

    def __init__(self, path):
        self.path = Path(path)
        self._names: list[str] = []
        self._file: Any = None

    def on_fit_begin(self, training) -> None:
        """Continue the file of a fit that is resumed; check that a new one can be written."""
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"there is no directory {str(self.path.parent)!r} for a log")
        self._close()
        if training.resumed and training.epoch:
            self._rewrite(*_table(training))

    def on_epoch_end(self, training) -> None:
        """Write the epoch's line."""
        line = {"epoch": training.epoch, **training.values}
        if self._file is None or not line.keys() <= set(self._names):
            self._rewrite(*_table(training))
        else:
            self._file.write(_text([[line.get(name, "") for name in self._names]]))
            self._file.flush()

    def on_fit_end(self, training) -> None:
        """Close the file."""
        self._close()

    def _rewrite(self, names: list[str], rows: list[list]) -> None:
        """Replace the file, at once, and leave it open for further lines."""
        self._close()
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-")
        try:
            with open(handle, "w", encoding="utf-8", newline="") as file:
                file.write(_text([names, *rows]))
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise
        self._names = names
        self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _table(training) -> tuple[list[str], list[list]]:
    """Names of the columns and the line of each epoch of the history; early ones may lack some."""
    columns = {name: list(values) for name, values in training.history.items()}
    count = max(map(len, columns.values()))
    first = training.epoch - count + 1
    columns = {name: [""] * (count - len(values)) + values for name, values in columns.items()}
    rows = zip(range(first, training.epoch + 1), *columns.values(), strict=True)
    return ["epoch", *columns], [list(row) for row in rows]


def _text(rows: list[list]) -> str:
    """Lines of RFC 4180."""
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


class TensorBoardLogger(Callback):
    """Write scalars for TensorBoard: the values of each epoch.

    The tags are the names of the values in :class:`fastnn.History`; the step is the epoch, from 1
    on. What the fit was given is the text ``hyperparameters``. A later fit that writes into the
    same folder takes the place of the earlier one from its first epoch on, so that a resumed one
    continues the curves.

    Parameters
    ----------
    folder : str or path
        Where the event file is written; TensorBoard shows each folder as a run.

    Raises
    ------
    ImportError
        If tensorboard is not installed.

    Examples
    --------
    >>> from fastnn import TensorBoardLogger
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.plugins.text import summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise ImportError(
                "TensorBoardLogger needs tensorboard: pip install 'fastnn[loggers]'"
            ) from None
        self._open, self._text = EventFileWriter, summary.pb
        self._event, self._session = event_pb2.Event, event_pb2.SessionLog
        self._summary = summary_pb2.Summary
        self._writer: Any = None
        self._flushed = 0.0

    def on_fit_begin(self, training) -> None:
        """Open an event file and write what the fit was given."""
        self._close()
        self._writer = self._open(str(self.folder))
        # TensorBoard drops what other files of the folder have from this step on.
        start = self._session(status=self._session.START)
        self._add(training.epoch + 1, session_log=start)
        rows = [f"| {name} | {value} |" for name, value in _given(training).items()]
        text = "\n".join(["| name | value |", "| --- | --- |", *rows])
        self._add(training.epoch + 1, summary=self._text("hyperparameters", text))

    def on_epoch_end(self, training) -> None:
        """Write the epoch's values."""
        values = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in training.values.items()
        ]
        self._add(training.epoch, summary=self._summary(value=values))
        if time.monotonic() - self._flushed >= _WAIT:
            self._writer.flush()
            self._flushed = time.monotonic()

    def on_fit_end(self, training) -> None:
        """Close the event file."""
        self._close()

    def _add(self, step: int, **content) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, **content))

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __getstate__(self):
        return {**self.__dict__, "_writer": None}


class MLflowLogger(Callback):
    """Log a fit as a run of MLflow: what it was given, and the values of each epoch.

    The step of a metric is the epoch, from 1 on. Values are sent once a second and at the end. The
    run ends as FINISHED, after an error as FAILED, after Ctrl-C as KILLED. A fit that resumes a
    checkpoint continues its run.

    Parameters
    ----------
    experiment : str, optional
        Name of the experiment, which is created if missing; by default MLflow's.
    folder : str or path, optional
        A folder for runs and files, which needs no server: ``mlflow ui --backend-store-uri
        sqlite:///folder/mlflow.db`` shows it.
    tracking_uri : str, optional
        A server or a database in place of the folder. Without both, MLflow's own setting holds.
    run_name : str, optional
        By default MLflow makes up a name.
    save_model : bool, default False
        Whether the trained network is kept as the file ``model.safetensors`` of the run.

    Raises
    ------
    ImportError
        If mlflow is not installed.
    ValueError
        If there are both folder and tracking_uri.

    Examples
    --------
    >>> from fastnn import MLflowLogger
    """

    def __init__(
        self, experiment=None, *, folder=None, tracking_uri=None, run_name=None, save_model=False
    ):
        if folder is not None and tracking_uri is not None:
            raise ValueError("MLflowLogger takes a folder or a tracking_uri, not both")
        try:
            import mlflow.tracking

            if folder is not None:
                import alembic
                import sqlalchemy  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"MLflowLogger needs {error.name or 'mlflow'}: pip install 'fastnn[loggers]'"
            ) from None
        self.experiment, self.tracking_uri, self.run_name = experiment, tracking_uri, run_name
        self.folder = None if folder is None else Path(folder)
        self.save_model = save_model
        self.run_id: str | None = None
