"""The elementwise optimizers against their formulas, as papers print them, and PyTorch's."""

import functools
from dataclasses import replace

import naive_optimizers as naive
import numpy as np
import pytest
from cases import Case, relative_error
from conftest import DTYPES, only, table
from naive import Dense as NaiveDense
from naive import gradients as naive_gradients

from fastnn import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Dense,
    Lion,
    Nadam,
    RAdam,
    RMSprop,
    Sequential,
    engines,
    losses,
)
from fastnn.engines import compiled as compiled_module
from fastnn.engines.workspace import Steps, Workspace
from fastnn.errors import DivergedError
from fastnn.schedules import Linear
from fastnn.tables import SLOTS, Rule
from fastnn.update import Update

STEPS = 100

#: Optimizer, its formula, and PyTorch's with other arguments than the default.
CASES = {
    "sgd": (SGD(0.1), lambda: naive.Sgd(0.1), ("SGD", {})),
    "momentum": (SGD(0.05, 0.9), lambda: naive.Momentum(0.05, 0.9), ("SGD", {"momentum": 0.9})),
    "nesterov": (SGD(0.05, 0.9, nesterov=True), lambda: naive.Nesterov(0.05, 0.9),
                 ("SGD", {"momentum": 0.9, "nesterov": True})),
    "adagrad": (Adagrad(0.05), lambda: naive.Adagrad(0.05), ("Adagrad", {})),
    "adagrad, other values": (
        Adagrad(0.05, 0.3, 1e-3), lambda: naive.Adagrad(0.05, 0.3, 1e-3),
        ("Adagrad", {"initial_accumulator_value": 0.3, "eps": 1e-3}),
    ),
    "rmsprop": (RMSprop(0.01), lambda: naive.RmsProp(0.01), None),
    "rmsprop, other values": (RMSprop(0.01, 0.8, 0.1), lambda: naive.RmsProp(0.01, 0.8, 0.1), None),
    "rmsprop, epsilon outside": (
        RMSprop(0.01, eps_inside=False), lambda: naive.RmsProp(0.01, eps_inside=False),
        ("RMSprop", {"alpha": 0.9}),
    ),
    "rmsprop, large epsilon outside": (
        RMSprop(0.01, 0.99, 0.5, eps_inside=False),
        lambda: naive.RmsProp(0.01, 0.99, 0.5, eps_inside=False), ("RMSprop", {"eps": 0.5}),
    ),
    "rmsprop, momentum": (
        RMSprop(0.01, 0.99, momentum=0.7, eps_inside=False),
        lambda: naive.RmsProp(0.01, 0.99, momentum=0.7, eps_inside=False),
        ("RMSprop", {"momentum": 0.7}),
    ),
    "rmsprop, centered": (
        RMSprop(0.01, centered=True, eps_inside=False),
        lambda: naive.RmsProp(0.01, centered=True, eps_inside=False),
        ("RMSprop", {"alpha": 0.9, "centered": True}),
    ),
    "rmsprop, centered, epsilon inside": (
        RMSprop(0.01, centered=True), lambda: naive.RmsProp(0.01, centered=True), None,
    ),
    "rmsprop, centered, momentum": (
        RMSprop(0.01, momentum=0.7, centered=True, eps_inside=False),
        lambda: naive.RmsProp(0.01, momentum=0.7, centered=True, eps_inside=False),
        ("RMSprop", {"alpha": 0.9, "momentum": 0.7, "centered": True}),
    ),
    "adam": (Adam(0.01), lambda: naive.Adam(0.01), ("Adam", {})),
    "adam, other values": (
        Adam(0.02, 0.8, 0.95, 1e-2), lambda: naive.Adam(0.02, 0.8, 0.95, 1e-2),
        ("Adam", {"betas": (0.8, 0.95), "eps": 1e-2}),
    ),
    "adam, amsgrad": (Adam(0.01, amsgrad=True), lambda: naive.AmsGrad(0.01),
                      ("Adam", {"amsgrad": True})),
    "adam, amsgrad, short memory": (
        Adam(0.01, beta2=0.7, amsgrad=True), lambda: naive.AmsGrad(0.01, beta2=0.7),
        ("Adam", {"betas": (0.9, 0.7), "amsgrad": True}),
    ),
    "adamw": (AdamW(0.01), lambda: naive.Adam(0.01), ("AdamW", {})),
    "adamw, amsgrad": (AdamW(0.01, amsgrad=True), lambda: naive.AmsGrad(0.01),
                       ("AdamW", {"amsgrad": True})),
    "nadam": (Nadam(0.01), lambda: naive.Nadam(0.01), ("NAdam", {})),
    "nadam, other values": (
        Nadam(0.01, 0.8, 0.95, 1e-2, 0.3), lambda: naive.Nadam(0.01, 0.8, 0.95, 1e-2, 0.3),
        ("NAdam", {"betas": (0.8, 0.95), "eps": 1e-2, "momentum_decay": 0.3}),
    ),
    "adadelta": (Adadelta(), naive.Adadelta, ("Adadelta", {})),
    "adadelta, other values": (Adadelta(0.7, 0.95, 1e-2), lambda: naive.Adadelta(0.7, 0.95, 1e-2),
                               ("Adadelta", {"rho": 0.95, "eps": 1e-2})),
    "radam": (RAdam(0.01), lambda: naive.RAdam(0.01), ("RAdam", {})),
    "radam, other values": (
        RAdam(0.01, 0.8, 0.9, 1e-2), lambda: naive.RAdam(0.01, 0.8, 0.9, 1e-2),
        ("RAdam", {"betas": (0.8, 0.9), "eps": 1e-2}),
    ),
    "radam, never rectified": (RAdam(0.01, beta2=0.6), lambda: naive.RAdam(0.01, beta2=0.6),
                               ("RAdam", {"betas": (0.9, 0.6)})),
    "lion": (Lion(0.01), lambda: naive.Lion(0.01), None),
    "lion, other values": (Lion(0.01, 0.7, 0.8), lambda: naive.Lion(0.01, 0.7, 0.8), None),
}  # fmt: skip

#: What all optimizers have, as keywords; the clips bite in some of the steps.
COMMON = {
    "plain": {"weight_decay": 0.0},
    "decay": {"weight_decay": 0.1},
    "norm": {"weight_decay": 0.05, "clip_norm": 4.0},
    "value": {"weight_decay": 0.05, "clip_value": 0.8},
}


def network(dtype="float64"):
    """Two layers: 5 x 7 and 7 x 3 weights, 10 biases."""
    return Sequential([Dense(7, "tanh"), Dense(3)], n_inputs=5, seed=3, dtype=dtype)


def random_gradients(seed=0):
    """Gradients by name for each step: of all sizes, some of them 0, with a trend and noise."""
    rng = np.random.default_rng(seed)
    shapes = {name: view.shape for name, view in network().parameters().items()}
    sizes = {name: 10.0 ** rng.uniform(-3, 0.5, shape) for name, shape in shapes.items()}
    trends = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    for name, size in sizes.items():
        size.flat[:: 6 + len(name)] = 0
    return [
        {name: sizes[name] * (trends[name] + rng.normal(size=shapes[name])) for name in shapes}
        for _ in range(STEPS)
    ]


GRADIENTS = random_gradients()


def stepped(optimizer, dtype="float64"):
    """The flat parameters after steps of an engine with the gradients, and their start."""
    net = network(dtype)
    plan = net.lower(losses.get("mse"))
    state = np.zeros(plan.n_state, dtype)
    ws = Workspace(plan, net.flat_params, state, 4, Update.of(plan, optimizer))
    optimizer.reset(ws.slots)
    start = net.flat_params.copy()
    for k, g in enumerate(GRADIENTS):
        ws.grad[:] = np.concatenate([g[parameter.name].ravel() for parameter in plan.parameters])
        hyper = optimizer.hyper(k + 1, optimizer.rates(k, 1))
        engines.current().update(ws, Steps(hyper, 0, k))
    return net.flat_params, start


def flat(p):
    """Parameters by name as a flat vector."""
    plan = network().lower(losses.get("mse"))
    return np.concatenate([p[parameter.name].ravel() for parameter in plan.parameters])


def named(vector):
    """A flat vector of the network as arrays by name."""
    plan = network().lower(losses.get("mse"))
    return {parameter.name: parameter.view(vector).copy() for parameter in plan.parameters}


@pytest.mark.parametrize("common", COMMON)
@pytest.mark.parametrize("name", CASES)
def test_a_hundred_steps_follow_the_formulas(engine, name, common):
    optimizer, make_rule, _ = CASES[name]
    keywords = COMMON[common]
    optimizer = replace(optimizer, **keywords)
    found, start = stepped(optimizer)
    expected = naive.train(
        named(start), GRADIENTS, make_rule, decoupled=optimizer.decoupled, **keywords
    )
    np.testing.assert_allclose(found, flat(expected), rtol=1e-9, atol=1e-12)
    assert relative_error(found, start) > 1e-2  # they moved
    if common in ("norm", "value"):  # and the limit made a difference
        unlimited, _ = stepped(replace(optimizer, clip_norm=None, clip_value=None))
        assert np.abs(found - unlimited).max() > 1e-6


@pytest.fixture
def torch():
    """PyTorch with float64 as its default type: its scalars, such as Nadam's product, have it."""
    module = pytest.importorskip("torch")
    module.set_default_dtype(module.float64)
    yield module
    module.set_default_dtype(module.float32)


def torchs(torch, start, kind, arguments, lr, weight_decay, clip_value=None, set_lr=None):
    """The flat parameters after the steps of PyTorch's optimizer; weight matrices alone decay."""
    p = {name: torch.nn.Parameter(torch.tensor(w)) for name, w in named(start).items()}
    groups = [
        {"params": [p[n] for n in p if n.endswith("W")], "weight_decay": weight_decay},
        {"params": [p[n] for n in p if not n.endswith("W")], "weight_decay": 0.0},
    ]
    optimizer = getattr(torch.optim, kind)(groups, lr=lr, **arguments)
    for k, g in enumerate(GRADIENTS):
        for name, parameter in p.items():
            parameter.grad = torch.tensor(g[name])
        if clip_value is not None:
            torch.nn.utils.clip_grad_value_(p.values(), clip_value)
        if set_lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = set_lr(k)
        optimizer.step()
    return flat({name: w.detach().numpy() for name, w in p.items()})


@pytest.mark.parametrize("common", ["plain", "decay", "value"])
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2]])
def test_a_hundred_steps_follow_pytorch(engine, torch, name, common):
    """At a constant rate; clip_grad_norm_ adds 1e-6 to the norm, so it is not compared."""
    optimizer, _, (kind, arguments) = CASES[name]
    keywords = COMMON[common]
    found, start = stepped(replace(optimizer, **keywords))
    expected = torchs(torch, start, kind, arguments, optimizer.lr, **keywords)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_pytorchs_lr_decay_of_adagrad_is_a_schedule(engine, torch):
    found, start = stepped(Adagrad(lambda k: 0.05 / (1 + 0.02 * k)))
    expected = torchs(torch, start, "Adagrad", {"lr_decay": 0.02}, 0.05, 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("optimizer", "arguments"), [
    (SGD(lambda k: 0.05 * 0.95**k, 0.9), ("SGD", {"momentum": 0.9})),
    (RMSprop(lambda k: 0.05 * 0.95**k, momentum=0.9, eps_inside=False),
     ("RMSprop", {"alpha": 0.9, "momentum": 0.9})),
])  # fmt: skip
def test_velocities_contain_the_rate_unlike_pytorchs(engine, torch, optimizer, arguments):
    """The documented difference of convention; PyTorch's is the same while the rate is constant."""
    found, start = stepped(optimizer)
    expected = torchs(torch, start, *arguments, 0.05, 0.0, set_lr=lambda k: 0.05 * 0.95**k)
    assert relative_error(found, expected) > 1e-3


def test_defaults_are_pytorchs_where_the_docstrings_say_so(torch):
    parameter = [torch.nn.Parameter(torch.zeros(1))]
    pairs = {
        "Adagrad": Adagrad(), "Adadelta": Adadelta(), "Adam": Adam(), "AdamW": AdamW(),
        "NAdam": Nadam(), "RAdam": RAdam(),
    }  # fmt: skip
    for kind, ours in pairs.items():
        theirs = getattr(torch.optim, kind)(parameter).defaults
        assert ours.lr == theirs["lr"], kind
        assert ours.epsilon == theirs["eps"], kind
        assert ours.weight_decay == theirs["weight_decay"], kind
        if "betas" in theirs:
            assert (ours.beta1, ours.beta2) == theirs["betas"], kind
    assert Nadam().momentum_decay == torch.optim.NAdam(parameter).defaults["momentum_decay"]
    assert Adadelta().rho == torch.optim.Adadelta(parameter).defaults["rho"]
    rmsprop = torch.optim.RMSprop(parameter).defaults
    assert (rmsprop["lr"], rmsprop["alpha"], rmsprop["eps"]) == (0.01, 0.99, RMSprop().epsilon)


SCHEDULED = {
    "rmsprop": (
        RMSprop(Linear(0.02, 0.001, 80), momentum=Linear(0.3, 0.9, 50)),
        lambda: naive.RmsProp(0, momentum=0),
        {"lr": Linear(0.02, 0.001, 80), "momentum": Linear(0.3, 0.9, 50)},
    ),
    "centered": (
        RMSprop(0.01, momentum=Linear(0.3, 0.9, 50), centered=True),
        lambda: naive.RmsProp(0.01, momentum=0, centered=True),
        {"momentum": Linear(0.3, 0.9, 50)},
    ),
    "amsgrad": (Adam(0.01, Linear(0.5, 0.95, 50), amsgrad=True), lambda: naive.AmsGrad(0.01),
                {"b1": Linear(0.5, 0.95, 50)}),
    "nadam": (Nadam(0.01, Linear(0.5, 0.95, 50)), lambda: naive.Nadam(0.01),
              {"b1": Linear(0.5, 0.95, 50)}),
    "radam": (RAdam(0.01, Linear(0.5, 0.95, 50)), lambda: naive.RAdam(0.01),
              {"b1": Linear(0.5, 0.95, 50)}),
    "lion": (Lion(Linear(0.02, 0.001, 80), Linear(0.5, 0.95, 50)), lambda: naive.Lion(0),
             {"lr": Linear(0.02, 0.001, 80), "b1": Linear(0.5, 0.95, 50)}),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULED)
def test_rates_and_momentums_may_follow_schedules(engine, name):
    optimizer, make_rule, scheduled = SCHEDULED[name]
    optimizer = replace(optimizer, weight_decay=0.1)
    found, start = stepped(optimizer)
    functions = {
        attribute: lambda k, schedule=schedule: schedule.values(k, 1)[0]
        for attribute, schedule in scheduled.items()
    }
    expected = naive.train(
        named(start), GRADIENTS, make_rule, 0.1, optimizer.decoupled, scheduled=functions
    )
    np.testing.assert_allclose(found, flat(expected), rtol=1e-9, atol=1e-12)


#: An optimizer of every rule, with a rate at which the small networks below learn.
OF_EACH_RULE = [
    SGD(0.1), SGD(0.05, 0.9), SGD(0.05, 0.9, nesterov=True), Adam(0.01), Adam(0.01, amsgrad=True),
    AdamW(0.01, weight_decay=0.1), Adagrad(0.05, 0.1), RMSprop(0.01), RMSprop(0.003, momentum=0.9),
    RMSprop(0.01, centered=True), RMSprop(0.003, momentum=0.9, centered=True), Nadam(0.01),
    Adadelta(), RAdam(0.01), Lion(0.003, weight_decay=0.1),
]  # fmt: skip


def test_the_list_has_every_rule():
    elementwise = {rule for rule in Rule if SLOTS.get(rule) is not None and rule.name != "muon"}
    assert {optimizer.rule for optimizer in OF_EACH_RULE} == elementwise
    assert {CASES[name][0].rule for name in CASES} == elementwise


LAYERS = (NaiveDense(6, "tanh"), NaiveDense(3))


@functools.cache
def fifty_steps(name):
    """A fit of 10 epochs of 5 minibatches by the oracle alone: (case, parameters by name)."""
    case = Case(5, LAYERS, "cross_entropy", 23, seed=4)
    p = dict(case.parameters)
    rules = {key: CASES[name][1]() for key in p}
    layers, loss, X, T, _, l1, l2, _, run = case.oracle
    for _ in range(10):
        for start in range(0, 23, 5):
            rows = slice(start, start + 5)
            batch = layers, loss, X[rows], T[rows], None, l1, l2, 23, run
            g = naive_gradients(p, *batch)
            p = {key: rules[key].step(p[key], g[key]) for key in p}
            run = replace(run, step=run.step + 1)
    return case, p


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["adagrad, other values", "rmsprop, momentum", "adam, amsgrad",
                                  "nadam", "adadelta", "radam", "lion"])  # fmt: skip
def test_a_fit_follows_the_formulas(engine, name, dtype):
    """With a network's own gradients, and the hyperparameters of whole slices of steps."""
    optimizer, _, _ = CASES[name]
    case, expected = fifty_steps(name)
    net = case.network(dtype)
    net.fit(
        case.X, case.T, loss="cross_entropy", optimizer=optimizer, epochs=10, batch_size=5,
        shuffle=False, progress=False,
    )  # fmt: skip
    for key, found in net.parameters().items():
        tolerance = 1e-11 if dtype == "float64" else 2e-3 if name == "lion" else 1e-4
        assert relative_error(found, expected[key]) < tolerance, key


@pytest.mark.parametrize("optimizer", OF_EACH_RULE, ids=repr)
def test_float32_is_close_to_float64(engine, optimizer):
    if isinstance(optimizer, Lion):  # a sign that differs is a whole step
        found, expected = (stepped(optimizer, dtype)[0] for dtype in DTYPES)
        assert (np.abs(found - expected) < 1e-5).mean() > 0.95
        return
    found, expected = (stepped(replace(optimizer, weight_decay=0.1), dtype)[0] for dtype in DTYPES)
    assert found.dtype == np.float32
    assert relative_error(found, expected) < 1e-4


def trained(optimizer, epochs, dtype="float32", fits=1):
    X, y = table(90, seed=2)
    net = Sequential([Dense(9, "tanh"), Dense(3)], seed=1, dtype=dtype)
    for _ in range(fits):
        history = net.fit(X, y, optimizer=optimizer, epochs=epochs, batch_size=20, progress=False)
    return net, history


@pytest.mark.parametrize("optimizer", [*OF_EACH_RULE, Nadam(0.01, Linear(0.5, 0.9, 20))], ids=repr)
def test_two_fits_equal_one(engine, optimizer):
    """The optimizer's state is kept, and the step counts on."""
    whole, _ = trained(optimizer, 6)
    twice, _ = trained(replace(optimizer), 3, fits=2)
    np.testing.assert_array_equal(twice.flat_params, whole.flat_params)
    np.testing.assert_array_equal(twice.training_state.slots, whole.training_state.slots)
    assert twice.training_state.step == whole.training_state.step == 30


@pytest.mark.parametrize("optimizer", OF_EACH_RULE, ids=repr)
def test_the_loss_falls(optimizer):
    _, history = trained(optimizer, 30)
    assert history["loss"][-1] < 0.7 * history["loss"][0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OF_EACH_RULE, ids=repr)
def test_every_compiled_engine_and_number_of_parts_has_the_same_bits(optimizer, dtype, monkeypatch):
    optimizer = replace(optimizer, weight_decay=0.1, clip_norm=0.5, lr_factors={"0": 0.5})
    found = set()
    for name in engines.available():
        if name == "numpy":
            continue
        with only(name):
            found.add(trained(optimizer, 3, dtype)[0].flat_params.tobytes())
            with monkeypatch.context() as patch:
                patch.setattr(compiled_module, "LEAST_WORK", 0.0)
                for parts in (2, 3, 7):
                    patch.setattr(compiled_module, "PARTS", parts)
                    found.add(trained(optimizer, 3, dtype)[0].flat_params.tobytes())
    assert len(found) == 1


# -- particular rules ----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [AdamW(0.1, weight_decay=0.5), Lion(0.1, weight_decay=0.5)])
def test_only_weight_matrices_decay(engine, optimizer):
    """Without a gradient, W shrinks by 1 - lr weight_decay in each step, and nothing else moves."""
    net = network()
    net.flat_params = np.linspace(1, 2, net.flat_params.size)
    plan = net.lower(losses.get("mse"))
    ws = Workspace(plan, net.flat_params, np.zeros(0), 4, Update.of(plan, optimizer))
    engines.current().update(ws, Steps(optimizer.hyper(1, np.full(3, 0.1))))
    expected = np.linspace(1, 2, net.flat_params.size)
    expected[: plan.n_weights] *= 0.95**3
    np.testing.assert_allclose(net.flat_params, expected, rtol=1e-14)


def test_lion_steps_by_its_rate_and_not_without_a_gradient(engine):
    found, start = stepped(Lion(0.01))
    without = flat({name: g == 0 for name, g in GRADIENTS[0].items()})
    assert without.sum() > 5
    np.testing.assert_array_equal(found[without], start[without])
    steps = (found - start)[~without] / 0.01
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    assert (np.round(steps) != 0).any()


def test_adagrads_sum_starts_anew_with_every_training(engine):
    """At the start, with another optimizer, and after a divergence."""
    X, y = table(40)
    net = Sequential([Dense(3)], n_inputs=7, seed=0)
    optimizer = Adagrad(1e-30, initial_accumulator=0.25)
    net.fit(0 * X, y, optimizer=optimizer, epochs=1, progress=False)
    weights = slice(0, 21)  # whose gradient is 0
    assert (net.training_state.slots[0, weights] == 0.25).all()
    net.fit(X, y, optimizer=SGD(0.1), epochs=1, progress=False)
    net.fit(0 * X, y, optimizer=optimizer, epochs=1, progress=False)
    assert (net.training_state.slots[0, weights] == 0.25).all()
    values = np.full((40, 3), 1e30)
    with pytest.raises(DivergedError):
        net.fit(X, values, loss="mse", optimizer=optimizer, epochs=1, progress=False)
    assert (net.training_state.slots == 0.25).all()


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_rounding_makes_no_root_of_a_negative_number(engine, momentum):
    """A constant gradient has no variance; its square less its mean's square may round below 0."""
    optimizer = RMSprop(1e-6, 0.5, momentum=momentum, centered=True)
    net = network("float32")
    plan = net.lower(losses.get("mse"))
    ws = Workspace(plan, net.flat_params, np.zeros(0, np.float32), 4, Update.of(plan, optimizer))
    ws.grad[:] = np.linspace(300, 4000, plan.n_params)
    engines.current().update(ws, Steps(optimizer.hyper(1, np.full(200, 1e-6))))
    assert np.isfinite(net.flat_params).all()
    square, mean = ws.slots[:2]
    assert (square - mean * mean < 0).any()
