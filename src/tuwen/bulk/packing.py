"""The file layouts of a shard's vectors, as other tools read them. Gives names and contents; writes nothing.

clip-retrieval   img_emb/img_emb_0.npy, text_emb/text_emb_0.npy, metadata/metadata_0.parquet, row by row
parquet, arrow   vectors_0.parquet: one row per caption, with a column of image vectors and one of text vectors
npy              vision_embed/KEY_0.npy, text_embed/KEY_N_0.npy: (1, dim) each, as ais_bench names its outputs
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.bulk.embedding import Embedded, Item
from tuwen.data.samples import Fact
from tuwen.errors import require
from tuwen.types import Rejected

_Table: TypeAlias = Any
_Array: TypeAlias = Any
"""`pyarrow.Table`, `pyarrow.Array`: pyarrow has no type annotations"""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a shard is written.

    Attributes:
        name: one of `LAYOUTS`.
        dtype: of the vectors in files, `float16` or `float32`.
        shards: the number of shards.
        images: whether there are vectors of images.
        texts: whether there are vectors of captions.
        model: name and fingerprint of the model, stored in files whose format allows it.
    """

    name: str
    dtype: str
    shards: int
    images: bool
    texts: bool
    model: Mapping[str, str]

    def numbered(self, shard: int) -> str:
        """A shard's number, padded with zeros as clip-retrieval does."""
        return str(shard).zfill(int(math.log10(max(1, self.shards))) + 1)


def pack(embedded: Embedded, layout: Layout) -> dict[str, bytes]:
    """The files of a shard: their contents by path below the output folder. A shard without rows has none.

    Samples that cannot be written are moved to `embedded.rejected`.
    """
    return _PACKERS[layout.name](embedded, layout) if embedded.items else {}


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of a table: a sample with one of its captions."""

    item: Item
    caption: str | None
    image: int | None
    text: int | None


def _lines(embedded: Embedded, layout: Layout) -> list[_Line]:
    lines = []
    for item in embedded.items:
        if not layout.texts or item.text is None:
            lines.append(_Line(item, "\n".join(item.sample.captions) or None, item.image, None))
            continue
        for place, caption in enumerate(item.sample.captions):
            lines.append(_Line(item, caption, item.image, item.text + place))
    return lines


def _clip_retrieval(embedded: Embedded, layout: Layout) -> dict[str, bytes]:
    lines, number = _lines(embedded, layout), layout.numbered(embedded.number)
    files = {f"metadata/metadata_{number}.parquet": _parquet(_table(lines, layout))}
    if layout.images:
        rows = _rows(embedded.images, [line.image for line in lines])
        files[f"img_emb/img_emb_{number}.npy"] = _npy(rows.astype(layout.dtype))
    if layout.texts:
        rows = _rows(embedded.texts, [line.text for line in lines])
        files[f"text_emb/text_emb_{number}.npy"] = _npy(rows.astype(layout.dtype))
    return files


def _one_table(embedded: Embedded, layout: Layout) -> dict[str, bytes]:
    lines = _lines(embedded, layout)
    table = _table(lines, layout)
    if layout.images:
        table = table.append_column("image_vector", _vectors(embedded.images, [line.image for line in lines], layout))
    if layout.texts:
        table = table.append_column("text_vector", _vectors(embedded.texts, [line.text for line in lines], layout))
    content = _parquet(table) if layout.name == "parquet" else _arrow(table)
    return {f"vectors_{layout.numbered(embedded.number)}.{layout.name}": content}


def _items_alone(embedded: Embedded, layout: Layout) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    kept = []
    for item in embedded.items:
        if not _is_name(item.sample.key):
            embedded.rejected.append(Rejected(item.sample.key, "its key cannot be used as a file name"))
            continue
        kept.append(item)
        if item.image is not None:
            files[f"vision_embed/{item.sample.key}_0.npy"] = _npy(embedded.images[[item.image]].astype(layout.dtype))
        for place in range(len(item.sample.captions) if item.text is not None else 0):
            rows = embedded.texts[[(item.text or 0) + place]]
            files[f"text_embed/{item.sample.key}_{place}_0.npy"] = _npy(rows.astype(layout.dtype))
    embedded.items[:] = kept
    return files


_PACKERS: Mapping[str, Callable[[Embedded, Layout], dict[str, bytes]]] = {
    "clip-retrieval": _clip_retrieval,
    "parquet": _one_table,
    "arrow": _one_table,
    "npy": _items_alone,
}
LAYOUTS = tuple(_PACKERS)


def _is_name(key: str) -> bool:
    parts = PurePosixPath(key).parts
    if not parts or ".." in parts or parts[0] == "/" or "\0" in key:
        return False
    *folders, name = (len(part.encode("utf-8", "surrogatepass")) for part in parts)
    return name < 240 and max(folders, default=0) < 256


def _table(lines: Sequence[_Line], layout: Layout) -> _Table:
    """The metadata of each row. Source columns with the name of a column of ours are left out."""
    pa = require("pyarrow", extra="bulk")
    own: dict[str, list[Fact]] = {
        "key": [line.item.sample.key for line in lines],
        "image_path": [line.item.sample.place or None for line in lines],
        "caption": [line.caption for line in lines],
    }
    if all(value is None for value in own["caption"]):
        del own["caption"]
    for name in ("width", "height", "format", "content"):
        if layout.images:
            own[name] = [(line.item.picture or {}).get(name) for line in lines]
    others = sorted({name for line in lines for name in line.item.sample.extra} - own.keys() - _VECTORS)
    columns = own | {name: _alike([line.item.sample.extra.get(name) for line in lines]) for name in others}
    table: _Table = pa.table({name: pa.array([_utf8(value) for value in values]) for name, values in columns.items()})
    return table.replace_schema_metadata({f"tuwen.{name}": value for name, value in layout.model.items()})


_VECTORS = {"image_vector", "text_vector"}


def _alike(values: list[Fact]) -> list[Fact]:
    """Values of one type: numbers stay numbers, mixed types become texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1 or (int in kinds and any(abs(value) >= 2**63 for value in values if isinstance(value, int))):
        return [None if value is None else str(value) for value in values]
    return values


def _utf8(value: Fact) -> Fact:
    """Replace what is not UTF-8, which a column of texts cannot hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _vectors(vectors: NDArray[np.float32], rows: Sequence[int | None], layout: Layout) -> _Array:
    """A column of vectors, null for rows without one."""
    pa = require("pyarrow", extra="bulk")
    dim = vectors.shape[1]
    filled = np.zeros((len(rows), dim), dtype=layout.dtype)
    there = np.array([row is not None for row in rows], dtype=bool)
    filled[there] = vectors[[row for row in rows if row is not None]]
    return pa.FixedSizeListArray.from_arrays(pa.array(filled.reshape(-1)), dim, mask=pa.array(~there))


def _rows(vectors: NDArray[np.float32], rows: Sequence[int | None]) -> NDArray[np.float32]:
    """The vectors of rows that all have one."""
    assert None not in rows, "a row without its vector"
    return vectors[np.array(rows, dtype=np.intp)]


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array))
    return stream.getvalue()


def _parquet(table: _Table) -> bytes:
    stream = io.BytesIO()
    require("pyarrow.parquet", extra="bulk").write_table(table, stream)
    return stream.getvalue()


def _arrow(table: _Table) -> bytes:
    stream = io.BytesIO()
    with require("pyarrow", extra="bulk").ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()
