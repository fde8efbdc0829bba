"""The modes of PaddleClas' CLIP pipeline: two build or change an index, four search one.

    image_index_build, text_index_build                             data --> rows
    text-to-image, image-to-text, image-to-image, text-to-text      queries --> hits

A text's row is named after the text, so that the same text from two files is one row.
"""

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuwen.data.files import find_files, key_of, path_of
from tuwen.data.tables import Caption, read_lines
from tuwen.errors import IndexNotFound
from tuwen.index.index import VectorIndex, manifest_of
from tuwen.index.location import Place
from tuwen.index.store import design
from tuwen.ingest.images import Found, ImageIngest
from tuwen.ingest.payloads import content_of
from tuwen.ingest.sync import is_below
from tuwen.ingest.texts import Text, TextIngest, list_key
from tuwen.ingest.writer import LOOKUP, IngestReport
from tuwen.interop.paddle_config import SEARCHES, InvalidConfig, PaddleConfig
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.pipeline import batched
from tuwen.types import Hit, Rejected, Source


def check_index(config: PaddleConfig, place: Place) -> None:
    """Check that the mode can use the index.

    Raises:
        InvalidConfig: there is no index, or it has another kind or metric.
    """
    try:
        made = manifest_of(place)
    except IndexNotFound:
        if config.builds is None:
            raise InvalidConfig([f"there is no index at {place}; run the mode that builds it first"]) from None
        operation = config.process.index_operation
        if operation != "new":
            wanted = f"IndexProcess.index_operation: {operation} needs an index, but there is none at {place}"
            raise InvalidConfig([f"{wanted}; use new"]) from None
        return
    asked = design(**{"kind": made.kind, "metric": made.metric, **config.design})
    if (asked.kind, asked.metric) != (made.kind, made.metric):
        raise InvalidConfig(
            [
                f"IndexProcess.index_method and dist_type: the index at {place} is {made.kind} with {made.metric}, "
                "which is fixed when it is built; use those values, name another folder, or delete this one"
            ]
        )


def build(config: PaddleConfig, encoder: Encoder, index: VectorIndex) -> Generator[IngestReport]:
    """Add images or texts to an index, or remove them; yields a report after every write, last that of the whole run.

    `new` removes all other rows of this type, which a new index would not have; rows that are already there are kept.
    """
    data, operation = _Data(config, index), config.process.index_operation
    images, texts = ImageIngest(encoder, index), TextIngest(encoder, index)
    writer = images.writer if config.builds == "image" else texts.writer
    if operation == "remove":
        yield from writer.remove(data.stored_images() if config.builds == "image" else data.stored_texts())
    elif config.builds == "image":
        yield from images.add(data.images())
    else:
        yield from texts.add(data.texts())
    if operation == "new":
        kept = data.seen - {item.path for item in writer.report().rejected}
        yield from writer.remove([key for key in index.keys(f'type == "{config.builds}"') if key not in kept])
    index.optimize()
    yield writer.report()


def count_inputs(config: PaddleConfig, index: VectorIndex) -> int:
    """The number of inputs of a build."""
    data = _Data(config, index)
    return sum(1 for _ in (data.images() if config.builds == "image" else data.texts()))


@dataclass(frozen=True, slots=True)
class Answer:
    """A query, as it was written, and its hits, best first."""

    query: str
    hits: list[Hit]


def answer(config: PaddleConfig, encoder: Encoder, index: VectorIndex, rejected: list[Rejected]) -> Iterator[Answer]:
    """Search for each query, in order; queries that cannot be read are added to `rejected`."""
    asked, found = SEARCHES[config.mode]
    queries = _image_queries if asked == "image" else _text_queries
    k, least = config.process.return_k, config.process.score_thres
    for query, vector in queries(config, encoder, rejected):
        yield Answer(query, index.search(vector, k=k, min_score=least, where=f'type == "{found}"'))


class _Data:
    """The inputs that the configuration names, in the form that an index takes; `seen` has the keys read so far."""

    def __init__(self, config: PaddleConfig, index: VectorIndex) -> None:
        self._config = config
        self._index = index
        self.seen: set[str] = set()

    def images(self) -> Iterator[Found]:
        """The images."""
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
        """The texts, each once."""
        modified = self._file.stat().st_mtime
        for text in self._texts():
            if not isinstance(text, str):
                yield text
            elif (key := list_key(text)) not in self.seen:
                self.seen.add(key)
                yield Text(key, text, modified)

    def stored_images(self) -> list[str]:
        """The keys of rows of these images, and of all below these folders, whether the files exist or not."""
        tops = [os.path.abspath(path) for path in self._paths()]  # noqa: PTH100  (as keys are made)
        keys = self._index.keys('type == "image"')
        return [key for key in keys if is_below(str(path_of(key, self._index.root)), tops)]

    def stored_texts(self) -> list[str]:
        """The keys of rows that have one of these texts."""
        wanted = {content_of(text) for text in self._texts() if isinstance(text, str)}
        rows = self._index.list('type == "text"')
        return [str(row.payload["path"]) for row in rows if row.payload["content"] in wanted]

    @property
    def _file(self) -> Path:
        """The file that lines are read from."""
        return Path(str(self._config.process.data_file or self._config.general.texts))

    def _paths(self) -> list[Path]:
        config = self._config
        if config.process.data_file is None:
            return [Path(str(config.general.infer_imgs))]
        lines = [item.text for item in read_lines(self._file) if isinstance(item, Caption)]
        return [config.root / line.partition(config.process.delimiter)[0].strip() for line in lines]

    def _texts(self) -> Iterator[str | Rejected | None]:
        delimiter = self._config.process.delimiter
        for item in read_lines(self._file):
            if not isinstance(item, Caption):
                yield Rejected(f"{self._file}/{item.line}", item.reason) if item.reason else None
            elif self._config.process.data_file is None:
                yield item.text
            elif text := item.text.partition(delimiter)[2].strip():
                yield text
            else:
                yield Rejected(f"{self._file}/{item.line}", f"has no text after {delimiter!r}")


def _text_queries(
    config: PaddleConfig, encoder: Encoder, rejected: list[Rejected]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    file = Path(str(config.general.texts))
    for group in batched(read_lines(file), LOOKUP):
        bad = [item for item in group if not isinstance(item, Caption) and item.reason]
        rejected += [Rejected(f"{file}/{item.line}", item.reason) for item in bad]
        texts = [item.text for item in group if isinstance(item, Caption)]
        yield from zip(texts, encoder.encode_texts(texts), strict=True)


def _image_queries(
    config: PaddleConfig, encoder: Encoder, rejected: list[Rejected]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    found = find_files([Path(str(config.general.infer_imgs))], Path())
    paths = (item.path if isinstance(item, Source) else item for item in found)
    for batch in encoder.stream(paths):
        rejected += batch.rejected
        yield from zip(batch.keys, batch.vectors, strict=True)
