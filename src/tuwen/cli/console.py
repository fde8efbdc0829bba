"""What commands print: a JSON document, or tables and lines for people."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import TYPE_CHECKING

import click

from tuwen.cli.command import say
from tuwen.types import Rejected

if TYPE_CHECKING:
    pass


def emit(document: object) -> None:
    """Print one JSON document, for `--json`; non-ASCII characters are kept if the stream's encoding has them."""
    plain = "utf" not in (sys.stdout.encoding or "").lower()
    click.echo(json.dumps(document, ensure_ascii=plain, indent=2))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()) -> None:
    """Print rows in columns, at most as wide as the terminal (80 characters in a pipe).

    Columns are moved closer together if that avoids wrapping; cells that are still too long are wrapped.

    Args:
        head: the names of the columns.
        rows: the cells.
        numbers: the columns that are aligned to the right.
    """
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    cells = [[printable(str(cell)) for cell in row] for row in (head, *rows)]
    lines = _fitting(cells, width, numbers)
    click.echo("".join(f"{line.rstrip()}\n" for line in lines or _wrapped(cells, width, numbers)), nl=False)


def _fitting(cells: Sequence[Sequence[str]], width: int, numbers: Sequence[int]) -> list[str]:
    """The lines of a table of ASCII that fits; otherwise none. Most do, and rich takes a tenth of a search's time."""
    if not all(cell.isascii() for row in cells for cell in row):
        return []
    widest = [max(map(len, column)) for column in zip(*cells, strict=True)]
    between, spare = len(widest) - 1, width - sum(widest)
    if spare < between:
        return []
    gap = " " * _gap(between, spare)
    return [
        gap.join(
            cell.rjust(size) if place in numbers else cell.ljust(size)
            for place, (cell, size) in enumerate(zip(row, widest, strict=True))
        )
        for row in cells
    ]


def _wrapped(texts: Sequence[Sequence[str]], width: int, numbers: Sequence[int]) -> list[str]:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    text = StringIO()
    cells = [[Text(cell) for cell in row] for row in texts]
    widest = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    gap = _gap(len(widest) - 1, width - sum(widest))
    drawn = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="", show_edge=False)
    for place, name in enumerate(cells[0]):
        drawn.add_column(name, justify="right" if place in numbers else "left", overflow="fold")
    for row in cells[1:]:
        drawn.add_row(*row)
    Console(file=text, width=width, color_system=None, legacy_windows=False).print(drawn)
    return text.getvalue().splitlines()


def _gap(between: int, spare: int) -> int:
    """Spaces between columns: one if only that avoids wrapping, else two."""
    return 1 if between <= spare < 2 * between else 2


def printable(text: str) -> str:
    """The text with control characters escaped: the name of a file must not control the terminal."""
    return "".join(c if c.isprintable() or c == " " else ascii(c)[1:-1] for c in text)


def shortened(text: str, length: int) -> str:
    """The text on one line, truncated to so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def list_rejected(rejected: Iterable[Rejected]) -> None:
    """Print one line to standard error for each rejected input."""
    for item in rejected:
        say(f"rejected: {printable(item.path)}: {printable(item.reason)}")


def count(number: int, noun: str) -> str:
    """`1 row`, `2 rows`, `20,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
