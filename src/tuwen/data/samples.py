"""A sample: an image with its captions and class labels, listed first and read later.

    list_samples(...) -> Listed        where everything is: small, stored as one line of JSON
    read_sample(Listed) -> Sample      the bytes and the texts, in any process that sees the same files

Each format lists its samples in a module of its own; `datasets.py` chooses among them.
"""

import json
import math
import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tuwen.data.files import open_file
from tuwen.types import Rejected

Fact: TypeAlias = str | int | float | bool | None
"""A value stored beside an image. Nested values are flattened, see `facts_of`."""
_SPLITS = {"restval": "train", "training": "train", "valid": "val", "validation": "val", "dev": "val"}
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
"""the URL-safe alphabet of base64 to the usual one"""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table, or fields of a JSON file beside an image, hold what; None: the usual names are tried.

    Attributes:
        key: what identifies a sample.
        image: image files' paths or contents.
        caption: captions.
        root: the folder that image paths are relative to; None: the table's own folder.
        captions: language -> column of captions, in place of `caption`.
        language: the column with the language of a row's captions.
        label: the column with a row's class labels.
        encoding: of tables, files of texts and captions beside images, e.g. `gb18030`; None: UTF-8.
    """

    key: str | None = None
    image: str | None = None
    caption: str | None = None
    root: Path | None = None
    captions: Mapping[str, str] = field(default_factory=dict)
    language: str | None = None
    label: str | None = None
    encoding: str | None = None

    @property
    def of_texts(self) -> set[str]:
        """The columns that captions are read from."""
        return set(self.captions.values()) or ({self.caption} if self.caption else set())


@dataclass(frozen=True, slots=True)
class Span:
    """A range of bytes in a file.

    Attributes:
        path: the file; bytes of its name that are not UTF-8 are surrogate escapes.
        start: offset of the first byte.
        size: number of bytes; -1 if the file could not be examined.
        modified: the file's modification time, in nanoseconds since the epoch.
        base64: whether the bytes are an image's content in base64, with either alphabet.
    """

    path: str
    start: int
    size: int
    modified: int
    base64: bool = False

    def read(self) -> bytes:
        """The bytes, decoded where they are base64.

        Raises:
            OSError: they cannot be read or decoded, or the file has changed since it was listed.
        """
        with open_file(Path(self.path)) as file:
            file.seek(self.start)
            content = file.read(self.size) if self.size >= 0 else file.read()
        if 0 <= self.size != len(content):
            raise OSError(f"the file has changed: {len(content)} bytes instead of the {self.size} that were listed")
        return _from_base64(content) if self.base64 else content


def _from_base64(content: bytes) -> bytes:
    try:
        return b64decode(content.translate(_URL_SAFE) + b"=" * (-len(content) % 4), validate=True)
    except ValueError as error:
        raise OSError(f"it is not valid base64: {error}") from error


def seconds_of(nanoseconds: int) -> float:
    """A time in seconds, to the last bit as `os.stat` computes `st_mtime`: by such times files count as unchanged."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return seconds + 1e-9 * rest


@dataclass(frozen=True, slots=True)
class RowOf:
    """A row of a Parquet file, counted from 0, and the columns to read; see `parquet.py` and `Columns`."""

    path: str
    row: int
    modified: int
    image: str | None
    caption: str | None
    captions: Mapping[str, str] = field(default_factory=dict)
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A sample that has been found but not read.

    Attributes:
        key: unique within the sources that are listed together.
        name: the image's name with its extension; empty if there is no image.
        place: what other tools call the image: its path, or its key within an archive.
        image: where the image is.
        caption: the file that contains the captions, if they have one.
        facts: the JSON file with further fields, if there is one.
        captions: captions that are already known.
        extra: further fields that are already known.
        row: the row of a Parquet file that contains all of this.
        languages: one for each of `captions`; empty if unknown.
        labels: names of the classes that the image belongs to.
        split: the part of the dataset that it is in, as `split_of` writes it; empty if unknown.
    """

    key: str
    name: str = ""
    place: str = ""
    image: Span | None = None
    caption: Span | None = None
    facts: Span | None = None
    captions: tuple[str, ...] = ()
    extra: Mapping[str, Fact] = field(default_factory=dict)
    row: RowOf | None = None
    languages: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    split: str = ""

    @property
    def pictured(self) -> bool:
        """Whether the sample has an image."""
        return self.image is not None or (self.row is not None and self.row.image is not None)

    @property
    def captioned(self) -> bool:
        """Whether the sample has a caption, or a place where one is expected."""
        in_row = self.row is not None and bool(self.row.caption or self.row.captions)
        return bool(self.captions) or self.caption is not None or in_row

    def line(self) -> str:
        """The sample as one line of JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        given = {name: value for name, value in values.items() if name == "key" or value not in (None, "", (), {})}
        return json.dumps(given, separators=(",", ":"), default=asdict)

    @classmethod
    def of_line(cls, line: str) -> "Listed":
        """The sample that `line` was made of."""
        values: dict[str, Any] = json.loads(line)
        for name in ("image", "caption", "facts"):
            if name in values:
                values[name] = Span(**values[name])
        if "row" in values:
            values["row"] = RowOf(**values["row"])
        for name in ("captions", "languages", "labels"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample that has been read.

    Attributes:
        key: see `Listed`.
        name: see `Listed`.
        place: see `Listed`.
        image: the content of the image file; None if there is none.
        captions: its texts, without surrounding white space; none is empty.
        extra: further fields.
        modified: modification time of the file that contains the image, in seconds since the epoch.
        filed: whether `place` is a file that contains this image alone.
        languages: see `Listed`.
        labels: see `Listed`.
        split: see `Listed`.
    """

    key: str
    name: str
    place: str
    image: bytes | None
    captions: tuple[str, ...]
    extra: Mapping[str, Fact]
    modified: float
    filed: bool = False
    languages: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    split: str = ""

    def by_language(self, default: str = "") -> dict[str, tuple[str, ...]]:
        """The captions grouped by language; `default` is the language of those whose own is unknown."""
        found: dict[str, tuple[str, ...]] = {}
        for text, language in zip(self.captions, self.languages or [default] * len(self.captions), strict=True):
            found[language] = (*found.get(language, ()), text)
        return found


def read_sample(listed: Listed, columns: Columns = Columns(), *, lines: bool = False) -> Sample | Rejected:
    """Read a listed sample, other than a row of a Parquet file (see `parquet.py`).

    Args:
        listed: the sample.
        columns: the fields of a JSON file beside the image that hold captions and their language.
        lines: whether each line of a caption file is a caption; otherwise the whole file is one.
    """
    name = listed.name or listed.key
    try:
        image = None if listed.image is None else listed.image.read()
        text = None if listed.caption is None else listed.caption.read().decode(columns.encoding or "utf-8-sig")
        fields = None if listed.facts is None else flat(json.loads(listed.facts.read()))
        captions, languages = listed.captions, listed.languages
        if fields is not None and columns.of_texts:
            captions, languages = captions_in(fields, columns)
        elif text is not None:
            captions = texts_of(text.splitlines() if lines else text)
            languages = _languages(len(captions), fields or {}, columns)
        extra = listed.extra if fields is None else facts_of(fields)
    except OSError as error:
        return Rejected(name, f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        return Rejected(name, f"its caption or JSON file is not {columns.encoding or 'UTF-8'} (byte {error.start})")
    except (ValueError, RecursionError) as error:
        return Rejected(name, f"its caption or JSON file cannot be used: {error}")
    modified = 0.0 if listed.image is None else seconds_of(listed.image.modified)
    return Sample(
        listed.key,
        listed.name,
        listed.place,
        image,
        captions,
        extra,
        modified,
        filed=listed.image is not None and listed.image.path == listed.place,
        languages=languages,
        labels=listed.labels,
        split=listed.split,
    )


def texts_of(value: object) -> tuple[str, ...]:
    """The texts in a field: one, or those of a list. Missing values (null, NaN, blank) are left out.

    Raises:
        ValueError: a value is not a text, or is not UTF-8.
    """
    if is_missing(value):
        return ()
    if isinstance(value, list | tuple):
        return tuple(text for item in value for text in texts_of(item))
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"the caption is not UTF-8 (byte {error.start})") from error
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not a text")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("the caption is not UTF-8")
    return (value.strip(),) if value.strip() else ()


def is_missing(value: object) -> bool:
    """Whether a field has no value: null, NaN or an empty text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def captions_in(fields: Mapping[str, object], columns: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The captions in a record's fields, and the language of each where the columns tell it.

    Raises:
        ValueError: a caption is not a text, or the numbers of captions and of languages differ.
    """
    if columns.captions:
        pairs = [
            (language, text) for language, column in columns.captions.items() for text in texts_of(fields.get(column))
        ]
        return tuple(text for _, text in pairs), tuple(language for language, _ in pairs)
    if columns.language is None or columns.caption is None:
        return (texts_of(fields.get(columns.caption)) if columns.caption else ()), ()
    value = fields.get(columns.caption)
    texts = value if isinstance(value, list) else [value]
    spoken = texts_of(fields.get(columns.language))
    if len(spoken) > 1 and len(spoken) == len(texts):  # a missing caption takes its language with it
        pairs = [(language, text) for language, each in zip(spoken, texts, strict=True) for text in texts_of(each)]
        return tuple(text for _, text in pairs), tuple(language for language, _ in pairs)
    found = texts_of(value)
    return found, _languages(len(found), fields, columns)


def _languages(count: int, fields: Mapping[str, object], columns: Columns) -> tuple[str, ...]:
    """The languages of `count` captions: one for all of them, or one for each."""
    if columns.language is None:
        return ()
    spoken = texts_of(fields.get(columns.language)) or ("",)
    if len(spoken) not in (1, count) and count:
        raise ValueError(f"there are {count} captions but {len(spoken)} languages in {columns.language}")
    return spoken * count if len(spoken) == 1 else spoken[:count]


def labels_in(fields: Mapping[str, object], columns: Columns) -> tuple[str, ...]:
    """The class labels in a record's fields; numbers are written out."""
    value = fields.get(columns.label) if columns.label else None
    several = value if isinstance(value, list) else [value]
    return tuple(str(label) for label in several if not is_missing(label))


def flat(document: object) -> dict[str, object]:
    """A JSON object with nested objects flattened: `{"a": {"b": 1}}` becomes `{"a.b": 1}`.

    Raises:
        ValueError: the document is not a JSON object.
    """
    if not isinstance(document, Mapping):
        raise ValueError("it is not a JSON object")
    return dict(_flattened(document))


def _flattened(document: Mapping[Any, object]) -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", each) for inner, each in _flattened(value))
        else:
            yield str(name), value


def facts_of(document: object) -> dict[str, Fact]:
    """A JSON object as facts: flattened, with lists written as JSON.

    Raises:
        ValueError: the document is not a JSON object.
    """
    return {
        name: value
        if value is None or isinstance(value, str | int | float | bool)
        else json.dumps(value, ensure_ascii=False, default=str)
        for name, value in flat(document).items()
    }


def split_of(name: object) -> str:
    """A split by its usual name: `restval` is `train`; `valid`, `validation` and `dev` are `val`."""
    split = "" if is_missing(name) else str(name).strip().lower()
    return _SPLITS.get(split, split)


def span_of(path: Path) -> Span:
    """The whole of a file. If it cannot be examined, reading the span tells why."""
    try:
        state = path.stat()
    except OSError:
        return Span(os.fspath(path), 0, -1, 0)
    return Span(os.fspath(path), 0, state.st_size, state.st_mtime_ns)
