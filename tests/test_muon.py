"""Muon: the formula, PyTorch, orthogonal steps, equal bits, and what is refused."""

import dataclasses
import json

import digests
import naive
import naive_muon
import numpy as np
import pytest
from cases import Case
from conftest import DTYPES, table
from muon_cases import one_matrix, relative_error, take_steps

from fastnn import (
    AdamW,
    Dense,
    Muon,
    Sequential,
    data,
    optimizers,
    run,
)
from fastnn.engines import compiled as compiled_module
from fastnn.engines import threads
from fastnn.engines.tuning import Tuner

LAYERS = (
    naive.Dense(9, "tanh"),
    naive.Dense(6, "silu"),  # tall
    naive.Residual((naive.Dense(11, "tanh"),)),  # wide, with a projection
    naive.PReLU(),
    naive.Dense(11),  # square
    naive.Dense(3),
)
HIDDEN = {"1.W", "2.0.W", "2.projection.W", "4.W"}


# -- the formula ----------------------------------------------------------------------------------

RULES = {
    "plain": (Muon(), lambda: naive_muon.Muon(0.02)),
    "everything": (
        Muon(0.03, 0.8, nesterov=False, weight_decay=0.2, newton_schulz=3, every=3,
             adamw=AdamW(0.002, weight_decay=0.1)),
        lambda: naive_muon.Muon(0.03, 0.8, False, 0.2, 3, 3),
    ),
    "many turns": (Muon(0.01, newton_schulz=8), lambda: naive_muon.Muon(0.01, turns=8)),
}  # fmt: skip


def hundred_steps(case, optimizer, matrix):
    """The parameters after 20 epochs of 5 batches by the oracle."""
    p = case.parameters
    other = optimizer.adamw
    rules = {
        name: matrix()
        if name in HIDDEN
        else naive_muon.AdamW(other.lr, other.weight_decay * name.endswith("W"))
        for name in p
    }
    layers, loss, X, T, _, l1, l2, _, run = case.oracle
    for step in range(100):
        rows = slice(step % 5 * 5, step % 5 * 5 + 5)
        now = dataclasses.replace(run, step=step)
        found = naive.gradients(p, layers, loss, X[rows], T[rows], None, l1, l2, case.m, now)
        p = {name: rules[name].step(p[name], found[name]) for name in p}
    return p


@pytest.fixture(scope="module")
def oracle():
    case = Case(5, LAYERS, "cross_entropy", 23, seed=4)
    return case, {name: hundred_steps(case, *rule) for name, rule in RULES.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES)
def test_a_hundred_steps_follow_the_formula(engine, dtype, rule, oracle):
    case, expected = oracle
    net = case.network(dtype)
    before = net.flat_params.copy()
    net.fit(
        case.X, case.T, loss="cross_entropy", optimizer=RULES[rule][0], epochs=20, batch_size=5,
        shuffle=False, progress=False,
    )  # fmt: skip
    wanted = np.concatenate([expected[rule][name].ravel() for name in net.parameters()])
    assert relative_error(net.flat_params, wanted) < (2e-3 if dtype == "float32" else 1e-9)
    assert relative_error(before, wanted) > 0.1  # it moved


def torch_network(net, torch):
    """The same network with the same parameters; their W is (n_out, n_in)."""
    linears = [torch.nn.Linear(*shape) for shape in ((5, 9), (9, 14), (14, 6), (6, 3))]
    with torch.no_grad():
        for linear, (W, b) in zip(linears, batched(net.parameters().values()), strict=True):
            linear.weight.copy_(torch.from_numpy(W.T.copy()))
            linear.bias.copy_(torch.from_numpy(b))
    modules = [module for linear in linears for module in (linear, torch.nn.Tanh())]
    return torch.nn.Sequential(*modules[:-1])


def batched(arrays):
    """Weights and biases of each layer."""
    arrays = list(arrays)
    half = len(arrays) // 2
    return list(zip(arrays[:half], arrays[half:], strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("nesterov", [True, False])
def test_a_hundred_steps_follow_pytorch(engine, nesterov, decay, monkeypatch):
    """PyTorch orthogonalises in bfloat16; where that is float64, its Muon is ours."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    layers = [Dense(9, "tanh"), Dense(14, "tanh"), Dense(6, "tanh"), Dense(3)]
    net = Sequential(layers, n_inputs=5, dtype="float64", seed=2)
    rng = np.random.default_rng(0)
    X, T = rng.normal(size=(25, 5)), rng.normal(size=(25, 3))
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        theirs = torch_network(net, torch)
    finally:
        torch.set_default_dtype(default)
    hidden = [theirs[2].weight, theirs[4].weight]
    weights = [theirs[0].weight, theirs[6].weight]
    biases = [theirs[index].bias for index in (0, 2, 4, 6)]
    optimizers_ = [
        torch.optim.Muon(hidden, lr=0.02, momentum=0.9, nesterov=nesterov, weight_decay=decay),
        torch.optim.AdamW([{"params": weights}, {"params": biases, "weight_decay": 0.0}],
                          lr=0.003, weight_decay=decay),
    ]  # fmt: skip
    for step in range(100):
        rows = slice(step % 5 * 5, step % 5 * 5 + 5)
        loss = torch.nn.functional.mse_loss(
            theirs(torch.from_numpy(X[rows])), torch.from_numpy(T[rows])
        )
        for each in optimizers_:
            each.zero_grad()
        loss.backward()
        for each in optimizers_:
            each.step()
    muon = Muon(0.02, 0.9, nesterov, weight_decay=decay, adamw=AdamW(0.003, weight_decay=decay))
    net.fit(X, T, loss="mse", optimizer=muon, epochs=20, batch_size=5, shuffle=False,
            progress=False)  # fmt: skip
    for linear, (W, b) in zip(theirs[::2], batched(net.parameters().values()), strict=True):
        assert relative_error(W, linear.weight.detach().numpy().T) < 1e-9
        assert relative_error(b, linear.bias.detach().numpy()) < 1e-9


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_a_step_is_pytorchs_but_for_its_bfloat16(engine, shape):
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    ws, (W, _, G) = one_matrix(*shape, "float64", Muon(1.0))
    weight = torch.nn.Parameter(torch.from_numpy(W.T.copy()))
    weight.grad = torch.from_numpy(G.T.copy())
    theirs = torch.optim.Muon([weight], lr=1.0, weight_decay=0.0)
    before = W.copy()
    take_steps(ws, Muon(1.0))
    theirs.step()
    theirs_moved = weight.detach().numpy().T - before
    assert relative_error(W - before, theirs_moved) < 0.05


# -- one matrix -----------------------------------------------------------------------------------


SHAPES = [
    (1, 1), (1, 7), (7, 1), (2, 3), (5, 5), (16, 16), (97, 13), (13, 97), (101, 101), (130, 129),
    (3, 600), (600, 3), (530, 600), (800, 24),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_is_an_orthogonal_matrix(engine, shape, dtype):
    """Its singular vectors are those of the gradient; its values those of the polynomial."""
    optimizer = Muon(1.0, newton_schulz=5)
    ws, (W, slots, G) = one_matrix(*shape, dtype, optimizer)
    before = W.copy()
    take_steps(ws, optimizer)
    step = (before - W).astype(float) / max(1, shape[1] / shape[0]) ** 0.5
    wanted = naive_muon.orthogonalised(G.astype(float), 5)
    tolerance = 1e-11 if dtype == "float64" else 1e-4
    assert relative_error(step, wanted) < tolerance
    assert relative_error(slots[1].astype(float), wanted) < tolerance
    values = np.linalg.svd(G.astype(float) / np.linalg.norm(G), compute_uv=False)
    found = np.linalg.svd(step, compute_uv=False)
    large = values > 0.003
    assert large.any()
    assert ((found[large] > 0.68) & (found[large] < 1.21)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("parts", [1, 3, 8])
@pytest.mark.parametrize("shape", [(5, 7), (40, 19), (97, 101), (129, 130), (600, 530), (31, 800)],
                         ids=str)  # fmt: skip
def test_symmetric_products_are_whole_ones_bit_for_bit(compiled, shape, dtype, parts, monkeypatch):
    """A, B and Y B are those of a forward pass, whatever is computed and what is mirrored."""
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", parts)
    optimizer = Muon(1.0, newton_schulz=1)
    ws, (_, slots, _) = one_matrix(*shape, dtype, optimizer)
    take_steps(ws, optimizer)
    rows, columns = max(shape), min(shape)
    y, other, a, b = (ws.scratch[begin:end] for begin, end in ws.update.buffers(*shape))
    y, other = y.reshape(rows, columns), other.reshape(rows, columns)
    a, b = a.reshape(columns, columns), b.reshape(columns, columns)
    np.testing.assert_array_equal(a, a.T)
    np.testing.assert_array_equal(b, b.T)
    np.testing.assert_array_equal(a, product(y.T, y))
    found = y.dtype.type(-4.7750) * a + y.dtype.type(2.0315) * product(a, a)
    found[np.diag_indices(columns)] += y.dtype.type(3.4445)
    np.testing.assert_array_equal(b, found)
    np.testing.assert_array_equal(other, product(y, b))
    np.testing.assert_array_equal(slots[1], other if shape[0] >= shape[1] else other.T)
    assert (ws.ran[:parts] > 0).all()
    assert (ws.ran[parts:] == 0).all()


def product(a, b):
    """a b by a forward pass, for at least five columns."""
    net = Sequential([Dense(b.shape[1])], n_inputs=b.shape[0], dtype=b.dtype)
    net.flat_params = np.concatenate([b.ravel(), np.zeros(b.shape[1], b.dtype)])
    return net.logits(np.ascontiguousarray(a))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12])
def test_the_size_of_the_gradient_does_not_count(engine, scale):
    """Unless it is below 1e-7, where the step vanishes with it."""
    optimizer = Muon(1.0)
    ws, (_, slots, G) = one_matrix(12, 8, "float64", optimizer)
    ws.grad *= scale
    take_steps(ws, optimizer)
    wanted = naive_muon.orthogonalised(0.0975 * G, 5)  # 1 - 0.95^2 of it
    assert relative_error(slots[1], wanted) < 1e-10
    assert (np.linalg.norm(slots[1]) > 1) == (scale >= 1.0)


def test_a_gradient_of_zeros_moves_nothing(engine):
    ws, (W, slots, _) = one_matrix(12, 8, "float32", Muon())
    ws.grad[:] = 0
    before = W.copy()
    take_steps(ws, Muon(), 3)
    np.testing.assert_array_equal(W, before)
    assert (slots == 0).all()


def test_between_two_directions_the_last_one_is_kept(engine):
    optimizer = Muon(0.1, every=3)
    ws, (W, slots, _) = one_matrix(9, 14, "float64", optimizer)
    rng = np.random.default_rng(5)
    directions, kept, before = [], [], W.copy()
    for step in range(1, 8):
        ws.grad[:] = rng.normal(size=ws.grad.size)
        momentum = slots[0].copy()
        take_steps(ws, optimizer, first=step)
        assert not np.array_equal(slots[0], momentum)
        directions.append((before - W) / 0.1)
        before, kept = W.copy(), [*kept, slots[1].copy()]
    for index, direction in enumerate(directions):
        same = relative_error(direction, directions[index // 3 * 3]) < 1e-10
        assert same
        np.testing.assert_array_equal(kept[index], kept[index // 3 * 3])
    assert relative_error(directions[3], directions[2]) > 0.1


# -- fits -----------------------------------------------------------------------------------------

DEEP = [Dense(24, "relu"), Dense(40, "relu"), Dense(13, "relu"), Dense(3)]


def fitted(epochs=6, optimizer=None, calls=1, dtype="float32"):
    X, y = table(150, 9, 3)
    net = Sequential(DEEP, n_inputs=9, dtype=dtype, seed=3)
    for _ in range(calls):
        net.fit(X, y, optimizer=optimizer or Muon(every=4), epochs=epochs // calls, batch_size=32,
                progress=False)  # fmt: skip
    return net


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_fits_are_one(engine, dtype):
    """Epochs of 5 steps, of which every fourth orthogonalises."""
    whole, halves = fitted(dtype=dtype), fitted(calls=2, dtype=dtype)
    np.testing.assert_array_equal(whole.flat_params, halves.flat_params)
    assert whole.history["loss"][-1] < whole.history["loss"][0] / 2


def test_muon_by_name_learns_digits(engine):
    X, y = data.load_digits()
    net = Sequential([Dense(64, "relu"), Dense(64, "relu"), Dense(10)])
    net.fit(X / 16, y, optimizer="muon", epochs=6, progress=False)
    assert net.evaluate(X / 16, y)["accuracy"] > 0.97
    assert optimizers.get("Muon") == Muon()


def test_a_batch_in_pieces(engine, monkeypatch):
    X, y = table(1500, 9, 3)
    found = []
    for most in (1500, 512):
        monkeypatch.setattr(run, "piece_rows", lambda plan, rows, most=most: min(rows, most))
        net = Sequential(DEEP, n_inputs=9, dtype="float64", seed=3)
        net.fit(X, y, optimizer=Muon(), epochs=3, batch_size=1500, progress=False)
        found.append(net.flat_params)
    assert relative_error(found[1], found[0]) < 1e-9


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_of_both_pools(pool, parts, workspaces, monkeypatch):
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(compiled_module, "PARTS", parts)
    kept = json.loads(digests.KEPT.read_text())
    assert digests.digest("muon", "float32") == kept["muon, float32"]
    assert any(ws.ran[parts - 1] > 0 and (ws.ran[parts:] == 0).all() for ws in workspaces)


def test_runs_that_are_compared_orthogonalise_equally_often(compiled, monkeypatch):
    """The number of threads is chosen by whole periods; what is left over runs unmeasured."""
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    monkeypatch.setattr(threads, "get_num_threads", lambda: 2)
    counts, record = [], Tuner.record
    monkeypatch.setattr(Tuner, "next", lambda self, batches: (1, min(3, batches)))
    monkeypatch.setattr(Tuner, "record", lambda *args: (counts.append(args[2]), record(*args))[1])
    optimizer = Muon(every=4)
    ws, _ = one_matrix(9, 6, "float32", optimizer)
    assert ws.update.every == 4
    take_steps(ws, optimizer, 19)
    assert counts == [4] * 4
    take_steps(ws, optimizer, 3)  # less than a period
    assert counts[4:] == [3]
