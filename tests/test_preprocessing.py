"""Preprocessing layers: their formulas, what they learn from, fits and predictions with them."""

import pickle

import numpy as np
import pytest
from conftest import ENGINES

import fastnn
from fastnn import (
    Adam,
    Center,
    Dense,
    Impute,
    MinMax,
    QuantileNormal,
    Rescale,
    RobustScale,
    Sequential,
    Standardize,
    Whiten,
)
from fastnn.errors import NotFittedError
from fastnn.initializers import Constant

#: Chains of layers that numbers without gaps can go through.
CHAINS = {
    "center": [Center()],
    "center channels": [Center(channels=3)],
    "standardize": [Standardize()],
    "standardize channels": [Standardize(channels=2)],
    "min-max": [MinMax(-1, 2)],
    "rescale": [Rescale(0.1, -0.5)],
    "one layer twice": 2 * [MinMax()],
    "robust": [RobustScale()],
    "robust without limit": [RobustScale(None)],
    "quantiles": [QuantileNormal(40)],
    "pca": [Whiten()],
    "zca": [Whiten("zca", 0.1)],
    "impute": [Impute()],
    "indicators": [Impute("mean", True), Standardize()],
    "several": [Rescale(0.5), Standardize(), Whiten(), RobustScale()],
}
DTYPES = ("float32", "float64")
LINEAR = CHAINS.keys() - {"robust", "quantiles", "impute", "indicators", "several"}


def rows(m=120, seed=0):
    """Six columns of other means and spreads, and the two classes of a target."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, 6)) * [1, 10, 100, 0.1, 5, 3] + [5, 20, 0, 1, 9, 2]
    return X, (X[:, 0] + X[:, 1] / 10 + 10 * X[:, 3] > 17).astype(int)


def prepared(layers, X, others=None, dtype="float64"):
    """What layers that learn from X make of other rows."""
    net = Sequential([*layers, Dense(1)], dtype=dtype).adapt(X)
    return net._features(X if others is None else others, X.shape[1])


def sklearn_of(name):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    return {
        "center": preprocessing.StandardScaler(with_std=False),
        "standardize": preprocessing.StandardScaler(),
        "min-max": preprocessing.MinMaxScaler((-1, 2)),
        "robust without limit": preprocessing.RobustScaler(),
        "quantiles": preprocessing.QuantileTransformer(
            n_quantiles=40, output_distribution="normal"
        ),
    }[name]


@pytest.mark.parametrize(
    "name", ["center", "standardize", "min-max", "robust without limit", "quantiles"]
)
def test_columns_are_those_of_scikit_learn(name):
    (X, _), (others, _) = rows(), rows(50, seed=1)
    expected = sklearn_of(name).fit(X)
    np.testing.assert_allclose(prepared(CHAINS[name], X), expected.transform(X), atol=1e-9)
    np.testing.assert_allclose(
        prepared(CHAINS[name], X, others), expected.transform(others), atol=1e-9
    )


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_white_columns_are_uncorrelated_with_variance_1(kind):
    X, _ = rows()
    found = prepared([Whiten(kind)], X)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(found.T @ found / len(X), np.eye(6), atol=1e-8)
    matrix = Sequential([Whiten(kind), Dense(1)], dtype="float64").adapt(X).state_dict()["0.matrix"]
    if kind == "zca":
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    else:  # the components in the order of their variances, so of the lengths of U / sqrt(v)
        assert (np.diff(np.linalg.norm(matrix, axis=0)) > 0).all()


def test_a_column_that_is_the_sum_of_others_is_not_blown_up():
    X, _ = rows()
    X[:, 2] = X[:, 0] + X[:, 1]
    for kind in ("pca", "zca"):
        found = prepared([Whiten(kind)], X)
        assert np.abs(found).max() < 10
        assert np.linalg.matrix_rank(found, tol=1e-6) == 5


def test_robust_scaling_limits_outliers_smoothly():
    X = np.array([[0.0], [1.0], [2.0], [3.0], [1e300]])
    z = (X - 2) / 2
    with np.errstate(over="ignore"):
        expected = z / np.sqrt(1 + (z / 3) ** 2)
    expected[-1] = 3
    np.testing.assert_allclose(prepared([RobustScale()], X), expected)


def test_constant_columns_become_a_constant():
    X = np.full((20, 2), 0.1)
    X[:, 1] = np.arange(20)
    for layer, value in (
        (Standardize(), 0), (MinMax(), 0), (RobustScale(), 0), (Center(), 0), (Whiten(), 0)
    ):  # fmt: skip
        found = prepared([layer], X)
        column = found[:, 1 if isinstance(layer, Whiten) else 0]
        np.testing.assert_allclose(column, value, atol=1e-12)
        assert found.std() > 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [0.1, 1e9 + 1])
@pytest.mark.parametrize(
    "layer",
    [
        Center(), Standardize(), Standardize(channels=1), MinMax(), RobustScale(),
        RobustScale(None), Whiten(), Whiten("zca"), QuantileNormal(20),
    ],
    ids=repr,
)  # fmt: skip
def test_a_constant_column_is_one_however_many_rows_there_are(layer, number, dtype):
    """The sum of 1,000 times 0.1 is not 100, and float32 does not hold 0.1 or 1e9 + 1."""
    for m in (3, 1000):
        found = prepared([layer], np.full((m, 2), number), dtype=dtype)
        np.testing.assert_allclose(found, 0, atol=1e-7)


def test_a_spread_that_float32_cannot_divide_by_is_none():
    X = 1e-50 * rows()[0]
    for layer in (Standardize(), MinMax(), RobustScale(), RobustScale(None), Whiten()):
        found = prepared([layer], X, dtype="float32")
        np.testing.assert_allclose(found, 0, atol=1e-30)


@pytest.mark.parametrize(
    "layer", [Center(), Standardize(), MinMax(), RobustScale(None), Whiten("zca")], ids=repr
)
def test_columns_far_from_0_are_prepared_in_float32_as_in_float64(layer):
    """Such as times in seconds: float32 alone would hold their mean to 64 seconds."""
    X = 1.7e9 + 33 + rows()[0]
    for number in (1.7e9 + 33, 0.1):  # a column that is constant but for little
        X[:, 2] = number * (1 + 1e-13 * np.arange(len(X)))
        for layers in ([layer], [Impute(), layer]):
            found, expected = (prepared(layers, X, dtype=dtype) for dtype in DTYPES)
            np.testing.assert_allclose(found, expected, atol=0.01)


def test_channels_share_their_numbers():
    X = np.random.default_rng(0).uniform(0, 255, (30, 4 * 4 * 3)).astype(np.uint8)
    of_channel = X.reshape(-1, 3).astype(np.float64)
    expected = (X.reshape(30, 16, 3) - of_channel.mean(axis=0)).reshape(30, -1)
    np.testing.assert_allclose(prepared([Center(3)], X), expected, atol=1e-9)
    expected = expected.reshape(30, 16, 3) / of_channel.std(axis=0)
    np.testing.assert_allclose(prepared([Standardize(3)], X), expected.reshape(30, -1), atol=1e-9)


def test_a_value_of_many_rows_has_the_middle_of_its_quantiles():
    X = np.r_[np.zeros(50), np.linspace(1, 2, 50)].astype(np.float64)[:, None] + 0.1
    for dtype in ("float64", "float32"):  # in which 0.1 is another number
        found = prepared([QuantileNormal(100)], X, dtype=dtype)
        np.testing.assert_allclose(found[:50], -0.68, atol=0.02)
        assert (np.diff(found[50:, 0]) > 0).all()


def test_a_copy_in_another_dtype_has_the_same_quantiles():
    """0.1 is another number in float32, in which the quantiles were learned."""
    X = np.r_[np.zeros(50), np.linspace(1, 2, 50)].astype(np.float64)[:, None] + 0.1
    net = Sequential([QuantileNormal(100), Dense(1)]).adapt(X)
    found = net.copy("float64")._features(X, 1)
    np.testing.assert_allclose(found, net._features(X, 1), atol=1e-6)


# -- missing values ---------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["median", "mean", 7.0])
@pytest.mark.parametrize("indicators", [False, True])
def test_missing_values_are_replaced(strategy, indicators):
    X, _ = rows(50)
    gaps = np.random.default_rng(1).random(X.shape) < 0.2
    X[gaps] = np.nan
    fill = {"median": np.nanmedian(X, 0), "mean": np.nanmean(X, 0)}.get(strategy, strategy)
    expected = np.where(gaps, fill, X)
    if indicators:
        expected = np.concatenate([expected, gaps], axis=1)
    np.testing.assert_array_equal(prepared([Impute(strategy, indicators)], X), expected)


def test_missing_values_of_data_frames_and_masked_arrays():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": pandas.array([1, None, 3], "Int64"), "b": [None, 2.0, 4.0]})
    masked = np.ma.array([[1.0, 0], [0, 2], [3, 4]], mask=[[0, 1], [1, 0], [0, 0]])
    for X in (frame, masked, [[1, None], [None, 2], [3, 4]], frame.astype(object)):
        net = Sequential([Impute(), Dense(1)]).adapt(X)
        np.testing.assert_array_equal(net._features(X, 2), [[1, 3], [2, 2], [3, 4]])
    frame["b"] = ["x", None, "y"]
    with pytest.raises(TypeError, match="in the column 'b'"):
        net.logits(frame)


def test_missing_values_of_masked_objects_and_of_frames_of_any_library():
    masked = np.ma.array([[1.0, "?"], [3.0, 2.0]], mask=[[0, 1], [0, 0]], dtype=object)

    class Frame:
        columns = ("a", "b")

        def __init__(self, rows):
            self.rows = np.array(rows, object)

        def __array__(self, dtype=None, copy=None):
            return self.rows

    for X in (masked, Frame([[1, None], [3, 2]])):
        net = Sequential([Impute(), Dense(1)]).adapt(X)
        np.testing.assert_array_equal(net._features(X, 2), [[1, 2], [3, 2]])
    masked.mask = False
    with pytest.raises(TypeError, match=r"X\[0, 1\] is '\?'"):
        net.adapt(masked)
    with pytest.raises(TypeError, match="in the column 'b'"):
        net.adapt(Frame([[None, "x"]]))


def test_a_column_without_values_is_named():
    X = np.array([[1.0, np.nan], [2.0, np.nan]])
    with pytest.raises(ValueError, match="column 1 of X has no value in the 2 training rows"):
        Sequential([Impute(), Dense(1)]).fit(X, [0, 1], progress=False)
    net = Sequential([Impute(0), Dense(1)]).adapt(X)
    np.testing.assert_array_equal(net._features(X, 2), [[1, 0], [2, 0]])


# -- fits and predictions ---------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CHAINS)
def test_a_fit_is_that_on_prepared_rows(name, engine):
    """Bit for bit, for dense networks and validation."""
    (X, y), others = rows(), rows(40, seed=1)
    options = {"optimizer": Adam(0.01), "epochs": 3, "progress": False}
    with fastnn.use_engine(engine):
        net = Sequential([*CHAINS[name], Dense(8, "relu"), Dense(1)])
        history = net.fit(X, y, validation_data=others, **options)
        plain = Sequential([Dense(8, "relu"), Dense(1)])
        Z, valid = net._features(X, 6), net._features(others[0], 6)
        expected = plain.fit(Z, y, validation_data=(valid, others[1]), **options)
        assert history["loss"] == expected["loss"]
        assert history["val_loss"] == expected["val_loss"]
        np.testing.assert_array_equal(net.flat_params, plain.flat_params)
        np.testing.assert_allclose(
            net.predict_proba(others[0]), plain.predict_proba(valid), atol=1e-5
        )
        assert net.evaluate(X, y) == plain.evaluate(Z, y)


@pytest.mark.parametrize("name", CHAINS)
def test_each_row_is_predicted_by_itself(name):
    X, y = rows()
    net = Sequential([*CHAINS[name], Dense(8, "relu"), Dense(1)])
    net.fit(X, y, epochs=2, progress=False)
    each = np.concatenate([net.predict_proba(X[i : i + 1]) for i in range(20)])
    if "white" in name:  # products of BLAS
        np.testing.assert_allclose(each, net.predict_proba(X)[:20], rtol=1e-6)
    else:
        np.testing.assert_array_equal(each, net.predict_proba(X)[:20])


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_layers_are_folded_into_the_first_dense(name, dtype, monkeypatch):
    X, y = rows()
    net = Sequential([*CHAINS[name], Dense(8, "relu"), Dense(1)], dtype=dtype)
    net.fit(X, y, epochs=2, progress=False)
    calls = []
    transform = net._chain.transform
    monkeypatch.setattr(net._chain, "transform", lambda *a: calls.append(a) or transform(*a))
    found = net.logits(X)
    assert bool(calls) == (name not in LINEAR)
    plain = Sequential([Dense(8, "relu"), Dense(1)], n_inputs=net.plan.n_inputs, dtype=dtype)
    plain.flat_params = net.flat_params
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    expected = plain.logits(net._features(X, 6))
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
    net.parameters()[f"{len(CHAINS[name])}.b"][:] += 100.0  # a change of weights is not missed
    plain.flat_params = net.flat_params
    found = net.logits(X)
    np.testing.assert_allclose(found, plain.logits(net._features(X, 6)), rtol=1e-4)


def test_columns_far_from_0_are_not_folded():
    """1e9 + x in float32 would lose all of x."""
    x = np.linspace(-1, 1, 50)
    X, y = (1e9 + x)[:, None], x
    net = Sequential([Standardize(), Dense(1)])
    net.fit(X, y, optimizer=Adam(0.1), epochs=100, progress=False)
    assert net._folded(net.plan) is None
    np.testing.assert_allclose(net.predict(X), y, atol=0.01)


@pytest.mark.parametrize(
    "name",
    [
        "offset", "offset before", "correlated pca", "correlated zca", "huge", "too large",
        "very small",
    ],
)  # fmt: skip
def test_layers_are_not_folded_where_float32_would_lose_what_they_tell(name):
    x = rows()[0] / 100
    alike = np.stack([x[:, 0], x[:, 0] + 1e-5 * x[:, 1]], axis=1)
    layers, X = {
        "offset": ([Rescale(1.0, -1e6)], 1e6 + x),
        "offset before": ([Rescale(1e-3, -1), Standardize()], 1000 + 1e-3 * x),
        "correlated pca": ([Whiten()], alike),
        "correlated zca": ([Whiten("zca")], alike),
        "huge": ([Standardize()], 1e38 * x),
        "too large": ([Rescale(1e-40)], 1e40 * x),
        "very small": ([Rescale(1e40)], 1e-40 * x),
    }[name]
    net = Sequential([*layers, Dense(3)], n_inputs=X.shape[1]).adapt(X)
    plain = Sequential([Dense(3)], n_inputs=X.shape[1])
    plain.flat_params = net.flat_params
    expected = plain.logits(net._features(X, X.shape[1]))
    np.testing.assert_allclose(net.logits(X), expected, atol=1e-4 * np.abs(expected).max())


def test_a_chain_that_is_not_linear_compares_no_weights(monkeypatch):
    X, _ = rows()
    for name in CHAINS.keys() - LINEAR:
        net = Sequential([*CHAINS[name], Dense(1)]).adapt(X)
        expected = net.logits(X)
        monkeypatch.setattr(net, "_folded", None)  # which would keep a copy of all of them
        np.testing.assert_array_equal(net.logits(X), expected)


def test_bytes_are_not_copied_for_predictions():
    X = np.random.default_rng(0).integers(0, 256, (300, 784)).astype(np.uint8)
    net = Sequential([Rescale(1 / 255), Standardize(1), Dense(10)]).adapt(X)
    folded = net._folded(net.plan)
    assert folded is not None
    assert net._folded(net.plan) is folded
    plain = Sequential([Dense(10)], n_inputs=784)
    plain.flat_params = net.flat_params
    np.testing.assert_allclose(net.logits(X), plain.logits(net._features(X, 784)), atol=1e-4)


# -- what is learned, and from what -----------------------------------------------------------


@pytest.mark.parametrize("how", ["validation_split", "validation_data", "rows"])
def test_layers_learn_from_training_rows_only(how):
    X, y = rows()
    seen = {}

    class Spy(Standardize):
        def learn(self, X):
            seen["X"] = np.array(X)
            return super().learn(X)

    net = Sequential([Spy(), Dense(1)])
    options = {"validation_data": {"validation_data": rows(30, seed=3)}, "rows": {"rows": range(9)}}
    net.fit(X, y, epochs=1, progress=False, **options.get(how, {"validation_split": 0.25}))
    expected = {"validation_data": 120, "rows": 9, "validation_split": 90}[how]
    assert len(seen["X"]) == expected
    if how == "rows":
        np.testing.assert_array_equal(seen["X"], X[:9])
    known = {tuple(row) for row in X}
    assert all(tuple(row) in known for row in seen["X"])
    np.testing.assert_allclose(net.state_dict()["0.mean"], seen["X"].mean(axis=0), rtol=1e-6)


def test_further_fits_keep_what_the_first_has_learned():
    (X, y), (others, more) = rows(), rows(50, seed=5)
    net = Sequential([Standardize(), Dense(1)])
    net.fit(X, y, epochs=1, progress=False)
    first = net.state_dict()["0.mean"]
    net.fit(others * 3, more, epochs=1, progress=False)
    np.testing.assert_array_equal(net.state_dict()["0.mean"], first)
    net.adapt(others * 3)
    np.testing.assert_allclose(
        net.state_dict()["0.mean"], (others * 3).mean(axis=0), rtol=1e-5, atol=1e-4
    )


def test_a_copy_in_float32_keeps_the_means_of_columns_far_from_0():
    X = 1.7e9 + 33 + rows()[0]
    net = Sequential([Standardize(), Dense(1)], dtype="float64").adapt(X)
    for other in (net.copy("float32"), net.copy("float32").copy("float64")):
        np.testing.assert_allclose(other._features(X, 6), net._features(X, 6), atol=1e-4)


def test_layers_keep_the_names_of_the_columns_from_which_they_learned():
    pandas = pytest.importorskip("pandas")
    X, y = rows()
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    net = Sequential([Standardize(), Dense(1)]).adapt(frame)
    with pytest.raises(ValueError, match="in another order"):
        net.fit(frame[list("bacdef")], y, progress=False)
    assert net.feature_names_in_ == list("abcdef")


def test_a_network_whose_size_is_known_learns_with_the_first_fit_too():
    X, y = rows()
    options = {"epochs": 2, "progress": False, "ema": 0.9}
    nets = [Sequential([Standardize(), Dense(1)], n_inputs=n) for n in (None, 6)]
    for net in nets:
        net.fit(X, y, **options)
    for name, value in nets[0].state_dict().items():
        np.testing.assert_array_equal(nets[1].state_dict()[name], value)


def test_files_copies_and_pickles_predict_the_same(tmp_path):
    X, y = rows()
    for name, layers in CHAINS.items():
        net = Sequential([*layers, Dense(4, "tanh"), Dense(1)])
        net.fit(X, y, epochs=1, progress=False)
        net.save(tmp_path / "net.safetensors")
        for other in (
            fastnn.load(tmp_path / "net.safetensors"), net.copy(), pickle.loads(pickle.dumps(net))
        ):  # fmt: skip
            np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X), name)
            assert repr(other) == repr(net)


def test_a_resumed_fit_has_the_bits_of_an_uninterrupted_one(tmp_path):
    X, y = rows()
    options = {"epochs": 6, "progress": False, "validation_split": 0.2}

    def stop(training):
        if len(training.history["loss"]) == 3:
            raise KeyboardInterrupt

    whole = Sequential([Standardize(), Dense(4, "relu"), Dense(1)])
    whole.fit(X, y, **options)
    parts = Sequential([Standardize(), Dense(4, "relu"), Dense(1)])
    with pytest.raises(KeyboardInterrupt):
        parts.fit(X, y, checkpoint=tmp_path / "c", callbacks=stop, **options)
    again = Sequential([Standardize(), Dense(4, "relu"), Dense(1)])
    again.fit(X, y, checkpoint=tmp_path / "c", resume=True, **options)
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value, name)
    np.testing.assert_array_equal(again.predict_proba(X), whole.predict_proba(X))


def test_many_networks_are_those_trained_alone():
    X, y = rows()
    specs = [
        {"layers": [Standardize(), Dense(4, "relu"), Dense(1)], "seed": 1},
        {"layers": [Dense(4, "relu"), Dense(1)], "seed": 1},
        {"layers": [Standardize(), Dense(4, "relu"), Dense(1)], "seed": 2, "rows": np.arange(60)},
    ]
    nets = fastnn.train_many(specs, X, y, epochs=3, progress=False)
    for net, spec in zip(nets, specs, strict=True):
        alone = Sequential(spec["layers"], seed=spec["seed"])
        alone.fit(X, y, epochs=3, progress=False, rows=spec.get("rows"))
        for name, value in alone.state_dict().items():
            np.testing.assert_array_equal(net.state_dict()[name], value)


def test_batches_need_layers_that_have_learned():
    X, y = rows()
    batches = [(X[:60], y[:60]), (X[60:], y[60:])]
    net = Sequential([Standardize(), Dense(1)])
    with pytest.raises(NotFittedError, match=r"Standardize\(\) has learned nothing yet.*adapt"):
        net.fit(batches, epochs=2, progress=False)
    net.adapt(X).fit(batches, epochs=2, progress=False, validation_data=(X, y))
    other = Sequential([Standardize(), Dense(1)])
    other.fit(X, y, batch_size=60, shuffle=False, epochs=2, progress=False)
    np.testing.assert_array_equal(net.flat_params, other.flat_params)


def test_a_layer_that_learns_nothing_needs_no_rows():
    X, y = rows()
    net = Sequential([Rescale(0.1), Dense(1)])
    net.fit([(X, y)], epochs=1, progress=False)
    assert net.state_dict().keys() == {"1.W", "1.b"}
    assert Sequential([Rescale(2.0), Dense(1)], n_inputs=6).logits(X).shape == (120, 1)


def test_gradients_are_those_of_prepared_rows():
    X, y = rows(20)
    net = Sequential([Standardize(), Dense(4, "tanh"), Dense(1)], dtype="float64").adapt(X)
    assert fastnn.check_gradients(net, X, y) < 1e-6
    assert "1.z" in net.trace(X)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Center(0), ValueError, "channels must be at least 1"),
        (lambda: MinMax(1, 1), ValueError, "low must be below high"),
        (lambda: Rescale(0), ValueError, "factor must not be 0"),
        (lambda: Rescale(np.nan), ValueError, "factor must be finite"),
        (lambda: RobustScale(0), ValueError, "clip must be above 0"),
        (lambda: QuantileNormal(1), ValueError, "n_quantiles must be at least 2"),
        (lambda: Whiten("ica"), ValueError, "kind must be 'pca' or 'zca', not 'ica'"),
        (lambda: Whiten(epsilon=-1), ValueError, "epsilon must be at least 0"),
        (lambda: Impute("mode"), ValueError, "'median', 'mean' or a number, not 'mode'"),
        (lambda: Impute(indicators=1), TypeError, "indicators must be True or False"),
        (lambda: Sequential([Dense(2), Center(), Dense(1)]), ValueError, "before all other"),
        (lambda: Sequential([Standardize()]), ValueError, "the last layer must be Dense"),
        (lambda: Sequential([Center(), Impute(), Dense(1)]), ValueError, "must be the first"),
        (
            lambda: Sequential([Center(), fastnn.Embedding({0: (3, 2)}), Dense(1)]),
            ValueError, "codes as they are",
        ),
        (
            lambda: Sequential([fastnn.Residual([Center(), Dense(6)]), Dense(1)], n_inputs=6),
            ValueError, "before all other layers",
        ),
        (
            lambda: Sequential([Center(), Dense(1)], input_scale=0.5),
            ValueError, r"use Rescale\(0.5\)",
        ),
        (lambda: Sequential([Dense(1)]).adapt([[1.0]]), ValueError, "no preprocessing layer"),
        (lambda: Sequential([Center(4), Dense(1)], n_inputs=6), ValueError, "no multiple of 4"),
        (
            lambda: Sequential([Center(), Dense(1)], n_inputs=1).logits([[1.0]]),
            NotFittedError, "has learned nothing yet",
        ),
        (lambda: Sequential([Whiten(), Dense(1)]).adapt([[1.0]]), ValueError, "at least two"),
        (
            lambda: Sequential([Center(), Dense(1)]).adapt([[1.0], [np.nan]]),
            ValueError, "NaN",
        ),
        (
            lambda: Sequential([Impute(), Dense(1)]).adapt([[1.0], [np.inf]]),
            ValueError, "infinity",
        ),
        (
            lambda: Sequential([Rescale(1e30), Dense(1)]).fit([[1e10]], [1.0], progress=False),
            ValueError, r"row 0 of X, prepared by Rescale\(factor=1e\+30\), is not finite",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_sparse_rows_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.random(400, 500, 0.1, "csr", random_state=0)
    with pytest.raises(TypeError, match="would become dense"):
        Sequential([Center(), Dense(1)]).fit(X, np.zeros(400), progress=False)


def test_a_refused_fit_leaves_the_network_as_it_was():
    X, y = rows()
    net = Sequential([Standardize(), Dense(1)], n_inputs=6)
    before = net.state_dict()
    with pytest.raises(ValueError, match="batch_size"):
        net.fit(X, y, batch_size=-1, progress=False)
    with pytest.raises(NotFittedError):
        net.predict(X)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    fresh = Sequential([Standardize(), Dense(1, init=Constant(1))]).adapt(X)
    with pytest.raises(NotFittedError, match="has not been trained"):
        fresh.predict(X)  # what is learned of X is no training
