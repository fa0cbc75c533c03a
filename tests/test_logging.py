"""Python's logging under "fastnn"."""

import logging
import subprocess
import sys

import pytest
from conftest import table

from fastnn import Dense, EarlyStopping, Sequential

X, Y = table(100)


def fit(**arguments):
    return Sequential([Dense(3)]).fit(X, Y, progress=False, **{"epochs": 3, **arguments})


def texts(caplog, level):
    assert {record.name for record in caplog.records} <= {"fastnn"}
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_a_fit_says_how_it_begins_and_ends(caplog):
    caplog.set_level(logging.INFO, "fastnn")
    history = fit(optimizer="sgd")
    begin, end = texts(caplog, logging.INFO)
    assert begin.startswith("fit: 100 rows, loss cross_entropy ('auto'), SGD(lr=")
    assert begin.endswith(f"3 epochs of 4 steps, engine {history.engine}")
    assert end == "fit: ended after 12 steps"
    assert not texts(caplog, logging.DEBUG)


def test_each_epoch_is_a_line_for_debugging(caplog):
    caplog.set_level(logging.DEBUG, "fastnn")
    history = fit(validation_data=(X, Y))
    lines = texts(caplog, logging.DEBUG)
    for i, line in enumerate(lines):
        assert line.startswith(f"epoch {i + 1}: loss {history['loss'][i]:.6g}, accuracy ")
        assert f"val_loss {history['val_loss'][i]:.6g}" in line
    assert len(lines) == 3


def test_why_a_fit_ended(caplog):
    caplog.set_level(logging.INFO, "fastnn")
    fit(early_stopping=EarlyStopping(0, "loss", min_delta=100.0), epochs=50)
    assert "ended after 8 steps, early stopping: loss has not improved" in caplog.messages[-1]
    with pytest.raises(ZeroDivisionError):
        fit(callbacks=[lambda training: 1 / 0])
    assert caplog.messages[-1] == "fit: ended after 4 steps by ZeroDivisionError"


def test_nothing_is_shown_unless_the_program_says_so():
    program = (
        "import fastnn; fastnn.set_engine('numpy');{}"
        "fastnn.Sequential([fastnn.Dense(1)]).fit([[0.0], [1.0]], [0.0, 1.0], progress=False)"
    )
    shown = "import logging; logging.basicConfig(level='INFO');"
    for setup, expected in (("", 0), (shown, 2)):
        done = subprocess.run(
            [sys.executable, "-c", program.format(setup)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("fastnn:") == expected, done.stderr
        assert done.stdout == ""
