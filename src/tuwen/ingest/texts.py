"""Ingest texts: read files of texts, encode what the index does not have, write the rows.

    lines --changed--> texts --encode (a thread)--> vectors --write--> index

A file of texts is a folder in the index: the text in line 3 of `captions.txt` is the row `captions.txt/3`.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time

from tuwen.data.files import key_of
from tuwen.data.records import NOT_UTF8
from tuwen.data.samples import Columns
from tuwen.data.tables import Caption, NoCaption, read_captions
from tuwen.index.filters import quoted
from tuwen.index.index import VectorIndex
from tuwen.ingest.payloads import content_of, text_payload
from tuwen.ingest.writer import LOOKUP, IngestReport, Passed, Ready, Writer
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.pipeline import batched
from tuwen.types import Payload, Rejected

BATCH = 256
"""texts encoded at a time: enough for batches of similar length"""


def ingest_texts(
    paths: Sequence[Path], encoder: Encoder, index: VectorIndex, columns: Columns
) -> Generator[IngestReport]:
    """Make the rows of files of texts equal to the files. A text that is in the index already is not encoded again.

    Rows of texts that a file no longer has are removed once the file has been read to its end. An interrupted run
    can be repeated: the result is that of an uninterrupted one.

    Args:
        paths: files in UTF-8 with one text a line, or `.csv`, `.tsv`, `.jsonl`.
        encoder: the index's model.
        index: opened for writing.
        columns: the columns of files that have some.

    Yields:
        A report after every write, which is flushed by then; the last report is that of the whole run.

    Raises:
        InvalidInput: a file cannot be read, or lacks the columns.
        TuwenError: from the encoder or the index. Rows of earlier reports are in the index.
    """
    texts = TextIngest(encoder, index)
    for path in paths:
        file = _File(path, index, columns)
        yield from texts.add(file.texts())
        yield from texts.writer.remove(file.gone())
    index.optimize()
    yield texts.writer.report()


def ingest_list(
    texts: Sequence[str] | Mapping[str, str], encoder: Encoder, index: VectorIndex
) -> Generator[IngestReport]:
    """Add texts from memory. A text that is in the index already is not encoded again; other rows stay.

    Args:
        texts: texts, whose keys are `texts/` and the first half of their sha256; or key to text.
        encoder: the index's model.
        index: opened for writing.

    Yields:
        A report after every write, which is flushed by then; the last report is that of the whole run.

    Raises:
        TuwenError: from the encoder or the index. Rows of earlier reports are in the index.
    """
    keyed = texts if isinstance(texts, Mapping) else {list_key(text): text for text in texts}
    ingest, now = TextIngest(encoder, index), time()
    yield from ingest.add(Text(key, text, now) if text.strip() else None for key, text in keyed.items())
    index.optimize()
    yield ingest.writer.report()


def list_key(text: str) -> str:
    """The key of a text that has no file and no name: the same text is one row."""
    return f"texts/{content_of(text)[:32]}"


@dataclass(frozen=True, slots=True)
class Text:
    """A text to index: its row's key, and when its file last changed, in seconds since 1970."""

    key: str
    text: str
    modified: float


class TextIngest:
    """One run that adds texts to an index."""

    def __init__(self, encoder: Encoder, index: VectorIndex) -> None:
        self.writer: Writer[str] = Writer(index, encoder.encode_texts, BATCH)
        self._index = index

    def add(self, read: Iterable[Text | Rejected | None]) -> Generator[IngestReport]:
        """Add texts (None for an empty one); yields a report after every write, which is flushed by then."""
        yield from self.writer.write(self._changed(read))

    def _changed(self, read: Iterable[Text | Rejected | None]) -> Iterator[Ready[str] | Rejected | Passed]:
        """The texts that the index lacks; with their vectors, where it has the same text under another key."""
        for batch in batched(read, LOOKUP):
            texts = [item for item in batch if isinstance(item, Text)]
            stored = self._index.payloads([text.key for text in texts])
            payloads = (text_payload(text.key, text.text, text.modified) for text in texts)
            changed = [payload for payload in payloads if not _is_same(payload, stored.get(str(payload["path"])))]
            known = self._index.vectors_of(sorted({str(payload["content"]) for payload in changed}))
            yield from (item for item in batch if isinstance(item, Rejected))
            for payload in changed:
                key, content = str(payload["path"]), str(payload["content"])
                yield Ready(key, content, payload, stored.get(key), raw=str(payload["text"]), vector=known.get(content))
            yield Passed(skipped=batch.count(None), unchanged=len(texts) - len(changed))


def _is_same(payload: Payload, stored: Payload | None) -> bool:
    return stored is not None and (stored.get("content"), stored.get("type")) == (payload["content"], "text")


class _File:
    """A file of texts, and its rows in the index."""

    def __init__(self, path: Path, index: VectorIndex, columns: Columns) -> None:
        self._path = path
        self._index = index
        self._columns = columns
        self._key = key_of(path, index.root)
        self._seen: set[str] = set()
        self._unreadable: list[int] = []

    def texts(self) -> Iterator[Text | Rejected | None]:
        """Its texts. All lines that are not UTF-8 are rejected together, in one line at the end."""
        modified = self._path.stat().st_mtime
        for read in read_captions(self._path, self._columns):
            if isinstance(read, Caption):
                key = f"{self._key}/{read.name}"
                self._seen.add(key)
                yield Text(key, read.text, modified)
            else:
                yield from self._without_text(read)
        if self._unreadable:
            first, *more = self._unreadable
            many = f"{len(more) + 1} lines (the first: {first}) {NOT_UTF8.replace('is', 'are')}"
            yield Rejected(self._key, many if more else f"line {first} {NOT_UTF8}")

    def _without_text(self, read: NoCaption) -> Iterator[Rejected | None]:
        if read.reason:  # a line that cannot be read keeps the row that it may have
            self._seen.add(f"{self._key}/{read.name or read.line}")
        if read.reason == NOT_UTF8:
            self._unreadable.append(read.line)
        else:
            yield Rejected(f"{self._key}/{read.line}", read.reason) if read.reason else None

    def gone(self) -> list[str]:
        """The keys of rows whose texts are no longer in the file; call it once all texts have been read."""
        where = f'type == "text" and (folder == {quoted(self._key)} or folder startswith {quoted(self._key + "/")})'
        return [key for key in self._index.keys(where) if key not in self._seen]
