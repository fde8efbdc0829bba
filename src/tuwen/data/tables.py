"""Samples and texts in tables: CSV, TSV, JSON Lines, and plain text files with one text a line.

    list_table     rows -> samples; rows of one image are its captions
    list_texts     lines -> samples that are texts alone
    read_captions  rows or lines -> texts, each with a name that is unique within the file

Images are named by paths and are not opened here; nothing is ever fetched from a network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from tuwen.data.records import CAPTIONS, JSON_LINES, NOT_UTF8, SEPARATED, Record, is_utf8, open_text, read_records
from tuwen.data.samples import Columns, Listed, captions_in, facts_of, is_missing, labels_in, span_of, split_of
from tuwen.errors import InvalidInput
from tuwen.types import Rejected

TABLES = frozenset(SEPARATED) | JSON_LINES
TEXTS = frozenset({".txt"})

KEYS = ("key", "id", "uid")
IMAGES = ("image_path", "filepath", "file_path", "path", "image", "filename", "file_name", "image_name", "file")
LABELS = ("label", "labels", "class", "category")
"""usual names of columns, the likeliest first"""
SPLIT = "split"
"""the column that says which part of a dataset a row is in"""
NO_VALUE = frozenset({"nan", "NaN", "None", "null", "NULL", "<NA>"})
"""how programs write a missing value into a table of text"""


def found_columns(columns: Columns, names: Sequence[str], where: Path) -> Columns:
    """The columns of a table, with the usual names filled in for those that are not given.

    Raises:
        InvalidInput: a column that is asked for is missing, or there is neither an image nor a caption column.
    """
    listed = f"its columns are {', '.join(names)}"
    ragged = where.suffix.lower() in JSON_LINES  # other rows may have further fields
    optional = () if ragged else (*columns.captions.values(), columns.language)
    for name in (columns.key, columns.image, columns.caption, columns.label, *optional):
        if name is not None and name not in names:
            raise InvalidInput(f"{where} has no column {name!r}; {listed}", value=name, where=where, hint=listed)
    found = replace(
        columns,
        key=columns.key or _first(KEYS, names),
        image=columns.image or _first(IMAGES, names),
        caption=columns.caption or (None if columns.captions else _first(CAPTIONS, names)),
        label=columns.label or _first(LABELS, names),
    )
    if found.image is None and not found.of_texts:
        hint = "say which columns these are; --help shows how"
        raise InvalidInput(
            f"{where} has no known column of images or captions; {listed}; {hint}", where=where, hint=hint
        )
    return found


def list_table(path: Path, prefix: str, columns: Columns) -> Iterator[Listed | Rejected]:
    """The samples of a table. Rows of the same key are one image with several captions.

    A row's key is in its key column; otherwise it is the image's path, or else the row's number. The whole table is
    held in memory, without the images.

    Raises:
        InvalidInput: the file cannot be opened, is in another encoding, or has none of the columns.
    """
    groups: dict[str, Listed] = {}
    found: Columns | None = None
    for record in read_records(path, columns.encoding):
        if not record.fields and not record.reason:
            continue
        where = f"{path}:{record.number}"
        try:
            fields = _checked(_values(record, path))
            found = found or found_columns(columns, list(fields), path)
            listed = _listed(fields, record.number, path, found)
        except _Unusable as error:
            yield Rejected(where, str(error))
            continue
        before = groups.get(listed.key)
        if before is not None and before.place != listed.place:
            yield Rejected(where, f"has the key {listed.key!r} of an earlier row, but another image")
        elif "://" in listed.place:
            yield Rejected(where, f"{listed.place} is a URL; images are not downloaded")
        else:
            groups[listed.key] = listed if before is None else _joined(before, listed)
    for listed in groups.values():
        place = "" if listed.image is None else listed.image.path
        yield replace(listed, key=prefix + listed.key, name=listed.name and prefix + listed.name, place=place)


class _Unusable(Exception):
    """A record that cannot be used; the message is the reason."""


def _values(record: Record, path: Path) -> Mapping[str, object]:
    """The record's fields; in a table of text, what stands for a missing value becomes None."""
    if record.reason:
        raise _Unusable(record.reason)
    if path.suffix.lower() in JSON_LINES:
        return record.fields
    return {name: None if value in NO_VALUE else value for name, value in record.fields.items()}


def _checked(fields: Mapping[str, object]) -> Mapping[str, object]:
    if not all(is_utf8(value) for value in fields.values() if isinstance(value, str)):
        raise _Unusable(NOT_UTF8)
    return fields


def _listed(row: Mapping[str, object], number: int, path: Path, columns: Columns) -> Listed:
    picture, named = row.get(columns.image or ""), row.get(columns.key or "")
    place = "" if is_missing(picture) else str(picture)
    key = place or str(number) if is_missing(named) else str(named)
    try:
        captions, languages = captions_in(row, columns)
    except ValueError as error:
        raise _Unusable(str(error)) from error
    extra = facts_of({name: value for name, value in row.items() if name not in {columns.image, *columns.of_texts}})
    image = span_of((columns.root or path.parent) / place) if place else None
    return Listed(
        key,
        place,
        place,
        image,
        captions=captions,
        extra=extra,
        languages=languages,
        labels=labels_in(row, columns),
        split=split_of(row.get(SPLIT)),
    )


def _joined(before: Listed, row: Listed) -> Listed:
    """Two rows of one image: the captions of both, the other fields of the first."""
    return replace(
        before,
        captions=before.captions + row.captions,
        languages=before.languages + row.languages,
        labels=tuple(dict.fromkeys(before.labels + row.labels)),
        extra={**row.extra, **before.extra},
    )


def _first(names: Sequence[str], among: Sequence[str]) -> str | None:
    return next((name for name in names if name in among), None)


def list_texts(path: Path, prefix: str, encoding: str | None = None) -> Iterator[Listed | Rejected]:
    """The texts of a file, one a line, without blank lines. A text's key is the number of its line.

    Raises:
        InvalidInput: the file cannot be read, or is in another encoding.
    """
    for read in read_lines(path, encoding):
        if isinstance(read, Caption):
            yield Listed(f"{prefix}{read.name}", captions=(read.text,))
        elif read.reason:
            yield Rejected(f"{path}:{read.line}", read.reason)


@dataclass(frozen=True, slots=True)
class Caption:
    """A text without surrounding white space, its name within the file, and the line that it ends in."""

    name: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class NoCaption:
    """A record without a text. `reason` is empty if it is merely blank; `name` if no column has it."""

    line: int
    reason: str = ""
    name: str = ""


Read: TypeAlias = Caption | NoCaption


def read_captions(path: Path, columns: Columns) -> Iterator[Read]:
    """The texts of a file, in order. Names are unique: a key that repeats is numbered, such as `dog.jpg/2`.

    Args:
        path: a file; its extension tells the format.
        columns: `caption` and `key` of a CSV, TSV or JSON Lines file; `encoding` of any.

    Raises:
        InvalidInput: the file cannot be opened, is in another encoding, lacks the columns, or is plain text and has no
            columns.
    """
    if path.suffix.lower() in TABLES:
        yield from _named(path, columns)
    elif columns == Columns(encoding=columns.encoding):
        yield from read_lines(path, columns.encoding)
    else:
        raise InvalidInput(
            f"{path} is plain text and has no columns: leave the column names out, or use .csv, .tsv or .jsonl",
            where=path,
        )


def read_lines(path: Path, encoding: str | None = None) -> Iterator[Read]:
    """The lines of a file, whatever its extension; errors as for `read_captions`."""
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):
            yield _text(f"{number}", line, number)


def _named(path: Path, columns: Columns) -> Iterator[Read]:
    taken: dict[str, int] = {}
    head: Columns | None = None
    for record in read_records(path, columns.encoding):
        if not record.fields and not record.reason:
            yield NoCaption(record.line)
            continue
        try:
            fields = _values(record, path)
            if head is None or path.suffix.lower() in JSON_LINES:  # objects may have different fields
                head = _text_columns(columns, list(fields), path)
            value = fields[head.caption or ""]
        except _Unusable as error:
            yield NoCaption(record.line, str(error))
            continue
        key = fields.get(head.key or "")
        name = f"{record.line}" if is_missing(key) else str(key)
        several = isinstance(value, list)
        for place, text in enumerate(value if isinstance(value, list) else [value], start=1):
            each = f"{name}/{place}" if several else name
            read = _text(each, text, record.line)
            is_blank = isinstance(read, NoCaption) and not read.reason
            yield read if is_blank else replace(read, name=_free(each, taken))


def _text_columns(columns: Columns, names: Sequence[str], path: Path) -> Columns:
    """The caption and key columns among those of a table, or of one object."""
    caption = columns.caption or _first(CAPTIONS, names)
    key = columns.key or _first(KEYS, names)
    missing = caption if caption not in names else key if key is not None and key not in names else None
    if missing is None and caption is not None:
        return Columns(key=key, caption=caption)
    listed = f"its columns are {', '.join(names)}"
    if path.suffix.lower() in JSON_LINES:
        raise _Unusable(f"has no field {missing or ' or '.join(CAPTIONS[:3])}; {listed.replace('columns', 'fields')}")
    if missing is not None:
        raise InvalidInput(f"{path} has no column {missing!r}; {listed}", value=missing, where=path, hint=listed)
    hint = "name the column of texts with --text-column"
    raise InvalidInput(f"{path} has no known column of texts; {listed}; {hint}", where=path, hint=hint)


def _free(name: str, taken: dict[str, int]) -> str:
    """A name that no other text of the file has: the name itself, or numbered."""
    free = name
    while free in taken:
        taken[name] += 1
        free = f"{name}/{taken[name]}"
    taken[free] = 1
    return free


def _text(name: str, text: object, line: int) -> Read:
    if not isinstance(text, str):
        return NoCaption(line, "" if is_missing(text) or text == [] else f"has {text!r:.40} in place of a text")
    if not is_utf8(text) or not is_utf8(name) or "\0" in text:
        return NoCaption(line, NOT_UTF8)
    if not text.strip():
        return NoCaption(line)
    return Caption(name, text.strip(), line) if name.strip() else NoCaption(line, "has an empty key")
