"""Runs: pieces of large batches, fits that fail, fits that are prepared once."""

import sys

import numpy as np
import pytest
from conftest import DTYPES, poison, table

import fastnn
from fastnn import (
    SGD,
    Adam,
    Dense,
    PReLU,
    Residual,
    Sequential,
    check_gradients,
    engines,
    losses,
    model,
    run,
)
from fastnn.engines import compiled as compiled_module
from fastnn.engines.workspace import Data, Workspace
from fastnn.errors import DivergedError, EngineError
from fastnn.initializers import Constant

# -- pieces ---------------------------------------------------------------------------------------


def stack(dtype="float32", n_out=5):
    """A network with everything that sums over rows: slabs, few outputs, penalties, slopes."""
    layers = [
        Dense(18, "tanh", l2=0.01),
        Residual([Dense(20), PReLU(), Dense(18, "relu", l1=0.001)]),
        PReLU(shared=True),
        Dense(130, "sigmoid"),
        Dense(140, "relu"),
        Dense(3),
        Dense(n_out),
    ]
    return Sequential(layers, n_inputs=11, seed=3, dtype=dtype)


def rows_of(m, n_out=5):
    rng = np.random.default_rng(m)
    X = rng.normal(size=(m, 11)).astype(np.float32)
    return X, rng.integers(0, n_out, m).astype(np.int32), rng.integers(1, 5, m) / 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [700, 4200, 9000])
def test_a_gradient_in_pieces_has_the_bits_of_one_piece(compiled, dtype, m, monkeypatch):
    X, y, weights = rows_of(m)
    net = stack(dtype)
    found = set()
    for loss in ("cross_entropy", "sse"):
        targets = y if loss == "cross_entropy" else np.eye(5)[y]
        for w in (None, weights):
            found.clear()
            for elements, parts in ((1 << 40, 1), (1, 1), (1, 3), (1500 * 1100, 2)):
                monkeypatch.setattr(run, "PIECE_ELEMENTS", elements)
                monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
                monkeypatch.setattr(compiled_module, "PARTS", parts)
                total, gradient = net.loss_and_grad(X, targets, loss, w)
                found.add((total, gradient.tobytes()))
            assert len(found) == 1


def test_pieces_are_really_run(compiled, monkeypatch, workspaces):
    X, y, _ = rows_of(2000)
    net = stack()
    monkeypatch.setattr(run, "PIECE_ELEMENTS", 1)
    gradient = net.loss_and_grad(X, y)[1]
    assert workspaces[-1].capacity == 512
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_fit_on_batches_larger_than_a_piece_has_the_same_bits(compiled, shuffle, monkeypatch):
    X, y, weights = rows_of(3000)
    found = set()
    for elements in (1 << 40, 1):
        monkeypatch.setattr(run, "PIECE_ELEMENTS", elements)
        net = stack()
        history = net.fit(
            X, y, optimizer=Adam(0.01), epochs=3, batch_size=1700, sample_weight=weights,
            shuffle=shuffle, validation_data=(X[:100], y[:100]), progress=False,
        )  # fmt: skip
        values = [tuple(history[name]) for name in ("loss", "accuracy", "val_loss")]
        found.add((net.flat_params.tobytes(), *values))
    assert len(found) == 1


def test_the_reference_runs_in_pieces_too(monkeypatch):
    X, y, weights = rows_of(1500)
    net = stack("float64")
    with fastnn.use_engine("numpy"):
        expected = net.loss_and_grad(X, y, sample_weight=weights)
        monkeypatch.setattr(run, "PIECE_ELEMENTS", 1)
        found = net.loss_and_grad(X, y, sample_weight=weights)
    assert found[0] == pytest.approx(expected[0], rel=1e-13)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-10, atol=1e-14)


def test_a_million_rows_take_bounded_memory(compiled, workspaces, monkeypatch):
    """The workspace of a million rows of 784-512-512-10, and the first piece of them."""
    layers = [Dense(512, "relu"), Dense(512, "relu"), Dense(10)]
    net = Sequential(layers, n_inputs=784)
    lowered = net.lower(losses.cross_entropy)
    rows = run.piece_rows(lowered, 10**6)
    ws = Workspace(
        lowered, net.flat_params, np.zeros(0, np.float32), rows, total_rows=10**6, training=True
    )
    data = Data(np.zeros((10**6, 784), np.uint8), labels=np.zeros(10**6, np.int32), batch_size=rows)
    engines.current().loss_and_grad(ws, data, np.zeros(2), 0, 1)
    assert ws.nbytes - ws.pack.nbytes < 64 * 2**20  # packing buffers are those of the thread


def test_a_larger_batch_in_pieces_of_the_same_size_finds_room(compiled, monkeypatch):
    """A workspace holds slabs for the largest batch that it was made for."""
    monkeypatch.setattr(run, "PIECE_ELEMENTS", 1)
    X, y, _ = rows_of(4500)
    net, fresh = stack(), stack()
    for m in (1100, 4500):
        net.fit(X[:m], y[:m], optimizer=SGD(0.01), epochs=1, batch_size=m, progress=False)
        net.loss_and_grad(X[:m], y[:m])
    fresh.flat_params = net.flat_params
    for each in (net, fresh):
        each.fit(X, y, optimizer=SGD(0.02), epochs=1, batch_size=4500, shuffle=False,
                 progress=False)  # fmt: skip
    np.testing.assert_array_equal(net.flat_params, fresh.flat_params)
    np.testing.assert_array_equal(net.loss_and_grad(X, y)[1], fresh.loss_and_grad(X, y)[1])


def test_pieces_that_would_cut_a_block_are_refused(compiled):
    net = Sequential([Dense(3)], n_inputs=2)
    lowered = net.lower(losses.cross_entropy)
    data = Data(np.ones((900, 2), np.float32), labels=np.zeros(900, np.int32), batch_size=100)
    ws = Workspace(
        lowered, net.flat_params, np.zeros(0, np.float32), 100, total_rows=900, training=True
    )
    with pytest.raises(ValueError, match="multiples of 512"):
        engines.current().loss_and_grad(ws, data, np.zeros(2))
    data.batch_size = 512
    ws = Workspace(
        lowered, net.flat_params, np.zeros(0, np.float32), 512, total_rows=600, training=True
    )
    with pytest.raises(ValueError, match=r"in room for 60[08]"):
        engines.current().loss_and_grad(ws, data, np.zeros(2))


def test_a_poisoned_workspace_changes_no_piece(compiled, monkeypatch):
    monkeypatch.setattr(run, "PIECE_ELEMENTS", 1)
    X, y, _ = rows_of(4500)
    net = stack()
    expected = net.loss_and_grad(X, y)
    original = Workspace.__init__

    def make_poisoned(self, *args, **kwargs):
        original(self, *args, **kwargs)
        poison(self)

    monkeypatch.setattr(Workspace, "__init__", make_poisoned)
    found = net.copy().loss_and_grad(X, y)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


# -- prepared once --------------------------------------------------------------------------------


def test_preparing_a_run_twice_binds_once(compiled, workspaces, monkeypatch):
    X, y = table(60)
    net = Sequential([Dense(8, "tanh"), Dense(3)])
    bound = []
    bind = compiled_module.CompiledEngine._bind
    monkeypatch.setattr(
        compiled_module.CompiledEngine, "_bind",
        lambda *args: (bound.append(args[-1]), bind(*args))[1],
    )  # fmt: skip
    for _ in range(3):
        net.fit(X, y, epochs=1, batch_size=16, progress=False)
        net.predict(X)
        net.evaluate(X, y)
        net.loss_and_grad(X, y)
    made = len(workspaces)
    kinds = [variant.task.value for variant in bound]
    assert kinds.count("train") == 1
    net.fit(X, y, epochs=1, batch_size=16, progress=False)
    assert len(workspaces) == made


def test_another_optimizer_starts_without_memory_and_the_same_one_goes_on(engine):
    X, y = table(60)
    nets = [Sequential([Dense(3)], seed=1) for _ in range(2)]
    nets[0].fit(X, y, optimizer=Adam(0.01), epochs=4, progress=False)
    for _ in range(4):
        nets[1].fit(X, y, optimizer=Adam(0.01), epochs=1, progress=False)
    np.testing.assert_array_equal(nets[0].flat_params, nets[1].flat_params)
    nets[1].fit(X, y, optimizer=SGD(0.1, momentum=0.5), epochs=1, progress=False)
    assert nets[1].training_state.step == 2
    assert nets[1].training_state.epoch == 5


def test_a_pickled_network_continues_its_fit(engine):
    import pickle

    X, y = table(60)
    net = Sequential([Dense(4, "tanh"), Dense(3)], seed=1)
    net.fit(X, y, epochs=2, progress=False)
    twin = pickle.loads(pickle.dumps(net))
    for each in (net, twin):
        each.fit(X, y, epochs=2, progress=False)
    np.testing.assert_array_equal(net.flat_params, twin.flat_params)
    assert twin.training_state.state is twin._statistics


def test_the_rows_of_a_fit_are_not_kept(engine):
    import weakref

    net = Sequential([Dense(3)])
    X, y = table(60)
    X = X.copy()
    rows = weakref.ref(X)
    net.fit(X, y, epochs=1, validation_data=(X, y), progress=False)
    del X
    assert rows() is None


def test_validation_binds_once(compiled, workspaces):
    X, y = table(60)
    net = Sequential([Dense(3)])
    net.fit(X, y, epochs=1, validation_data=(X, y), progress=False)
    made = len(workspaces)
    net.fit(X, y, epochs=2, validation_data=(X, y), progress=False)
    assert len(workspaces) == made


def test_pieces_know_seed_and_step(compiled, monkeypatch, workspaces):
    monkeypatch.setattr(run, "PIECE_ELEMENTS", 1)
    X, y = table(1200)
    net = Sequential([Dense(3)], seed=77)
    net.fit(X, y, epochs=3, batch_size=600, progress=False)
    seen = []
    gradient = compiled_module.CompiledEngine.loss_and_grad

    def look(self, ws, *arguments):
        gradient(self, ws, *arguments)
        context = ws.programs[compiled].context
        seen.append((context["seed"], context["step"]))

    monkeypatch.setattr(compiled_module.CompiledEngine, "loss_and_grad", look)
    net.fit(X, y, epochs=1, batch_size=600, progress=False)
    assert set(seen[1:]) == {(77, 6), (77, 7)}


def test_a_copy_that_cannot_hold_the_parameters_is_refused():
    net = Sequential([Dense(1, init=Constant(1e300))], n_inputs=2, dtype="float64")
    with pytest.raises(ValueError, match="too large for float32"):
        net.copy("float32")
    net.flat_params = [1, 2, 3]
    assert net.copy("float32").flat_params.tolist() == [1, 2, 3]


# -- fits that fail -------------------------------------------------------------------------------


def fail_to_allocate(monkeypatch):
    def no_memory(*_args, **_kwargs):
        raise MemoryError("no room")

    monkeypatch.setattr(run, "Workspace", no_memory)


def bad_variable(monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "many")


def no_such_validation(monkeypatch):
    monkeypatch.setattr(model.History, "__init__", lambda *_: 1 / 0)


def no_order(monkeypatch):
    """After everything is prepared, but before the first step."""

    def no_memory(*_args, **_kwargs):
        raise MemoryError("no room for an order")

    monkeypatch.setattr(engines.current(), "permutations", no_memory)


@pytest.mark.parametrize("fault", [fail_to_allocate, bad_variable, no_such_validation, no_order])
@pytest.mark.parametrize("fitted", [False, True])
def test_a_fit_that_fails_leaves_the_network_as_it_was(engine, fitted, fault, monkeypatch):
    X, y = table(60)
    net = Sequential([Dense(4, "tanh"), Dense(3)], seed=1)
    if fitted:
        net.fit(X, y, epochs=1, progress=False)
    before = {
        "classes": net.classes_, "n_inputs": net.n_inputs, "state": net.training_state,
        "loss": net._loss, "history": net.history,
    }  # fmt: skip
    params = net.flat_params.copy() if fitted else None
    used = dict(net.history.threads_used) if fitted else None
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)
        with pytest.raises((MemoryError, ValueError, ZeroDivisionError)):
            net.fit(X, np.eye(3)[y], loss="mse", optimizer=SGD(0.1), epochs=1, progress=False)
    after = {
        "classes": net.classes_, "n_inputs": net.n_inputs, "state": net.training_state,
        "loss": net._loss, "history": net.history,
    }  # fmt: skip
    assert all(before[name] is after[name] or before[name] == after[name] for name in before)
    if fitted:
        np.testing.assert_array_equal(net.flat_params, params)
        assert net.training_state.step == 2
        assert net.history.threads_used == used
    else:
        with pytest.raises(fastnn.errors.NotFittedError):
            net.flat_params  # noqa: B018
    net.fit(X, y, epochs=1, progress=False)


def test_a_fit_without_stderr_runs(engine, monkeypatch):
    X, y = table(60)
    monkeypatch.setattr(sys, "stderr", None)
    net = Sequential([Dense(3)])
    net.fit(X, y, epochs=1)
    with pytest.raises(ValueError, match="stderr"):
        Sequential([Dense(3)]).fit(X, y, epochs=1, progress=True)


def test_numpys_error_state_does_not_matter(engine):
    X, y = table(60)
    expected = Sequential([Dense(4, "gelu"), Dense(3)], seed=1)
    expected.fit(X, y, epochs=3, progress=False)
    with np.errstate(all="raise"):
        net = Sequential([Dense(4, "gelu"), Dense(3)], seed=1)
        net.fit(X.astype(float), y, epochs=3, progress=False, validation_data=(X, y))
        Adam(0.01).hyper(10**6, np.full(3, 0.1))
        net.predict_proba(100 * X)
        net.evaluate(X, y)
        net.loss_and_grad(X, y)
    np.testing.assert_array_equal(net.flat_params, expected.flat_params)


def test_numpys_error_state_does_not_matter_to_functions():
    X, y = table(60)
    net = Sequential([Dense(4, "gelu"), Dense(3)], n_inputs=X.shape[1])
    with np.errstate(all="raise"):
        net.trace(1e-30 * X, y)
        z = np.array([-800.0, -1e-320, 0.0, 1e-320, 800.0])
        for name in ("sigmoid", "tanh", "elu", "selu", "gelu", "silu", "softplus", "mish"):
            function = fastnn.activations.get(name)
            assert np.isfinite(function(z)).all()
            assert np.isfinite(function.derivative(z)).all()
        assert np.isfinite(fastnn.softmax(z)).all()


@pytest.mark.filterwarnings("ignore::fastnn.errors.FitWarning")
def test_slots_that_become_infinite_are_a_divergence(engine):
    X, _ = table(60)
    net = Sequential([Dense(1)], n_inputs=X.shape[1])
    before = net.flat_params.copy()
    with pytest.raises(DivergedError):
        net.fit(X, 1e25 * X[:, 0], loss="mse", epochs=2, progress=False)
    np.testing.assert_array_equal(net.flat_params, before)
    assert not net.training_state.slots.any()


def test_numbers_that_overflow_are_refused():
    net = Sequential([Dense(1)], n_inputs=2)
    with pytest.raises(ValueError, match="too large for float32"):
        net.flat_params = [1e39, 0, 0]
    assert np.isfinite(net.flat_params).all()
    with pytest.raises(ValueError, match=r"0\.W.*too large for float32"):
        Sequential([Dense(1, init=Constant(1e39))], n_inputs=2)
    Sequential([Dense(1, init=Constant(1e39))], n_inputs=2, dtype="float64")


def test_gradient_checks_know_the_input_scale():
    X, y = table(20)
    net = Sequential([Dense(4, "tanh"), Dense(3)], n_inputs=X.shape[1], input_scale=0.01)
    assert check_gradients(net, 100 * X, y) < 1e-6
    numeric = fastnn.numerical_gradient(net, 100 * X, y)
    _, gradient = net.copy("float64").loss_and_grad(100 * X, y)
    np.testing.assert_allclose(numeric, gradient, rtol=1e-5, atol=1e-8)


# -- what kernels refuse --------------------------------------------------------------------------


@pytest.mark.parametrize("row", [0, 3, 7])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_of_several_statuses_the_largest_counts(compiled, parts, row, monkeypatch):
    """Whichever part meets the label that is out of range."""
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", parts)
    net = Sequential([Dense(3)], n_inputs=2)
    ws = Workspace(net.lower(losses.cross_entropy), net.flat_params, np.zeros(0, np.float32), 8)
    data = Data(np.ones((8, 2), np.float32), labels=np.zeros(8, np.int32))
    data.labels[row] = 9
    with pytest.raises(EngineError, match="a label or an entry of the order is out of range"):
        engines.current().evaluate(ws, data, np.zeros((1, 2)))


@pytest.mark.parametrize("n_out", [1, 2, 5])
def test_a_label_is_one_of_the_classes(compiled, n_out):
    """One output distinguishes two."""
    net = Sequential([Dense(n_out)], n_inputs=2)
    plan = net.lower(losses.binary_cross_entropy)
    ws = Workspace(plan, net.flat_params, np.zeros(0, np.float32), 8)
    n_classes = max(n_out, 2)
    for label in (-1, 0, n_classes - 1, n_classes):
        data = Data(np.ones((8, 2), np.float32), labels=np.full(8, label, np.int32))
        if 0 <= label < n_classes:
            assert engines.current().evaluate(ws, data, np.zeros((1, 2)))
        else:
            with pytest.raises(EngineError, match="a label or an entry of the order"):
                engines.current().evaluate(ws, data, np.zeros((1, 2)))


def test_few_rows_keep_to_the_batches_asked_for(compiled):
    net = Sequential([Dense(3)], n_inputs=2)
    ws = Workspace(net.lower(None), net.flat_params, np.zeros(0, np.float32), 8)
    engine = engines.current()
    for _ in range(3):
        out = np.full((6, 3), np.nan, np.float32)
        engine.forward(ws, Data(np.ones((6, 2), np.float32), batch_size=2), out, "logits", 1, 2)
        assert np.isfinite(out).all(axis=1).tolist() == [False] * 2 + [True] * 2 + [False] * 2
        engine.forward(ws, Data(np.ones((6, 2), np.float32), batch_size=2), out, "logits", 0, 1)
        assert np.isfinite(out).all(axis=1).tolist() == [True] * 4 + [False] * 2
        engine.forward(ws, Data(np.ones((6, 2), np.float32)), out)


def test_few_rows_of_another_width_are_refused(compiled):
    net = Sequential([Dense(3)], n_inputs=2)
    ws = Workspace(net.lower(None), net.flat_params, np.zeros(0, np.float32), 8)
    engine = engines.current()
    out = np.zeros((4, 3), np.float32)
    for _ in range(2):
        engine.forward(ws, Data(np.ones((4, 2), np.float32)), out)
    for X in (np.ones((4, 1), np.float32), np.ones((4, 3), np.float32), np.ones((4, 2, 1), "f4")):
        with pytest.raises(ValueError, match="the plan reads 2 columns"):
            engine.forward(ws, Data(X), out)
    with pytest.raises(ValueError, match="elements"):
        engine.forward(ws, Data(np.ones((4, 2), np.float32)), out[:3])
