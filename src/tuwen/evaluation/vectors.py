"""A dataset's images and captions as vectors: computed once, kept in files, read back memory-mapped.

    FOLDER/FINGERPRINT-RUNTIME-PRECISION/images-DIGEST.npy     (n, dim) float32, a row for each readable image
                                         images-DIGEST.jsonl   the images: place, key, captions, labels; the rejected
                                         texts-DIGEST.npy      (m, dim) float32

A file is written aside and renamed when it is complete. The digest covers what was encoded: the files of the dataset
with their sizes and times, or the texts themselves.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuwen.data.datasets import Dataset
from tuwen.errors import InvalidInput
from tuwen.runtime.encoder import Encoder
from tuwen.types import Rejected, Vectors

OnProgress = Callable[[str, int, int], None]
"""called with what is done (`images` and `texts` are encoded, `ranks` counted), how many so far, and of how many"""

_TEXTS = 1024


@dataclass(frozen=True, eq=False)
class Encoded:
    """The images of a dataset that could be read, with their vectors.

    Attributes:
        dataset: the dataset.
        vectors: (n, dim) unit rows.
        places: (n,) the number of each image in the dataset.
        keys: n keys.
        files: n names of image files, with their extensions; empty where an image has none.
        captions: of each image, by language.
        labels: of each image, places in `dataset.classes`.
        rejected: images that are missing, or cannot be read.
    """

    dataset: Dataset
    vectors: Vectors
    places: NDArray[np.int64]
    keys: tuple[str, ...]
    files: tuple[str, ...] = field(repr=False)
    captions: Sequence[Mapping[str, tuple[str, ...]]] = field(repr=False)
    labels: Sequence[tuple[int, ...]] = field(repr=False)
    rejected: tuple[Rejected, ...]

    @property
    def total(self) -> int:
        """How many images the dataset names, the missing ones included."""
        return len(self.keys) + len(self.rejected)

    def languages(self) -> list[str]:
        """The languages of the captions, sorted."""
        return sorted({language for captions in self.captions for language in captions})

    def rows(self, chosen: NDArray[np.int64]) -> Vectors:
        """The vectors of some images; all of them stay memory-mapped."""
        return self.vectors if len(chosen) == len(self.vectors) else self.vectors[chosen]


class _Place(NamedTuple):
    """Where an image is in its dataset. As text: its key, which a rejected image is listed by."""

    number: int
    key: str

    def __str__(self) -> str:
        return self.key


class VectorFolder(AbstractContextManager["VectorFolder"]):
    """Vectors of one model in a folder, or in a temporary one that is removed when this is closed."""

    def __init__(self, encoder: Encoder, folder: Path | None = None, *, on_progress: OnProgress | None = None) -> None:
        """Choose the folder.

        Args:
            encoder: the model.
            folder: where vectors are kept and found again; None: nowhere.
            on_progress: see `OnProgress`.
        """
        self.encoder = encoder
        self._temporary = (
            tempfile.TemporaryDirectory(prefix="tuwen-vectors-", ignore_cleanup_errors=True) if folder is None else None
        )
        parent = Path(self._temporary.name) if self._temporary else Path(folder or "")
        exact = "" if encoder.reading.srgb else "-exact"
        self.folder = parent / f"{encoder.fingerprint}-{encoder.runtime}-{encoder.precision}{exact}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.on_progress = on_progress or (lambda _what, _done, _total: None)

    def close(self) -> None:
        """Remove what is temporary."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def __exit__(self, *_: object) -> None:
        self.close()

    def images(self, dataset: Dataset) -> Encoded:
        """Encode a dataset's images, unless their vectors are here.

        Raises:
            InvalidInput: no image can be read.
        """
        facts = self.folder / f"images-{_digest(identity(dataset))}.jsonl"
        if not facts.exists():
            self._encode_images(dataset, facts)
        lines = [json.loads(line) for line in facts.read_text(encoding="utf-8").split("\n") if line]
        head, found = lines[0], lines[1:]
        rejected = tuple(Rejected(*item) for item in head["rejected"])
        if not found:
            hint = f"the first: {rejected[0].path}: {rejected[0].reason}" if rejected else "it has none"
            raise InvalidInput(
                f"none of the images of {dataset.name} can be read; {hint}", value=dataset.name, hint=hint
            )
        vectors = np.load(facts.with_suffix(".npy"), mmap_mode="r")[: len(found)]
        return Encoded(
            dataset=dataset,
            vectors=vectors,
            places=np.array([line["place"] for line in found], dtype=np.int64),
            keys=tuple(line["key"] for line in found),
            files=tuple(line["file"] for line in found),
            captions=[{name: tuple(texts) for name, texts in line["captions"].items()} for line in found],
            labels=[tuple(line["labels"]) for line in found],
            rejected=rejected,
        )

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts, unless their vectors are here. (m, dim) unit rows."""
        file = self.folder / f"texts-{_digest(texts)}.npy"
        if not file.exists():
            with _new(file, len(texts), self.encoder.dim) as vectors:
                for first in range(0, len(texts), _TEXTS):
                    part = texts[first : first + _TEXTS]
                    vectors[first : first + len(part)] = self.encoder.encode_texts(part)
                    self.on_progress("texts", first + len(part), len(texts))
        return np.asarray(np.load(file, mmap_mode="r")[: len(texts)])

    def _encode_images(self, dataset: Dataset, facts: Path) -> None:
        known: dict[int, dict[str, Any]] = {}

        def items() -> Iterator[tuple[_Place, bytes] | Rejected]:
            for number in range(len(dataset)):
                example = dataset[number]
                if isinstance(example, Rejected):
                    yield example
                    continue
                known[number] = {
                    "file": example.name,
                    "captions": example.captions,
                    "labels": example.labels,
                }
                yield _Place(number, example.key), example.image

        lines, rejected = list[str](), list(dataset.missing)
        with _new(facts.with_suffix(".npy"), len(dataset), self.encoder.dim) as vectors:
            for batch in self.encoder.stream(items()):  # type: ignore[arg-type]  # pairs and rejected ones
                vectors[len(lines) : len(lines) + len(batch.keys)] = batch.vectors
                rejected += batch.rejected
                for place in batch.keys:
                    line = {"place": place.number, "key": place.key} | known.pop(place.number)
                    lines.append(json.dumps(line, ensure_ascii=True))
                self.on_progress("images", len(lines) + len(rejected) - len(dataset.missing), len(dataset))
        head = json.dumps({"rejected": [(item.path, item.reason) for item in rejected]})
        text = facts.with_suffix(".jsonl.part")
        text.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
        text.replace(facts)


@contextmanager
def _new(file: Path, rows: int, dim: int) -> Iterator["np.memmap[Any, np.dtype[np.float32]]"]:
    """A `.npy` file of so many rows, at least one: an empty file cannot be mapped. It is there once it is complete."""
    aside = file.with_suffix(".part")
    try:
        vectors = np.lib.format.open_memmap(aside, mode="w+", dtype=np.float32, shape=(max(rows, 1), dim))
        yield vectors
        vectors.flush()
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def identity(dataset: Dataset) -> Iterator[str]:
    """What the vectors of a dataset depend on, as lines: its examples, with the sizes and times of their files."""
    yield json.dumps([dataset.language, dataset.classes, [item.path for item in dataset.missing]])
    for number in range(len(dataset)):
        yield dataset.samples[number].line()


def _digest(lines: Sequence[str] | Iterator[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(json.dumps(line).encode("ascii") + b"\n")
    return digest.hexdigest()[:16]
