"""Labels of unusual types and missing ones, arrays that are not aligned, weights that overflow."""

import json

import numpy as np
import pytest
from conftest import ENGINES

import fastnn
from fastnn import Dense, Sequential, files, loading
from fastnn.errors import ModelFileError
from fastnn.targets import Target

ROWS = 40
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
POSITIONS = np.arange(ROWS) % 3


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def strings(*values, **arguments):
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("NumPy 2 has the first StringDType")
    return np.array(values, dtype=np.dtypes.StringDType(**arguments))


def fitted(labels, **arguments):
    net = Sequential([Dense(4, "relu"), Dense(3)], seed=0)
    net.fit(X, labels, epochs=1, progress=False, **arguments)
    return net


#: Labels in order, by name.
LABELS = {
    "bytes": objects(b"", b"a\0", b"\xff"),
    "int8": objects(np.int8(-3), np.int8(5), np.int8(7)),
    "uint64": objects(*map(np.uint64, (2**63, 2**63 + 1, 2**64 - 1))),
    "float16": objects(*map(np.float16, (0.1, 0.2, 2.0))),
    "float64": objects(*map(np.float64, (0.1, 0.2, 2.0))),
    "numpy's text": objects(*map(np.str_, ("", "a", "b"))),
    "numpy's bytes": objects(*map(np.bytes_, (b"a", b"b", b"c"))),
    "both integers": objects(np.int64(-1), 5, np.int16(7)),
    "long long": objects(*map(np.longlong, (3, 5, 7))),
    "Python's": objects("a", "b\0", "c"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_in_object_arrays_come_back_as_they_were(tmp_path, name):
    labels = LABELS[name]
    net = fitted(labels[POSITIONS])
    net.save(tmp_path / "m")
    back = fastnn.load(tmp_path / "m")
    for mine, theirs in zip(net.classes_, back.classes_, strict=True):
        assert type(theirs) is type(mine) or isinstance(mine, np.longlong)
        assert theirs == mine
    assert (back.predict(X) == net.predict(X)).all()
    assert back.evaluate(X, labels[POSITIONS]) == net.evaluate(X, labels[POSITIONS])
    back.fit(X, labels[POSITIONS], epochs=1, progress=False)
    back.save(tmp_path / "again")
    about = files.read(tmp_path / "m")[1]["target"]
    assert files.read(tmp_path / "again")[1]["target"] == about


def test_truth_values_of_numpy_in_object_arrays(tmp_path):
    labels = objects(np.False_, np.True_)
    net = Sequential([Dense(2)], seed=0)
    net.fit(X, labels[np.arange(ROWS) % 2], epochs=1, progress=False)
    net.save(tmp_path / "m")
    assert [type(label) for label in fastnn.load(tmp_path / "m").classes_] == [np.bool_] * 2


def test_labels_of_python_are_written_as_they_always_were():
    about = files.describe_targets(Target("labels", objects("a", "b"), True))
    assert (about["classes"], about["classes_dtype"]) == (["a", "b"], "|O")


@pytest.mark.parametrize("missing", ["unset", None, np.nan, "none"])
def test_strings_of_numpy_come_back(tmp_path, missing):
    arguments = {} if missing == "unset" else {"na_object": missing}
    labels = strings("ant", "a much longer name than sixteen bytes", "\u00fc", **arguments)
    y = labels[POSITIONS]
    net = fitted(y)
    net.save(tmp_path / "m")
    back = fastnn.load(tmp_path / "m")
    assert back.predict(X).dtype == net.predict(X).dtype == np.dtypes.StringDType()
    assert (back.predict(X) == net.predict(X)).all()
    assert back.evaluate(X, y) == net.evaluate(X, y) == back.evaluate(X, y.astype(object))
    assert (net.predict(X) == y).mean() == net.evaluate(X, y)["accuracy"]
    with pytest.raises(ValueError, match="the label 'cow', which is none of the fitted classes"):
        net.evaluate(X, strings(*y[:-1], "cow", **arguments))


def test_two_strings_of_numpy_for_one_output(tmp_path):
    y = strings("no", "yes")[np.arange(ROWS) % 2]
    net = Sequential([Dense(1)], seed=0)
    net.fit(X, y, loss="binary_cross_entropy", epochs=1, progress=False)
    net.save(tmp_path / "m")
    assert (fastnn.load(tmp_path / "m").predict(X) == net.predict(X)).all()


@pytest.mark.parametrize("dtype", ["|O", "<U3"])
def test_other_text_is_compared_with_strings_of_numpy(dtype):
    net = fitted(strings("ant", "bee", "cow")[POSITIONS])
    assert net.evaluate(X, np.array(["ant", "bee", "cow"], dtype)[POSITIONS])["accuracy"] >= 0


@pytest.mark.parametrize("change", [
    {"classes_dtype": "O:"}, {"classes_dtype": "O:bytes,bytes,bytes"}, {"classes_dtype": "O:tuple"},
    {"classes_dtype": "O:bytes,str,bytes"}, {"classes_dtype": "O:str"}, {"classes_dtype": "O:int"},
    {"classes_dtype": "O:bytes,bytes"}, {"classes": ["a", "b", "\u1234"]},
    {"classes": ["a", "b", "b"]}, {"classes": ["a", "b", 3]}, {"classes": ["b", "a", "c"]},
    {"classes": [True, 2, 3], "classes_dtype": "O:numpy.int8"},
    {"classes": [1, 2, 300], "classes_dtype": "O:numpy.int8"},
    {"classes": [1, 2, 3], "classes_dtype": "O:numpy.float32"},
    {"classes": [1.0, 2.0, 1e39], "classes_dtype": "O:numpy.float32"},
    {"classes": [1.0, 2.0, 2.1], "classes_dtype": "O:numpy.float32"},
    {"classes": [1.0, 2.0, float("inf")], "classes_dtype": "O:numpy.float64"},
    {"classes": [1, 2, 3], "classes_dtype": "T"}, {"classes_dtype": "T8"},
], ids=str)  # fmt: skip
def test_labels_that_a_file_cannot_hold_are_refused(change):
    labels = objects(b"a", b"b", b"c")
    about = files.describe_targets(Target("labels", labels, True))
    code = fastnn.losses.get("cross_entropy").code
    assert loading.read_targets(about, code, 3).classes.tolist() == labels.tolist()
    with pytest.raises((ValueError, TypeError)):
        loading.read_targets(json.loads(json.dumps({**about, **change})), code, 3)


def test_a_damaged_type_of_labels_is_an_error_of_the_file(tmp_path):
    net = fitted(LABELS["bytes"][POSITIONS])
    net.save(tmp_path / "m")
    content = (tmp_path / "m").read_bytes()
    assert b"O:bytes" in content
    (tmp_path / "m").write_bytes(content.replace(b"O:bytes", b"O:bytez"))
    with pytest.raises(ModelFileError, match=r"labels of the type 'bytez' are not read"):
        fastnn.load(tmp_path / "m")


# -- labels that are missing ------------------------------------------------------------------


def missing_values():
    pandas = pytest.importorskip("pandas")
    return [None, float("nan"), np.float32("nan"), np.datetime64("NaT"), pandas.NaT, pandas.NA]


@pytest.mark.parametrize("which", range(6))
@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_a_missing_label_is_named_with_its_row(which, n_outputs):
    y = objects("a", "b")[np.arange(ROWS) % 2]
    y[7] = missing_values()[which]
    net = Sequential([Dense(n_outputs)], seed=0)
    with pytest.raises(ValueError, match=r"^y\[7\] is missing \(.*\): drop the rows"):
        net.fit(X, y, epochs=1, progress=False)


@pytest.mark.parametrize("value", [None, np.nan], ids=str)
def test_a_missing_string_is_named_with_its_row(value):
    y = strings("a", "b", "c", na_object=value)[POSITIONS]
    net = fitted(y)
    y[7] = value
    with pytest.raises(ValueError, match=r"^y\[7\] is missing"):
        fitted(y)
    with pytest.raises(ValueError, match=r"^y\[7\] is missing"):
        net.evaluate(X, y)


@pytest.mark.parametrize("dtype", ["Int64", "string", "category", "boolean", "Float64", "str"])
@pytest.mark.parametrize("loss", ["auto", "cross_entropy"])
def test_a_missing_label_of_a_data_frame(dtype, loss):
    pandas = pytest.importorskip("pandas")
    values = {"boolean": [True, False]}.get(
        dtype, ["a", "b"] if dtype in ("string", "category", "str") else [1, 2]
    )
    y = pandas.Series(values * (ROWS // 2), dtype=dtype)
    y[7] = None
    with pytest.raises(ValueError, match=r"^y\[7\] is missing"):
        Sequential([Dense(2)], seed=0).fit(X, y, loss=loss, epochs=1, progress=False)


def test_a_missing_label_of_other_rows():
    labels = objects("a", "b", "c")[POSITIONS]
    net, other = fitted(labels), labels.copy()
    other[7] = None
    with pytest.raises(ValueError, match=r"^y\[7\] is missing \(None\)"):
        net.evaluate(X, other)
    with pytest.raises(ValueError, match=r"y\[7\] is missing \(None\)"):
        fitted(labels, validation_data=(X, other))
    numbers = Sequential([Dense(1)], seed=0)
    numbers.fit(X, X[:, 0], epochs=1, progress=False)
    with pytest.raises(ValueError, match=r"y\[7\] is missing \(nan\)"):
        numbers.evaluate(X, np.where(np.arange(ROWS) == 7, np.nan, X[:, 0]))


# -- arrays that are not aligned ---------------------------------------------------------------


def misaligned(array):
    """A copy of an array that begins at an odd address."""
    found = np.frombuffer(bytearray(array.nbytes + 1), array.dtype, array.size, 1)
    found = found.reshape(array.shape)
    found[...] = array
    assert array.itemsize == 1 or not found.flags.aligned
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", "i8", "u1"])
@pytest.mark.parametrize("rows", [50, 50_000], ids=["few", "many"])
def test_misaligned_arrays_are_copied(engine, dtype, rows):
    features = (3 * np.random.default_rng(1).normal(size=(rows, 3))).astype(dtype)
    y, weights = np.arange(rows) % 2, np.linspace(0, 1, rows)
    found = []
    with fastnn.use_engine(engine):
        for as_given in (lambda array: array, misaligned):
            given, targets = as_given(features), as_given(y)
            net = Sequential([Dense(2)], seed=0)
            net.fit(
                given, targets, epochs=1, batch_size=1000, sample_weight=as_given(weights),
                validation_data=(given, targets), progress=False,
            )  # fmt: skip
            gradient = net.loss_and_grad(given, targets, loss="cross_entropy")[1]
            found.append([net.flat_params, net.logits(given), gradient, net.predict(given)])
    for aligned, other in zip(*found, strict=True):
        np.testing.assert_array_equal(aligned, other)


def test_fields_of_records_are_columns():
    table = np.zeros(50_000, dtype=[("kind", "u1"), ("x", "f8", 3), ("y", "i4")])
    table["y"] = np.arange(len(table)) % 2
    net = Sequential([Dense(2)], seed=0)
    net.fit(table["x"], table["y"], epochs=1, progress=False)
    assert net.predict(table["x"]).shape == (50_000,)


# -- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weight", [1e308, 1.7e308 / ROWS, 1e-310])
@pytest.mark.parametrize("kind", ["rows", "classes", "both"])
def test_weights_that_overflow_do_not_blame_the_learning_rate(dtype, weight, kind):
    of_classes = {"class_weight": dict.fromkeys(range(3), weight)}
    given = {
        "rows": {"sample_weight": np.full(ROWS, weight)},
        "classes": of_classes,
        "both": {"sample_weight": np.full(ROWS, 1.5), **of_classes},
    }[kind]
    net = Sequential([Dense(3)], seed=0, dtype=dtype)
    name = "sample_weight" if kind == "rows" else "class_weight"
    with pytest.raises(ValueError, match=f"^{name}.* must sum to a number between") as error:
        net.fit(X, POSITIONS, epochs=1, progress=False, **given)
    assert not isinstance(error.value, fastnn.errors.DivergedError)
    assert "divide all of them" in str(error.value)


def test_a_gradient_refuses_weights_that_overflow():
    net = Sequential([Dense(3)], n_inputs=3, seed=0)
    with pytest.raises(ValueError, match="sample_weight must sum"):
        net.loss_and_grad(X, POSITIONS, loss="cross_entropy", sample_weight=np.full(ROWS, 1e308))


@pytest.mark.parametrize("weight", [1e299, 1e39, 1e-50, 1e-300])
def test_only_ratios_of_weights_matter(weight):
    found = []
    for scale in (1.0, weight):
        net = Sequential([Dense(3)], seed=0)
        net.fit(X, POSITIONS, epochs=2, progress=False, sample_weight=np.full(ROWS, scale))
        found.append(net.flat_params.copy())
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_sum_of_weighted_rows_names_the_weights():
    net = Sequential([Dense(1)], seed=0)
    weights = np.full(ROWS, 1e38)
    with pytest.raises(fastnn.errors.DivergedError, match=r"rows with weights up to 1e\+38"):
        net.fit(X, X[:, 0], loss="sse", sample_weight=weights, epochs=2, progress=False)


def test_weights_of_a_batch_that_overflow_are_named():
    net = Sequential([Dense(3)], seed=0)

    def batches():
        yield X, POSITIONS, np.full(ROWS, 1e308)

    with pytest.raises(ValueError, match="sample_weight must sum"):
        net.fit(batches, classes=[0, 1, 2], epochs=1, progress=False)
