"""What a command prints on standard output: a JSON document, or a table and lines for people.

Knows widths and encodings. Does not know what it prints.
"""

import json
import shutil
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import timedelta
from io import StringIO
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from tuwen.cli.command import say
from tuwen.types import Rejected

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


def emit(document: object) -> None:
    """One JSON document, for `--json`. Letters beyond ASCII stay as they are where the stream can take them."""
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    click.echo(json.dumps(document, ensure_ascii=plain, indent=2))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()) -> None:
    """Rows in columns, as wide as the terminal (80 in a pipe).

    Columns stand closer where that spares a line; what is too long even so goes on in the next one.

    Args:
        head: the columns' names.
        rows: the cells.
        numbers: which columns are set to the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    text = StringIO()
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    cells = [[Text(printable(str(cell))) for cell in row] for row in (head, *rows)]
    widest = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    between, spare = len(widest) - 1, width - sum(widest)
    gap = 1 if between <= spare < 2 * between else 2
    drawn = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="", show_edge=False)
    for place, name in enumerate(cells[0]):
        drawn.add_column(name, justify="right" if place in numbers else "left", overflow="fold")
    for row in cells[1:]:
        drawn.add_row(*row)
    Console(file=text, width=width, color_system=None, legacy_windows=False).print(drawn)
    click.echo("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()), nl=False)


def printable(text: str) -> str:
    """The text with control characters as escapes: a file's name must not steer the terminal."""
    return "".join(c if c.isprintable() or c == " " else ascii(c)[1:-1] for c in text)


def shortened(text: str, length: int) -> str:
    """The text in one line, cut to so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def list_rejected(rejected: Iterable[Rejected]) -> None:
    """One line of standard error for each input that was rejected."""
    for item in rejected:
        say(f"rejected: {printable(item.path)}: {printable(item.reason)}")


def count(number: int, noun: str) -> str:
    """`1 row`, `2 rows`, `20,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ---- How far a long command is, on standard error.

KINDS = ("auto", "json", "none")


class Progress:
    """A context: `begin` with what there is to do, then `show` after each batch."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._bar: Bar | None = None
        self._pace = Pace()
        self._committed = -1

    @property
    def draws(self) -> bool:
        """Whether there is a bar, so that it is worth counting what there is to do."""
        return self._kind == "auto" and sys.stderr.isatty()

    def begin(self, total: int | None) -> None:
        """Draw a bar, if there is to be one."""
        if self.draws:
            self._pace.note(0, monotonic())
            self._bar = _bar()
            self._bar.add_task("", total=total, pace="")
            self._bar.start()

    def show(self, done: int, committed: int | None = None) -> None:
        """After a batch: `done` of the total; `committed` rows in the index, where there is one."""
        if self._bar is not None:
            self._pace.note(done, monotonic())
            task = self._bar.tasks[0]
            self._bar.update(task.id, completed=done, pace=self._pace.words(task.total))
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


class Pace:
    """How fast it goes, over the last batches: those before may have been files that had nothing new."""

    def __init__(self) -> None:
        self._notes: deque[tuple[int, float]] = deque(maxlen=16)

    def note(self, done: int, now: float) -> None:
        """So many were done at that second."""
        self._notes.append((done, now))

    def words(self, total: float | None) -> str:
        """Rate and time left: `41.0/s 0:02:10`."""
        (first, since), (last, now) = self._notes[0], self._notes[-1]
        if last <= first or now <= since:
            return ""
        rate = (last - first) / (now - since)
        left = "" if total is None else f" {timedelta(seconds=round(max(0, total - last) / rate))}"
        return f"{rate:.1f}/s{left}"


def _bar() -> "Bar":
    """A bar that goes away when it is done: the summary says the rest."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[pace]}"),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    )
