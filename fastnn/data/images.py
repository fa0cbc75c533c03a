"""Folders of images, one subfolder for each class, through Pillow (extra ``images``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataFileError

#: Files that are images, by their names; others are left out.
_ENDINGS = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
#: Modes to convert to, and those of 8 bits a channel, from which Pillow converts without a loss.
_MODES = ("L", "RGB", "RGBA")
_CONVERTED = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
#: EXIF's number of the tag for the orientation; from 5 on it exchanges width and height.
_ORIENTATION = 0x0112
#: TIFF's numbers of the tags for the size of what is stored.
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101


class ImageData(NamedTuple):
    """What :func:`load_images` returns.

    Attributes
    ----------
    X : ndarray, shape (m, n)
        A row for each image: its values row by row, those of a pixel's channels side by side.
    y : ndarray of str, shape (m,)
        The name of the folder of each image, which is its class.
    shape : tuple of int
        (height, width) of images with one channel, else (height, width, channels):
        ``X.reshape(-1, *shape)`` are the images.
    files : list of str
        The path of each image within the folder.

    Examples
    --------
    >>> from fastnn.data import ImageData
    >>> ImageData._fields
    ('X', 'y', 'shape', 'files')
    """

    X: np.ndarray
    y: np.ndarray
    shape: tuple[int, ...]
    files: list[str]


def load_images(folder, size=None, mode=None) -> ImageData:
    """The images of a folder that has one subfolder for each class.

    They come class by class, in the order of their names, so that the order is the same on every
    machine. Folders within a class belong to it. Names that begin with a dot, and files without
    the ending of an image (PNG, JPEG, BMP, GIF, TIFF, WebP, PPM, PGM, PBM), are left out. A photo
    is turned as its EXIF orientation says; of an animation the first image is taken.

    Parameters
    ----------
    folder : str or path
    size : int or (height, width), optional
        Scales each image to this size, without regard to its proportions. By default all images
        must be of one size.
    mode : {"L", "RGB", "RGBA"}, optional
        Converts each image: to grey, to colours, or to colours and opacity. By default all must
        have the same Pillow mode.

    Returns
    -------
    ImageData
        ``X, y, shape, files``. X is uint8 for images of 8 bits a channel, else of the type of
        their values; but Pillow reads no more than 8 bits a channel of colours.

    Raises
    ------
    DataFileError
        If an image is damaged, cannot be converted, or differs from the others in size or mode.
    FileNotFoundError
        If there is no such folder, or it has no images in subfolders.
    ValueError, TypeError
        If `size` or `mode` is none.
    ImportError
        If Pillow is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastnn.data import load_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, grey in ("night", 0), ("day", 255):
    ...         path = pathlib.Path(folder) / name / "1.pgm"
    ...         path.parent.mkdir()
    ...         _ = path.write_bytes(b"P5 2 3 255 " + bytes([grey] * 6))
    ...     images = load_images(folder)
    >>> images.X, images.y.tolist(), images.shape
    (array([[255, 255, 255, 255, 255, 255],
           [  0,   0,   0,   0,   0,   0]], dtype=uint8), ['day', 'night'], (3, 2))
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise ImportError("load_images needs Pillow: pip install 'fastnn-cpu[images]'") from None
    folder = Path(folder)
    size, mode = _checked_size(size), _checked_mode(mode)
    paths, labels = _listed(folder)
    # The headers of all files come first: a folder that does not fit fails before it is decoded.
    _same_headers(paths, folder, size, mode)
    X, shape = np.empty((0, 0)), ()
    for i, path in enumerate(paths):
        image = _decoded(path, folder, size, mode)
        if not i:
            shape = image.shape
            X = np.empty((len(paths), image.size), image.dtype)
        elif image.shape != shape or image.dtype != X.dtype:
            raise _differs(paths[0], path, folder, shape, image.shape)
        X[i] = image.reshape(-1)
    return ImageData(X, np.array(labels), shape, [_name(path, folder) for path in paths])


def _checked_size(size) -> tuple[int, int] | None:
    """(height, width), or None."""
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int | np.integer) else size
    try:
        height, width = pair
    except (TypeError, ValueError):
        raise TypeError(f"size is {size!r}: give a whole number or (height, width)") from None
    for number in (height, width):
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise TypeError(f"size is {size!r}: give a whole number or (height, width)")
        if number < 1:
            raise ValueError(f"size is {size!r}: it must be at least 1")
    import PIL.Image

    most = PIL.Image.MAX_IMAGE_PIXELS
    if most is not None and int(height) * int(width) > most:
        raise ValueError(f"size is {size!r}: Pillow's limit is {most} pixels (MAX_IMAGE_PIXELS)")
    return int(height), int(width)


def _checked_mode(mode) -> str | None:
    if mode is not None and mode not in _MODES:
        raise ValueError(f"mode is {mode!r}: choose from {', '.join(map(repr, _MODES))}")
    return mode


def _listed(folder: Path) -> tuple[list[Path], list[str]]:
    """The images in order, and the class of each."""
    layout = "a folder with one subfolder of images for each class is expected"
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}: {layout}")
    paths: list[Path] = []
    labels: list[str] = []
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found = _images_below(entry)
            if not found:
                raise FileNotFoundError(f"{str(entry)!r} has no images: remove it or fill it")
            paths += found
            labels += [entry.name] * len(found)
        elif entry.suffix.lower() in _ENDINGS:
            raise DataFileError(
                f"{str(entry)!r} is an image without a class: move it into a subfolder; {layout}"
            )
    if not paths:
        raise FileNotFoundError(f"{str(folder)!r} has no subfolders: {layout}")
    return paths, labels


def _images_below(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if not name.startswith(".") and name.lower().endswith(_ENDINGS)
        ]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _same_headers(paths: list[Path], folder: Path, size, mode) -> None:
    """Fail if images differ in a size or a mode that is not to be converted."""
    if size is not None and mode is not None:
        return
    first = None
    for path in paths:
        with _opened(path) as image:
            kind = "I;16" if image.mode.startswith("I;16") else image.mode
            header = (_size_when_turned(image), kind)
        first = first or header
        if size is None and header[0] != first[0]:
            raise _differs(paths[0], path, folder, first[0], header[0])
        if mode is None and header[1] != first[1]:
            raise DataFileError(
                f"{_name(paths[0], folder)!r} has mode {first[1]} and {_name(path, folder)!r} has "
                f"mode {header[1]} in {str(folder)!r}: all must have one, or mode='RGB' or "
                "mode='L' converts them"
            )


def _size_when_turned(image) -> tuple[int, int]:
    """(height, width) of an image that is not decoded yet."""
    width, height = image.size
    if image.format == "TIFF":  # whose size some versions of Pillow have exchanged already
        width, height = image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]
    is_turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (width, height) if is_turned else (height, width)


def _differs(first: Path, other: Path, folder: Path, shape, another) -> DataFileError:
    sizes = ["x".join(map(str, numbers)) for numbers in (shape, another)]
    return DataFileError(
        f"{_name(first, folder)!r} has {sizes[0]} pixels (height, width) and "
        f"{_name(other, folder)!r} has {sizes[1]} in {str(folder)!r}: all must have one size, or "
        "size=(height, width) scales them"
    )


class _opened:
    """An image as a context; whatever Pillow raises in it names the file."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self):
        import PIL.Image

        # Pillow maps what it opens by a path to memory, and so reads turned TIFFs in wrong rows.
        self._file = open(self._path, "rb")
        try:
            self._image = PIL.Image.open(self._file)
        except Exception as error:
            self._file.close()
            raise self._named(error) from None
        return self._image

    def __exit__(self, kind, error, _trace):
        self._image.close()
        self._file.close()
        if isinstance(error, Exception) and not isinstance(error, DataFileError):
            raise self._named(error) from None

    def _named(self, error: Exception) -> Exception:
        import PIL

        # Decoders raise many kinds of errors; those of the system, as of permissions, have a name.
        if isinstance(error, MemoryError) or getattr(error, "filename", None) is not None:
            return error
        is_unknown = isinstance(error, PIL.UnidentifiedImageError)
        why = "" if is_unknown else f": {type(error).__name__}: {error}"
        return DataFileError(f"{str(self._path)!r} is damaged, or no image that Pillow reads{why}")


def _decoded(path: Path, folder: Path, size, mode) -> np.ndarray:
    """(height, width) or (height, width, channels) of the values of an image."""
    with _opened(path) as image:
        image.verify()  # compares the checksums of a PNG, which decoding leaves out
    with _opened(path) as image:
        import PIL.Image
        import PIL.ImageOps

        image.load()
        image = PIL.ImageOps.exif_transpose(image)
        if mode is None and image.mode in ("P", "PA"):
            raise DataFileError(
                f"{_name(path, folder)!r} in {str(folder)!r} has a palette, whose numbers are no "
                "brightness: mode='RGB' or mode='L' converts it"
            )
        if mode is not None and image.mode != mode:
            if image.mode not in _CONVERTED:
                raise DataFileError(
                    f"{_name(path, folder)!r} in {str(folder)!r} has mode {image.mode}, of more "
                    f"than 8 bits: it cannot be converted to {mode!r} without a loss; convert it "
                    "before, or give no mode"
                )
            image = image.convert(mode)
        if image.mode.startswith("I;16"):  # Pillow scales only one order of bytes rightly
            image = image.convert("I").convert("I;16")
        if size is not None:
            if image.mode == "1":
                image = image.convert("L")
            image = image.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
        values = np.asarray(image)
        return values.astype(np.uint8) if values.dtype == bool else values
