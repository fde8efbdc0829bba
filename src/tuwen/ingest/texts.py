"""Texts into an index, beside pictures or alone: read, compared with what is there, encoded, written.

    lines --changed--> texts --encode (a thread)--> vectors --write--> index

A file of texts stands in the index as a folder: the text in line 3 of `captions.txt` is the row `captions.txt/3`.
Knows what a row of a text is made of. Does not know how files are written (`prepare/captions.py`) nor how rows are
(`intake.py`).
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuwen.data.files import key_of
from tuwen.data.records import NOT_UTF8
from tuwen.data.samples import Columns
from tuwen.data.tables import Caption, NoCaption, read_captions
from tuwen.index.filters import quoted
from tuwen.ingest.writer import LOOKUP, IngestReport, Intake, Passed, Ready
from tuwen.runtime.pipeline import grouped
from tuwen.types import Payload, Rejected

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder

BATCH = 256
"""texts encoded at a time: the encoder sorts them by length"""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that shall be a row: the row's key, and seconds since 1970, when its file was last changed."""

    key: str
    text: str
    modified: float


def ingest_texts(
    paths: Sequence[Path], encoder: "Encoder", index: "VectorIndex", columns: Columns
) -> Generator[IngestReport]:
    """Bring an index up to date with files of texts. A text that is there already is not encoded again.

    A file's rows are those of its texts: rows of texts that are no longer in it are taken out, once it has been
    read to its end. Interrupted at any moment and run again, it ends with the rows of an uninterrupted run.

    Args:
        paths: files in UTF-8, one text a line; or `.csv`, `.tsv`, `.jsonl`.
        encoder: the index's model.
        index: opened for writing.
        columns: of files that have some.

    Yields:
        A report after every write, which is flushed, and the report of the whole run last.

    Raises:
        InvalidInput: a file cannot be read, or has not the columns.
        TuwenError: what the encoder or the index raises. Rows of earlier reports are in the index.
    """
    texts = Texts(encoder, index)
    for path in paths:
        file = _File(path, index, columns)
        yield from texts.take_in(file.texts())
        yield from texts.intake.remove(file.gone())
    index.optimize()
    yield texts.intake.finish()


def row_of(text: Text) -> dict[str, str | int | float]:
    """What is stored of a text."""
    folder, _, name = text.key.rpartition("/")
    return {
        "path": text.key,
        "type": "text",
        "text": text.text,
        "folder": folder,
        "name": name,
        "content": content_of(text.text),
        "modified": text.modified,
    }


def content_of(text: str) -> str:
    """The sha256 of a text, in hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


class Texts:
    """The stages that know what a text is, and the intake that they lead to."""

    def __init__(self, encoder: "Encoder", index: "VectorIndex") -> None:
        """Nothing is read yet."""
        self._index = index
        self.intake: Intake[str] = Intake(index, encoder.encode_texts, BATCH)

    def take_in(self, read: Iterable[Text | Rejected | None]) -> Generator[IngestReport]:
        """Texts into the index, None being one that is empty; a report after every write, which is flushed."""
        yield from self.intake.reports(self._changed(read))

    def _changed(self, read: Iterable[Text | Rejected | None]) -> Iterator[Ready[str] | Rejected | Passed]:
        """Texts -> those that the index has not; with their vectors, where it has the same text elsewhere."""
        for group in grouped(read, LOOKUP):
            texts = [item for item in group if isinstance(item, Text)]
            stored = self._index.payloads([text.key for text in texts])
            news = [row for row in map(row_of, texts) if not _is_same(row, stored.get(str(row["path"])))]
            known = self._index.vectors_of(sorted({str(row["content"]) for row in news}))
            yield from (item for item in group if isinstance(item, Rejected))
            for row in news:
                key, content = str(row["path"]), str(row["content"])
                yield Ready(key, content, row, stored.get(key), raw=str(row["text"]), vector=known.get(content))
            yield Passed(skipped=group.count(None), unchanged=len(texts) - len(news))


def _is_same(row: Payload, stored: Payload | None) -> bool:
    return stored is not None and (stored.get("content"), stored.get("type")) == (row["content"], "text")


class _File:
    """A file of texts, and what the index has of it."""

    def __init__(self, path: Path, index: "VectorIndex", columns: Columns) -> None:
        self._path = path
        self._index = index
        self._columns = columns
        self._key = key_of(path, index.root)
        self._seen: set[str] = set()
        self._unreadable: list[int] = []

    def texts(self) -> Iterator[Text | Rejected | None]:
        """Its texts as rows; what is not UTF-8 is told in one line at the end, however much it is."""
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
        if read.reason:
            self._seen.add(
                f"{self._key}/{read.name or read.line}"
            )  # what cannot be read keeps the row that it may have
        if read.reason == NOT_UTF8:
            self._unreadable.append(read.line)
        else:
            yield Rejected(f"{self._key}/{read.line}", read.reason) if read.reason else None

    def gone(self) -> list[str]:
        """The rows of texts that it had once, when it has been read to its end."""
        where = f'type == "text" and (folder == {quoted(self._key)} or folder startswith {quoted(self._key + "/")})'
        return [key for key in self._index.keys(where) if key not in self._seen]
