"""What the modes of another tool's CLIP pipeline do: two build or change an index, four search one.

    image_index_build, text_index_build                             data --> rows
    text-to-image, image-to-text, image-to-image, text-to-text      queries --> hits

A text's row is named after the text, so that the same text from two files is one row. Knows what each mode reads
and writes. Does not know the configuration's keys: see `pipeline.py`.
"""

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.data.files import find_files, key_of, path_of
from tuwen.data.tables import Caption, read_lines
from tuwen.ingest.images import Found, ImageIngest
from tuwen.ingest.payloads import content_of
from tuwen.ingest.sync import is_below
from tuwen.ingest.texts import Text, TextIngest, list_key
from tuwen.ingest.writer import LOOKUP, IngestReport
from tuwen.interop.paddle_config import BUILDS, SEARCHES, Plan
from tuwen.runtime.pipeline import batched
from tuwen.types import Hit, Rejected, Source

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder


@dataclass(frozen=True, slots=True)
class Answer:
    """A query, as it was written, and its hits, best first."""

    query: str
    hits: list[Hit]


def build_images(plan: Plan, images: ImageIngest) -> Generator[IngestReport]:
    """Put pictures into an index, or take them out: a report after every write, that of the whole run last.

    `new` leaves the rows of these pictures alone, as a new index would have; rows that are there already are kept.
    """
    data = _Data(plan, images.index)
    if plan.operation == "remove":
        yield from images.writer.remove(data.stored_pictures())
    else:
        yield from images.add(data.pictures())
    if plan.operation == "new":
        rejected = {item.path for item in images.writer.report().rejected}
        yield from images.writer.remove(_others(images.index, "image", data.seen - rejected))
    images.index.optimize()
    yield images.writer.report()


def build_texts(plan: Plan, texts: TextIngest, index: "VectorIndex") -> Generator[IngestReport]:
    """Put texts into an index, or take them out, as `build_images` does with pictures."""
    data = _Data(plan, index)
    if plan.operation == "remove":
        yield from texts.writer.remove(data.stored_texts())
    else:
        yield from texts.add(data.texts())
    if plan.operation == "new":
        yield from texts.writer.remove(_others(index, "text", data.seen))
    index.optimize()
    yield texts.writer.report()


def count_inputs(plan: Plan, index: "VectorIndex") -> int:
    """How many inputs a build will see."""
    data = _Data(plan, index)
    return sum(1 for _ in (data.pictures() if BUILDS[plan.mode] == "image" else data.texts()))


def answer(plan: Plan, encoder: "Encoder", index: "VectorIndex", rejected: list[Rejected]) -> Iterator[Answer]:
    """The hits of each query, in the order of the queries; those that cannot be read are put to `rejected`."""
    asked, wanted = SEARCHES[plan.mode]
    queries = (_image_queries if asked == "image" else _text_queries)(plan, encoder, rejected)
    for query, vector in queries:
        hits = index.search(vector, k=plan.k, min_score=plan.min_score, where=f'type == "{wanted}"')
        yield Answer(query, hits)


def _others(index: "VectorIndex", kind: str, keys: set[str]) -> list[str]:
    return [key for key in index.keys(f'type == "{kind}"') if key not in keys]


class _Data:
    """What the configuration names, as an index is given it."""

    def __init__(self, plan: Plan, index: "VectorIndex") -> None:
        self._plan = plan
        self._index = index
        self.seen: set[str] = set()

    def pictures(self) -> Iterator[Found]:
        """The pictures; notes their keys."""
        paths = self._paths()
        for path in paths:
            if not os.path.lexists(path):
                yield Rejected(key_of(path, self._index.root), "does not exist")
        there = [path for path in paths if os.path.lexists(path)]
        for item in find_files(there, self._index.root, but=self._index.folder):
            if isinstance(item, Source):
                self.seen.add(item.key)
            yield item

    def texts(self) -> Iterator[Text | Rejected | None]:
        """The texts, each once; notes their keys."""
        modified = self._file.stat().st_mtime
        for text in self._texts():
            if not isinstance(text, str):
                yield text
            elif (key := list_key(text)) not in self.seen:
                self.seen.add(key)
                yield Text(key, text, modified)

    def stored_pictures(self) -> list[str]:
        """The keys of rows of these pictures, and of all below these folders, there or gone."""
        tops = [os.path.abspath(path) for path in self._paths()]  # noqa: PTH100  (as keys are made)
        keys = _others(self._index, "image", set())
        return [key for key in keys if is_below(str(path_of(key, self._index.root)), tops)]

    def stored_texts(self) -> list[str]:
        """The keys of rows that have one of these texts."""
        wanted = {content_of(text) for text in self._texts() if isinstance(text, str)}
        rows = self._index.list('type == "text"')
        return [str(row.payload["path"]) for row in rows if row.payload["content"] in wanted]

    @property
    def _file(self) -> Path:
        """Where lines are read from."""
        file = self._plan.listing or self._plan.texts
        assert file is not None, "the plan was checked"
        return file

    def _paths(self) -> list[Path]:
        if self._plan.listing is None:
            assert self._plan.images is not None, "the plan was checked"
            return [self._plan.images]
        lines = [item.text for item in read_lines(self._plan.listing) if isinstance(item, Caption)]
        return [self._plan.root / line.partition(self._plan.delimiter)[0].strip() for line in lines]

    def _texts(self) -> Iterator[str | Rejected | None]:
        for item in read_lines(self._file):
            if not isinstance(item, Caption):
                yield Rejected(f"{self._file}/{item.line}", item.reason) if item.reason else None
            elif self._plan.listing is None:
                yield item.text
            elif text := item.text.partition(self._plan.delimiter)[2].strip():
                yield text
            else:
                yield Rejected(f"{self._file}/{item.line}", f"has no text after {self._plan.delimiter!r}")


Query: TypeAlias = tuple[str, NDArray[np.float32]]


def _text_queries(plan: Plan, encoder: "Encoder", rejected: list[Rejected]) -> Iterator[Query]:
    assert plan.texts is not None, "the plan was checked"
    for group in batched(read_lines(plan.texts), LOOKUP):
        bad = [item for item in group if not isinstance(item, Caption) and item.reason]
        rejected += [Rejected(f"{plan.texts}/{item.line}", item.reason) for item in bad]
        texts = [item.text for item in group if isinstance(item, Caption)]
        yield from zip(texts, encoder.encode_texts(texts), strict=True)


def _image_queries(plan: Plan, encoder: "Encoder", rejected: list[Rejected]) -> Iterator[Query]:
    assert plan.images is not None, "the plan was checked"
    found = find_files([plan.images], Path())
    paths = (item.path if isinstance(item, Source) else item for item in found)
    for batch in encoder.stream(paths):
        rejected += batch.rejected
        yield from zip(batch.keys, batch.vectors, strict=True)
