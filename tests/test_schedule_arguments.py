"""Schedules: arguments that are refused, and plots."""

import numpy as np
import pytest

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
)

BAD = {
    "start": (TypeError, "start must be a number, not 'a'", lambda: Cosine("a")),
    "start NaN": (ValueError, "start must be finite", lambda: Cosine(np.nan)),
    "end": (ValueError, "end must be finite", lambda: Cosine(end=np.inf)),
    "steps": (ValueError, "steps must be at least 1", lambda: Cosine(steps=0)),
    "steps a fraction": (TypeError, "steps must be a whole", lambda: OneCycle(steps=1.5)),
    "decay": (ValueError, "decay must be at least 0", lambda: TimeDecay(decay=-1)),
    "decay missing": (TypeError, "decay", lambda: TimeDecay()),
    "factor by its place": (TypeError, "factor", lambda: StepDecay(0.5, every=3)),
    "compound": (TypeError, "compound must be True", lambda: TimeDecay(decay=1, compound=1)),
    "every": (ValueError, "every must be at least 1", lambda: StepDecay(factor=1, every=0)),
    "rate": (ValueError, "rate must be above 0", lambda: Exponential(rate=0)),
    "power": (ValueError, "power must be above 0", lambda: Polynomial(power=-1)),
    "flat": (ValueError, "flat must be below 1", lambda: FlatCosine(flat=1)),
    "T_0": (ValueError, "T_0 must be at least 1", lambda: WarmRestarts(T_0=0)),
    "T_mult": (TypeError, "T_mult must be a whole", lambda: WarmRestarts(T_0=5, T_mult=1.5)),
    "mode": (ValueError, "did you mean 'triangular2'",
             lambda: Cyclic(peak=1, up=3, mode="triangular_2")),
    "gamma": (ValueError, "at most 1", lambda: Cyclic(peak=1, up=3, mode="exp_range", gamma=2)),
    "gamma unused": (ValueError, "mode='exp_range'", lambda: Cyclic(peak=1, up=3, gamma=0.9)),
    "pct_start": (ValueError, "at most 1", lambda: OneCycle(pct_start=30)),
    "div": (ValueError, "div must be above 0", lambda: OneCycle(div=0)),
    "strategy": (ValueError, "did you mean 'cosine'", lambda: OneCycle(strategy="cos")),
    "low": (ValueError, "low must be above 0", lambda: OneCycle().momentum(low=0)),
    "no values": (ValueError, "values of a schedule are none", lambda: Values([])),
    "values of text": (TypeError, "list of numbers", lambda: Values(["a"])),
    "values of truth": (TypeError, "list of numbers", lambda: Values([True])),
    "values of rows": (TypeError, "list of numbers", lambda: Values([[1.0]])),
    "values of ragged rows": (TypeError, "list of numbers", lambda: Values([[1.0], [1, 2]])),
    "values with NaN": (ValueError, "value of step 1 must be finite", lambda: Values([1, np.nan])),
    "warm-up of nothing": (TypeError, "not 'cosine'", lambda: Warmup("cosine", 3)),
    "warm-up of a class": (TypeError, r"write Cosine\(...\)", lambda: Warmup(Cosine, 3)),
    "warm-up in no steps": (ValueError, "steps must be at least 1", lambda: Warmup(Cosine(), 0)),
    "start_factor": (ValueError, "start_factor", lambda: Warmup(Cosine(), 3, start_factor=-1)),
    "sequence of nothing": (ValueError, "at least one pair", lambda: Sequence([])),
    "sequence of schedules": (TypeError, "part 0 must be a pair", lambda: Sequence([Cosine()])),
    "sequence a schedule": (TypeError, "takes pairs", lambda: Sequence(Cosine())),
    "sequence without steps": (ValueError, "part 0 needs its steps",
                               lambda: Sequence([(Cosine(), None), (Cosine(), 3)])),
    "sequence too short": (ValueError, "part 0, .* has 4 steps where its part has 5",
                           lambda: Sequence([(Cosine(steps=4), 5)])),
    "epochs of epochs": (ValueError, "counts epochs already",
                         lambda: PerEpoch(Warmup(PerEpoch(Cosine()), 3))),
    "two plateaus": (ValueError, "only one ReduceOnPlateau",
                     lambda: Sequence([(ReduceOnPlateau(), 3), (ReduceOnPlateau(), None)])),
    "plateau factor": (ValueError, "factor must be below 1", lambda: ReduceOnPlateau(factor=1)),
    "patience": (ValueError, "patience must be at least 0", lambda: ReduceOnPlateau(patience=-1)),
    "metric": (TypeError, "metric must be a name", lambda: ReduceOnPlateau(metric=1)),
    "plateau mode": (ValueError, "Known: 'auto', 'min', 'max'",
                     lambda: ReduceOnPlateau(mode="up")),
    "threshold mode": (ValueError, "Known: 'rel', 'abs'",
                       lambda: ReduceOnPlateau(threshold_mode="relative to")),
    "least": (ValueError, "least is 2.0, above start", lambda: ReduceOnPlateau(least=2)),
    "plateau of an optimizer": (ValueError, r"lr cannot follow .* fit\(schedule=...\)",
                                lambda: fastnn.SGD(Warmup(ReduceOnPlateau(), 3))),
    "plateau of a dropout": (ValueError, "a dropout rate cannot follow",
                             lambda: fastnn.Dropout(ReduceOnPlateau(0.5))),
    "dropout above": (ValueError, "start of a dropout rate must be below 1, not 1.0",
                      lambda: fastnn.Dropout(Cosine())),
    "dropout above in a part": (ValueError, r"peak of CosLog4\(2.0\) of a dropout rate",
                                lambda: fastnn.Dropout(Warmup(CosLog4(2), 3))),
    "dropout of values": (ValueError, "largest value of a dropout rate must be below 1",
                          lambda: fastnn.Dropout([0.5, 1.5])),
    "beyond the end": (ValueError, "has 5 steps, so step 6 has no value",
                       lambda: Cosine(steps=5).values(3, 4)),
    "beyond the values": (ValueError, "has 2 steps, so step 2 has no value",
                          lambda: Values([1, 2]).values(2, 1)),
    "beyond a warm-up": (ValueError, "has 7 steps", lambda: Warmup([1] * 5, 2).values(0, 8)),
    "beyond a sequence": (ValueError, "has 3 steps",
                          lambda: Sequence([(Linear(), 3)]).values(3, 1)),
    "before the first": (ValueError, "first_step must be at least 0",
                         lambda: Cosine(steps=5).values(-1, 1)),
    "no fit": (ValueError, "lasts as long as the fit", lambda: Cosine().values(0, 1)),
    "no epochs": (ValueError, "only in a fit", lambda: PerEpoch(Linear(1, 0, 5)).values(0, 1)),
    "a number": (TypeError, "function of the step, or a list of values, not 0.5",
                 lambda: schedules.get(0.5)),
    "plot of no steps": (ValueError, "steps must be at least 1", lambda: Cosine().plot(steps=0)),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    kind, message, call = BAD[name]
    with pytest.raises(kind, match=message):
        call()


# -- plots ------------------------------------------------------------------------------------


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    cases = {
        "restarts": (WarmRestarts(T_0=100, T_mult=2), None, 1000, "step"),
        "cosine": (Cosine(steps=300), None, 300, "step"),
        "fit": (Warmup(OneCycle(), 100), None, 1000, "step"),
        "own": (schedules.get(lambda k: 1 / (k + 1)), 30, 30, "step"),
        "epochs": (PerEpoch(StepDecay(factor=0.5, every=3)), 12, 12, "epoch"),
        "values per epoch": (PerEpoch([1, 0.5, 0.2]), None, 3, "epoch"),
        "long": (Cosine(), 10**5, 20_000, "step"),
    }
    for name, (schedule, steps, count, label) in cases.items():
        path = tmp_path / f"{name}.png"
        axes = schedule.plot(path, steps).axes[0]
        assert path.stat().st_size > 1000
        assert axes.get_xlabel() == label
        assert len(axes.lines[0].get_xdata()) == count
    assert axes.lines[0].get_ydata()[10_000] == pytest.approx(0.5)
