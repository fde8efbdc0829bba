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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from tuwen.data.files import open_file
from tuwen.errors import InvalidInput

# ---- The records of a text file

SEPARATED = {".csv": ",", ".tsv": "\t"}
JSON_LINES = frozenset({".jsonl", ".ndjson"})

NOT_UTF8 = "is not UTF-8"
"""the reason of a record whose bytes are no text"""
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_LONGEST = 2**27
"""the longest field of a CSV file, in characters"""


@dataclass(frozen=True, slots=True)
class Record:
    """One of a file's records.

    Attributes:
        number: counted from 1; lines of JSON count where they are blank, too, as lines do.
        line: that it ends in.
        fields: column -> value; bytes that are not UTF-8 are stray surrogates. Empty where there is none.
        reason: why there is none; "" where the line is blank.
        last: whether the file cannot be read any further, for that reason.
    """

    number: int
    line: int
    fields: Mapping[str, object] = field(default_factory=dict)
    reason: str = ""
    last: bool = False


def read_records(path: Path) -> Iterator[Record]:
    """The records of a CSV, TSV or JSON Lines file.

    Raises:
        InvalidInput: it cannot be opened, or is UTF-16.
    """
    separator = SEPARATED.get(path.suffix.lower())
    with open_text(path, newline=None if separator is None else "") as file:
        yield from _of_objects(file) if separator is None else _of_table(file, separator)


def open_text(path: Path, newline: str | None = None) -> io.TextIOWrapper:
    """Open a file in UTF-8, with or without byte order mark; bytes that are no UTF-8 are read as stray surrogates.

    Raises:
        InvalidInput: it cannot be opened, or is UTF-16.
    """
    try:
        raw = open_file(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    if raw.read(2) in _WIDE:
        raw.close()
        raise InvalidInput(f"{path} is UTF-16: save it as UTF-8")
    raw.seek(0)
    return io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline=newline)


def is_utf8(text: str) -> bool:
    """Whether a text has no stray surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _of_table(file: Iterable[str], separator: str) -> Iterator[Record]:
    csv.field_size_limit(_LONGEST)
    table = csv.reader(file, delimiter=separator, strict=True)
    number = 0
    try:
        head = next(table, [])
        for row in filter(None, table):
            number += 1
            if len(row) == len(head):
                yield Record(number, table.line_num, dict(zip(head, row, strict=True)))
            else:
                reason = f"has {len(row)} fields, the first line has {len(head)}"
                yield Record(number, table.line_num, reason=reason)
    except csv.Error as error:
        yield Record(number + 1, table.line_num, reason=f"{error}", last=True)


def _of_objects(lines: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            yield Record(number, number)
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        if isinstance(fields, dict):
            yield Record(number, number, fields)
        else:
            yield Record(number, number, reason="is no JSON object" if is_utf8(line) else NOT_UTF8)


# ---- The texts of a file: one a line, or one a record of CSV, TSV or JSON Lines.

TEXT_COLUMNS, KEY_COLUMNS = ("text", "caption"), ("id", "key")
"""what columns are called, where nobody says"""


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
    """A record that holds no text. `reason` is empty where it is merely empty; `name` where no column has it."""

    line: int
    reason: str = ""
    name: str = ""


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
    if kind in SEPARATED or kind in JSON_LINES:
        yield from _named(_of_records(path, columns))
    elif columns == Columns():
        yield from read_lines(path)
    else:
        raise InvalidInput(f"{path} has no columns: columns are of files that end in .csv, .tsv or .jsonl")


def read_lines(path: Path) -> Iterator[Read]:
    """The lines of a file, whatever its ending; errors as `read_captions`."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            yield _checked(f"{number}", line, number)


def _of_records(path: Path, columns: Columns) -> Iterator[tuple[int, _Field | str]]:
    """Line and content of each record. A table's columns are looked at once, those of an object each time."""
    unchecked = path.suffix.lower() in SEPARATED
    for record in read_records(path):
        if record.last:
            raise InvalidInput(f"{path} cannot be read beyond line {record.line}: {record.reason}")
        if unchecked and record.fields:
            _check_columns(list(record.fields), columns, path)
            unchecked = False
        yield record.line, _content(record, columns)


def _check_columns(head: Sequence[str], columns: Columns, path: Path) -> None:
    for wanted in (columns.text, columns.key):
        if wanted is not None and wanted not in head:
            raise InvalidInput(f"{path} has no column {wanted}; its columns are {', '.join(head)}")
    if columns.text is None and _usual(head, None, TEXT_COLUMNS) is None:
        raise InvalidInput(f"{path} has the columns {', '.join(head)}: say which holds the texts, --text-column NAME")


def _content(record: Record, columns: Columns) -> _Field | str:
    if record.reason:
        return record.reason
    return _values(record.fields, columns) if record.fields else ("", None)


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
            is_empty = isinstance(read, NoCaption) and not read.reason
            yield read if is_empty else replace(read, name=_free(each, taken))


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
    if not is_utf8(text) or not is_utf8(name) or "\0" in text:
        return NoCaption(line, NOT_UTF8)
    if not text.strip():
        return NoCaption(line)
    return Caption(name, text.strip(), line) if name.strip() else NoCaption(line, "has no key")
