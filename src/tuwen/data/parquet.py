"""Samples in Parquet files: pictures in a column of bytes or of paths, captions in another.

As img2dataset and Hugging Face's datasets write them. Rows are read one after the other in small batches, so that a
file of any size fits. Knows columns and rows. Does not know what a picture looks like.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

from tuwen.data.files import Skipped
from tuwen.data.samples import Fact, Listed, RowOf, Sample, facts_of, span_of
from tuwen.data.tables import Columns
from tuwen.errors import require
from tuwen.types import Rejected

_File: TypeAlias = Any
_Schema: TypeAlias = Any
_Type: TypeAlias = Any
"""`pyarrow.parquet.ParquetFile`, `pyarrow.Schema`, `pyarrow.DataType`: pyarrow tells no types"""

PARQUET = frozenset({".parquet"})

_BYTES = ("jpg", "jpeg", "png", "webp", "image", "img", "image_bytes", "bytes")
"""usual names of columns that hold pictures themselves"""
_STATUS, _FAILED = "status", "failed_to_"
"""how img2dataset says that a row has no picture: `failed_to_download`, `failed_to_resize`"""
_AT_ONCE = 64
"""rows that are in memory at a time"""


def list_parquet(path: Path, prefix: str, columns: Columns) -> Iterator[Listed | Rejected | Skipped]:
    """The samples of a Parquet file, one a row, by their key column, else by their number.

    A row whose key an earlier one has is rejected; one of a picture that img2dataset could not fetch is skipped.

    Raises:
        MissingExtra: pyarrow is not installed.
        InvalidInput: the file has none of the columns.
    """
    arrow = require("pyarrow", extra="bulk")
    try:
        with _opened(path) as file:
            found, held = _columns(file.schema_arrow, path, columns)
            at = RowOf(str(path), 0, _stamp(path), found.image if held else None, found.caption)
            status = _STATUS if held and _STATUS in file.schema_arrow.names else None
            needed = [name for name in (found.key, None if held else found.image, status) if name]
            seen = set[str]()
            for number, row in enumerate(_rows(file, 0, needed)):
                if str(row.get(_STATUS, "")).startswith(_FAILED):
                    yield Skipped(path)
                    continue
                listed = _listed(row, replace(at, row=number), found)
                if listed.key in seen:
                    yield Rejected(f"{path}:{number}", f"has the key {listed.key!r} of an earlier row")
                    continue
                seen.add(listed.key)
                yield replace(listed, key=prefix + listed.key, name=listed.name and prefix + listed.name)
    except (arrow.ArrowInvalid, OSError) as error:
        yield Rejected(str(path), f"cannot be read as Parquet: {str(error).splitlines()[0]}")


def read_rows(listed: Iterable[Listed]) -> Iterator[Listed | Sample | Rejected]:
    """Samples of Parquet files, read in passing in the order of their rows; all others as they are."""
    with closing(_Reader()) as reader:
        for item in listed:
            yield item if item.row is None else reader.read(item, item.row)


def sample_of(listed: Listed, row: RowOf, values: Mapping[str, Any]) -> Listed | Sample | Rejected:
    """A row's values as what they are: a sample; or, where its picture is a file, that which is yet to be read."""
    rest = {name: value for name, value in values.items() if name not in {row.image, row.caption}}
    captions, extra = _captions(values.get(row.caption or "")), _facts(rest)
    if row.image is None:
        return replace(listed, captions=captions, extra=extra, row=None)
    held = values[row.image]
    content = held.get("bytes") if isinstance(held, Mapping) else held
    if not content:
        return Rejected(listed.key, f"has no picture in the column {row.image}")
    place = held.get("path") if isinstance(held, Mapping) else None
    return Sample(listed.key, listed.key, place or listed.key, content, captions, extra, row.modified / 1e9)


class _Reader:
    """One file at a time, gone through from the row that is asked for first."""

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
            return Rejected(listed.key, f"cannot be read from {row.path}: {str(error) or 'the file has changed'}")
        return sample_of(listed, row, values)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _row(self, row: RowOf) -> Mapping[str, Any]:
        if row.path != self._path or row.row < self._next or self._next < 0:
            self.close()
            if _stamp(Path(row.path)) != row.modified:
                raise OSError("it has changed since it was listed")
            self._file = _opened(Path(row.path))
            self._path, self._next = row.path, row.row
            self._rows = _rows(self._file, row.row, self._file.schema_arrow.names)
        while self._next < row.row:
            next(self._rows)
            self._next += 1
        self._next += 1
        return next(self._rows)


def _opened(path: Path) -> _File:
    file: _File = require("pyarrow.parquet", extra="bulk").ParquetFile(path, pre_buffer=False)
    return file


def _rows(file: _File, first: int, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The rows from number `first` on; groups of rows before it are not read."""
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    group = 0
    while group < len(sizes) and first >= sizes[group]:
        first -= sizes[group]
        group += 1
    if not names:
        yield from ({} for _ in range(sum(sizes[group:]) - first))
        return
    groups = list(range(group, len(sizes)))
    for batch in (
        file.iter_batches(_AT_ONCE, row_groups=groups, columns=list(names), use_threads=False) if groups else ()
    ):
        yield from batch.slice(first).to_pylist() if first < batch.num_rows else ()
        first = max(0, first - batch.num_rows)


def _columns(schema: _Schema, path: Path, columns: Columns) -> tuple[Columns, bool]:
    """What the columns are called, and whether pictures are in theirs as bytes."""
    held = {field.name for field in schema if _is_bytes(field.type)}
    image = columns.image or next((name for name in _BYTES if name in held), None)
    found = replace(columns, image=image).among(schema.names, path)
    return found, found.image in held


def _is_bytes(kind: _Type) -> bool:
    types = require("pyarrow.types", extra="bulk")
    if types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _listed(row: Mapping[str, Any], at: RowOf, columns: Columns) -> Listed:
    picture = row.get(columns.image or "")
    place = str(picture) if picture else ""
    named = row.get(columns.key or "")
    key = str(named) if named not in (None, "") else place or str(at.row)
    if not place:
        return Listed(key, row=at)
    span = span_of((columns.root or Path(at.path).parent) / place)
    return Listed(key, place, span.path, span, row=at)


def _captions(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


def _facts(row: Mapping[str, object]) -> Mapping[str, Fact]:
    return facts_of({name: value for name, value in row.items() if not isinstance(value, bytes)})


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns


# ---- Rows of Parquet files in any order: whole row groups are kept in memory, the latest of them.

_Table: TypeAlias = Any
"""`pyarrow.Table`: pyarrow tells no types"""

MOST_BYTES = 2**30
"""how much of all files is kept in memory; of one group more, where it is larger"""


class RowGroups:
    """Rows by file and number. May be used by many threads at once; each group is read by one of them."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = Lock()
        self._starts: dict[str, tuple[int, list[int]]] = {}
        self._groups: OrderedDict[tuple[str, int], _Table] = OrderedDict()

    def read(self, listed: Listed, row: RowOf) -> Listed | Sample | Rejected:
        """A row as `read_rows` gives it."""
        arrow = require("pyarrow", extra="bulk")
        try:
            return sample_of(listed, row, self._row(row))
        except (arrow.ArrowInvalid, OSError, IndexError) as error:
            return Rejected(listed.key, f"cannot be read from {row.path}: {error or 'the file has changed'}")

    def _row(self, row: RowOf) -> Mapping[str, Any]:
        with self._lock:
            modified, starts = self._starts.get(row.path) or self._looked_at(row.path)
            if modified != row.modified:
                raise OSError("it has changed since it was listed")
            group = bisect_right(starts, row.row) - 1
            table = self._group(row.path, group)
        values: dict[str, Any] = table.slice(row.row - starts[group], 1).to_pylist()[0]
        return values

    def _looked_at(self, path: str) -> tuple[int, list[int]]:
        with _rowgroups_opened(path) as file:
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        starts = [0, *accumulate(sizes[:-1])]
        self._starts[path] = (Path(path).stat().st_mtime_ns, starts)
        return self._starts[path]

    def _group(self, path: str, number: int) -> _Table:
        key = (path, number)
        if key not in self._groups:
            with _rowgroups_opened(path) as file:
                self._groups[key] = file.read_row_group(number, use_threads=False)
            while len(self._groups) > 1 and sum(table.nbytes for table in self._groups.values()) > self._most_bytes:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


def _rowgroups_opened(path: str) -> Any:  # noqa: ANN401
    return require("pyarrow.parquet", extra="bulk").ParquetFile(path, pre_buffer=False)
