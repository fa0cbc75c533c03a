"""fastnn: train neural networks on CPUs at the speed of the hardware.

Public names are imported on first use: ``import fastnn`` takes little longer than NumPy's import.
"""

from importlib import import_module

__version__ = "0.1.0"

#: The module of each public name.
_MODULE_OF = {
    "Sequential": "model",
    "load": "loading",
    "train_many": "many",
    "Halving": "halving",
    "Activation": "layers",
    "BatchNorm": "normalizations",
    "Dense": "layers",
    "Dropout": "stochastic",
    "Embedding": "embeddings",
    "GaussianNoise": "stochastic",
    "PReLU": "layers",
    "Residual": "layers",
    "Maxout": "layers",
    "Scale": "layers",
    "LayerNorm": "normalizations",
    "GroupNorm": "normalizations",
    "Center": "preprocessing",
    "Impute": "preprocessing",
    "MinMax": "preprocessing",
    "QuantileNormal": "preprocessing",
    "Rescale": "preprocessing",
    "RobustScale": "preprocessing",
    "Standardize": "preprocessing",
    "Whiten": "preprocessing",
    "one_hot": "coding",
    "from_one_hot": "coding",
    "softmax": "activations",
    "check_gradients": "gradients",
    "numerical_gradient": "gradients",
    "SGD": "optimizers",
    "Adadelta": "optimizers",
    "Adagrad": "optimizers",
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "LBFGS": "lbfgs",
    "Lion": "optimizers",
    "Muon": "muon",
    "Nadam": "optimizers",
    "RAdam": "optimizers",
    "RMSprop": "optimizers",
    "EMA": "averages",
    "SWA": "averages",
    "Callback": "callbacks",
    "BestModel": "best_model",
    "CSVLogger": "loggers",
    "MLflowLogger": "loggers",
    "TensorBoardLogger": "loggers",
    "EarlyStopping": "early_stopping",
    "History": "history",
    "set_engine": "engines",
    "use_engine": "engines",
    "set_num_threads": "engines",
    "get_num_threads": "engines",
}
#: They import scikit-learn, so that ``from fastnn import *`` leaves them out.
_ESTIMATORS = ("MLPClassifier", "MLPRegressor", "SequentialClassifier", "SequentialRegressor")
_MODULES = (
    "activations",
    "augmentation",
    "data",
    "engines",
    "errors",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "plots",
    "preprocessing",
    "schedules",
)

__all__ = [*_MODULE_OF, *_MODULES, "__version__"]


def __getattr__(name):
    if name in _MODULE_OF:
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    elif name in _ESTIMATORS:
        value = getattr(import_module(".estimators", __name__), name)
    elif name in _MODULES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted([*__all__, *_ESTIMATORS])
