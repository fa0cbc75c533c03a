"""Untrusted model files: each loads as exactly what it says, or raises ModelFileError.

A damage is one change to a good file. FASTNN_DAMAGED_FILES is the number of random ones per test.
"""

import contextlib
import copy
import functools
import json
import os
import random
import struct
import warnings

import numpy as np
import pytest
from conftest import ENGINES, table
from hostile import NORMAL, damage, drop, put, refusal, tensor, with_element
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

import fastnn
from fastnn import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    GaussianNoise,
    GroupNorm,
    LayerNorm,
    Maxout,
    PReLU,
    Residual,
    Scale,
    Sequential,
    files,
    initializers,
    loading,
)
from fastnn.activations import ELU
from fastnn.errors import DivergedError, ModelFileError
from fastnn.losses import BinaryCrossEntropy, Quantile
from fastnn.schedules import Cosine, Cyclic, Linear, PerEpoch, Warmup
from fastnn.schedules import Sequence as InTurn

RANDOM_FILES = int(os.environ.get("FASTNN_DAMAGED_FILES", "300"))
X, Y = table(40)

#: The engine without bounds checks on its arrays, where there is one: it must find nothing amiss.
ENGINE = "c" if "c" in ENGINES else "numpy"


def networks():
    """Good networks by name: each kind of targets, and each kind of description."""
    elu, normal = ELU(0.5), initializers.Normal(0.3)
    names = np.array(["ant", "bee", "cat"])
    yield "labels", [Dense(5, elu, init=normal), Activation("tanh"), Dense(3)], names[Y], "auto"
    yield "integers", [Dense(3)], np.array([10, 20, 300])[Y], "auto"
    yield "floats", [Dense(3)], np.array([1.0, 2.0, 7.0])[Y], "cross_entropy"
    yield "bytes", [Dense(3)], np.array([b"x", b"y", b"\xff"])[Y], "mse"
    yield "objects", [Dense(3)], names.astype(object)[Y], "auto"
    inner = Residual([Dense(4, "relu"), PReLU(initializers.Constant(0.1), shared=True), Dense(2)])
    yield "residual", [Residual([inner, Activation("selu")]), PReLU(), Dense(1)], X[:, 0], "mse"
    rate = Linear(0.5, 0.25, 9)
    yield "dropout", [GaussianNoise(0.5), Dropout(rate), Dropout(0.5), Dense(3)], Y, "auto"
    in_turn = InTurn([(Linear(0.5, 0.25), 5), ([0.1, 0.2], 2), (PerEpoch(Cosine(0.5)), None)])
    cyclic = Warmup(Cyclic(0.1, peak=0.5, up=2, mode="triangular2"), 3)
    yield "scheduled", [Dropout(in_turn), Dense(4), Dropout(cyclic), Dense(3)], Y, "auto"
    uniform = initializers.VarianceScaling(1.0, uniform=True)
    yield "booleans", [Dense(1, init=uniform)], Y == 0, BinaryCrossEntropy(0.1)
    yield "one hot", [Dense(3)], np.eye(3)[Y], "auto"
    yield "multilabel", [Dense(2)], X[:, :2] > 0, "binary_cross_entropy"
    yield "values", [Dense(4, "relu"), Dense(1)], X[:, 0], "sse"
    yield "batch norm", [Dense(4), BatchNorm(0.5), Activation("relu"), Dense(3)], names[Y], "auto"
    inner = [GroupNorm(2, affine=False), Maxout(4, bias_init=0.1)]
    rows = [Scale(0.5, bias=True), Maxout(6, 3), LayerNorm(), Residual(inner), Dense(1)]
    yield "row layers", rows, X[:, 0], "mse"
    yield "untrained", [Dense(3)], None, None
    yield "quantiles", [Dense(4)], X[:, :2], Quantile([0.2, 0.8])


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Tensors and description of each good network."""
    path = tmp_path_factory.mktemp("good") / "m"
    found = {}
    with fastnn.use_engine("numpy"):
        for name, layers, y, loss in networks():
            net = Sequential(layers, n_inputs=X.shape[1], seed=2**63)
            if y is not None:
                net.fit(X, y, loss, epochs=1, progress=False)
            net.save(path)
            found[name] = contents(path)
    return found


def contents(path):
    """Tensors and description of a file, as safetensors and json read them."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["fastnn"])


def write(path, tensors, description):
    text = description if isinstance(description, str) else json.dumps(description)
    path.write_bytes(to_bytes(tensors, {"fastnn": text}))


def refused(path):
    """Loading raises ModelFileError with a readable message, and takes little memory."""
    return refusal(path, ModelFileError, lambda: fastnn.load(path))


def targets(**changes):
    return lambda tensors, about: about["target"].update(changes)


def loss(name, smoothing=0.0):
    return put("loss", to={"name": name, "label_smoothing": smoothing})


def nested(levels):
    """A layer within so many others."""
    config = {"layer": "Activation", "activation": "relu"}
    for _ in range(levels):
        config = {"layer": "Residual", "layers": [config]}
    return config


def warmed(inner, _):
    """A schedule behind a warm-up."""
    return {"schedule": "Warmup", "inner": inner, "steps": 1, "start_factor": None}


FIRST, INNER = ("layers", 0), ("layers", 0, "layers", 0)
GROUPED = ("layers", 3, "layers", 0)
IN_TURN, CYCLIC = ("layers", 0, "rate"), ("layers", 2, "rate")

#: Single damages: of which network, and what is changed.
DAMAGES = {
    # labels against outputs, order and type
    "one label more than outputs": ("labels", targets(classes=["ant", "bee", "cat", "dog"])),
    "a label too few": ("labels", targets(classes=["ant", "bee"])),
    "no labels": ("labels", targets(classes=[])),
    "a thousand labels": ("integers", targets(classes=list(range(1000)))),
    "three labels for one output": ("booleans", targets(classes=[0, 1, 2], classes_dtype="<i8")),
    "labels in another order": ("labels", targets(classes=["bee", "ant", "cat"])),
    "a label twice": ("labels", targets(classes=["ant", "bee", "bee"])),
    "booleans in another order": ("booleans", targets(classes=[True, False])),
    "a number among text": ("labels", targets(classes=["ant", 1, "cat"])),
    "a list among text": ("labels", targets(classes=["ant", ["bee"], "cat"])),
    "null among text": ("labels", targets(classes=["ant", None, "cat"])),
    "labels are text": ("labels", targets(classes="abc")),
    "labels are an object": ("labels", targets(classes={"0": "ant", "1": "bee", "2": "cat"})),
    "label longer than its type": ("labels", targets(classes=["ant", "bee", "cats"])),
    "label ends in a zero": ("labels", targets(classes=["ant", "bee", "c\0"])),
    "label of 20000 characters": (
        "labels", targets(classes=["ant", "bee", "c" * 20_000], classes_dtype="<U20000")),
    "label that bytes do not hold": ("bytes", targets(classes=["x", "y", "\u1234"])),
    "integer as float": ("integers", targets(classes=[10.0, 20.0, 300.0])),
    "integer as boolean": ("integers", targets(classes=[False, True, 2])),
    "integer beyond its type": ("integers", targets(classes=[1, 2, 300], classes_dtype="|i1")),
    "negative unsigned integer": ("integers", targets(classes=[-1, 2, 3], classes_dtype="<u8")),
    "float beyond its type": ("floats", targets(classes=[1.0, 2.0, 1e9], classes_dtype="<f2")),
    "float that its type rounds": ("floats", targets(classes=[0.1, 2.0, 3.0], classes_dtype="<f4")),
    "float as text": ("floats", targets(classes=["1.0", "2.0", "7.0"])),
    "objects of two kinds": ("objects", targets(classes=[1, "b", "c"])),
    "object that is null": ("objects", targets(classes=["a", "b", None])),
    "object that is a list": ("objects", targets(classes=[["a"], ["b"], ["c"]])),
    # the type of labels
    "label type that Python parses": ("labels", targets(classes_dtype="(,")),
    "label type of gigabytes": ("labels", targets(classes_dtype="<U500000000")),
    "label type far too wide": ("labels", targets(classes_dtype="<U99999")),
    "label type with fields": ("labels", targets(classes_dtype="i4,f4")),
    "label type of subarrays": ("integers", targets(classes_dtype="(1000,)<i8")),
    "label type of dates": ("integers", targets(classes_dtype="<M8[s]")),
    "label type complex": ("floats", targets(classes_dtype="<c16")),
    "label type void": ("bytes", targets(classes_dtype="|V8")),
    "label type of another name": ("integers", targets(classes_dtype="int64")),
    "label type without size": ("labels", targets(classes_dtype="<U0")),
    "label type another": ("labels", targets(classes_dtype="<i8")),
    "label type a number": ("labels", targets(classes_dtype=3)),
    "label type null": ("labels", targets(classes_dtype=None)),
    "label type a list": ("labels", targets(classes_dtype=[["a", "<i8"]])),
    # targets against loss and outputs
    "labels without classes": ("labels", targets(classes=None, classes_dtype=None)),
    "values with classes": ("values", targets(classes=[0, 1], classes_dtype="<i8")),
    "one hot with classes": ("one hot", targets(classes=[0, 1, 2], classes_dtype="<i8")),
    "values for a cross entropy": ("one hot", targets(kind="values")),
    "multilabel for cross entropy": ("one hot", targets(kind="multilabel")),
    "one hot for mse": ("values", targets(kind="one_hot")),
    "one hot for binary cross entropy": ("multilabel", targets(kind="one_hot")),
    "labels for mse of one output": (
        "values", targets(kind="labels", classes=[0, 1], classes_dtype="<i8")),
    "kind unknown": ("values", targets(kind="dates")),
    "kind a number": ("values", targets(kind=1)),
    "columns as a vector": ("one hot", targets(vector=True)),
    "vector a number": ("values", targets(vector=1)),
    "targets with another key": ("values", targets(colour="red")),
    "targets without vector": ("values", drop("target", "vector")),
    "targets without classes": ("labels", drop("target", "classes")),
    "targets gone": ("labels", drop("target")),
    "targets null": ("labels", put("target", to=None)),
    "targets a list": ("labels", put("target", to=[["kind", "labels"]])),
    "targets without loss": ("labels", put("loss", to=None)),
    # dropout, noise and schedules
    "rate one": ("dropout", put("layers", 2, "rate", to=1)),
    "rate text": ("dropout", put("layers", 2, "rate", to="0.5")),
    "rate true": ("dropout", put("layers", 2, "rate", to=True)),
    "rate a list": ("dropout", put("layers", 2, "rate", to=[0.5])),
    "rate null": ("dropout", put("layers", 2, "rate", to=None)),
    "rate gone": ("dropout", drop("layers", 2, "rate")),
    "rate an empty object": ("dropout", put("layers", 2, "rate", to={})),
    "rate a layer": ("dropout", put("layers", 2, "rate", to={"layer": "Dropout", "rate": 0.5})),
    "rate a function": ("dropout", put("layers", 2, "rate", to={"schedule": "Function"})),
    "rate a schedule of schedules": (
        "dropout", put("layers", 1, "rate", "start", to={"schedule": "Linear"})),
    "rate of another key": ("dropout", put("layers", 1, "rate", "colour", to="red")),
    "rate that leaves its range": ("dropout", put("layers", 1, "rate", "end", to=1.5)),
    "rate in no steps": ("dropout", put("layers", 1, "rate", "steps", to=0)),
    "rate in steps of text": ("dropout", put("layers", 1, "rate", "steps", to="9")),
    "rate without its end": ("dropout", drop("layers", 1, "rate", "end")),
    "rate of a schedule unknown": ("dropout", put("layers", 1, "rate", "schedule", to="Cubic")),
    "inner gone": ("scheduled", drop(*CYCLIC, "inner")),
    "inner null": ("scheduled", put(*CYCLIC, "inner", to=None)),
    "inner a list": ("scheduled", put(*CYCLIC, "inner", to=[])),
    "inner a number": ("scheduled", put(*CYCLIC, "inner", to=0.5)),
    "inner a layer": ("scheduled", put(*CYCLIC, "inner", to={"layer": "Dense", "units": 3})),
    "inner empty": ("scheduled", put(*CYCLIC, "inner", to={})),
    "inner a function": ("scheduled", put(*CYCLIC, "inner", "schedule", to="Function")),
    "inner a base": ("scheduled", put(*CYCLIC, "inner", "schedule", to="Formula")),
    "inner a held plateau": ("scheduled", put(*CYCLIC, "inner", "schedule", to="_Held")),
    "inner a plateau": (
        "scheduled", put(*CYCLIC, "inner", to={"schedule": "ReduceOnPlateau", "start": 0.5})),
    "inner of another class": ("scheduled", put(*CYCLIC, "inner", "schedule", to="Cosine")),
    "inner with another key": ("scheduled", put(*CYCLIC, "inner", "units", to=3)),
    "inner above one": ("scheduled", put(*CYCLIC, "inner", "peak", to=1.5)),
    "inner of another mode": ("scheduled", put(*CYCLIC, "inner", "mode", to="up")),
    "inner with a number as mode": ("scheduled", put(*CYCLIC, "inner", "mode", to=2)),
    "inner with down true": ("scheduled", put(*CYCLIC, "inner", "down", to=True)),
    "inner with up 0": ("scheduled", put(*CYCLIC, "inner", "up", to=0)),
    "inner with up a fraction": ("scheduled", put(*CYCLIC, "inner", "up", to=1.5)),
    "warm-up without steps": ("scheduled", put(*CYCLIC, "steps", to=None)),
    "warm-up from below": ("scheduled", put(*CYCLIC, "start_factor", to=-1)),
    "warm-up from text": ("scheduled", put(*CYCLIC, "start_factor", to="0")),
    "warm-ups too deep": (
        "scheduled", put(*CYCLIC, to=functools.reduce(warmed, range(90), {"schedule": "Cosine"}))),
    "parts gone": ("scheduled", drop(*IN_TURN, "parts")),
    "parts none": ("scheduled", put(*IN_TURN, "parts", to=[])),
    "parts an object": ("scheduled", put(*IN_TURN, "parts", to={})),
    "parts of numbers": ("scheduled", put(*IN_TURN, "parts", to=[1, 2])),
    "parts of lists": ("scheduled", put(*IN_TURN, "parts", to=[[{}, 2]])),
    "part without steps": ("scheduled", drop(*IN_TURN, "parts", 0, "steps")),
    "part of null steps": ("scheduled", put(*IN_TURN, "parts", 0, "steps", to=None)),
    "part of negative steps": ("scheduled", put(*IN_TURN, "parts", 0, "steps", to=-1)),
    "part of too many steps": ("scheduled", put(*IN_TURN, "parts", 1, "steps", to=3)),
    "part of nothing": ("scheduled", put(*IN_TURN, "parts", 0, "of", to=None)),
    "part with another key": ("scheduled", put(*IN_TURN, "parts", 0, "colour", to="red")),
    "part above one": ("scheduled", put(*IN_TURN, "parts", 0, "of", "start", to=7)),
    "part without its end": ("scheduled", drop(*IN_TURN, "parts", 0, "of", "end")),
    "values of text": ("scheduled", put(*IN_TURN, "parts", 1, "of", "numbers", to=["0.1"])),
    "values of truth": ("scheduled", put(*IN_TURN, "parts", 1, "of", "numbers", to=[True, 0.5])),
    "values of lists": ("scheduled", put(*IN_TURN, "parts", 1, "of", "numbers", to=[[0.1], []])),
    "values above one": ("scheduled", put(*IN_TURN, "parts", 1, "of", "numbers", to=[0.1, 1.5])),
    "values beyond floats": (
        "scheduled", put(*IN_TURN, "parts", 1, "of", "numbers", to=[0.1, 2**64 - 1, -(2**63)])),
    "values of a name": ("scheduled", put(*IN_TURN, "parts", 1, "of", "numbers", to="abc")),
    "values none": ("scheduled", put(*IN_TURN, "parts", 1, "of", "numbers", to=[])),
    "epochs of epochs": (
        "scheduled", put(*IN_TURN, "parts", 2, "of", "inner", to={
            "schedule": "PerEpoch", "inner": {"schedule": "CosLog4", "peak": 0.1, "steps": None}})),
    "schedule at test": ("dropout", put("layers", 1, "scale_at", to="test")),
    "scale at gone": ("dropout", drop("layers", 2, "scale_at")),
    "scale at another time": ("dropout", put("layers", 2, "scale_at", to="never")),
    "scale at a number": ("dropout", put("layers", 2, "scale_at", to=1)),
    "noise of negative size": ("dropout", put("layers", 0, "std", to=-1)),
    "noise gone": ("dropout", drop("layers", 0, "std")),
    "noise with a rate": ("dropout", put("layers", 0, "rate", to=0.5)),
    # residual layers and PReLU
    "branch empty": ("residual", put(*FIRST, "layers", to=[])),
    "branch gone": ("residual", drop(*FIRST, "layers")),
    "branch an object": ("residual", put(*FIRST, "layers", to={"layer": "Dense"})),
    "branch of names": ("residual", put(*FIRST, "layers", to=["relu"])),
    "branch with units": ("residual", put(*FIRST, "units", to=2)),
    "branch of Dense": ("residual", put(*FIRST, "layer", to="Dense")),
    "branch as wide as its input": ("residual", put(*INNER, "layers", 2, "units", to=7)),
    "branch of other widths": ("residual", put(*INNER, "layers", 0, "units", to=2**31 - 1)),
    "branch with another key": ("residual", put(*INNER, "layers", 0, "colour", to="red")),
    "branch incomplete": ("residual", drop(*INNER, "layers", 0, "l1")),
    "branch of a thousand on top": (
        "residual", lambda t, about: about["layers"].append(
            {"layer": "Residual", "layers": [nested(0)] * 1000})),
    "shared a number": ("residual", put(*INNER, "layers", 1, "shared", to=1)),
    "shared gone": ("residual", drop("layers", 1, "shared")),
    "slopes shared": ("residual", put("layers", 1, "shared", to=True)),
    "slopes not shared": ("residual", put(*INNER, "layers", 1, "shared", to=False)),
    "slopes by name": ("residual", put("layers", 1, "init", to="zeros")),
    "slopes transposed": ("residual", tensor("1.alpha", lambda array: array[:, None])),
    "slopes gone": ("residual", lambda tensors, about: tensors.pop("1.alpha")),
    "slopes infinite": ("residual", tensor("1.alpha", with_element(np.inf))),
    "projection gone": ("residual", lambda tensors, about: tensors.pop("0.projection.W")),
    # normalisations, maxout, scale
    "groups that do not divide": ("row layers", put(*GROUPED, "groups", to=4)),
    "groups of one column": ("row layers", put(*GROUPED, "groups", to=6)),
    "groups 0": ("row layers", put(*GROUPED, "groups", to=0)),
    "groups a float": ("row layers", put(*GROUPED, "groups", to=2.0)),
    "groups gone": ("row layers", drop(*GROUPED, "groups")),
    "epsilon 0": ("row layers", put("layers", 2, "epsilon", to=0.0)),
    "epsilon negative": ("row layers", put("layers", 2, "epsilon", to=-1e-5)),
    "epsilon text": ("row layers", put("layers", 2, "epsilon", to="1e-5")),
    "not affine": ("row layers", put("layers", 2, "affine", to=False)),
    "affine": ("row layers", put(*GROUPED, "affine", to=True)),
    "affine a number": ("row layers", put("layers", 2, "affine", to=1)),
    "gamma gone": ("row layers", lambda tensors, about: tensors.pop("2.gamma")),
    "gamma infinite": ("row layers", tensor("2.gamma", with_element(np.inf))),
    "pieces 1": ("row layers", put("layers", 1, "pieces", to=1)),
    "pieces 2": ("row layers", put("layers", 1, "pieces", to=2)),
    "pieces of a huge matrix": ("row layers", put("layers", 1, "pieces", to=2**31 - 1)),
    "pieces gone": ("row layers", drop("layers", 1, "pieces")),
    "scale without bias": ("row layers", put(*FIRST, "bias", to=False)),
    "scale's bias a number": ("row layers", put(*FIRST, "bias", to=1)),
    "scale by name": ("row layers", put(*FIRST, "init", to="zeros")),
    # loss
    "loss gone": ("labels", drop("loss")),
    "loss a name": ("labels", put("loss", to="cross_entropy")),
    "loss unknown": ("labels", loss("luck")),
    "loss null in name": ("labels", loss(None)),
    "loss auto": ("labels", loss("auto")),
    "cross entropy of one output": ("booleans", loss("cross_entropy")),
    "mse with smoothing": ("values", loss("mse", 0.1)),
    "smoothing 1": ("labels", loss("cross_entropy", 1.0)),
    "smoothing negative": ("labels", loss("cross_entropy", -0.1)),
    "smoothing a boolean": ("labels", loss("cross_entropy", False)),
    "smoothing text": ("labels", loss("cross_entropy", "0.1")),
    "smoothing gone": ("labels", drop("loss", "label_smoothing")),
    "loss with another key": ("labels", put("loss", "gamma", to=2.0)),
    "loss without a name": ("labels", drop("loss", "name")),
    "huber without delta": ("values", put("loss", to={"name": "huber"})),
    "huber with smoothing": ("values", loss("huber")),
    "delta 0": ("values", put("loss", to={"name": "huber", "delta": 0.0})),
    "delta a boolean": ("values", put("loss", to={"name": "huber", "delta": True})),
    "delta of mae": ("values", put("loss", to={"name": "mae", "delta": 1.0})),
    "gamma negative": ("labels", put("loss", to={"name": "focal", "gamma": -1.0})),
    "gamma text": ("labels", put("loss", to={"name": "focal", "gamma": "2"})),
    "no quantiles": ("values", put("loss", to={"name": "quantile", "q": []})),
    "quantiles that descend": ("values", put("loss", to={"name": "quantile", "q": [0.5, 0.4]})),
    "quantile 1": ("values", put("loss", to={"name": "quantile", "q": [1.0]})),
    "quantile a number": ("values", put("loss", to={"name": "quantile", "q": 0.5})),
    "quantile text": ("values", put("loss", to={"name": "quantile", "q": ["0.5"]})),
    "quantile a list": ("values", put("loss", to={"name": "quantile", "q": [[0.5]]})),
    "quantiles that do not divide": (
        "labels", put("loss", to={"name": "quantile", "q": [0.1, 0.9]})),
    "labels for mae": ("labels", loss("mae")),
    "labels for hinge of three outputs": ("labels", loss("hinge")),
    "multilabel for focal": ("multilabel", put("loss", to={"name": "focal", "gamma": 2.0})),
    "normal of an odd number": ("labels", loss("gaussian_nll")),
    "cross entropy after relu": ("labels", put("layers", 2, "activation", to="relu")),
    # the network
    "layers gone": ("labels", drop("layers")),
    "layers a number": ("labels", put("layers", to=3)),
    "layers an object": ("labels", put("layers", to={"0": {}})),
    "no layers": ("labels", put("layers", to=[])),
    "layer null": ("labels", put(*FIRST, to=None)),
    "layer a list of pairs": ("labels", put(*FIRST, to=[["layer", "Dense"], ["units", 5]])),
    "layer without its name": ("labels", drop(*FIRST, "layer")),
    "layer's name a list": ("labels", put(*FIRST, "layer", to=["Dense"])),
    "layer's name unknown": ("labels", put(*FIRST, "layer", to="Conv")),
    "layer's name very long": ("labels", put(*FIRST, "layer", to="x" * 10**6)),
    "layer with another key": ("labels", put(*FIRST, "colour", to="red")),
    "layer with another's key": ("labels", put(*FIRST, "slope", to=0.1)),
    "layer's key with control characters": ("labels", put(*FIRST, "\x1b[2J\r\n", to=1)),
    "a layer more": ("labels", lambda t, about: about["layers"].append(about["layers"][2])),
    "a layer less": ("labels", drop("layers", 2)),
    "no Dense layer": ("labels", put("layers", to=[nested(0)])),
    "nested 50 deep": ("labels", put("layers", 1, to=nested(50))),
    "nested 5000 deep": ("labels", put("layers", 1, to="NESTED")),
    "units text": ("labels", put(*FIRST, "units", to="5")),
    "units a float": ("labels", put(*FIRST, "units", to=5.0)),
    "units a boolean": ("labels", put(*FIRST, "units", to=True)),
    "units 0": ("labels", put(*FIRST, "units", to=0)),
    "units negative": ("labels", put(*FIRST, "units", to=-5)),
    "units another": ("labels", put(*FIRST, "units", to=6)),
    "units gigantic": ("labels", put(*FIRST, "units", to=2**31 - 1)),
    "units beyond 32 bits": ("labels", put(*FIRST, "units", to=2**63)),
    "units gone": ("labels", drop(*FIRST, "units")),
    "activation unknown": ("labels", put(*FIRST, "activation", to="swoosh")),
    "activation null": ("labels", put(*FIRST, "activation", to=None)),
    "activation gone": ("labels", drop(*FIRST, "activation")),
    "activation pairs": ("labels", put(*FIRST, "activation", to=[["name", "elu"], ["alpha", 1]])),
    "activation without arguments": ("labels", put(*FIRST, "activation", to={"name": "elu"})),
    "activation without a name": ("labels", put(*FIRST, "activation", to={"alpha": 0.5})),
    "activation of another kind": ("labels", put(*FIRST, "activation", "name", to="leaky_relu")),
    "alpha negative": ("labels", put(*FIRST, "activation", "alpha", to=-1.0)),
    "alpha text": ("labels", put(*FIRST, "activation", "alpha", to="1")),
    "initialiser unknown": ("labels", put(*FIRST, "init", to="lucky")),
    "initialiser class unknown": ("labels", put(*FIRST, "init", "initializer", to="Lucky")),
    "initialiser without arguments": ("labels", put(*FIRST, "init", to={"initializer": "Normal"})),
    "initialiser a number": ("labels", put(*FIRST, "init", to=0.5)),
    "std a list": ("labels", put(*FIRST, "init", "std", to=[0.3])),
    "uniform text": ("booleans", put(*FIRST, "init", "uniform", to="yes")),
    "mode an initialiser": ("booleans", put(*FIRST, "init", "mode", to=NORMAL)),
    "bias_init unknown": ("labels", put(*FIRST, "bias_init", to="auto")),
    "l1 negative": ("labels", put(*FIRST, "l1", to=-1.0)),
    "l2 gone": ("labels", drop(*FIRST, "l2")),
    "penalty of the network text": ("labels", put("l2", to="0")),
    "penalty of the network negative": ("labels", put("l1", to=-1)),
    "unknown penalties": ("labels", put("penalties", to="half")),
    "inputs gone": ("labels", drop("n_inputs")),
    "inputs null": ("labels", put("n_inputs", to=None)),
    "inputs another": ("labels", put("n_inputs", to=8)),
    "inputs 0": ("labels", put("n_inputs", to=0)),
    "inputs a boolean": ("labels", put("n_inputs", to=True)),
    "inputs gigantic": ("labels", put("n_inputs", to=2**31 - 1)),
    "seed gone": ("labels", drop("seed")),
    "seed null": ("labels", put("seed", to=None)),
    "seed negative": ("labels", put("seed", to=-1)),
    "seed beyond 64 bits": ("labels", put("seed", to=2**64)),
    "seed a float": ("labels", put("seed", to=0.0)),
    "dtype that Python parses": ("labels", put("dtype", to="(,")),
    "dtype another": ("labels", put("dtype", to="float64")),
    "dtype half": ("labels", put("dtype", to="float16")),
    "dtype by another name": ("labels", put("dtype", to="<f4")),
    "dtype a list": ("labels", put("dtype", to=[["a", "float32"]])),
    "scale 0": ("labels", put("input_scale", to=0.0)),
    "scale beyond float32": ("labels", put("input_scale", to=1e300)),
    "scale text": ("labels", put("input_scale", to="1")),
    "another key": ("untrained", put("colour", to="red")),
    "format gone": ("labels", drop("format")),
    "format another": ("labels", put("format", to=99)),
    "format negative": ("labels", put("format", to=-1)),
    "format a boolean": ("labels", put("format", to=True)),
    "format text": ("labels", put("format", to="1")),
    # tensors
    "tensor gone": ("labels", lambda tensors, about: tensors.pop("0.b")),
    "no tensors": ("labels", lambda tensors, about: tensors.clear()),
    "tensor more": ("labels", lambda tensors, about: tensors.update(extra=np.zeros(3))),
    "tensor under two names": ("labels", lambda t, about: t.update({"2.V": t["2.W"]})),
    "tensor of the wrong layer": ("labels", lambda t, about: t.update({"1.W": t.pop("2.W")})),
    "tensor's name unprintable": ("labels", lambda t, about: t.update({"\x1b[2J": t["2.W"]})),
    "tensor transposed": ("labels", tensor("0.W", lambda array: array.T.copy())),
    "tensor flat": ("labels", tensor("0.W", np.ravel)),
    "tensor with one dimension more": ("labels", tensor("0.b", lambda array: array[None])),
    "tensor longer": ("labels", tensor("0.b", lambda array: np.append(array, array))),
    "tensor empty": ("labels", tensor("0.b", lambda array: array[:0])),
    "tensor a number": ("labels", tensor("0.b", lambda array: array[:1].reshape(()))),
    "tensor float64": ("labels", tensor("0.b", np.float64)),
    "tensor half": ("labels", tensor("0.b", np.float16)),
    "tensor of integers": ("labels", tensor("0.b", np.int32)),
    "tensor of booleans": ("labels", tensor("0.b", np.bool_)),
    "tensor with NaN": ("labels", tensor("2.W", with_element(np.nan))),
    "tensor with infinity": ("labels", tensor("0.b", with_element(-np.inf))),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused(tmp_path, good, name):
    network, change = DAMAGES[name]
    tensors, about = copy.deepcopy(good[network])
    change(tensors, about)
    text = json.dumps(about).replace('"NESTED"', '{"layers": [' * 5000 + "]}" * 5000)
    write(tmp_path / "m", tensors, text)
    refused(tmp_path / "m")


def test_the_good_files_load(tmp_path, good):
    for tensors, about in good.values():
        write(tmp_path / "m", tensors, about)
        assert faithful(tmp_path)


def test_32_layers_within_one_another_load(tmp_path, good):
    tensors, about = copy.deepcopy(good["labels"])
    about["layers"][1] = nested(32)
    write(tmp_path / "m", tensors, about)
    assert faithful(tmp_path)


#: Damages of the JSON text: what replaces the seed, 2**63, or the whole.
TEXTS = {
    "NaN": "NaN",
    "infinity": "-Infinity",
    "a float beyond float64": "1e999",
    "an integer of 5000 digits": "9" * 5000,
    "an integer beyond 64 bits": "-9223372036854775809",
    "a key twice": '1, "seed": 2',
    "a key of a layer twice": '1, "spare": {"units": 1, "units": 2}',
    "lists 100000 deep": "[" * 100_000 + "]" * 100_000,
    "objects 100000 deep": '{"a":' * 100_000 + "0" + "}" * 100_000,
    "lists never closed": "[" * 1_000_000,
    "brackets after a string": '"\\\\", "a": ' + "[" * 1000,
    "a million lists": "[" + "[]," * 1_000_000 + "0]",
    "20 million characters": '"' + "x" * 20_000_000 + '"',
    "two values": "1 2",
    "a comment": "1 /* seed */",
    "an unfinished string": '"abc',
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_damaged_text_is_refused(tmp_path, good, name):
    tensors, about = good["labels"]
    text = json.dumps(about).replace('"seed": 9223372036854775808', f'"seed": {TEXTS[name]}')
    write(tmp_path / "m", tensors, text)
    refused(tmp_path / "m")


@pytest.mark.parametrize("text", ["", "null", "[]", "1", '"fastnn"', "{}", "{", "\0", "\ufeff{}"])
def test_a_description_that_is_none_is_refused(tmp_path, good, text):
    write(tmp_path / "m", good["labels"][0], text)
    refused(tmp_path / "m")


def raw(header, data):
    """A safetensors file of any header."""
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


#: Damages of the header's entry "0.b": {"dtype": "F32", "shape": [5], "data_offsets": ...}.
HEADERS = {
    "shape gigantic": {"shape": [2**31, 2**31]},
    "shape that overflows": {"shape": [2**62, 8]},
    "shape negative": {"shape": [-5]},
    "shape of floats": {"shape": [5.0]},
    "shape of 100 dimensions": {"shape": [5] + [1] * 99},
    "shape smaller than the data": {"shape": [4]},
    "type bfloat16": {"dtype": "BF16", "shape": [10]},
    "type float8": {"dtype": "F8_E4M3", "shape": [20]},
    "type float4": {"dtype": "F4", "shape": [40]},
    "type unknown": {"dtype": "F128"},
    "type a number": {"dtype": 32},
    "offsets at the front": {"data_offsets": [0, 20]},
    "offsets behind the end": {"data_offsets": [10**9, 10**9 + 20]},
    "offsets that overflow": {"data_offsets": [2**64 - 20, 2**64 - 1]},
    "offsets reversed": {"data_offsets": [20, 0]},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_damaged_header_is_refused(tmp_path, good, name):
    content = to_bytes(good["labels"][0], {"fastnn": json.dumps(good["labels"][1])})
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    header["0.b"].update(HEADERS[name])
    (tmp_path / "m").write_bytes(raw(header, content[8 + size :]))
    refused(tmp_path / "m")


def test_a_damaged_frame_is_refused(tmp_path, good):
    path = tmp_path / "m"
    content = to_bytes(good["labels"][0], {"fastnn": json.dumps(good["labels"][1])})
    (size,) = struct.unpack("<Q", content[:8])
    ends = [0, 1, 7, 8, 9, 8 + size // 2, 8 + size, len(content) // 2, len(content) - 1]
    for damaged in [
        *[content[:end] for end in ends],
        content + b"\0",
        struct.pack("<Q", 2**64 - 1) + content[8:],
        struct.pack("<Q", 10**8 + 1) + content[8:],
        struct.pack("<Q", size - 1) + content[8:],
        b"\0" * 1000,
        b"PK\x03\x04 some other program's file" * 10,
        raw({"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}, b""),
        raw({"a": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}}, b""),
        raw({"a": {"dtype": "F32", "shape": [0] * 10**5, "data_offsets": [0, 0]}}, b""),
        raw({"\x1b[2J": {"dtype": "F32", "shape": [1], "data_offsets": [1, 5]}}, b"12345"),
        raw({"__metadata__": {"fastnn": "[" * 1000}}, b""),
        raw({"__metadata__": {"fastnn": 3}}, b""),
        raw({"__metadata__": "fastnn"}, b""),
        raw({}, b""),
        raw([], b""),
    ]:
        path.write_bytes(damaged)
        refused(path)
    path.write_bytes(to_bytes({"w": np.zeros(3)}))
    assert "no model of fastnn" in refused(path)


def test_a_file_of_many_empty_tensors_is_refused(tmp_path, good):
    tensors, about = good["labels"]
    many = {f"{i}.c": np.zeros(0, np.float32) for i in range(files.MAX_TENSORS)}
    write(tmp_path / "m", {**tensors, **many}, about)
    assert "20,004 tensors" in refused(tmp_path / "m")


def test_directories_and_missing_files_raise_as_open_does(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a directory"):
        fastnn.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model file"):
        fastnn.load(tmp_path / "none")


@pytest.mark.parametrize("more", [1, 5, 1000])
def test_labels_beyond_the_outputs_never_reach_a_fit(tmp_path, good, more):
    """The attack: a label's number indexes the outputs, so one too many wrote past the buffer."""
    tensors, about = copy.deepcopy(good["integers"])
    about["target"]["classes"] = list(range(3 + more))
    write(tmp_path / "m", tensors, about)
    with pytest.raises(ModelFileError, match=f"{3 + more} labels where n_outputs=3 takes 3"):
        fastnn.load(tmp_path / "m").fit(X, Y + more, epochs=1, progress=False)


# -- random damages ---------------------------------------------------------------------------


def faithful(folder):
    """Whether the file loads; if so, saving it gives the same file, and it predicts and trains."""
    path, again = folder / "m", folder / "again"
    try:
        net = fastnn.load(path)
    except ModelFileError:
        return False
    net.save(again)
    tensors, about = contents(path)
    same_tensors, same = contents(again)
    defaults = {"l1": 0.0, "l2": 0.0, "penalties": "full", "input_scale": 1.0}
    assert same == {**defaults, **about}
    assert tensors.keys() == same_tensors.keys()
    for name, array in tensors.items():
        assert array.dtype == same_tensors[name].dtype
        np.testing.assert_array_equal(array, same_tensors[name])
    with fastnn.use_engine(ENGINE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parameters may be huge
        net.logits(X)
        if net.classes_ is not None:
            labels = net.classes_[np.arange(len(X)) % len(net.classes_)]
            with contextlib.suppress(DivergedError):
                net.fit(X, labels, net._loss, epochs=1, progress=False)
            assert np.isin(net.predict(X), net.classes_).all()
    return True


@pytest.fixture
def without_sync(monkeypatch):
    """Files go to the cache alone: what a crash of the machine leaves is not the subject."""
    monkeypatch.setattr("fastnn.safe_writes.os.fsync", lambda handle: None)


def test_random_bytes(tmp_path, good, without_sync):
    """One to four bytes of a file changed."""
    contents = [to_bytes(t, {"fastnn": json.dumps(about)}) for t, about in good.values()]
    loaded = 0
    for number in range(RANDOM_FILES):
        draw = random.Random(number)
        damaged = bytearray(draw.choice(contents))
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.choice([draw.randrange(256), 48, 49, 57])
        (tmp_path / "m").write_bytes(damaged)
        loaded += faithful(tmp_path)
    assert 0 < loaded < RANDOM_FILES


def test_random_descriptions(tmp_path, good, without_sync):
    """One to three values of a description changed."""
    loaded = 0
    for number in range(RANDOM_FILES):
        draw = random.Random(number)
        tensors, about = copy.deepcopy(draw.choice(list(good.values())))
        for _ in range(draw.randint(1, 3)):
            damage(about, draw)
        write(tmp_path / "m", tensors, about)
        loaded += faithful(tmp_path)
    assert 0 < loaded < RANDOM_FILES


# -- what cannot be read back is not written --------------------------------------------------


def test_save_refuses_what_load_would_refuse(tmp_path, good):
    tensors, about = copy.deepcopy(good["labels"])
    write(tmp_path / "m", tensors, about)
    net = fastnn.load(tmp_path / "m")
    kept = (tmp_path / "m").read_bytes()
    net.parameters()["0.b"][0] = np.nan
    with pytest.raises(ValueError, match=r"0\.b has elements that are infinite or not a number"):
        net.save(tmp_path / "m")
    del about["format"]
    for value, message in [
        (2**64, "beyond 64 bits"), (np.nan, "not JSON compliant"), (nested(60), "nests deeper"),
        ("x" * files.MAX_CHARACTERS, "characters"), ([[]] * files.MAX_SIGNS, "brackets and"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            files.write(tmp_path / "m", tensors, {**about, "seed": value})
    assert (tmp_path / "m").read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def described(labels):
    from fastnn.targets import Target

    return files.describe_targets(Target("labels", labels, True))


@pytest.mark.parametrize("labels", [
    np.array([False, True, True]), np.array([0, 1, -2], "i1"), np.array(["b", "a"]),
    np.array(["a", "b" * 20_000]), np.array([0.0, np.inf], dtype=object),
    np.array(["a", "b" * 10_000] + [f"c{i}" for i in range(300)]),
], ids=["booleans", "wrapped", "order", "long", "infinite", "wide"])  # fmt: skip
def test_labels_that_do_not_come_back_are_not_described(labels):
    with pytest.raises(ValueError, match="label"):
        described(labels)


@pytest.mark.parametrize("labels", [
    np.array([("a", 1), ("b", 2)], dtype="U1,i4"), np.array(["2020", "2021"], "M8[Y]"),
    np.array([np.longdouble(0.1), np.longdouble(1)], dtype=object),
], ids=lambda labels: str(labels.dtype))  # fmt: skip
def test_labels_that_json_cannot_hold(labels):
    with pytest.raises(TypeError, match="cannot be written to a file"):
        described(labels)


@pytest.mark.parametrize("labels", [
    np.array(["a", "b"], "<U50"), np.array(["a", "b"], ">U3"), np.array([b"", b"\xff"]),
    np.array(["", "\ud800"]), np.array([1, 2], ">i2"), np.array([0, 2**64 - 1], "u8"),
    np.array([-(2**63), 0]), np.array([0.0, 65504.0], "f2"), np.array([False, True]),
    np.array([1, 2.5], dtype=object), np.array(["a", "b\0"], dtype=object),
], ids=lambda labels: labels.dtype.str)  # fmt: skip
def test_labels_come_back_as_they_were(labels):
    about = json.loads(json.dumps(described(labels)))
    back = loading.read_targets(about, fastnn.losses.binary_cross_entropy.code, 1).classes
    assert back.dtype == labels.dtype
    assert back.tolist() == labels.tolist()


def test_text_far_wider_than_its_labels_is_written_as_wide_as_they_are():
    about = described(np.array(["a", "bcd"], "<U1000000"))
    assert about["classes_dtype"] == "<U3"
