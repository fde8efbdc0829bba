"""Samples in tables of text: CSV, TSV, JSON lines, and plain texts with one caption a line.

Knows columns. Does not open the pictures that they name, and never an address on the network.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuwen.errors import InvalidInput
from tuwen.prepare.samples import Fact, Listed, facts_of, span_of
from tuwen.types import Rejected

TABLES = frozenset({".csv", ".tsv", ".jsonl"})
TEXTS = frozenset({".txt"})

_KEYS = ("key", "id", "uid")
_IMAGES = ("image_path", "filepath", "file_path", "path", "image", "filename", "file_name", "file")
_CAPTIONS = ("caption", "captions", "text", "texts", "title", "sentence")
_LONGEST = 2**27
"""the longest field of a CSV file, in characters"""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what; None: found by their usual names.

    Attributes:
        key: what names a sample.
        image: pictures or their paths.
        caption: captions.
        root: the folder that paths of pictures are relative to; None: the table's own.
    """

    key: str | None = None
    image: str | None = None
    caption: str | None = None
    root: Path | None = None

    def among(self, names: list[str], where: Path) -> "Columns":
        """These columns, as they are called in a table that has columns of those names.

        Raises:
            InvalidInput: one that is asked for is missing, or there is neither picture nor caption.
        """
        for name in (self.key, self.image, self.caption):
            if name is not None and name not in names:
                raise InvalidInput(f"{where} has no column {name!r}; its columns are {', '.join(names)}")
        found = Columns(
            self.key or _first(_KEYS, names),
            self.image or _first(_IMAGES, names),
            self.caption or _first(_CAPTIONS, names),
            self.root,
        )
        if found.image is None and found.caption is None:
            raise InvalidInput(
                f"{where} has no column that is known to hold pictures or captions, but {', '.join(names)}: "
                "say which with --image-column or --caption-column"
            )
        return found


def list_table(path: Path, prefix: str, columns: Columns) -> Iterator[Listed | Rejected]:
    """The samples of a table: rows of the same key are one picture with several captions.

    A row's key is in its key column; else it is the picture's path; else the row's number. Paths are relative to
    the table's folder. The whole table is held in memory, without the pictures.

    Raises:
        InvalidInput: it is not UTF-8, or has none of the columns.
    """
    groups: dict[str, Listed] = {}
    found: Columns | None = None
    for number, row in _rows(path):
        if isinstance(row, Rejected):
            yield row
            continue
        found = found or columns.among(list(row), path)
        listed = _listed(row, number, path, found)
        before = groups.get(listed.key)
        if before is not None and before.place != listed.place:
            yield Rejected(f"{path}:{number}", f"has the key {listed.key!r} of an earlier row, but another picture")
        elif "://" in listed.place:
            yield Rejected(f"{path}:{number}", f"{listed.place} is an address: nothing is fetched from a network")
        else:
            groups[listed.key] = listed if before is None else _joined(before, listed)
    yield from (_prefixed(listed, prefix) for listed in groups.values())


def list_texts(path: Path, prefix: str) -> Iterator[Listed]:
    """The texts of a file, one a line; blank lines are none. A text's key is the number of its line.

    Raises:
        InvalidInput: the file cannot be read, or is not UTF-8.
    """
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield Listed(f"{prefix}{number}", captions=(line.strip(),))


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object] | Rejected]]:
    """The rows with their numbers: lines of JSON, or rows of CSV counted from 1 below the head."""
    if path.suffix.lower() == ".jsonl":
        yield from _json_rows(path)
        return
    csv.field_size_limit(_LONGEST)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        reader = csv.DictReader(_text(path).splitlines(keepends=True), delimiter=delimiter, strict=True)
        for number, row in enumerate(reader, start=1):
            whole = None not in row and None not in row.values()
            yield number, row if whole else Rejected(f"{path}:{number}", "has not as many fields as the head")
    except csv.Error as error:
        yield (
            0,
            Rejected(str(path), f"is no {path.suffix[1:].upper()} any more after line {reader.line_num}: {error}"),
        )


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object] | Rejected]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            row = error
        yield number, row if isinstance(row, dict) else Rejected(f"{path}:{number}", "is no JSON object")


def _listed(row: Mapping[str, object], number: int, path: Path, columns: Columns) -> Listed:
    picture = row.get(columns.image or "")
    place = str(picture) if picture else ""
    said = row.get(columns.caption or "")
    captions = tuple(map(str, said)) if isinstance(said, list) else () if said is None else (str(said),)
    captions = captions if columns.caption is not None else ()
    named = row.get(columns.key or "")
    key = str(named) if named not in (None, "") else place or str(number)
    extra = facts_of({name: value for name, value in row.items() if name not in {columns.image, columns.caption}})
    image = span_of((columns.root or path.parent) / place) if place else None
    return Listed(key, place, place, image, captions=captions, extra=extra)


def _joined(before: Listed, row: Listed) -> Listed:
    extra: Mapping[str, Fact] = {**row.extra, **before.extra}
    return Listed(
        before.key, before.name, before.place, before.image, captions=before.captions + row.captions, extra=extra
    )


def _prefixed(listed: Listed, prefix: str) -> Listed:
    place = "" if listed.image is None else listed.image.path
    return Listed(
        prefix + listed.key,
        listed.name and prefix + listed.name,
        place,
        listed.image,
        captions=listed.captions,
        extra=listed.extra,
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def _first(names: tuple[str, ...], among: list[str]) -> str | None:
    return next((name for name in names if name in among), None)
