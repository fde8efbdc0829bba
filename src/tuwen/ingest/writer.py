"""The half of every ingest that does not ask what comes in: batches, vectors, rows, a report.

    inputs --batches--> batches --encode (a thread)--> vectors --write--> index

Each content is encoded once. The caller's thread alone writes: when a report is yielded, the rows it counts are
flushed. Knows contents, rows and counts. Does not know pictures or texts, nor how either is read.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen.runtime.pipeline import ahead, threads
from tuwen.types import Payload, Rejected, Row, Vectors

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex


# ---- What became of files that were brought into an index, or of rows that were taken out.


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of the files so far. The last report of a run is that of the whole run.

    Attributes:
        rows: rows in the index by now, all flushed.
        indexed: files that are new rows.
        unchanged: files whose row stays: same size and time of change, or touched and of the same content.
        replaced: files whose content changed, and their rows with it.
        removed: rows taken out.
        skipped: files that are no pictures by content and by ending.
        rejected: files that claim to be pictures and cannot be read. A row they may have from before stays.
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
        """Files dealt with so far."""
        return self.indexed + self.unchanged + self.replaced + self.skipped + len(self.rejected)


# ---- The half of every ingest that does not ask what comes in: batches, vectors, rows, a report.

LOOKUP = 256
"""inputs whose rows are looked up at a time"""
WRITE = 256
"""rows that are enough for a write: each is flushed to the disk, which takes a third of a second on a slow one"""
WRITE_SECONDS = 2.0
"""after so long, fewer rows are enough: what a kill can cost"""

T = TypeVar("T")
"""what is encoded: the pixels of a picture, or a text"""


@dataclass(frozen=True, slots=True)
class Passed:
    """The end of a group of inputs: how many of them need not be read."""

    skipped: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Ready(Generic[T]):
    """An input that has been read.

    Attributes:
        key: what names its row.
        content: sha256 of what it is.
        payload: what will be stored.
        before: what is stored now, None if it is new.
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
        """Whether the content is what it was, and only facts beside it are news."""
        return self.before is not None and self.before.get("content") == self.content


@dataclass(slots=True)
class _Batch(Generic[T]):
    """What is encoded and written together, in the order of the inputs.

    Attributes:
        ready: the inputs.
        rejected: those that cannot be read.
        passed: those that need not be read.
        raw: contents that nobody has encoded yet; emptied when they are.
        vectors: by content, once encoded.
    """

    ready: list[Ready[T]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    passed: Passed = Passed(0, 0)
    raw: dict[str, T] = field(default_factory=dict)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)


Encode: TypeAlias = Callable[[list[T]], Vectors]


class Intake(Generic[T]):
    """One run into one index: what it encodes with, and what it has counted."""

    def __init__(self, index: "VectorIndex", encode: Encode[T], size: int) -> None:
        """Nothing is read yet. `size`: how many inputs are encoded at a time."""
        self._index = index
        self._encode_all = encode
        self._size = size
        self._start = monotonic()
        self._report = IngestReport(rows=index.info().rows)
        self._in_flight: set[str] = set()

    def reports(self, prepared: Iterable[Ready[T] | Rejected | Passed]) -> Generator[IngestReport]:
        """Take in all of them; a report after every write, which is flushed."""
        with threads(1) as encoding:
            encoded = ahead(encoding, self._encode, self._batches(prepared), early=1)
            for batches in self._due(encoded):
                yield self._write(batches)

    def remove(self, keys: Sequence[str]) -> Generator[IngestReport]:
        """Take rows out; a report after every write."""
        for start in range(0, len(keys), WRITE):
            removed = self._index.remove(keys[start : start + WRITE])
            before = self._report
            self._report = replace(before, rows=before.rows - removed, removed=before.removed + removed)
            yield self.finish()

    def finish(self) -> IngestReport:
        """The report so far, with the time it took."""
        return replace(self._report, seconds=monotonic() - self._start)

    def _batches(self, prepared: Iterable[Ready[T] | Rejected | Passed]) -> Iterator[_Batch[T]]:
        """Inputs -> batches. A content that is on its way already, or written since it was read, is not encoded."""
        batch = _Batch[T]()
        for item in prepared:
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

    def _encode(self, batch: _Batch[T]) -> _Batch[T]:
        """Contents -> vectors; what they were made of is let go."""
        if batch.raw:
            vectors = self._encode_all(list(batch.raw.values()))
            batch.vectors = dict(zip(batch.raw, vectors, strict=True))
            batch.raw.clear()
        return batch

    def _due(self, encoded: Iterable[_Batch[T]]) -> Iterator[list[_Batch[T]]]:
        """Batches -> as many as are worth a write."""
        batches: list[_Batch[T]] = []
        last = monotonic()
        for batch in encoded:
            batches.append(batch)
            if sum(len(each.ready) for each in batches) >= WRITE or monotonic() - last >= WRITE_SECONDS:
                yield batches
                batches = []
                last = monotonic()
        yield batches

    def _write(self, batches: Sequence[_Batch[T]]) -> IngestReport:
        """Vectors -> rows, flushed; and the count so far."""
        ready = [each for batch in batches for each in batch.ready]
        vectors = {content: vector for batch in batches for content, vector in batch.vectors.items()}
        touched = {each.key: each.payload for each in ready if each.touched}
        fresh = [each for each in ready if not each.touched]
        self._index.upsert([Row(each.key, self._vector(each, vectors), each.payload) for each in fresh])
        self._index.update_payloads(touched)
        self._in_flight.difference_update(vectors)
        new = sum(each.before is None for each in fresh)
        self._report = replace(
            self._report,
            rows=self._report.rows + new,
            indexed=self._report.indexed + new,
            unchanged=self._report.unchanged + sum(batch.passed.unchanged for batch in batches) + len(touched),
            replaced=self._report.replaced + len(fresh) - new,
            skipped=self._report.skipped + sum(batch.passed.skipped for batch in batches),
            rejected=(*self._report.rejected, *(item for batch in batches for item in batch.rejected)),
        )
        return self.finish()

    def _vector(self, ready: Ready[T], vectors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The content's vector: known before, of this write, or of an earlier one and so in the index by now."""
        if ready.vector is not None:
            return ready.vector
        if ready.content in vectors:
            return vectors[ready.content]
        return self._index.vectors_of([ready.content])[ready.content]
