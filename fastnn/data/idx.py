"""Files in the idx format, and folders of the four that MNIST and Fashion-MNIST consist of."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DataFileError

#: Type code of the third byte: the type of the values, which are big-endian.
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
#: Dimensions that an array of any NumPy may have.
_MOST_DIMENSIONS = 32
#: Bytes of content to a byte of a gzip file, at most: deflate codes 258 bytes in two bits.
_MOST_EXPANSION = 1032
#: Bytes that are read at once.
_PIECE = 1 << 20

#: The four files, as they are distributed; some unpackers put a dot in place of the last dash.
_PARTS = ("train", "t10k")
_KINDS = {"images": 3, "labels": 1}


def load_idx(path) -> np.ndarray:
    """The array of an idx file, plain or compressed with gzip.

    The format is that of the MNIST database (http://yann.lecun.com/exdb/mnist/): two zero bytes,
    a type, the number of dimensions, their sizes as big-endian 32-bit numbers, and the values. The
    header is compared with the size of the file before anything is allocated.

    Parameters
    ----------
    path : str or path
        Its content says whether it is compressed, not its name.

    Returns
    -------
    ndarray
        Of uint8, int8, int16, int32, float32 or float64, in the byte order of this machine.

    Raises
    ------
    DataFileError
        If the file is no idx file, is truncated or damaged, or has bytes behind its values.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastnn.data import load_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "numbers-idx2-ubyte"
    ...     header = b"\\0\\0" + bytes([8, 2]) + bytes([0, 0, 0, 2, 0, 0, 0, 3])
    ...     _ = path.write_bytes(header + bytes([1, 2, 3, 4, 5, 6]))
    ...     load_idx(path)
    array([[1, 2, 3],
           [4, 5, 6]], dtype=uint8)
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            return _read(file, path, n_bytes, exact=True)
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) as content:
                return _read(content, path, n_bytes * _MOST_EXPANSION, exact=False)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataFileError(
                f"{path!r} is truncated or damaged: its gzip data cannot be read ({error}); get "
                "the file again"
            ) from None


def _read(file, path, most: int, exact: bool) -> np.ndarray:
    """The array of an open file, which has at most so many bytes, or exactly so many."""
    dtype, shape = _header(file, path)
    expected = math.prod(shape) * dtype.itemsize
    header = 4 + 4 * len(shape)
    what = f"an array of {'x'.join(map(str, shape))} {dtype.name} values"
    if header + expected > most or (exact and header + expected < most):
        known = "has" if exact else "can hold at most"
        wrong = "is truncated" if header + expected > most else "has bytes behind its values"
        raise DataFileError(
            f"{path!r} {wrong}: its header announces {what}, for which it needs "
            f"{header + expected:,} bytes, but it {known} {most:,}"
        )
    # One more byte is asked for: a compressed file is then read to its end, with its checksum.
    values = _at_most(file, expected + 1)
    if len(values) != expected:
        wrong = "is truncated" if len(values) < expected else "has bytes behind its values"
        came = f"{len(values):,} come" if len(values) < expected else "more come"
        raise DataFileError(
            f"{path!r} {wrong}: its header announces {what}, {expected:,} bytes, but {came}"
        )
    try:
        array = np.frombuffer(values, dtype).reshape(shape)
    except ValueError as error:  # no values, and sizes whose product no array may have
        raise DataFileError(f"{path!r} announces {what}: {error}") from None
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(file: BinaryIO, path) -> tuple[np.dtype, tuple[int, ...]]:
    """The type and the shape that the first bytes announce."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise DataFileError(
            f"{path!r} is not an idx file: it begins with {magic.hex(' ') or 'nothing'}, but two "
            f"zero bytes, a type ({', '.join(f'{code:02x}' for code in _TYPES)}) and the number "
            "of dimensions are expected"
        )
    n_dimensions = magic[3]
    if not 1 <= n_dimensions <= _MOST_DIMENSIONS:
        raise DataFileError(
            f"{path!r} announces {n_dimensions} dimensions: 1 to {_MOST_DIMENSIONS} are expected"
        )
    sizes = file.read(4 * n_dimensions)
    if len(sizes) < 4 * n_dimensions:
        raise DataFileError(
            f"{path!r} is truncated: it ends within the sizes of its {n_dimensions} dimensions"
        )
    return np.dtype(_TYPES[magic[2]]), struct.unpack(f">{n_dimensions}I", sizes)


def _at_most(file, count: int) -> bytearray:
    """The next bytes, at most so many; memory grows with what comes."""
    values = bytearray()
    while len(values) < count:
        piece = file.read(min(_PIECE, count - len(values)))
        if not piece:
            break
        values += piece
    return values


def load_mnist(folder):
    """MNIST, Fashion-MNIST or another data set in MNIST's four files.

    Parameters
    ----------
    folder : str or path
        Contains ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same with
        ``t10k``, each plain or with ``.gz``; of both the plain one is read. A dot in place of the
        last dash but one, as in ``train-images.idx3-ubyte``, is accepted.

    Returns
    -------
    (X, y), (X_test, y_test) : pairs of ndarray
        Images as rows of pixels from 0 to 255, uint8, of shape (60000, 784) and (10000, 784) for
        both data sets, and their labels, int64.

    Raises
    ------
    FileNotFoundError
        If a file is missing; the message names all that are.
    DataFileError
        If a file is damaged, or the files do not belong together.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> import pathlib, struct, tempfile
    >>> from fastnn.data import load_mnist
    >>> def idx(*shape):
    ...     return b"\\0\\0" + struct.pack(f">BB{len(shape)}I", 8, len(shape), *shape)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for part, rows in ("train", 3), ("t10k", 2):
    ...         images = pathlib.Path(folder) / f"{part}-images-idx3-ubyte"
    ...         _ = images.write_bytes(idx(rows, 4, 4) + bytes(16 * rows))
    ...         labels = pathlib.Path(folder) / f"{part}-labels-idx1-ubyte"
    ...         _ = labels.write_bytes(idx(rows) + bytes(rows))
    ...     (X, y), (X_test, y_test) = load_mnist(folder)
    >>> X.shape, y.shape, X_test.shape
    ((3, 16), (3,), (2, 16))
    """
    (X, y), (X_test, y_test) = mnist_images(Path(folder))
    return (X.reshape(len(X), -1), y), (X_test.reshape(len(X_test), -1), y_test)


def mnist_images(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """What :func:`load_mnist` reads, but images (n, height, width)."""
    paths = _four_files(folder)
    arrays = {}
    for (part, kind), path in paths.items():
        array = load_idx(path)
        if array.ndim != _KINDS[kind] or array.dtype != np.uint8:
            raise DataFileError(
                f"{str(path)!r} holds {array.dtype} values of shape {array.shape}: {kind} are "
                f"uint8 of {_KINDS[kind]} dimension{'s' * (_KINDS[kind] > 1)}"
            )
        arrays[part, kind] = array
    found = []
    for part in _PARTS:
        images, labels = arrays[part, "images"], arrays[part, "labels"]
        if len(images) != len(labels) or not len(images):
            raise DataFileError(
                f"{str(folder)!r} has {len(images)} images and {len(labels)} labels of {part!r}: "
                "one label for each image is expected"
            )
        found.append((images, labels.astype(np.int64)))
    sizes = [arrays[part, "images"].shape[1:] for part in _PARTS]
    if sizes[0] != sizes[1]:
        raise DataFileError(
            f"{str(folder)!r} has images of {sizes[0][0]}x{sizes[0][1]} pixels for training and of "
            f"{sizes[1][0]}x{sizes[1][1]} for the test: they do not belong together"
        )
    if 0 in sizes[0]:
        raise DataFileError(
            f"{str(folder)!r} has images of {sizes[0][0]}x{sizes[0][1]} pixels: they are empty"
        )
    return found


def _four_files(folder: Path) -> dict[tuple[str, str], Path]:
    """The paths of the four files by part and kind."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {str(folder)!r}: give the one with the four idx files of MNIST"
        )
    paths, missing = {}, []
    for part in _PARTS:
        for kind, n_dimensions in _KINDS.items():
            name = f"{part}-{kind}-idx{n_dimensions}-ubyte"
            stems = name, f"{part}-{kind}.idx{n_dimensions}-ubyte"
            wanted = [folder / (stem + ending) for ending in ("", ".gz") for stem in stems]
            path = next((path for path in wanted if path.is_file()), None)
            if path is None:
                missing.append(f"{name}.gz")
            else:
                paths[part, kind] = path
    if missing:
        raise FileNotFoundError(
            f"{str(folder)!r} lacks {', '.join(missing)} (also without .gz): give the folder with "
            "the four idx files of MNIST"
        )
    return paths
