"""The docstrings: each public thing has one, with an example that runs."""

import doctest
import importlib
import inspect

import pytest

import fastnn

MODULES = [
    "activations", "adaptive", "averages", "coding", "custom_loss", "data.digits", "data.idx",
    "data.images", "data.named", "data.split",
    "embeddings", "engines", "engines.threads", "gradients", "inference", "initializers", "layers",
    "lbfgs", "network", "augmentation", "augmentation.images", "augmentation.rows",
    "augmentation.variants",
    "losses", "metric", "metrics", "model", "muon", "normalizations", "optimizers", "plots",
    "schedules.base", "schedules.compositions", "schedules.cycles", "schedules.decays",
    "schedules.plateau", "stochastic", "best_model", "callbacks", "early_stopping", "history",
    "loggers", "progress", "estimators.sequential", "estimators.mlp_classifier",
    "estimators.mlp_regressor", "preprocessing.affine", "preprocessing.missing",
    "preprocessing.quantiles", "preprocessing.whitening",
]  # fmt: skip


def public():
    """Every name that users type: functions and classes, and the methods of the classes."""
    for name in [*fastnn.__all__, *fastnn._ESTIMATORS]:
        value = getattr(fastnn, name)
        if inspect.ismodule(value):
            for key, inner in vars(value).items():
                ours = getattr(inner, "__module__", "").startswith(value.__name__)
                if ours and (inspect.isfunction(inner) or inspect.isclass(inner)) and key[0] != "_":
                    yield f"{name}.{key}", inner
        elif callable(value):
            yield name, value
    for name, member in vars(fastnn.Sequential).items():
        if not name.startswith("_") and name not in ("classes_", "history"):
            yield f"Sequential.{name}", getattr(member, "fget", member)


PUBLIC = dict(public())
# Bases, lookups by name and errors are documented where they are used.
WITHOUT_EXAMPLE = {
    "activations.from_config", "initializers.Initializer", "initializers.config",
    "initializers.from_config", "layers.from_config", "losses.from_config",
    "metrics.get", "optimizers.get", "engines.choice", "engines.current", "schedules.Schedule",
    "schedules.get", "schedules.from_config", "schedules.checked_values", "schedules.follows",
    "schedules.of_hyperparameter",
}  # fmt: skip


def test_the_list_is_not_empty():
    assert len(PUBLIC) > 50
    assert PUBLIC.keys() >= WITHOUT_EXAMPLE


@pytest.mark.parametrize("name", PUBLIC)
def test_public_things_are_documented(name):
    text = inspect.getdoc(PUBLIC[name])
    assert text, f"{name} has no docstring"
    if name.startswith("errors.") or name in WITHOUT_EXAMPLE:
        return
    assert ">>>" in text, f"{name} has no example"
    has_parameters = inspect.isfunction(PUBLIC[name]) and [
        p for p in inspect.signature(PUBLIC[name]).parameters if p != "self"
    ]
    if name.startswith("Sequential.") and has_parameters:
        assert "Parameters\n-----" in text
        assert "Raises\n-----" in text


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    found = doctest.testmod(importlib.import_module(f"fastnn.{module}"), report=True)
    assert found.attempted > 0
    assert found.failed == 0
