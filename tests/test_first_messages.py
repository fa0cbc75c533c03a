"""Misuses that new users try: each error says what to write instead."""

import datetime
import pathlib
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from fastnn import SGD, Adam, Dense, RMSprop, Sequential, losses, optimizers
from fastnn.initializers import Normal

X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1] * 3)


def fit(x=X, y=Y, **options):
    return Sequential([Dense(1)]).fit(x, y, epochs=1, progress=False, **options)


def frame(**columns):
    return pytest.importorskip("pandas").DataFrame({"age": [1.0, 2.0, 3.0], **columns})


def dates():
    return [datetime.datetime(2020, 1, day) for day in (1, 2, 3)]


MISUSES = {
    "layers without a list": (
        TypeError, r"write Sequential\(\[Dense\(2\), Dense\(3\)\]\)",
        lambda: Sequential(Dense(2), Dense(3))),
    "three layers without a list": (
        TypeError, r"\[Dense\(2\), Dense\(3\), ...\]",
        lambda: Sequential(Dense(2), Dense(3), Dense(4))),
    "inputs and outputs": (TypeError, r"its outputs alone, Dense\(32\)", lambda: Dense(64, 32)),
    "a function of NumPy": (TypeError, "the function tanh: write 'tanh'",
                            lambda: Dense(64, np.tanh)),
    "another function": (TypeError, "the function sin: the names are identity",
                         lambda: Dense(64, np.sin)),
    "a file": (TypeError, r"pandas.read_csv\('titanic.csv'\).*y = table\['survived'\]",
               lambda: fit("titanic.csv", "survived")),
    "a file alone": (TypeError, r"pandas.read_csv\('titanic.csv'\)",
                     lambda: Sequential([Dense(1)]).fit("titanic.csv")),
    "a path": (TypeError, r"pandas.read_csv\('titanic.csv'\)",
               lambda: fit(pathlib.Path("titanic.csv"))),
    "a file for a prediction": (TypeError, "read_csv",
                                lambda: Sequential([Dense(1)], n_inputs=1).logits("rows.csv")),
    "the name of a column": (TypeError, r"y = table\['target'\]", lambda: fit(X, "target")),
    "a class of an optimizer": (TypeError, r"write SGD\(\)", lambda: fit(optimizer=SGD)),
    "a class of a loss": (TypeError, r"write Huber\(", lambda: fit(loss=losses.Huber)),
    "a function as a loss": (TypeError, r"losses.Custom\(abs\)", lambda: fit(loss=abs)),
    "a class of an initialiser": (TypeError, r"write Normal\(", lambda: Dense(2, init=Normal)),
    "learning_rate": (TypeError, "SGD has no learning_rate: write lr=",
                      lambda: SGD(learning_rate=0.1)),
    "betas": (TypeError, "write beta1=..., beta2=...", lambda: Adam(betas=(0.9, 0.99))),
    "alpha": (TypeError, "RMSprop has no alpha: write rho", lambda: RMSprop(alpha=0.9)),
    "what no optimizer has": (TypeError, "unexpected keyword", lambda: SGD(luck=1)),
    "text in X": (TypeError, r"X\[0, 1\] is 'a'.*OneHotEncoder",
                  lambda: fit(np.array([[1, "a"]] * 6, dtype=object))),
    "text in a list": (TypeError, r"X\[0, 1\] is 'a'", lambda: fit([[1, "a"]] * 6)),
    "numbers as text": (TypeError, r"X.astype\(float\)", lambda: fit(X.astype(str))),
    "missing labels": (ValueError, r"y\[1\] is missing \(None\): drop the rows",
                       lambda: fit(y=np.array(["a", None] * 3, dtype=object))),
    "labels that are NaN": (ValueError, r"y\[2\] is missing \(nan\)",
                            lambda: fit(y=[0.0, 1.0, np.nan] * 2, loss="binary_cross_entropy")),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_an_error_says_what_to_write(name):
    kind, message, call = MISUSES[name]
    with pytest.raises(kind, match=message):
        call()


FRAMES = {
    "text": (TypeError, r"X\[0, 1\], in the column 'sex', is 'm', .*get_dummies",
             lambda: frame(sex=["m", "f", "m"])),
    "NaN": (ValueError, r"X\[1, 1\], in the column 'fare', is nan: replace or drop",
            lambda: frame(fare=[1.0, np.nan, 3.0])),
    "None": (ValueError, r"X\[2, 1\], in the column 'fare', is None",
             lambda: frame(fare=np.array([1, 2, None], dtype=object))),
    "infinity": (ValueError, r"in the column 'fare', is inf", lambda: frame(fare=[1, np.inf, 2])),
    "NA": (ValueError, r"X\[1, 1\], in the column 'fare', is <NA>",
           lambda: frame(fare=[1, None, 3]).astype({"fare": "Int64"})),
    "dates": (TypeError, "in the column 'day'.*days since", lambda: frame(day=dates())),
    "large numbers": (ValueError, "in the column 'n', is 1e.300, which is too large",
                      lambda: frame(n=[1e300, 2, 3])),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_the_column_of_a_data_frame_is_named(name):
    kind, message, make = FRAMES[name]
    with pytest.raises(kind, match=message):
        fit(make(), [0, 1, 1])


def test_large_frames_name_the_column_too():
    pandas = pytest.importorskip("pandas")
    values = np.zeros((70_000, 2))
    values[69_999, 1] = np.nan
    table = pandas.DataFrame(values, columns=["a", "b"])
    with pytest.raises(ValueError, match=r"X\[69999, 1\], in the column 'b', is nan"):
        fit(table, np.arange(70_000) % 2)


def test_an_optimizer_that_is_assigned_to_says_what_to_give_the_next_fit():
    optimizer = SGD(0.1, momentum=0.9)
    for name in ("lr", "learning_rate"):
        with pytest.raises(FrozenInstanceError, match=r"SGD\(lr=0.2, momentum=0.9, .*schedule="):
            setattr(optimizer, name, 0.2)
    with pytest.raises(FrozenInstanceError, match=r"momentum .* SGD\(lr=0.1, momentum=0.5"):
        optimizer.momentum = 0.5
    with pytest.raises(FrozenInstanceError, match="a new one"):
        optimizer.lr = "fast"
    with pytest.raises(FrozenInstanceError, match="luck"):
        optimizer.luck = 1
    assert optimizer == SGD(0.1, momentum=0.9)


@pytest.mark.parametrize("name", optimizers._BY_NAME)
def test_every_optimizer_refuses_assignments(name):
    optimizer = optimizers.get(name)
    with pytest.raises(FrozenInstanceError, match="give the next fit"):
        optimizer.clip_norm = 1.0
