"""Schedules: their values, against formulas and against PyTorch; declarations; plots."""

import copy
import hashlib
import json
import math
import pickle

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnn
from fastnn import schedules
from fastnn.schedules import (
    Cosine,
    CosLog4,
    Cyclic,
    Exponential,
    FlatCosine,
    Linear,
    OneCycle,
    PerEpoch,
    Polynomial,
    ReduceOnPlateau,
    Sequence,
    StepDecay,
    TimeDecay,
    Values,
    WarmRestarts,
    Warmup,
    arithmetic,
)
from fastnn.schedules.base import Span
from fastnn.schedules.plateau import Plateau

# -- values -----------------------------------------------------------------------------------


def half_cosine(start, end, t):
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2


def one_cycle(k, peak, n, pct, div, final, linear=False):
    """The two phases, as L. Smith draws them."""
    top = pct * n - 1
    if k <= top:
        start, end, t = peak / div, peak, k / top
    else:
        start, end, t = peak, peak / div / final, (k - top) / (n - 1 - top)
    return start + (end - start) * t if linear else half_cosine(start, end, t)


def triangle(k, up, down):
    inside = k % (up + down)
    return inside / up if inside < up else 1 - (inside - up) / down


def restart(k, first, times):
    length = first
    while k >= length:
        k, length = k - length, length * times
    return k / length


def coslog4(t):
    return (1 - math.cos(2 * math.pi * math.log2(1 + 15 * t))) / 2


#: name: (schedule, its value at step k)
FORMULAS = {
    "time": (TimeDecay(0.3, decay=0.1), lambda k: 0.3 / (1 + 0.1 * k)),
    "time compound": (TimeDecay(0.3, decay=0.1, compound=True), lambda k: 0.3 / 1.1**k),
    "time none": (TimeDecay(decay=0), lambda k: 1),
    "step": (StepDecay(0.4, factor=0.3, every=7), lambda k: 0.4 * 0.3 ** (k // 7)),
    "step up": (StepDecay(0.4, factor=3, every=20), lambda k: 0.4 * 3 ** (k // 20)),
    "exponential": (Exponential(2, rate=0.9), lambda k: 2 * 0.9**k),
    "linear": (Linear(0.2, 0.7, 33), lambda k: 0.2 + 0.5 * min(k / 33, 1)),
    "polynomial": (Polynomial(0.6, 0.1, 30, 0.9), lambda k: 0.1 + 0.5 * max(1 - k / 30, 0) ** 0.9),
    "polynomial 2": (Polynomial(-1, 2, 30, 2), lambda k: 2 - 3 * max(1 - k / 30, 0) ** 2),
    "cosine": (Cosine(0.4, 0.1, 60), lambda k: half_cosine(0.4, 0.1, k / 60)),
    "flat cosine": (FlatCosine(0.4, 0.1, 60, flat=0.4),
                    lambda k: half_cosine(0.4, 0.1, max(k / 60 - 0.4, 0) / 0.6)),
    "coslog4": (CosLog4(0.8, 60), lambda k: 0.8 * coslog4(k / 60)),
    "restarts": (WarmRestarts(0.4, 0.1, T_0=7),
                 lambda k: half_cosine(0.4, 0.1, k % 7 / 7)),
    "longer restarts": (WarmRestarts(0.4, 0.1, T_0=3, T_mult=2),
                        lambda k: half_cosine(0.4, 0.1, restart(k, 3, 2))),
    "triangles": (Cyclic(0.1, peak=0.5, up=4, down=9), lambda k: 0.1 + 0.4 * triangle(k, 4, 9)),
    "triangles down": (Cyclic(0.9, peak=0.5, up=5), lambda k: 0.9 - 0.4 * triangle(k, 5, 5)),
    "triangular2": (Cyclic(0.1, peak=0.5, up=5, mode="triangular2"),
                    lambda k: 0.1 + 0.4 * triangle(k, 5, 5) / 2 ** (k // 10)),
    "exp_range": (Cyclic(0.1, peak=0.5, up=5, mode="exp_range", gamma=0.97),
                  lambda k: 0.1 + 0.4 * triangle(k, 5, 5) * 0.97**k),
    "one cycle": (OneCycle(0.3, 60), lambda k: one_cycle(k, 0.3, 60, 0.3, 25, 1e4)),
    "one cycle linear": (OneCycle(0.3, 60, 0.45, 10, 3, "linear"),
                         lambda k: one_cycle(k, 0.3, 60, 0.45, 10, 3, True)),
    "momentum": (OneCycle(0.3, 60).momentum(0.9, 0.8),
                 lambda k: 0.9 - one_cycle(k, 0.1, 60, 0.3, 1e300, 1)),
    "values": (Values(np.arange(60) ** 2), lambda k: k**2),
    "function": (schedules.get(lambda k: k % 5), lambda k: k % 5),
    "warm-up": (Warmup(Exponential(2, rate=0.9), 8),
                lambda k: 2 * (1 / 8 + 7 / 8 * k / 8) if k < 8 else 2 * 0.9 ** (k - 8)),
    "warm-up from 0": (Warmup(Cosine(0.4, steps=52), 8, start_factor=0),
                       lambda k: 0.4 * k / 8 if k < 8 else half_cosine(0.4, 0, (k - 8) / 52)),
    "sequence": (Sequence([(Linear(0, 1, 5), 10), (Cosine(1, 0.5), 20), ([0.3] * 40, None)]),
                 lambda k: min(k / 5, 1) if k < 10
                 else half_cosine(1, 0.5, (k - 10) / 20) if k < 30 else 0.3),
    "plateau": (ReduceOnPlateau(0.4), lambda k: 0.4),
}  # fmt: skip
STEPS = 60


@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_those_of_the_formula(name):
    schedule, formula = FORMULAS[name]
    found = schedule.values(0, STEPS)
    assert found.dtype == np.float64
    expected = [formula(k) for k in range(STEPS)]
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_every_kind_of_schedule_is_tested():
    kinds = {type(schedule).__name__ for schedule, _ in FORMULAS.values()}
    assert kinds | {"PerEpoch"} == {*schedules.base.WRITABLE, "Function"}


def test_ends_are_exact():
    assert Linear(0.3, 0.7, 9).values(9, 2).tolist() == [0.7, 0.7]
    assert Polynomial(0.3, 0.7, 9, 0.5).values(9, 2).tolist() == [0.7, 0.7]
    assert OneCycle(0.3, 9, div=2, final_div=2).values(8, 1).tolist() == [0.3 / 2 / 2]
    assert Cosine(0.3, steps=9).values(0, 1).tolist() == [0.3]
    assert CosLog4(0.3, 15).values(0, 8)[[0, 1, 3, 7]].tolist() == [0, 0, 0, 0]
    assert WarmRestarts(0.3, T_0=2, T_mult=2).values(0, 15)[[0, 2, 6, 14]].tolist() == [0.3] * 4
    assert Cyclic(0.1, peak=0.9, up=3).values(0, 7)[[0, 3, 6]].tolist() == [0.1, 0.9, 0.1]


def test_a_schedule_of_one_step():
    for kind in (Linear, Polynomial, Cosine, FlatCosine, OneCycle):
        assert np.isfinite(kind(steps=1).values(0, 1)).all()
    assert OneCycle(2, 1, pct_start=1).values(0, 1).tolist() == [2]
    assert OneCycle(2, 10, pct_start=0.1).values(0, 1).tolist() == [2]
    assert OneCycle(2, 10, pct_start=0).values(9, 1) == pytest.approx(2 / 25 / 1e4)


def test_far_steps():
    """No step is too far, and nothing overflows on the way to 0."""
    far = 10**12
    assert Exponential(rate=0.5).values(far, 1) == 0
    assert StepDecay(factor=0.5, every=10**9).values(far, 1) == 0.5**1000
    assert WarmRestarts(T_0=1, T_mult=3).values(far, 2).shape == (2,)
    assert TimeDecay(decay=1).values(far, 1) == 1 / (1 + far)
    assert Exponential(rate=2).values(2000, 1) == np.inf  # refused where it is used
    assert Cosine(steps=10**9).values(0, 0).size == 0


def test_the_bits_are_those_of_every_machine():
    """A pinned digest: sums, products and quotients are rounded alike everywhere."""
    digest = hashlib.sha256()
    for name, (schedule, _) in sorted(FORMULAS.items()):
        if name != "function":
            digest.update(schedule.values(0, STEPS).astype("<f8").tobytes())
    assert digest.hexdigest()[:16] == "0e914fecb8d793cd"


# -- PyTorch ----------------------------------------------------------------------------------


def torch_rates(make, count, lr, momentum=0.0):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=momentum)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates, momenta = [], []
    for _ in range(count):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        momenta.append(float(optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        scheduler.step()
    return rates, momenta


#: name: (PyTorch's scheduler, the schedule, the optimizer's rate)
PEERS = {
    "StepLR": (lambda m, o: m.StepLR(o, 7, 0.3), StepDecay(0.4, factor=0.3, every=7)),
    "ExponentialLR": (lambda m, o: m.ExponentialLR(o, 0.9), Exponential(0.4, rate=0.9)),
    "PolynomialLR": (lambda m, o: m.PolynomialLR(o, 30, 1.7), Polynomial(0.4, 0, 30, 1.7)),
    "LinearLR": (lambda m, o: m.LinearLR(o, 0.1, 0.6, 30), Linear(0.04, 0.24, 30)),
    "CosineAnnealingLR": (lambda m, o: m.CosineAnnealingLR(o, 61, 0.01), Cosine(0.4, 0.01, 61)),
    "CosineAnnealingWarmRestarts": (
        lambda m, o: m.CosineAnnealingWarmRestarts(o, 5, 3, 0.01),
        WarmRestarts(0.4, 0.01, T_0=5, T_mult=3)),
    "CosineAnnealingWarmRestarts 1": (
        lambda m, o: m.CosineAnnealingWarmRestarts(o, 5, 1), WarmRestarts(0.4, T_0=5)),
    "CyclicLR": (lambda m, o: m.CyclicLR(o, 0.1, 0.4, 7, 4), Cyclic(0.1, peak=0.4, up=7, down=4)),
    "CyclicLR triangular2": (
        lambda m, o: m.CyclicLR(o, 0.1, 0.4, 7, mode="triangular2"),
        Cyclic(0.1, peak=0.4, up=7, mode="triangular2")),
    "CyclicLR exp_range": (
        lambda m, o: m.CyclicLR(o, 0.1, 0.4, 7, mode="exp_range", gamma=0.95),
        Cyclic(0.1, peak=0.4, up=7, mode="exp_range", gamma=0.95)),
    "OneCycleLR": (lambda m, o: m.OneCycleLR(o, 0.4, 60), OneCycle(0.4, 60)),
    "OneCycleLR linear": (
        lambda m, o: m.OneCycleLR(o, 0.4, 60, pct_start=0.41, anneal_strategy="linear",
                                  div_factor=7, final_div_factor=30),
        OneCycle(0.4, 60, 0.41, 7, 30, "linear")),
    "SequentialLR": (
        lambda m, o: m.SequentialLR(
            o, [m.LinearLR(o, 0.1, 1, 10), m.CosineAnnealingLR(o, 60)], [10]),
        Warmup(Cosine(0.4, steps=60), 10, start_factor=0.1)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", PEERS)
def test_values_are_those_of_pytorch(name):
    make, schedule = PEERS[name]
    momentum = 0.9 if "Cycl" in name else 0.0
    count = (
        59 if "OneCycle" in name else STEPS
    )  # PyTorch's scheduler refuses the step after the last
    rates, momenta = torch_rates(make, count, 0.4, momentum)
    np.testing.assert_allclose(schedule.values(0, count), rates, rtol=1e-12, atol=1e-13)
    if isinstance(schedule, OneCycle):
        found = schedule.momentum().values(0, count)
        np.testing.assert_allclose(found, momenta, rtol=1e-12)
    if name == "CyclicLR":
        found = Cyclic(0.9, peak=0.8, up=7, down=4).values(0, count)
        np.testing.assert_allclose(found, momenta, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plateau_is_that_of_pytorch(mode, threshold_mode, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    metric = 1 + rng.random(200) + np.linspace(0, 0.5, 200) * (-1) ** seed
    metric[rng.integers(0, 200, 9)] = np.nan
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    arguments = {"factor": 0.6, "patience": 2 + seed, "threshold": 0.03, "cooldown": seed}
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, threshold_mode=threshold_mode, min_lr=0.01, eps=0, **arguments
    )
    schedule = ReduceOnPlateau(mode=mode, threshold_mode=threshold_mode, least=0.01, **arguments)
    state, found, expected = None, [], []
    for value in metric:
        state = schedule.observe(state, {"loss": value})
        peer.step(value)
        found.append(state.value)
        expected.append(optimizer.param_groups[0]["lr"])
    assert found == expected
    assert len(set(found)) > 3


def test_a_plateau_of_losses_below_0():
    """A relative margin is a share of the magnitude: a worse loss is no improvement."""
    schedule = ReduceOnPlateau(patience=0, threshold=0.1)
    state = schedule.observe(None, {"loss": -1.0})
    assert schedule.observe(state, {"loss": -1.2}) == Plateau(1.0, -1.2)
    assert schedule.observe(state, {"loss": -0.95}).value == 0.1
    assert schedule.observe(state, {"loss": -1.05}).value == 0.1


def test_the_mode_follows_from_the_metric():
    schedule = ReduceOnPlateau(patience=0, metric="val_accuracy")
    state = schedule.observe(None, {"val_accuracy": 0.5}, "max")
    assert schedule.observe(state, {"val_accuracy": 0.6}, "max").best == 0.6
    assert schedule.observe(state, {"val_accuracy": 0.4}, "max").value == 0.1
    assert ReduceOnPlateau(patience=0).observe(Plateau(1.0, 0.5), {"loss": 0.4}).best == 0.4


# -- arithmetic -------------------------------------------------------------------------------


@given(st.floats(-50, 50))
def test_the_cosine(x):
    with mpmath.workdps(50):
        exact = float(mpmath.cos(mpmath.pi * mpmath.mpf(x)))
    assert arithmetic.cos_pi(np.array([x]))[0] == pytest.approx(exact, rel=1e-15, abs=2e-16)


@given(st.floats(1e-300, 1e300))
def test_the_logarithm(x):
    with mpmath.workdps(50):
        exact = float(mpmath.log(mpmath.mpf(x), 2))
    assert arithmetic.log2(np.array([x]))[0] == pytest.approx(exact, rel=1e-15, abs=1e-18)


@given(st.floats(1e-8, 4), st.floats(-80, 80))
def test_the_power(base, exponent):
    with mpmath.workdps(50):
        exact = float(mpmath.mpf(base) ** mpmath.mpf(exponent))
    with np.errstate(all="raise"):
        found = arithmetic.power(base, np.array([exponent]))[0]
    assert found == pytest.approx(exact, rel=1e-12) or exact == np.inf == found


def test_whole_powers_of_two_are_exact():
    k = np.arange(-1074.0, 1024.0)
    np.testing.assert_array_equal(arithmetic.power(2.0, k), [math.ldexp(1, int(i)) for i in k])
    np.testing.assert_array_equal(arithmetic.power(0.0, np.array([0, 1, 0.5])), [1, 0, 0])


# -- slices -----------------------------------------------------------------------------------

numbers = st.floats(0.01, 10)
lengths = st.integers(50, 80)
SIMPLE = st.one_of(
    st.builds(Linear, numbers, numbers, lengths),
    st.builds(Polynomial, numbers, numbers, lengths, st.floats(0.1, 4)),
    st.builds(TimeDecay, numbers, decay=st.floats(0, 3), compound=st.booleans()),
    st.builds(StepDecay, numbers, factor=st.floats(0.1, 2), every=st.integers(1, 30)),
    st.builds(Exponential, numbers, rate=st.floats(0.1, 2)),
    st.builds(Cosine, numbers, numbers, lengths),
    st.builds(FlatCosine, numbers, numbers, lengths, st.floats(0, 0.99)),
    st.builds(CosLog4, numbers, lengths),
    st.builds(WarmRestarts, numbers, numbers, T_0=st.integers(1, 20), T_mult=st.integers(1, 3)),
    st.builds(Cyclic, numbers, peak=numbers, up=st.integers(1, 20), down=st.integers(1, 20),
              mode=st.sampled_from(["triangular", "triangular2", "exp_range"])),
    st.builds(OneCycle, numbers, lengths, st.floats(0, 1), st.floats(0.1, 30),
              st.floats(0.1, 1e4), st.sampled_from(["cosine", "linear"])),
    st.lists(numbers, min_size=50, max_size=80).map(Values),
    st.builds(ReduceOnPlateau, numbers),
)  # fmt: skip
COMPOSED = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(Warmup, inner, st.integers(1, 20), st.none() | st.floats(0, 2)),
        st.lists(st.tuples(inner, st.integers(1, 20)), min_size=1, max_size=3).flatmap(
            lambda parts: inner.map(lambda last: [*parts, (last, None)])
        ).map(lambda parts: Sequence(parts)),
    ),
    max_leaves=4,
)  # fmt: skip


def buildable(strategy):
    """What the constructors accept: at most one plateau."""

    def build(draw):
        from hypothesis import reject

        try:
            return draw(strategy)
        except ValueError as error:
            assert "only one ReduceOnPlateau" in str(error)  # noqa: PT017
            reject()

    return st.composite(build)()


@given(buildable(COMPOSED), st.integers(0, 49), st.data())
def test_a_value_depends_on_its_step_alone(schedule, first, data):
    count = data.draw(st.integers(0, 50 - first))
    whole = schedule.values(0, 50)
    np.testing.assert_array_equal(schedule.values(first, count), whole[first : first + count])
    assert np.isfinite(whole).all()
    steps = [schedule.values(k, 1)[0] for k in range(50)]
    np.testing.assert_array_equal(steps, whole)


@given(buildable(COMPOSED), st.booleans())
def test_declarations_come_back(schedule, per_epoch):
    schedule = PerEpoch(schedule) if per_epoch else schedule
    for twin in (
        pickle.loads(pickle.dumps(schedule)),
        copy.deepcopy(schedule),
        schedules.from_config(json.loads(json.dumps(schedule.config()))),
        eval(repr(schedule), vars(schedules)) if "..." not in repr(schedule) else schedule,
    ):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert repr(twin) == repr(schedule)
    assert schedule != Values([1])


@given(buildable(COMPOSED), st.integers(1, 9), st.integers(0, 40), st.integers(1, 5))
def test_epochs_are_held(schedule, batches, done, epochs):
    """k epochs after the beginning, whatever steps of a fit are asked for."""
    span = Span(done * batches, (done + epochs) * batches, batches, done)
    resolved = PerEpoch(schedule).resolved(span)
    expected = np.repeat(schedule.values(done, epochs), batches)
    np.testing.assert_array_equal(resolved.values(span.first, epochs * batches), expected)
    one = resolved.values(span.end - 1, 1)
    assert one == expected[-1]


# -- declarations -----------------------------------------------------------------------------


def test_representations():
    assert repr(Cosine()) == "Cosine()"
    assert repr(Cosine(1e-3, steps=100)) == "Cosine(0.001, steps=100)"
    assert repr(Linear(0.5, 0.1, 4)) == "Linear(0.5, 0.1, 4)"
    assert repr(StepDecay(factor=0.5, every=3)) == "StepDecay(factor=0.5, every=3)"
    assert repr(Warmup(PerEpoch(TimeDecay(decay=1)), 5)) == (
        "Warmup(PerEpoch(TimeDecay(decay=1.0)), 5)"
    )
    assert repr(Sequence([(Cosine(), 5), (CosLog4(), None)])) == (
        "Sequence([(Cosine(), 5), (CosLog4(), None)])"
    )
    assert len(repr(Values(np.arange(10**5)))) < 80
    assert repr(fastnn.Adam(Cosine(1e-3))) == (
        "Adam(lr=Cosine(0.001), beta1=0.9, beta2=0.999, epsilon=1e-08, amsgrad=False)"
    )


def test_equality():
    assert Cosine() == Cosine(1, 0) != Cosine(2)
    assert Linear() != Cosine()
    assert Values([1, 2]) == Values(np.array([1.0, 2.0])) != Values([1, 3])
    assert Warmup([1.0], 3) == Warmup(Values([1]), 3) != Warmup(Values([1]), 4)
    assert fastnn.Adam(Cosine(1e-3)) == fastnn.Adam(Cosine(1e-3)) != fastnn.Adam(Cosine(1e-4))


def test_lengths():
    assert Cosine(steps=7).length == Values([1] * 7).length == Warmup([1] * 5, 2).length == 7
    assert Sequence([(Cosine(), 3), (Cosine(), 4)]).length == 7
    assert Sequence([(Cosine(), 3), (Cosine(steps=4), None)]).length == 7
    assert Sequence([(Cosine(), 3), (Linear(1, 0, 4), None)]).length is None
    for endless in (Linear(1, 0, 5), Exponential(rate=0.9), WarmRestarts(T_0=4), Cosine()):
        assert endless.length is None
    lasting = Cosine(), Warmup(Cosine(), 3), PerEpoch(OneCycle()), Sequence([(Cosine(), None)])
    assert all(schedule.lasts_a_fit for schedule in lasting)
    assert not any(s.lasts_a_fit for s in (Cosine(steps=3), Sequence([(Cosine(), 3)]), Values([1])))
