"""Names of other libraries, the meaning of Xavier's rule in new and old files, and the reprs."""

import json

import numpy as np
import pytest

import fastnn
from fastnn import (
    Activation,
    BatchNorm,
    Dense,
    Embedding,
    Maxout,
    PReLU,
    Sequential,
    activations,
    files,
    initializers,
    losses,
    metrics,
    names,
    optimizers,
)  # fmt: skip
from fastnn.initializers import Normal, VarianceScaling, xavier_normal

SAME = [
    (activations, "swish", "silu"), (activations, "linear", "identity"),
    (activations, "logistic", "sigmoid"), (activations, "ReLU", "relu"),
    (activations, "LeakyReLU", "leaky_relu"), (activations, "SiLU", "silu"),
    (activations, "Leaky-Relu", "leaky_relu"), (activations, "None", "identity"),
    (initializers, "glorot_normal", "xavier_normal"),
    (initializers, "GlorotUniform", "xavier_uniform"),
    (initializers, "kaiming_normal_", "he_normal"), (initializers, "HeUniform", "he_uniform"),
    (losses, "sparse_categorical_crossentropy", "cross_entropy"),
    (losses, "categorical_crossentropy", "cross_entropy"),
    (losses, "CrossEntropyLoss", "cross_entropy"),
    (losses, "binary_crossentropy", "binary_cross_entropy"),
    (losses, "BCEWithLogitsLoss", "binary_cross_entropy"), (losses, "MSE", "mse"),
    (losses, "mean_squared_error", "mse"), (losses, "mean_absolute_error", "mae"),
    (losses, "L1Loss", "mae"), (losses, "SmoothL1Loss", "huber"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "name", "ours"), SAME)
def test_a_name_that_means_the_same_is_taken(module, name, ours):
    assert module.get(name) == module.get(ours)


@pytest.mark.parametrize("name", ["RMSprop", "rms_prop", "L-BFGS", "AdamW", "SGD"])
def test_spellings_of_optimizers(name):
    assert type(optimizers.get(name)).__name__.lower() == name.lower().translate(
        str.maketrans("", "", "_-")
    )


def test_every_name_in_the_table_leads_to_one_that_is_known():
    known = {
        "activation": activations._BY_NAME, "initialiser": initializers._BY_NAME,
        "loss": losses._BY_NAME, "optimizer": optimizers._BY_NAME, "metric": metrics._BY_NAME,
    }  # fmt: skip
    for kind, table in names._SAME.items():
        assert set(table.values()) <= set(known[kind])
        assert not set(table) & {names._plain(name) for name in known[kind]}
        assert not set(table) & set(names._NEAR[kind])
        assert all(names._plain(name) == name for name in [*table, *names._NEAR[kind]])


NEAR = [
    (activations, "relu6", "unknown activation 'relu6': it is 'relu' limited to 6"),
    (activations, "hard_sigmoid", "approximates sigmoid"),
    (activations, "log_softmax", "'cross_entropy' contains log and softmax"),
    (activations, "PReLU", r"a layer: write PReLU\(\)"),
    (initializers, "random_normal", r"initializers.Normal\(0.05\)"),
    (initializers, "ones", "write 1.0"),
    (losses, "rmse", "the root of 'mse'"),
    (losses, "log_loss", "'binary_cross_entropy' for one output"),
    (losses, "nll", "'cross_entropy' contains the log-softmax"),
    (losses, "auto", "name a loss here"),
    (optimizers, "momentum", r"SGD\(0.01, momentum=0.9\)"),
    (optimizers, "Adamax", "the nearest is 'adam'"),
]


@pytest.mark.parametrize(("module", "name", "message"), NEAR)
def test_a_name_that_means_nearly_the_same_is_refused_with_the_difference(module, name, message):
    with pytest.raises(ValueError, match=message):
        module.get(name)


def test_metrics_of_other_libraries():
    X, y = np.array([[0.0], [1.0]] * 10), np.array([0, 1] * 10)
    net = Sequential([Dense(1)])
    history = net.fit(X, y, validation_data=(X, y), metrics=["acc", "AUC"], progress=False)
    assert {"val_accuracy", "val_roc_auc"} <= set(history)
    with pytest.raises(ValueError, match="'f1' counts precision and recall"):
        net.evaluate(X, y, metrics=["precision"])


def test_xavier_is_the_average_of_the_fans_and_auto_is_what_it_was():
    for name, mode in (("xavier_normal", "average"), ("glorot_uniform", "average")):
        rule = initializers.get(name)
        assert rule.values((100, 300), 0, 0).var() == pytest.approx(1 / 200, rel=0.03)
        assert rule.mode == mode
        assert rule() == rule
        assert rule("fan_in").values((100, 300), 0, 0).var() == pytest.approx(1 / 100, rel=0.03)
    auto = initializers.get("auto", activations.tanh)
    assert auto == xavier_normal(mode="fan_in") == VarianceScaling(1.0)


@pytest.mark.parametrize("name", ["xavier_normal", "xavier_uniform"])
def test_files_of_earlier_versions_keep_the_fan_in(name, tmp_path):
    net = Sequential([Dense(3, "tanh", init=name), Dense(1)], n_inputs=2)
    net.save(tmp_path / "new")
    again = fastnn.load(tmp_path / "new")
    assert initializers.get(again.layers[0].init) == initializers.get(name)
    assert repr(again) == repr(net) == repr(Sequential.from_config(net.config()))
    tensors, description = files.read(tmp_path / "new")
    description["layers"][0]["init"] = name  # as it was written when it meant the fan-in
    files.write(tmp_path / "old", tensors, description)
    old = fastnn.load(tmp_path / "old")
    assert old.layers[0].init == initializers.get(name)(mode="fan_in")
    config = json.loads(json.dumps({**net.config(), "layers": description["layers"]}))
    assert Sequential.from_config(config).layers[0].init.mode == "fan_in"
    old.save(tmp_path / "again")
    assert fastnn.load(tmp_path / "again").layers[0].init == old.layers[0].init


REPRS = [
    "Dense(5, 'relu', init='he_uniform', bias_init=0.1, l1=0.1, l2=0.2, max_norm=3.0)",
    "Dense(5, init=Normal(std=0.1), bias_init=Normal(std=0.01))",
    "Dense(5, init='xavier_normal')",
    "Dense(5, init='orthogonal')",
    "Dense(5)",
    "Maxout(3, pieces=4, init='he_normal', l2=0.1)",
    "Embedding({0: (3, 2)}, init=Normal(std=0.1))",
    "PReLU(0.1, shared=True)",
    "Activation(LeakyReLU(0.2))",
    "BatchNorm(momentum=0.5)",
]


@pytest.mark.parametrize("written", REPRS)
def test_a_layer_is_shown_as_it_is_written(written):
    names_of = (Activation, BatchNorm, Dense, Embedding, Maxout, PReLU, Normal)
    scope = {thing.__name__: thing for thing in names_of}
    layer = eval(written, scope | {"LeakyReLU": activations.LeakyReLU})
    assert repr(layer) == written


def test_defaults_that_are_written_in_another_way_are_not_shown():
    layer = Dense(5, init="auto", bias_init="zeros", l1=0.0)
    assert repr(layer) == repr(Dense(5, bias_init=initializers.zeros)) == "Dense(5)"
    assert repr(Dense(5, init="Glorot_Normal")) == "Dense(5, init='xavier_normal')"


def test_the_summary_shows_the_arguments_of_the_network(capsys):
    layers = [Dense(4, "relu", l2=0.01), Dense(1)]
    Sequential(layers, n_inputs=2, l2=0.1, input_scale=0.5).summary()
    shown = capsys.readouterr().out
    assert shown.startswith("inputs 2, float32, seed 0, l2 0.1, input_scale 0.5\n")
    assert "Dense(4, 'relu', l2=0.01)" in shown
