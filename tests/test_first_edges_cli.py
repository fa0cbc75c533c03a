"""The command line in hostile hands: one line and a status for every mistake, no traceback."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

import fastnn
from fastnn import cli, safe_writes

START = [sys.executable, "-m", "fastnn"]
#: The engine that starts in the shortest time.
ENGINE = {"FASTNN_ENGINE": "c" if "c" in fastnn.engines.available() else "auto"}
TRAIN = ("train", "digits", "--epochs", "1", "--hidden", "8")
posix = pytest.mark.skipif(sys.platform == "win32", reason="of POSIX systems")


def run(*arguments, cwd, env=None, **streams):
    env = {**os.environ, **ENGINE, **(env or {})}
    if not streams:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(
        [*START, *arguments], cwd=cwd, timeout=240, env=env, **streams, text=True,
        encoding="utf-8", errors="surrogateescape",
    )  # fmt: skip


def run_here(*arguments):
    """Run in this process, which is faster."""
    done = CliRunner().invoke(cli.main, arguments)
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def refused(done, message):
    assert "Traceback" not in done.stderr
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    assert message in lines[0]
    assert done.stdout == ""


@pytest.mark.parametrize(("arguments", "message"), [
    (["--lr", "nan"], "nan is no learning rate"),
    (["--lr", "inf"], "inf is no learning rate"),
    (["--lr", "1e999"], "inf is no learning rate"),
    (["--lr", "-1"], "not in the range"),
    (["--lr", "fast"], "not a valid float"),
    (["--epochs", "99999999999"], "not in the range 1<=x<=2147483647"),
    (["--epochs", "1e3"], "not a valid integer"),
    (["--batch-size", "0"], "not in the range"),
    (["--batch-size", "99999999999"], "not in the range"),
    (["--seed", str(10**23)], "not in the range"),
    (["--seed", str(2**64)], "not in the range"),
    (["--seed", "-1"], "not in the range"),
    (["--hidden", "2000000000"], "150,000,000,010 parameters"),
    (["--hidden", "9" * 20], "parameters, which take"),
    (["--hidden", "9" * 5000], "give sizes such as 128"),
    (["--hidden", "100000-100000-100000-100000"], "parameters, which take"),
    (["--hidden", "1_000"], "give sizes such as 128"),
    (["--hidden=-5"], "give sizes such as 128"),
    (["--hidden", "5-"], "give sizes such as 128"),
    (["--hidden", "5--5"], "give sizes such as 128"),
    (["--hidden", "\u0663"], "give sizes such as 128"),
    (["--plot", "curve.xyz"], "'.xyz'"),
    (["--plot", "none/curve.png"], "no folder 'none'"),
    (["--plot", ""], "is a folder"),
    (["--plot", "file/curve.png"], "'file'"),
    (["-o", "none/m"], "no directory 'none'"),
    (["-o", "file/m"], "no directory 'file'"),
    (["-o", ""], "this is a folder"),
    (["-o", "."], "is a directory"),
    (["-o", "x" * 300], "name too long"),
    (["-o", "a.png", "--plot", "./a.png"], "the same file"),
    (["--nonsense"], "No such option"),
    (["extra"], "unexpected extra argument"),
], ids=lambda value: value if isinstance(value, str) else " ".join(value)[:30])  # fmt: skip
def test_mistakes_are_one_line_before_any_work(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"kept")
    refused(run_here("train", "digits", *arguments), message)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("name", "value"), [
    ("FASTNN_ENGINE", "nonsense"), ("FASTNN_NUM_THREADS", "none"), ("FASTNN_NUM_THREADS", "0"),
    ("FASTNN_NUM_THREADS", "5000"), ("FASTNN_SIMD", "avx1024"), ("OMP_NUM_THREADS", "-3"),
])  # fmt: skip
@pytest.mark.parametrize("command", [TRAIN, ["warmup"]], ids=["train", "warmup"])
def test_a_bad_variable_is_one_line_before_any_work(tmp_path, monkeypatch, name, value, command):
    if name == "FASTNN_SIMD" and set(fastnn.engines.available()) == {"numpy"}:
        pytest.skip("no engine uses it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(fastnn.engines, "_named", os.environ.get("FASTNN_ENGINE"))
    refused(run_here(*command), name)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    refused(run("train", "digits", "--lr", "nan", cwd=tmp_path), "nan is no learning rate")
    refused(run(*TRAIN, cwd=tmp_path, env={"FASTNN_ENGINE": "nonsense"}), "FASTNN_ENGINE")


def test_unknown_commands():
    refused(run_here("tran"), "No such command 'tran'")
    refused(run_here("train", "sales.csv"), "No such command 'sales.csv'")
    for arguments in ([], ["train"]):
        done = run_here(*arguments)
        assert "Commands:" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    """Root writes everywhere, so the system's answer is made up."""

    def refuse(path, *_args):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(safe_writes.os, "open", refuse)
    monkeypatch.chdir(tmp_path)
    for option, path in (("-o", "m"), ("--plot", "curve.png")):
        refused(
            run_here("train", "digits", option, path), f"cannot write {path}: Permission denied"
        )


def test_a_fit_that_diverges(tmp_path):
    done = run(*TRAIN, "--lr", "1e30", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "Error: the training failed: the loss is no longer finite in epoch 0" in last
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_full_disk_at_the_end(tmp_path):
    device = tmp_path / "full"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        os.close(os.open(device, os.O_WRONLY))
    except OSError:
        pytest.skip("needs Linux and the right to make devices")
    done = run(*TRAIN, "-o", "full", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == "Error: the model could not be written: full: No space left on device"
    assert stat.S_ISCHR(device.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["doctor"], ["--help"], ["train", "--help"], TRAIN],
                         ids=" ".join)  # fmt: skip
def test_a_full_disk_behind_stdout(tmp_path, arguments):
    with open("/dev/full", "w") as full:
        done = run(*arguments, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "Error: the output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@posix
@pytest.mark.parametrize("arguments", [["doctor"], ["--help"]], ids=" ".join)
def test_a_pipe_that_is_closed(tmp_path, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    done = run(*arguments, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == ""


@posix
def test_streams_that_are_closed(tmp_path):
    command = " ".join([f"'{START[0]}'", *START[1:], *TRAIN, ">&- 2>&-"])
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=240)
    assert done.returncode == 0
    assert fastnn.load(tmp_path / "digits.safetensors").n_inputs == 64


@posix
def test_ctrl_c(tmp_path):
    """Ctrl-C ends with 130, in one line, and leaves no file."""
    with subprocess.Popen(
        [*START, "train", "digits", "--epochs", "1000000", "-o", "m"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        text = b""
        while b"epoch 1/" not in text:
            text += os.read(process.stderr.fileno(), 10_000)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Traceback" not in rest
    assert rest.splitlines()[-1] == b"stopped by Ctrl-C"
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize(("name", "encoding"), [
    ("gr\u00fc\u00dfe \U0001f600.st", "ascii"), ("\udcff.st", "utf-8"),
], ids=["unicode", "bytes"])  # fmt: skip
def test_names_of_files(tmp_path, name, encoding):
    done = run(*TRAIN, "-o", name, cwd=tmp_path, env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert fastnn.load(tmp_path / name).n_inputs == 64
    assert "model  " in done.stdout


@posix
def test_a_link_a_long_name_and_a_picture_without_an_ending(tmp_path):
    long = "x" * 250
    (tmp_path / "m").symlink_to(long)
    done = run(*TRAIN, "-o", "m", "--plot", "curve", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m").is_symlink()
    assert fastnn.load(tmp_path / long).n_inputs == 64
    assert (tmp_path / "curve.png").is_file()
    assert "curve.png" in done.stdout


def test_doctor_names_a_misspelled_variable(tmp_path):
    done = run("doctor", cwd=tmp_path, env={"FASTNN_THREADS": "2"})
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if "FASTNN_THREADS" in line]
    assert line == "  WRONG: fastnn does not read FASTNN_THREADS; did you mean FASTNN_NUM_THREADS?"
