"""The command line, run as a user runs it."""

import os
import re
import subprocess
import sys

import pytest

import fastnn


def run(*arguments, cwd=None, env=None):
    return subprocess.run(
        [sys.executable, "-m", "fastnn", *arguments], cwd=cwd, capture_output=True, text=True,
        timeout=240, env=env,
    )  # fmt: skip


def test_train_digits(tmp_path):
    done = run("train", "digits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {" ".join(line.split()[:2]): line for line in done.stdout.splitlines()}
    assert float(lines["test accuracy"].split()[2]) >= 0.975
    assert "rows/s" in done.stdout
    assert any(f"engine {name}" in done.stdout for name in fastnn.engines.available())
    assert "thread" in done.stdout
    assert "epoch 40/40" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits.png", "digits.safetensors"]
    net = fastnn.load(tmp_path / "digits.safetensors")
    X, y = fastnn.data.load_digits()
    assert (net.predict(X) == y).mean() > 0.98


def test_warmup_compiles_everything_once():
    """Into the suite's cache, so that no later test has to compile."""
    pytest.importorskip("numba")
    from fastnn.engines import jit
    from fastnn.engines.jit import cache

    dropped = cache.directory() / "adam-float32.kernel"
    dropped.unlink(missing_ok=True)
    done = run("warmup")
    assert done.returncode == 0, done.stderr
    assert f"{len(jit.names())} kernels for float32 ready" in done.stdout
    missing = [
        name for name in jit.names() if not (cache.directory() / f"{name}-float32.kernel").is_file()
    ]
    assert not missing
    program = (
        "import numpy, fastnn; from fastnn.engines.jit import kernels;"
        "kernels.compile_function = None;"
        "net = fastnn.Sequential([fastnn.Dense(7, 'gelu'), fastnn.Dense(3)]);"
        "net.fit(numpy.ones((9, 2)), numpy.arange(9) % 3, progress=False)"
    )
    after = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert after.returncode == 0, after.stderr
    assert b"compiling" not in after.stderr


def test_warmup_names_the_types():
    pytest.importorskip("numba")
    done = run("warmup", "--dtype", "float16")
    assert done.returncode == 2
    assert "float64" in done.stderr


def test_warmup_without_a_cache_says_so_at_once():
    pytest.importorskip("numba")
    done = run("warmup", env={**os.environ, "FASTNN_CACHE_DIR": ""})
    assert done.returncode == 1
    assert "FASTNN_CACHE_DIR" in done.stderr
    assert done.stdout == ""


def test_options(tmp_path):
    done = run(
        "train", "digits", "--hidden", "16-8", "--epochs", "2", "-o", "m.st", "--plot", "p.svg",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Dense(16, 'relu')" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.st", "p.svg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "12x"], "sizes such as 128"),
        (["--hidden", "0"], "at least 1"),
        (["--epochs", "0"], "range"),
        (["--lr", "0"], "range"),
        (["-o", "nowhere/m"], "no directory 'nowhere'"),
    ],
)
def test_mistakes_are_named_before_any_work(tmp_path, arguments, message):
    done = run("train", "digits", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_doctor_tells_what_is_here():
    done = run("doctor")
    assert done.returncode == 0, done.stderr
    for word in ("engines", "numba", "numpy", "SIMD", "threads", "cache", "chosen"):
        assert word in done.stdout
    for name, about in fastnn.engines.available().items():
        assert f"{name:8}" in done.stdout
        assert about in done.stdout
    if set(fastnn.engines.available()) > {"numpy"}:
        for sizes in ("14-64-64-2 with batch 32", "784-128-10", "784-512-512-10 with batch 128"):
            (line,) = [line for line in done.stdout.splitlines() if sizes in line]
            found = re.search(r": (\d+) us a step, in (\d+) threads?$", line)
            assert int(found[1]) > 0
            assert 1 <= int(found[2]) <= fastnn.get_num_threads()


def test_doctor_finds_what_is_wrong(tmp_path):
    (tmp_path / "file").write_text("in the way")
    environment = {
        **os.environ, "FASTNN_SIMD": "avx1024", "FASTNN_NUM_THREADS": "none",
        "FASTNN_ENGINE": "fast",
    }  # fmt: skip
    done = run("doctor", env=environment)
    assert done.returncode == 0, done.stderr
    assert "WRONG: FASTNN_SIMD must be one of" in done.stdout
    assert "WRONG: FASTNN_NUM_THREADS" in done.stdout
    assert "WRONG: unknown FASTNN_ENGINE 'fast'" in done.stdout
    if "numba" in fastnn.engines.available():
        environment = {**os.environ, "FASTNN_CACHE_DIR": str(tmp_path / "file")}
        done = run("doctor", env=environment)
        assert f"WRONG: {tmp_path / 'file'} cannot be written" in done.stdout


def test_version_and_help():
    assert run("--version").stdout.strip().endswith(fastnn.__version__)
    assert "digits" in run("train", "--help").stdout


def test_without_click_it_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['click'] = None; import fastnn.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "pip install 'fastnn-cpu[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
