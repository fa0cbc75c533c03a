"""Checkpoint files from an untrusted source, full disks, and what killed writers leave.

FASTNN_DAMAGED_FILES is the number of random damages per test.
"""

import copy
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from checkpoint_cases import contents
from conftest import table
from hostile import damage, drop, put, refusal, tensor, with_element
from safetensors.numpy import save as to_bytes

import fastnn
from fastnn import (
    EMA,
    Adam,
    BatchNorm,
    Callback,
    Dense,
    EarlyStopping,
    Sequential,
    checkpoint_files,
    files,
    run,
    safe_writes,
    schedules,
)
from fastnn.errors import CheckpointError, ModelFileError

RANDOM_FILES = int(os.environ.get("FASTNN_DAMAGED_FILES", "300"))
X, Y = table(80)
KEY = "fastnn checkpoint"


class Counting(Callback):
    """A callback with a state, which believes what it is given."""

    def __init__(self):
        self.count = 0

    def on_epoch_end(self, training):
        self.count += 1

    def state_dict(self):
        return {"count": self.count, "lowest": float("inf")}

    def load_state_dict(self, state):
        self.count = state["count"]


def network():
    return Sequential([Dense(5, "relu"), BatchNorm(), Dense(3)], seed=1)


def fit(net, path, resume=True, **more):
    arguments = {
        "epochs": 5, "batch_size": 16, "optimizer": Adam(0.01), "validation_data": (X, Y),
        "ema": EMA(0.9, keep="best"), "early_stopping": EarlyStopping(4), "progress": False,
        "schedule": schedules.ReduceOnPlateau(patience=0), "callbacks": [Counting()],
        "checkpoint": path, "checkpoint_every": "0.000001s", "resume": resume, **more,
    }  # fmt: skip
    return net.fit(X, Y, **arguments)


@pytest.fixture
def without_sync(monkeypatch):
    monkeypatch.setattr("fastnn.safe_writes.os.fsync", lambda handle: None)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Tensors and description of checkpoints: between two epochs, and in the middle of one."""
    path = tmp_path_factory.mktemp("good") / "run.ckpt"
    found, replace = [], safe_writes.replace

    def keep(to, parts):
        replace(to, parts)
        found.append(contents(to))

    with pytest.MonkeyPatch.context() as patch, fastnn.use_engine("numpy"):
        patch.setattr(safe_writes, "replace", keep)
        patch.setattr(run, "SLICE_SECONDS", 1e-9)
        fit(network(), path)
    whole = next(one for one in found if one[1]["counters"]["epochs_done"] == 3)
    within = next(one for one in found if one[1]["batches"] == 2 and one[1]["watch"]["best_epoch"])
    assert {"start.params", "results", "watch.state", "average.best"} <= within[0].keys()
    return {"whole": whole, "within": within}


def write(path, tensors, about, right=True):
    """Write a checkpoint, whose checksums are made right if they can be."""
    if right and isinstance(about.get("tensors"), dict):
        for name, array in tensors.items():
            about["tensors"][name] = checkpoint_files.checksum(array)
    text = json.dumps(about)
    metadata = {KEY: text, "checksum": checkpoint_files._checksum_of_text(text)}
    path.write_bytes(to_bytes(tensors, metadata))


def refused(path):
    """Resuming raises CheckpointError, and the network is as it was."""
    net = network()
    with fastnn.use_engine("numpy"):
        message = refusal(path, CheckpointError, lambda: fit(net, path))
    assert net._params is None
    assert net.history is None
    return message


def counters(**values):
    return lambda tensors, about: about["counters"].update(values)


DAMAGES = {
    "negative steps": counters(steps_done=-1),
    "many steps": counters(steps_done=2**60),
    "negative step": counters(step=-5),
    "negative epoch": counters(epoch=-1),
    "epochs without a history": counters(epochs_done=4),
    "a huge number of epochs": counters(epochs_done=10**9, steps_done=5 * 10**9),
    "more steps than the optimizer took": counters(step=1),
    "an optimizer that began later": counters(optimizer_epoch=100),
    "a step that is no number": counters(step=1.5),
    "a step that is true": counters(step=True),
    "counters gone": drop("counters"),
    "a counter gone": drop("counters", "step"),
    "negative batches": put("batches", to=-1),
    "too many batches": put("batches", to=100),
    "batches without results": put("batches", to=3),
    "an infinite rate": put("numbers", "rate", to={"not finite": "inf"}),
    "a rate that is not a number": put("numbers", "rate", to={"not finite": "nan"}),
    "a negative factor": put("numbers", "lr_factor", to=-1.0),
    "numbers of text": put("numbers", "rate", to="0.1"),
    "stopped by a number": put("stopped", to=3),
    "threads without a number": put("threads_used", to={"many": 3}),
    "threads that count backwards": put("threads_used", to={"2": -3}),
    "a history of other names": put("history", 0, to="los"),
    "a history of lists": put("history", 0, to=["loss"]),
    "a history of many": put("history", to=["loss"] * 5000),
    "no progress": put("progress", to=None),
    "progress from the future": put("progress", "step", to=2**40),
    "a plateau without a value": drop("progress", "plateau", "value"),
    "a plateau of negative rates": put("progress", "plateau", "value", to=-1.0),
    "no average": put("average", to=None),
    "an average from the future": put("average", "first_step", to=2**40),
    "an average that starts before": put("average", "first", to=-1),
    "an average of nothing": put("average", to={}),
    "no early stopping": put("watch", to=None),
    "a best epoch to come": put("watch", "best_epoch", to=100),
    "a best epoch before": put("watch", "best_epoch", to=-1),
    "no best epoch": put("watch", "best_epoch", to=None),
    "callbacks that are none": put("callbacks", to=[1, 2]),
    "callbacks unknown": put("callbacks", to=[["os.system", {"x": "ls"}]]),
    "callbacks twice": lambda tensors, about: about["callbacks"].extend(about["callbacks"]),
    "another key": put("colour", to="red"),
    "no fit": put("fit", to={}),
    "a fit that is a list": put("fit", to=[]),
    "format of the future": put("format", to=2),
    "format of text": put("format", to="1"),
    "no checksums": put("tensors", to=None),
    "fewer parameters": tensor("params", lambda a: a[:-1]),
    "more parameters": tensor("params", lambda a: np.append(a, a)),
    "parameters as a matrix": tensor("params", lambda a: a[:, None]),
    "parameters of another type": tensor("params", lambda a: a.astype(np.float64)),
    "parameters not a number": tensor("params", with_element(np.nan)),
    "infinite slots": tensor("slots", with_element(np.inf)),
    "a negative variance": tensor("state", lambda a: a - 100),
    "infinite best weights": tensor("watch.params", with_element(-np.inf)),
    "an average not a number": tensor("average", with_element(np.nan)),
    "slots of another optimizer": tensor("slots", lambda a: a[:1]),
    "a history too short": tensor("history.0", lambda a: a[:-1]),
    "no slots": lambda tensors, about: tensors.pop("slots"),
    "a tensor too many": lambda tensors, about: tensors.update({"more": tensors["params"]}),
}


@pytest.mark.parametrize("which", ["whole", "within"])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_refused(tmp_path, good, name, which):
    """Also where the checksums are right, as whoever wrote it on purpose would have made them."""
    tensors, about = copy.deepcopy(good[which])
    DAMAGES[name](tensors, about)
    write(tmp_path / "run.ckpt", tensors, about)
    refused(tmp_path / "run.ckpt")


@pytest.mark.parametrize("which", ["whole", "within"])
def test_the_good_checkpoints_go_on(tmp_path, good, which):
    write(tmp_path / "run.ckpt", *copy.deepcopy(good[which]))
    with fastnn.use_engine("numpy"):
        assert fit(network(), tmp_path / "run.ckpt").n_epochs == 5


def test_checksums_find_every_changed_byte(tmp_path, good):
    """Of the tensors, one byte at a time; the file is intact otherwise."""
    tensors, about = good["within"]
    write(tmp_path / "run.ckpt", tensors, copy.deepcopy(about))
    content = (tmp_path / "run.ckpt").read_bytes()
    first = len(content) - sum(array.nbytes for array in tensors.values())
    for at in range(first, len(content), max(1, (len(content) - first) // 100)):
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "run.ckpt").write_bytes(changed)
        assert "is damaged: its tensor" in refused(tmp_path / "run.ckpt")


def test_random_bytes(tmp_path, good, without_sync):
    """One to four bytes of a file changed, or its end cut off: never anything but an error."""
    path = tmp_path / "run.ckpt"
    originals = []
    for tensors, about in copy.deepcopy(list(good.values())):
        write(path, tensors, about)
        originals.append(path.read_bytes())
    for number in range(RANDOM_FILES):
        draw = random.Random(number)
        damaged = bytearray(draw.choice(originals))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(damaged))
            damaged[at] = (damaged[at] + draw.randrange(1, 256)) % 256
        path.write_bytes(damaged[: draw.choice([len(damaged), draw.randrange(len(damaged))])])
        refused(path)


def test_random_descriptions(tmp_path, good, without_sync):
    """One to three values changed, with the right checksums: an error, or a fit."""
    path, resumed = tmp_path / "run.ckpt", 0
    for number in range(RANDOM_FILES):
        draw = random.Random(number)
        tensors, about = copy.deepcopy(draw.choice(list(good.values())))
        for _ in range(draw.randint(1, 3)):
            damage(about, draw)
        write(path, tensors, about, right=draw.random() < 0.8)
        with fastnn.use_engine("numpy"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                fit(network(), path)
            except CheckpointError:
                continue
            except (KeyError, TypeError):  # of the callback, which is to judge its own state
                assert about["callbacks"] != good["whole"][1]["callbacks"]
                continue
        resumed += 1
    assert resumed < RANDOM_FILES


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / "run.ckpt"
    for content in (
        b"",
        b"\0" * 100,
        b"PK\x03\x04",
        os.urandom(1000),
        to_bytes({"w": np.zeros(3)}),
    ):
        path.write_bytes(content)
        assert "checkpoint" in refused(path) or "safetensors" in refused(path)
    Sequential([Dense(3)], n_inputs=7).save(path)
    assert "is a model of fastnn, no checkpoint: it is for fastnn.load" in refused(path)
    with pytest.raises(IsADirectoryError, match="not a checkpoint file"):
        fit(network(), tmp_path)


def test_a_checkpoint_is_no_model(tmp_path):
    fit(network(), tmp_path / "run.ckpt", epochs=1)
    with pytest.raises(ModelFileError, match=r"is a checkpoint of fastnn, no model: it is for fit"):
        fastnn.load(tmp_path / "run.ckpt")


def test_files_are_those_of_the_library(good):
    """What is written part by part has the bytes that the safetensors library writes."""
    for tensors, _ in good.values():
        tensors = {"b": np.zeros((2, 3)), "\u00e9": np.ones(3, np.float32), **tensors}
        for metadata in ({}, {"a": 'x"\\ \u00e9'}):
            parts = b"".join(files.serialized(tensors, metadata))
            (header,) = files.serialized({}, metadata)
            assert len(header) % 8 == 0
            if metadata:
                assert parts == to_bytes(tensors, metadata)


# -- disks ------------------------------------------------------------------------------------


def broken(monkeypatch, name, after, number=errno.ENOSPC):
    """Let a function of os fail from its `after`-th call on, in safe_writes."""
    calls, original = [], getattr(os, name)

    def fails(*args, **kwargs):
        calls.append(name)
        if len(calls) > after:
            raise OSError(number, os.strerror(number))
        return original(*args, **kwargs)

    monkeypatch.setattr(safe_writes.os, name, fails)
    return calls


STAGES = ["open", "write", "fsync", "replace"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_costs_checkpoints_and_not_the_fit(tmp_path, monkeypatch, caplog, stage):
    path = tmp_path / "run.ckpt"
    expected = network()
    fit(expected, tmp_path / "other.ckpt", resume=False, checkpoint_every=1)
    net, kept = network(), []

    def fail(training):
        if training.epoch == 2:
            kept.append(path.read_bytes())
            broken(monkeypatch, stage, 0)

    with pytest.warns(RuntimeWarning) as caught:
        fit(net, path, checkpoint_every=1, callbacks=[Counting(), fail])
    monkeypatch.undo()
    messages = [str(one.message) for one in caught]
    assert len(messages) >= 4  # after epochs 2 to 5
    assert len(set(messages[:4])) == 4
    assert all(repr(str(path)) in text and "No space left" in text for text in messages)
    assert [
        record.message for record in caplog.records if record.levelname == "WARNING"
    ] == messages
    assert net.flat_params.tobytes() == expected.flat_params.tobytes()
    assert path.read_bytes() == kept[0]
    assert sorted(os.listdir(tmp_path)) == ["other.ckpt", "run.ckpt"]
    again = network()
    assert fit(again, path, checkpoint_every=1).n_epochs == 5
    assert again.flat_params.tobytes() == expected.flat_params.tobytes()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("is_fitted", [False, True])
def test_a_fit_that_cannot_write_is_refused(tmp_path, monkeypatch, stage, is_fitted):
    path, net, ended = tmp_path / "run.ckpt", network(), []
    path.write_bytes(b"an older file")

    class Ending(Callback):
        def on_fit_end(self, training):
            ended.append(type(training.error))

    if is_fitted:
        net.fit(X, Y, ema=0.9, optimizer=Adam(0.01), epochs=1, progress=False)
    before = dict(net.__dict__)
    params = None if net._params is None else net._params.copy()
    broken(monkeypatch, stage, 0)
    with pytest.raises(OSError, match="No space"):
        fit(net, path, resume=False, callbacks=[Ending()], ema=EMA(0.9))
    assert ended == [OSError]
    caches = {"_epochs", "_idle"}
    assert net.__dict__.keys() - caches == before.keys() - caches
    for name in before.keys() - caches:
        assert net.__dict__[name] is before[name], name
    if params is not None:
        np.testing.assert_array_equal(net._params, params)
    assert path.read_bytes() == b"an older file"
    assert os.listdir(tmp_path) == ["run.ckpt"]


def test_a_folder_that_does_not_exist(tmp_path):
    net = network()
    with pytest.raises(FileNotFoundError):
        fit(net, tmp_path / "none" / "run.ckpt")
    assert net.history is None


LIMITED = """
import resource, sys, warnings
import numpy as np
import fastnn
from fastnn import Dense, Sequential
fastnn.set_engine("numpy")
net = Sequential([Dense(50), Dense(3)])
X, y = np.random.default_rng(0).normal(size=(40, 9)), np.arange(40) % 3
def limit(training):
    if training.epoch == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    net.fit(X, y, epochs=4, checkpoint=sys.argv[1], callbacks=limit, progress=False)
print(len(caught), "File too large" in str(caught[0].message), net.history.n_epochs)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
def test_a_file_that_may_grow_no_further(tmp_path):
    path = tmp_path / "run.ckpt"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["4", "True", "4"]
    assert contents(path)[1]["counters"]["epochs_done"] == 1
    assert os.listdir(tmp_path) == ["run.ckpt"]


def test_a_small_disk(tmp_path):
    """On a file system of 64 KiB, where mounting one is possible."""
    mount, small = shutil.which("mount"), tmp_path / "small"
    small.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if not mount or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        path, net = small / "run.ckpt", network()

        def fill(training):
            if training.epoch == 2:
                with pytest.raises(OSError, match="space"), open(small / "fill", "wb") as file:
                    file.write(b"x" * (1 << 20))

        with pytest.warns(RuntimeWarning, match="No space left"):
            fit(net, path, checkpoint_every=1, callbacks=[Counting(), fill])
        assert contents(path)[1]["counters"]["epochs_done"] == 1
        assert sorted(os.listdir(small)) == ["fill", "run.ckpt"]
        with pytest.raises(OSError, match="No space left"):
            fit(network(), small / "more.ckpt")
        os.unlink(small / "fill")
        again = network()
        fit(again, path, checkpoint_every=1)
        assert again.flat_params.tobytes() == net.flat_params.tobytes()
    finally:
        subprocess.run(["umount", str(small)], check=True)


# -- what killed writers leave ----------------------------------------------------------------

WRITER = """
import os, sys, time
from pathlib import Path
from fastnn import safe_writes
def parts():
    yield b"x" * 1000
    print("writing", flush=True)
    time.sleep(600)
safe_writes.replace(Path(sys.argv[1]), parts())
"""


@pytest.fixture
def writer(tmp_path):
    """Another process, in the middle of writing run.ckpt."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "run.ckpt"], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(safe_writes.fcntl is None, reason="files have no locks")
def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path, writer):
    others = [
        ".run.ckpt-0123", ".run.ckpt-0123456789ab.bak", "run.ckpt-0123456789ab",
        ".other.ckpt-0123456789ab", ".run.ckpt-0123456789aX",
    ]  # fmt: skip
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".run.ckpt-aaaaaaaaaaaa").mkdir()
    (tmp_path / ".run.ckpt-bbbbbbbbbbbb").symlink_to(tmp_path / others[0])
    kept = set(os.listdir(tmp_path))
    (tmp_path / ".run.ckpt-cccccccccccc").touch()
    fit(network(), tmp_path / "run.ckpt", epochs=1)
    assert set(os.listdir(tmp_path)) == kept | {"run.ckpt"}  # that of the living writer, too
    writer.kill()
    writer.wait()
    fit(network(), tmp_path / "run.ckpt", epochs=2)
    left = set(os.listdir(tmp_path)) - {"run.ckpt"}
    assert len(kept) == len(left) + 1
    assert left < kept


def test_a_writer_whose_file_was_taken_before_it_was_locked(tmp_path, monkeypatch):
    opened, original = [], os.open

    def taken_once(path, *args):
        handle = original(path, *args)
        opened.append(path)
        if len(opened) == 1:
            os.unlink(path)
        return handle

    monkeypatch.setattr(safe_writes.os, "open", taken_once)
    safe_writes.replace(Path(tmp_path / "m"), [b"new"])
    assert (tmp_path / "m").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["m"]
