"""The preparation of a fit: everything that can be wrong is found before the first step."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import advice, checkpoints, engines, full_batch, metrics, run
from .augmented import AugmentedTraining, Augmenter
from .averages import Averaging
from .checkpoint_files import Expected
from .checkpoints import Keeper
from .early_stopping import Watch
from .engines.csr import CSR
from .engines.workspace import Data, aligned_zeros
from .errors import ShapeError
from .features import check_names, names_of
from .fit_descriptions import describe
from .history import History
from .losses import LossFunction
from .network import write_learned
from .plan import Plan
from .progress import ProgressBar
from .run import Fit
from .scheduling import Progress
from .settings import Settings
from .streams import Converter, Source, StreamTraining
from .targets import Target, make_data
from .training import Training
from .update import Update
from .validation import Validation, split
from .weights import weights_of_rows

if TYPE_CHECKING:
    from .model import Sequential


class Targets(NamedTuple):
    """What the targets of the training rows say."""

    loss: LossFunction
    target: Target
    data: Data
    valid: Data | None
    valid_y: Any


class Checked(NamedTuple):
    """A fit for which nothing has been allocated yet.

    `n_inputs` are the columns of X as given, `names` theirs if it is a data frame; `directions` are
    the names of the values of an epoch and whether "min" or "max" is better; `converter` is that of
    a fit on batches, `learned` what preprocessing layers have learned from these rows.
    """

    net: Sequential
    settings: Settings
    n_inputs: int
    targets: Targets
    plan: Plan
    update: Update
    validation: Validation | None
    directions: dict[str, str]
    watch: Watch | None
    converter: Converter | None
    learned: dict[str, np.ndarray] | None
    augmenter: Augmenter | None
    names: list[str] | None = None


def prepare(net: Sequential, X, y, settings: Settings, source: Source | None = None) -> Training:
    """A fit that is ready to begin; the network is unchanged until it does.

    With a `source`, X and y are not read, and every item of it is a batch.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If an argument is invalid.
    """
    if source is not None:
        names = names_of(source.first[0])
        converter = Converter(net, source, settings)
        targets = _of_batches(net, converter, settings)
        checked = check(net, converter.n_inputs, targets, settings, converter)
    else:
        names = names_of(X)
        X = net._read(X, net.n_inputs)
        checked = check(net, X.shape[1], targets_of(net, X, y, settings), settings)
    return ready(with_names(checked, names))


def with_names(checked: Checked, names: list[str] | None) -> Checked:
    """The fit on a data frame with columns of these names, which those of validation must be, too.

    Raises
    ------
    ShapeError, ValueError
    """
    if checked.settings.validation_data is not None:
        check_names(checked.settings.validation_data[0], names, "validation X")
    return checked._replace(names=names)


def check(
    net: Sequential, n_inputs: int, targets: Targets, settings: Settings,
    converter: Converter | None = None,
) -> Checked:  # fmt: skip
    """What can be checked of a fit without arrays; X and the targets have been checked.

    X, of which `n_inputs` are the columns, is prepared here if the network has layers for that.
    """
    learned = None
    if net._chain and converter is None:
        targets, learned = _preprocessed(net, n_inputs, targets)
    loss, target, data, valid, valid_y = targets
    if converter is None:
        batch_size = settings.rows_of_batch(data.n_rows)
        data.batch_size = min(batch_size * settings.accumulate, data.n_rows)
    plan = net.lower(loss, n_inputs)
    if settings.optimizer.full_batch:
        full_batch.check(plan, settings)
    measures = metrics.get(settings.metrics, target, loss, net.n_outputs)
    if measures and valid is None:
        raise ValueError(
            "metrics are those of validation rows: give validation_data or validation_split, or "
            "call evaluate(X, y, metrics=...) after the fit"
        )
    validation, averages = None, settings.average is not None
    if valid is not None:
        engine = engines.current()
        validation = Validation(engine, plan, valid, valid_y, target, loss, measures)
    names = _value_names(data, validation, averages)
    update = Update.of(plan, settings.optimizer, settings.freeze, averages)
    directions = {name: metrics.direction(name, measures) for name in names}
    rule = settings.early_stopping
    watch = None if rule is None else Watch.of(rule, directions, "early stopping")
    augmenter = None
    if settings.augment:
        augmenter = Augmenter(net, settings.augment, loss, plan.n_inputs)
    return Checked(
        net, settings, n_inputs, targets, plan, update, validation, directions, watch, converter,
        learned, augmenter,
    )  # fmt: skip


def _preprocessed(
    net: Sequential, n_inputs: int, targets: Targets
) -> tuple[Targets, dict[str, np.ndarray] | None]:
    """The rows prepared by the network's layers, and what these learn if they have not before."""
    net.lower(targets.loss, n_inputs)  # refuses columns that a layer cannot take
    data, valid, chain = targets.data, targets.valid, net._chain
    known = {} if net._params is None else net._named_statistics()
    given, learned = data.X, None
    assert isinstance(given, np.ndarray)  # no sparse matrix is read
    if chain.is_learned(known):
        X = chain.transform(given, known)
    else:
        learned, X = chain.learn(given, data.order if data.some_rows else None)
        known = learned
    if valid is not None:
        other = valid.X
        assert isinstance(other, np.ndarray)
        other = X if other is given else chain.transform(other, known, "validation X")
        valid = replace(valid, X=other)
    return targets._replace(data=replace(data, X=X), valid=valid), learned


def ready(checked: Checked) -> Training:
    """The fit with its arrays, its kernels compiled and bound."""
    (
        net, settings, n_inputs, targets, plan, update, validation, directions, watch, converter,
        learned, augmenter, columns,
    ) = checked  # fmt: skip
    loss, target, data, valid, _ = targets
    source = None if converter is None else converter.source
    optimizer, engine = settings.optimizer, engines.current()
    batch_size = settings.rows_of_batch(data.n_rows) if source is None else data.n_rows
    params, statistics = net._params, net._statistics
    if params is None:
        params, statistics = net._initial(plan)
    if learned is not None:
        given, statistics = statistics, aligned_zeros(plan.n_state, statistics.dtype)
        statistics[:] = given
        write_learned(plan, statistics, learned)
    small = run.small_batches(plan, batch_size, settings.accumulate)
    data.separate = small is not None
    resumes = checkpoints.resumes(settings)
    last, state = (None, None) if resumes else (net._prepared, net._state)
    fit = run.prepare(
        last, state, engine, plan, params, statistics, optimizer, update,
        data.batch_size if source is None else source.most_rows, small,
    )  # fmt: skip
    n_batches, n_rows = data.n_batches, data.n_rows
    if source is not None and converter is not None:
        n_batches, n_rows = source.n_batches or 0, source.rows_of_epoch
        converter.divide_penalties(plan)
    length = settings.length(n_batches or None)
    n_epochs, n_steps = length
    total = None
    if n_steps is not None and n_epochs is not None and n_rows:
        total = n_epochs * n_rows
        if settings.steps is not None:
            total = min(n_steps * data.batch_size, total)
    n_epochs = None if n_epochs is None else n_epochs + settings.initial_epoch
    _start_with_epoch(settings, fit, n_batches)
    keeper = None
    if settings.checkpoint is not None:
        names = list(directions)
        about = describe(net, settings, fit, data, names, target, loss, valid)
        keeper = Keeper(Expected(about, settings, fit, data, n_steps, names, n_batches))
    bar = ProgressBar(settings.progress, total=total, n_epochs=n_epochs, seconds=settings.seconds)
    with bar.preparing():
        shuffles = settings.shuffle is not False and not optimizer.full_batch
        fit.begin(data, shuffles, net.seed, n_steps, settings.schedule, directions, n_batches)
        if augmenter is not None and source is None:
            fit.bind(augmenter.stand_in(data), False)
        average, validation_ws = None, None
        if validation is not None:
            validation_ws = net._idle.take(plan, params, statistics, validation.batch_size)
            validation.bind(validation_ws)
        if settings.average is not None:
            average = Averaging(settings.average, fit, length, validation, resumes)
    history = History(loss.name, engine.name, engines.get_num_threads(), data.n_rows)
    tells_loss = settings.loss == "auto" and settings.progress is not False and net._loss is None

    def adopt(training: Training) -> None:
        advice.look(checked)
        if tells_loss:
            tell(f"fastnn: loss='auto' is {loss.name} for these targets")
        if net.history is not None and not resumes:
            net._past = (net._past or net.history.copy()).join(net.history)
        net.n_inputs, net._state, net._prepared = n_inputs, fit.state, fit
        net._params, net._statistics, net.history = params, statistics, history
        net.feature_names_in_ = columns or net.feature_names_in_
        net.set_fitted(loss, target)

    parts = (
        net, settings, fit, history, validation, validation_ws, average, watch, bar, adopt, keeper
    )  # fmt: skip
    if source is None or converter is None:
        if augmenter is not None:
            return AugmentedTraining(*parts, augmenter=augmenter)
        return Training(*parts)
    history.n_rows = source.n_rows or 0
    return StreamTraining(*parts, source=source, converter=converter, augmenter=augmenter)


def _start_with_epoch(settings: Settings, fit: Fit, n_batches: int) -> None:
    """Take the orders, masks and noise of an epoch and of those after it, if it is to come.

    So do a schedule of the fit that is counted on from fit to fit, and an optimizer without a state
    of its own.
    """
    epoch, state, schedule = settings.initial_epoch, fit.state, settings.schedule
    if epoch <= state.epoch:
        return
    if not n_batches:
        raise ValueError(
            "initial_epoch counts steps by the batches of an epoch, but how many it has is not "
            "known: give batches with a length, such as a list, or leave initial_epoch out"
        )
    total = epoch * n_batches
    # The old state stays as it is until the fit begins.
    fit.state = replace(state, epoch=epoch, total_steps=total)
    if not fit.ws.slots.size:
        fit.state.step = total
    elif not state.step:
        fit.state.optimizer_epoch = epoch
    if schedule is not None and not schedule.lasts_a_fit and not state.total_steps:
        fit.state.progress = Progress(schedule, 0, 0)


def targets_of(net: Sequential, X: np.ndarray | CSR, y, settings: Settings) -> Targets:
    """The loss, the form of the targets, and the data of training and validation."""
    weight, rows = settings.sample_weight, _rows(settings.rows, len(X))
    if rows is not None:
        y = _some_of(y, rows, len(X), "y")
        weight = None if weight is None else _some_of(weight, rows, len(X), "sample_weight")
    n_rows = len(X) if rows is None else len(rows)
    loss, target = net._describe(y, n_rows, settings.loss, settings.classes)
    stand_in = X if rows is None else np.empty((n_rows, 0), net.dtype)
    data = make_data(stand_in, y, net.n_outputs, target, loss, net.dtype, net.input_scale)
    valid, valid_y = None, None
    if settings.validation_split:
        train_rows, valid_rows = split(data, target, settings.validation_split, net.seed)
        valid_y = np.asarray(y)[valid_rows]
    if settings.class_weight is not None or weight is not None:
        data.weights = weights_of_rows(weight, settings.class_weight, data, target)
    if rows is not None:
        data = data.among(X, rows)
    if settings.validation_split:
        if rows is not None:
            train_rows, valid_rows = rows[train_rows], rows[valid_rows]
        valid = replace(data, order=valid_rows, weights=None)
        data = replace(data, order=train_rows, some_rows=True)
    # The sum is that of the rows in their first order, whatever the epoch.
    if data.weights is not None and not data.weight_sum > 0:
        raise ValueError(
            "the weights of all training rows are 0: validation_split has taken the others, so "
            "give weights to more rows, or validation_data"
        )
    if settings.validation_data is not None:
        valid, valid_y = _validation_data(
            net, net._read, settings.validation_data, X.shape[1], target, loss
        )
    return Targets(loss, target, data, valid, valid_y)


def _of_batches(net: Sequential, converter: Converter, settings: Settings) -> Targets:
    """What the first batch says, and the data of validation."""
    if settings.optimizer.full_batch:
        raise ValueError(
            f"{type(settings.optimizer).__name__} takes all rows at once, not batches: give "
            "arrays, or use another optimizer such as 'adam'"
        )
    loss, target, data = converter.loss, converter.target, converter.first
    valid, valid_y = None, None
    if settings.validation_data is not None:
        valid, valid_y = _validation_data(
            net, net._features, settings.validation_data, converter.n_inputs, target, loss
        )
    return Targets(loss, target, data, valid, valid_y)


def _rows(rows, n: int) -> np.ndarray | None:
    """The numbers of the rows to train on."""
    if rows is None:
        return None
    found = np.asarray(rows)
    if found.ndim == 1 and found.dtype == bool and len(found) == n:
        found = np.flatnonzero(found)
    if found.ndim == 1 and not len(found):
        raise ValueError("rows is empty: give at least one row to train on")
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(
            f"rows must be the numbers of rows of X, or True and False for each of the {n} rows, "
            f"not {rows!r}"
        )
    found = found.astype(np.int64)
    if found.min() < 0 or found.max() >= n:
        raise ValueError(
            f"rows holds {found.min() if found.min() < 0 else found.max()}, but X has the rows 0 "
            f"to {n - 1}"
        )
    return np.ascontiguousarray(found)


def _some_of(values, rows: np.ndarray, n: int, what: str):
    values = np.asarray(values)
    if values.ndim == 0 or len(values) != n:
        raise ShapeError(f"X has {n} rows, but {what} has the shape {values.shape}")
    return values[rows]


def _validation_data(net, read, given, n_inputs: int, target: Target, loss: LossFunction):
    """The data of validation; `read` is the method of the network that checks X."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError("validation_data must be a pair (X, y)")
    X = read(given[0], n_inputs, "validation X")
    return net._data(X, given[1], target, loss, "validation y"), given[1]


def _value_names(data: Data, validation: Validation | None, averages: bool) -> list[str]:
    """The names of the values of an epoch that a schedule or early stopping can follow."""
    names = ["loss", "accuracy"] if data.metric else ["loss"]
    if validation is not None:
        names += validation.names("val_")
        names += validation.names("average_val_") if averages else []
    return names


def tell(message: str) -> None:
    """Print a message to stderr, unless the process has none."""
    if sys.stderr is not None:
        print(message, file=sys.stderr)
