"""The options of commands that take in texts instead of pictures, read into one value.

Knows the options. Does not know how texts are read.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def with_texts(command: F) -> F:
    """Add `--texts --text-column --key-column`; `command` gets `texts`, the columns, or None for pictures."""

    @wraps(command)
    def reading(texts: bool, text_column: str | None, key_column: str | None, **options: Any) -> object:  # noqa: ANN401
        from tuwen.prepare.captions import Columns

        if not texts and (text_column or key_column):
            raise click.UsageError("columns are of files of texts: add --texts")
        return command(texts=Columns(text_column, key_column) if texts else None, **options)

    for option in reversed(_TEXTS):
        reading = option(reading)
    return reading  # type: ignore[return-value]


def check_files(paths: Sequence[Path]) -> None:
    """See that all are files.

    Raises:
        click.UsageError: one is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise click.UsageError(f"{path} is a folder: with --texts, name files of texts")


def check_folder(path: Path) -> None:
    """See that it is a folder.

    Raises:
        click.UsageError: it is a file.
    """
    if not path.is_dir():
        raise click.UsageError(
            f"{path} is a file: build takes a folder of pictures, or a file of texts with --texts; "
            "tuwen index add takes single pictures"
        )


_TEXTS = (
    click.option("--texts", is_flag=True, help="Take in texts: one a line, or one a record of CSV, TSV or JSONL."),
    click.option("--text-column", metavar="NAME", help="The column of the texts; else text or caption."),
    click.option("--key-column", metavar="NAME", help="The column that names them; else id or key, else the line."),
)
