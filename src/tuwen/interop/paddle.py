"""The modes of PaddleClas' CLIP pipeline: two build or change an index, four search one.

A text's row is named after the text, so that the same text from two files is one row.
"""

import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen.data.files import find_files, key_of, path_of
from tuwen.data.tables import Caption, read_lines
from tuwen.errors import IndexNotFound
from tuwen.index.index import VectorIndex, manifest_of
from tuwen.index.location import Location
from tuwen.index.store import design
from tuwen.ingest.images import Found, ImageIngest
from tuwen.ingest.payloads import content_of
from tuwen.ingest.sync import is_below
from tuwen.ingest.texts import Text, TextIngest, list_key
from tuwen.ingest.writer import LOOKUP, IngestReport
from tuwen.interop.paddle_config import InvalidConfig, PaddleConfig
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.pipeline import batched
from tuwen.types import Hit, Rejected, Source

T = TypeVar("T", bound=Found | Text | Rejected | None)


def check_index(config: PaddleConfig, place: Location) -> None:
    """Check that the mode can use the index.

    Raises:
        InvalidConfig: there is no index, or it has another kind or metric.
    """
    try:
        made = manifest_of(place)
    except IndexNotFound:
        operation = config.process.index_operation
        if not config.builds:
            raise InvalidConfig([f"there is no index at {place}; run the mode that builds it first"]) from None
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
    images, texts = ImageIngest(encoder, index), TextIngest(encoder, index)
    writer = images.writer if config.reads == "image" else texts.writer
    operation, seen = config.process.index_operation, set[str]()
    if operation == "remove":
        yield from writer.remove(_stored(config, index))
    elif config.reads == "image":
        yield from images.add(_noted(_images(config, index), seen))
    else:
        yield from texts.add(_noted(_texts(config), seen))
    if operation == "new":
        kept = seen - {item.path for item in writer.report().rejected}
        yield from writer.remove([key for key in index.keys(f'type == "{config.reads}"') if key not in kept])
    index.optimize()
    yield writer.report()


def count_inputs(config: PaddleConfig, index: VectorIndex) -> int:
    """The number of inputs of a build."""
    return sum(1 for _ in (_images(config, index) if config.reads == "image" else _texts(config)))


def _noted(items: Iterable[T], seen: set[str]) -> Iterator[T]:
    """The items; the keys of those that can be indexed are added to `seen`."""
    for item in items:
        if isinstance(item, Source | Text):
            seen.add(item.key)
        yield item


def _images(config: PaddleConfig, index: VectorIndex) -> Iterator[Found]:
    paths = _paths(config)
    yield from (Rejected(key_of(path, index.root), "does not exist") for path in paths if not os.path.lexists(path))
    yield from find_files([path for path in paths if os.path.lexists(path)], index.root, but=index.folder)


def _texts(config: PaddleConfig) -> Iterator[Text | Rejected | None]:
    """The texts, each once."""
    modified, seen = _file(config).stat().st_mtime, set[str]()
    for text in _lines(config):
        key = list_key(text) if isinstance(text, str) else ""
        if not isinstance(text, str):
            yield text
        elif key not in seen:
            seen.add(key)
            yield Text(key, text, modified)


def _stored(config: PaddleConfig, index: VectorIndex) -> list[str]:
    """The keys of rows of these texts; or of these images and all below these folders, there or not."""
    if config.reads == "text":
        wanted = {content_of(text) for text in _lines(config) if isinstance(text, str)}
        rows = index.list('type == "text"')
        return [str(row.payload["path"]) for row in rows if row.payload["content"] in wanted]
    tops = [os.path.abspath(path) for path in _paths(config)]  # noqa: PTH100  (as keys are made)
    return [key for key in index.keys('type == "image"') if is_below(str(path_of(key, index.root)), tops)]


def _file(config: PaddleConfig) -> Path:
    """The file that lines are read from."""
    return Path(str((config.builds and config.process.data_file) or config.general.texts))


def _paths(config: PaddleConfig) -> list[Path]:
    if config.process.data_file is None:
        return [Path(str(config.general.infer_imgs))]
    lines = [item.text for item in read_lines(_file(config)) if isinstance(item, Caption)]
    return [config.root / line.partition(config.process.delimiter)[0].strip() for line in lines]


def _lines(config: PaddleConfig) -> Iterator[str | Rejected | None]:
    """The texts of the file, with those that cannot be read."""
    file, delimiter = _file(config), config.process.delimiter
    paired = config.builds and config.process.data_file is not None
    for item in read_lines(file):
        if not isinstance(item, Caption):
            yield Rejected(f"{file}/{item.line}", item.reason) if item.reason else None
        elif text := (item.text.partition(delimiter)[2].strip() if paired else item.text):
            yield text
        else:
            yield Rejected(f"{file}/{item.line}", f"has no text after {delimiter!r}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A query, as it was written, and its hits, best first."""

    query: str
    hits: list[Hit]


def answer(config: PaddleConfig, encoder: Encoder, index: VectorIndex, rejected: list[Rejected]) -> Iterator[Answer]:
    """Search for each query, in order; queries that cannot be read are added to `rejected`."""
    k, least = config.process.return_k, config.process.score_thres
    for query, vector in _queries(config, encoder, rejected):
        yield Answer(query, index.search(vector, k=k, min_score=least, where=f'type == "{config.indexed}"'))


def _queries(
    config: PaddleConfig, encoder: Encoder, rejected: list[Rejected]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if config.reads == "text":
        for group in batched(_lines(config), LOOKUP):
            rejected += [item for item in group if isinstance(item, Rejected)]
            texts = [item for item in group if isinstance(item, str)]
            yield from zip(texts, encoder.encode_texts(texts), strict=True)
        return
    found = find_files([Path(str(config.general.infer_imgs))], Path())
    for batch in encoder.stream(item.path if isinstance(item, Source) else item for item in found):
        rejected += batch.rejected
        yield from zip(batch.keys, batch.vectors, strict=True)
