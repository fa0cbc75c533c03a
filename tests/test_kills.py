"""Fits that are killed at random moments end with the bits of those that are not.

FASTNN_KILLS is the number of kills on all engines together.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COMPILED

HERE = Path(__file__).parent
KILLS = int(os.environ.get("FASTNN_KILLS", "50"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
@pytest.mark.parametrize("engine", COMPILED)
def test_killed_fits_end_with_the_same_bits(engine):
    wanted = KILLS // len(COMPILED)
    command = [sys.executable, HERE / "killed_fits.py", engine, str(wanted), str(KILLS)]
    path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["differ"] == []
    assert sum(found["kills"].values()) >= wanted
    assert len(found["kills"]) == 4
    # They came in the middle of an epoch's steps, while a file was being written, and when the
    # last file was one from the middle of an epoch.
    assert found["phases"]["steps"] > 0
    assert found["temporaries"] > 0
    assert found["files_within_epochs"] > 0
