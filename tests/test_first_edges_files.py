"""Saving: the mode and the links of a file, long names, folders that are missing, devices."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

import fastnn
from fastnn import Dense, Sequential, safe_writes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="of POSIX file systems")


@pytest.fixture
def net():
    return Sequential([Dense(2)], n_inputs=3, seed=0)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("kept", [0o600, 0o640, 0o664, 0o444, 0o755])
def test_saving_keeps_the_mode(tmp_path, net, kept):
    path = tmp_path / "m"
    net.save(path)
    path.chmod(kept)
    before = path.stat()
    net.save(path)
    assert mode(path) == kept
    assert (path.stat().st_uid, path.stat().st_gid) == (before.st_uid, before.st_gid)
    assert path.stat().st_ino != before.st_ino  # it was replaced as a whole


def test_nobody_else_reads_the_new_file_of_a_private_one(tmp_path):
    path, seen = tmp_path / "m", []
    path.write_bytes(b"old")
    path.chmod(0o600)

    def parts():
        (temporary,) = tmp_path.glob(".m-*")
        seen.append(mode(temporary))
        yield b"new"

    safe_writes.replace(path, parts())
    assert seen == [0o600]
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_saving_keeps_the_owner(tmp_path, net):
    path = tmp_path / "m"
    net.save(path)
    os.chown(path, 12345, 23456)
    path.chmod(0o660)
    net.save(path)
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (12345, 23456, 0o660)


def test_a_file_system_without_owners_and_modes(tmp_path, net, monkeypatch):
    path = tmp_path / "m"
    path.write_bytes(b"old")

    def refuse(*_args):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(safe_writes.os, "fchmod", refuse)
    monkeypatch.setattr(safe_writes.os, "fchown", refuse)
    net.save(path)
    assert fastnn.load(path).n_inputs == 3


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_one(tmp_path, net, exists):
    (tmp_path / "models").mkdir()
    target, link, outer = tmp_path / "models" / "m", tmp_path / "link", tmp_path / "outer"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to("models/m")
    outer.symlink_to("link")
    net.save(outer)
    assert outer.is_symlink()
    assert link.is_symlink()
    assert not target.is_symlink()
    assert fastnn.load(outer).n_inputs == fastnn.load(target).n_inputs == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "models", "outer"]
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["m"]


def test_links_that_lead_nowhere(tmp_path, net):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        net.save(tmp_path / "a")
    (tmp_path / "c").symlink_to("none/m")
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*none'"):
        net.save(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_what_a_killed_writer_left_is_removed_behind_a_link(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to("models/m")
    (tmp_path / "models" / ".m-0123456789ab").write_bytes(b"half")
    safe_writes.clean(tmp_path / "link")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 250, "x" * 255, "\u20ac" * 85], ids=["250", "255", "euros"])
def test_long_names(tmp_path, net, name):
    path = tmp_path / name
    for _ in range(2):
        net.save(path)
    assert fastnn.load(path).n_inputs == 3
    left = tmp_path / f"{safe_writes._prefix(path)}0123456789ab"
    left.write_bytes(b"half")
    safe_writes.clean(path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long(tmp_path, net):
    with pytest.raises(OSError, match="too long") as error:
        net.save(tmp_path / ("x" * 256))
    assert error.value.errno == errno.ENAMETOOLONG
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["none/m", "none/there/m", "sub/none/m"])
def test_the_folder_that_is_missing_is_named(tmp_path, net, path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        net.save(path)
    assert f"there is no folder {str(Path(path).parent)!r}, create it first" in str(error.value)
    assert (error.value.filename, error.value.errno) == (path, errno.ENOENT)


def test_a_file_where_a_folder_belongs_and_a_folder_where_a_file_belongs(
    tmp_path, net, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(NotADirectoryError, match="'file' is a file, not a folder: 'file/deep/m'"):
        net.save("file/deep/m")
    for path in ("sub", "sub/", "", "."):
        with pytest.raises(IsADirectoryError, match="this is a folder: give the name of a file"):
            net.save(path)
    assert (tmp_path / "file").read_bytes() == b"kept"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "sub"]


def test_a_device_is_written_to_and_stays_one(tmp_path):
    """As root, a rename onto /dev/full would replace it by a regular file: here it is a pipe."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        safe_writes.replace(path, [b"some ", b"bytes"])
        assert os.read(reader, 100) == b"some bytes"
    finally:
        os.close(reader)
    safe_writes.check(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert [file.name for file in tmp_path.iterdir()] == ["pipe"]


def full_device(folder):
    """A device like /dev/full in this folder, which a faulty `save` may replace."""
    path = folder / "full"
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        with open(path, "wb", buffering=0) as file:
            file.write(b"x")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return path
    pytest.skip("needs Linux and the right to make devices")


def test_a_full_disk_is_named_with_the_file(tmp_path, net):
    path = full_device(tmp_path)
    with pytest.raises(OSError, match=r"No space left on device: '.*full'"):
        net.save(path)
    assert stat.S_ISCHR(path.stat().st_mode)


def test_a_full_disk_leaves_the_old_file(tmp_path, net, monkeypatch):
    path = tmp_path / "m"
    net.save(path)
    kept = path.read_bytes()

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safe_writes.os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*m'"):
        net.save(path)
    assert path.read_bytes() == kept
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_a_check_changes_nothing(tmp_path):
    path = tmp_path / "m"
    safe_writes.check(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"kept")
    before = path.stat()
    safe_writes.check(path)
    assert path.read_bytes() == b"kept"
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(IsADirectoryError):
        safe_writes.check(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        safe_writes.check(tmp_path / "none" / "m")


def test_checkpoints_and_logs_keep_links_and_modes_too(tmp_path):
    (tmp_path / "kept").mkdir()
    for name in ("checkpoint", "log"):
        (tmp_path / "kept" / name).touch()
        (tmp_path / name).symlink_to(Path("kept") / name)
    (tmp_path / "kept" / "log").chmod(0o600)
    (tmp_path / "kept" / "checkpoint").unlink()
    Sequential([Dense(1)], seed=0).fit(
        [[0.0], [1.0]], [0.5, 2.5], epochs=2, progress=False, checkpoint=tmp_path / "checkpoint",
        callbacks=fastnn.CSVLogger(tmp_path / "log"),
    )  # fmt: skip
    assert (tmp_path / "checkpoint").is_symlink()
    assert (tmp_path / "log").is_symlink()
    assert mode(tmp_path / "kept" / "log") == 0o600
    assert len((tmp_path / "kept" / "log").read_text().splitlines()) == 3


@pytest.mark.parametrize("kind", ["model", "log", "checkpoint"])
@pytest.mark.parametrize("name", ["sub", "x" * 300, "none/m", "file/m"])
def test_a_fit_refuses_files_that_cannot_be_written_before_it_begins(tmp_path, kind, name):
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    path, epochs = tmp_path / name, []

    class Count(fastnn.Callback):
        def on_epoch_end(self, training):
            epochs.append(training.epoch)

    arguments = {
        "model": lambda: {"callbacks": [Count(), fastnn.BestModel(path)]},
        "log": lambda: {"callbacks": [Count(), fastnn.CSVLogger(path)]},
        "checkpoint": lambda: {"callbacks": [Count()], "checkpoint": path},
    }[kind]()
    net = Sequential([Dense(1)], seed=0)
    with pytest.raises(OSError, match=r"folder|directory|too long"):
        net.fit([[0.0], [1.0]], [0.5, 2.5], epochs=1, progress=False, **arguments)
    assert epochs == []
