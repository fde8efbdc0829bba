"""Migrate an index to another model: every row is encoded again, then the new rows take the place of the old ones.

    old rows --outdated--> files and texts --encode--> the successor's rows      (the old rows answer meanwhile)
    successor --succeed--> the index

Keys, ids and payloads stay. The successor is an index in a subfolder, so an interrupted migration goes on where it
was. The old rows are opened only to read a page of them; where another process keeps them open, a copy is read. At the
end, what was changed meanwhile is made up for while nobody else can write.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

import numpy as np

from tuwen.data.files import path_of
from tuwen.data.sidecars import Sidecars
from tuwen.errors import RejectedImages
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import is_unchanged, prepare_image, read_content
from tuwen.ingest.payloads import content_of
from tuwen.ingest.writer import IngestReport, Passed, Ready, Writer
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.pipeline import BATCH, batched, prefetch
from tuwen.types import Payload, Pixels, Rejected, Source, Vectors

PAGE = 2048
"""rows that are read at a time: for a million rows, opening an index takes a quarter of a second"""
FEW = 64
"""rows that may still be outdated when the places are changed: they are encoded while the index is locked"""

MISSING = (
    "bring the files back and run it again (is a disk not mounted?); or leave their rows out with --yes, in Python "
    "allow_missing=True"
)
"""what to do about rows whose files are gone"""

Opening: TypeAlias = Callable[[], AbstractContextManager[VectorIndex]]
"""opens the index that is migrated, for as long as the block lasts"""


def migrate(
    opened: Opening, encoder: Encoder, bundle: str, *, allow_missing: bool = False, reading: Opening | None = None
) -> Generator[IngestReport]:
    """Migrate an index to another model. Interrupted at any moment and run again, it goes on where it was.

    A file whose content has changed since it was indexed is encoded as it is now, and its payload updated.

    Args:
        opened: opens the index, to put the new rows in place of the old ones.
        encoder: the new model.
        bundle: where that model is, see `Manifest.bundle`.
        allow_missing: leave out rows whose file is gone or cannot be read.
        reading: opens the index, or a copy of it, to read from it; None: `opened`. It is called many times, so that
            others can open the index in between.

    Yields:
        A report after every write, which is flushed by then; the last report is that of the whole run. `indexed`
        counts the rows that were encoded, `unchanged` those of an earlier run, `rejected` those that were left out.

    Raises:
        RejectedImages: files are gone or cannot be read, and `allow_missing` is not set; or none can be read. The
            index is as it was; what was encoded is kept for the next run.
        InvalidInput: the index is in a cluster.
        TuwenError: from the encoder or the index.
    """
    start = monotonic()
    reading = reading or opened
    with reading() as index:
        info = index.info()
        if info.fingerprint == encoder.fingerprint:
            yield IngestReport(info.rows, unchanged=info.rows)
            return
        successor = index.successor(encoder)
    with closing(successor):
        encoded, report = 0, IngestReport(0, indexed=FEW + 1)
        while report.indexed + report.replaced > FEW:
            for report in _Pass(reading, successor, encoder).run():
                yield report
            encoded += report.indexed + report.replaced
        successor.optimize()
        with opened() as index:
            *_, report = _Pass(lambda: nullcontext(index), successor, encoder).run()
            encoded += report.indexed + report.replaced
            missing = {item.path for item in report.rejected}
            successor.remove(sorted({*successor.keys()} - ({*index.keys()} - missing)))
            rows = successor.info().rows
            if missing and not (allow_missing and rows):
                raise RejectedImages(report.rejected, hint=MISSING)
            successor.optimize()
            index.succeed(successor, encoder, bundle)
    seconds = monotonic() - start
    yield IngestReport(rows, encoded, unchanged=rows - encoded, rejected=report.rejected, seconds=seconds)


@dataclass(frozen=True, slots=True)
class _Outdated:
    """A row that the successor lacks, or has with another payload (`there`)."""

    payload: Payload
    there: Payload | None

    @property
    def key(self) -> str:
        return str(self.payload["path"])


Input: TypeAlias = Pixels | str


class _Pass:
    """One pass over the rows of an index, which writes those that the successor lacks."""

    def __init__(self, opened: Opening, successor: VectorIndex, encoder: Encoder) -> None:
        self._opened, self._successor, self._encoder = opened, successor, encoder
        self._sidecars = Sidecars()
        with opened() as index:
            self._root, self._keys = index.root, index.keys()

    def run(self) -> Generator[IngestReport]:
        writer: Writer[Input] = Writer(self._successor, self._encode, BATCH)
        threads = self._encoder.threads
        with closing(prefetch(self._prepare, self._outdated(), threads=threads, depth=2 * BATCH)) as prepared:
            yield from writer.write(prepared)

    def _outdated(self) -> Iterator[_Outdated | Passed]:
        for keys in batched(self._keys, PAGE):
            with self._opened() as index:
                rows = index.payloads(keys)
            there = self._successor.payloads(keys)
            outdated = [_Outdated(row, there.get(key)) for key, row in rows.items() if row != there.get(key)]
            yield from outdated
            yield Passed(skipped=0, unchanged=len(rows) - len(outdated))

    def _prepare(self, row: _Outdated | Passed) -> Ready[Input] | Rejected | Passed:
        if isinstance(row, Passed):
            return row
        content = str(row.payload.get("content", ""))
        if content and (known := self._successor.known(content)):
            return Ready(row.key, content, row.payload, row.there, vector=known.vector)
        if row.payload["type"] == "text":
            text = str(row.payload["text"])
            content = content or content_of(text)
            return Ready(row.key, content, {**row.payload, "content": content}, row.there, raw=text)
        return self._image(row, content)

    def _image(self, row: _Outdated, stored: str) -> Ready[Input] | Rejected | Passed:
        """An image whose content is not encoded yet. `stored`: the content that it had when it was indexed."""
        path = path_of(row.key, self._root)
        try:
            state = path.stat()
            source = Source(row.key, path, state.st_size, state.st_mtime, self._sidecars.of(path))
            if is_unchanged(source, row.there):  # its content has changed since it was indexed, and is encoded already
                return Passed(skipped=0, unchanged=1)
            content, data = read_content(source)
        except OSError as error:
            return Rejected(row.key, f"cannot be read: {error.strerror or error}")
        ready = prepare_image(source, content, data, None, self._successor, self._encoder)
        if isinstance(ready, Rejected):
            return ready
        payload = row.payload if content == stored else {**row.payload, **ready.payload}
        return Ready(row.key, content, payload, row.there, raw=ready.raw, vector=ready.vector)

    def _encode(self, inputs: list[Input]) -> Vectors:
        vectors = np.empty((len(inputs), self._encoder.dim), np.float32)
        texts = {place: it for place, it in enumerate(inputs) if isinstance(it, str)}
        images = {place: it for place, it in enumerate(inputs) if not isinstance(it, str)}
        if texts:
            vectors[list(texts)] = self._encoder.encode_texts(list(texts.values()))
        if images:
            vectors[list(images)] = self._encoder.encode_pixels(np.concatenate(list(images.values())))
        return vectors
