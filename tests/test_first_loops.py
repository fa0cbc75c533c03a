"""Training loops of one's own: steps of an optimizer, and targets that a network is told."""

import numpy as np
import pytest

import fastnn
from fastnn import (
    LBFGS,
    SGD,
    Adam,
    AdamW,
    Dense,
    Dropout,
    Muon,
    RMSprop,
    Sequential,
    errors,
    schedules,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = (X[:, 0] > X[:, 1]).astype(int)


def network(**options):
    layers = [Dense(6, "relu", max_norm=2.0, l2=0.01), Dropout(0.2), Dense(5, "tanh"), Dense(2)]
    return Sequential(layers, n_inputs=3, seed=1, **options)


OPTIMIZERS = [
    SGD(0.1), SGD(0.1, momentum=0.9, nesterov=True), Adam(0.01, clip_norm=0.5),
    AdamW(0.01, weight_decay=0.1, lr_factors={"0": 0.1}), RMSprop(0.01, clip_value=0.1),
    Adam(schedules.Exponential(0.01, rate=0.9)), Muon(0.02),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_loop_of_steps_is_a_fit(engine, optimizer, dtype):
    fitted = network(dtype=dtype)
    fitted.fit(X, Y, optimizer=optimizer, epochs=7, batch_size=None, shuffle=False, progress=False)
    net = network(dtype=dtype).set_targets(Y)
    for i in range(5):
        _, gradient = net.loss_and_grad(X, Y, step=i)
        net.step(gradient, optimizer=optimizer)
    state = net.training_state
    assert (state.step, state.total_steps) == (5, 5)
    # A fit goes on where the steps ended, and steps where a fit ended.
    net.fit(X, Y, optimizer=optimizer, epochs=1, batch_size=None, shuffle=False, progress=False)
    _, gradient = net.loss_and_grad(X, Y, step=6)
    net.step(gradient, optimizer=optimizer)
    np.testing.assert_array_equal(net.flat_params, fitted.flat_params)
    np.testing.assert_array_equal(net.predict_proba(X), fitted.predict_proba(X))
    assert net.evaluate(X, Y) == fitted.evaluate(X, Y)


def test_a_step_freezes_and_leaves_what_is_given_as_it_is(engine):
    net = network()
    before, gradient = net.state_dict(), np.ones(net.flat_params.size)
    net.step(gradient, optimizer="sgd", freeze=[0])
    after = net.state_dict()
    assert (gradient == 1).all()
    for name in before:
        assert (before[name] == after[name]).all() == name.startswith("0.")


@pytest.mark.parametrize("loss", ["auto", "cross_entropy", "mse"])
def test_a_network_that_is_told_its_targets_predicts_evaluates_and_is_saved(loss, tmp_path):
    labels = np.array(["b", "a"])[Y]
    fitted = network()
    fitted.fit(X, labels, loss=loss, epochs=2, progress=False)
    net = network()
    net.flat_params = fitted.flat_params
    with pytest.raises(errors.NotFittedError, match="set_targets"):
        net.evaluate(X, labels)
    assert net.set_targets(labels[:5], loss=loss, classes=["a", "b"]) is net
    np.testing.assert_array_equal(net.predict(X), fitted.predict(X))
    assert net.evaluate(X, labels) == fitted.evaluate(X, labels)
    assert net.classes_.tolist() == ["a", "b"]
    net.save(tmp_path / "net")
    np.testing.assert_array_equal(fastnn.load(tmp_path / "net").predict(X), fitted.predict(X))


def test_targets_can_be_told_before_the_number_of_features_and_anew():
    net = Sequential([Dense(1)]).set_targets(["x", "y"])
    net.fit(X, np.array(["x", "y"])[Y], epochs=1, progress=False)
    assert net.classes_.tolist() == ["x", "y"]
    net.set_targets([0.5, 1.5])
    assert net.classes_ is None
    assert net.predict(X).dtype == np.float32


BAD = {
    "three classes": (ValueError, "3 classes", lambda net: net.set_targets(["a", "b", "c"])),
    "a name": (TypeError, "y is 'target'", lambda net: net.set_targets("target")),
    "a number": (errors.ShapeError, "one or two dimensions", lambda net: net.set_targets(3)),
    "a label that is no class": (ValueError, "label 'c'",
                                 lambda net: net.set_targets(["a", "c"], classes=["a", "b"])),
    "a loss": (ValueError, "unknown loss", lambda net: net.set_targets(Y, loss="luck")),
    "probabilities": (ValueError, r"\[0, 1\]",
                      lambda net: net.set_targets([[3, -2]], loss="cross_entropy")),
    "a short gradient": (errors.ShapeError, "shape .* of flat_params",
                         lambda net: net.step(np.ones(3))),
    "a gradient of NaN": (ValueError, "gradient.* is nan",
                          lambda net: net.step(np.full(net.flat_params.size, np.nan))),
    "LBFGS": (ValueError, "evaluates the loss several times",
              lambda net: net.step(net.flat_params, optimizer=LBFGS())),
    "a schedule of a fit": (ValueError, "steps|fit",
                            lambda net: net.step(net.flat_params, SGD(schedules.Cosine(0.1)))),
    "an optimizer": (ValueError, "unknown optimizer",
                     lambda net: net.step(net.flat_params, "luck")),
    "no features": (errors.NotFittedError, "n_inputs",
                    lambda net: Sequential([Dense(1)]).step([1.0])),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_changes_nothing(name):
    kind, message, act = BAD[name]
    net = network().set_targets(Y)
    before = net.flat_params.copy(), net.classes_.tolist()
    with pytest.raises(kind, match=message):
        act(net)
    assert (net.flat_params == before[0]).all()
    assert net.classes_.tolist() == before[1]
    assert net.training_state is None


def test_a_step_that_diverges_keeps_the_parameters(engine):
    net = network().set_targets(Y)
    _, gradient = net.loss_and_grad(X, Y)
    net.step(gradient, SGD(0.1))
    before = net.flat_params.copy()
    with pytest.raises(errors.DivergedError, match="learning rate 1e"):
        net.step(np.full(before.size, 1e30), SGD(1e30))
    np.testing.assert_array_equal(net.flat_params, before)
    net.step(gradient, SGD(0.1))
    assert np.isfinite(net.flat_params).all()


def test_a_step_ends_a_fit_that_waits_and_is_refused_inside_one():
    net = network()
    epochs = net.epochs(X, Y, epochs=3, progress=False)
    next(epochs)
    net.step(np.ones(net.flat_params.size), Adam())
    with pytest.raises(RuntimeError, match="another fit"):
        next(epochs)

    def callback(training):
        training.net.step(np.ones(net.flat_params.size))

    with pytest.raises(RuntimeError, match="being trained"):
        net.fit(X, Y, epochs=1, callbacks=callback, progress=False)
