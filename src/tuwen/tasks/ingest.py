"""Pictures into an index: found, read, decoded, encoded, written, all at once and in order.

    files --changed--> files --prepare (threads)--> pixels --encode (a thread)--> vectors --write--> index

Each arrow runs ahead of the next by a bounded number of pictures, so memory does not grow with the collection.
The caller's thread alone writes: when a report is yielded, the rows it counts are flushed.
Knows the order of the stages. Does not know formats, models or stores, and draws no progress: it yields it.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuwen.prepare.images import Reading, read_image
from tuwen.prepare.pixels import to_pixels
from tuwen.prepare.sources import Skipped, open_file
from tuwen.tasks.ahead import ahead, grouped, threads
from tuwen.tasks.files import find_files
from tuwen.tasks.report import IngestReport
from tuwen.types import Payload, Pixels, Rejected, Row, Source

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.runtime.encoder import Encoder

BATCH = 32
"""pictures encoded at a time"""
LOOKUP = 256
"""files whose rows are looked up at a time"""
WRITE = 256
"""rows that are enough for a write: each is flushed to the disk, which takes a third of a second on a slow one"""
WRITE_SECONDS = 2.0
"""after so long, fewer rows are enough: what a kill can cost"""
LARGE = 256 * 2**20
"""bytes above which a file is hashed and decoded from disk instead of from memory"""


@dataclass(frozen=True, slots=True)
class _Changed:
    """A file that the index does not have as it is now. `before`: what is stored of it, None if it is new."""

    source: Source
    before: Payload | None


@dataclass(frozen=True, slots=True)
class _Passed:
    """The end of a group of files: how many of them need not be read."""

    skipped: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class _Ready:
    """A file that has been read.

    Attributes:
        key: the source's key.
        content: sha256 of its bytes.
        payload: what will be stored.
        before: what is stored now, None if it is new.
        pixels: (1, 3, h, w), None if they need not be encoded.
        vector: (dim,), where the index has the same content already.
    """

    key: str
    content: str
    payload: Payload
    before: Payload | None
    pixels: Pixels | None = None
    vector: NDArray[np.float32] | None = None

    @property
    def touched(self) -> bool:
        """Whether the content is what it was, and only size or time are news."""
        return self.before is not None and self.before["content"] == self.content


@dataclass(slots=True)
class _Batch:
    """What is encoded and written together, in the order of the files.

    Attributes:
        ready: the files.
        rejected: those that cannot be read.
        passed: those that need not be read.
        pixels: of the contents that nobody has encoded yet; emptied when they are.
        vectors: by content, once encoded.
    """

    ready: list[_Ready] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    passed: _Passed = _Passed(0, 0)
    pixels: dict[str, Pixels] = field(default_factory=dict)
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def ingest(
    paths: Sequence[Path], encoder: "Encoder", index: "Index", *, reading: Reading, decoders: int
) -> Generator[IngestReport]:
    """Bring an index up to date with files and folders. Files that have vanished keep their rows.

    Interrupted at any moment and run again, it ends with the rows of an uninterrupted run.

    Args:
        paths: pictures, or folders to search for pictures.
        encoder: the index's model.
        index: opened for writing.
        reading: how pictures are decoded.
        decoders: threads that read and decode.

    Yields:
        A report after every write, which is flushed, and the report of the whole run last.

    Raises:
        TuwenError: what the encoder or the index raises. Rows of earlier reports are in the index.
    """
    run = _Run(encoder, index, reading)
    with threads(decoders) as decoding, threads(1) as encoding:
        prepared = ahead(decoding, run.prepare, run.changed(paths), early=2 * BATCH)
        encoded = ahead(encoding, run.encode, run.batches(prepared), early=1)
        for batches in run.due(encoded):
            yield run.write(batches)
    index.optimize()
    yield run.finish()


class _Run:
    """One run of `ingest`: its stages, and what it has counted."""

    def __init__(self, encoder: "Encoder", index: "Index", reading: Reading) -> None:
        self._encoder = encoder
        self._index = index
        self._reading = reading
        self._start = monotonic()
        self._report = IngestReport(rows=index.info().rows)
        self._in_flight: set[str] = set()

    def changed(self, paths: Sequence[Path]) -> Iterator[_Changed | Rejected | _Passed]:
        """Files -> those whose size or time is not the stored one. The others are not even opened."""
        for group in grouped(find_files(paths, self._index.root, but=self._index.folder), LOOKUP):
            files = [item for item in group if isinstance(item, Source)]
            stored = self._index.payloads([source.key for source in files])
            news = [source for source in files if not _is_same(source, stored.get(source.key))]
            yield from (item for item in group if isinstance(item, Rejected))
            yield from (_Changed(source, stored.get(source.key)) for source in news)
            skipped = sum(isinstance(item, Skipped) for item in group)
            yield _Passed(skipped=skipped, unchanged=len(files) - len(news))

    def prepare(self, item: _Changed | Rejected | _Passed) -> _Ready | Rejected | _Passed:
        """A file -> its content's hash, and its pixels unless that content has a vector already."""
        if not isinstance(item, _Changed):
            return item
        source = item.source
        try:
            content, data = _read(source)
        except OSError as error:
            return Rejected(source.key, f"cannot be read: {error.strerror or error}")
        if item.before is not None and item.before["content"] == content:
            return _Ready(source.key, content, {**item.before, **_stamp(source)}, item.before)
        known = self._index.known(content)
        if known is not None:
            facts = {name: known.payload[name] for name in ("width", "height", "format")}
            return _Ready(source.key, content, payload_of(source, content, facts), item.before, vector=known.vector)
        picture = read_image(data, source.key, self._reading)
        if isinstance(picture, Rejected):
            return picture
        facts = {"width": picture.width, "height": picture.height, "format": picture.format}
        pixels = to_pixels(self._encoder.image_spec, [picture.image])
        return _Ready(source.key, content, payload_of(source, content, facts), item.before, pixels=pixels)

    def batches(self, prepared: Iterable[_Ready | Rejected | _Passed]) -> Iterator[_Batch]:
        """Files -> batches. A content that is on its way already, or written since it was read, is not encoded."""
        batch = _Batch()
        for item in prepared:
            if isinstance(item, Rejected):
                batch.rejected.append(item)
            elif isinstance(item, _Passed):
                batch.passed = item
            else:
                batch.ready.append(replace(item, pixels=None))
                if item.pixels is not None and self._is_new(item.content):
                    self._in_flight.add(item.content)
                    batch.pixels[item.content] = item.pixels
            if isinstance(item, _Passed) or len(batch.pixels) == BATCH:
                yield batch
                batch = _Batch()

    def _is_new(self, content: str) -> bool:
        return content not in self._in_flight and self._index.known(content) is None

    def encode(self, batch: _Batch) -> _Batch:
        """Pixels -> vectors; the pixels are let go."""
        if batch.pixels:
            vectors = self._encoder.encode_pixels(np.concatenate(list(batch.pixels.values())))
            batch.vectors = dict(zip(batch.pixels, vectors, strict=True))
            batch.pixels.clear()
        return batch

    def due(self, encoded: Iterable[_Batch]) -> Iterator[list[_Batch]]:
        """Batches -> as many as are worth a write."""
        batches: list[_Batch] = []
        last = monotonic()
        for batch in encoded:
            batches.append(batch)
            if sum(len(each.ready) for each in batches) >= WRITE or monotonic() - last >= WRITE_SECONDS:
                yield batches
                batches = []
                last = monotonic()
        yield batches

    def write(self, batches: Sequence[_Batch]) -> IngestReport:
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

    def finish(self) -> IngestReport:
        """The report, with the time it took."""
        return replace(self._report, seconds=monotonic() - self._start)

    def _vector(self, ready: _Ready, vectors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The content's vector: known before, of this write, or of an earlier one and so in the index by now."""
        if ready.vector is not None:
            return ready.vector
        if ready.content in vectors:
            return vectors[ready.content]
        return self._index.vectors_of([ready.content])[ready.content]


def _is_same(source: Source, stored: Payload | None) -> bool:
    return stored is not None and (stored["bytes"], stored["modified"]) == (source.size, source.modified)


def _read(source: Source) -> tuple[str, bytes | Path]:
    """The sha256 of a file, and what to decode: its bytes, or the file itself where they are too many to hold."""
    with open_file(source.path) as file:
        if source.size <= LARGE:
            data = file.read()
            return hashlib.sha256(data).hexdigest(), data
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest(), source.path


def _stamp(source: Source) -> dict[str, str | int | float]:
    return {"bytes": source.size, "modified": source.modified}


def payload_of(source: Source, content: str, facts: Payload) -> Payload:
    """What is stored of a picture, in the index's words."""
    folder, _, name = source.key.rpartition("/")
    return {"path": source.key, "folder": folder, "name": name, "content": content, **facts, **_stamp(source)}
