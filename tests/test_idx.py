"""Reading idx files, and the four files of MNIST."""

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from fastnn.data import load_idx, load_mnist
from fastnn.errors import DataFileError

TYPES = {
    "uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E,
}  # fmt: skip
REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


def idx(array) -> bytes:
    """The file of an array."""
    array = np.asarray(array)
    header = struct.pack(f">HBB{array.ndim}I", 0, TYPES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def written(folder, content: bytes, compressed: bool = False):
    path = folder / "some-idx"
    path.write_bytes(gzip.compress(content) if compressed else content)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_all_types(tmp_path, dtype, compressed):
    array = np.array([[1, 2, 3], [-4, 5, 6]]).astype(dtype)
    found = load_idx(written(tmp_path, idx(array), compressed))
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    assert found.flags.writeable
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (5,), (2, 3, 4, 5), (1,) * 32])
def test_all_ranks(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = load_idx(str(written(tmp_path, idx(array))))
    np.testing.assert_array_equal(found, array)
    assert found.shape == shape


GOOD = idx(np.arange(12, dtype=np.int16).reshape(3, 4))
HUGE = struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
BAD = {
    "empty": (b"", "begins with nothing"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(40), "begins with 89 50 4e 47"),
    "an unknown type": (b"\0\0\x0a\x01" + bytes(8), "08, 09, 0b, 0c, 0d, 0e"),
    "a short magic": (b"\0\0\x08", "not an idx file"),
    "no dimensions": (b"\0\0\x08\0" + bytes(1), "announces 0 dimensions: 1 to 32"),
    "too many dimensions": (b"\0\0\x08\xff" + bytes(1020), "announces 255 dimensions"),
    "a truncated header": (GOOD[:9], "ends within the sizes of its 2 dimensions"),
    "truncated": (GOOD[:-1], "is truncated.* 3x4 int16 values"),
    "trailing bytes": (GOOD + b"!", "has bytes behind its values.* 3x4 int16"),
    "sizes beyond the file": (struct.pack(">HBBI", 0, 8, 1, 2**32 - 1), r"4,294,967,303 bytes"),
    "sizes that overflow": (HUGE + bytes(100), "truncated.* 4294967295x4294967295x4294967295"),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_named(tmp_path, what, compressed):
    content, message = BAD[what]
    path = written(tmp_path, content, compressed)
    with pytest.raises(DataFileError, match=message) as found:
        load_idx(path)
    assert repr(str(path)) in str(found.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_no_values_with_sizes_that_no_array_has(tmp_path, compressed):
    sizes = (0,) + (2**32 - 1,) * 3
    path = written(tmp_path, struct.pack(">HBB4I", 0, 8, 4, *sizes), compressed)
    with pytest.raises(DataFileError, match="0x4294967295x"):
        load_idx(path)


def test_every_truncation_and_flipped_byte_of_a_compressed_file(tmp_path):
    """Each is an error that names the file, unless only what the gzip header tells differs."""
    whole = gzip.compress(GOOD, mtime=0)
    expected = np.arange(12, dtype=np.int16).reshape(3, 4)
    path = tmp_path / "some-idx"
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        with pytest.raises(DataFileError, match="some-idx"):
            load_idx(path)
    for i in range(len(whole)):
        damaged = bytearray(whole)
        damaged[i] ^= 0x5A
        path.write_bytes(damaged)
        if 4 <= i < 10:  # time, compression and system
            np.testing.assert_array_equal(load_idx(path), expected)
        else:
            with pytest.raises(DataFileError, match="some-idx"):
                load_idx(path)


def test_bytes_behind_a_compressed_file(tmp_path):
    path = tmp_path / "some-idx"
    path.write_bytes(gzip.compress(GOOD) + b"garbage")
    with pytest.raises(DataFileError, match="some-idx"):
        load_idx(path)
    path.write_bytes(gzip.compress(GOOD) + gzip.compress(b"more"))
    with pytest.raises(DataFileError, match="bytes behind its values"):
        load_idx(path)


def test_announced_sizes_allocate_nothing(tmp_path, monkeypatch):
    """Of a header without values nothing is read on, and of a bomb no more than was announced."""
    asked = []
    monkeypatch.setattr("fastnn.data.idx._at_most", lambda file, n: asked.append(n) or bytearray())
    for compressed in (False, True):
        path = written(tmp_path, struct.pack(">HBB2I", 0, 14, 2, 10**5, 10**5), compressed)
        with pytest.raises(DataFileError, match="80,000,000,012 bytes"):
            load_idx(path)
    assert asked == []
    monkeypatch.undo()
    compressor = zlib.compressobj(wbits=31)
    bomb = compressor.compress(struct.pack(">HBBI", 0, 8, 1, 4) + bytes(50_000_000))
    path.write_bytes(bomb + compressor.flush())
    read = []
    plain = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile, "read", lambda self, n: read.append(n) or plain(self, n), raising=True
    )
    with pytest.raises(DataFileError, match="more come"):
        load_idx(path)
    assert sum(read) < 20


def test_the_most_that_gzip_can_hold_is_not_refused(tmp_path):
    """Zeros compress by nearly as much as any content may."""
    array = np.zeros(5_000_000, np.uint8)
    content = gzip.compress(idx(array), 9)
    assert len(array) / len(content) > 950
    path = tmp_path / "zeros"
    path.write_bytes(content)
    assert load_idx(path).shape == array.shape


def test_what_the_system_refuses(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        load_idx(tmp_path / "nothing-here")
    with pytest.raises(IsADirectoryError):
        load_idx(tmp_path)
    with pytest.raises(TypeError):
        load_idx(None)


def mnist(folder, rows=(6, 4), pixels=(4, 5), ending="", dot=False, labels=None):
    """Write the four files; returns the arrays."""
    rng = np.random.default_rng(0)
    made = []
    for part, n in zip(("train", "t10k"), rows, strict=True):
        images = rng.integers(0, 256, (n, *pixels)).astype(np.uint8)
        targets = rng.integers(0, 10, n if labels is None else labels).astype(np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images),
                            (f"{part}-labels-idx1-ubyte", targets)):  # fmt: skip
            content = idx(array)
            path = folder / ((name.replace("-idx", ".idx") if dot else name) + ending)
            path.write_bytes(gzip.compress(content) if ending else content)
        made.append((images, targets))
    return made


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dot", [False, True])
def test_four_files(tmp_path, ending, dot):
    made = mnist(tmp_path, ending=ending, dot=dot)
    for (X, y), (images, labels) in zip(load_mnist(str(tmp_path)), made, strict=True):
        assert (X.dtype, y.dtype) == (np.uint8, np.int64)
        np.testing.assert_array_equal(X, images.reshape(len(images), 20))
        np.testing.assert_array_equal(y, labels)


def test_files_that_lack_or_do_not_belong_together(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        load_mnist(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"lacks train-images-idx3-ubyte.gz, train-labels"):
        load_mnist(tmp_path)
    mnist(tmp_path, labels=3)
    with pytest.raises(DataFileError, match="6 images and 3 labels of 'train'"):
        load_mnist(tmp_path)
    mnist(tmp_path, rows=(0, 4))
    with pytest.raises(DataFileError, match="0 images and 0 labels"):
        load_mnist(tmp_path)
    mnist(tmp_path, pixels=(0, 5))
    with pytest.raises(DataFileError, match="images of 0x5 pixels"):
        load_mnist(tmp_path)
    mnist(tmp_path)
    other = np.zeros((4, 3, 3), np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(other))
    with pytest.raises(DataFileError, match="4x5 pixels for training and of 3x3 for the test"):
        load_mnist(tmp_path)
    for wrong in (other[0], other.astype(np.float32)):
        (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(wrong))
        with pytest.raises(DataFileError, match=r"t10k-images.*images are uint8 of 3 dimensions"):
            load_mnist(tmp_path)
    mnist(tmp_path)
    os.remove(tmp_path / "t10k-labels-idx1-ubyte")
    with pytest.raises(FileNotFoundError, match=r"lacks t10k-labels-idx1-ubyte.gz"):
        load_mnist(tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_ones(name):
    if not (REAL / name).is_dir():
        pytest.skip("the folder of real data is absent")
    (X, y), (X_test, y_test) = load_mnist(REAL / name)
    assert X.shape == (60000, 784)
    assert X_test.shape == (10000, 784)
    assert (X.min(), X.max()) == (0, 255)
    for labels, count in ((y, 60000), (y_test, 10000)):
        assert len(labels) == count
        assert sorted(set(labels.tolist())) == list(range(10))
    if name == "mnist":
        assert y[:5].tolist() == [5, 0, 4, 1, 9]
