"""Checkpoints: the same bits from each of them, and clear errors for what is not one."""

import os
import random
import shutil

import pytest
from checkpoint_cases import Case

from fastnn import run, safe_writes

#: Random fits of each engine.
CASES = int(os.environ.get("FASTNN_FITS", "20"))

ALWAYS = "0.000001s"


@pytest.fixture
def copies(monkeypatch, tmp_path):
    """The paths of copies of every file that is written, in order."""
    made, folder, replace = [], tmp_path / "copies", safe_writes.replace
    folder.mkdir()

    def keep(path, parts):
        replace(path, parts)
        made.append(folder / str(len(made)))
        shutil.copy(path, made[-1])

    monkeypatch.setattr(safe_writes, "replace", keep)
    monkeypatch.setattr(safe_writes.os, "fsync", lambda handle: None)
    return made


@pytest.fixture
def short_slices(monkeypatch):
    """One batch in each call of the engine, and one block of rows in each piece of a batch."""
    monkeypatch.setattr(run, "SLICE_SECONDS", 1e-9)


@pytest.mark.parametrize("number", range(CASES))
def test_the_same_bits_from_every_checkpoint(engine, tmp_path, copies, short_slices, number):
    """Of a random fit: each checkpoint goes on in a new network."""
    case, path, draw = Case(number), tmp_path / "run.ckpt", random.Random(number)
    try:
        expected = case.run(case.prepared())
    except ValueError as error:  # of arguments that contradict each other
        pytest.skip(str(error))
    every = draw.choice([1, 2, ALWAYS, ALWAYS])
    assert case.run(case.prepared(), checkpoint=path, checkpoint_every=every) == expected
    written = list(copies)
    for copy in sorted(draw.sample(written, min(len(written), 8))):
        shutil.copy(copy, path)
        again = case.run(case.network(), checkpoint=path, checkpoint_every=every, resume=True)
        for name, (given, wanted) in enumerate(zip(again, expected, strict=True)):
            assert given == wanted, (copy.name, name)
