"""Muon: the formula, PyTorch, orthogonal steps, equal bits, and what is refused."""

import dataclasses
import json

import digests
import naive
import naive_muon
import numpy as np
import pytest
from cases import Case
from conftest import DTYPES, poison, table

from fastnn import (
    SGD,
    Activation,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Embedding,
    Maxout,
    Muon,
    Residual,
    Sequential,
    data,
    engines,
    losses,
    optimizers,
    run,
)
from fastnn.engines import boundary
from fastnn.engines import compiled as compiled_module
from fastnn.engines.workspace import Steps, Workspace
from fastnn.errors import EngineError
from fastnn.schedules import Linear
from fastnn.tables import COMMON, HYPER, NORM_BLOCK, Rule
from fastnn.update import Update

LAYERS = (
    naive.Dense(9, "tanh"),
    naive.Dense(6, "silu"),  # tall
    naive.Residual((naive.Dense(11, "tanh"),)),  # wide, with a projection
    naive.PReLU(),
    naive.Dense(11),  # square
    naive.Dense(3),
)
HIDDEN = {"1.W", "2.0.W", "2.projection.W", "4.W"}


def relative_error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


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


def one_matrix(n_in, n_out, dtype, optimizer, **keywords):
    """A workspace of a network with one hidden matrix, and its (weights, slots, gradient)."""
    net = Sequential([Dense(n_in), Dense(n_out), Dense(2)], n_inputs=2, dtype=dtype)
    plan = net.lower(losses.get("mse"))
    update = Update.of(plan, optimizer, **keywords)
    ws = Workspace(plan, net.flat_params, np.zeros(plan.n_state, dtype), 4, update)
    poison(ws)
    rng = np.random.default_rng(n_in + 1000 * n_out)
    ws.grad[:] = rng.normal(size=ws.grad.size)
    at = plan.training.ops["w"][1]
    place = slice(at, at + n_in * n_out)
    slots = ws.slots[:, place].reshape(2, n_in, n_out)
    return ws, (ws.params[place].reshape(n_in, n_out), slots, ws.grad[place].reshape(n_in, n_out))


def take_steps(ws, optimizer, count=1, first=1):
    engines.current().update(ws, Steps(optimizer.hyper(first, np.full(count, optimizer.lr))))


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


# -- which parameters, with what factors ----------------------------------------------------------


def updated(layers, n_inputs, optimizer, **keywords):
    """The update of a network, and the names of what each of its groups holds."""
    net = Sequential(layers, n_inputs=n_inputs)
    plan = net.lower(losses.get("mse"))
    update = Update.of(plan, optimizer, **keywords)
    found = [
        {p.name for p in plan.parameters if begin <= p.offset < end}
        for begin, end, *_ in [*update.groups, *(group for _, group in update.matrices)]
    ]
    split = len(update.groups)
    return update, set().union(*found[:split]), [name for names in found[split:] for name in names]


def test_hidden_matrices_are_those_between_the_first_and_the_last():
    layers = [Embedding({0: (5, 2)}), Dense(8), BatchNorm(), Activation("relu"), Maxout(6, 2),
              Residual([Dense(4), Dense(5)]), Dense(3)]  # fmt: skip
    update, others, matrices = updated(layers, 3, Muon())
    assert matrices == ["4.W", "5.0.W", "5.1.W", "5.projection.W"]
    assert others >= {"0.E0", "1.W", "4.b", "5.0.b", "6.W", "6.b"}
    assert not others & set(matrices)
    assert update.n_slots == 2


def test_factors_and_frozen_layers_hold_for_matrices_too():
    layers = [Dense(4), Dense(5), Dense(6), Dense(7), Dense(2)]
    optimizer = Muon(
        weight_decay=0.1, lr_factors={"1": 0.5, "3.W": 0}, decay_factors={"2.W": 0.25, "0": 3},
        adamw=AdamW(weight_decay=0.0),
    )  # fmt: skip
    update, others, matrices = updated(layers, 3, optimizer, freeze=["4"])
    assert matrices == ["1.W", "2.W"]
    assert [group[2:] for _, group in update.matrices] == [(0.5, 1.0), (1.0, 0.25)]
    assert {group[3] for group in update.groups} == {0.0}  # adamw has no decay
    assert others == {"0.W", "0.b", "1.b", "2.b", "3.b"}
    all_frozen, _, matrices = updated(layers, 3, Muon(), freeze=["1.W", "2.W", "3.W"])
    assert not matrices
    assert all_frozen.groups
    only, others, matrices = updated(layers, 3, Muon(), freeze=["0", "1.b", "2", "3", "4"])
    assert (others, matrices, only.groups) == (set(), ["1.W"], ())


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_multiply_rate_and_decay(engine, dtype):
    plain = Muon(0.2, weight_decay=0.5)
    half = Muon(0.2, weight_decay=0.5, lr_factors={"1": 0.5}, decay_factors={"1": 0.2})
    moved = {}
    for optimizer in (plain, half):
        ws, (W, slots, _) = one_matrix(9, 6, dtype, optimizer)
        before = W.astype(float)
        take_steps(ws, optimizer)
        moved[optimizer is half] = before, W - before, slots[1].astype(float)
    for is_half, (before, change, direction) in moved.items():
        rate, decay = (0.1, 0.1) if is_half else (0.2, 0.5)
        wanted = -rate * decay * before - rate * direction
        assert relative_error(change, wanted) < (1e-5 if dtype == "float32" else 1e-13)


def test_a_frozen_matrix_and_its_slots_stay(engine):
    ws, (W, slots, _) = one_matrix(9, 6, "float32", Muon(), freeze=["1.W"])
    before = ws.params.copy()
    take_steps(ws, Muon(), 2)
    found = np.flatnonzero(ws.params != before)
    assert found.size == ws.params.size - W.size
    assert (slots == 0).all()


def test_only_a_matrix_is_trained(engine):
    ws, (W, _, _) = one_matrix(9, 6, "float32", Muon(), freeze=["0", "1.b", "2"])
    before = ws.params.copy()
    take_steps(ws, Muon(), 2)
    assert np.flatnonzero(ws.params != before).size == W.size


@pytest.mark.parametrize("shape", [(90, 80), (9, 6)], ids=str)
def test_clipping_counts_matrices(engine, shape):
    """The norm is that of all trained parameters, several blocks of them and fewer than one."""
    optimizer = Muon(clip_norm=0.5, momentum=0.0)
    ws, _ = one_matrix(*shape, "float64", optimizer)
    assert (ws.grad.size > NORM_BLOCK) == (shape[0] > 9)
    wanted = ws.grad * 0.5 / np.linalg.norm(ws.grad)
    take_steps(ws, optimizer)
    assert relative_error(ws.grad, wanted) < 1e-12


def test_the_columns_of_a_step():
    optimizer = Muon(
        Linear(0.02, 0.01, 4), Linear(0.9, 0.8, 4), every=2, weight_decay=0.1,
        adamw=AdamW(0.003, weight_decay=0.2),
    )  # fmt: skip
    rates = optimizer.rates(0, 4)
    columns = optimizer.hyper(1, rates)
    found = dict(zip(HYPER[Rule.muon], columns.T, strict=True))
    other = dict(zip(HYPER[Rule.adam], optimizer.adamw.hyper(1, np.full(4, 0.003)).T, strict=True))
    for name in (*COMMON, "epsilon", "beta1", "beta2"):
        np.testing.assert_array_equal(found[name], other[name])
    np.testing.assert_allclose(found["matrix_lr"], [0.02, 0.0175, 0.015, 0.0125])
    np.testing.assert_allclose(found["matrix_decoupled"], 0.1 * found["matrix_lr"])
    np.testing.assert_allclose(found["momentum"], [0.9, 0.875, 0.85, 0.825])
    np.testing.assert_allclose(found["of_gradient"], 1 - found["momentum"])
    assert found["orthogonalises"].tolist() == [1, 0, 1, 0]
    later = optimizer.hyper(4, optimizer.rates(3, 1))
    np.testing.assert_array_equal(later[0], columns[3])


def test_a_schedule_of_fit_multiplies_both_rates():
    """What fit gives instead of the optimizer's own rate changes AdamW's in proportion."""
    optimizer = Muon(0.02, adamw=AdamW(0.003))
    usual, half = (optimizer.hyper(5, np.full(3, rate)) for rate in (0.02, 0.01))
    at = HYPER[Rule.muon].index("matrix_lr")
    np.testing.assert_allclose(half[:, [0, at]], usual[:, [0, at]] / 2)


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


# -- bad input ------------------------------------------------------------------------------------

BAD = {
    "rate": (ValueError, "lr must be above 0", lambda: Muon(0)),
    "momentum": (ValueError, "momentum must be below 1", lambda: Muon(momentum=1.0)),
    "nesterov": (TypeError, "nesterov must be True", lambda: Muon(nesterov=1)),
    "no turns": (ValueError, "newton_schulz must be at least 1", lambda: Muon(newton_schulz=0)),
    "turns": (ValueError, "newton_schulz must be at most 10", lambda: Muon(newton_schulz=11)),
    "every": (ValueError, "every must be at least 1", lambda: Muon(every=0)),
    "every a float": (TypeError, "every must be a whole", lambda: Muon(every=2.0)),
    "decay": (ValueError, "weight_decay must be at least 0", lambda: Muon(weight_decay=-1)),
    "another optimizer": (TypeError, "adamw must be an AdamW", lambda: Muon(adamw=Adam())),
    "a name": (TypeError, "adamw must be an AdamW", lambda: Muon(adamw="adamw")),
    "clipping": (ValueError, "give it to Muon", lambda: Muon(adamw=AdamW(clip_norm=1.0))),
    "factors": (ValueError, "adamw must have no lr_factors",
                lambda: Muon(adamw=AdamW(lr_factors={"0": 1}))),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_hyperparameters_are_refused(what):
    error, message, make = BAD[what]
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("layers", [[Dense(3)], [Dense(8), Activation("relu"), Dense(3)]])
def test_a_network_without_a_hidden_matrix_is_refused(engine, layers):
    X, y = table()
    net = Sequential(layers, n_inputs=X.shape[1])
    before = net.flat_params.copy()
    with pytest.raises(ValueError, match="add a hidden layer, or train with AdamW"):
        net.fit(X, y, optimizer=Muon(), progress=False)
    np.testing.assert_array_equal(net.flat_params, before)


def test_freezing_everything_is_refused():
    with pytest.raises(ValueError, match="every parameter is frozen"):
        one_matrix(4, 3, "float32", Muon(), freeze=["0", "1", "2"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrices": ((0, (0, 8, 1.0, 1.0)),)}, "is not that of operation 0"),
        ({"matrices": ((9, (8, 32, 1.0, 1.0)),)}, "is not that of operation 9"),
        ({"matrices": ((-1, (8, 32, 1.0, 1.0)),)}, "is not that of operation -1"),
        ({"turns": 0}, "0 Newton-Schulz steps"),
        ({"turns": 11}, "11 Newton-Schulz steps"),
        ({"matrices": ()}, "do not fit"),
    ],
)
def test_damaged_updates_are_refused(change, message):
    ws, _ = one_matrix(4, 6, "float32", Muon())
    boundary.check_training(ws, True)
    ws.update = dataclasses.replace(ws.update, **change)
    with pytest.raises(ValueError, match=message):
        boundary.check_training(ws, True)


@pytest.mark.parametrize("field", ["begin", "end"])
@pytest.mark.parametrize("value", [-1, 9, 1 << 40])
def test_damaged_groups_of_matrices_are_refused(field, value):
    ws, _ = one_matrix(4, 6, "float32", Muon())
    ws.groups = ws.groups.copy()
    ws.groups[-1][field] = value
    with pytest.raises(ValueError, match=r"groups of the update|is not that of"):
        boundary.check_training(ws, True)


def test_too_small_a_scratch_space_is_refused():
    ws, _ = one_matrix(4, 6, "float32", Muon())
    ws.layout = dataclasses.replace(ws.layout, scratch=ws.update.scratch(ws.layout.ops) - 1)
    with pytest.raises(ValueError, match="the update needs"):
        boundary.check_training(ws, True)


def test_a_matrix_without_its_group_stops_the_run(compiled):
    """The kernel looks for its group, and finds none."""
    ws, _ = one_matrix(4, 6, "float32", Muon())
    take_steps(ws, Muon())
    ws.groups.flags.writeable = True
    ws.groups[-1]["begin"] = 3
    with pytest.raises(EngineError, match="stopped with status"):
        take_steps(ws, Muon())


def test_steps_of_another_rule_are_refused(compiled):
    ws, _ = one_matrix(4, 6, "float32", Muon())
    with pytest.raises(ValueError, match="hyper has"):
        engines.current().update(ws, Steps(SGD().hyper(1, np.ones(1))))
