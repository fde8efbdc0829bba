"""Records of CSV, TSV and JSON Lines files, with the line that each ends in.

A line that cannot be parsed costs at most itself: the rest of the file is read.
"""

import csv
import io
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuwen.data.files import open_file
from tuwen.errors import InvalidInput

SEPARATED = {".csv": ",", ".tsv": "\t"}
"""extensions of tables and their separators"""
JSON_LINES = frozenset({".jsonl", ".ndjson"})

CAPTIONS = ("caption", "captions", "text", "texts", "title", "sentence")
"""usual names of a column of captions, the likeliest first"""
NOT_UTF8 = "is not UTF-8"
"""reason of a record that is not text"""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MOST_LINES = 1000
"""the most lines that one quoted field may span"""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a file.

    Attributes:
        number: counted from 1; JSON Lines count blank lines too.
        line: the line that it ends in.
        fields: column -> value; bytes that are not UTF-8 are surrogate escapes. Empty if there is no record.
        reason: why there is no record; "" for a blank line.
    """

    number: int
    line: int
    fields: Mapping[str, object] = field(default_factory=dict)
    reason: str = ""


def read_records(path: Path) -> Iterator[Record]:
    """The records of a CSV, TSV or JSON Lines file. Semicolons and tabs are recognised as separators of a CSV.

    Quotes that cannot be parsed are read literally, as files of captions are often written without quoting. In a
    table of two columns of which the second is of captions, all that follows the first separator is the caption.

    Raises:
        InvalidInput: the file cannot be opened, or is UTF-16.
    """
    separator = SEPARATED.get(path.suffix.lower())
    with open_text(path, newline=None if separator is None else "") as file:
        yield from _objects(file) if separator is None else _rows(file, separator)


def open_text(path: Path, newline: str | None = None) -> io.TextIOWrapper:
    """Open a UTF-8 file, with or without byte order mark; other bytes become surrogate escapes.

    Raises:
        InvalidInput: the file cannot be opened, or is UTF-16.
    """
    try:
        raw = open_file(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}", where=path) from error
    if raw.read(2) in _UTF16:
        raw.close()
        raise InvalidInput(f"{path} is UTF-16: save it as UTF-8", where=path, hint="save it as UTF-8")
    raw.seek(0)
    return io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline=newline)


def is_utf8(text: str) -> bool:
    """Whether a text has no surrogate escapes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _objects(lines: Iterable[str]) -> Iterator[Record]:
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
            yield Record(number, number, reason="is not a JSON object" if is_utf8(line) else NOT_UTF8)


def _rows(file: Iterable[str], separator: str) -> Iterator[Record]:
    lines = _Lines(file)
    first = lines.take()
    if first is None:
        return
    separator = _separator(first, separator)
    head = lines.record(first, separator, 0)
    lines.ends_in_caption = len(head) == 2 and head[1].strip().lower() in CAPTIONS
    number = 0
    while (line := lines.take()) is not None:
        if not line.strip("\r\n"):
            continue
        number += 1
        row = lines.record(line, separator, len(head))
        if len(row) == len(head):
            yield Record(number, lines.number, dict(zip(head, row, strict=True)))
        else:
            yield Record(number, lines.number, reason=f"has {len(row)} fields instead of {len(head)}")


def _separator(head: str, usual: str) -> str:
    """The separator of a table by its first line: spreadsheets write semicolons where the comma is a decimal mark."""
    if usual != "," or "," in head:
        return usual
    return max(";\t", key=head.count) if ";" in head or "\t" in head else usual


class _Lines:
    """The lines of a table, several of which may be one record.

    Attributes:
        number: of the line that was taken last.
        ends_in_caption: whether a record is one field and a caption, in which separators need no quotes.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._waiting: deque[str] = deque()
        self.number = 0
        self.ends_in_caption = False

    def take(self) -> str | None:
        line = self._waiting.popleft() if self._waiting else next(self._lines, None)
        self.number += line is not None
        return line

    def record(self, line: str, separator: str, width: int) -> Sequence[str]:
        """The fields of the record that begins with `line`; `width`: how many are expected, 0 if unknown."""
        literally = line.rstrip("\r\n").split(separator, 1 if self.ends_in_caption else -1)
        if not line.startswith('"') and f'{separator}"' not in line:
            return literally
        more: list[str] = []
        is_open = line.count('"') % 2 == 1
        while is_open and len(more) < _MOST_LINES and (following := self.take()) is not None:
            more.append(following)
            is_open ^= following.count('"') % 2 == 1
        row = _parsed(line + "".join(more), separator)
        literal = separator == "\t" and width > 1 and any(each.count("\t") == width - 1 for each in more)
        is_whole = not more and (not self.ends_in_caption or line.startswith('"'))
        if row is not None and not literal and (is_whole or len(row) == width or not width):
            return row
        self._waiting.extendleft(reversed(more))
        self.number -= len(more)
        return literally


def _parsed(text: str, separator: str) -> list[str] | None:
    """The one row in a text by the rules of quoting; None if it breaks them."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None
