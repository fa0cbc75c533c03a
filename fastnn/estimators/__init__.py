"""Estimators for scikit-learn (extra ``sklearn``); the only part of fastnn that imports it."""

from importlib import import_module

_MODULE_OF = {
    "MLPClassifier": "mlp_classifier",
    "MLPRegressor": "mlp_regressor",
    "SequentialClassifier": "sequential",
    "SequentialRegressor": "sequential",
}

__all__ = list(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        # What an older version lacks.
        from sklearn.utils.validation import validate_data  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"fastnn.{name} needs scikit-learn 1.6 or later: pip install 'fastnn-cpu[sklearn]'"
        ) from error
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
