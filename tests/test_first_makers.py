"""What maintainers and packagers rely on: names, commands in messages, and the C module's age."""

import importlib.metadata
import itertools
import re
import tomllib
from pathlib import Path

import pytest

import fastnn
from fastnn import installation

PACKAGE = Path(fastnn.__file__).parent
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALL = re.compile(r"pip install (?:-q )?(?:-e )?(?:--\S+ )*['\"]?([A-Za-z][\w.-]*)\[([\w,]+)\]")


# -- the distribution's name ----------------------------------------------------------------------


def texts():
    """Everything that users read: the sources with their messages, and the pages."""
    for folder in (PACKAGE, ROOT / "bench"):
        yield from folder.rglob("*.py")
    yield from (*ROOT.glob("*.md"), *ROOT.glob("bench/*.md"))


def test_every_command_in_a_text_installs_this_project():
    """`pip install fastnn` gets another project, and an unknown extra gets nothing."""
    found = 0
    for path in texts():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install (?:-\S+ )*['\"]?fastnn['\"\[]", text), path
        assert not re.search(r"pip install (?:-\S+ )*fastnn(?![\w-])", text), path
        for name, extras in INSTALL.findall(text):
            found += 1
            assert name == PROJECT["name"], path
            assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys(), path
    assert found >= 6


def test_the_extras_refer_to_this_project():
    extras = PROJECT["optional-dependencies"]
    for requirement in itertools.chain(*extras.values()):
        name, _, inner = requirement.rstrip("]").partition("[")
        if name.startswith("fastnn"):
            assert name == PROJECT["name"]
            assert set(inner.split(",")) <= extras.keys()


@pytest.mark.parametrize("summary", ["of another project", None])
def test_doctor_names_another_distribution_with_the_same_package(summary, monkeypatch):
    def metadata(name):
        if summary is None and name == "fastnn":
            raise importlib.metadata.PackageNotFoundError
        return {"Summary": summary if name == "fastnn" else "ours", "Version": "0.4.0"}

    monkeypatch.setattr(importlib.metadata, "metadata", metadata)
    found = [line for line in installation._packages() if line.startswith("fastnn ")]
    assert len(found) == (summary is not None)
    assert all("pip uninstall fastnn fastnn-cpu" in line for line in found)
