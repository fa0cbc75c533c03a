"""The history of a fit is a dict of lists, which a data frame takes as it is."""

import copy
import json
import pickle
from collections.abc import Mapping

import numpy as np
import pytest

from fastnn import Dense, History, Sequential

X = np.linspace(-1, 1, 24).reshape(12, 2)
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def history():
    net = Sequential([Dense(1)])
    return net.fit(X, Y, epochs=3, validation_split=0.25, metrics=["f1"], progress=False)


def test_a_data_frame_has_a_row_for_each_epoch(history):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(history)
    assert list(frame.columns) == list(history)
    assert len(frame) == 3
    assert frame["val_loss"].tolist() == history["val_loss"]


def test_a_history_is_a_dict_and_is_copied_as_what_it_is(history):
    assert isinstance(history, dict)
    assert isinstance(history, Mapping)
    assert json.loads(json.dumps(history)) == history
    for again in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert type(again) is History
        assert (again, again.n_epochs, again.loss_name) == (history, 3, history.loss_name)
        assert repr(again) == repr(history)
        assert again.rows_trained == history.rows_trained


def test_a_history_goes_on_from_its_own_lists(history):
    lists = dict(history)
    history.restore(history, 7)
    assert history == lists
    assert history.rows_trained == 7
