"""The weights of rows that a fit takes from the weights of its classes."""

from __future__ import annotations

import numpy as np

from .checks import real_number
from .engines.workspace import Data
from .plan import Plan
from .targets import Target, check_sum, check_weights

#: A weight that may make the gradient of a sum too large for the learning rate.
_LARGE = 1e3


def weights_of_rows(sample_weight, class_weight, data: Data, target: Target) -> np.ndarray | None:
    """The weight of each training row: its sample weight times the weight of its class.

    Parameters
    ----------
    sample_weight : array_like, shape (m,), or None
    class_weight : None, "balanced" or dict
        See :meth:`fastnn.Sequential.fit`.
    data : Data
        The training rows with their targets.
    target : Target
        The form of the targets.

    Returns
    -------
    ndarray of float64, shape (m,), or None
        None if both are.

    Raises
    ------
    ShapeError, ValueError, TypeError
        If an argument is invalid, or the rows do not belong to one class each.
    """
    weights = check_weights(sample_weight, len(data.X))
    if class_weight is None:
        return weights
    return with_class_weights(weights, class_weight, *classes_of_rows(data, target))


def with_class_weights(
    weights: np.ndarray | None, class_weight, classes: list, positions: np.ndarray,
    some: bool = False,
) -> np.ndarray:  # fmt: skip
    """Weights of rows, or 1, times the weights of their classes.

    Parameters
    ----------
    weights : ndarray of float, shape (m,), or None
    class_weight : "balanced" or dict
    classes : list
        All classes, sorted, as plain values.
    positions : ndarray of int, shape (m,)
        The class of each row.
    some : bool, default False
        Whether a dict may lack classes, which have the weight 1, and rows may lack classes that
        "balanced" makes count alike, as in scikit-learn.

    Returns
    -------
    ndarray of float64, shape (m,)

    Raises
    ------
    ValueError, TypeError
        If `class_weight` has no weights of these classes, or no row has a weight above 0.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        of_class = _balanced(classes, positions, weights, some)
    else:
        of_class = weights_of_classes(class_weight, classes, some)
    found = of_class[positions] if weights is None else weights * of_class[positions]
    if not found.max() > 0 or not np.isfinite(found).all():
        raise ValueError(
            "class_weight and sample_weight must give every row a finite weight, and some row one "
            "above 0: the largest of their products is "
            f"{found.max():g}"
        )
    check_sum(found, "class_weight" if weights is None else "class_weight times sample_weight")
    return found


def mean_of_batches(losses: np.ndarray, data: Data, constants: np.ndarray | None = None) -> float:
    """The mean of the batches' weighted means, in which each counts with its rows.

    scikit-learn's MLP reports it of an epoch with weights.

    Parameters
    ----------
    losses : ndarray of shape (n_batches,)
        The weighted sum of the losses of each batch's rows.
    data : Data
        The rows in the order of the epoch, with weights.
    constants : ndarray of shape (m,), optional
        What to add to the loss of each row.
    """
    assert data.weights is not None
    rows, starts = data.order, np.arange(0, data.n_rows, data.batch_size)
    weights = data.weights if rows is None else data.weights[rows]
    if constants is not None:
        of_rows = constants if rows is None else constants[rows]
        losses = losses + np.add.reduceat(weights * of_rows, starts)
    sums = np.add.reduceat(weights, starts)
    counts = np.minimum(data.batch_size, data.n_rows - starts)
    means = np.divide(losses, sums, out=np.zeros(len(sums)), where=sums > 0)
    return float(counts @ means) / data.n_rows


def classes_of_rows(data: Data, target: Target) -> tuple[list, np.ndarray]:
    """The classes as plain values, and each row's position among them."""
    if target.kind == "labels":
        assert target.classes is not None
        assert data.labels is not None
        return target.classes.tolist(), data.labels
    if target.kind != "one_hot":
        what = "numbers" if target.kind == "values" else "independent 0/1 columns or probabilities"
        raise ValueError(
            f"class_weight needs classes, but with this loss the targets are {what}: use "
            "sample_weight"
        )
    assert data.Y is not None
    positions = data.Y.argmax(axis=1)
    soft = (data.Y.max(axis=1) != 1) | (np.count_nonzero(data.Y, axis=1) != 1)
    if soft.any():
        raise ValueError(
            f"class_weight needs one class for each row, but row {int(soft.argmax())} of y holds "
            "probabilities: use sample_weight"
        )
    return list(range(data.Y.shape[1])), positions


def _balanced(
    classes: list, positions: np.ndarray, weights: np.ndarray | None, some: bool
) -> np.ndarray:
    """Weights that make all classes count alike, as scikit-learn's compute_class_weight.

    They are n_rows / (n_classes * rows of the class), where a row with a sample weight counts as
    so many rows.
    """
    counts = np.bincount(positions, weights, len(classes)).astype(np.float64)
    if some:
        present = counts > 0
        each = np.zeros(len(counts))
        each[present] = counts.sum() / (np.count_nonzero(present) * counts[present])
        return each
    if not counts.all():
        missing = classes[int((counts == 0).argmax())]
        raise ValueError(
            f"class_weight='balanced' needs rows of every class, but the class {missing!r} has "
            "none" + ("" if weights is None else " with a weight above 0") + ": give a dict instead"
        )
    return counts.sum() / (len(classes) * counts)


def weights_of_classes(class_weight, classes: list, some: bool = False) -> np.ndarray:
    """The weights of a dict, in the order of the classes.

    If the dict may have `some` of them, the others have 1, and labels that are no classes are
    passed over where all classes have a weight: they may be those of other rows.

    Raises
    ------
    ValueError, TypeError
        If it is no dict, or has not one weight for each class.
    """
    if not isinstance(class_weight, dict):
        raise (ValueError if isinstance(class_weight, str) else TypeError)(
            "class_weight must be None, 'balanced' or a dict with a weight for each class, not "
            f"{class_weight!r}"
        )
    given = {
        key.item() if isinstance(key, np.generic) else key: weight
        for key, weight in class_weight.items()
    }
    known = set(classes)
    passes_over = some and all(label in given for label in classes)
    for label in given:
        if label not in known and not passes_over:
            raise ValueError(
                f"class_weight has a weight for {label!r}, which is none of the classes "
                f"{_some(classes)}"
            )
    for label in classes:
        if label not in given and not some:
            raise ValueError(
                f"class_weight has no weight for the class {label!r}: give one for each of "
                f"{_some(classes)}"
            )
    found = []
    for label in classes:
        name = f"the weight of the class {label!r} in class_weight"
        found.append(real_number(given.get(label, 1.0), name, least=0))
    if not any(found):
        raise ValueError("class_weight must be above 0 for some class")
    return np.array(found)


def _some(classes: list, most: int = 4) -> str:
    """The first classes, for a message."""
    return ", ".join(map(repr, classes[:most])) + (", ..." if len(classes) > most else "")


def suspects(plan: Plan, weights: np.ndarray | None) -> str:
    """What may have made a fit diverge besides the learning rate, for the end of a sentence."""
    found = ""
    if plan.user_loss is not None:
        found = f", or the loss function {plan.user_loss.name} gave it"
    if weights is not None and not plan.mean and weights.max() > _LARGE:
        found += f", or the loss is a sum of rows with weights up to {weights.max():g}"
    return found
