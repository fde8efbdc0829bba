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
UTF8 = "utf-8-sig"
"""UTF-8 with or without a byte order mark"""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SAMPLE = 2**16
"""how many bytes of a file tell whether it is UTF-8"""
_FEW = 3
"""lines that are not UTF-8, all others being ASCII, below which they are taken for damaged ones"""
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


def read_records(path: Path, encoding: str | None = None) -> Iterator[Record]:
    """The records of a CSV, TSV or JSON Lines file. Semicolons and tabs are recognised as separators of a CSV.

    Quotes that cannot be parsed are read literally, as files of captions are often written without quoting. In a
    table of two columns of which the second is of captions, all that follows the first separator is the caption.

    Raises:
        InvalidInput: see `open_text`.
    """
    separator = SEPARATED.get(path.suffix.lower())
    with open_text(path, encoding, newline=None if separator is None else "") as file:
        yield from _objects(file) if separator is None else _rows(file, separator)


def open_text(path: Path, encoding: str | None = None, newline: str | None = None) -> io.TextIOWrapper:
    """Open a text file: UTF-8, or UTF-16 with a byte order mark; bytes that are invalid become surrogate escapes.

    Args:
        path: the file.
        encoding: its encoding, e.g. `gb18030`; None: one of the above, which is checked.
        newline: as for `open`.

    Raises:
        InvalidInput: the file cannot be opened, or seems to be in another encoding; or there is no such encoding.
    """
    try:
        raw = open_file(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}", where=path) from error
    try:
        found = encoding or _encoding_of(raw.read(_SAMPLE), path)
        raw.seek(0)
        return io.TextIOWrapper(raw, found, errors="surrogateescape", newline=newline)
    except LookupError as error:
        raw.close()
        raise InvalidInput(f"{encoding} is not a known encoding: write e.g. gb18030", value=encoding) from error
    except InvalidInput:
        raw.close()
        raise


def _encoding_of(sample: bytes, path: Path) -> str:
    """The encoding of a file that begins so. One in which half of what is not ASCII is not UTF-8 is refused.

    For what can be read as UTF-8 may not be: two or three Chinese characters in GBK often can.
    """
    if sample.startswith(_UTF16):
        return "utf-16"
    lines = [line for line in sample.split(b"\n")[: -1 if len(sample) == _SAMPLE else None] if not line.isascii()]
    wrong = sum(not is_utf8(line.decode("utf-8", "surrogateescape")) for line in lines)
    right = len(lines) - wrong
    if wrong < max(right, 1) or (not right and wrong < _FEW):
        return UTF8
    from charset_normalizer import from_bytes  # takes longer to import than most files to read

    best = from_bytes(b"\n".join(lines)).best()
    likely = "" if best is None else best.encoding
    hint = f"add --encoding {likely}, or save it as UTF-8" if likely else "name its encoding with --encoding"
    seems = f"; it seems to be {likely} ({' '.join(str(best).split())[:40]}…)" if likely else ""
    raise InvalidInput(f"{path} is not UTF-8{seems}: {hint}", value=likely or None, where=path, hint=hint)


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
