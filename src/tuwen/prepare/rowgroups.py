"""Rows of Parquet files in any order: whole row groups are kept in memory, the latest of them.

Knows files and groups. Does not know what is in a row.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

from tuwen.extras import require
from tuwen.prepare.parquet import sample_of
from tuwen.prepare.samples import Listed, RowOf, Sample
from tuwen.types import Rejected

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
        with _opened(path) as file:
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        starts = [0, *accumulate(sizes[:-1])]
        self._starts[path] = (Path(path).stat().st_mtime_ns, starts)
        return self._starts[path]

    def _group(self, path: str, number: int) -> _Table:
        key = (path, number)
        if key not in self._groups:
            with _opened(path) as file:
                self._groups[key] = file.read_row_group(number, use_threads=False)
            while len(self._groups) > 1 and sum(table.nbytes for table in self._groups.values()) > self._most_bytes:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


def _opened(path: str) -> Any:  # noqa: ANN401
    return require("pyarrow.parquet", extra="bulk").ParquetFile(path, pre_buffer=False)
