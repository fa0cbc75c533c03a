"""Callbacks of scikit-learn >= 1.9 follow the fits of all four estimators, epoch by epoch."""

import io
import itertools
import pickle
import sys

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import (
    Callback,
    Dense,
    MLPClassifier,
    MLPRegressor,
    SequentialClassifier,
    SequentialRegressor,
)
from fastnn.estimators import fit_callbacks

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn >= 1.9 has callbacks")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 4))
Y = np.where(X[:, 0] - X[:, 1] > 0, "high", "low")
YR = X[:, 0] - 2 * X[:, 1]
WEIGHTS = RNG.random(80)


def build(n_inputs, n_outputs):
    return [Dense(5, "relu"), Dense(n_outputs)]


MODELS = [
    MLPClassifier(hidden_layer_sizes=(5,), batch_size=20, max_iter=3, random_state=0),
    MLPRegressor(hidden_layer_sizes=(5,), batch_size=20, max_iter=3, random_state=0),
    SequentialClassifier(build, epochs=3, random_state=0),
    SequentialRegressor(build, epochs=3, random_state=0),
]


@pytest.fixture(params=MODELS, ids=[type(one).__name__ for one in MODELS])
def model(request):
    return clone(request.param)


def targets(model):
    return Y if is_classifier(model) else YR


class Record:
    """A callback of scikit-learn's protocol that keeps what it is told."""

    def __init__(self, stop_after=None, fail_at=None):
        self.stop_after, self.fail_at = stop_after, fail_at
        self.events, self.copies, self.given = [], [], []

    def _event(self, name, context):
        self.events.append((name, context.task_name, context.task_id, context.max_subtasks))
        if name == self.fail_at:
            raise RuntimeError(f"failed at {name}")

    def setup(self, estimator, context):
        self._event("setup", context)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self._event("begin", context)
        self.given.append((X, y, metadata))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self._event("end", context)
        self.copies.append(fitted_estimator)
        return context.task_name == "epoch" and context.task_id == self.stop_after

    def teardown(self, estimator, context):
        self._event("teardown", context)


class Followed(Record):
    """One that a meta-estimator hands to the estimators within."""

    max_propagation_depth = None


def epochs(*numbers):
    return [(name, "epoch", n, 0) for n in numbers for name in ("begin", "end")]


def whole(n_epochs, most=3):
    fit = [(name, "fit", 0, most) for name in ("setup", "begin", "end", "teardown")]
    return [*fit[:2], *epochs(*range(n_epochs)), *fit[2:]]


def test_a_fit_and_its_epochs_are_tasks(model):
    record = Record()
    assert model.set_callbacks(record) is model
    y = targets(model)
    model.fit(X, y, sample_weight=WEIGHTS)
    assert record.events == whole(3)
    for given in record.given:
        assert given[0] is X
        assert given[1] is y
        assert given[2]["sample_weight"] is WEIGHTS
    plain = clone(model).set_callbacks().fit(X, y, WEIGHTS)
    assert (plain.net_.flat_params == model.net_.flat_params).all()
    assert not {"_tasks", "_callback_fit_ctx"} & set(vars(model))
    model.fit(X, y)
    assert record.events == 2 * whole(3)


def test_copies_predict_as_the_network_did_then(model):
    record = Record()
    model.set_callbacks(record).fit(X, targets(model))
    predictions = [copy.net_.logits(X) for copy in record.copies]
    assert len(predictions) == 4
    for before, after in itertools.pairwise(predictions[:3]):
        assert (before != after).any()
    assert (predictions[2] == predictions[3]).all()
    assert (record.copies[3].predict(X) == model.predict(X)).all()
    early = record.copies[0].set_callbacks()
    one = clone(model).set_callbacks()
    one.set_params(**{"epochs" if hasattr(one, "epochs") else "max_iter": 1})
    assert (early.predict(X) == one.fit(X, targets(model)).predict(X)).all()
    assert (pickle.loads(pickle.dumps(early)).predict(X) == early.predict(X)).all()


def test_a_callback_ends_the_fit(model):
    record = Record(stop_after=1)
    model.set_callbacks(record).fit(X, targets(model))
    assert model.n_iter_ == 2
    assert record.events == whole(2)
    assert model.net_.history.stopped == "a callback of scikit-learn ended it"


def test_the_parameter_takes_both_kinds(model):
    record, seen = Record(), []
    model.set_params(callbacks=[record, lambda training: seen.append(training.epoch), Callback()])
    model.fit(X, targets(model))
    assert seen == [1, 2, 3]
    assert record.events == whole(3)
    assert "_skl_callbacks" not in vars(model)
    other = Record()
    model.set_callbacks(other).set_params(callbacks=record).fit(X, targets(model))
    assert other.events == whole(3)
    assert record.events == 2 * whole(3)
    assert model._skl_callbacks == [other]


@pytest.mark.parametrize("where", ["setup", "begin", "end", "teardown"])
def test_an_error_of_a_callback_reaches_the_caller_and_ends_it(model, where):
    record = Record(fail_at=where)
    model.set_callbacks(record)
    with pytest.raises(RuntimeError, match=f"failed at {where}"):
        model.fit(X, targets(model))
    assert record.events[-1][0] == "teardown"
    assert not {"_tasks", "_callback_fit_ctx"} & set(vars(model))
    model.set_callbacks().fit(X, targets(model)).predict(X)


def test_an_invalid_fit_tells_them_nothing(model):
    record = Record()
    model.set_callbacks(record)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(X, targets(model)[:-1])
    assert not record.events
    assert not {"_tasks", "_callback_fit_ctx"} & set(vars(model))


def test_what_is_no_callback(model):
    with pytest.raises(TypeError, match="FitCallback protocol"):
        model.set_callbacks(print)
    with pytest.raises(TypeError, match="callbacks must hold"):
        model.set_params(callbacks=[3]).fit(X, targets(model))


def test_time_alone_limits_a_fit():
    record = Record()
    model = SequentialClassifier(build, epochs=None, seconds=0.02, random_state=0)
    model.set_callbacks(record).fit(X, Y)
    assert record.events == whole(model.n_iter_, most=None)


def test_lbfgs_and_warm_starts():
    record = Record()
    model = MLPClassifier(hidden_layer_sizes=(3,), solver="lbfgs", max_iter=4, random_state=0)
    model.set_callbacks(record).fit(X, Y)
    assert record.events == whole(model.n_iter_, most=4)
    warm = SequentialClassifier(build, epochs=3, warm_start=True).set_callbacks(Record())
    warm.fit(X, Y).fit(X, Y)
    assert warm._skl_callbacks[0].events == 2 * whole(3)
    assert warm.partial_fit(X, Y).n_iter_ == 7
    assert len(warm._skl_callbacks[0].events) == 2 * len(whole(3))


def test_searches_and_pipelines_hand_callbacks_on(model):
    record = Followed()
    name = type(model).__name__.lower()
    pipeline = make_pipeline(StandardScaler(), model)
    search = GridSearchCV(pipeline, {f"{name}__random_state": [0, 1]}, cv=2)
    search.set_callbacks(record).fit(X, targets(model))
    begun = [event for event in record.events if event[:2] == ("begin", "epoch")]
    ended = [event for event in record.events if event[:2] == ("end", "epoch")]
    assert len(begun) == len(ended) == 3 * (2 * 2 + 1)
    assert sum(event[0] in ("setup", "teardown") for event in record.events) == 2


def test_the_progress_bar(model, monkeypatch):
    pytest.importorskip("rich")
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    model.set_callbacks(callback.ProgressBar()).fit(X, targets(model))
    assert f"{type(model).__name__} - fit" in shown.getvalue()
    assert "100%" in shown.getvalue()
    shown.truncate(0)
    model.set_callbacks().set_params(callbacks=callback.ProgressBar()).fit(X, targets(model))
    assert "100%" in shown.getvalue()


def test_the_scoring_monitor(model):
    scoring = "accuracy" if is_classifier(model) else "r2"
    monitor = callback.ScoringMonitor(scoring=scoring)
    model.set_callbacks(monitor).fit(X, targets(model))
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows].count("epoch") == 3
    last = next(row for row in rows if row["task_name"] == "fit")
    assert last[scoring] == pytest.approx(model.score(X, targets(model)))


def test_without_the_protocol(monkeypatch):
    """scikit-learn < 1.9: the parameter takes fastnn's callbacks, and nothing else happens."""
    monkeypatch.setattr(fit_callbacks, "FitCallback", None)
    with pytest.raises(TypeError, match=r"callbacks must hold objects of fastnn\.Callback"):
        SequentialClassifier(build, callbacks=Record()).fit(X, Y)
    assert SequentialClassifier(build, epochs=1, callbacks=Callback()).fit(X, Y).n_iter_ == 1
