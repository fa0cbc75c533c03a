"""Groups of parameters: factors of rate and decay, clipping, and what is frozen."""

import functools

import naive
import naive_optimizers
import numpy as np
import pytest
from cases import Case, loss_function
from conftest import COMPILED, DTYPES, poison, table

import fastnn
from fastnn import SGD, Adam, BatchNorm, Dense, Dropout, PReLU, Residual, Sequential
from fastnn.engines import compiled as compiled_module
from fastnn.engines.workspace import Data, Steps, Workspace
from fastnn.tables import GROUP, NORM_BLOCK
from fastnn.update import Update


class Decoupled(Adam):
    """Adam with the decay of AdamW."""

    decoupled = True


RULES = {
    "sgd": (SGD, lambda rate: naive_optimizers.Sgd(rate)),
    "momentum": (functools.partial(SGD, momentum=0.8),
                 lambda rate: naive_optimizers.Momentum(rate, 0.8)),
    "nesterov": (functools.partial(SGD, momentum=0.8, nesterov=True),
                 lambda rate: naive_optimizers.Nesterov(rate, 0.8)),
    "adam": (Adam, lambda rate: naive_optimizers.Adam(rate)),
    "decoupled": (Decoupled, lambda rate: naive_optimizers.Adam(rate)),
}  # fmt: skip

PLAIN = (naive.Dense(5, "tanh"), naive.Dense(4, "sigmoid"), naive.Dense(2))
DEEP = (
    naive.Embedding(((1, 3, 2),)),
    naive.Dense(5, "tanh"),
    naive.BatchNorm(),
    naive.Residual((naive.Dense(4), naive.PReLU(), naive.Residual((naive.Dense(4, "tanh"),)))),
    naive.GroupNorm(1, 0.1),
    naive.Dense(2),
)
#: The parameters of DEEP that decay by default.
WEIGHTS = ("1.W", "3.0.W", "3.2.0.W", "3.projection.W", "5.W")

#: Layers, rule, keywords of the optimizer and freeze; then what each parameter has instead of rate
#: 1 and decay 1, or 0 if it is no weight matrix.
SCENARIOS = {
    "a factor for a layer, and one for its bias": (
        PLAIN, "momentum", {"lr_factors": {np.int64(0): 0.1, "1": 3.0, "1.b": 0.5}}, (),
        {"0.W": 0.1, "0.b": 0.1, "1.W": 3.0, "1.b": 0.5}, {}),
    "decays": (
        PLAIN, "nesterov", {"weight_decay": 0.1, "decay_factors": {"0": 0.5, "2.b": 2.0, 1: 0}}, (),
        {}, {"0.W": 0.5, "1.W": 0.0, "2.b": 2.0}),
    "a factor of 0 freezes": (
        PLAIN, "adam", {"weight_decay": 0.1, "lr_factors": {1: 0}}, (), {"1.W": 0, "1.b": 0}, {}),
    "decoupled decays": (
        PLAIN, "decoupled", {"weight_decay": 0.5, "decay_factors": {"0": 0.5, "2.b": 2.0},
                             "lr_factors": {"0": 0.2}}, (),
        {"0.W": 0.2, "0.b": 0.2}, {"0.W": 0.5, "2.b": 2.0}),
    "norms of what is trained": (
        PLAIN, "sgd", {"clip_norm": 2.74, "weight_decay": 0.1, "lr_factors": {"0": 0.5}}, ["2.W"],
        {"0.W": 0.5, "0.b": 0.5, "2.W": 0}, {}),
    "values": (
        PLAIN, "momentum", {"clip_value": 0.03, "weight_decay": 0.1, "lr_factors": {"0": 0.5}}, [1],
        {"0.W": 0.5, "0.b": 0.5, "1.W": 0, "1.b": 0}, {}),
    "all kinds of layers": (
        DEEP, "adam", {"weight_decay": 0.2, "clip_norm": 1.2,
                       "lr_factors": {"3": 0.5, "3.2": 2.0, "3.2.0.b": 0.25, "0.E1": 4.0},
                       "decay_factors": {"3": 0.5, "2.gamma": 3.0, "0": 9.0}}, ["4.beta"],
        {"3.0.W": 0.5, "3.0.b": 0.5, "3.1.alpha": 0.5, "3.projection.W": 0.5, "3.2.0.W": 2.0,
         "3.2.0.b": 0.25, "0.E1": 4.0, "4.beta": 0},
        {"3.0.W": 0.5, "3.2.0.W": 0.5, "3.projection.W": 0.5, "2.gamma": 3.0}),
    "a frozen normalisation": (
        DEEP, "sgd", {"clip_value": 0.05, "weight_decay": 0.2}, [2, "3.2"],
        {"2.gamma": 0, "2.beta": 0, "3.2.0.W": 0, "3.2.0.b": 0, "2 statistics": 0}, {}),
    "lower layers": (
        DEEP, "nesterov", {"clip_norm": 0.9}, [0, 1, 2, "3.0", "3.projection"],
        dict.fromkeys(("0.E1", "1.W", "1.b", "2.gamma", "2.beta", "3.0.W", "3.0.b",
                       "3.projection.W", "2 statistics"), 0.0), {}),
}  # fmt: skip

LR, EPOCHS, BATCH = 0.02, 18, 4


def a_case(layers):
    n_inputs = 3 if layers is DEEP else 4
    return Case(n_inputs, layers, "mse", 12, seed=5)


@functools.cache
def by_formula(name):
    """(parameters and statistics after 54 steps, how many of them were clipped)"""
    layers, rule, keywords, _, rates, decays = SCENARIOS[name]
    case = a_case(layers)
    values = {n: np.array(v) for n, v in case.values.items()}
    trained = [n for n in case.parameters if rates.get(n, 1.0) > 0]
    rules = {n: RULES[rule][1](LR * rates.get(n, 1.0)) for n in trained}
    decay = keywords.get("weight_decay", 0.0)
    clipped = 0
    for step in range(3 * EPOCHS):
        rows = slice(step % 3 * BATCH, step % 3 * BATCH + BATCH)
        X, T = case.X[rows], case.T[rows]
        found = naive.gradients(values, case.trained, "mse", X, T)
        moved = naive.moved(case.trained, naive.as_lists(values), X)
        gradient = {n: found[n] for n in trained}
        limited = clip(gradient, keywords)
        clipped += any((limited[n] != gradient[n]).any() for n in trained)
        for n in trained:
            w, g = values[n], limited[n]
            share = decay * decays.get(n, 1.0 if n.endswith("W") else 0.0)
            if rule == "decoupled":
                w = w - LR * rates.get(n, 1.0) * share * w
            else:
                g = g + share * w
            values[n] = rules[n].step(w, g)
        if "2 statistics" not in rates:
            values |= {n: np.array(v) for n, v in moved.items()}
    return values, clipped


def clip(gradient, keywords):
    """The gradient of all trained parameters together, limited."""
    if "clip_norm" in keywords:
        norm = np.sqrt(sum((g * g).sum() for g in gradient.values()))
        return {n: g * min(1.0, keywords["clip_norm"] / norm) for n, g in gradient.items()}
    most = keywords.get("clip_value", np.inf)
    return {n: np.clip(g, -most, most) for n, g in gradient.items()}


def trained(name, dtype="float64"):
    layers, rule, keywords, freeze, _, _ = SCENARIOS[name]
    case = a_case(layers)
    net = case.network(dtype)
    net.fit(
        case.X, case.T, loss=loss_function("mse"), optimizer=RULES[rule][0](LR, **keywords),
        epochs=EPOCHS, batch_size=BATCH, shuffle=False, freeze=freeze, progress=False,
    )  # fmt: skip
    return net


@pytest.mark.parametrize("name", SCENARIOS)
def test_54_steps_are_those_of_the_formulas(engine, name):
    expected, clipped = by_formula(name)
    found = trained(name).state_dict()
    assert found.keys() == expected.keys()
    for key in found:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-9, atol=1e-9, err_msg=key)
    if "clip_norm" in SCENARIOS[name][2]:
        assert 5 < clipped < 50, "some gradients should be longer than clip_norm, and some shorter"


def test_the_weight_matrices_decay_and_nothing_else():
    case = a_case(DEEP)
    net = case.network("float64")
    update = Update.of(net.plan, Adam(weight_decay=0.1))
    for parameter in net.plan.parameters:
        (decay,) = (d for begin, end, _, d in update.groups if begin <= parameter.offset < end)
        assert decay == (parameter.name in WEIGHTS), parameter.name


@pytest.mark.parametrize("kind", ["clip_norm", "clip_value"])
def test_clipping_is_that_of_pytorch(engine, kind):
    """PyTorch adds 1e-6 to the norm; otherwise it clips alike, over what is trained."""
    torch = pytest.importorskip("torch")
    X, y = table(60)
    X, y, limit = X.astype(float), y.astype(float)[:, None], 0.02
    net = Sequential([Dense(5, "tanh"), Dense(1)], n_inputs=7, dtype="float64")
    lower, upper = torch.nn.Linear(7, 5), torch.nn.Linear(5, 1)
    theirs = torch.nn.Sequential(lower, torch.nn.Tanh(), upper).double()
    with torch.no_grad():
        for layer, linear in (("0", lower), ("1", upper)):
            linear.weight[:] = torch.tensor(net.parameters()[f"{layer}.W"].T.copy())
            linear.bias[:] = torch.tensor(net.parameters()[f"{layer}.b"])
    lower.bias.requires_grad = False
    groups = [
        {"params": [lower.weight], "lr": 0.05, "weight_decay": 0.1},
        {"params": [upper.weight], "weight_decay": 0.1},
        {"params": [upper.bias]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    norms = []
    for _ in range(50):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(y)).backward()
        trained = [p for p in theirs.parameters() if p.requires_grad]
        if kind == "clip_norm":
            norms.append(float(torch.nn.utils.clip_grad_norm_(trained, limit)))
            with torch.no_grad():  # what PyTorch adds to the norm
                for p in trained:
                    p.grad *= (norms[-1] + 1e-6) / norms[-1]
        else:
            torch.nn.utils.clip_grad_value_(trained, limit)
        optimizer.step()
    net.fit(
        X, y, loss="mse", epochs=50, batch_size=None, shuffle=False, freeze="0.b", progress=False,
        optimizer=SGD(0.1, weight_decay=0.1, lr_factors={0: 0.5}, **{kind: limit}),
    )  # fmt: skip
    assert kind == "clip_value" or min(norms) > limit
    for layer, linear in (("0", lower), ("1", upper)):
        W = linear.weight.detach().numpy().T
        np.testing.assert_allclose(net.parameters()[f"{layer}.W"], W, rtol=1e-9, atol=1e-12)
        b = linear.bias.detach().numpy()
        np.testing.assert_allclose(net.parameters()[f"{layer}.b"], b, rtol=1e-9, atol=1e-12)


# -- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", [{"clip_norm": 0.3}, {"clip_value": 1e-3}])
def test_borders_within_vectors_and_parts_change_no_bit(dtype, clip, monkeypatch):
    X, y = table(130, n_inputs=37, n_classes=7)
    factors = {"0.W": 0.5, "0.b": 0.3, "1.W": 2.0, "2": 0.7, "2.b": 1.5, "4.0": 0.1}
    optimizer = Adam(0.01, weight_decay=0.1, lr_factors=factors, decay_factors={"0.b": 3.0}, **clip)
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    found = set()
    for engine in COMPILED:
        for parts in (1, 2, 3, 7, 64):
            monkeypatch.setattr(compiled_module, "PARTS", parts)
            with fastnn.use_engine(engine):
                layers = [Dense(131, "tanh"), Dense(53, "relu"), Dense(3), PReLU()]
                layers += [Residual([Dense(3), PReLU()]), Dense(7)]
                net = Sequential(layers, n_inputs=37, dtype=dtype)
                assert net.flat_params.size > 2 * NORM_BLOCK
                net.fit(X, y, optimizer=optimizer, epochs=4, batch_size=33, freeze=["1.b", "3"],
                        progress=False)  # fmt: skip
                assert net._prepared.ws.groups["begin"].tolist() != []
                assert any(net._prepared.ws.groups["begin"] % 4)
            found.add(net.flat_params.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("freeze", [(), [0], [0, 1], ["1.W"], [0, 1, "3.0"], [4]])
def test_engines_and_pieces_agree_on_what_is_frozen(freeze, monkeypatch):
    X, y = table(1500)
    found, exact = set(), []
    monkeypatch.setattr(compiled_module, "LEAST_WORK", 0.0)
    for engine, parts, elements in (
        *((engine, parts, 1 << 22) for engine in COMPILED for parts in (1, 3)),
        *((engine, 2, 1) for engine in COMPILED),
        ("numpy", 1, 1 << 22),
        ("numpy", 1, 1),
    ):
        monkeypatch.setattr(compiled_module, "PARTS", parts)
        monkeypatch.setattr("fastnn.run.PIECE_ELEMENTS", elements)
        layers = [Dense(9, "gelu"), Dense(30, "tanh"), Dropout(0.2)]
        layers += [Residual([Dense(20, "silu"), PReLU(), Dense(30, l2=0.1)]), Dense(3)]
        net = Sequential(layers, n_inputs=7, dtype="float64")
        with fastnn.use_engine(engine):
            net.fit(X, y, optimizer=Adam(0.01, clip_norm=0.2), epochs=2, batch_size=700,
                    freeze=freeze, progress=False)  # fmt: skip
        if engine != "numpy":
            found.add(net.flat_params.tobytes())
        exact.append(net.flat_params)
    assert len(found) == 1
    for params in exact[1:]:
        np.testing.assert_allclose(params, exact[0], rtol=1e-9, atol=1e-10)


# -- freezing -------------------------------------------------------------------------------------


def network(dtype="float32"):
    layers = [Dense(9, "tanh", max_norm=0.4), BatchNorm(), Dense(8, "relu")]
    layers += [Residual([Dense(8, "silu"), PReLU()]), BatchNorm(affine=False), Dense(3)]
    return Sequential(layers, n_inputs=7, dtype=dtype)


FROZEN = {
    "nothing": ((), set()),
    "a layer": ([2], {"2.W", "2.b"}),
    "its number alone": (2, {"2.W", "2.b"}),
    "one name": ("3.0.W", {"3.0.W"}),
    "max-norm": (["0.W"], {"0.W"}),
    "a normalisation": ([1], {"1.gamma", "1.beta", "1.running_mean", "1.running_var"}),
    "its parameters": (["1.gamma", "1.beta"], {"1.gamma", "1.beta"}),
    "statistics alone": (np.array([4]), {"4.running_mean", "4.running_var"}),
    "a residual": ((3,), {"3.0.W", "3.0.b", "3.1.alpha"}),
    "a layer inside": ({"3.1"}, {"3.1.alpha"}),
    "the last": ([5, 5], {"5.W", "5.b"}),
}


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_frozen_does_not_change_at_all(engine, name):
    freeze, expected = FROZEN[name]
    X, y = table()
    net = network()
    before = net.state_dict()
    optimizer = Adam(0.01, weight_decay=0.1, clip_norm=0.5)
    net.fit(X, y, optimizer=optimizer, epochs=3, freeze=freeze, progress=False)
    after = net.state_dict()
    assert {key for key in after if (after[key] == before[key]).all()} == expected


def test_a_factor_of_0_is_freezing(engine):
    X, y = table()
    nets = [network() for _ in range(2)]
    nets[0].fit(X, y, optimizer=Adam(0.01), freeze=[0, 1, "2.b"], epochs=3, progress=False)
    optimizer = Adam(0.01, lr_factors={0: 0.0, 1: 0, "2.b": 0})
    nets[1].fit(X, y, optimizer=optimizer, epochs=3, progress=False)
    for key, array in nets[0].state_dict().items():
        np.testing.assert_array_equal(array, nets[1].state_dict()[key], err_msg=key)


def test_training_above_frozen_layers_is_training_on_their_output(engine):
    X, y = table(200)
    whole = Sequential([Dense(16, "tanh"), Dense(9, "relu"), Dense(3)], n_inputs=7)
    lower = Sequential([Dense(16, "tanh")], n_inputs=7)
    lower.flat_params = np.concatenate([whole.parameters()[f"0.{n}"].ravel() for n in "Wb"])
    upper = Sequential([Dense(9, "relu"), Dense(3)], n_inputs=16)
    upper.load_state_dict(
        {f"{i}.{n}": whole.parameters()[f"{i + 1}.{n}"] for i in (0, 1) for n in "Wb"}
    )
    arguments = {"optimizer": Adam(0.01), "epochs": 3, "progress": False}
    whole.fit(X, y, freeze=[0], **arguments)
    upper.fit(lower.logits(X), y, **arguments)
    for name, array in upper.parameters().items():
        expected = whole.parameters()[f"{int(name[0]) + 1}{name[1:]}"]
        if engine == "numpy":
            np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(array, expected)


def test_the_optimizer_goes_on_when_something_else_is_frozen(engine):
    X, y = table()
    arguments = {"optimizer": Adam(0.01), "batch_size": 30, "progress": False}
    net = network()
    net.fit(X, y, epochs=2, **arguments)
    kept = net.training_state.slots.copy()
    net.fit(X, y, epochs=2, freeze=[2], **arguments)
    state, prepared = net.training_state, net._prepared
    assert (state.step, state.epoch) == (16, 4)
    frozen = np.zeros(net.flat_params.size, bool)
    for parameter in net.plan.parameters:
        parameter.view(frozen)[...] = parameter.name in ("2.W", "2.b")
    np.testing.assert_array_equal(state.slots[:, frozen], kept[:, frozen])
    assert (state.slots[:, ~frozen] != kept[:, ~frozen]).any()
    net.fit(X, y, epochs=2, freeze=["2"], **arguments)
    assert net._prepared is prepared
    before = net.parameters()["2.W"].copy()
    net.fit(X, y, epochs=1, **arguments)
    assert net._prepared is not prepared
    assert (net.parameters()["2.W"] != before).any()
    halves, whole = network(), network()
    for _ in range(2):
        halves.fit(X, y, epochs=3, freeze=[2], **arguments)
    whole.fit(X, y, epochs=6, freeze=[2], **arguments)
    np.testing.assert_array_equal(halves.flat_params, whole.flat_params)


def test_a_gradient_after_the_fit_is_whole(engine):
    X, y = table()
    net = network("float64")
    net.fit(X, y, epochs=1, freeze=[0, 1, 2], progress=False)
    loss, gradient = net.loss_and_grad(X, y)
    expected = net.copy().loss_and_grad(X, y, loss="cross_entropy")
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    for parameter in net.plan.parameters:
        assert parameter.view(gradient).any(), parameter.name


def test_no_step_reads_the_gradient_of_what_is_frozen(compiled, workspaces):
    X, y = table()
    nets = [network() for _ in range(2)]
    arguments = {"optimizer": Adam(0.01, clip_norm=0.1), "freeze": [0, 2], "progress": False}
    for net in nets:
        net.fit(X, y, epochs=1, **arguments)
    for ws in workspaces:
        if ws.layout.training:
            ws.grad.fill(np.nan)
    poison(nets[0]._prepared.ws)
    for net in nets:
        net.fit(X, y, epochs=2, **arguments)
    assert np.isfinite(nets[0].flat_params).all()
    np.testing.assert_array_equal(nets[0].flat_params, nets[1].flat_params)


#: What is frozen, and the calls between the loss and the optimizer's.
BACKWARD = {
    (): ["dense_weights", "transpose_weights", "dense_inputs", "residual_inputs",
         "residual_shortcut", "prelu_slopes", "prelu_inputs", "dense_weights", "transpose_weights",
         "dense_inputs", "dense_weights", "transpose_weights", "dense_inputs", "dense_weights"],
    (0,): ["dense_weights", "transpose_weights", "dense_inputs", "residual_inputs",
           "residual_shortcut", "prelu_slopes", "prelu_inputs", "dense_weights",
           "transpose_weights", "dense_inputs", "dense_weights"],
    (0, 1): ["dense_weights", "transpose_weights", "dense_inputs", "residual_inputs",
             "prelu_slopes", "prelu_inputs", "dense_weights"],
    (0, 1, "2.0"): ["dense_weights", "transpose_weights", "dense_inputs", "residual_inputs",
                    "prelu_slopes"],
    (0, 1, 2): ["dense_weights"],
    (1,): ["dense_weights", "transpose_weights", "dense_inputs", "residual_inputs",
           "residual_shortcut", "prelu_slopes", "prelu_inputs", "dense_weights",
           "transpose_weights", "dense_inputs", "transpose_weights", "dense_inputs",
           "dense_weights"],
    (3,): ["transpose_weights", "dense_inputs", "residual_inputs", "residual_shortcut",
           "prelu_slopes", "prelu_inputs", "dense_weights", "transpose_weights", "dense_inputs",
           "dense_weights", "transpose_weights", "dense_inputs", "dense_weights"],
}  # fmt: skip


@pytest.mark.parametrize("freeze", BACKWARD)
def test_the_backward_pass_ends_at_the_lowest_trained_operation(compiled, freeze):
    X, y = table(n_classes=7)
    layers = [Dense(20, "tanh"), Dense(18), Residual([Dense(18), PReLU()]), Dense(7)]
    net = Sequential(layers, n_inputs=7)
    net.fit(X, y, epochs=1, freeze=freeze, progress=False)
    ((variant, program),) = net._prepared.ws.programs[compiled].programs.items()
    assert variant.task.value == "train"
    kernels = [call.kernel for call in program.calls]
    found = kernels[kernels.index("sum_rows") + 1 : kernels.index("adam")]
    assert found == BACKWARD[freeze]


# -- bad input ------------------------------------------------------------------------------------

X, Y = table(20)


def fit(**arguments):
    layers = [Dense(4), Dropout(0.1), Residual([Dense(4), PReLU()]), Dense(3)]
    net = Sequential(layers, n_inputs=7)
    before = net.flat_params.copy()
    try:
        net.fit(X, Y, progress=False, **arguments)
    finally:
        np.testing.assert_array_equal(net.flat_params, before)


BAD = {
    "a layer that is not there": (ValueError, "unknown layer or parameter in freeze: '7'",
                                  lambda: fit(freeze=[7])),
    "a parameter that is not there": (ValueError, r"'0\.w'; did you mean '0\.W'",
                                      lambda: fit(freeze=["0.w"])),
    "a statistic": (ValueError, "unknown layer", lambda: fit(freeze=["2.running_mean"])),
    "no parameters": (ValueError, r"layer 1, which has no parameters: .* 0, 2, 2\.0, 2\.1, 3",
                      lambda: fit(freeze=[1])),
    "everything": (ValueError, "every parameter is frozen", lambda: fit(freeze=[0, 2, 3])),
    "everything by factors": (ValueError, "every parameter is frozen", lambda: fit(
        optimizer=SGD(lr_factors={"0": 0, "2": 0}), freeze=3)),
    "a truth value": (TypeError, "such as 0 or '1.W', not True", lambda: fit(freeze=[True])),
    "a fraction": (TypeError, "freeze must list layers", lambda: fit(freeze=1.5)),
    "None inside": (TypeError, "not None", lambda: fit(freeze=[None])),
    "a factor of no layer": (ValueError, "in lr_factors: '9'",
                             lambda: fit(optimizer=Adam(lr_factors={9: 0.5}))),
    "a decay of no layer": (ValueError, "decay_factors names layer 1, which has no parameters",
                            lambda: fit(optimizer=Adam(decay_factors={"1": 0.5}))),
    "negative": (ValueError, "the factor of '0' in lr_factors must be at least 0, not -1",
                 lambda: Adam(lr_factors={0: -1})),
    "NaN": (ValueError, "the factor of '0' in decay_factors must be finite",
            lambda: Adam(decay_factors={0: np.nan})),
    "text": (TypeError, "the factor of '0' in lr_factors must be a number",
             lambda: Adam(lr_factors={0: "0.5"})),
    "a list": (TypeError, "lr_factors must be a mapping", lambda: SGD(lr_factors=[0.5])),
    "a key": (TypeError, "must name layers or parameters", lambda: SGD(lr_factors={0.5: 1})),
    "both clips": (ValueError, "cannot both be given", lambda: SGD(clip_norm=1.0, clip_value=1.0)),
    "clip of 0": (ValueError, "clip_norm must be above 0", lambda: SGD(clip_norm=0)),
    "clip of NaN": (ValueError, "clip_value must be finite", lambda: SGD(clip_value=np.nan)),
    "negative decay": (ValueError, "weight_decay must be at least 0",
                       lambda: SGD(weight_decay=-0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_explained(name):
    error, message, call = BAD[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("groups", [
    [(0, 10**9, 1.0, 1.0)], [(-16, 8, 1.0, 1.0)], [(8, 4, 1.0, 1.0)],
    [(0, 8, 1.0, 1.0), (4, 12, 1.0, 1.0)], [(8, 16, 1.0, 1.0), (0, 4, 1.0, 1.0)],
    [(0, 8, np.nan, 1.0)], [(0, 8, 1.0, np.inf)], [(1 << 62, 1 << 63 - 1, 1.0, 1.0)],
])  # fmt: skip
def test_damaged_groups_are_refused(compiled, groups):
    net = Sequential([Dense(3)], n_inputs=7)
    plan = net.lower(fastnn.losses.cross_entropy)
    ws = Workspace(plan, net.flat_params, np.zeros(0, np.float32), 20, Update.of(plan, Adam()))
    ws.groups = np.array(groups, GROUP)
    rows = Data(X, labels=Y.astype(np.int32))
    steps = Steps(Adam().hyper(1, np.full(1, 0.1)))
    with pytest.raises(ValueError, match="groups of the update do not fit"):
        fastnn.engines.current().run_batches(ws, rows, steps, np.zeros((1, 2)), 0, 1)
    ws.groups = np.zeros((1, 4))
    with pytest.raises(TypeError, match="groups"):
        fastnn.engines.current().run_batches(ws, rows, steps, np.zeros((1, 2)), 0, 1)
