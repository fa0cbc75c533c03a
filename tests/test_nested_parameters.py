"""Parameters within parameters: in get_params and set_params, and in grids."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from fastnn import (
    SGD,
    Adam,
    Dense,
    Dropout,
    MLPClassifier,
    Muon,
    Residual,
    SequentialClassifier,
    losses,
    schedules,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 4)).astype(np.float32)
Y3 = np.array(["low", "mid", "top"])[np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])]

LAYERS = [Dense(6, "tanh"), Dense(3)]


def build(n_inputs, n_outputs, width=6, activation="tanh"):
    return [Dense(width, activation), Dense(n_outputs)]


def classifier(**parameters):
    return SequentialClassifier(**{"layers": LAYERS, "epochs": 2, "random_state": 0} | parameters)


def test_arguments_of_parameters():
    one = classifier(
        optimizer="adam", schedule=schedules.Warmup(schedules.Cosine(), 5), early_stopping=3
    )
    shown = one.get_params()
    assert shown["optimizer__lr"] == 0.001
    assert shown["early_stopping__patience"] == 3
    assert shown["layers__0__units"] == 6
    assert shown["schedule__inner__end"] == 0.0
    one.set_params(
        optimizer__lr=0.5, schedule__inner__end=0.25, early_stopping__metric="loss",
        layers__0__units=9, layers__1=Dense(4), loss=losses.Focal(), loss__gamma=3.0,
    )  # fmt: skip
    assert one.optimizer == Adam(0.5)
    assert (one.schedule.inner.end, one.early_stopping.metric) == (0.25, "loss")
    assert (one.layers[0].units, one.layers[1].units, one.loss.gamma) == (9, 4, 3.0)
    assert LAYERS[0].units == 6
    one.set_params(optimizer="sgd", optimizer__momentum=0.9, optimizer__nesterov=True)
    assert one.optimizer == SGD(momentum=0.9, nesterov=True)
    assert clone(one).get_params()["optimizer__momentum"] == 0.9


def test_arguments_of_a_function_that_returns_layers():
    one = classifier(layers=build).set_params(layers__width=8)
    assert one.fit(X, Y3).net_.layers[0].units == 8
    one.set_params(layers__activation="relu")
    assert repr(one.fit(X, Y3).net_.layers) == "[Dense(8, 'relu'), Dense(3)]"
    assert one.get_params()["layers__width"] == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("depth", r"Invalid parameter 'depth' for estimator SequentialClassifier\("),
        ("depth__of", "Invalid parameter 'depth__of' for estimator"),
        ("optimizer__rate", r"Invalid parameter 'rate' for optimizer=Adam\(.*'lr'"),
        ("schedule__end", "schedule=None, which has no parameters"),
        ("layers__7__units", r"Invalid parameter '7' for layers=\[Dense"),
        ("layers__0__activation__slope", "layers__0__activation=tanh, which has no parameters"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        classifier().set_params(**{name: 1})


def test_a_grid_of_nested_parameters():
    grid = {"optimizer__lr": [1e-6, 0.05], "layers__width": [2, 12], "schedule__end": [0.1]}
    model = classifier(layers=build, epochs=15, schedule=schedules.Cosine())
    search = GridSearchCV(model, grid, cv=2).fit(X, Y3)
    assert search.best_params_["optimizer__lr"] == 0.05
    assert search.best_score_ > 0.7
    assert len(search.cv_results_["params"]) == 4


def test_arguments_of_arguments():
    layers = [Dense(4, "relu"), Residual([Dense(4), Dropout(0.1)]), Dense(3)]
    one = classifier(layers=layers, optimizer=Muon()).set_params(
        layers__1__layers__1__rate=0.5, optimizer__adamw__lr=0.25, optimizer__lr=0.5
    )
    assert one.layers[1].layers[1].rate == 0.5
    assert layers[1].layers[1].rate == 0.1
    assert (one.optimizer.lr, one.optimizer.adamw.lr) == (0.5, 0.25)
    assert not [name for name in one.get_params() if name.endswith("__code")]


def test_invalid_values_are_refused_at_once_or_by_fit():
    with pytest.raises(ValueError, match="lr must be"):
        classifier().set_params(optimizer__lr=-1)
    one = classifier().set_params(optimizer="no such", loss=3, early_stopping="x", ema=[])
    assert one.get_params()["optimizer"] == "no such"
    with pytest.raises(ValueError, match="no such"):
        one.set_params(optimizer__lr=1)
    with pytest.raises(TypeError, match="loss must be"):
        one.fit(X, Y3)


def test_averages_and_numbers_stand_for_objects():
    one = classifier(ema=0.9, layers=build)
    assert one.get_params()["ema__decay"] == 0.9
    assert one.set_params(ema__decay=0.5).fit(X, Y3).ema.decay == 0.5


def test_a_perceptron_has_them_too():
    one = MLPClassifier((5,), optimizer="sgd", early_stopping=True)
    one.set_params(optimizer__lr=0.25, optimizer__momentum=0.5, hidden_layer_sizes=(3, 2))
    assert one.optimizer == SGD(0.25, 0.5)
    assert one.get_params()["optimizer__lr"] == 0.25
    assert "hidden_layer_sizes__0" not in one.get_params()
    assert MLPClassifier().get_params()["loss"] == MLPClassifier().loss
