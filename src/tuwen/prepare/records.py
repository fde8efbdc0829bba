"""The records of a text file, one by one: of CSV and TSV, whose first one names the columns, and of JSON Lines.

Knows files, encodings and separators. Does not know what a column holds, nor what becomes of it.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuwen.errors import InvalidInput
from tuwen.prepare.sources import open_file

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
