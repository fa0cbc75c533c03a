"""The progress bar of a fit."""

from __future__ import annotations

import sys
from typing import Any


class ProgressBar:
    """A progress bar over the rows of all epochs, or nothing.

    Parameters
    ----------
    show : bool or "auto"
        "auto" shows it on a terminal if tqdm is installed.
    total : int
        Rows of all epochs together.

    Raises
    ------
    ImportError
        If `show` is True and tqdm is not installed.
    """

    def __init__(
        self, show, *, total: int | None, n_epochs: int | None, seconds: float | None = None,
        label: str = "",
    ):  # fmt: skip
        self._n_epochs = n_epochs
        self._bar: Any = None
        if show is False or (show == "auto" and not _on_terminal()):
            return
        try:
            from tqdm import tqdm
        except ImportError:
            if show == "auto":
                return
            raise ImportError("a progress bar needs tqdm: pip install 'fastnn[cli]'") from None
        if sys.stderr is None:
            raise ValueError("a progress bar needs stderr, which this process does not have")
        self._bar = tqdm(total=total, unit="row", unit_scale=True, dynamic_ncols=True)

    def advance(self, rows: int) -> None:
        """Advance the bar by a number of rows."""
        if self._bar is not None:
            self._bar.update(rows)

    def begin(self, done_rows: int = 0, epoch: int = 0) -> None:
        """Start the clock: the first step follows."""

    def finish_epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Show the values of the epoch."""
        if self._bar is not None:
            epochs = self._n_epochs
            self._bar.set_description(f"epoch {epoch}/{epochs}", refresh=False)
            shown = {name: f"{value:.4f}" for name, value in values.items()}
            self._bar.set_postfix(shown, refresh=epoch == epochs)

    def close(self) -> None:
        """Leave the last line."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _on_terminal() -> bool:
    """Whether stderr is a terminal; it is None in a process without a console."""
    return sys.stderr is not None and sys.stderr.isatty()
