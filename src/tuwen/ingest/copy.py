"""Copy all rows of an index into another one, in any store: keys, ids, payloads and vectors stay identical."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from tuwen.types import Row

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.index.store import Stored

PAGE = 500
"""rows copied at a time"""


@dataclass(frozen=True, slots=True)
class CopyReport:
    """The progress of a copy.

    Attributes:
        rows: the number of rows to copy.
        copied: rows written.
        unchanged: rows that the target had already, identical to the source's.
        seconds: since the start.
    """

    rows: int
    copied: int = 0
    unchanged: int = 0
    seconds: float = 0.0


def copy(source: "VectorIndex", target: "VectorIndex") -> Generator[CopyReport]:
    """Copy all rows. Interrupted and run again, it writes only what is missing.

    Rows that only the target has stay there.

    Yields:
        A report after each write, which is durable by then; the last report is that of the whole run.

    Raises:
        TuwenError: from one of the indexes.
    """
    start = monotonic()
    report = CopyReport(source.info().rows)
    for page in _pages(source.list()):
        rows = list(_different(page, source, target))
        target.upsert(rows)
        report = replace(
            report,
            copied=report.copied + len(rows),
            unchanged=report.unchanged + len(page) - len(rows),
            seconds=monotonic() - start,
        )
        yield report
    target.optimize()
    yield replace(report, seconds=monotonic() - start)


def _different(page: "list[Stored]", source: "VectorIndex", target: "VectorIndex") -> Iterator[Row]:
    """The rows of a page that are missing from the target, or differ there."""
    ids = [row.id for row in page]
    vectors, there, theirs = source.vectors(ids), target.get(ids), target.vectors(ids)
    for row in page:
        same = row.id in there and there[row.id].payload == row.payload
        if row.id in vectors and not (same and np.array_equal(vectors[row.id], theirs[row.id])):
            yield Row(str(row.payload["path"]), vectors[row.id], row.payload)


def _pages(rows: "Iterable[Stored]") -> "Iterator[list[Stored]]":
    left = iter(rows)
    while page := list(islice(left, PAGE)):
        yield page
