"""Networks, plans and histories as small HTML tables, which notebooks show in place of the repr."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from .errors import NotFittedError

#: Epochs of a history that are shown: all if they are few, otherwise the first and the last ones.
_FIRST, _LAST = 3, 7


def network(net) -> str:
    """The layers of a network with their numbers of parameters, if these are known."""
    try:
        plan = net.plan
    except NotFittedError:
        rows = [(str(index), repr(layer), "") for index, layer in enumerate(net.layers)]
        return _table("Sequential", ("", "layer", ""), rows)
    sizes = [0] * len(net.layers)
    for parameter in plan.parameters:
        sizes[int(parameter.name.split(".")[0])] += parameter.size
    rows = [
        (str(index), repr(layer), f"{size:,}")
        for index, (layer, size) in enumerate(zip(net.layers, sizes, strict=True))
    ]
    caption = (
        f"Sequential: {plan.n_inputs} inputs, {plan.n_outputs} outputs, {plan.n_params:,} "
        f"parameters, {net.dtype.name}"
    )
    return _table(caption, ("", "layer", "parameters"), rows)


def plan(plan) -> str:
    """The operations of a plan, as ``print(plan)`` shows them."""
    from .printing import plan_lines

    caption, head, *lines = plan_lines(plan)
    return _table(caption[0], head, lines)


def history(history) -> str:
    """The values of the epochs."""
    n_epochs = history.n_epochs
    epochs: list[int] = list(range(n_epochs))
    if n_epochs > _FIRST + _LAST + 1:
        epochs = [*epochs[:_FIRST], -1, *epochs[-_LAST:]]
    names = [name for name, values in history.items() if len(values) == n_epochs]
    rows = [
        ("...", *("" for _ in names))
        if epoch < 0
        else (str(epoch + 1), *(f"{history[name][epoch]:.4g}" for name in names))
        for epoch in epochs
    ]
    caption = f"{n_epochs} epoch{'s' * (n_epochs != 1)}, loss {history.loss_name}"
    if history.stopped is not None:
        caption += f", {history.stopped}"
    return _table(caption, ("epoch", *names), rows)


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"<table><caption>{escape(caption, quote=False)}</caption>", _row("th", head)]
    return "\n".join([*lines, *(_row("td", row) for row in rows), "</table>"])


def _row(tag: str, cells: Sequence[str]) -> str:
    return (
        "<tr>" + "".join(f"<{tag}>{escape(cell, quote=False)}</{tag}>" for cell in cells) + "</tr>"
    )
