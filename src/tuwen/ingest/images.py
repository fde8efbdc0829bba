"""Pictures into an index: found, read, decoded, encoded, written, all at once and in order.

    files --changed--> files --prepare (threads)--> pixels --encode (a thread)--> vectors --write--> index

Each arrow runs ahead of the next by a bounded number of pictures, so memory does not grow with the collection.
The last two are in `intake.py`, which texts share (`texts.py`).
Knows the order of the stages. Does not know formats, models or stores, and draws no progress: it yields it.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tuwen.data.decode import Reading, read_image
from tuwen.data.files import Skipped, find_files, open_file
from tuwen.data.pixels import to_pixels
from tuwen.ingest.writer import LOOKUP, IngestReport, Intake, Passed, Ready
from tuwen.runtime.pipeline import ahead, grouped, threads
from tuwen.types import Payload, Pixels, Rejected, Source

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder

BATCH = 32
"""pictures encoded at a time"""
LARGE = 256 * 2**20
"""bytes above which a file is hashed and decoded from disk instead of from memory"""
FACTS = ("width", "height", "format")
"""what is known of a picture that has been decoded"""
Found: TypeAlias = Source | Rejected | Skipped
"""what `find_files` finds"""


@dataclass(frozen=True, slots=True)
class _Changed:
    """A file that the index does not have as it is now. `before`: what is stored of it, None if it is new."""

    source: Source
    before: Payload | None


def ingest(
    paths: Sequence[Path], encoder: "Encoder", index: "VectorIndex", *, reading: Reading, decoders: int
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
    pictures = Pictures(encoder, index, reading, decoders)
    yield from pictures.take_in(find_files(paths, index.root, but=index.folder))
    index.optimize()
    yield pictures.intake.finish()


class Pictures:
    """The stages that know what a picture is, and the intake that they lead to. `index`: where rows go."""

    def __init__(self, encoder: "Encoder", index: "VectorIndex", reading: Reading, decoders: int) -> None:
        """Nothing is read yet; see `ingest`."""
        self._encoder = encoder
        self.index = index
        self._reading = reading
        self._decoders = decoders
        self.intake: Intake[Pixels] = Intake(index, lambda pixels: encoder.encode_pixels(np.concatenate(pixels)), BATCH)

    def take_in(self, found: Iterable[Found]) -> Generator[IngestReport]:
        """Files into the index; a report after every write, which is flushed."""
        with threads(self._decoders) as decoding:
            prepared = ahead(decoding, self._prepare, self._changed(found), early=2 * BATCH)
            yield from self.intake.reports(prepared)

    def _changed(self, found: Iterable[Found]) -> Iterator[_Changed | Rejected | Passed]:
        """Files -> those whose size or time is not the stored one. The others are not even opened."""
        for group in grouped(found, LOOKUP):
            files = [item for item in group if isinstance(item, Source)]
            stored = self.index.payloads([source.key for source in files])
            news = [source for source in files if not _is_same(source, stored.get(source.key))]
            yield from (item for item in group if isinstance(item, Rejected))
            yield from (_Changed(source, stored.get(source.key)) for source in news)
            skipped = sum(isinstance(item, Skipped) for item in group)
            yield Passed(skipped=skipped, unchanged=len(files) - len(news))

    def _prepare(self, item: _Changed | Rejected | Passed) -> Ready[Pixels] | Rejected | Passed:
        """A file -> its content's hash, and its pixels unless that content has a vector already."""
        if not isinstance(item, _Changed):
            return item
        source = item.source
        try:
            content, data = _read(source)
        except OSError as error:
            return Rejected(source.key, f"cannot be read: {error.strerror or error}")
        if item.before is not None and item.before.get("content") == content:
            return Ready(source.key, content, {**item.before, **_stamp(source)}, item.before)
        known = self.index.known(content)
        if known is not None and known.payload.keys() >= {*FACTS}:  # what others have written may not have them
            facts = {name: known.payload[name] for name in FACTS}
            return Ready(source.key, content, payload_of(source, content, facts), item.before, vector=known.vector)
        picture = read_image(data, source.key, self._reading)
        if isinstance(picture, Rejected):
            return picture
        facts = {"width": picture.width, "height": picture.height, "format": picture.format}
        pixels = to_pixels(self._encoder.image_spec, [picture.image])
        return Ready(source.key, content, payload_of(source, content, facts), item.before, raw=pixels)


def _is_same(source: Source, stored: Payload | None) -> bool:
    return stored is not None and (stored.get("bytes"), stored.get("modified")) == (source.size, source.modified)


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
