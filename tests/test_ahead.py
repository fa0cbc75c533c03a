"""When chunks of augmented batches are made ahead in another thread."""

import threading

import numpy as np
import pytest
from augmentation_cases import X, fitted, identity, network, noise, y

from fastnn import Callback, ahead

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def ways(monkeypatch, n_threads):
    """A function that simulates chunks; it returns whether each of them was made ahead."""
    n_threads(2)
    clock = [1.0]
    monkeypatch.setattr(ahead.time, "perf_counter", lambda: clock[0])
    choice = ahead.Choice()

    def run(n, alone, together, batches=2):
        found = []
        for _ in range(n):
            choice.next(batches)
            found.append(choice.is_ahead)
            clock[0] += batches * (together if choice.is_ahead else alone)
        return found

    return run


def test_the_faster_way_is_taken_and_the_other_one_tried_again(ways):
    found = ways(400, alone=2.0, together=1.0)
    assert not any(found[:5])
    assert sum(found) > 360
    assert not all(found[20:])
    assert sum(ways(400, alone=1.0, together=2.0)) < 150  # it finds out when that changes
    assert sum(ways(400, alone=1.0, together=2.0)) < 40


def test_one_thread_makes_no_other(n_threads):
    n_threads(1)
    seen = set()

    def look(batch, rng):
        seen.add(threading.current_thread())
        return batch

    fitted(network(), look, epochs=30)
    assert seen == {threading.current_thread()}


def test_a_long_fit_tries_both_and_ends_its_thread(n_threads):
    n_threads(2)
    names = []

    def look(batch, rng):
        names.append(threading.current_thread().name)
        return noise(batch, rng)

    net = fitted(network(), look, epochs=40, batch_size=4)
    assert any(name.startswith("fastnn-augment") for name in names)
    n_threads(1)
    other = fitted(network(), noise, epochs=40, batch_size=4)
    assert np.array_equal(net.flat_params, other.flat_params)


def test_a_loop_that_is_left_ends_the_thread(monkeypatch, n_threads):
    n_threads(2)
    monkeypatch.setattr(ahead.Choice, "next", lambda self, n: setattr(self, "is_ahead", True))
    net = network()
    for line in net.epochs(X, y, augment=identity, batch_size=16, progress=False):
        assert any(t.name.startswith("fastnn-augment") for t in threading.enumerate())
        if line.training.epoch == 2:
            break
    del line
    assert net.history.n_epochs == 2
    stopped = fitted(net, noise, seconds=0.05, epochs=None)
    assert "s" in stopped.history.stopped


def test_chunks_are_bounded(monkeypatch, n_threads):
    n_threads(2)
    monkeypatch.setattr(ahead.Choice, "next", lambda self, n: setattr(self, "is_ahead", True))
    monkeypatch.setattr(ahead, "_CHUNK_ELEMENTS", 3 * 16 * X.shape[1])
    monkeypatch.setattr(ahead, "_LEAST_CHUNKS", 1)
    made, trained, lead = [], [], []

    def count(batch, rng):
        made.append(None)
        return batch

    class Steps(Callback):
        def on_steps(self, training):
            trained.append(None)
            lead.append(len(made) - len(trained))

    fitted(network(), count, (np.tile(X, (20, 1)), np.tile(y, 20)), callbacks=Steps(), epochs=1)
    assert len(made) == len(trained) == 188
    assert max(lead) <= 3 * (ahead._AHEAD + 2)
