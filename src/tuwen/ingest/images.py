"""Ingest images: find them, read and decode what changed, encode it and write the rows, all at the same time.

    files --changed--> files --prepare (threads)--> pixels --encode (a thread)--> vectors --write--> index

The last two stages are in `writer.py`, which texts share (`texts.py`).
"""

import hashlib
import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias
from unicodedata import normalize

import numpy as np

from tuwen.data.decode import read_metadata_of
from tuwen.data.files import Skipped, find_files, open_file, path_of
from tuwen.data.metadata import MAX_XMP, METADATA, with_sidecar
from tuwen.data.selection import Selection
from tuwen.data.sidecars import Sidecars
from tuwen.index.index import VectorIndex
from tuwen.ingest.mounts import Mounts
from tuwen.ingest.payloads import SIDECAR, dated, image_payload, sidecar_fields, stamped
from tuwen.ingest.selection import KeptSelection, keep_selection, read_selection
from tuwen.ingest.writer import LOOKUP, IngestReport, Passed, Ready, Writer
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.pipeline import BATCH, batched, prefetch
from tuwen.types import Payload, Pixels, Rejected, Source

LARGE = 256 * 2**20
"""bytes above which a file is hashed and decoded from disk instead of from memory"""
FACTS = ("width", "height", "format")
"""payload fields that come from decoding an image"""
Found: TypeAlias = Source | Rejected | Skipped
"""what `find_files` yields"""


def ingest(
    paths: Sequence[Path], encoder: Encoder, index: VectorIndex, selection: Selection | None = None
) -> Generator[IngestReport]:
    """Add new and changed images to an index. Rows of files that are gone stay; see `sync`.

    An interrupted run can be repeated: the result is that of an uninterrupted one.

    Args:
        paths: images, or folders to search for images.
        encoder: the index's model.
        index: opened for writing.
        selection: which files in folders are taken; the index keeps it for later runs. None: the one that it keeps.

    Yields:
        A report after every write, which is flushed by then; the last report is that of the whole run.

    Raises:
        TuwenError: from the encoder or the index. Rows of earlier reports are in the index.
    """
    images = ImageIngest(encoder, index, selection)
    yield from images.add(find_files(paths, index.root, but=index.folder, selection=images.selection), below=paths)
    yield from images.writer.remove(sorted(images.renamed))
    images.keep_selection()
    index.optimize()
    yield images.writer.report()


class ImageIngest:
    """One run that adds images to an index.

    Attributes:
        renamed: keys whose file has the other Unicode normalization now (`é` as one character or as two), as after
            copying from a Mac; its new row has their vector.
    """

    def __init__(
        self,
        encoder: Encoder,
        index: VectorIndex,
        selection: Selection | None = None,
        *,
        verify_content: bool = False,
        refresh_facts: bool = False,
    ) -> None:
        """Add to `index`.

        Args:
            encoder: the index's model.
            index: opened for writing.
            selection: see `ingest`.
            verify_content: read all files, even those whose size and modification time are the stored ones.
            refresh_facts: also read the metadata of files that have not changed; they are not encoded again.
        """
        self.index = index
        self.renamed: set[str] = set()
        self._verify_content = verify_content
        self._refresh_facts = refresh_facts
        self.selection = read_selection(index.folder).selection if selection is None else selection
        self._left_out = Counter[str]()
        self.writer: Writer[Pixels] = Writer(index, lambda pixels: encoder.encode_pixels(np.concatenate(pixels)), BATCH)
        self._encoder = encoder
        self._sidecars = Sidecars()
        self._mounts = Mounts(index.folder, index.root)

    def add(self, found: Iterable[Found], below: Sequence[Path] = ()) -> Generator[IngestReport]:
        """Add files; yields a report after every write, which is flushed by then.

        `below`: the folders that they were found in; disks that are mounted there are remembered, see `mounts.py`.
        """
        tops = [Path(os.path.abspath(path)) for path in below]  # noqa: PTH100  (as keys are made)
        prepared = prefetch(self._prepare, self._changed(found, tops), threads=self._encoder.threads, depth=2 * BATCH)
        with closing(prepared):
            yield from self.writer.write(prepared)

    def keep_selection(self) -> None:
        """Keep the selection in the index, with the counts of what it left out in this run."""
        keep_selection(self.index.folder, KeptSelection(self.selection, dict(self._left_out)))

    def _changed(
        self, found: Iterable[Found], tops: Sequence[Path]
    ) -> Iterator["_Changed | _Same | Rejected | Passed"]:
        """The files whose size or time, or whose sidecar's time, differs from the stored one. Others are not opened."""
        for batch in batched(found, LOOKUP):
            files = [self._with_sidecar(item) for item in batch if isinstance(item, Source)]
            self._mounts.note((source.path for source in files), tops)
            stored = self.index.payloads([source.key for source in files])
            self._note_renamed([source for source in files if source.key not in stored])
            changed = [
                source for source in files if self._verify_content or not is_unchanged(source, stored.get(source.key))
            ]
            yield from (item for item in batch if isinstance(item, Rejected))
            yield from (_Changed(source, stored.get(source.key)) for source in changed)
            read = {source.key for source in changed}
            same = [
                source
                for source in files
                if source.key not in read and (self._refresh_facts or _has_other_sidecar(source, stored[source.key]))
            ]
            yield from (_Same(source, stored[source.key]) for source in same)
            skipped = [item for item in batch if isinstance(item, Skipped)]
            self._left_out.update(item.excluded for item in skipped if item.excluded)
            yield Passed(skipped=len(skipped), unchanged=len(files) - len(changed) - len(same))

    def _with_sidecar(self, source: Source) -> Source:
        return replace(source, sidecar=self._sidecars.of(source.path))

    def _note_renamed(self, files: Sequence[Source]) -> None:
        """Note the stored keys that differ from these files' in Unicode normalization alone, and have no file now."""
        others = {
            other: source
            for source in files
            if not source.key.isascii()
            for form in ("NFC", "NFD")
            if (other := normalize(form, source.key)) != source.key
        }
        for key in self.index.payloads(list(others)) if others else ():
            path = path_of(key, self.index.root)
            if not os.path.lexists(path) or path.samefile(others[key].path):
                self.renamed.add(key)

    def _prepare(self, item: "_Changed | _Same | Rejected | Passed") -> Ready[Pixels] | Rejected | Passed:
        if isinstance(item, _Same):
            return _refreshed(item.source, item.before)
        if not isinstance(item, _Changed):
            return item
        try:
            content, data = read_content(item.source)
        except OSError as error:
            return Rejected(item.source.key, f"cannot be read: {error.strerror or error}")
        return prepare_image(item.source, content, data, item.before, self.index, self._encoder)


def prepare_image(
    source: Source, content: str, data: bytes | Path, before: Payload | None, index: VectorIndex, encoder: Encoder
) -> Ready[Pixels] | Rejected:
    """Make an image ready to be encoded and written; it is decoded unless the index has its vector already.

    Args:
        source: the image's file.
        content: the sha256 of its content.
        data: its content, or the path to read it from.
        before: the payload that is stored now, None for a new row.
        index: where the row will be written.
        encoder: the index's model.
    """
    if before is not None and before.get("content") == content:
        metadata = read_metadata_of(data, source.key)
        facts = {} if isinstance(metadata, Rejected) else dated(completed(metadata, source))
        kept = _without_metadata(before) if facts and _has_other_sidecar(source, before) else before
        return Ready(source.key, content, stamped({**kept, **facts}, source), before)
    known = index.known(content)
    if known is not None and known.payload.keys() >= {*FACTS}:  # rows of other tools may lack them
        size = {name: known.payload[name] for name in FACTS}
        metadata = read_metadata_of(data, source.key)
        payload = image_payload(
            source, content, size, completed({} if isinstance(metadata, Rejected) else metadata, source)
        )
        return Ready(source.key, content, payload, before, vector=known.vector)
    decoded = encoder.decode(data, source.key)
    if isinstance(decoded, Rejected):
        return decoded
    payload = image_payload(source, content, decoded.facts, completed(decoded.metadata, source))
    return Ready(source.key, content, payload, before, raw=decoded.pixels)


def completed(metadata: Payload, source: Source) -> Payload:
    """The metadata of an image, with what its sidecar states, see `data.metadata.with_sidecar`."""
    if source.sidecar is None:
        return metadata
    try:
        with open_file(source.sidecar.path) as file:
            return with_sidecar(metadata, file.read(MAX_XMP + 1))
    except OSError:
        return metadata


@dataclass(frozen=True, slots=True)
class _Changed:
    """A file that differs from its row. `before`: the stored payload, None for a new file."""

    source: Source
    before: Payload | None


@dataclass(frozen=True, slots=True)
class _Same:
    """A file that has not changed, whose metadata is read again. `before`: the stored payload."""

    source: Source
    before: Payload


def _refreshed(source: Source, before: Payload) -> Ready[Pixels] | Rejected:
    """The row of a file that has not changed, with the metadata that the file has."""
    metadata = read_metadata_of(source.path, source.key)
    if isinstance(metadata, Rejected):
        return metadata
    payload = stamped({**_without_metadata(before), **dated(completed(metadata, source))}, source)
    return Ready(source.key, str(before.get("content", "")), payload, before)


def _without_metadata(payload: Payload) -> Payload:
    return {name: value for name, value in payload.items() if name not in METADATA}


def is_unchanged(source: Source, stored: Payload | None) -> bool:
    """Whether a file has the size and modification time that are stored."""
    return stored is not None and (stored.get("bytes"), stored.get("modified")) == (source.size, source.modified)


def _has_other_sidecar(source: Source, stored: Payload) -> bool:
    """Whether a file's sidecar is new, changed or gone."""
    return {name: stored[name] for name in SIDECAR if name in stored} != sidecar_fields(source)


def read_content(source: Source) -> tuple[str, bytes | Path]:
    """The sha256 of a file, and what to decode: its content, or its path where the content is too large to hold."""
    with open_file(source.path) as file:
        if source.size <= LARGE:
            data = file.read()
            return hashlib.sha256(data).hexdigest(), data
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest(), source.path
