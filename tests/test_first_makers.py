"""What maintainers and packagers rely on: names, commands in messages, and the C module's age."""

import importlib.metadata
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import fastnn
from fastnn import activations, engines, installation, layers, losses, optimizers
from fastnn.engines import native, sources

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


# -- a C module of other sources ------------------------------------------------------------------

#: A module as an earlier version built it: with another digest, or none, and without some tables.
STALE = """
sources = {digest!r}

def layout():
    return {{"op": {{"kind": 0}}}}

def levels():
    return ["plain"]

def addresses(level, dtype):
    return {{}}
"""
FIT = """
import fastnn
print(fastnn.engines.choice()[0])
fastnn.Sequential([fastnn.Dense(2)]).fit([[1.0]], [[1.0, 2.0]], epochs=1, progress=False)
"""


@pytest.fixture
def stale_copy(tmp_path):
    """A function that copies the package, with a C module of other sources; returns the folder."""

    def make(digest, with_sources):
        nothing = shutil.ignore_patterns("_c.*", "csrc", "__pycache__", "*.npz")
        shutil.copytree(PACKAGE, tmp_path / "fastnn", ignore=nothing)
        (tmp_path / "fastnn/engines/_c.py").write_text(STALE.format(digest=digest))
        if with_sources:
            (tmp_path / "fastnn/engines/csrc").mkdir()
            (tmp_path / "fastnn/engines/csrc/one.h").write_text("/* of today */")
        return tmp_path

    return make


def run(folder, code, **environment):
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("with_sources", "remedy"),
    [(True, "rebuild it with pip install -e ."), (False, "install fastnn-cpu again")],
)
def test_a_stale_module_says_rebuild_and_nothing_runs_on_it(stale_copy, with_sources, remedy):
    folder = stale_copy("0" * 32, with_sources)
    message = f"was compiled from other sources than these: {remedy}"
    done = run(folder, FIT, FASTNN_ENGINE="c")
    assert done.returncode != 0
    assert "KeyError" not in done.stderr
    assert message in done.stderr.splitlines()[-1]
    done = run(folder, "import fastnn; print(fastnn.engines.choice()[0])")
    assert done.stdout.strip() in ("numba", "numpy")
    assert f"RuntimeWarning: the C engine cannot run: its extension module {message}" in done.stderr


@pytest.mark.parametrize("module", [
    SimpleNamespace(sources="0" * 32), SimpleNamespace(),
], ids=["other digest", "no digest"])  # fmt: skip
def test_a_module_with_the_same_tables_is_stale_too(module, monkeypatch):
    """A changed formula changes no table; the module would give yesterday's numbers."""
    monkeypatch.setattr(sources, "digest", lambda: "1" * 32)
    monkeypatch.setattr(native, "_module", module)
    for function in (engines.trouble, native._is_of_other_sources):
        function.cache_clear()
    try:
        with pytest.raises(ValueError, match="other sources than these: rebuild it with pip insta"):
            fastnn.set_engine("c")
    finally:
        monkeypatch.undo()
        for function in (engines.trouble, native._is_of_other_sources):
            function.cache_clear()


def test_the_digest_is_of_names_and_contents(tmp_path, monkeypatch):
    folder = tmp_path / "csrc"
    monkeypatch.setattr(sources, "FOLDER", folder)
    assert sources.digest() is None
    (folder / "levels").mkdir(parents=True)
    found = set()
    for name, text in [("a.h", "1"), ("a.h", "2"), ("b.c", ""), ("levels/a.h", "2")]:
        (folder / name).write_text(text)
        found.add(sources.digest())
    (folder / "notes.txt").write_text("not compiled")
    found.add(sources.digest())
    assert len(found) == 4
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in found)


BUILD = """
import runpy, sys
from setuptools.command import build_ext
def show(self, ext):
    print(self.force, dict(ext.define_macros)["FASTNN_SOURCES"], *ext.depends)
build_ext.build_ext.build_extension = show
sys.argv = ["setup.py", "-q", "build_ext", "--build-lib", sys.argv[1]]
runpy.run_path("setup.py")
"""


@pytest.mark.skipif(not sources.headers(), reason="an installed package is without C sources")
def test_the_build_compiles_the_digest_in_and_knows_every_header(tmp_path):
    pytest.importorskip("setuptools")
    for built, forced in (
        (None, "True"),
        (b"of 000", "True"),
        (sources.digest().encode(), "False"),
    ):
        if built is not None:
            (tmp_path / "fastnn/engines").mkdir(parents=True, exist_ok=True)
            (tmp_path / "fastnn/engines/_c.abi3.so").write_bytes(b"ELF" + built + b"end")
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        force, digest, *headers = done.stdout.split()
        assert force == forced
        assert digest == f'"{sources.digest()}"'
        assert headers == [path.relative_to(ROOT).as_posix() for path in sources.headers()]


# -- the guide for contributors -------------------------------------------------------------------

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not sources.headers(), reason="an installed package is without C sources")
def test_every_file_and_name_in_the_guide_exists():
    """In a step, a name in capitals or with an underscore is in a file that the step names."""
    named = 0
    for step in re.split(r"\n(?=\d+\. |#|- |\n)", GUIDE.replace("NAME.", "scale.")):
        found = re.findall(r"`((?:fastnn|tests|bench)/[\w/]+\.\w+)`", step)
        paths = [ROOT / path for path in found]
        assert [str(path) for path in paths if not path.is_file()] == []
        text = "".join(path.read_text(encoding="utf-8") for path in paths)
        for name in re.findall(r"`(_?[A-Z][A-Z_]{2,}|_[a-z_]+)`", step) if text else ():
            named += 1
            assert name in text, f"{name} is not in the files of: {step}"
    assert named > 25


@pytest.mark.parametrize(("names", "table"), [
    (activations._BY_NAME, activations.__doc__), (losses._BY_NAME, losses.__doc__),
    (activations._BY_NAME, None), (layers._KINDS, None),
    ([type(optimizers.get(name)).__name__ for name in optimizers._BY_NAME], None),
], ids=["activations' table", "losses' table", "activations", "layers", "optimizers"])  # fmt: skip
def test_what_has_a_name_is_in_the_documentation(names, table):
    """In the table of its module, or in the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text, marks = (readme, "`") if table is None else (table, "``")
    assert [name for name in names if not re.search(rf"{marks}{name}\b", text)] == []


def test_every_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    package = Path(fastnn.__file__).parent
    folders = [path.parent.relative_to(package.parent) for path in package.rglob("__init__.py")]
    found = {".".join(folder.parts) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == found
