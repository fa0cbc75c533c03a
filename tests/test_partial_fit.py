"""partial_fit: an epoch that goes on where training is."""

import numpy as np
import pytest
from stream_cases import X, batches, plain, rich, y

from fastnn import SGD, Adam, schedules


def test_calls_of_partial_fit_equal_the_epochs_of_a_fit(engine):
    net, other = rich(), rich()
    options = {
        "loss": "mse",
        "optimizer": Adam(0.01),
        "schedule": schedules.Cyclic(start=0.5, peak=1.0, up=3),
    }
    net.fit(X, y, epochs=4, progress=False, **options)
    assert other.partial_fit(X, y, **options) is other
    for _ in range(3):
        other.partial_fit(X, y)
    assert np.array_equal(net.flat_params, other.flat_params)
    assert np.array_equal(net.training_state.slots, other.training_state.slots)
    assert other.history["loss"] == net.history["loss"][-1:]
    assert other.training_state.optimizer == Adam(0.01)


def test_calls_with_parts_equal_a_fit_on_an_iterable_of_them(engine):
    net, other = rich(), rich()
    net.fit(batches() * 2, epochs=1, classes=[0, 1, 2], progress=False)
    for part, labels in batches() * 2:
        other.partial_fit(part, labels, classes=[0, 1, 2], batch_size=None, shuffle=False)
    assert np.array_equal(net.flat_params, other.flat_params)
    assert np.array_equal(net.training_state.slots, other.training_state.slots)
    assert other.training_state.step == net.training_state.step == 10
    third = rich()
    third.partial_fit(batches() * 2, classes=[0, 1, 2])
    assert np.array_equal(net.flat_params, third.flat_params)


def test_partial_fit_continues_a_fit():
    net, other = plain(), plain()
    net.fit(X, y, epochs=3, optimizer=SGD(0.1, momentum=0.9), schedule=schedules.Cosine(),
            progress=False)  # fmt: skip
    other.fit(X, y, epochs=3, optimizer=SGD(0.1, momentum=0.9), schedule=schedules.Cosine(),
              progress=False)  # fmt: skip
    net.partial_fit(X, y)  # Cosine() has ended with its fit
    other.fit(X, y, epochs=1, optimizer=SGD(0.1, momentum=0.9), progress=False)
    assert np.array_equal(net.flat_params, other.flat_params)
    assert net.history["lr"] == [0.1]


@pytest.mark.parametrize("name", ["epochs", "steps", "seconds", "initial_epoch"])
def test_partial_fit_is_one_epoch(name):
    with pytest.raises(TypeError, match=rf"one epoch: leave out {name}"):
        plain().partial_fit(X, y, **{name: 1})


def test_partial_fit_with_classes():
    net = plain()
    net.partial_fit(X[:3], ["a", "a", "b"], ["a", "b", "c"])
    net.partial_fit(X[:3], ["c", "c", "b"])
    with pytest.raises(ValueError, match=r"but the network has been fitted with"):
        net.partial_fit(X[:3], ["c", "c", "b"], ["x", "y", "z"])
