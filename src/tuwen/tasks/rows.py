"""Embedded samples as rows of an index: pictures as `index build` has them, captions as rows of texts.

Knows a row's fields. Does not know where vectors come from.
"""

import math
from collections.abc import Mapping

from tuwen.index.conditions import FIELDS
from tuwen.prepare.samples import Fact
from tuwen.tasks.embedding import Embedded, Item
from tuwen.tasks.texts import Text, row_of
from tuwen.types import Payload, Row


def rows_of(embedded: Embedded) -> list[Row]:
    """The rows of a shard: a picture under its name, its captions beside it under `NAME#0` and so on.

    A caption that is empty is no row.
    """
    rows = []
    for item in embedded.items:
        key = item.sample.name or item.sample.key
        if item.image is not None:
            rows.append(Row(key, embedded.images[item.image], _picture(key, item)))
        if item.text is not None:
            for place, caption in enumerate(item.sample.captions):
                name = f"{key}#{place}"
                if caption.strip():
                    vector = embedded.texts[item.text + place]
                    rows.append(Row(name, vector, row_of(Text(name, _utf8(caption), item.sample.modified))))
    return rows


def storable(facts: Mapping[str, Fact]) -> dict[str, str | int | float]:
    """What of a sample's columns an index can store: texts and finite numbers; true and false as 1 and 0.

    A column that has the name of a row's own field and is of another kind is left out.
    """
    kept: dict[str, str | int | float] = {}
    for name, value in facts.items():
        fits = FIELDS.get(name)
        if value is None or name.startswith("_") or (isinstance(value, float) and not math.isfinite(value)):
            continue
        plain = int(value) if isinstance(value, bool) else value
        if isinstance(plain, int) and abs(plain) >= 2**63:
            plain = str(plain)
        if fits is None or isinstance(plain, (int, float) if fits is float else fits):
            kept[name] = _utf8(plain) if isinstance(plain, str) else plain
    return kept


def _picture(key: str, item: Item) -> Payload:
    caption = {"caption": item.sample.captions[0]} if item.sample.captions else {}
    return {**storable({**item.sample.extra, **caption}), **(item.picture or {}), **_names(key), "type": "image"}


def _utf8(text: str) -> str:
    """Half characters, which JSON can spell, replaced."""
    return text.encode("utf-8", "replace").decode()


def _names(key: str) -> dict[str, str]:
    folder, _, name = key.rpartition("/")
    return {"path": key, "folder": folder, "name": name}
