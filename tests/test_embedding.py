"""Embedding: codes of any dtype, gradients of tables, codes that no table has."""

import naive
import numpy as np
import pytest
from cases import Case, flat, relative_error
from conftest import COMPILED, DTYPES

import fastnn
from fastnn import SGD, Dense, Embedding, Residual, Sequential
from fastnn.engines import compiled as compiled_module

COLUMNS = {4: (3, 2), 1: (40, 5)}


def rows(m=60, seed=0):
    """Six columns, of which 1 and 4 are codes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, 6))
    X[:, 1], X[:, 4] = rng.integers(0, 40, m), rng.integers(0, 3, m)
    return X, rng.integers(0, 2, m)


def network(**arguments):
    return Sequential([Embedding(COLUMNS), Dense(7, "tanh"), Dense(2)], **arguments)


def test_the_output_is_the_other_columns_and_then_the_vectors(engine):
    net = network(n_inputs=6)
    X, _ = rows()
    expected = np.concatenate(
        [X[:, [0, 2, 3, 5]].astype(np.float32)]
        + [net.parameters()[f"0.E{c}"][X[:, c].astype(int)] for c in (1, 4)], axis=1
    )  # fmt: skip
    above = Sequential(net.layers[1:], n_inputs=len(expected[0]))
    state = net.state_dict()
    names = {"0.W": "1.W", "0.b": "1.b", "1.W": "2.W", "1.b": "2.b"}
    above.load_state_dict({name: state[old] for name, old in names.items()})
    np.testing.assert_array_equal(net.logits(X), above.logits(expected))


def test_a_trace_has_the_gradient_of_each_table():
    X, y = rows()
    net = network(n_inputs=6)
    trace = net.trace(X, y)
    assert trace["0.a"].shape == (60, 11)
    _, gradient = net.loss_and_grad(X, y)
    for name in ("E1", "E4"):
        (parameter,) = (p for p in net.plan.parameters if p.name == f"0.{name}")
        np.testing.assert_allclose(trace[f"0.d{name}"], parameter.view(gradient), atol=1e-6)
    assert {name for name in trace if name.startswith("0.d")} == {"0.da", "0.dE1", "0.dE4"}
    X[7, 4] = 3
    with pytest.raises(ValueError, match=r"X\[7, 4\] is 3"):
        net.trace(X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [1, 30, 1500])
def test_tables_get_the_sum_of_the_gradients_of_their_codes(engine, dtype, m, monkeypatch):
    columns = (1, 40, 5), (4, 3, 2)
    layers = naive.Embedding(columns), naive.Dense(7, "tanh"), naive.Dense(2)
    case = Case(6, layers, "cross_entropy", m, seed=1, weighted=True)
    net = case.network(dtype)
    found = [net.loss_and_grad(case.X, **case.arguments)]
    monkeypatch.setattr(fastnn.run, "PIECE_ELEMENTS", 1)
    found.append(net.loss_and_grad(case.X, **case.arguments))
    if engine != "numpy":
        np.testing.assert_array_equal(found[0][1], found[1][1])
    expected = flat(net, naive.gradients(case.values, *case.oracle))
    for _, gradient in found:
        assert relative_error(gradient, expected) < (1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_parts_change_no_bit(parts, monkeypatch):
    X, y = rows()
    found = set()
    for engine in COMPILED:
        monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
        monkeypatch.setattr(compiled_module, "PARTS", parts)
        with fastnn.use_engine(engine):
            net = network()
            net.fit(X, y, epochs=3, batch_size=25, progress=False)
            found.add(net.flat_params.tobytes())
    monkeypatch.setattr(compiled_module, "PARTS", 1)
    net = network()
    net.fit(X, y, epochs=3, batch_size=25, progress=False)
    assert found == {net.flat_params.tobytes()}


def test_only_codes_that_occur_are_trained(engine):
    X, y = rows()
    X[:, 1] %= 11
    net = network(n_inputs=6)
    before = net.parameters()["0.E1"].copy()
    net.fit(X, y, optimizer=SGD(0.1), progress=False)
    changed = (net.parameters()["0.E1"] != before).any(axis=1)
    np.testing.assert_array_equal(changed, np.isin(np.arange(40), X[:, 1]))


def test_codes_of_any_type(engine):
    X = np.random.default_rng(0).integers(0, 3, (50, 5))
    y = X[:, 2] == 1
    found = set()
    for dtype in ("uint8", "int64", "float16", "float64"):
        codes = X.astype(dtype)
        net = Sequential([Embedding(dict.fromkeys(range(5), (3, 2))), Dense(1)])
        net.fit(codes, y, epochs=2, progress=False)
        found.add((net.flat_params.tobytes(), net.predict_proba(codes).tobytes()))
    assert len(found) == 1


def test_a_code_is_what_the_networks_dtype_makes_of_it(monkeypatch):
    X, y = rows()
    X[0, 1] = 7.99999999999
    for size in (0, 1 << 20):  # X is converted at once, or batch by batch
        monkeypatch.setattr("fastnn.features._SMALL", size)
        network().fit(X, y, epochs=1, progress=False)
        with pytest.raises(ValueError, match=r"X\[0, 1\] is 7.9999"):
            network(dtype="float64").fit(X, y, epochs=1, progress=False)


@pytest.mark.parametrize("code", [-1, 40, 2.5, 1e9])
def test_a_code_that_no_table_has_is_refused(engine, code):
    X, y = rows()
    net = network()
    net.fit(X, y, epochs=1, progress=False)
    before = net.flat_params.copy()
    bad = X.copy()
    bad[7, 1] = code
    message = rf"\[7, 1\] is {code if code == 2.5 else int(code)},.* the codes 0 to 39"
    for call in (
        lambda: net.fit(bad, y, progress=False),
        lambda: network().fit(bad, y, progress=False),
        lambda: net.fit(X, y, validation_data=(bad, y), progress=False),
        lambda: net.predict(bad), lambda: net.predict_proba(bad), lambda: net.logits(bad),
        lambda: net.evaluate(bad, y), lambda: net.loss_and_grad(bad, y),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()
    np.testing.assert_array_equal(net.flat_params, before)


def test_the_kernel_reads_no_row_outside_of_a_table(compiled, monkeypatch):
    """Even if the check were not there."""
    monkeypatch.setattr(Embedding, "check", lambda *args: None)
    X, y = rows()
    net = network(n_inputs=6)
    for code in (-1, 40, 1e30, np.float32(2**31)):
        X[0, 1] = code
        with pytest.raises(fastnn.errors.EngineError, match="out of range"):
            net.fit(X, y, progress=False, shuffle=False)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Embedding({}), TypeError, "dict of columns"),
        (lambda: Embedding([(3, 4)]), TypeError, "dict of columns"),
        (lambda: Embedding({1: 4}), TypeError, r"\(n_values, dim\)"),
        (lambda: Embedding({-1: (3, 4)}), ValueError, "at least 0"),
        (lambda: Embedding({1: (0, 4)}), ValueError, "n_values of column 1"),
        (lambda: Embedding({1: (3, 1.5)}), TypeError, "dim of column 1"),
        (lambda: Embedding({1: (1 << 25, 1)}), ValueError, "n_values"),
        (lambda: Sequential([Embedding({6: (3, 4)}), Dense(1)], n_inputs=6), ValueError,
         "layer 0 embeds column 6, but X has 6 columns"),
        (lambda: Sequential([Dense(4), Embedding({1: (3, 4)}), Dense(1)], n_inputs=6), ValueError,
         "first layer"),
        (lambda: Sequential([Residual([Embedding({1: (3, 4)})]), Dense(1)], n_inputs=6),
         ValueError, "first layer"),
        (lambda: network(input_scale=0.5), ValueError, "input_scale"),
    ],
)  # fmt: skip
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_file_keeps_the_tables(tmp_path):
    X, y = rows()
    net = network()
    net.fit(X, y, epochs=1, progress=False)
    net.save(tmp_path / "net")
    back = fastnn.load(tmp_path / "net")
    np.testing.assert_array_equal(back.flat_params, net.flat_params)
    np.testing.assert_array_equal(back.logits(X), net.logits(X))
    assert repr(back.layers[0]) == "Embedding({1: (40, 5), 4: (3, 2)})"
