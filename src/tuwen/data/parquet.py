"""Samples in Parquet files, as img2dataset and Hugging Face's datasets write them.

Images are in a column of bytes or of paths, captions in another. Rows are read in small batches, so that a file of
any size fits: in order by `read_rows`, in any order by `RowGroups`.
"""

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

from tuwen.data.files import Skipped
from tuwen.data.samples import (
    Columns,
    Listed,
    RowOf,
    Sample,
    captions_in,
    facts_of,
    is_missing,
    labels_in,
    seconds_of,
    span_of,
    split_of,
)
from tuwen.data.tables import SPLIT, found_columns
from tuwen.errors import require
from tuwen.types import Rejected

_File: TypeAlias = Any
_Schema: TypeAlias = Any
_Table: TypeAlias = Any
"""`pyarrow.parquet.ParquetFile`, `pyarrow.Schema` and `pyarrow.Table`: pyarrow has no type annotations"""

PARQUET = frozenset({".parquet"})

_CONTENTS = ("jpg", "jpeg", "png", "webp", "image", "img", "image_bytes", "bytes")
"""usual names of columns of image contents"""
_STATUS, _FAILED = "status", "failed_to_"
"""statuses with which img2dataset marks rows without an image"""
_BATCH, _BATCH_BYTES = 64, 2**22
"""the most rows in memory at a time, and about the most bytes, but at least one row: a large batch's memory is new each
time, and the system takes 15 ms to provide it for a photo of 4 MB"""
_BUFFER = 2**20
"""bytes read from a file at a time"""
MOST_BYTES = 2**30
"""bytes of row groups that `RowGroups` keeps in memory for all files; at least one row group"""


def list_parquet(path: Path, prefix: str, columns: Columns) -> Iterator[Listed | Rejected | Skipped]:
    """List the samples of a Parquet file, one per row, by their key column or else by their number.

    A row that repeats a key is rejected; one whose image img2dataset could not download is skipped.

    Raises:
        MissingExtra: pyarrow is not installed.
        InvalidInput: the file has none of the columns.
    """
    arrow = require("pyarrow", extra="bulk")
    try:
        with _opened(path) as file:
            found, held = _columns(file.schema_arrow, path, columns)
            image = found.image if held else None
            at = RowOf(str(path), 0, _stamp(path), image, found.caption, found.captions, found.language)
            names = file.schema_arrow.names
            status = _STATUS if held and _STATUS in names else None
            split = SPLIT if SPLIT in names else None
            needed = [name for name in (found.key, None if held else found.image, status, found.label, split) if name]
            classes = class_names(file.schema_arrow, found.label)
            seen = set[str]()
            for number, row in enumerate(_rows(file, 0, needed)):
                if str(row.get(_STATUS, "")).startswith(_FAILED):
                    yield Skipped(path)
                    continue
                listed = _listed(row, replace(at, row=number), found, classes)
                if listed.key in seen:
                    yield Rejected(f"{path}:{number}", f"repeats the key {listed.key!r} of an earlier row")
                    continue
                seen.add(listed.key)
                yield replace(listed, key=prefix + listed.key, name=listed.name and prefix + listed.name)
    except (arrow.ArrowInvalid, OSError) as error:
        yield Rejected(str(path), f"cannot be read as Parquet: {str(error).splitlines()[0]}")


def splits_in_rows(path: Path) -> list[str]:
    """The splits named in a Parquet file's column `split`, sorted; empty if it has none or cannot be read.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    arrow = require("pyarrow", extra="bulk")
    try:
        with _opened(path) as file:
            names = [SPLIT] if SPLIT in file.schema_arrow.names else []
            return sorted({split_of(row.get(SPLIT)) for row in _rows(file, 0, names)} - {""}) if names else []
    except (arrow.ArrowInvalid, OSError):
        return []


def class_names(schema: _Schema, label: str | None) -> Sequence[str]:
    """The names of a column's classes, if Hugging Face's datasets recorded them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return names if isinstance(names, list) else ()


def read_rows(listed: Iterable[Listed]) -> Iterator[Listed | Sample | Rejected]:
    """Read rows of Parquet files in order; other samples are passed through."""
    with closing(_Reader()) as reader:
        for item in listed:
            yield item if item.row is None else reader.read(item, item.row)


def sample_of(listed: Listed, row: RowOf, values: Mapping[str, Any]) -> Listed | Sample | Rejected:
    """Turn a row's values into a sample; if its image is a file, the sample is still to be read."""
    columns = Columns(caption=row.caption, captions=row.captions, language=row.language)
    try:
        captions, languages = captions_in(values, columns)
    except ValueError as error:
        return Rejected(listed.key, str(error))
    rest = {name: value for name, value in values.items() if name not in {row.image, *columns.of_texts}}
    extra = facts_of({name: value for name, value in rest.items() if not isinstance(value, bytes)})
    if row.image is None:
        return replace(listed, captions=captions, languages=languages, extra=extra, row=None)
    held = values[row.image]
    content = held.get("bytes") if isinstance(held, Mapping) else held
    if not content:
        return Rejected(listed.key, f"has no image in the column {row.image}")
    place = held.get("path") if isinstance(held, Mapping) else None
    return Sample(
        listed.key,
        listed.key,
        place or listed.key,
        content,
        captions,
        extra,
        seconds_of(row.modified),
        languages=languages,
        labels=listed.labels,
        split=listed.split,
    )


class _Reader:
    """Reads one file at a time, from the first row that is requested."""

    def __init__(self) -> None:
        self._path = ""
        self._next = -1
        self._file: _File | None = None
        self._rows: Iterator[Mapping[str, Any]] = iter(())

    def read(self, listed: Listed, row: RowOf) -> Listed | Sample | Rejected:
        arrow = require("pyarrow", extra="bulk")
        try:
            values = self._row(row)
        except (arrow.ArrowInvalid, OSError, StopIteration) as error:
            self._next = -1
            return _unreadable(listed, row, error)
        return sample_of(listed, row, values)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _row(self, row: RowOf) -> Mapping[str, Any]:
        if row.path != self._path or row.row < self._next or self._next < 0:
            self.close()
            if _stamp(Path(row.path)) != row.modified:
                raise OSError("the file has changed since it was listed")
            self._file = _opened(Path(row.path))
            self._path, self._next = row.path, row.row
            self._rows = _rows(self._file, row.row, self._file.schema_arrow.names)
        while self._next < row.row:
            next(self._rows)
            self._next += 1
        self._next += 1
        return next(self._rows)


class RowGroups:
    """Reads rows by file and number, in any order, with a cache of row groups. Thread-safe."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = Lock()
        self._starts: dict[str, tuple[int, list[int]]] = {}
        self._groups: OrderedDict[tuple[str, int], _Table] = OrderedDict()

    def read(self, listed: Listed, row: RowOf) -> Listed | Sample | Rejected:
        """Read one row, as `read_rows` does."""
        arrow = require("pyarrow", extra="bulk")
        try:
            values = self._row(row)
        except (arrow.ArrowInvalid, OSError, IndexError) as error:
            return _unreadable(listed, row, error)
        return sample_of(listed, row, values)

    def _row(self, row: RowOf) -> Mapping[str, Any]:
        with self._lock:
            modified, starts = self._starts.get(row.path) or self._examined(row.path)
            if modified != row.modified:
                raise OSError("the file has changed since it was listed")
            group = bisect_right(starts, row.row) - 1
            table = self._group(row.path, group)
        values: dict[str, Any] = table.slice(row.row - starts[group], 1).to_pylist()[0]
        return values

    def _examined(self, path: str) -> tuple[int, list[int]]:
        with _opened(Path(path)) as file:
            sizes = _group_sizes(file)
        self._starts[path] = (_stamp(Path(path)), [0, *accumulate(sizes[:-1])])
        return self._starts[path]

    def _group(self, path: str, number: int) -> _Table:
        key = (path, number)
        if key not in self._groups:
            with _opened(Path(path)) as file:
                self._groups[key] = file.read_row_group(number, use_threads=False)
            while len(self._groups) > 1 and sum(table.nbytes for table in self._groups.values()) > self._most_bytes:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


def _opened(path: Path) -> _File:
    parquet = require("pyarrow.parquet", extra="bulk")
    file: _File = parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)  # or a column's whole group is read
    return file


def _rows(file: _File, first: int, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows from number `first`; earlier row groups are not read."""
    sizes = _group_sizes(file)
    group = 0
    while group < len(sizes) and first >= sizes[group]:
        first -= sizes[group]
        group += 1
    if not names:
        yield from ({} for _ in range(sum(sizes[group:]) - first))
        return
    groups = list(range(group, len(sizes)))
    if not groups:
        return
    size = batch_size(file.metadata, names)
    for batch in file.iter_batches(size, row_groups=groups, columns=list(names), use_threads=False):
        yield from batch.slice(first).to_pylist() if first < batch.num_rows else ()
        first = max(0, first - batch.num_rows)


def batch_size(metadata: Any, names: Collection[str]) -> int:  # noqa: ANN401  (pyarrow has no type annotations)
    """How many rows are read at a time, by the average size of these columns."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = (group.column(place) for group in groups for place in range(group.num_columns))
    size = sum(it.total_uncompressed_size for it in columns if it.path_in_schema.partition(".")[0] in names)
    rows: int = _BATCH_BYTES * metadata.num_rows // max(size, 1)
    return max(1, min(_BATCH, rows))


def _group_sizes(file: _File) -> list[int]:
    return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


def _columns(schema: _Schema, path: Path, columns: Columns) -> tuple[Columns, bool]:
    """The names of the columns, and whether the image column has contents rather than paths."""
    held = {field.name for field in schema if _is_content(field)}
    image = columns.image or next((name for name in _CONTENTS if name in held), None)
    found = found_columns(replace(columns, image=image), schema.names, path)
    return found, found.image in held


def _is_content(field: Any) -> bool:  # noqa: ANN401  (pyarrow has no type annotations)
    """Whether a column contains image contents: columns with `path` or `file` in the name contain paths."""
    types = require("pyarrow.types", extra="bulk")
    if types.is_struct(field.type):
        return any(field.type.field(place).name == "bytes" for place in range(field.type.num_fields))
    is_binary = types.is_binary(field.type) or types.is_large_binary(field.type)
    return is_binary and not any(part in field.name.lower() for part in ("path", "file"))


def _listed(row: Mapping[str, Any], at: RowOf, columns: Columns, classes: Sequence[str]) -> Listed:
    place, named = _name(row.get(columns.image or "")), _name(row.get(columns.key or ""))
    labels = tuple(_class(label, classes) for label in labels_in(row, columns))
    key, split = named or place or str(at.row), split_of(row.get(SPLIT))
    if not place:
        return Listed(key, row=at, labels=labels, split=split)
    span = span_of((columns.root or Path(at.path).parent) / place)
    return Listed(key, place, span.path, span, row=at, labels=labels, split=split)


def _name(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if is_missing(value) else str(value)


def _class(label: str, classes: Sequence[str]) -> str:
    return classes[int(label)] if label.isdecimal() and int(label) < len(classes) else label


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns


def _unreadable(listed: Listed, row: RowOf, error: Exception) -> Rejected:
    return Rejected(listed.key, f"cannot be read from {row.path}: {str(error) or 'the file has changed'}")
