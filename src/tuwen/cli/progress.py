"""How far a long command is, on standard error.

    auto    a bar with rate and time left, on a terminal; nothing elsewhere
    json    `{"committed": n}`, one line a batch: n rows are in the index and flushed
    none    nothing

Knows counts. Does not know what is counted.
"""

import json
import sys
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

KINDS = ("auto", "json", "none")


class Progress:
    """A context: `begin` with what there is to do, then `show` after each batch."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._bar: Bar | None = None
        self._start = 0.0
        self._committed = -1

    @property
    def draws(self) -> bool:
        """Whether there is a bar, so that it is worth counting what there is to do."""
        return self._kind == "auto" and sys.stderr.isatty()

    def begin(self, total: int | None) -> None:
        """Draw a bar, if there is to be one."""
        self._start = monotonic()
        if self.draws:
            self._bar = _bar()
            self._bar.add_task("", total=total, rate="")
            self._bar.start()

    def show(self, done: int, committed: int | None = None) -> None:
        """After a batch: `done` of the total; `committed` rows in the index, where there is one."""
        if self._bar is not None:
            rate = f"{done / (monotonic() - self._start):.1f}/s"
            self._bar.update(self._bar.task_ids[0], completed=done, rate=rate)
        if self._kind == "json" and committed is not None and committed != self._committed:
            self._committed = committed
            click.echo(json.dumps({"committed": committed}), err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> "Bar":
    """A bar that goes away when it is done: the summary says the rest."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    )
