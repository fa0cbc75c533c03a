"""Every parameter of scikit-learn's MLPs does in fastnn's what its documentation says."""

import inspect

import numpy as np
import pytest
import sklearn.neural_network
from estimator_cases import fitted, made, of_fastnn, table, targets
from sklearn.exceptions import ConvergenceWarning

import fastnn

X, SUMS = table()
KINDS = ("four", "number")


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_parameters_have_the_names_order_and_defaults_of_scikit_learn(name):
    theirs = inspect.signature(getattr(sklearn.neural_network, name).__init__).parameters
    own = inspect.signature(getattr(fastnn, name).__init__).parameters
    shared = [own[parameter] for parameter in own if parameter in theirs]
    assert [(p.name, p.default, p.kind) for p in shared] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]
    new = [p for parameter, p in own.items() if parameter not in theirs]
    assert all(p.kind == inspect.Parameter.KEYWORD_ONLY for p in new)


@pytest.mark.parametrize(("name", "values"), [
    ("hidden_layer_sizes", [0, "3", None]), ("activation", ["nothing", 3, None]),
    ("solver", ["newton", None, 1]), ("alpha", [-1.0, "1", None]),
    ("batch_size", [0, 1.5, "all", None]), ("learning_rate", ["fast", 0.1]),
    ("learning_rate_init", [0, -1.0, None]), ("power_t", [-1.0, "1"]), ("max_iter", [0, 2.5, None]),
    ("shuffle", ["yes", 2]), ("random_state", ["seed", -1.5]), ("tol", [-1.0, None]),
    ("verbose", [-1, "yes"]), ("warm_start", [None, 3]), ("momentum", [-0.1, 1.1, None]),
    ("nesterovs_momentum", [None, 2.0]), ("early_stopping", [None, 5]),
    ("validation_fraction", [1.0, -0.1]), ("beta_1", [1.0, -0.1]), ("beta_2", [1.0, -0.1]),
    ("epsilon", [0.0, -1.0]), ("n_iter_no_change", [0, 2.5]), ("max_fun", [0, 1.5]),
    ("loss", ["nothing", 3]), ("dropout", [1.0, -0.1, "half"]), ("normalization", ["group", 1]),
    ("output_activation", ["nothing", None]), ("optimizer", [3]), ("n_threads", [0, 1.5]),
    ("engine", ["cuda", 1]), ("dtype", ["float16", np.int64]),
])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_values_out_of_range_are_refused_with_the_name(kind, name, values):
    for value in values:
        estimator = of_fastnn(kind)(**{name: value})
        with pytest.raises((ValueError, TypeError), match=name):
            estimator.fit(X, targets(kind, SUMS))


def test_hidden_layer_sizes_are_the_units_of_the_hidden_layers():
    for sizes, units in ((7, [7]), ((7,), [7]), ([5, 4], [5, 4]), (np.array([3, 2, 4]), [3, 2, 4]),
                         ((), [])):  # fmt: skip
        estimator = made("four", {"hidden_layer_sizes": sizes})
        assert [b.shape for b in estimator.intercepts_] == [(n,) for n in (*units, 4)]
        assert estimator.n_layers_ == len(units) + 2
    with pytest.raises(ValueError, match=r"hidden_layer_sizes must be > 0, got \[3, 0\]"):
        fastnn.MLPClassifier((3, 0)).fit(X, targets("four", SUMS))


def test_activation_is_that_of_the_hidden_layers():
    estimator = made("number", {"activation": "tanh"})
    (W, V), (b, c) = estimator.coefs_, estimator.intercepts_
    np.testing.assert_allclose(estimator.predict(X), (np.tanh(X @ W + b) @ V + c)[:, 0], rtol=1e-9)
    assert made("number", {"activation": "logistic"}).net_.layers[0].activation.name == "sigmoid"


def test_solvers_have_their_own_steps():
    losses = {name: made("number", {"solver": name}).loss_ for name in ("lbfgs", "sgd", "adam")}
    assert len(set(losses.values())) == 3
    assert losses["lbfgs"] < losses["adam"]


def test_alpha_shrinks_the_weights_and_not_the_biases():
    norms = []
    for alpha in (0.0, 100.0):
        estimator = made("number", {"alpha": alpha, "max_iter": 100})
        norms.append(sum((W**2).sum() for W in estimator.coefs_))
    assert norms[1] < 0.5 * norms[0]


def test_batch_size_is_the_rows_of_a_step():
    assert made("four", {"batch_size": "auto"}).net_.history.n_steps == 5 * 2
    assert made("four", {"batch_size": 100}).net_.history.n_steps == 5 * 3
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger") as caught:
        estimator = made("four", {"batch_size": 1000})
    assert estimator.net_.history.n_steps == 5
    assert caught[0].filename.endswith("estimator_cases.py")  # the line that called fit


def test_learning_rates_of_sgd_follow_their_mode():
    def rates(**parameters):
        estimator = made("number", {"solver": "sgd", "learning_rate_init": 0.1, "max_iter": 4,
                                    **parameters})  # fmt: skip
        return estimator.net_.history["lr"]

    assert rates() == [0.1] * 4
    expected = [0.1, *(0.1 / (230 * epoch + 1) ** 0.3 for epoch in (1, 2, 3))]
    assert rates(learning_rate="invscaling", power_t=0.3) == pytest.approx(expected)
    slowed = rates(learning_rate="adaptive", tol=100.0, n_iter_no_change=1)
    assert slowed == pytest.approx([0.1, 0.1, 0.1, 0.02])
    assert rates(learning_rate="invscaling", solver="adam") == [0.1] * 4


def test_adaptive_rates_end_the_fit_once_they_are_small():
    estimator = made("number", {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 1e-5, "tol": 100.0,
        "n_iter_no_change": 1, "max_iter": 50,
    })  # fmt: skip
    # A first improvement, then two epochs each at 1e-5, 2e-6 and 4e-7.
    assert estimator.n_iter_ == 7


def test_max_iter_is_the_most_epochs_and_warns():
    y = targets("four", SUMS)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\) reached") as caught:
        estimator = fastnn.MLPClassifier((5,), max_iter=3).fit(X, y)
    assert (estimator.n_iter_, len(estimator.loss_curve_)) == (3, 3)
    assert caught[0].filename == __file__
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge after 2 iteration"):
        fastnn.MLPClassifier((5,), solver="lbfgs", max_iter=2).fit(X, y)


def test_shuffle_changes_the_order_of_the_rows():
    assert made("four", {"shuffle": False}).loss_ != made("four", {"shuffle": True}).loss_
    seen = []
    made("four", {"shuffle": False, "callbacks": lambda t: seen.append(t.fit.data.order)})
    assert seen == [None] * 5


def test_random_state_determines_all():
    assert made("four").loss_ == made("four").loss_
    assert made("four").loss_ != made("four", {"random_state": 1}).loss_
    free = [made("four", {"random_state": None}).loss_ for _ in range(2)]
    assert free[0] != free[1]


def test_tol_and_n_iter_no_change_end_the_fit():
    ended = made("four", {"tol": 100.0, "n_iter_no_change": 3, "max_iter": 50})
    assert ended.n_iter_ == 5  # the first epoch improves on infinity, then 4 more than 3 do not
    assert made("four", {"tol": 100.0, "n_iter_no_change": np.inf, "max_iter": 50}).n_iter_ == 50
    loose = made("four", {"solver": "lbfgs", "tol": 1.0, "max_iter": 50})
    assert loose.n_iter_ < made("four", {"solver": "lbfgs", "max_iter": 50}).n_iter_


def test_verbose_prints_a_line_for_each_epoch(capsys):
    estimator = made("number", {"verbose": True})
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Iteration {i}, loss = {loss:.8f}" for i, loss
                     in enumerate(estimator.loss_curve_, start=1)]  # fmt: skip
    made("number", {"verbose": False})
    assert not capsys.readouterr().out


def test_warm_start_begins_with_the_last_weights():
    cold = fitted(made("four", {"max_iter": 3}), X, targets("four", SUMS))
    warm = fitted(made("four", {"max_iter": 3, "warm_start": True}), X, targets("four", SUMS))
    assert len(cold.loss_curve_) == 3
    assert len(warm.loss_curve_) == 6
    assert warm.loss_curve_[3] < cold.loss_curve_[0]


def test_momentum_and_nesterovs_momentum_change_the_steps_of_sgd():
    losses = [
        made("number", {"solver": "sgd", **parameters}).loss_
        for parameters in ({"momentum": 0.0}, {"momentum": 0.9}, {"nesterovs_momentum": False})
    ]
    assert len(set(losses)) == 3
    assert losses[1] < losses[0]


def test_early_stopping_keeps_the_weights_of_the_best_validation_score():
    estimator = made("four", {"early_stopping": True, "max_iter": 200, "learning_rate_init": 0.05,
                              "n_iter_no_change": 2})  # fmt: skip
    scores = estimator.validation_scores_
    assert estimator.n_iter_ == len(scores) < 200
    assert estimator.best_validation_score_ == max(scores)
    assert estimator.best_loss_ is None
    assert max(scores) > scores[-1] or scores[-1] < max(scores[:-1]) + estimator.tol
    best = made("four", {"early_stopping": True, "max_iter": int(np.argmax(scores)) + 1,
                         "learning_rate_init": 0.05, "n_iter_no_change": 200})  # fmt: skip
    for kept, expected in zip(estimator.coefs_, best.coefs_, strict=True):
        assert (kept == expected).all()


def test_validation_fraction_is_the_share_of_the_rows_set_aside():
    for fraction, n_train in ((0.1, 207), (0.5, 115)):
        parameters = {"early_stopping": True, "validation_fraction": fraction}
        assert made("four", parameters).t_ == 5 * n_train
    with pytest.raises(ValueError, match="The validation set is too small"):
        made("four", {"early_stopping": True, "validation_fraction": 0.001})


@pytest.mark.parametrize("parameters", [{"beta_1": 0.1}, {"beta_2": 0.5}, {"epsilon": 0.1}],
                         ids=str)  # fmt: skip
def test_constants_of_adam_change_its_steps(parameters):
    assert made("number", parameters).loss_ != made("number").loss_
    same = {"solver": "sgd"}
    assert made("number", {**same, **parameters}).loss_ == made("number", same).loss_


def test_learning_rate_init_is_the_rate_of_the_first_step():
    for solver in ("adam", "sgd"):
        estimator = made("number", {"learning_rate_init": 0.003, "solver": solver})
        assert estimator.net_.history["lr"][0] == 0.003


def test_max_fun_limits_the_passes_of_lbfgs():
    with pytest.warns(ConvergenceWarning, match="max_fun"):
        estimator = fastnn.MLPRegressor(solver="lbfgs", max_fun=3, random_state=0).fit(
            X, targets("number", SUMS)
        )
    assert estimator.n_iter_ <= 3


def test_poisson_predicts_counts_above_0():
    estimator = made("counts", {"loss": "poisson"})
    assert (estimator.out_activation_, estimator.predict(X).min() > 0) == ("exp", True)
    with pytest.raises(ValueError, match="poisson takes counts"):
        made("number", {"loss": "poisson"})


def test_squared_error_of_several_columns_has_the_gradient_of_their_sum():
    y = targets("numbers", SUMS)
    estimator = made("numbers", {"max_iter": 1, "batch_size": 230, "solver": "sgd",
                                 "momentum": 0.0, "learning_rate_init": 1e-9, "alpha": 0.0,
                                 })  # fmt: skip
    error = estimator.predict(X) - y
    assert estimator.loss_ == pytest.approx((error**2).mean() / 2, rel=1e-5)
    _, gradient = estimator.net_.loss_and_grad(X, y)
    np.testing.assert_allclose(gradient[-4:], error.mean(axis=0), rtol=1e-9)
