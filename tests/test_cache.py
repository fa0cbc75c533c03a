"""The kernel cache: trouble with the disk costs time and is never an error."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")

from fastnn.engines.jit import cache, kernels

NAME = "sgd"  # a small kernel


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A fresh cache directory, and a process that has loaded nothing from it."""
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernels, "_addresses", {})
    return tmp_path


def forget():
    kernels._addresses.clear()


def kernel_file(place):
    return place / cache.key() / f"{NAME}-float32.kernel"


def counted(monkeypatch):
    compiled = []
    original = kernels.compile_function

    def count(name, dtype):
        compiled.append(name)
        return original(name, dtype)

    monkeypatch.setattr(kernels, "compile_function", count)
    return compiled


def test_a_kernel_is_compiled_once_and_then_loaded(place, monkeypatch):
    compiled = counted(monkeypatch)
    assert kernels.address(NAME, np.float32) != 0
    assert kernel_file(place).is_file()
    forget()
    assert kernels.address(NAME, np.float32) != 0
    assert compiled == [NAME]
    assert [path.name for path in kernel_file(place).parent.iterdir()] == [kernel_file(place).name]


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "foreign", "gone"])
def test_a_damaged_file_is_compiled_anew(place, monkeypatch, damage):
    kernels.address(NAME, np.float32)
    file = kernel_file(place)
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
        file.parent.rmdir()
    else:
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 1
        damaged = {"empty": b"", "truncated": content[:-1], "flipped": bytes(flipped)}
        file.write_bytes(damaged.get(damage, b"something else entirely" * 100))
    forget()
    compiled = counted(monkeypatch)
    assert kernels.address(NAME, np.float32) != 0
    assert compiled == [NAME]
    assert kernel_file(place).read_bytes()[:16] == content[:16]


@pytest.mark.parametrize("where", ["a file", "nowhere", "off"])
def test_no_usable_directory(place, monkeypatch, where, capsys):
    if where == "a file":
        blocked = place / "file"
        blocked.write_text("in the way")
        monkeypatch.setenv("FASTNN_CACHE_DIR", str(blocked))
    elif where == "nowhere":
        monkeypatch.setenv("FASTNN_CACHE_DIR", "/proc/no/such/place")
    else:
        monkeypatch.setenv("FASTNN_CACHE_DIR", "")
    monkeypatch.setattr(kernels, "_announced", False)
    compiled = counted(monkeypatch)
    assert kernels.address(NAME, np.float32) != 0
    assert compiled == [NAME]
    assert "not kept" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written(place, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(cache.tempfile, "mkstemp", refuse)
    assert kernels.address(NAME, np.float32) != 0


def test_a_full_disk_leaves_nothing_behind(place, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)
    assert kernels.address(NAME, np.float32) != 0
    assert list(kernel_file(place).parent.iterdir()) == []


def test_the_key_depends_on_the_sources(monkeypatch, tmp_path):
    cache.key.cache_clear()
    before = cache.key()
    copy = tmp_path / "fastnn" / "engines" / "jit"
    copy.mkdir(parents=True)
    package = cache.Path(cache.__file__).parents[2]
    for source in cache.sources():
        (copy.parents[1] / source.relative_to(package)).write_bytes(source.read_bytes())
    monkeypatch.setattr(cache, "__file__", str(copy / "cache.py"))
    cache.key.cache_clear()
    assert cache.key() == before
    with (copy / "update.py").open("a") as file:
        file.write("\n")
    cache.key.cache_clear()
    assert cache.key() != before
    cache.key.cache_clear()


SCRIPT = """
import hashlib, numpy as np, fastnn
from fastnn.engines import compiled
compiled.LEAST_WORK, compiled.PARTS = 0.0, 2
rng = np.random.default_rng(0)
X, y = rng.normal(size=(60, 5)), np.arange(60) % 3
net = fastnn.Sequential([fastnn.Dense(8, "tanh"), fastnn.Dense(3)])
net.fit(X, y, epochs=2, progress=False)
print(hashlib.sha256(net.flat_params.tobytes()).hexdigest())
"""


def test_a_new_process_loads_parallel_kernels_and_says_nothing(tmp_path):
    """The second process finds everything in the cache, the launcher included."""
    environment = {**os.environ, "FASTNN_CACHE_DIR": str(tmp_path), "FASTNN_NUM_THREADS": "2"}
    environment["FASTNN_ENGINE"] = "numba"
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True,
            timeout=120, check=True,
        )  # fmt: skip
        found.append((done.stdout, "compiling" in done.stderr))
    assert [announced for _, announced in found] == [True, False]
    assert found[0][0] == found[1][0]


def test_the_key_covers_every_source_that_kernels_are_made_of():
    """Whatever a module of the package imports from fastnn is hashed, or takes no part in code."""
    import ast
    from pathlib import Path

    import fastnn

    package = Path(fastnn.__file__).parent
    hashed = {path.resolve() for path in cache.sources()}
    no_code = {
        "engines/compilation.py", "engines/threads.py", "engines/levels.py", "interrupts.py",
    }  # fmt: skip
    for file in sorted((package / "engines" / "jit").glob("*.py")):
        assert file.resolve() in hashed, file.name
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ImportFrom) or node.level < 2:
                continue
            base = file.parents[node.level - 1]
            module = base.joinpath(*(node.module or "").split(".")) if node.module else base
            names = [module] if module.with_suffix(".py").exists() else [
                module / name.name for name in node.names
            ]  # fmt: skip
            for path in names:
                source = path.with_suffix(".py").resolve()
                name = source.relative_to(package.resolve()).as_posix()
                assert name in no_code or source in hashed, f"{file.name} imports {name}"


def test_another_source_gives_another_key(monkeypatch, tmp_path):
    key = cache.key.__wrapped__
    before = key()
    changed = tmp_path / "constants.py"
    changed.write_text("SELU_SCALE, SELU_ALPHA = 1, 2\n")
    sources = [changed if p.name == "constants.py" else p for p in cache.sources()]
    assert changed in sources
    monkeypatch.setattr(cache, "sources", lambda: sources)
    assert key() != before
