"""Iterables of batches that are wrong: errors name the batch; labels that not all batches hold."""

import numpy as np
import pytest
from stream_cases import W, X, batches, network, plain, rich, y

from fastnn import LBFGS, SGD, Dense, Sequential
from fastnn.errors import DivergedError, ShapeError

SOURCES = {"list": lambda items: items, "function": lambda items: lambda: iter(items)}

# -- errors that name the batch -------------------------------------------------------------------

GOOD = (X[:20], y[:20])


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ((X[:20, :4], y[:20]), ShapeError, "X has 4 features, but the network takes 5"),
        ((X[:20].astype("f8"), y[:20]), TypeError, "dtype float64, but.*first batch is float32"),
        ((X[:20].astype("i4"), y[:20]), TypeError, "dtype int32"),
        ((X[:20], y[:19]), ShapeError, "X has 20 rows, but y has 19"),
        ((X[:0], y[:0]), ShapeError, "empty"),
        ((X[:20, 0], y[:20]), ShapeError, "must be a matrix"),
        ((X[:20], y[:20] + 2), ValueError, "label.*none of the fitted classes"),
        ((X[:20], y[:20].astype(str)), ValueError, "none of the fitted classes"),
        ((X[:20], np.eye(3)[y[:20]]), ShapeError, "3 columns, but the network was fitted on"),
        ((X[:20], X[:20, :2]), ShapeError, "2 columns"),
        ((np.where(X[:20] > 1, np.nan, X[:20]), y[:20]), ValueError, "NaN"),
        ((X[:20], np.where(y[:20], np.nan, 0.0)), ValueError, "is missing"),
        ((X[:20], y[:20], W[:19]), ShapeError, "sample_weight must have one number for each"),
        ((X[:20], y[:20], -W[:20]), ValueError, "sample_weight must be at least 0"),
        ((X[:20], y[:20], W[:20] * np.nan), ValueError, "sample_weight.*NaN"),
        ((X[:20],), TypeError, "is a tuple of 1, not a pair"),
        ((X[:20], y[:20], None, None), TypeError, "is a tuple of 4, not a pair"),
        (X[:20], TypeError, "is a ndarray, not a pair"),
        (None, TypeError, "is a NoneType, not a pair"),
        ({"X": X}, TypeError, "is a dict, not a pair"),
    ],
)
@pytest.mark.parametrize("source", ["list", "function"])
def test_a_bad_batch_is_named_and_what_is_trained_stays(source, bad, error, message):
    net, other = rich(), rich()
    items = [GOOD, GOOD, bad, GOOD]
    with pytest.raises(error, match=r"batch 2 of epoch 0 \(both from 0\)") as caught:
        net.fit(SOURCES[source](items), epochs=2, progress=False)
    assert caught.match(message)
    assert net.training_state.total_steps == 2
    assert np.isfinite(net.flat_params).all()
    other.fit([GOOD, GOOD], epochs=1, progress=False)
    assert np.array_equal(net.flat_params, other.flat_params)
    net.fit([GOOD], epochs=1, progress=False)


@pytest.mark.parametrize(
    ("first", "error", "message"),
    [
        ((X[:20, 0], y[:20]), ShapeError, "batch 0 of epoch 0.*must be a matrix"),
        ((X[:20], y[:19]), ShapeError, "batch 0 of epoch 0.*20 rows, but y has 19"),
        ((X[:20] * np.inf, y[:20]), ValueError, "batch 0 of epoch 0"),
        ((X[:20], y[:20], -W[:20]), ValueError, "batch 0 of epoch 0.*at least 0"),
        ([0.0, 1.0], ShapeError, "batch 0 of epoch 0"),
        (X, TypeError, "batch 0 of epoch 0.*give y as well"),
        ("text", TypeError, "batch 0 of epoch 0.*is a str, not a pair"),
    ],
)
def test_a_bad_first_batch_changes_nothing(first, error, message):
    for source in ([first, GOOD], lambda: iter([first, GOOD])):
        net = plain()
        with pytest.raises(error, match=message):
            net.fit(source, epochs=1, progress=False)
        assert net.history is None
        assert net.n_inputs is None


def test_no_batches():
    for source in ([], (), lambda: iter([]), iter([])):
        with pytest.raises(ValueError, match=r"empty"):
            plain().fit(source, progress=False)
    lengths = iter([5, 0])
    net = plain()
    with pytest.raises(ValueError, match=r"epoch 1 \(from 0\) has only 0 batches"):
        net.fit(lambda: iter(batches()[: next(lengths)]), epochs=2, progress=False)
    assert net.history.n_epochs == 1


def test_a_missing_y_is_named():
    import scipy.sparse

    for wrong in (X, X.tolist(), np.float64(3), 3, None, scipy.sparse.csr_matrix(X)):
        with pytest.raises((TypeError, ShapeError), match=r"y is missing|give y as well"):
            plain().fit(wrong, progress=False)
    with pytest.raises(TypeError, match=r"is not iterable"):
        plain().fit(lambda: 3, epochs=1, progress=False)


@pytest.mark.parametrize(
    "option",
    [
        {"batch_size": 32}, {"batch_size": None}, {"rows": [1, 2]}, {"sample_weight": W},
        {"validation_split": 0.1}, {"accumulate": 2},
    ],
)  # fmt: skip
def test_arguments_that_belong_to_arrays_are_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=rf"{name} belongs to a fit on arrays"):
        plain().fit(batches(), progress=False, **option)


def test_what_needs_all_rows_is_refused():
    with pytest.raises(ValueError, match=r"balanced.*all rows.*dict"):
        plain().fit(batches(), class_weight="balanced", progress=False)
    with pytest.raises(ValueError, match=r"LBFGS takes all rows at once"):
        plain().fit(batches(), optimizer=LBFGS(), progress=False)
    with pytest.raises(ValueError, match=r"penalties.*not known.*list"):
        rich().fit(lambda: iter(batches()), loss="sse", epochs=1, progress=False)
    plain().fit(lambda: iter(batches()), loss="sse", epochs=1, optimizer=SGD(1e-4), progress=False)
    with pytest.raises(ValueError, match=r"initial_epoch.*not known"):
        plain().fit(lambda: iter(batches()), epochs=3, initial_epoch=1, progress=False)
    plain().fit(batches(), shuffle=False, epochs=3, initial_epoch=1, progress=False)


def test_divergence_restores_the_beginning_of_the_epoch():
    huge = (1e30 * X[:20], X[:20, :3])
    good = (X[:20], X[:20, :3])
    net, other = network(Dense(3)), network(Dense(3))
    calls = iter([[good, good, good], [good, good, huge]])
    with pytest.raises(DivergedError, match=r"epoch 1, batch 2.*start of that epoch") as caught:
        net.fit(lambda: iter(next(calls)), loss="mse", optimizer=SGD(0.1), epochs=3, progress=False)
    assert (caught.value.epoch, caught.value.batch) == (1, 2)
    other.fit([good] * 3, loss="mse", optimizer=SGD(0.1), epochs=1, progress=False)
    assert np.array_equal(net.flat_params, other.flat_params)


# -- classes --------------------------------------------------------------------------------------


def test_the_first_batch_or_the_argument_decides_on_the_classes():
    names = np.array(["red", "green", "blue"])[np.sort(y)]
    items = batches(X, names)
    net = plain()
    with pytest.raises(
        ValueError, match=r"batch 0.*1 classes.*network distinguishes 3.*classes=\["
    ):
        net.fit(items, progress=False)
    net.fit(items, classes=["red", "green", "blue"], epochs=2, progress=False)
    assert net.classes_.tolist() == ["blue", "green", "red"]
    net.fit(items, epochs=1, progress=False)  # from the fit before
    with pytest.raises(ValueError, match=r"batch 0.*'pink', which is none of the fitted classes"):
        net.fit([(X, np.full(150, "pink"))], progress=False)
    two = Sequential([Dense(1)])
    with pytest.raises(ValueError, match=r"batch 1.*label 2.*classes=\[\.\.\.\] says it"):
        two.fit([(X[:9], np.arange(9) % 2), (X[:9], np.full(9, 2))], progress=False)


def test_classes_with_arrays():
    part = np.flatnonzero(y < 2)
    net, other = plain(), plain()
    net.fit(X[part], 10 * y[part], classes=[20, 0, 10], epochs=3, progress=False)
    other.fit(X[part], y[part], epochs=3, progress=False)
    assert np.array_equal(net.flat_params, other.flat_params)
    assert net.classes_.tolist() == [0, 10, 20]
    net.fit(X, 10 * y, epochs=1, progress=False)
    net.fit(X, 10 * y, classes=[0, 10, 20], epochs=1, progress=False)
    one = Sequential([Dense(1)])
    one.fit(X[:5], ["no"] * 5, classes=["yes", "no"], epochs=1, progress=False)
    assert one.classes_.tolist() == ["no", "yes"]


@pytest.mark.parametrize(
    ("classes", "targets", "error", "message"),
    [
        ([0, 1, 2, 3], y, ValueError, "classes has 4 classes"),
        (["a", "b"], y.astype(str), ValueError, "classes has 2 classes"),
        ([0, 1, 1, 2], y, ValueError, "twice"),
        ([[0, 1, 2]], y, ShapeError, "list of labels, not 2-D"),
        ([0, "a", None], y, TypeError, "classes mixes"),
        ([10, 20, 30], y, ValueError, "label.*none of the fitted classes"),
        ([0, 1, 2], np.eye(3)[y], ValueError, "classes belongs to labels"),
        ([0, 1, 2], X[:, :3], ValueError, "classes belongs to labels.*numbers"),
    ],
)
def test_bad_classes(classes, targets, error, message):
    net = plain()
    with pytest.raises(error, match=message):
        net.fit(X, targets, classes=classes, progress=False)
    assert net.history is None


def test_other_classes_than_before_are_refused():
    net = plain()
    net.fit(X, 10 * y, epochs=1, progress=False)
    with pytest.raises(ValueError, match=r"classes is \[1, 2, 3\], but.*fitted with \[0, 10, 20\]"):
        net.fit(X, 10 * y, classes=[1, 2, 3], epochs=1, progress=False)
