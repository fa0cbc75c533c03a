"""Arguments of the elementwise optimizers, and what they compute for each step."""

import json

import numpy as np
import pytest
from test_optimizers import OF_EACH_RULE, trained

import fastnn
from fastnn import (
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    Nadam,
    RAdam,
    RMSprop,
    optimizers,
)
from fastnn.schedules import Linear
from fastnn.tables import HYPER, Rule


@pytest.mark.parametrize("make", [
    lambda: Adam(0.01, amsgrad=True), lambda: Nadam(0.01), lambda: RAdam(0.01),
    lambda: Nadam(0.01, Linear(0.2, 0.999, 5000)), lambda: Nadam(0.01, 0.0),
    lambda: Nadam(0.01, 0.9999), lambda: Nadam(0.01, momentum_decay=0),
    lambda: RAdam(0.01, beta2=0.9999), lambda: AdamW(0.01, weight_decay=Linear(0.1, 0, 7000)),
])  # fmt: skip
def test_a_step_has_the_same_numbers_in_any_slice(make):
    """Also behind the steps after which Nadam keeps its product, and in a resumed training."""
    whole = make().hyper(1, np.full(9000, 0.01))
    assert np.isfinite(whole).all()
    pieces, optimizer, first = [], make(), 1
    for count in (1, 2, 300, 3793, 1, 4903):
        pieces.append(optimizer.hyper(first, np.full(count, 0.01)))
        first += count
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    np.testing.assert_array_equal(make().hyper(8000, np.full(50, 0.01)), whole[7999:8049])
    np.testing.assert_array_equal(optimizer.hyper(5, np.full(50, 0.01)), whole[4:54])


def test_no_number_of_a_late_step_underflows():
    with np.errstate(all="raise"):
        for optimizer in OF_EACH_RULE:
            for first in (1, 700, 10**5, 10**6):
                assert np.isfinite(optimizer.hyper(first, np.full(3, 0.1))).all()
        for extreme in (Nadam(beta1=0.0), Nadam(beta1=0.1, momentum_decay=5), RAdam(beta2=0.0)):
            assert np.isfinite(extreme.hyper(1, np.full(9000, 0.1))).all()


def test_rectification_begins_with_the_sixth_step():
    own = RAdam(0.01).hyper(1, np.full(8, 0.01))
    names = HYPER[Rule.radam]
    plain, adaptive = own[:, names.index("plain")], own[:, names.index("adaptive")]
    assert plain.tolist() == [1] * 5 + [0] * 3
    assert (adaptive[:5] == 0).all()
    assert (adaptive[5:] > 0).all()


# -- arguments -----------------------------------------------------------------------------------

BAD = {
    "rate NaN": (ValueError, "lr must be finite", lambda: RMSprop(np.nan)),
    "rate infinite": (ValueError, "lr must be finite", lambda: AdamW(np.inf)),
    "rate negative": (ValueError, "lr must be above 0", lambda: Lion(-1e-4)),
    "rate zero": (ValueError, "lr must be above 0", lambda: Adadelta(0)),
    "rate text": (TypeError, "lr must be a number, not '0.1'", lambda: Nadam("0.1")),
    "rate none": (TypeError, "lr must be a number", lambda: Adagrad(None)),
    "rate true": (TypeError, "lr must be a number", lambda: RAdam(True)),
    "beta1 one": (ValueError, "beta1 must be below 1", lambda: AdamW(beta1=1)),
    "beta1 negative": (ValueError, "beta1 must be at least 0", lambda: Lion(beta1=-0.1)),
    "beta2 one": (ValueError, "beta2 must be below 1", lambda: Nadam(beta2=1.0)),
    "beta2 NaN": (ValueError, "beta2 must be finite", lambda: RAdam(beta2=np.nan)),
    "beta2 a pair": (TypeError, "beta1 must be a number", lambda: Adam(0.1, (0.9, 0.999))),
    "beta2 scheduled": (TypeError, "beta2 must be a number", lambda: Lion(beta2=Linear(0, 1, 9))),
    "rho": (ValueError, "rho must be below 1", lambda: RMSprop(rho=1.5)),
    "rho negative": (ValueError, "rho must be at least 0", lambda: Adadelta(rho=-0.5)),
    "momentum": (ValueError, "momentum must be below 1", lambda: RMSprop(momentum=1)),
    "epsilon": (ValueError, "epsilon must be above 0", lambda: RMSprop(epsilon=0)),
    "epsilon NaN": (ValueError, "epsilon must be finite", lambda: Adagrad(epsilon=np.nan)),
    "epsilon negative": (ValueError, "epsilon must be above 0", lambda: Adadelta(epsilon=-1)),
    "accumulator": (ValueError, "initial_accumulator must be at least 0",
                    lambda: Adagrad(initial_accumulator=-0.1)),
    "momentum decay": (ValueError, "momentum_decay must be at least 0",
                       lambda: Nadam(momentum_decay=-1)),
    "amsgrad": (TypeError, "amsgrad must be True or False", lambda: Adam(amsgrad=1)),
    "centered": (TypeError, "centered must be True or False", lambda: RMSprop(centered="yes")),
    "eps_inside": (TypeError, "eps_inside must be True or False", lambda: RMSprop(eps_inside=0)),
    "weight decay": (ValueError, "weight_decay must be at least 0",
                     lambda: AdamW(weight_decay=-0.1)),
    "weight decay NaN": (ValueError, "weight_decay must be finite",
                         lambda: Lion(weight_decay=np.nan)),
    "both clips": (ValueError, "cannot both be given", lambda: Nadam(clip_norm=1, clip_value=1)),
    "a typo": (ValueError, "unknown optimizer 'adamm'; did you mean 'adam'",
               lambda: optimizers.get("adamm")),
    "another typo": (ValueError, "did you mean 'rmsprop'", lambda: optimizers.get("RMSProb")),
    "no name": (TypeError, r"write Lion\(", lambda: optimizers.get(Lion)),
    "beta1 of a schedule": (ValueError, "beta1, from .* at step 20 must be below 1",
                            lambda: trained(Nadam(0.01, Linear(0.5, 1.0, 20)), 6)),
    "rate of a schedule": (ValueError, "at step 3 must be finite",
                           lambda: trained(Lion(lambda k: 0.01 if k < 3 else np.nan), 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    error, message, call = BAD[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Nadam", "Adadelta",
                                  "RAdam", "Lion"])  # fmt: skip
def test_names(name):
    kind = getattr(fastnn, name)
    assert getattr(optimizers, name) is kind
    assert optimizers.get(name) == optimizers.get(name.lower()) == kind()
    assert eval(repr(kind()), vars(fastnn)) == kind()
    assert json.loads(json.dumps(kind().config())) == kind().config()
    assert kind().config()["name"] == name
    assert kind(0.5) != kind(0.25)
