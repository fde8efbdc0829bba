"""A sample: a picture, its captions, and what else is known of it; listed first, read later.

    list_samples(...) -> Listed        where everything is: small, and written down as one line of JSON
    read_sample(Listed) -> Sample      the bytes and the texts themselves, in any process that sees the same files

Knows files and spans of files. Does not know folders, archives or tables (each lists samples in a file of its own),
nor what a picture looks like.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tuwen.data.files import open_file
from tuwen.types import Rejected

Fact: TypeAlias = str | int | float | bool | None
"""What stands in a column beside a picture. What is nested is flattened, see `facts_of`."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file.

    Attributes:
        path: the file; a name that is not UTF-8 has Python's stray surrogates.
        start: where they begin.
        size: how many there are; -1 where the file could not be looked at.
        modified: of the file, nanoseconds since the epoch.
    """

    path: str
    start: int
    size: int
    modified: int

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: they cannot be read, or the file is another than when it was listed.
        """
        with open_file(Path(self.path)) as file:
            file.seek(self.start)
            content = file.read(self.size) if self.size >= 0 else file.read()
        if 0 <= self.size != len(content):
            raise OSError(f"has {len(content)} bytes where {self.size} were listed: it has changed meanwhile")
        return content


@dataclass(frozen=True, slots=True)
class RowOf:
    """A row of a Parquet file, counted from 0, with the columns that matter; see `parquet.py`."""

    path: str
    row: int
    modified: int
    image: str | None
    caption: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A sample that has been found, not read.

    Attributes:
        key: what joins its parts; no other sample of the same sources has it.
        name: what the picture is called, with its ending; empty where there is none.
        place: what other tools call the picture: a file's path, or the key within an archive.
        image: where the picture is.
        caption: the file that is the caption, if it is one.
        facts: the JSON file with more about it, if there is one.
        captions: those that are known already.
        extra: more columns that are known already.
        row: the row that all of this is in, if it is in a Parquet file.
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

    @property
    def pictured(self) -> bool:
        """Whether a picture belongs to it."""
        return self.image is not None or (self.row is not None and self.row.image is not None)

    @property
    def captioned(self) -> bool:
        """Whether a caption belongs to it, be it empty."""
        return bool(self.captions) or self.caption is not None or (self.row is not None and bool(self.row.caption))

    def line(self) -> str:
        """As one line of JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        said = {name: value for name, value in values.items() if name == "key" or value not in (None, "", (), {})}
        return json.dumps(said, separators=(",", ":"), default=asdict)

    @classmethod
    def of_line(cls, line: str) -> "Listed":
        """The inverse of `line`."""
        values: dict[str, Any] = json.loads(line)
        for name in ("image", "caption", "facts"):
            if name in values:
                values[name] = Span(**values[name])
        if "row" in values:
            values["row"] = RowOf(**values["row"])
        return cls(**{**values, "captions": tuple(values.get("captions", ()))})


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample that has been read.

    Attributes:
        key: see `Listed`.
        name: see `Listed`.
        place: see `Listed`.
        image: the picture's file as bytes; None where there is none.
        captions: its texts, of which one may be empty.
        extra: more columns.
        modified: of the file that the picture is in, seconds since the epoch.
        filed: whether `place` is a file, and the picture all that is in it.
    """

    key: str
    name: str
    place: str
    image: bytes | None
    captions: tuple[str, ...]
    extra: Mapping[str, Fact]
    modified: float
    filed: bool = False


def read_sample(listed: Listed) -> Sample | Rejected:
    """Read what has been listed, unless it is a row of a Parquet file: those are read one after the other."""
    try:
        image = None if listed.image is None else listed.image.read()
        caption = None if listed.caption is None else listed.caption.read()
        facts = None if listed.facts is None else listed.facts.read()
        captions = listed.captions if caption is None else (caption_of(caption),)
        extra = listed.extra if facts is None else facts_of(json.loads(facts))
    except OSError as error:
        return Rejected(listed.name or listed.key, f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        return Rejected(listed.name or listed.key, f"its caption or JSON is not UTF-8 (byte {error.start})")
    except (ValueError, RecursionError) as error:
        return Rejected(listed.name or listed.key, f"its JSON cannot be read: {error}")
    modified = 0.0 if listed.image is None else listed.image.modified / 1e9
    filed = listed.image is not None and listed.image.path == listed.place
    return Sample(listed.key, listed.name, listed.place, image, captions, extra, modified, filed)


def caption_of(content: bytes) -> str:
    """A caption's file as a text: UTF-8 with or without byte order mark, without white space at the ends."""
    return content.decode("utf-8-sig").strip()


def facts_of(document: object) -> dict[str, Fact]:
    """What is nested, flat: `{"a": {"b": 1}}` is `{"a.b": 1}`; a list is its JSON.

    Raises:
        ValueError: the document is no JSON object.
    """
    if not isinstance(document, Mapping):
        raise ValueError("it is no object with names and values")
    flat: dict[str, Fact] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{below}": fact for below, fact in facts_of(value).items()}
        elif value is None or isinstance(value, str | int | float | bool):
            flat[str(name)] = value
        else:
            flat[str(name)] = json.dumps(value, ensure_ascii=False, default=str)
    return flat


def span_of(path: Path) -> Span:
    """The whole of a file; where it cannot be looked at, a span that tells why once it is read."""
    try:
        state = path.stat()
    except OSError:
        return Span(os.fspath(path), 0, -1, 0)
    return Span(os.fspath(path), 0, state.st_size, state.st_mtime_ns)
