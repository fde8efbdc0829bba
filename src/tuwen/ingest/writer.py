"""The second half of every ingest: inputs that have been read are encoded in batches and written as rows.

    inputs --batches--> batches --encode (a thread)--> vectors --write--> index

Each content is encoded once, however many inputs have it. The consumer's thread alone writes: when a report is
yielded, the rows that it counts are flushed.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen.index.index import VectorIndex
from tuwen.progress import Progress
from tuwen.runtime.pipeline import prefetch
from tuwen.types import Payload, Rejected, Row, Vectors

LOOKUP = 256
"""inputs whose rows are looked up at a time"""
WRITE = 256
"""rows per write: each write is flushed to the disk, which takes a third of a second on a slow one"""
WRITE_SECONDS = 2.0
"""after this long a write has fewer rows: it is what a kill can cost"""

T = TypeVar("T")
"""what is encoded: the pixels of an image, or a text"""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What has happened to the inputs so far. The last report of a run is that of the whole run.

    Attributes:
        rows: rows in the index by now, all flushed.
        indexed: inputs that are new rows.
        unchanged: inputs whose row stays: same size and modification time, or touched and of the same content.
        replaced: inputs whose content changed, and their rows with it.
        removed: rows removed.
        skipped: files that are no images by content and by extension.
        rejected: files that claim to be images and cannot be read. A row from before stays.
        seconds: since the start.
    """

    rows: int
    indexed: int = 0
    unchanged: int = 0
    replaced: int = 0
    removed: int = 0
    skipped: int = 0
    rejected: tuple[Rejected, ...] = ()
    seconds: float = 0.0

    @property
    def seen(self) -> int:
        """Inputs processed so far."""
        return self.indexed + self.unchanged + self.replaced + self.skipped + len(self.rejected)


def run(reports: Generator[IngestReport], total: Callable[[], int], progress: str = "auto") -> IngestReport:
    """Run an ingest to its end and show its progress; the report of the whole run.

    Args:
        reports: what `ingest`, `ingest_texts` or `sync` returns; closed at the end.
        total: counts the inputs; called if there is a bar to draw.
        progress: one of `progress.KINDS`.
    """
    with Progress(progress) as bar, closing(reports):
        bar.begin(total() if bar.draws else None)
        for report in reports:
            bar.show(report.seen, report.rows)
    return report


@dataclass(frozen=True, slots=True)
class Passed:
    """The end of a group of inputs: how many of them need not be read."""

    skipped: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Ready(Generic[T]):
    """An input that has been read.

    Attributes:
        key: the key of its row.
        content: the sha256 of its content.
        payload: what will be stored.
        before: the payload that is stored now, None for a new row.
        raw: what will be encoded, None if nothing need be.
        vector: (dim,), where the index has the same content already.
    """

    key: str
    content: str
    payload: Payload
    before: Payload | None
    raw: T | None = None
    vector: NDArray[np.float32] | None = None

    @property
    def touched(self) -> bool:
        """Whether the content is the stored one, and only other fields of the payload differ."""
        return self.before is not None and self.before.get("content", "") == self.content


Encode: TypeAlias = Callable[[list[T]], Vectors]


class Writer(Generic[T]):
    """One run that writes to one index: encodes what is new, writes rows, counts."""

    def __init__(self, index: VectorIndex, encode: Encode[T], batch: int) -> None:
        """Write to `index` what `encode` makes of up to `batch` inputs at a time."""
        self._index = index
        self._encode_all = encode
        self._size = batch
        self._start = monotonic()
        self._counts = IngestReport(rows=index.info().rows)
        self._in_flight: set[str] = set()
        self.found_again: set[str] = set()
        """contents of new rows that an older row has, too: those of moved and copied files"""

    def write(self, inputs: Iterable[Ready[T] | Rejected | Passed]) -> Generator[IngestReport]:
        """Encode and write inputs; yields a report after every write, which is flushed by then."""
        with closing(prefetch(self._encode, self._batches(inputs), threads=1, depth=1)) as encoded:
            for batches in _worth_a_write(encoded):
                self._write(batches)
                yield self.report()

    def remove(self, keys: Sequence[str]) -> Generator[IngestReport]:
        """Remove rows; yields a report after every write."""
        for start in range(0, len(keys), WRITE):
            removed = self._index.remove(keys[start : start + WRITE])
            before = self._counts
            self._counts = replace(before, rows=before.rows - removed, removed=before.removed + removed)
            yield self.report()

    def report(self) -> IngestReport:
        """The counts so far, and the seconds since the start."""
        return replace(self._counts, seconds=monotonic() - self._start)

    def _batches(self, inputs: Iterable[Ready[T] | Rejected | Passed]) -> Iterator["_Batch[T]"]:
        """Group inputs. A content that is being encoded, or was written since it was read, is not encoded again."""
        batch = _Batch[T]()
        for item in inputs:
            if isinstance(item, Rejected):
                batch.rejected.append(item)
            elif isinstance(item, Passed):
                batch.passed = item
            else:
                batch.ready.append(replace(item, raw=None))
                if item.raw is not None and self._is_new(item.content):
                    self._in_flight.add(item.content)
                    batch.raw[item.content] = item.raw
            if isinstance(item, Passed) or len(batch.raw) == self._size:
                yield batch
                batch = _Batch[T]()

    def _is_new(self, content: str) -> bool:
        return content not in self._in_flight and self._index.known(content) is None

    def _encode(self, batch: "_Batch[T]") -> "_Batch[T]":
        if batch.raw:
            vectors = self._encode_all(list(batch.raw.values()))
            batch.vectors = dict(zip(batch.raw, vectors, strict=True))
            batch.raw.clear()
        return batch

    def _write(self, batches: Sequence["_Batch[T]"]) -> None:
        """Write rows, flush them, and count."""
        ready = [each for batch in batches for each in batch.ready]
        vectors = {content: vector for batch in batches for content, vector in batch.vectors.items()}
        touched = [each for each in ready if each.touched]
        fresh = [each for each in ready if not each.touched]
        self._index.upsert([Row(each.key, self._vector(each, vectors), each.payload) for each in fresh])
        self._index.update_payloads({each.key: each.payload for each in touched if each.payload != each.before})
        self.found_again |= {each.content for each in fresh if each.vector is not None}
        self._in_flight.difference_update(vectors)
        new = sum(each.before is None for each in fresh)
        self._counts = replace(
            self._counts,
            rows=self._counts.rows + new,
            indexed=self._counts.indexed + new,
            unchanged=self._counts.unchanged + sum(batch.passed.unchanged for batch in batches) + len(touched),
            replaced=self._counts.replaced + len(fresh) - new,
            skipped=self._counts.skipped + sum(batch.passed.skipped for batch in batches),
            rejected=(*self._counts.rejected, *(item for batch in batches for item in batch.rejected)),
        )

    def _vector(self, ready: Ready[T], vectors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The vector of a content: known before, part of this write, or of an earlier one and so in the index."""
        if ready.vector is not None:
            return ready.vector
        if ready.content in vectors:
            return vectors[ready.content]
        return self._index.vectors_of([ready.content])[ready.content]


@dataclass(slots=True)
class _Batch(Generic[T]):
    """Inputs that are encoded and written together, in their order.

    Attributes:
        ready: the inputs.
        rejected: those that cannot be read.
        passed: those that need not be read.
        raw: contents to encode; emptied afterwards.
        vectors: by content, once encoded.
    """

    ready: list[Ready[T]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    passed: Passed = Passed(0, 0)
    raw: dict[str, T] = field(default_factory=dict)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def _worth_a_write(encoded: Iterable[_Batch[T]]) -> Iterator[list[_Batch[T]]]:
    """Batches, collected until they are worth a flush; the last list may be empty."""
    batches: list[_Batch[T]] = []
    last = monotonic()
    for batch in encoded:
        batches.append(batch)
        if sum(len(each.ready) for each in batches) >= WRITE or monotonic() - last >= WRITE_SECONDS:
            yield batches
            batches = []
            last = monotonic()
    yield batches
