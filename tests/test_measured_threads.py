"""The number of threads that is measured while a network runs: what is measured, and with what."""

import numpy as np
import pytest
from conftest import COMPILED

from fastnn import Dense, Sequential, engines
from fastnn.engines import compiled as compiled_module
from fastnn.engines import threads
from fastnn.engines.tuning import Tuner


def test_a_ragged_last_batch_is_not_taken_for_a_full_one(compiled, monkeypatch):
    """It has one row: its time would be the least of all."""
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(threads, "get_num_threads", lambda: 2)
    recorded = []
    record = Tuner.record
    monkeypatch.setattr(
        Tuner, "record",
        lambda self, n, batches, seconds: (
            recorded.append(batches), record(self, n, batches, seconds)
        ),
    )  # fmt: skip
    net = Sequential([Dense(8, "relu"), Dense(2)], n_inputs=4, seed=0)
    X, y = np.ones((101, 4), np.float32), np.arange(101) % 2
    seen = []  # so that each epoch is a call of its own
    history = net.fit(X, y, epochs=3, batch_size=10, callbacks=seen.append, progress=False)
    assert (len(seen), sum(history.threads_used.values())) == (3, 3 * 11)
    assert sum(recorded) <= 3 * 10


@pytest.mark.skipif(len(COMPILED) < 2, reason="needs both compiled engines")
def test_two_engines_may_share_a_workspace_whose_packing_buffers_grow(monkeypatch):
    """The buffers of few rows hold addresses; another engine may have replaced the memory."""
    monkeypatch.setattr(threads, "get_num_threads", lambda: 2)
    X = np.random.default_rng(0).standard_normal((6000, 20)).astype(np.float32)
    layers = [Dense(30, "relu"), Dense(1)]
    net = Sequential(layers, n_inputs=20, seed=0)
    with engines.use_engine("numpy"):
        net.fit(X[:64], X[:64, :1], epochs=1, progress=False)
        net.predict(X)
    for one, other in (COMPILED, COMPILED[::-1]):
        with engines.use_engine(one):
            expected = [net.predict(X[:1]) for _ in range(3)]
        for ws in net._idle._for_prediction:
            bound = ws.programs[one]
            before = bound.context["pack"]
        with engines.use_engine(other):
            net.predict(X[: net._idle._for_prediction[0].capacity])
        with engines.use_engine(one):
            np.testing.assert_array_equal(net.predict(X[:1]), expected[0])
        ws = net._idle._for_prediction[0]
        assert ws.programs[one].context["pack"] == ws.pack_for(1), before
