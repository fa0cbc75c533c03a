"""The rows that a fit takes: by number, and those that validation_split leaves."""

import numpy as np
import pytest
from training_cases import W, X, assert_same, fit, network, y

from fastnn import Dense, Sequential
from fastnn.errors import ShapeError

SOME = np.random.default_rng(2).permutation(150)[:70]


@pytest.mark.parametrize(
    "options",
    [
        {}, {"shuffle": False}, {"sample_weight": W}, {"class_weight": "balanced"},
        {"sample_weight": W, "class_weight": "balanced"}, {"batch_size": None}, {"steps": 5},
        {"loss": "mse", "dtype": "float64"}, {"class_weight": {0: 1, 1: 2, 2: 0.5}},
    ],
    ids=str,
)  # fmt: skip
def test_rows_are_as_if_there_were_no_others(engine, options):
    dtype = options.pop("dtype", "float32")
    net, other = network(dtype=dtype), network(dtype=dtype)
    own = {k: v[SOME] if k == "sample_weight" else v for k, v in options.items()}
    for kind in (SOME, SOME.astype(np.int32).tolist()):
        fit(net, rows=kind, **{"epochs": 2, **options})
        fit(other, X[SOME], y[SOME], **{"epochs": 2, **own})
        assert_same(net, other)
    assert net.history.n_rows == 70
    chosen = np.isin(np.arange(150), SOME)
    fit(net, rows=chosen, epochs=1)
    fit(other, X[chosen], y[chosen], epochs=1)
    assert_same(net, other)


def test_labels_outside_of_the_rows_do_not_count():
    labels = np.array(["red", "green", "blue"], object)[y]
    labels[[3, 5]] = ["pink", None]
    keep = np.delete(np.arange(150), [3, 5])
    net = fit(network(), X, labels, rows=keep, epochs=1)
    assert net.classes_.tolist() == ["blue", "green", "red"]
    one = fit(Sequential([Dense(1)]), X, np.where(y > 1, 7, y), rows=y < 2, epochs=1)
    assert one.classes_.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], ValueError, "at least one"), ([0, 150], ValueError, "holds 150.*0 to 149"),
        ([-1, 3], ValueError, "holds -1"), ([0.5], TypeError, "numbers of rows"),
        ([[1, 2]], TypeError, "numbers of rows"), ("all", TypeError, "numbers of rows"),
        (np.zeros(150, bool), ValueError, "at least one"), (np.ones(9, bool), TypeError, "150 r"),
        (3, TypeError, "numbers of rows"),
    ],
)  # fmt: skip
def test_bad_rows(rows, error, message):
    net = network()
    with pytest.raises(error, match=message):
        fit(net, rows=rows)
    assert net.history is None


def test_a_y_for_other_rows_is_refused():
    with pytest.raises(ShapeError, match=r"X has 150 rows, but y"):
        fit(network(), X, y[SOME], rows=SOME)
    with pytest.raises(ShapeError, match=r"X has 150 rows, but sample_weight"):
        fit(network(), rows=SOME, sample_weight=W[SOME])


def _parts(**options):
    """The rows for training that validation_split leaves, and the others."""
    epochs = network().epochs(X, y, epochs=1, progress=False, **options)
    rows = epochs.training.fit.data.order
    return rows, np.setdiff1d(options.get("rows", np.arange(150)), rows)


@pytest.mark.parametrize("rows", [{}, {"rows": SOME}], ids=["all", "some"])
@pytest.mark.parametrize("weights", [{}, {"sample_weight": W}], ids=["even", "weighted"])
def test_validation_split_is_rows_by_hand(engine, rows, weights):
    train, valid = _parts(validation_split=0.2, **rows)
    n = len(rows.get("rows", X))
    assert len(train) + len(valid) == n
    assert abs(len(valid) - 0.2 * n) <= 2
    net = fit(network(), epochs=3, validation_split=0.2, **rows, **weights)
    by_hand = {"epochs": 3, "validation_data": (X[valid], y[valid])}
    other = fit(network(), rows=train, **by_hand, **weights)
    own = {name: values[train] for name, values in weights.items()}
    third = fit(network(), X[train], y[train], **by_hand, **own)
    for one in (other, third):
        assert_same(net, one, history=False)
        assert net.history["loss"] == one.history["loss"]
        assert net.history["val_loss"] == pytest.approx(one.history["val_loss"])
    assert net.history["val_loss"][-1] == pytest.approx(net.evaluate(X[valid], y[valid])["loss"])
    assert net.history["val_accuracy"][-1] == net.evaluate(X[valid], y[valid])["accuracy"]


def test_validation_split_is_stratified_and_reproducible():
    train, valid = _parts(validation_split=0.3)
    again, _ = _parts(validation_split=0.3)
    assert np.array_equal(train, again)
    shares = np.bincount(y[valid]) / np.bincount(y)
    assert (abs(shares - 0.3) < 0.03).all()
    other = Sequential([Dense(3)], seed=9).epochs(X, y, validation_split=0.3, progress=False)
    assert not np.array_equal(np.sort(other.training.fit.data.order), np.sort(train))
