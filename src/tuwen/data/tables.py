"""Samples in tables of text: CSV, TSV, JSON lines, and plain texts with one caption a line.

Knows columns. Does not open the pictures that they name, and never an address on the network.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tuwen.data.captions import JSON_LINES, NOT_UTF8, SEPARATED, Caption, Record, is_utf8, read_lines, read_records
from tuwen.data.samples import Fact, Listed, facts_of, span_of
from tuwen.errors import InvalidInput
from tuwen.types import Rejected

TABLES = frozenset(SEPARATED) | JSON_LINES
TEXTS = frozenset({".txt"})

_KEYS = ("key", "id", "uid")
_IMAGES = ("image_path", "filepath", "file_path", "path", "image", "filename", "file_name", "file")
_CAPTIONS = ("caption", "captions", "text", "texts", "title", "sentence")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what; None: found by their usual names.

    Attributes:
        key: what names a sample.
        image: pictures or their paths.
        caption: captions.
        root: the folder that paths of pictures are relative to; None: the table's own.
        more: other columns of captions. Where several rows are one picture, it has those of all of them, as a list
            in JSON; of what is in no column named here it has the first row's.
        language: what language a row's captions are in; a sample has a list in JSON, one for each caption.
    """

    key: str | None = None
    image: str | None = None
    caption: str | None = None
    root: Path | None = None
    more: tuple[str, ...] = ()
    language: str | None = None

    def among(self, names: list[str], where: Path) -> "Columns":
        """These columns, as they are called in a table that has columns of those names.

        Raises:
            InvalidInput: one that is asked for is missing, or there is neither picture nor caption.
        """
        ragged = where.suffix.lower() in JSON_LINES  # another row may have it
        for name in (self.key, self.image, self.caption, *(() if ragged else (*self.more, self.language))):
            if name is not None and name not in names:
                raise InvalidInput(f"{where} has no column {name!r}; its columns are {', '.join(names)}")
        found = replace(
            self,
            key=self.key or _first(_KEYS, names),
            image=self.image or _first(_IMAGES, names),
            caption=self.caption or _first(_CAPTIONS, names),
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
        InvalidInput: it cannot be opened, is UTF-16, or has none of the columns.
    """
    groups: dict[str, Listed] = {}
    found: Columns | None = None
    for record in read_records(path):
        number, reason = record.number, _reason(record)
        if reason:
            yield Rejected(str(path) if record.last else f"{path}:{number}", reason)
        if reason or not record.fields:
            continue
        found = found or columns.among(list(record.fields), path)
        listed = _listed(record.fields, number, path, found)
        before = groups.get(listed.key)
        if before is not None and before.place != listed.place:
            yield Rejected(f"{path}:{number}", f"has the key {listed.key!r} of an earlier row, but another picture")
        elif "://" in listed.place:
            yield Rejected(f"{path}:{number}", f"{listed.place} is an address: nothing is fetched from a network")
        else:
            groups[listed.key] = listed if before is None else _joined(before, listed, columns)
    yield from (_prefixed(listed, prefix) for listed in groups.values())


def list_texts(path: Path, prefix: str) -> Iterator[Listed | Rejected]:
    """The texts of a file, one a line; blank lines are none. A text's key is the number of its line.

    Raises:
        InvalidInput: the file cannot be read, or is UTF-16.
    """
    for read in read_lines(path):
        if isinstance(read, Caption):
            yield Listed(f"{prefix}{read.name}", captions=(read.text,))
        elif read.reason:
            yield Rejected(f"{path}:{read.line}", read.reason)


def _reason(record: Record) -> str:
    """Why a record is no row; "" where it is one, or a blank line."""
    if record.last:
        return f"cannot be read beyond line {record.line}: {record.reason}"
    is_text = all(is_utf8(value) for value in record.fields.values() if isinstance(value, str))
    return record.reason or ("" if is_text else NOT_UTF8)


def _listed(row: Mapping[str, object], number: int, path: Path, columns: Columns) -> Listed:
    picture = row.get(columns.image or "")
    place = str(picture) if picture else ""
    said = row.get(columns.caption or "")
    captions = tuple(map(str, said)) if isinstance(said, list) else () if said is None else (str(said),)
    captions = captions if columns.caption is not None else ()
    named = row.get(columns.key or "")
    key = str(named) if named not in (None, "") else place or str(number)
    rest = {name: value for name, value in row.items() if name not in {columns.image, columns.caption}}
    if columns.language is not None and not isinstance(row.get(columns.language), list):
        rest[columns.language] = [str(row.get(columns.language) or "")] * len(captions)
    extra = facts_of(rest)
    image = span_of((columns.root or path.parent) / place) if place else None
    return Listed(key, place, place, image, captions=captions, extra=extra)


def _joined(before: Listed, row: Listed, columns: Columns) -> Listed:
    kept = [name for name in (*columns.more, columns.language) if name is not None]
    lists = {name: [*values_of(before.extra.get(name)), *values_of(row.extra.get(name))] for name in kept}
    extra: Mapping[str, Fact] = {**row.extra, **before.extra} | facts_of(lists)
    return replace(before, captions=before.captions + row.captions, extra=extra)


def values_of(fact: Fact) -> list[str]:
    """A field's texts: itself, or those of a list, which readers give as JSON."""
    if not isinstance(fact, str):
        return []
    try:
        several = json.loads(fact) if fact.startswith("[") else None
    except ValueError:
        several = None
    is_list = isinstance(several, list) and all(isinstance(text, str) for text in several)
    return several if several is not None and is_list else [fact]


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


def _first(names: tuple[str, ...], among: list[str]) -> str | None:
    return next((name for name in names if name in among), None)
