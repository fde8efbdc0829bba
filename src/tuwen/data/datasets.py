"""One reader for all datasets: folders, tables, Parquet, WebDataset archives, annotation files, lists of texts.

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

from braceexpand import braceexpand

from tuwen.data.annotations import (
    ANNOTATIONS,
    annotations_in,
    is_annotations,
    list_annotations,
    no_split,
    notes_on,
    split_in_name,
)
from tuwen.data.annotations import splits_of as splits_of_annotations
from tuwen.data.files import Skipped, is_folder, key_of
from tuwen.data.folders import list_pairs
from tuwen.data.parquet import PARQUET, RowGroups, list_parquet, splits_in_rows
from tuwen.data.records import UTF8, read_records
from tuwen.data.samples import Columns, Listed, Sample, read_sample, split_of
from tuwen.data.tables import SPLIT, TABLES, TEXTS, list_table, list_texts
from tuwen.data.webdataset import list_tar
from tuwen.errors import InvalidInput
from tuwen.types import Rejected

TAR = frozenset({".tar"})
ENDINGS = TAR | PARQUET | TABLES | TEXTS
"""extensions of files that contain samples and are recognised among other operands"""
_SPLITS = frozenset({"train", "val", "test"})
_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet", "captions.csv", "captions.tsv", "captions.jsonl")
"""tables that describe the images of their folder"""


def expanded(source: Path) -> list[Path]:
    """The files that a source with braces stands for, as in bash and webdataset: `{00000..00999}.tar`, `{a,b}.csv`.

    A source without braces, or that exists as it is written, stands for itself.

    Raises:
        InvalidInput: the braces are not balanced.
    """
    if "{" not in str(source) or source.exists():
        return [source]
    try:
        return [Path(name) for name in braceexpand(str(source), escape=False)]
    except ValueError as error:  # unbalanced braces
        hint = "write e.g. {00000..00999}.tar"
        raise InvalidInput(f"{source} does not exist, and its braces are not balanced: {hint}", value=source) from error


def is_bulk(path: Path) -> bool:
    """Whether a path names many samples: a folder, or a file with one of `ENDINGS`."""
    return is_folder(path) or path.suffix.lower() in ENDINGS


def list_samples(
    sources: Sequence[Path], columns: Columns, *, splits: Sequence[str] = ()
) -> Iterator[Listed | Rejected | Skipped]:
    """All samples of all sources, always in the same order. No two have the same key.

    Keys begin with the path of their file relative to the folder that contains all sources, or to the only source.

    Args:
        sources: folders and files of samples; braces stand for several, see `expanded`.
        columns: of tables and Parquet files; its `root` is also where images of annotation files are looked up.
        splits: such as `train`, `val`, `test`; empty: all.

    Raises:
        InvalidInput: a source does not exist, is not of a known kind, is named twice, is inside another, or has none
            of the splits.
    """
    sources = [path for source in sources for path in expanded(source)]
    places = [Path(os.path.abspath(source)) for source in sources]  # noqa: PTH100  (links keep their names)
    for source, place in zip(sources, places, strict=True):
        _check(source, place, places)
    root = root_of(sources)
    for place in places:
        if place.is_dir():
            yield from _in_folder(place, root, columns, splits)
        else:
            items = _in_file(place, place if len(places) == 1 else root, columns, splits)
            yield from _in_splits(items, place, splits) if splits else items


def splits_of(place: Path) -> list[str]:
    """The splits that a file or a folder of samples has, sorted; empty if it has none."""
    if place.is_dir():
        splits = set(_split_folders(place)) or {split_in_name(path) for path in annotations_in(place)}
        splits |= {split for path in annotations_in(place) for split in splits_of_annotations(path)}
        return sorted(filter(None, splits))
    if place.suffix.lower() in TABLES | TEXTS | ANNOTATIONS and is_annotations(place):
        return splits_of_annotations(place)
    if place.suffix.lower() in PARQUET:
        return splits_in_rows(place)
    if place.suffix.lower() not in TABLES:
        return []
    records = read_records(place, UTF8)  # names of splits are ASCII in all encodings
    first = next((record for record in records if record.fields), None)
    if first is None or SPLIT not in first.fields:
        return []
    found = {split_of(record.fields.get(SPLIT)) for record in (first, *records)}
    return sorted(filter(None, found))


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folders within a folder by the split that they are named after, if all of them are named after one."""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    found = {split_of(path.name): path for path in inner}
    return found if found.keys() <= _SPLITS and len(found) == len(inner) else {}


def root_of(sources: Sequence[Path]) -> Path:
    """The folder that keys are relative to: the only source, if it is a folder; else the one that contains all."""
    places = [Path(os.path.abspath(path)) for source in sources for path in expanded(source)]  # noqa: PTH100
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


def _in_folder(
    place: Path, root: Path, columns: Columns, splits: Sequence[str]
) -> Iterator[Listed | Rejected | Skipped]:
    folders = _split_folders(place) if splits else {"": place}
    wanted = {split: folder for split, folder in folders.items() if not splits or split in map(split_of, splits)}
    if not wanted:
        raise no_split(place, splits, folders)
    for split, folder in wanted.items():
        for found in list_pairs([folder], root):
            for item in _in_file(found, root, columns, ()) if isinstance(found, Path) else (found,):
                yield replace(item, split=split) if split and isinstance(item, Listed) else item


def _in_splits(
    items: Iterable[Listed | Rejected | Skipped], place: Path, splits: Sequence[str]
) -> Iterator[Listed | Rejected | Skipped]:
    """Those of some splits, and what belongs to none."""
    wanted, others, is_empty = set(map(split_of, splits)), set[str](), True
    for item in items:
        if isinstance(item, Listed) and item.split not in wanted:
            others.add(item.split)
            continue
        is_empty = is_empty and not isinstance(item, Listed)
        yield item
    if is_empty and others:
        raise no_split(place, splits, others)


def _in_file(path: Path, root: Path, columns: Columns, splits: Sequence[str]) -> Iterator[Listed | Rejected | Skipped]:
    prefix = "" if path == root else f"{key_of(path, root)}/"
    extension = path.suffix.lower()
    if extension in TAR:
        yield from list_tar(path, prefix)
    elif extension in PARQUET:
        yield from list_parquet(path, prefix, columns)
    elif is_annotations(path):
        for item in list_annotations(path, tuple(splits), columns.root):
            yield item if isinstance(item, Rejected) else replace(item, key=prefix + item.key)
    elif extension in TABLES:
        yield from list_table(path, prefix, columns)
    else:
        yield from list_texts(path, prefix, columns.encoding)


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
        split: `train`, `val`, `test` or another part of the dataset that it is in; "" if unknown.
    """

    key: str
    name: str
    image: bytes
    captions: Mapping[str, tuple[str, ...]]
    labels: tuple[int, ...]
    split: str = ""


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
        notes: what to know about how the dataset is read, for a report.
        samples: the examples as listed.
        columns: what columns are called.
    """

    name: str
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("",)
    missing: tuple[Rejected, ...] = ()
    language: str | None = None
    notes: tuple[str, ...] = ()
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
        return Example(sample.key, sample.name, sample.image, captions, labels, sample.split)

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
        path: a folder of images (with captions beside them, or a folder for each class), of WebDataset archives or of
            Parquet files; a `.csv`, `.tsv`, `.jsonl`, `.parquet` or `.tar` file; an annotation file (Karpathy, COCO,
            Flickr30k, Flickr30k-CN, COCO-CN, Chinese-CLIP, XTD10, Crossmodal-3600: see `annotations.py`), or the
            folder that contains one. Braces stand for several files, e.g. `{00000..00009}.tar`.
        split: `train`, `val` or `test` of a dataset that has splits; None: `test` if there is one, else all.
        language: keep captions in this language only; captions of unknown language count as being in it.
        images: the folder that images are in; None: that of the file.
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
    if found.samples and not found.captioned and not found.labels:
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
        notes=tuple(note for source in found.sources if source.is_file() for note in notes_on(source)),
        samples=samples,
        columns=columns,
    )


class _Found:
    """What is listed of a dataset."""

    def __init__(self, place: Path, columns: Columns, split: str | None) -> None:
        self.samples, self.missing = SampleList(), list[Rejected]()
        self.labels, self.languages = dict[str, None](), dict[str, None]()
        self.captioned = False
        self.sources, splits = _sources(place, split)
        is_plain = self.sources == [place] and place.is_dir()
        if not is_plain and place.is_dir() and columns.root is None:
            columns = replace(columns, root=place)
        for item in list_samples(self.sources, columns, splits=splits):
            if isinstance(item, Rejected):
                self.missing.append(item)
            elif isinstance(item, Listed) and item.pictured:
                self._add(item, columns, may_be_labelled=is_plain)
        if is_plain and not self.captioned and not self.labels:
            self.samples, self.labels = _by_folder(self.samples)

    def _add(self, item: Listed, columns: Columns, *, may_be_labelled: bool) -> None:
        captioned = item.captioned or (item.facts is not None and bool(columns.of_texts))
        self.captioned = self.captioned or captioned
        self.labels |= dict.fromkeys(item.labels)
        self.languages |= dict.fromkeys(item.languages)
        if item.image is not None and item.image.size < 0:
            self.missing.append(Rejected(item.key, "the image file is missing"))
        elif not captioned and not item.labels and not may_be_labelled:
            self.missing.append(Rejected(item.key, "has neither a caption nor a label"))
        else:
            self.samples.append(item)


def _sources(place: Path, split: str | None) -> tuple[list[Path], tuple[str, ...]]:
    """The files and folders to list for a dataset, and the splits to list of them.

    Raises:
        InvalidInput: the dataset does not exist or has no such split, or several annotation files could be meant.
    """
    if len(expanded(place)) > 1:
        return expanded(place), () if split is None else (split,)
    if not place.is_dir():
        splits = splits_of(place) if place.is_file() else []
        return [place], (split,) if split is not None else ("test",) if "test" in splits else ()
    if folders := _split_folders(place):
        return [place], (split,) if split is not None else ("test",) if "test" in folders else tuple(folders)
    files = annotations_in(place) or [place / name for name in _TABLES if (place / name).is_file()][:1]
    if len(files) < 2:
        return _sources(files[0], split) if files else ([place], () if split is None else (split,))
    named = {split_in_name(file): file for file in files}
    wanted = split_of(split) if split is not None else "test" if "test" in named else None
    if wanted is not None and wanted not in named:
        raise no_split(place, [wanted], named)
    return [named[wanted]] if wanted is not None else files, ()


def _by_folder(samples: SampleList) -> tuple[SampleList, dict[str, None]]:
    """Samples labelled by the folder that they are in, where each is in one."""
    keys = [item.key.split("/")[bool(item.split) :] for item in samples]  # without the folder of the split
    labels = [parts[0] if len(parts) > 1 else "" for parts in keys]
    if not all(labels) or not labels:
        return samples, {}
    labelled = (replace(item, labels=(label,)) for item, label in zip(samples, labels, strict=True))
    return SampleList(labelled), dict.fromkeys(sorted(labels))


def _classes(labels: Iterable[str], folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names of classes; and what numbers are called, where `classnames.txt` of CLIP_benchmark says it."""
    found = tuple(labels)
    names = _lines("classnames.txt", folder)
    if not names or not found or not all(label.isdecimal() and int(label) < len(names) for label in found):
        numeric = all(label.isdecimal() for label in found)
        return tuple(sorted(found, key=int) if numeric else found), {}
    return tuple(names), {label: names[int(label)] for label in found}


def _templates(folder: Path) -> tuple[str, ...]:
    """The prompt templates of a CLIP_benchmark dataset, with `_` for the class."""
    return tuple(line.replace("{c}", "_") for line in _lines("zeroshot_classification_templates.txt", folder))


def _lines(name: str, folder: Path) -> list[str]:
    """The lines of a file in the folder of a dataset, or in the one above if that of a split was named."""
    path = next((place for place in (folder / name, folder.parent / name) if place.is_file()), None)
    lines = [] if path is None else path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]
