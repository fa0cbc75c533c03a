"""Successive halving of networks that train side by side."""

import math

import numpy as np
import pytest
from conftest import table

from fastnn import (
    LBFGS,
    SGD,
    Adam,
    Callback,
    Dense,
    EarlyStopping,
    Halving,
    Sequential,
    train_many,
)
from fastnn.errors import TrainManyError
from fastnn.halving import Rung

X, Y = table(150, 6)
SPECS = [{"optimizer": SGD(10.0**exponent)} for exponent in np.linspace(-5, 0, 9)]


def layers():
    return [Dense(8, "relu"), Dense(3)]


def raced(halving, specs=SPECS, **arguments):
    arguments = {"layers": layers(), "epochs": 12, "validation_split": 0.3, **arguments}
    return train_many(specs, X, Y, halving=halving, progress=False, **arguments)


def test_the_best_go_on_whatever_the_threads(engine, n_threads):
    """All networks are trained alone in full, and their values say who must be ended when."""
    full = raced(None)
    values = np.array([net.history["val_loss"] for net in full])
    after_3 = sorted(range(9), key=lambda i: (values[i, 0], i))[:3]
    after_9 = min(after_3, key=lambda i: (values[i, 2], i))
    expected = [1] * 9
    for index in after_3:
        expected[index] = 3
    expected[after_9] = 12
    for n in (1, 2, 5):
        n_threads(n)
        nets = raced(Halving(3, every=1))
        assert [net.history.n_epochs for net in nets] == expected
        np.testing.assert_array_equal(nets[after_9].flat_params, full[after_9].flat_params)
        for index, net in enumerate(nets):
            count = expected[index]
            np.testing.assert_array_equal(net.history["val_loss"], values[index, :count])
            place = sorted(range(9), key=lambda i: (values[i, 0], i)).index(index) + 1
            if count == 1:
                assert net.history.stopped == (
                    f"halving: number {place} of 9 by val_loss after 1 epochs, 3 go on"
                )
        assert nets[after_9].history.stopped is None


def test_networks_that_are_ended_equal_shorter_fits(engine):
    nets = raced(Halving(3, every=2))
    for net, spec in zip(nets, SPECS, strict=True):
        one = Sequential(layers())
        epochs = net.history.n_epochs
        one.fit(X, Y, epochs=epochs, validation_split=0.3, progress=False, **spec)
        np.testing.assert_array_equal(net.flat_params, one.flat_params)


RUNGS = [
    ((3, None), 27, 27, [(1, 9), (3, 3), (9, 1)]),
    ((3, None), 64, 81, [(1, 22), (3, 8), (9, 3), (27, 1)]),
    ((2, None), 5, 100, [(12, 3), (24, 2), (48, 1)]),
    ((2, 10), 4, 100, [(10, 2), (20, 1)]),
    ((2, 10), 4, 20, [(10, 2)]),
    ((4, 50), 4, 20, []),
    ((3, None), 1, 10, []),
    ((2, None), 9, 3, [(1, 5), (2, 3)]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "n", "epochs", "expected"), RUNGS)
def test_when_the_selections_are(arguments, n, epochs, expected):
    factor, every = arguments
    assert Halving(factor, every=every).rungs(n, epochs) == [Rung(*rung) for rung in expected]


def test_nan_is_worst_and_equal_networks_rank_by_their_place():
    values = {0: math.nan, 1: 2.0, 2: 1.0, 3: 2.0, 4: -math.inf}
    assert Halving().ranked(values, larger=False) == [4, 2, 1, 3, 0]
    assert Halving().ranked(values, larger=True) == [1, 3, 2, 4, 0]


def test_larger_is_better_for_accuracies():
    nets = raced(Halving(3, "val_accuracy", every=2))
    first = [net.history["val_accuracy"][1] for net in nets]
    going_on = [value for value, net in zip(first, nets, strict=True) if net.history.n_epochs > 2]
    ended = [value for value, net in zip(first, nets, strict=True) if net.history.n_epochs == 2]
    assert min(going_on) >= max(ended)
    nets = raced(Halving(3, "val_accuracy", every=2, mode="min"))
    longest = max(nets, key=lambda net: net.history.n_epochs)
    assert longest.history["val_accuracy"][1] == min(first)


def test_networks_that_fail_or_end_are_no_hindrance(engine):
    specs = [*SPECS[:6], {"optimizer": SGD(1e30)}]
    specs += [{"optimizer": Adam(0.03), "early_stopping": EarlyStopping(1, min_delta=10.0)}]

    def callback(index, training):
        if index == 2:
            training.stop("of its own")

    with pytest.raises(TrainManyError) as caught:
        raced(Halving(2, every=2), specs, callback=callback)
    nets = caught.value.networks
    assert list(caught.value.failed) == [6]
    assert nets[2].history.n_epochs == 1
    assert nets[2].history.stopped == "of its own"
    assert nets[7].history.stopped.startswith("early stopping")
    assert sum(net.history.n_epochs == 12 for net in nets if net.history) <= 1
    ended = [i for i, net in enumerate(nets) if "halving" in str(net.history.stopped)]
    assert len(ended) >= 3


def test_networks_may_have_fewer_epochs():
    nets = raced(Halving(2, every=2), [{"epochs": 1}, {"epochs": 3}, {"epochs": 8}])
    assert nets[0].history.n_epochs == 1
    assert nets[1].history.n_epochs in (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"validation_split": 0.0},
            r"specs\[0\]: halving follows 'val_loss'.*validation_data",
        ),
        ({"seconds": 1.0, "epochs": None}, r"specs\[0\]: .*give epochs or steps"),
        ({"optimizer": LBFGS(), "validation_split": 0.3}, r"specs\[0\]: LBFGS cannot wait"),
    ],
)
def test_what_cannot_be_halved(arguments, message):
    with pytest.raises(ValueError, match=message):
        raced(Halving(), [{}, {}], **arguments)


def test_bad_arguments():
    for arguments in ({"factor": 1}, {"every": 0}, {"mode": "best"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            Halving(**arguments)
    with pytest.raises(TypeError, match="metric"):
        Halving(metric=3)


def test_a_network_that_is_stopped_before_its_first_epoch_is_the_worst():
    class Stop(Callback):
        def on_fit_begin(self, training):
            training.stop("never")

    specs = [{"callbacks": [Stop()]}, {"seed": 1}, {"seed": 2}]
    nets = raced(Halving(3, every=2), specs)
    assert sorted(net.history.n_epochs for net in nets) == [0, 2, 12]
    assert nets[0].history.stopped == "never"
