"""Ready-made augmentations, and the kernels of all engines that they call."""

import inspect

import numpy as np
import pytest
from augmentation_cases import X as ROWS
from augmentation_cases import assert_same, fitted, network, y
from conftest import COMPILED, DTYPES, ENGINES
from scipy import ndimage

import fastnn
from fastnn import augmentation, engines
from fastnn.augmentation import (
    Crop,
    Cutout,
    Elastic,
    Flip,
    Images,
    Mixup,
    Noise,
    Rotate,
    Scale,
    Shift,
)
from fastnn.engines import images as images_module
from fastnn.engines import native

SHAPES = [(28, 28, 1), (9, 70, 3), (5, 2, 2), (1, 1, 1), (130, 3, 1)]


def rng(seed=0):
    return np.random.default_rng(seed)


def pictures(n, shape, dtype="float32", seed=0):
    return rng(seed).random((n, int(np.prod(shape)))).astype(dtype)


def some_maps(n, dtype):
    maps = np.tile([1.0, 0, 0, 0, 1, 0], (n, 1)) + rng(1).normal(size=(n, 6)) * ([0.2, 0.2, 2] * 2)
    maps[0] = 1, 0, 0, 0, 1, 0
    maps[1, [2, 5]] = 1e9, -1e9
    return maps.astype(dtype)


def some_boxes(n, shape):
    boxes = np.empty((n, 4), np.int64)
    for axis in (0, 1):
        boxes[:, 2 * axis : 2 * axis + 2] = np.sort(rng(axis).integers(0, shape[axis] + 1, (n, 2)))
    return boxes


def all_of(engine, shape, dtype, fill, displaced):
    """What the functions of an engine give."""
    n = 7
    fields = rng(2).normal(size=(n, 2, *shape[:2])).astype(dtype) * 3 if displaced else None
    with fastnn.use_engine(engine):
        functions = engines.current()
        warped, cut = pictures(n, shape, dtype), pictures(n, shape, dtype)
        functions.warp(warped, some_maps(n, dtype), fields, shape, fill)
        functions.cut(cut, some_boxes(n, shape), shape, 0.25)
        smoothed = rng(3).normal(size=(n, *shape[:2])).astype(dtype)
        functions.smooth(smoothed, rng(4).random(9).astype(dtype))
    return warped, cut, smoothed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", [0.0, 0.5, None])
@pytest.mark.parametrize("displaced", [False, True])
def test_compiled_engines_have_the_same_bits_and_agree_with_numpy(dtype, shape, fill, displaced):
    found = {engine: all_of(engine, shape, dtype, fill, displaced) for engine in ENGINES}
    tolerance = {"float32": 3e-5, "float64": 1e-12}[dtype]
    for arrays in zip(*found.values(), strict=True):
        for array in arrays[:-1]:
            assert np.array_equal(array.view(np.uint8), arrays[0].view(np.uint8))
            np.testing.assert_allclose(array, arrays[-1], atol=tolerance)


@pytest.mark.skipif("c" not in COMPILED, reason="no C engine")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_level_of_the_c_module_has_the_same_bits(dtype, monkeypatch):
    engine = engines._c_engine()
    found = []
    for level in native._module.levels():
        addresses = native._module.addresses(level, dtype)
        monkeypatch.setattr(engine, "address", lambda name, dtype, at=addresses: at[name])
        for shape in SHAPES:
            found.append(all_of("c", shape, dtype, 0.0, True))
    each = len(SHAPES)
    for at, arrays in enumerate(found):
        for array, first in zip(arrays, found[at % each], strict=True):
            assert np.array_equal(array.view(np.uint8), first.view(np.uint8))


def test_kernels_write_nothing_beyond_their_arrays(compiled, monkeypatch):
    """All arrays that a kernel gets lie between canaries."""
    canary, n = 0x5A, 64
    call = images_module.ImageFunctions._call

    def guarded(self, name, kind, dtype, *arrays):
        kept = []
        copies = []
        for array in arrays:
            if array is None:
                copies.append(None)
                continue
            raw = np.full(array.nbytes + 2 * n, canary, np.uint8)
            copy = raw[n : n + array.nbytes].view(array.dtype).reshape(array.shape)
            copy[...] = array
            copies.append(copy)
            kept.append((raw, array, copy))
        call(self, name, kind, dtype, *copies)
        for raw, array, copy in kept:
            assert (raw[:n] == canary).all()
            assert (raw[-n:] == canary).all()
            array[...] = copy

    monkeypatch.setattr(images_module.ImageFunctions, "_call", guarded)
    for shape in SHAPES:
        for fill in (0.0, None):
            all_of(compiled, shape, "float32", fill, True)


def test_arrays_that_do_not_fit_are_refused(compiled):
    functions = engines.current()
    x, maps = pictures(3, (4, 4)), np.zeros((3, 6), np.float32)
    for images, wrong in [(x, maps[:2]), (x, maps.astype(float)), (x[:, :15], maps), (x.T, maps)]:
        with pytest.raises(ValueError, match="contiguous"):
            functions.warp(images, wrong, None, (4, 4, 1), 0.0)
    boxes = np.array([[0, 5, 0, 1]] * 3)
    with pytest.raises(ValueError, match="box"):
        functions.cut(x, boxes, (4, 4, 1), 0.0)
    read_only = x.copy()
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="contiguous"):
        functions.cut(read_only, boxes * 0, (4, 4, 1), 0.0)


def test_engines_have_the_same_functions():
    from fastnn.engines import protocol, reference

    for name in ("warp", "smooth", "cut"):
        wanted = list(inspect.signature(getattr(protocol.Engine, name)).parameters)
        compiled = getattr(images_module.ImageFunctions, name)
        assert list(inspect.signature(compiled).parameters) == wanted
        assert list(inspect.signature(getattr(reference, name)).parameters) == wanted[1:]


# -- what each does -----------------------------------------------------------------------------


#: The largest uniform number.
MOST = 1 - 2.0**-53


class Fixed:
    """A generator whose uniform numbers are all the same."""

    def __init__(self, value):
        self.value = value

    def random(self, size, dtype=float):
        return np.full(size, self.value, dtype)


def test_shift_moves_by_pixels(engine):
    x = pictures(2, (4, 5))
    moved = Shift((4, 5), 1)(x, Fixed(MOST)).reshape(2, 4, 5)
    expected = np.zeros_like(moved)
    expected[:, 1:, 1:] = x.reshape(2, 4, 5)[:, :-1, :-1]
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    half = Shift((1, 2), 1)(np.array([[0.0, 1.0]]), Fixed(0.75))
    np.testing.assert_allclose(half, [[0.0, 0.25]])  # half a pixel down, too


@pytest.mark.parametrize("fill", [0.0, 0.5, "edge"])
def test_crop_takes_a_part_of_the_padded_image(engine, fill):
    x, cropped = pictures(60, (6, 7, 2)), None
    cropped = Crop((6, 7, 2), 2, fill)(x, rng())
    border = ((2, 2), (2, 2), (0, 0))
    seen = set()
    for image, found in zip(x.reshape(-1, 6, 7, 2), cropped.reshape(-1, 6, 7, 2), strict=True):
        if fill == "edge":
            padded = np.pad(image, border, "edge")
        else:
            padded = np.pad(image, border, constant_values=fill)
        places = [
            (i, j) for i in range(5) for j in range(5)
            if np.array_equal(padded[i : i + 6, j : j + 7], found)
        ]  # fmt: skip
        assert len(places) == 1
        seen.update(places)
    assert {i for i, _ in seen} == {j for _, j in seen} == set(range(5))


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "both"])
def test_flip_mirrors_half_of_the_images(engine, direction):
    x = pictures(200, (5, 4, 3)).reshape(-1, 5, 4, 3)
    flipped = Flip((5, 4, 3), direction)(x.reshape(200, -1), rng()).reshape(x.shape)
    axes = {"horizontal": [(), (1,)], "vertical": [(), (0,)], "both": [(), (0,), (1,), (0, 1)]}
    counts = dict.fromkeys(axes[direction], 0)
    for image, found in zip(x, flipped, strict=True):
        same = [a for a in counts if np.array_equal(np.flip(image, a) if a else image, found)]
        assert len(same) == 1
        counts[same[0]] += 1
    assert min(counts.values()) > 200 / len(counts) * 0.7


def test_rotate_and_scale_are_those_of_scipy(engine):
    x = pictures(1, (9, 9), "float64")
    centre = np.array([4.0, 4.0])
    for augment, matrix in (
        (Rotate((9, 9), 30), [[np.cos(np.pi / 6), -np.sin(np.pi / 6)],
                              [np.sin(np.pi / 6), np.cos(np.pi / 6)]]),
        (Scale((9, 9), 0.25), np.eye(2) / 1.25),
    ):  # fmt: skip
        matrix = np.array(matrix)
        expected = ndimage.affine_transform(
            x.reshape(9, 9), matrix, centre - matrix @ centre, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(augment(x, Fixed(MOST)).reshape(9, 9), expected, atol=1e-12)
    quarter = Rotate((9, 9), 90)(x, Fixed(MOST)).reshape(9, 9)
    np.testing.assert_allclose(quarter, np.rot90(x.reshape(9, 9), -1), atol=1e-12)


def test_elastic_displacements_are_smoothed_by_a_gaussian(engine):
    augment = Elastic((20, 17), 36, 2)
    _, fields, _ = augment.draw((3, 340), np.dtype(np.float64), rng())
    augment._smooth(fields)
    same = rng()
    same.random((3, 10))  # of the images themselves
    drawn = same.random((6, 20, 17)) * 72 - 36
    expected = ndimage.gaussian_filter(drawn, 2, mode="constant", truncate=3, axes=(1, 2))
    np.testing.assert_allclose(fields.reshape(6, 20, 17), expected, atol=1e-9)
    x = pictures(3, (20, 17), "float64")
    bent = augment(x, rng(5))
    assert 0.05 < np.abs(bent - x).mean() < 0.5
    assert np.array_equal(augment(x[:1] * 0 + 1, rng(5)).max(), 1)


def test_cutout_blanks_a_square(engine):
    x = np.ones((300, 48))
    cut = Cutout((6, 8), 3, fill=0.5)(x, rng()).reshape(-1, 6, 8)
    sizes = set()
    for image in cut:
        rows, columns = np.nonzero(image == 0.5)
        box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box == 0.5).all()
        sizes.add(box.shape)
    assert max(sizes) == (3, 3)
    assert (2, 2) in sizes
    assert (Cutout((6, 8), 0)(x, rng()) == 1).all()


def test_noise_has_its_deviation(engine):
    x = np.zeros((500, 20), np.float32)
    noisy = Noise(0.5)(x, rng())
    assert noisy.dtype == np.float32
    assert abs(noisy.std() - 0.5) < 0.01
    assert not x.any()
    assert np.array_equal(Images((4, 5), noise=0.5)(x, rng(1)) != 0, np.ones_like(x, bool))


def test_mixup_weighs_rows_and_targets_alike():
    x, targets = pictures(200, (1, 200)), np.eye(200)
    mixed, weights = Mixup(0.4).augment_pairs(x.astype(float), targets, rng())
    np.testing.assert_allclose(mixed, weights @ x, atol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    own = weights.diagonal()
    assert abs(own.mean() - 0.5) < 0.1
    assert own.var() > 0.1  # of Beta(0.4, 0.4): 0.139


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "cross_entropy"}, {"loss": "mse"}, {"loss": "binary_cross_entropy"},
        {"loss": "cross_entropy", "sample_weight": np.arange(150.0) + 1},
        {"class_weight": {0: 2.0, 1: 1.0, 2: 1.0}, "validation_split": 0.2},
    ],
)  # fmt: skip
def test_mixup_takes_labels_as_one_hot_rows(engine, options):
    nets = [fitted(network(), Mixup(0.3), (ROWS, t), **options) for t in (y, np.eye(3)[y])]
    if "class_weight" not in options:
        assert np.array_equal(nets[0].flat_params, nets[1].flat_params)
    assert nets[0].predict(ROWS[:4]).shape == (4,)
    assert nets[0].history["loss"][-1] < nets[0].history["loss"][0]


@pytest.mark.parametrize(
    ("targets", "loss", "layer"),
    [
        (y * 1.0, "mse", 1), (y > 1, "binary_cross_entropy", 1), (ROWS[:, :2], "mse", 2),
        (ROWS[:, :2], fastnn.losses.Quantile([0.1, 0.5, 0.9]), 6),
        (ROWS[:, :2], "gaussian_nll", 4), (y, "poisson", 1),
    ],
)  # fmt: skip
def test_mixup_takes_the_targets_of_other_losses(compiled, targets, loss, layer):
    seen = []

    class Seen(Mixup):
        def augment_pairs(self, X, y, rng):
            seen.append(y.shape)
            return super().augment_pairs(X, y, rng)

    net = network(fastnn.Dense(layer))
    fitted(net, Seen(), (ROWS, targets), loss=loss)
    columns = targets.shape[1] if targets.ndim == 2 else 1
    assert {shape[1] for shape in seen} == {columns}


class Pairs:
    def __init__(self, action=lambda X, y: (X, y)):
        self.action = action

    def augment_pairs(self, X, y, rng):
        return self.action(X, y)


def test_pairs_that_change_nothing_change_nothing(engine):
    targets = ROWS[:, :3]
    one = fitted(network(), None, (ROWS, targets))
    assert_same(fitted(network(), Pairs(), (ROWS, targets)), one)
    loss = fastnn.losses.Quantile([0.2, 0.8])
    layers = fastnn.Dense(4, "tanh"), fastnn.Dense(6)
    one = fitted(network(*layers), None, (ROWS, targets), loss=loss)
    assert_same(fitted(network(*layers), Pairs(), (ROWS, targets), loss=loss), one)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda X, y: X, "pair"), (lambda X, y: (X, y[:, :2]), "y of the shape"),
        (lambda X, y: (X, 2 * y), "lie in"), (lambda X, y: (X, y * np.nan), "y with NaN"),
        (lambda X, y: (X, None), "returned None as y"), (lambda X, y: (X[:3], y), "X of the shape"),
    ],
)  # fmt: skip
def test_pairs_that_do_not_fit_are_refused(action, message):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        fitted(network(), Pairs(action))
    assert "batch 0 of epoch 0" in str(caught.value)


def test_a_fit_with_all_of_it_has_the_same_bits_on_compiled_engines():
    x = pictures(100, (12, 10))
    augment = [
        Images((12, 10), shift=1, rotate=20, scale=0.1, flip="both", crop=1, elastic=(8, 3),
               cutout=3, noise=0.1),
        Mixup(0.3),
    ]  # fmt: skip
    nets = []
    for engine in COMPILED:
        with fastnn.use_engine(engine):
            nets.append(fitted(network(), augment, (x, y[:100])))
    for net in nets[1:]:
        assert_same(net, nets[0])


BAD = [
    lambda: Images(28), lambda: Images((28,)), lambda: Images((0, 28)), lambda: Images((28, 2.5)),
    lambda: Images((2**16, 2**16)), lambda: Shift((4, 4), -1), lambda: Shift((4, 4), "2"),
    lambda: Rotate((4, 4), np.inf), lambda: Scale((4, 4), 1.0), lambda: Flip((4, 4), "left"),
    lambda: Flip((4, 4), True), lambda: Images((4, 4), flip=2), lambda: Crop((4, 4), -1),
    lambda: Crop((4, 4), 1.5), lambda: Elastic((4, 4), -1), lambda: Elastic((4, 4), 1, 0),
    lambda: Images((4, 4), elastic=3), lambda: Images((4, 4), elastic=(1, 1e9)),
    lambda: Cutout((4, 4), -1), lambda: Noise(-1),
    lambda: Noise(np.nan), lambda: Mixup(0), lambda: Mixup("a"), lambda: Shift((4, 4), fill="no"),
    lambda: Cutout((4, 4), 1, fill="edge"), lambda: Shift((4, 4), 1e39),
    lambda: Images((4, 4), shift=1e308, rotate=180, scale=0.99), lambda: Elastic((4, 4), 1e39),
]  # fmt: skip


@pytest.mark.parametrize("make", BAD)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises((ValueError, TypeError)):
        make()


@pytest.mark.parametrize("one", [Images((4, 4), shift=1), Noise(0.1)])
def test_batches_of_another_form_are_refused(one):
    for batch, message in [
        ([[0.0] * 16], "list"), (np.zeros((2, 16), int), "int64"), (np.zeros(16), r"\(16,\)"),
    ]:  # fmt: skip
        with pytest.raises((TypeError, fastnn.errors.ShapeError), match=message):
            one(batch, rng())


@pytest.mark.parametrize(
    ("X", "targets", "message"),
    [
        (np.zeros((3, 2), np.uint8), np.eye(3), "X of Mixup.*uint8"),
        ([[0.0]], np.eye(1), "X of Mixup.*list"),
        (np.zeros((3, 2)), np.eye(3, dtype=int), "y of Mixup.*int64"),
        (np.zeros((3, 2)), np.arange(3.0), r"y of Mixup.*\(3,\)"),
        (np.zeros((3, 2)), np.eye(1), "as many rows"),
    ],
)
def test_mixup_takes_rows_of_floats(X, targets, message):
    with pytest.raises((TypeError, fastnn.errors.ShapeError), match=message):
        Mixup().augment_pairs(X, targets, rng())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_arguments_leave_positions_finite(engine, dtype):
    augment = Images(
        (4, 5), shift=2**31 - 1, rotate=180, scale=1 - 2**-53, crop=2**31 - 1, fill="edge",
        elastic=(2**31 - 1, 1),
    )  # fmt: skip
    x = pictures(50, (4, 5), dtype)
    found = augment(x, rng())
    assert found.min() >= x.min()
    assert found.max() <= x.max()


def test_texts_show_what_was_given():
    assert repr(Images((4, 4), flip=True, fill="edge")) == "Images((4, 4), flip=True, fill='edge')"
    assert repr(Rotate((4, 4, 3), 5, fill=1)) == "Rotate((4, 4, 3), degrees=5.0, fill=1.0)"
    assert repr(Mixup()) == "Mixup(alpha=0.2)"
    assert repr(augmentation.get(Noise(1))) == "(Noise(std=1.0),)"


def test_an_empty_batch_stays_empty(engine):
    empty = np.zeros((0, 16), np.float32)
    every = Images((4, 4), shift=1, elastic=(1, 1), cutout=1, noise=1)
    assert every(empty, rng()).shape == (0, 16)
