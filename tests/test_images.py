"""Reading folders of images."""

import struct
import subprocess
import sys

import numpy as np
import pytest

from fastnn.data import load_images
from fastnn.errors import DataFileError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def save(folder, name, values=None, mode=None, **options):
    """Write an image; by default 4x6 grey noise that its name decides."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if values is None:
        values = np.random.default_rng(sum(name.encode())).integers(0, 256, (4, 6), dtype=np.uint8)
    image = Image.fromarray(np.asarray(values))
    (image.convert(mode) if mode else image).save(path, **options)
    return np.asarray(values)


def test_order_labels_and_values(tmp_path):
    names = ["b/2.png", "b/10.PNG", "a/z.png", "a/more/c.png", "c c/1.bmp"]
    made = {name: save(tmp_path, name) for name in names}
    (tmp_path / "notes.txt").write_text("left out")
    (tmp_path / "a" / "notes.txt").write_text("left out")
    (tmp_path / "a" / ".hidden.png").write_text("left out")
    (tmp_path / ".cache").mkdir()
    X, y, shape, files = load_images(str(tmp_path))
    assert files == ["a/more/c.png", "a/z.png", "b/10.PNG", "b/2.png", "c c/1.bmp"]
    assert y.tolist() == ["a", "a", "b", "b", "c c"]
    assert shape == (4, 6)
    assert X.dtype == np.uint8
    for row, name in zip(X, files, strict=True):
        np.testing.assert_array_equal(row.reshape(shape), made[name])


@pytest.mark.parametrize(
    ("channels", "dtype"), [(None, "uint8"), (3, "uint8"), (4, "uint8"), (None, "uint16")]
)
def test_channels_and_types(tmp_path, channels, dtype):
    shape = (3, 5) if channels is None else (3, 5, channels)
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    save(tmp_path, "a/1.png", values)
    found = load_images(tmp_path)
    assert found.shape == shape
    assert found.X.dtype == dtype
    np.testing.assert_array_equal(found.X.reshape(shape), values)


def test_black_and_white_is_zero_and_one(tmp_path):
    save(tmp_path, "a/1.png", [[True, False], [False, True]])
    X = load_images(tmp_path).X
    assert X.dtype == np.uint8
    assert X.tolist() == [[1, 0, 0, 1]]
    assert load_images(tmp_path, mode="L").X.tolist() == [[255, 0, 0, 255]]
    assert load_images(tmp_path, size=(4, 4)).X.max() == 255


def test_scaled_black_and_white_has_one_range(tmp_path):
    for name, n in ("a/1.png", 2), ("b/1.png", 4):
        save(tmp_path, name, np.eye(n, dtype=bool))
    assert load_images(tmp_path, size=2).X.max(axis=1).min() > 1


def save_big_endian(path, values):
    """Write a TIFF of 16 bits a pixel, whose highest bytes come first."""
    height, width = values.shape
    tags = [
        (256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1),
        (278, height), (279, 2 * values.size),
    ]  # fmt: skip
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    path.parent.mkdir(parents=True)
    path.write_bytes(
        b"MM\0*" + struct.pack(">I", 8 + 2 * values.size) + values.astype(">u2").tobytes()
        + struct.pack(">H", len(tags)) + entries + bytes(4)
    )  # fmt: skip


@pytest.mark.parametrize("size", [None, 2])
def test_the_order_of_bytes_in_a_file_does_not_matter(tmp_path, size):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    save(tmp_path / "little", "a/1.png", values)
    save_big_endian(tmp_path / "big" / "a" / "1.tif", values)
    save_big_endian(tmp_path / "both" / "a" / "1.tif", values)
    save(tmp_path / "both", "b/1.png", values)
    expected = load_images(tmp_path / "little", size).X
    for folder in "big", "both":
        found = load_images(tmp_path / folder, size).X
        assert found.dtype == np.uint16
        assert (found == expected).all()


def test_sizes_that_differ_name_two_files(tmp_path):
    save(tmp_path, "a/1.png")
    save(tmp_path, "b/2.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(DataFileError, match=r"'a/1.png' has 4x6 .*'b/2.png' has 5x6 .*size="):
        load_images(tmp_path)
    found = load_images(tmp_path, size=(8, 3))
    assert found.shape == (8, 3)
    assert found.X.shape == (2, 24)
    assert load_images(tmp_path, size=7).shape == (7, 7)


def test_modes_that_differ_name_two_files(tmp_path):
    save(tmp_path, "a/1.png", np.full((2, 2), 100, np.uint8))
    save(tmp_path, "b/2.png", np.full((2, 2, 3), 200, np.uint8))
    with pytest.raises(DataFileError, match=r"'a/1.png' has mode L and 'b/2.png' has mode RGB"):
        load_images(tmp_path)
    assert load_images(tmp_path, mode="L").X.tolist() == [[100] * 4, [200] * 4]
    found = load_images(tmp_path, mode="RGB")
    assert found.shape == (2, 2, 3)
    assert found.X[0].tolist() == [100] * 12


def test_a_palette_is_no_brightness(tmp_path):
    save(tmp_path, "a/1.png", np.full((2, 2, 3), 200, np.uint8), mode="P")
    with pytest.raises(DataFileError, match=r"'a/1.png' .*palette.*mode='RGB'"):
        load_images(tmp_path)
    assert load_images(tmp_path, mode="RGB").shape == (2, 2, 3)


def test_more_than_eight_bits_are_not_thrown_away(tmp_path):
    save(tmp_path, "a/1.png", np.full((2, 2), 40000, np.uint16))
    with pytest.raises(DataFileError, match=r"'a/1.png' .*more than 8 bits"):
        load_images(tmp_path, mode="L")


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_photos_are_turned(tmp_path, ending):
    values = np.zeros((16, 32), np.uint8)
    values[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the left side comes to the top
    save(tmp_path, f"a/1.{ending}", values, exif=exif)
    save(tmp_path, "a/2.jpg", values.T)
    found = load_images(tmp_path)
    assert found.shape == (32, 16)
    for row in found.X:
        image = row.reshape(32, 16)
        assert image[:15].min() > 200
        assert image[17:].max() < 50


@pytest.mark.parametrize("size", [None, (4, 6)])
@pytest.mark.parametrize("mode", [None, "L"])
def test_damaged_images_are_named(tmp_path, size, mode):
    save(tmp_path, "a/1.png")
    path = tmp_path / "b" / "2.png"
    save(tmp_path, "b/2.png")
    whole = path.read_bytes()
    for content in (b"", b"no image", whole[:20], whole[: len(whole) // 2], whole[:-14]):
        path.write_bytes(content)
        with pytest.raises(DataFileError) as found:
            load_images(tmp_path, size=size, mode=mode)
        assert repr(str(path)) in str(found.value)


def test_every_damaged_byte_is_found(tmp_path):
    """By the checksums of the format; whatever the decoder raises, the error names the file."""
    save(tmp_path, "a/1.png")
    path = tmp_path / "a" / "1.png"
    whole = path.read_bytes()
    for i in range(len(whole) - 12):  # the last 12 are the mark of its end
        damaged = bytearray(whole)
        damaged[i] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(DataFileError, match=r"1.png"):
            load_images(tmp_path)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*subfolder"):
        load_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no subfolders"):
        load_images(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty' has no images"):
        load_images(tmp_path)
    save(tmp_path, "empty/1.png")
    save(tmp_path, "stray.png")
    with pytest.raises(DataFileError, match=r"stray.png' is an image without a class"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"size": "32"}, TypeError, "size is '32'"),
        ({"size": (32,)}, TypeError, "whole number or"),
        ({"size": (32, 32, 3)}, TypeError, "whole number or"),
        ({"size": (3.5, 2)}, TypeError, "whole number or"),
        ({"size": True}, TypeError, "whole number or"),
        ({"size": 0}, ValueError, "at least 1"),
        ({"size": 10**6}, ValueError, "Pillow's limit is [0-9]+ pixels"),
        ({"mode": "grey"}, ValueError, "'L', 'RGB', 'RGBA'"),
    ],
)
def test_arguments(tmp_path, arguments, kind, message):
    save(tmp_path, "a/1.png")
    with pytest.raises(kind, match=message):
        load_images(tmp_path, **arguments)


def test_without_pillow_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from fastnn.data import load_images\n"
        "try: load_images('.')\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "load_images needs Pillow: pip install 'fastnn-cpu[images]'"
