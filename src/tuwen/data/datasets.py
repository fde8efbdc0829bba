"""One reader for all datasets: folders, tables, Parquet, webdataset archives, annotation files, lists of texts.

list_samples(sources)   what a person names -> samples, listed in an order that only depends on what is there
SampleReader            reads any listed sample, in any order and from several threads
open_dataset(path)      a dataset to evaluate on: images with captions by language, or with class labels
"""

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import overload

from tuwen.data.annotations import list_annotations, splits_of
from tuwen.data.files import Skipped, is_folder, key_of
from tuwen.data.folders import list_pairs
from tuwen.data.parquet import PARQUET, RowGroups, list_parquet
from tuwen.data.samples import Columns, Listed, Sample, read_sample
from tuwen.data.tables import TABLES, TEXTS, list_table, list_texts
from tuwen.data.webdataset import list_tar
from tuwen.errors import InvalidInput
from tuwen.types import Rejected

TAR = frozenset({".tar"})
ANNOTATIONS = frozenset({".json"})
ENDINGS = TAR | PARQUET | TABLES | TEXTS
"""extensions of files that contain samples and are recognised among other operands"""


def is_bulk(path: Path) -> bool:
    """Whether a path names many samples: a folder, or a file with one of `ENDINGS`."""
    return is_folder(path) or path.suffix.lower() in ENDINGS


def list_samples(
    sources: Sequence[Path], columns: Columns, *, splits: Sequence[str] = ()
) -> Iterator[Listed | Rejected | Skipped]:
    """All samples of all sources, always in the same order. No two have the same key.

    Keys begin with the path of their file relative to the folder that contains all sources, or to the only source.

    Args:
        sources: folders and files of samples.
        columns: of tables and Parquet files.
        splits: of annotation files that have them; empty: all.

    Raises:
        InvalidInput: a source does not exist, is not of a known kind, is named twice, or is inside another.
    """
    places = [Path(os.path.abspath(source)) for source in sources]  # noqa: PTH100  (links keep their names)
    for source, place in zip(sources, places, strict=True):
        _check(source, place, places)
    root = root_of(sources)
    for place in places:
        if not place.is_dir():
            yield from _in_file(place, place if len(places) == 1 else root, columns, splits)
            continue
        for found in list_pairs([place], root):
            if isinstance(found, Path):
                yield from _in_file(found, root, columns, splits)
            else:
                yield found


def root_of(sources: Sequence[Path]) -> Path:
    """The folder that keys are relative to: the only source, if it is a folder; else the one that contains all."""
    places = [Path(os.path.abspath(source)) for source in sources]  # noqa: PTH100
    if len(places) == 1 and places[0].is_dir():
        return places[0]
    return Path(os.path.commonpath([place.parent for place in places]))


def _check(source: Path, place: Path, places: Sequence[Path]) -> None:
    if not place.exists():
        raise InvalidInput(f"{source} does not exist", value=source, hint="name a folder or a file of samples")
    known = ENDINGS | ANNOTATIONS
    if not is_folder(place) and place.suffix.lower() not in known:
        hint = f"name a folder, or a file with one of the extensions {' '.join(sorted(known))}"
        raise InvalidInput(f"{source} is not a dataset that can be read: {hint}", value=source, hint=hint)
    if places.count(place) > 1 or any(parent in places for parent in place.parents):
        raise InvalidInput(f"{source} is named twice, or is inside another source: name it once", value=source)


def _in_file(path: Path, root: Path, columns: Columns, splits: Sequence[str]) -> Iterator[Listed | Rejected | Skipped]:
    prefix = "" if path == root else f"{key_of(path, root)}/"
    extension = path.suffix.lower()
    if extension in TAR:
        yield from list_tar(path, prefix)
    elif extension in PARQUET:
        yield from list_parquet(path, prefix, columns)
    elif extension in TABLES:
        yield from list_table(path, prefix, columns)
    elif extension in ANNOTATIONS:
        for item in list_annotations(path, tuple(splits), columns.root):
            yield item if isinstance(item, Rejected) else replace(item, key=prefix + item.key)
    else:
        yield from list_texts(path, prefix)


class SampleList(Sequence[Listed]):
    """Listed samples by number. They are kept in a temporary file: memory holds 8 bytes for each. Thread-safe."""

    def __init__(self, samples: Iterable[Listed] = ()) -> None:
        self._ends = array("q", [0])
        self._file, self._lock = tempfile.TemporaryFile(prefix="tuwen-samples-"), Lock()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        for sample in samples:
            self.append(sample)

    def append(self, sample: Listed) -> None:
        """Add a sample at the end."""
        line = sample.line().encode("utf-8", "surrogatepass")
        with self._lock:
            self._file.seek(self._ends[-1])
            self._file.write(line)
        self._ends.append(self._ends[-1] + len(line))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> Listed: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Listed]: ...
    def __getitem__(self, number: int | slice) -> Listed | Sequence[Listed]:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        place = number + len(self) if number < 0 else number
        if not 0 <= place < len(self):
            raise IndexError(number)
        with self._lock:
            self._file.seek(self._ends[place])
            line = self._file.read(self._ends[place + 1] - self._ends[place])
        return Listed.of_line(line.decode("utf-8", "surrogatepass"))


class SampleReader:
    """Reads listed samples in any order. May be used by many threads at once.

    Of text files beside images, each line is a caption.
    """

    def __init__(self) -> None:
        self._rows = RowGroups()

    def read(self, listed: Listed, columns: Columns = Columns()) -> Sample | Rejected:  # noqa: B008  (frozen)
        """A sample's image and captions, or why they cannot be read; `columns`: of JSON files beside images."""
        item = listed if listed.row is None else self._rows.read(listed, listed.row)
        return read_sample(item, columns, lines=True) if isinstance(item, Listed) else item


@dataclass(frozen=True, slots=True)
class Example:
    """An image to evaluate on, with its captions or its classes.

    Attributes:
        key: identifies it within the dataset.
        name: of the image file, with its extension.
        image: the content of the image file.
        captions: language -> captions; "" is the language of captions whose own is unknown.
        labels: the places of its classes in `Dataset.classes`; more than one in a multi-label dataset.
    """

    key: str
    name: str
    image: bytes
    captions: Mapping[str, tuple[str, ...]]
    labels: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset(Sequence["Example | Rejected"]):
    """Images with captions by language or with class labels, listed and read when asked for. Thread-safe.

    `dataset[i]` reads an example, or tells why it cannot be read. Of the `len(dataset) + len(dataset.missing)`
    examples that the files name, `len(dataset)` were found.

    Attributes:
        name: of the file or folder.
        classes: the names of the classes, in the order of the numbers in `Example.labels`; empty without labels.
        templates: prompt templates that came with the dataset; `_` stands for the class.
        languages: the languages of captions that are known before reading; "" stands for unknown.
        missing: examples without an image file, or without a caption or label, each with the reason.
        language: the language of captions that the dataset is restricted to; None: all.
        samples: the examples as listed.
        columns: what columns are called.
    """

    name: str
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("",)
    missing: tuple[Rejected, ...] = ()
    language: str | None = None
    samples: SampleList = field(repr=False)
    columns: Columns = field(default_factory=Columns, repr=False)
    _reader: SampleReader = field(default_factory=SampleReader, repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, number: int) -> Example | Rejected: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Example | Rejected]: ...
    def __getitem__(self, number: int | slice) -> Example | Rejected | Sequence[Example | Rejected]:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        sample = self._reader.read(self.samples[number], self.columns)
        if isinstance(sample, Rejected):
            return sample
        if sample.image is None:
            return Rejected(sample.key, "has no image")
        captions = sample.by_language(self.language or "")
        if self.language is not None:
            captions = {name: texts for name, texts in captions.items() if name == self.language}
        if not captions and not self.classes:
            return Rejected(sample.key, f"has no caption in {self.language}" if self.language else "has no caption")
        labels = tuple(self._numbers[label] for label in sample.labels if label in self._numbers)
        return Example(sample.key, sample.name, sample.image, captions, labels)

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {label: place for place, label in enumerate(self.classes)}


def open_dataset(
    path: Path | str,
    *,
    split: str | None = None,
    language: str | None = None,
    images: Path | str | None = None,
    columns: Columns | None = None,
) -> Dataset:
    """Open a dataset as it is found on disk.

    Args:
        path: a folder of images (with captions beside them, or a folder for each class), of webdataset archives or of
            Parquet files; or a file: `.csv`, `.tsv`, `.jsonl`, `.parquet`, `.tar`, or an annotation file (`.json`).
        split: of annotation files that have several; None: `test` if there is one, else all.
        language: keep captions in this language only; captions of unknown language count as being in it.
        images: the folder that image paths are relative to; None: that of the file.
        columns: what columns are called where not by their usual names.

    Raises:
        InvalidInput: there is no such dataset, split or language, or it has neither captions nor labels.
        MissingExtra: a package that reads this format is not installed.
    """
    place = Path(path)
    columns = columns or Columns()
    columns = replace(columns, root=Path(images)) if images is not None else columns
    found = _Found(place, columns, split)
    if not found.samples and not found.missing:
        raise InvalidInput(f"{path} has no images", value=path)
    if not found.captioned and not found.labels:
        hint = "put captions beside the images, or images into a folder for each class"
        raise InvalidInput(f"{path} has neither captions nor class labels: {hint}", value=path, hint=hint)
    if language is not None and found.languages and language not in found.languages:
        hint = f"its languages are {', '.join(found.languages)}"
        raise InvalidInput(f"{path} has no captions in {language}; {hint}", value=language, where=path, hint=hint)
    folder = place if place.is_dir() else place.parent
    classes, renamed = _classes(found.labels, folder)
    samples = found.samples
    if renamed:
        samples = SampleList(replace(item, labels=tuple(renamed[label] for label in item.labels)) for item in samples)
    return Dataset(
        name=place.resolve().name,
        classes=classes,
        templates=_templates(folder),
        languages=tuple(found.languages) or ("",),
        missing=tuple(found.missing),
        language=language,
        samples=samples,
        columns=columns,
    )


class _Found:
    """What is listed of a dataset."""

    def __init__(self, place: Path, columns: Columns, split: str | None) -> None:
        self.samples, self.missing = SampleList(), list[Rejected]()
        self.labels, self.languages = dict[str, None](), dict[str, None]()
        self.captioned = False
        if split is None and place.suffix.lower() in ANNOTATIONS and "test" in splits_of(place):
            split = "test"
        for item in list_samples([place], columns, splits=() if split is None else (split,)):
            if isinstance(item, Rejected):
                self.missing.append(item)
            elif isinstance(item, Listed) and item.pictured:
                self._add(item, columns)
        if place.is_dir() and not self.captioned and not self.labels:
            self.samples, self.labels = _by_folder(self.samples)

    def _add(self, item: Listed, columns: Columns) -> None:
        self.captioned = self.captioned or item.captioned or (item.facts is not None and bool(columns.of_texts))
        self.labels |= dict.fromkeys(item.labels)
        self.languages |= dict.fromkeys(item.languages)
        if item.image is not None and item.image.size < 0:
            self.missing.append(Rejected(item.key, "the image file is missing"))
        else:
            self.samples.append(item)


def _by_folder(samples: SampleList) -> tuple[SampleList, dict[str, None]]:
    """Samples labelled by the folder that they are in, where each is in one."""
    labels = [item.key.partition("/")[0] if "/" in item.key else "" for item in samples]
    if not all(labels) or not labels:
        return samples, {}
    labelled = (replace(item, labels=(label,)) for item, label in zip(samples, labels, strict=True))
    return SampleList(labelled), dict.fromkeys(sorted(labels))


def _classes(labels: Iterable[str], folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names of classes; and what numbers are called, where `classnames.txt` of CLIP_benchmark says it."""
    found = tuple(labels)
    names = _lines(folder / "classnames.txt")
    if not names or not found or not all(label.isdecimal() and int(label) < len(names) for label in found):
        numeric = all(label.isdecimal() for label in found)
        return tuple(sorted(found, key=int) if numeric else found), {}
    return tuple(names), {label: names[int(label)] for label in found}


def _templates(folder: Path) -> tuple[str, ...]:
    """The prompt templates of a CLIP_benchmark dataset, with `_` for the class."""
    return tuple(line.replace("{c}", "_") for line in _lines(folder / "zeroshot_classification_templates.txt"))


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
