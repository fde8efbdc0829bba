"""The texts of a file: one a line, or one a record of CSV, TSV or JSON Lines.

    captions.txt            a text is a line, and is named by its number
    captions.csv, .tsv      a text is a field of a record; the first record names the columns
    captions.jsonl          a text is a value of an object, or several are, where the value is a list

Knows files, lines, columns and names. Does not know what becomes of a text.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from tuwen.errors import InvalidInput
from tuwen.prepare.sources import open_file

TEXT_COLUMNS, KEY_COLUMNS = ("text", "caption"), ("id", "key")
"""what columns are called, where nobody says"""
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson")
_WIDE = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold the texts and what names them; None: as they are usually called, see `TEXT_COLUMNS`."""

    text: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Caption:
    """A text, without the space around it; its name within the file; and the line that it ends in."""

    name: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class NoCaption:
    """A record that holds no text. `reason` is empty where it is merely empty."""

    line: int
    reason: str = ""


NOT_UTF8 = "is not UTF-8"
"""the reason of a record whose bytes are no text"""
Read: TypeAlias = Caption | NoCaption
_Field: TypeAlias = tuple[object, object]
"""a record's text, and its key or None"""


def read_captions(path: Path, columns: Columns) -> Iterator[Read]:
    """The texts of a file, in order. Names are unique: a key that comes again is numbered, `dog.jpg/2`.

    Args:
        path: a file in UTF-8; its ending says how it is written.
        columns: of CSV, TSV and JSON Lines.

    Raises:
        InvalidInput: it cannot be opened, is UTF-16, has not the columns, or columns are asked of plain lines.
    """
    kind = path.suffix.lower()
    with _opened(path, newline="" if kind in _SEPARATORS else None) as file:
        if kind in _SEPARATORS:
            yield from _named(_of_table(file, _SEPARATORS[kind], path, columns))
        elif kind in _JSON:
            yield from _named(_of_objects(file, columns))
        elif columns == Columns():
            yield from _of_lines(file)
        else:
            raise InvalidInput(f"{path} has no columns: columns are of files that end in .csv, .tsv or .jsonl")


def read_lines(path: Path) -> Iterator[Read]:
    """The lines of a file, whatever its ending; errors as `read_captions`."""
    with _opened(path, newline=None) as file:
        yield from _of_lines(file)


def _opened(path: Path, newline: str | None) -> io.TextIOWrapper:
    try:
        raw = open_file(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    if raw.read(2) in _WIDE:
        raw.close()
        raise InvalidInput(f"{path} is UTF-16: save it as UTF-8")
    raw.seek(0)
    return io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline=newline)


def _of_lines(file: Iterable[str]) -> Iterator[Read]:
    return (_checked(f"{number}", line, number) for number, line in enumerate(file, start=1))


def _of_table(
    file: Iterable[str], separator: str, path: Path, columns: Columns
) -> Iterator[tuple[int, _Field | str]]:
    table = csv.reader(file, delimiter=separator)
    head = next(table, None)
    if head is None:
        return
    text, key = _column(head, columns.text, TEXT_COLUMNS, path), _column(head, columns.key, KEY_COLUMNS, path)
    if text is None:
        raise InvalidInput(
            f"{path} has the columns {', '.join(head)}: say which holds the texts, --text-column NAME"
        )
    try:
        for record in table:
            if len(record) == len(head):
                fields = dict(zip(head, record, strict=True))
                yield table.line_num, (fields[text], None if key is None else fields[key])
            elif record:
                yield table.line_num, f"has {len(record)} fields, the first line has {len(head)}"
    except csv.Error as error:
        raise InvalidInput(f"{path} cannot be read beyond line {table.line_num}: {error}") from error


def _of_objects(lines: Iterable[str], columns: Columns) -> Iterator[tuple[int, _Field | str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            yield number, ("", None)
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            yield number, NOT_UTF8 if not _is_utf8(line) else "is no JSON object"
            continue
        yield number, _values(fields, columns)


def _values(fields: Mapping[str, object], columns: Columns) -> _Field | str:
    head = list(fields)
    text = columns.text if columns.text in fields else _usual(head, columns.text, TEXT_COLUMNS)
    key = columns.key if columns.key in fields else _usual(head, columns.key, KEY_COLUMNS)
    if text is None:
        wanted = columns.text or " or ".join(TEXT_COLUMNS)
        return f"has no {wanted}; it has {', '.join(head) or 'nothing'} (--text-column says which holds the texts)"
    if columns.key is not None and key is None:
        return f"has no {columns.key}; it has {', '.join(head)}"
    return fields[text], None if key is None else fields[key]


def _column(head: Sequence[str], wanted: str | None, usual: Sequence[str], path: Path) -> str | None:
    if wanted is not None and wanted not in head:
        raise InvalidInput(f"{path} has no column {wanted}; its columns are {', '.join(head)}")
    return wanted or _usual(head, wanted, usual)


def _usual(head: Sequence[str], wanted: str | None, usual: Sequence[str]) -> str | None:
    return None if wanted is not None else next((name for name in usual if name in head), None)


def _named(records: Iterable[tuple[int, _Field | str]]) -> Iterator[Read]:
    """Records -> texts with names of their own."""
    taken: dict[str, int] = {}
    for line, record in records:
        if isinstance(record, str):
            yield NoCaption(line, record)
            continue
        texts, key = record
        name = f"{line if key is None else key}"
        several = [(f"{name}/{n}", text) for n, text in enumerate(texts, 1)] if isinstance(texts, list) else None
        for each, text in several or [(name, texts)]:
            read = _checked(each, text, line)
            yield replace(read, name=_free(read.name, taken)) if isinstance(read, Caption) else read


def _free(name: str, taken: dict[str, int]) -> str:
    """A name that nothing else in the file has: the name itself, or numbered."""
    free = name
    while free in taken:
        taken[name] += 1
        free = f"{name}/{taken[name]}"
    taken[free] = 1
    return free


def _checked(name: str, text: object, line: int) -> Read:
    if not isinstance(text, str):
        return NoCaption(line, "" if text in (None, []) else f"has {text!r:.40} where a text should be")
    if not _is_utf8(text) or not _is_utf8(name) or "\0" in text:
        return NoCaption(line, NOT_UTF8)
    if not text.strip():
        return NoCaption(line)
    return Caption(name, text.strip(), line) if name.strip() else NoCaption(line, "has no key")


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
