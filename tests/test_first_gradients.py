"""check_gradients names the parameter with the largest error, and says when a kink is why."""

import pickle

import numpy as np
import pytest

from fastnn import Dense, Sequential, check_gradients

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 3)), np.array([0, 1, 1, 0, 1, 0])


def test_a_right_gradient_is_a_small_number_with_a_name():
    found = check_gradients(Sequential([Dense(4, "tanh"), Dense(2)], n_inputs=3), X, Y)
    assert 0 <= found < 1e-7
    assert not found.at_kink
    assert found.elsewhere == found
    assert str(found) == repr(found) == f"{float(found):.3g} in {found.parameter}"
    assert f"{found:.1e}" == f"{float(found):.1e}"
    assert found.parameter.split("[")[0] in ("0.W", "0.b", "1.W", "1.b")


def test_a_wrong_gradient_is_named_and_is_no_kink(monkeypatch):
    net = Sequential([Dense(4, "relu"), Dense(2)], n_inputs=3)
    right = Sequential.loss_and_grad

    def wrong(self, *arguments):
        loss, gradient = right(self, *arguments)
        gradient = gradient.copy()
        gradient[7] *= -1
        gradient[14] *= 1.1
        return loss, gradient

    monkeypatch.setattr(Sequential, "loss_and_grad", wrong)
    found = check_gradients(net, X, Y)
    assert found == pytest.approx(2)
    assert found.parameter == "0.W[1, 3]"  # the eighth of 3 rows of 4
    assert found.gradient == pytest.approx(-found.difference)
    assert not found.at_kink
    assert "in 0.W[1, 3]: backpropagation gives" in str(found)
    back = pickle.loads(pickle.dumps(found))
    assert (back, repr(back)) == (found, repr(found))


@pytest.mark.parametrize("distance", [0.0, 3e-6, -3e-6])
def test_a_kink_within_the_step_is_named(distance):
    net = Sequential([Dense(4, "relu"), Dense(2)], n_inputs=3, dtype="float64")
    views = net.parameters()
    views["0.b"][1] = distance - X[0] @ views["0.W"][:, 1]
    found = check_gradients(net, X, Y)
    assert found > 0.1
    assert found.at_kink
    assert found.elsewhere < 1e-6
    assert "since the loss has a kink there; elsewhere" in str(found)


def test_a_jump_counts_as_a_kink():
    net = Sequential([Dense(4, "step"), Dense(2)], n_inputs=3)
    found = check_gradients(net, np.zeros((2, 3)), [0, 1])
    assert found == 1
    assert found.at_kink
