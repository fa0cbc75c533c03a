"""Names: what users of other libraries call things here, and errors for names that nothing has.

A name may differ in case, underscores and hyphens. A name of Keras, PyTorch or scikit-learn that
means the same is taken; one that means nearly the same is refused, and the error says what differs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Names that mean the same, by kind, without underscores. The cross-entropies, hinges and Poisson's
#: loss are sums over several outputs here, as the module of the losses says, and means elsewhere.
_SAME = {
    "activation": {
        "swish": "silu", "linear": "identity", "none": "identity", "logistic": "sigmoid",
        "heaviside": "step", "rectifier": "relu", "celu": "elu", "softmax2d": "softmax",
    },
    "initialiser": {
        "glorotnormal": "xavier_normal", "glorotuniform": "xavier_uniform",
        "kaimingnormal": "he_normal", "kaiminguniform": "he_uniform", "zero": "zeros",
    },
    "loss": {
        "meansquarederror": "mse", "mseloss": "mse",
        "meanabsoluteerror": "mae", "absoluteerror": "mae", "l1loss": "mae",
        "sumofsquarederrors": "sse", "sumofsquares": "sse",
        "categoricalcrossentropy": "cross_entropy", "crossentropyloss": "cross_entropy",
        "sparsecategoricalcrossentropy": "cross_entropy",
        "bce": "binary_cross_entropy", "bceloss": "binary_cross_entropy",
        "bcewithlogits": "binary_cross_entropy", "bcewithlogitsloss": "binary_cross_entropy",
        "huberloss": "huber", "smoothl1loss": "huber", "smoothl1": "huber",
        "pinball": "quantile", "pinballloss": "quantile", "quantileloss": "quantile",
        "hingeloss": "hinge", "poissonnllloss": "poisson", "focalloss": "focal",
    },
    "optimizer": {
        "gradientdescent": "sgd", "gd": "sgd", "stochasticgradientdescent": "sgd",
    },
    "metric": {
        "acc": "accuracy", "auc": "roc_auc", "rocaucscore": "roc_auc", "r2score": "r2",
        "f1score": "f1", "accuracyscore": "accuracy",
        "categoricalaccuracy": "accuracy", "sparsecategoricalaccuracy": "accuracy",
        "binaryaccuracy": "accuracy",
        "meanabsoluteerror": "mae", "meansquarederror": "mse", "rootmeansquarederror": "rmse",
    },
}  # fmt: skip

_NO_LOG = "is not an activation here: the loss 'cross_entropy' contains log and softmax, so end the"
_NO_LOG += " network with a Dense layer that has none"
_EXACT = "approximates {0} by {1}; {0!r} itself is what there is"
_BY_OUTPUTS = "is 'binary_cross_entropy' for one output, 'cross_entropy' for one of each class"

#: Names that mean nearly the same, with what follows the name in the error.
_NEAR = {
    "activation": {
        "relu6": "is 'relu' limited to 6, and 'relu' is not limited",
        "hardsigmoid": _EXACT.format("sigmoid", "straight lines"),
        "hardtanh": _EXACT.format("tanh", "straight lines"),
        "hardswish": _EXACT.format("silu", "straight lines"),
        "hardsilu": _EXACT.format("silu", "straight lines"),
        "gelutanh": _EXACT.format("gelu", "a tanh"),
        "gelunew": _EXACT.format("gelu", "a tanh"),
        "quickgelu": _EXACT.format("gelu", "a sigmoid"),
        "softsign": "is z / (1 + |z|), which is not here; the nearest is 'tanh', also from -1 to 1",
        "sign": "is -1 or 1; 'step' is 0 or 1",
        "logsoftmax": _NO_LOG,
        "logsigmoid": _NO_LOG.replace("cross", "binary_cross").replace("softmax", "sigmoid"),
        "prelu": "has parameters, so it is a layer: write PReLU() after Dense(units)",
        "maxout": "has parameters, so it is a layer: write Maxout(units) in place of Dense(units)",
        "dropout": "is a layer: write Dropout(rate) after Dense(units)",
        "glu": "halves the number of columns, which no activation here does; the nearest is 'silu'",
        "exponential": "is not an activation here: the loss 'poisson' contains e^z",
        "exp": "is not an activation here: the loss 'poisson' contains e^z",
    },
    "initialiser": {
        "xavier": "is 'xavier_normal' or 'xavier_uniform'",
        "glorot": "is 'xavier_normal' or 'xavier_uniform'",
        "kaiming": "is 'he_normal' or 'he_uniform'",
        "lecun": "is 'lecun_normal' or 'lecun_uniform'",
        "ones": "is a constant: write 1.0",
        "constant": "needs its value: write the number",
        "normal": "needs a standard deviation: write initializers.Normal(0.01)",
        "randomnormal": "needs a standard deviation: write initializers.Normal(0.05)",
        "gaussian": "needs a standard deviation: write initializers.Normal(0.01)",
        "truncatednormal": "is not here; initializers.Normal(0.05) is not truncated",
        "uniform": "needs its range: write initializers.Uniform(-0.05, 0.05)",
        "randomuniform": "needs its range: write initializers.Uniform(-0.05, 0.05)",
        "variancescaling": "needs its gain: write initializers.VarianceScaling(gain)",
        "default": "is 'auto'",
    },
    "loss": {
        "logloss": _BY_OUTPUTS,
        "logistic": _BY_OUTPUTS,
        "nll": "takes log-probabilities elsewhere; 'cross_entropy' contains the log-softmax, so "
               "end the network with a Dense layer that has no activation",
        "rmse": "is the root of 'mse', and both have their minimum at the same parameters: train "
                "with 'mse', and give metrics=['rmse']",
        "msle": "is 'mse' of log(1 + y): train on np.log1p(y)",
        "mape": "is not here; 'mae' on np.log(y) is near for y above 0",
        "logcosh": "is not here; the nearest is 'huber': squares of small errors, sizes of large",
        "kldivergence": "is 'cross_entropy' less a constant, for rows y of probabilities",
        "squaredloss": "is 'squared_error' with the factor 1/2, 'mse' without",
        "multimargin": "is not here; 'hinge' takes a column of 0 and 1 for each output",
        "binaryfocalcrossentropy": "is 'focal' with one output",
        "categoricalfocalcrossentropy": "is 'focal', whose weights of classes are class_weight",
        "sigmoidfocalloss": "is 'focal' with one output, without weights of classes",
        "gaussiannllloss": "leaves out a constant elsewhere and takes the mean over outputs; "
                           "'gaussian_nll' is the whole likelihood",
        "l1": "is 'mae'; the penalty of the weights is written Dense(units, l1=...)",
        "l2": "is 'mse'; the penalty of the weights is written Dense(units, l2=...)",
        "accuracy": "is a metric and cannot be trained: use loss='auto', which reports it",
    },
    "optimizer": {
        "momentum": "is SGD(0.01, momentum=0.9)",
        "sgdmomentum": "is SGD(0.01, momentum=0.9)",
        "nesterov": "is SGD(0.01, momentum=0.9, nesterov=True)",
        "nag": "is SGD(0.01, momentum=0.9, nesterov=True)",
        "amsgrad": "is Adam(amsgrad=True)",
        "adamax": "is not here; the nearest is 'adam', or 'nadam'",
        "adafactor": "is not here; the nearest is 'adam', which keeps a number for each parameter",
        "ftrl": "is not here; the nearest is 'adagrad', with l1 on the layers",
        "lamb": "is not here; the nearest is 'adamw'",
    },
    "metric": {
        "precision": "is not here; 'f1' counts precision and recall, and a function of "
                     "(y, predictions) such as sklearn.metrics.precision_score is a metric",
        "recall": "is not here; 'f1' counts precision and recall, and a function of "
                  "(y, predictions) such as sklearn.metrics.recall_score is a metric",
    },
}  # fmt: skip

for _kind, _name, _like in (
    ("loss", "nllloss", "nll"), ("loss", "negativeloglikelihood", "nll"),
    ("loss", "rootmeansquarederror", "rmse"), ("loss", "meansquaredlogarithmicerror", "msle"),
    ("loss", "meanabsolutepercentageerror", "mape"), ("loss", "kldiv", "kldivergence"),
    ("loss", "kldivloss", "kldivergence"), ("loss", "kld", "kldivergence"),
):  # fmt: skip
    _NEAR[_kind][_name] = _NEAR[_kind][_like]


def find(kind: str, name: str, known: Collection[str]) -> str:
    """The known name that `name` means.

    Parameters
    ----------
    kind : str
        What the names are those of, for the error: "activation", "loss", ...
    name : str
    known : collection of str

    Raises
    ------
    ValueError
        If it means none of them.
    """
    if name in known:
        return name
    plain = _plain(name)
    same = _SAME.get(kind, {}).get(plain)
    if same is None:
        same = next((k for k in known if plain and _plain(k) == plain), None)
    if same is None or same not in known:
        raise unknown(kind, name, known)
    return same


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """ValueError for an unknown name, with what it means here, or else the closest match."""
    import difflib

    known = list(known)
    near = _NEAR.get(what, {}).get(_plain(name))
    if near is not None:
        hint = f": it {near}."
    else:
        lower = str(name).lower()
        matches = [k for k in known if lower and k.lower().startswith(lower)]
        matches = matches or difflib.get_close_matches(lower, known, n=1, cutoff=0.5)
        hint = f"; did you mean {matches[0]!r}?" if matches else "."
    return ValueError(f"unknown {what} {name!r}{hint} Known: {', '.join(map(repr, known))}")


def _plain(name: str) -> str:
    """A name without what spellings differ in."""
    return str(name).lower().translate(_NO_SIGNS)


#: What arguments of `fit` are called elsewhere, and what to write here; `{}` is the value.
_ARGUMENTS = {
    "epochs": ("nepochs", "numepochs", "nbepoch", "maxiter", "maxepochs", "niter", "iterations"),
    "batch_size": ("batch", "minibatchsize", "nbatch", "batchsize"),
    "steps": ("maxsteps", "nsteps", "stepsperepoch"),
    "seconds": ("timeout", "maxtime", "timelimit", "maxseconds"),
    "loss": ("criterion", "lossfn", "lossfunction", "objective", "error"),
    "optimizer": ("opt", "optimiser", "solver", "algorithm"),
    "sample_weight": ("sampleweights", "weights", "weight"),
    "class_weight": ("classweights", "posweight"),
    "validation_data": ("evalset", "val", "valdata", "validation", "validset", "testdata"),
    "validation_split": ("validationfraction", "valsplit", "validationsize", "testsize"),
    "early_stopping": ("earlystop", "niternochange", "earlystoppingrounds"),
    "callbacks": ("callback",),
    "metrics": ("metric", "scoring"),
    "schedule": ("scheduler", "lrscheduler", "learningrateschedule", "lrschedule"),
    "accumulate": ("gradientaccumulationsteps", "accumulation", "accumulationsteps"),
    "freeze": ("frozen",),
    "X": ("x", "data", "inputs", "xtrain", "features", "trainx"),
    "y": ("targets", "target", "labels", "ytrain", "trainy"),
}  # fmt: skip
_OPTIMIZER = "it belongs to the optimizer: write optimizer=Adam(lr=0.001), with the one you use"
_RULE = "it belongs to the optimizer: write optimizer={}"
_INSTEAD = {
    "lr": _OPTIMIZER, "learningrate": _OPTIMIZER, "learningrateinit": _OPTIMIZER, "eta": _OPTIMIZER,
    "eta0": _OPTIMIZER, "alpha": "write Sequential(layers, l2=...) for a penalty of the weights",
    "momentum": _RULE.format("SGD(0.01, momentum=0.9)"),
    "nesterov": _RULE.format("SGD(0.01, momentum=0.9, nesterov=True)"),
    "weightdecay": _RULE.format("AdamW(weight_decay=0.01)"),
    "clipnorm": _RULE.format("Adam(clip_norm=1.0)"),
    "gradientclip": _RULE.format("Adam(clip_norm=1.0)"),
    "l1": "write Sequential(layers, l1=...)", "l2": "write Sequential(layers, l2=...)",
    "dropout": "it is a layer: write Dropout(rate) after Dense(units)",
    **dict.fromkeys(("seed", "randomstate"), "write Sequential(layers, seed=...)"),
    "dtype": "write Sequential(layers, dtype=...)",
    "nthreads": "write fastnn.set_num_threads(n)", "njobs": "write fastnn.set_num_threads(n)",
    "workers": "write fastnn.set_num_threads(n)",
    "engine": "write fastnn.engines.set_engine(name)",
    "device": "fastnn trains on the CPU: leave it out",
    "warmstart": "a second fit goes on by itself: leave it out",
    **dict.fromkeys(
        ("verbose", "verbosity", "progressbar", "showprogress", "silent", "quiet", "disp"),
        "write progress=True or progress=False; logging.getLogger('fastnn') has a line per epoch",
    ),
    "patience": "write early_stopping=EarlyStopping(patience=10), or the number alone",
    "tol": "write early_stopping=EarlyStopping(patience=10, min_delta=tol)",
}  # fmt: skip


def check_arguments(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse arguments that a function has not, and say what to write instead.

    Raises
    ------
    TypeError
    """
    for name in given:
        if name in known:
            continue
        plain = _plain(name)
        hint = _INSTEAD.get(plain)
        if hint is None:
            same = [here for here, others in _ARGUMENTS.items() if here in known]
            same = [here for here in same if plain in _ARGUMENTS[here] or plain == _plain(here)]
            same = same or _closest(name, known)
            hint = f"write {same[0]}=..." if same else f"it takes {', '.join(known)}"
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}: {hint}")


def hinted(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a method so that an unknown argument is an error that says what to write instead."""
    name, code = method.__name__, method.__code__  # type: ignore[attr-defined]
    known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

    @functools.wraps(method)
    def checked(*arguments: _P.args, **options: _P.kwargs) -> _R:
        check_arguments(name, options, known)
        return method(*arguments, **options)

    return checked


def _closest(name: str, known: Collection[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)


_NO_SIGNS = str.maketrans("", "", "_- .")
