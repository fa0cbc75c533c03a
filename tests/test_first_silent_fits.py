"""Fits that cannot do what is meant say so, once; files that keep the state of training."""

import json
import warnings

import numpy as np
import pytest
from hostile import drop, put, refusal
from safetensors import safe_open

import fastnn
from fastnn import (
    EMA,
    LBFGS,
    SGD,
    SWA,
    Activation,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    Lion,
    Muon,
    Residual,
    RMSprop,
    Sequential,
    data,
    files,
    schedules,
    train_many,
)  # fmt: skip
from fastnn.errors import FitWarning, ModelFileError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
VALUES = X @ [1.0, -2.0, 0.5]
Y = (VALUES > 0).astype(int)


def told(*layers, X=X, y=Y, **options):
    """The messages of a fit, each of which points at the line of the fit."""
    net = Sequential(list(layers))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.fit(X, y, **{"epochs": 2, "progress": False, **options})
        net.fit(X, y, **{"epochs": 1, "progress": False, **options})  # which is silent
    assert all(each.category is FitWarning for each in caught)
    assert all(each.filename == __file__ for each in caught)
    return [str(each.message) for each in caught]


# -- a gradient of zero -----------------------------------------------------------------------

STEPS = {
    "every layer": [Dense(4, "step"), Dense(1, "step")],
    "layer 0": [Dense(4, "step"), Dense(1)],
    "the layers 0 to 1": [Dense(4), Dense(4), Activation("step"), Dense(1)],
}


@pytest.mark.parametrize("which", STEPS)
def test_layers_below_a_step_are_named(engine, which):
    (message,) = told(*STEPS[which], loss="mse")
    assert message.startswith(f"the gradient of {which} is zero everywhere")
    assert "'relu'" in message


def test_a_step_beside_a_residual_or_above_frozen_layers_is_no_mistake(engine):
    assert told(Dense(3), Residual([Dense(3, "step")]), Dense(1)) == []
    assert told(Dense(3), Activation("step"), Dense(1), freeze=[0]) == []


@pytest.mark.parametrize("epochs", [1, 30])
def test_a_network_that_stays_as_it_is_is_noticed(engine, epochs):
    dead = [Dense(4, "relu", bias_init=-1e3), Dense(1, "relu", bias_init=-1.0)]
    (message,) = told(*dead, loss="mse", epochs=epochs)
    assert message.startswith("no parameter has changed in the first epoch")
    slow = Dense(1, init=fastnn.initializers.Constant(9.0), bias_init=9.0)
    assert len(told(slow, optimizer=SGD(1e-9), epochs=epochs)) == 1
    assert told(slow, optimizer=SGD(1e-5), epochs=epochs) == []
    assert told(slow, optimizer=SGD(1e-30), epochs=epochs) == []  # on purpose


def test_a_network_that_has_nothing_to_learn_is_no_mistake(engine):
    assert told(Dense(1, init="zeros"), y=np.zeros(60), loss="mse") == []
    assert told(Dense(1), schedule=[0.0] * 99, epochs=2) == []


# -- scales -----------------------------------------------------------------------------------


def digits(**options):
    images, labels = data.load_digits()
    return {"X": images, "y": labels, "layers": [Dense(10)], **options}


def one_hot():
    return np.eye(50)[RNG.integers(0, 50, 500)]


SENSIBLE = {
    "digits": digits(),
    "digits in floats": digits(X=data.load_digits()[0] / 16),
    "pixels that are rarely set": {
        "X": (RNG.random((500, 40)) < np.linspace(0.002, 1, 40)) * RNG.integers(0, 256, (500, 40)),
        "y": RNG.integers(0, 2, 500),
    },
    "a standardised table": {"X": RNG.standard_t(3, (500, 9)), "y": RNG.integers(0, 2, 500)},
    "one-hot columns": {"X": one_hot(), "y": RNG.integers(0, 2, 500)},
    "binary beside numbers": {
        "X": np.column_stack([one_hot(), RNG.normal(size=(500, 2))]), "y": RNG.integers(0, 2, 500),
    },
    "a constant column": {"X": np.column_stack([X, np.full(60, 1e6)])},
    "percent and years of age": {"X": X * [100, 30, 0.5]},
    "one feature": {"X": X[:, :1] * 500, "y": VALUES},
    "targets of some hundreds": {"y": VALUES * 100 + 150},
    "counts": {"y": RNG.poisson(5000, 60), "loss": "poisson"},
    "BatchNorm": {"X": X * [1, 1e5, 1e-4], "layers": [BatchNorm(), Dense(1)]},
    "bytes that are scaled": {"X": RNG.integers(0, 256, (60, 3)).astype(np.uint8)},
    "targets with a bias": {"y": VALUES + 1e5, "layers": [Dense(1, bias_init=1e5)]},
    "targets of LBFGS": {"y": VALUES * 1e4, "optimizer": LBFGS()},
}  # fmt: skip


@pytest.mark.parametrize("name", SENSIBLE)
def test_sensible_data_say_nothing(name):
    given = dict(SENSIBLE[name])
    assert told(*given.pop("layers", [Dense(1)]), **given) == []


RAW = {
    "age and income": X * [20, 4e4, 1] + [40, 5e4, 0],
    "five orders": X * [1, 1e5, 1],
    "tiny": X * [1, 1e-6, 1],
    "integers": (X * [1, 1e5, 10]).astype(int),
}


@pytest.mark.parametrize("name", RAW)
def test_columns_of_very_different_scales_are_named(name):
    (message,) = told(Dense(1), X=RAW[name], optimizer=Adam(1e-6))
    assert message.startswith("the columns of X differ much in scale: column ")
    assert "standardise" in message
    assert "begin the network with Standardize()" in message


def test_numbers_that_are_all_large_are_noticed():
    (message,) = told(Dense(1), X=X * 1e4, optimizer=Adam(1e-6))
    assert message.startswith("the numbers of X reach ")
    assert "standardise" in message
    assert Sequential([Dense(1)], input_scale=1e-4).fit(X * 1e4, Y, progress=False).n_epochs == 10


def test_real_tables_are_noticed():
    datasets = pytest.importorskip("sklearn.datasets")
    for load, raw in (("wine", 1), ("breast_cancer", 1), ("iris", 0), ("diabetes", 0)):
        X, y = getattr(datasets, f"load_{load}")(return_X_y=True)
        assert len(told(Dense(3 if load in ("wine", "iris") else 1), X=X, y=y)) == raw, load


@pytest.mark.parametrize("y", [VALUES * 1e5, VALUES + 1e4, VALUES[:, None] * [1e6]])
def test_targets_of_a_huge_scale_are_noticed(y):
    (message,) = told(Dense(1), y=y)
    assert message.startswith("the targets y are about ")
    assert "(y - y.mean()) / y.std()" in message


def test_every_way_to_fit_warns_at_the_line_of_the_user():
    raw = X * [1, 1e6, 1]
    specs = [{"layers": [Dense(1)], "epochs": 1, "seed": seed} for seed in (0, 1)]
    ways = (
        lambda: Sequential([Dense(1)]).partial_fit(raw, Y),
        lambda: list(Sequential([Dense(1)]).epochs(raw, Y, epochs=1, progress=False)),
        lambda: Sequential([Dense(1)]).fit([(raw, Y)], epochs=1, progress=False),
        lambda: train_many(specs, raw, Y, progress=False),
    )
    for way in ways:
        with pytest.warns(FitWarning, match="differ much in scale") as caught:
            way()
        assert [each.filename for each in caught] == [__file__]


def test_an_estimator_warns_at_the_line_of_the_user():
    pytest.importorskip("sklearn")
    with pytest.warns(FitWarning, match="differ much in scale") as caught:
        fastnn.SequentialClassifier([Dense(2)], epochs=1).fit(X * [1, 1e6, 1], Y)
    assert [each.filename for each in caught] == [__file__]


def test_a_warning_that_is_an_error_leaves_the_network_unchanged():
    net = Sequential([Dense(1)], n_inputs=3)
    before = net.flat_params.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FitWarning):
            net.fit(X * [1, 1e6, 1], Y, progress=False)
    np.testing.assert_array_equal(net.flat_params, before)
    assert net.history is None
    with pytest.warns(FitWarning):
        net.fit(X * [1, 1e6, 1], Y, epochs=1, progress=False)


# -- files ------------------------------------------------------------------------------------


def deep():
    return Sequential([Dense(6, "relu"), BatchNorm(), Dropout(0.2), Dense(6, "tanh"), Dense(2)])


FITS = {
    "adam": {"optimizer": Adam(0.01)},
    "amsgrad": {"optimizer": Adam(0.01, amsgrad=True)},
    "sgd": {"optimizer": SGD(0.1)},
    "nesterov": {"optimizer": SGD(0.1, momentum=0.9, nesterov=True), "batch_size": 7},
    "muon": {"optimizer": Muon(every=2, adamw=AdamW(schedules.TimeDecay(decay=0.1)))},
    "a scheduled rate": {"optimizer": Adam(schedules.StepDecay(factor=0.5, every=3))},
    "factors": {"optimizer": AdamW(lr_factors={"0": 0.5}, decay_factors={"3.W": 2.0})},
    "an average": {"optimizer": Lion(), "ema": EMA(0.9)},
    "an average of epochs": {"optimizer": Lion(), "swa": SWA(1, keep="last")},
    "a schedule": {"schedule": schedules.Sequence([(schedules.TimeDecay(decay=0.1), None)])},
    "a schedule of the fit": {"optimizer": RMSprop(), "schedule": schedules.Cosine()},
    "a plateau": {"schedule": schedules.ReduceOnPlateau(patience=0, factor=0.5, metric="loss")},
    "steps": {"steps": 3, "epochs": None},
}


@pytest.mark.parametrize("name", FITS)
def test_fits_around_a_file_are_one(tmp_path, engine, name):
    arguments = {"epochs": 3, "progress": False, **FITS[name]}
    net = deep()
    net.fit(X, Y, **arguments)
    net.save(tmp_path / "m", training=True)
    back = fastnn.load(tmp_path / "m")
    for each in (net, back):
        each.fit(X, Y, **arguments)
        each.partial_fit(X, Y)
    for name_of, array in net.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name_of], array)
    ours, theirs = net.training_state, back.training_state
    np.testing.assert_array_equal(ours.slots, theirs.slots)
    assert (ours.step, ours.total_steps, ours.epoch) == (
        theirs.step, theirs.total_steps, theirs.epoch
    )  # fmt: skip
    assert ours.optimizer == theirs.optimizer


def test_a_schedule_that_began_later_goes_on_after_a_file(tmp_path):
    net = deep()
    net.fit(X, Y, optimizer=Adam(0.1), epochs=1, progress=False)
    arguments = {"optimizer": Adam(schedules.TimeDecay(decay=0.1)), "epochs": 2, "progress": False}
    net.fit(X, Y, **arguments)
    net.save(tmp_path / "m", training=True)
    back = fastnn.load(tmp_path / "m")
    for each in (net, back):
        each.fit(X, Y, **arguments)
    assert back.history["lr"] == net.history["lr"]
    np.testing.assert_array_equal(back.flat_params, net.flat_params)


def test_a_load_without_the_state_says_so_at_the_next_fit_once(tmp_path):
    net = deep()
    net.fit(X, Y, epochs=1, progress=False)
    net.save(tmp_path / "m")
    back = fastnn.load(tmp_path / "m")
    back.predict(X)
    with pytest.warns(FitWarning, match=r"no state of its training.*training=True") as caught:
        back.fit(X, Y, epochs=1, progress=False)
    assert [each.filename for each in caught] == [__file__]
    back.fit(X, Y, epochs=1, progress=False)
    net.save(tmp_path / "m", training=True)
    fastnn.load(tmp_path / "m").fit(X, Y, epochs=1, progress=False)


def test_a_network_that_was_never_fitted_has_no_state_to_miss(tmp_path):
    net = Sequential([Dense(2)], n_inputs=3)
    for training in (False, True):
        net.save(tmp_path / "m", training=training)
        back = fastnn.load(tmp_path / "m")
        assert back.training_state is None
        back.fit(X, Y, epochs=1, progress=False)


def test_a_schedule_that_is_a_function_cannot_be_written(tmp_path):
    net = deep()
    net.fit(X, Y, schedule=lambda step: 0.5, epochs=1, progress=False)
    with pytest.raises(TypeError, match="cannot be written to a file"):
        net.save(tmp_path / "m", training=True)
    net.save(tmp_path / "m")
    with pytest.raises(TypeError, match="training must be True or False"):
        net.save(tmp_path / "m", training="all")


def test_files_without_a_state_and_names_are_of_the_first_format(tmp_path):
    net = deep()
    net.fit(X, Y, epochs=1, progress=False)
    for training, version in ((False, 1), (True, 2)):
        net.save(tmp_path / "m", training=training)
        with safe_open(tmp_path / "m", framework="numpy") as file:
            assert json.loads(file.metadata()["fastnn"])["format"] == version


DAMAGE = {
    "no optimizer": put("training", "optimizer", to=None),
    "an unknown optimizer": put("training", "optimizer", "name", to="os.system"),
    "another optimizer": put("training", "optimizer", "name", to="SGD"),
    "a rate below 0": put("training", "optimizer", "lr", to=-1),
    "a rate that is a list": put("training", "optimizer", "lr", to=[1]),
    "a rate that is an object": put("training", "optimizer", "lr", to={"a": 1}),
    "an unknown schedule": put("training", "optimizer", "lr", to={"schedule": "eval"}),
    "a counter below 0": put("training", "counters", "step", to=-1),
    "a counter of text": put("training", "counters", "epoch", to="1"),
    "more steps than in all": put("training", "counters", "step", to=999),
    "a late schedule": put("training", "counters", "schedule_step", to=999),
    "an average below 0": put("training", "average", "first", to=-1),
    "an unknown average": put("training", "average", "rule", "name", to="Mean"),
    "no average": put("training", "average", to=None),
    "an early schedule": put("training", "progress", "step", to=10**6),
    "no state": put("training", to=None),
    "an unknown key": put("training", "more", to=1),
    "no slots": lambda tensors, about: tensors.pop("training.slots"),
    "slots of another shape": lambda tensors, about: tensors.update(
        {"training.slots": np.zeros((1, 2), np.float32)}
    ),
    "another tensor": lambda tensors, about: tensors.update(
        {"training.more": np.zeros(3, np.float32)}
    ),
    "no counters": drop("training", "counters"),
    "an argument less": drop("training", "optimizer", "lr"),
    "names of another number": put("feature_names", to=["a"]),
    "names of numbers": put("feature_names", to=[1, 2, 3]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_to_a_state_of_training_is_refused(tmp_path, name):
    net = deep()
    net.fit(
        X, Y, optimizer=AdamW(schedules.TimeDecay(decay=0.1)), ema=0.9, epochs=2, progress=False,
        schedule=schedules.TimeDecay(decay=0.2),
    )  # fmt: skip
    net.save(tmp_path / "m", training=True)
    tensors, about = files.read(tmp_path / "m")
    DAMAGE[name](tensors, about)
    files.write(tmp_path / "m", tensors, about)
    refusal(tmp_path / "m", ModelFileError, lambda: fastnn.load(tmp_path / "m"))
