"""Every operation has all its parts, and values that several operations read get their sums."""

import dataclasses
import functools
import importlib
import itertools
import pkgutil
from pathlib import Path
from unittest import mock

import naive
import numpy as np
import pytest
from cases import LAYERS, LOSSES, Case, cases, flat, loss_function, relative_error
from conftest import COMPILED, DTYPES, poison
from hypothesis import given, settings
from naive import Activation, Dense, PReLU, Residual
from test_engines import TOLERANCE, by_the_oracle, margin

import fastnn
from fastnn import SGD, engines, losses, ops, run
from fastnn.engines import compiled as compiled_module
from fastnn.engines.workspace import Data, Workspace
from fastnn.ops import OPERATIONS
from fastnn.ops.operation import Operation
from fastnn.tables import NONE

SOURCES = Path(fastnn.__file__).parent


def plan_of(case):
    return case.network("float32").lower(loss_function(case.loss))


@functools.cache
def drawn():
    """The operations in the plans of cases drawn as the suite draws them."""
    kinds = set()

    @settings(max_examples=300)
    @given(cases())
    def draw(case):
        kinds.update(plan_of(case).training.ops["kind"].tolist())

    draw()
    return {home.name for home in OPERATIONS.values() if home.kind in kinds}


@pytest.mark.quick
def test_every_module_that_defines_an_operation_is_its_home():
    defining = []
    for found in pkgutil.iter_modules(ops.__path__):
        module = importlib.import_module(f"{ops.__name__}.{found.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Operation) and value is not Operation:
                assert value.__module__ == module.__name__, f"{value} is imported into {module}"
                assert value.name == found.name, f"{value} is in the home of another operation"
                defining.append(value.name)
    assert sorted(defining) == sorted(OPERATIONS)
    assert len({home.kind for home in OPERATIONS.values()}) == len(OPERATIONS)


@pytest.mark.quick
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_all_its_parts(name):
    files = [f"ops/{name}.py", f"engines/reference/{name}.py", f"engines/jit/{name}.py"]
    if (SOURCES / "engines/csrc").is_dir():  # an installed package is without them
        files.append(f"engines/csrc/{name}.h")
    missing = [f"fastnn/{file}" for file in files if not (SOURCES / file).is_file()]
    if name not in naive.OPERATIONS:
        missing.append("its formula in tests/naive.py, listed in OPERATIONS")
    if name not in drawn():
        missing.append("a way to draw it in tests/cases.py: no drawn network contains it")
    assert not missing, f"the operation {name!r} lacks {'; '.join(missing)}"


def kinds(layers):
    """The kinds of the layers, and of those inside residuals."""
    inner = [kinds(layer.layers) for layer in layers if isinstance(layer, Residual)]
    return {type(layer) for layer in layers}.union(*inner)


@pytest.mark.quick
def test_the_oracle_is_its_own_derivative():
    """A new formula is checked against itself before any engine knows it."""
    checked = set()

    @settings(max_examples=150)
    @given(cases())
    def check(case):
        p, step = case.parameters, 1e-6
        weights = np.concatenate([np.ravel(value) for value in p.values()])
        if margin(case) < 1e-3 or abs(weights).min() < 1e-4:
            return
        checked.update(kinds(case.layers))
        found = naive.gradients(case.values, *case.oracle)
        rng = np.random.default_rng(case.seed)
        towards = {name: rng.choice([-step, step], value.shape) for name, value in p.items()}
        up, down = (
            naive.cost(
                {**case.statistics, **{n: p[n] + sign * towards[n] for n in p}}, *case.oracle
            )
            for sign in (1, -1)
        )
        terms = np.concatenate([np.ravel(found[name] * towards[name]) for name in p])
        assert abs((up - down) / 2 - terms.sum()) < 1e-6 * (abs(terms).sum() + step * abs(up))

    check()
    assert checked == set(LAYERS)


def agrees(case, dtype):
    """Logits, loss and gradient of the current engine against the oracle."""
    net = case.network(dtype)
    _, logits, cost, gradient = by_the_oracle(case)
    assert relative_error(net.logits(case.X), logits) < TOLERANCE[dtype]
    loss, found = net.loss_and_grad(case.X, **case.arguments)
    assert relative_error(loss, cost) < TOLERANCE[dtype]
    assert relative_error(found, flat(net, gradient)) < 20 * TOLERANCE[dtype]
    return found


# n_in, units, rows: narrow, some tiles, more than a k-block and an NC block, slabs of rows
PROJECTIONS = [(3, 2, 5), (17, 50, 20), (520, 780, 2), (3, 2, 4100), (5, 7, 4100)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_in", "units", "m"), PROJECTIONS)
def test_a_dense_operation_without_biases(engine, dtype, n_in, units, m):
    """The projection of a residual, lowest in the network and above another layer."""
    narrow = Dense(2, "tanh"), Dense(units)
    lowest = Case(n_in, (Residual(narrow), Dense(2)), "mse", m, seed=1, l1=0.01, l2=0.02)
    above = Case(3, (Dense(n_in, "tanh"), Residual(narrow), Dense(2)), "mse", m, seed=1)
    for case in (lowest, above):
        table = plan_of(case).training.ops
        dense = table[table["kind"] == OPERATIONS["dense"].kind]
        assert [op["n_in"] for op in dense if op["b"] == NONE] == [n_in]
        agrees(case, dtype)


def nested(depth, *layers):
    """Residuals that all read the same value."""
    for _ in range(depth):
        layers = (Residual(layers),)
    return layers


#: What reads the value first: its width, and the layers.
FIRST = {
    "narrow dense": (3, Dense(3)),
    "dense": (17, Dense(17)),
    "dense with few rows for many weights": (50, Dense(50)),
    "dense of more than a k-block": (17, Dense(530), Dense(17)),
    "prelu": (17, PReLU()),
    "shared prelu": (17, PReLU(shared=True)),
    "activation": (17, Activation("silu")),
    "softmax": (17, Activation("softmax")),
    "layer norm": (17, naive.GroupNorm()),
    "group norm": (18, naive.GroupNorm(3, 0.1, affine=False)),
    "scale": (17, naive.Scale(bias=True)),
    "maxout": (17, naive.Maxout(17, 3)),
    "nothing": (17, Activation("identity")),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_gradient_of_a_value_that_several_operations_read_is_a_sum(
    engine, dtype, first, depth, poisoned
):
    """The first one overwrites, the others add, the last applies the derivative below."""
    width, *layers = FIRST[first]
    for below in ("identity", "tanh", "mish", "softmax"):
        stack = nested(depth, *layers)
        case = Case(5, (Dense(width, below), *stack, Dense(2)), "cross_entropy", 9, seed=depth)
        table = plan_of(case).training.ops
        value = int(below == "softmax")  # an operation of its own, above the dense one
        assert [*table["below"], *table["below2"]].count(value) == depth + 1
        agrees(case, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_network_input_is_read_by_several_operations(engine, dtype, depth, poisoned):
    """It gets no gradient; what lies between it and the lowest weights gets none either."""
    for first in (Dense(4), PReLU(), Activation("gelu")):
        for below in ((), (Activation("tanh"),), (Activation("softmax"),)):
            layers = *below, *nested(depth, first, Activation("tanh")), Dense(3)
            agrees(Case(4, layers, "sse", 6, seed=2), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_of_very_many_outputs(engine, dtype, loss):
    """More than any kernel takes at a time."""
    agrees(Case(2, (Dense(4100),), loss, 3, seed=0), dtype)


@pytest.fixture
def poisoned(monkeypatch):
    """Every workspace starts full of NaN."""
    original = Workspace.__init__

    def begin(self, *args, **kwargs):
        original(self, *args, **kwargs)
        poison(self)

    monkeypatch.setattr(Workspace, "__init__", begin)


@pytest.mark.parametrize("dtype", DTYPES)
def test_neither_engine_nor_parts_nor_other_rows_change_a_bit(dtype, poisoned):
    """All compiled engines, in one part and in three, and rows that are predicted alone."""

    @given(cases())
    def check(case):
        net, found = case.network(dtype), set()
        for engine, parts in itertools.product(COMPILED, (1, 3)):
            splits = mock.patch.multiple(compiled_module, LEAST_WORK=0.0, PARTS=parts)
            with fastnn.use_engine(engine), splits:
                loss, gradient = net.loss_and_grad(case.X, **case.arguments)
                logits = net.logits(case.X)
                found.add((loss, gradient.tobytes(), logits.tobytes()))
                for i in range(0, case.m, 6):
                    np.testing.assert_array_equal(net.logits(case.X[i : i + 1]), logits[i : i + 1])
        assert len(found) == 1

    check()


IN_PIECES = (Dense(6, "tanh"), Residual((PReLU(), Dense(4, l1=0.1))), PReLU(shared=True), Dense(6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("m", [1100, 4700])
def test_a_batch_in_pieces_is_the_batch(engine, dtype, loss, m, monkeypatch):
    """With the bits of one piece in the compiled engines, and in slabs of rows too."""
    case = Case(5, IN_PIECES, loss, m, seed=1, weighted=True, l2=0.1)
    found = []
    for elements in (run.PIECE_ELEMENTS, 1):
        monkeypatch.setattr(run, "PIECE_ELEMENTS", elements)
        net = case.network(dtype)
        value, gradient = net.loss_and_grad(case.X, **case.arguments)
        history = net.fit(
            case.X, case.T, loss=loss, optimizer=SGD(1e-4, momentum=0.9), epochs=2,
            batch_size=m - 300, sample_weight=case.weights, progress=False,
        )  # fmt: skip
        found.append((gradient, net.flat_params, [value, *history["loss"]]))
    for whole, pieces in zip(*found, strict=True):
        if engine == "numpy":
            # A sign may be all rounding: that of an error that is nearly 0.
            tolerance = 1e-3 if loss in ("mae", "quantile", "hinge") else 200 * np.finfo(dtype).eps
            assert relative_error(pieces, whole) < tolerance
        else:
            np.testing.assert_array_equal(pieces, whole)
    if m < 2000:
        agrees(case, dtype)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("dense", "b", 10**6), ("dense", "w", NONE), ("dense", "adds", 2), ("dense", "adds", -1),
     ("prelu", "w", 10**6), ("prelu", "batch", NONE), ("prelu", "n_out", 5), ("prelu", "dx", 1),
     ("residual", "x2", NONE), ("residual", "dx2", NONE - 1), ("residual", "below2", 9),
     ("residual", "adds2", 2), ("residual", "kind", 99), ("residual", "da", NONE)],
)  # fmt: skip
def test_a_damaged_operation_is_refused(compiled, name, field, value):
    """Machine code checks nothing: whatever points outside is an error before it runs."""
    case = Case(3, (Dense(4), Residual((PReLU(), Dense(4))), Dense(2)), "mse", 8, seed=0)
    net = case.network("float64")
    ws = Workspace(net.lower(losses.mse), net.flat_params, np.zeros(0), 8, training=True)
    table = ws.layout.ops.copy()
    index = max(np.flatnonzero(table["kind"] == OPERATIONS[name].kind)[:2])
    table[index][field] = value
    ws.layout = dataclasses.replace(ws.layout, ops=table)
    data = Data(case.X, Y=case.T)
    with pytest.raises(ValueError, match=f"operation {index} of the plan is damaged"):
        engines.current().loss_and_grad(ws, data, np.zeros(2))
