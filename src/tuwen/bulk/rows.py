"""Embedded samples as rows of an index: images as `index build` writes them, captions as rows of texts."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tuwen.bulk.embedding import Embedded, Item
from tuwen.data.datasets import root_of
from tuwen.data.files import key_of
from tuwen.data.metadata import METADATA
from tuwen.data.records import is_utf8
from tuwen.data.samples import Fact, Sample
from tuwen.index.filters import is_of
from tuwen.ingest.payloads import key_fields, text_payload
from tuwen.types import Payload, Row


@dataclass(frozen=True, slots=True)
class Names:
    """The keys of a job's samples in an index, distinct from those of other jobs.

    Attributes:
        base: the prefix of the samples' names: the only source, or the common folder of all sources.
        root: the folder that the index's keys are relative to.
    """

    base: Path
    root: Path

    @classmethod
    def of(cls, sources: Sequence[Path], root: Path) -> Self:
        """The names for a job with these sources."""
        only = Path(os.path.abspath(sources[0]))  # noqa: PTH100  (as keys are made)
        return cls(only if len(sources) == 1 else root_of(sources), root)

    def picture(self, sample: Sample) -> str:
        """The key of a file is that of `index build`; in an archive, the archive's path and the name in it."""
        return key_of(Path(sample.place), self.root) if sample.filed else self.sample(sample)

    def sample(self, sample: Sample) -> str:
        """The sample's name within its source; or its key, if other samples may have the same name.

        Such samples are rows of a table, several of which may refer to one image elsewhere.
        """
        named = self._within(sample.name or sample.key)
        shared = sample.filed and named != self.picture(sample)
        return self._within(sample.key) if shared else named

    def _within(self, name: str) -> str:
        """A name below the base. One that is not UTF-8, as in some archives, is escaped as in `key_of`."""
        base = key_of(self.base, self.root)
        before = "" if base == "." else f"{base.rstrip('/')}/"
        whole = before + (name if is_utf8(name) else key_of(Path("/", name), Path("/")))
        return whole.removeprefix(f"/{key_of(self.root, Path('/'))}/")  # the base may lie above the root


def rows_of(embedded: Embedded, names: Names) -> list[Row]:
    """The rows of a shard: images, and captions with the keys `NAME#0`, `NAME#1`, ... of their sample.

    Empty captions are left out.
    """
    rows = []
    for item in embedded.items:
        if item.image is not None:
            key = names.picture(item.sample)
            rows.append(Row(key, embedded.images[item.image], _picture(key, item)))
        if item.text is not None:
            for place, caption in enumerate(item.sample.captions):
                name = f"{names.sample(item.sample)}#{place}"
                if caption.strip():
                    vector = embedded.texts[item.text + place]
                    rows.append(Row(name, vector, text_payload(name, _utf8(caption), item.sample.modified)))
    return rows


def storable(facts: Mapping[str, Fact]) -> dict[str, str | int | float]:
    """The columns of a sample that an index can store: texts and finite numbers; true and false become 1 and 0.

    A column with the name of a row's own field but another type is left out.
    """
    kept: dict[str, str | int | float] = {}
    for name, value in facts.items():
        if value is None or name.startswith("_") or (isinstance(value, float) and not math.isfinite(value)):
            continue
        plain = int(value) if isinstance(value, bool) else value
        if isinstance(plain, int) and abs(plain) >= 2**63:
            plain = str(plain)
        if is_of(name, plain):
            kept[name] = _utf8(plain) if isinstance(plain, str) else plain
    return kept


def _picture(key: str, item: Item) -> Payload:
    """What is stored of an image. What a table says of it counts more than its own metadata."""
    caption = {"caption": item.sample.captions[0]} if item.sample.captions else {}
    given, own = storable({**item.sample.extra, **caption}), item.picture or {}
    stated = {*given} & {*METADATA}
    if "taken" in stated:
        stated |= {"taken_from", "taken_zone"}
    own = {name: value for name, value in own.items() if name not in stated}
    return {**given, **own, **key_fields(key), "type": "image"}


def _utf8(text: str) -> str:
    """Replace unpaired surrogates, which JSON can contain."""
    return text.encode("utf-8", "replace").decode()
