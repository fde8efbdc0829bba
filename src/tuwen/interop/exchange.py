"""Import vectors of other tools into an index, and export an index's vectors to their layouts."""

import hashlib
import math
import os
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tuwen.bulk.rows import storable
from tuwen.data.files import key_of
from tuwen.data.samples import Fact
from tuwen.errors import InvalidInput, InvalidVectors, WrongModel, require
from tuwen.index.filters import quoted
from tuwen.index.index import VectorIndex
from tuwen.index.manifest import Model
from tuwen.index.rows import TOLERANCE
from tuwen.index.store import Stored
from tuwen.ingest.payloads import text_payload
from tuwen.interop.vector_files import KEYS, Block, VectorFiles
from tuwen.runtime.pipeline import batched
from tuwen.types import Payload, Rejected, Row, Vectors

LAYOUTS = ("clip-retrieval", "parquet", "npy")
A_FILE = 100_000
"""rows per file of clip-retrieval's layout"""
_AT_ONCE = 2_000

_Table: TypeAlias = Any
"""`pyarrow.Table`: pyarrow has no types"""


@dataclass(frozen=True, slots=True)
class Imported:
    """The rows imported so far, and those that were rejected."""

    rows: int
    rejected: tuple[Rejected, ...] = ()


def check_vectors(files: VectorFiles, model: Model, *, normalise: bool) -> None:
    """Check that all vectors can be those of a model, before an index is created for them.

    Args:
        files: the vectors.
        model: the model that computed them.
        normalise: accept vectors whose length is not 1.

    Raises:
        WrongModel: the files name another model.
        InvalidVectors: the vectors have another dimension, or are not of length 1.
        InvalidInput: the files cannot be used.
    """
    for place, recorded in files.fingerprints():
        if recorded != model.fingerprint:
            raise WrongModel(
                f"{place} has vectors of the model {recorded}, not of {model.name} ({model.fingerprint})",
                value=recorded,
                where=place,
            )
    for block in files.blocks():
        _check(block, model, normalise=normalise)


def import_vectors(files: VectorFiles, index: VectorIndex, *, key_column: str | None) -> Generator[Imported]:
    """Import vectors into an index, scaled to length 1; call `check_vectors` first.

    A row's key comes from its key column, or from one of `KEYS`; paths below the index's root become relative to it. A
    row with the vector of a text becomes a row of that text (`text` or `caption`).

    Args:
        files: the vectors.
        index: the index, opened for writing.
        key_column: the column with the keys of rows.

    Yields:
        The rows imported so far; they are on disk.

    Raises:
        InvalidInput: the files cannot be used.
    """
    done = Imported(0)
    seen: dict[str, int] = {}
    for block in files.blocks():
        rows, rejected = _rows(block, index.root, key_column, seen)
        index.upsert(rows)
        done = replace(done, rows=done.rows + len(rows), rejected=(*done.rejected, *rejected))
        yield done
    index.optimize()
    yield done


def _check(block: Block, model: Model, *, normalise: bool) -> None:
    if len(block.vectors) and block.vectors.shape[1] != model.dim:
        raise InvalidVectors(
            f"{block.place} has vectors of {block.vectors.shape[1]} numbers; those of {model.name} have {model.dim}",
            value=block.vectors.shape[1],
            where=block.place,
        )
    lengths = np.linalg.norm(np.asarray(block.vectors, dtype=np.float64).reshape(len(block.vectors), -1), axis=1)
    off = np.flatnonzero(np.isfinite(lengths) & (lengths > 0) & (np.abs(lengths - 1) > TOLERANCE))
    if len(off) and not normalise:
        raise InvalidVectors(
            f"{block.place}: the vector of row {block.rows[off[0]]} has the length {lengths[off[0]]:.4g}, not 1: "
            "--normalise scales all of them to length 1",
            value=float(lengths[off[0]]),
            where=f"{block.place}:{block.rows[off[0]]}",
        )


def _rows(block: Block, root: Path, key_column: str | None, seen: dict[str, int]) -> tuple[list[Row], list[Rejected]]:
    """The rows of a block. Rows with a vector that is zero or not finite, or without a unique name, are rejected."""
    rows: list[Row] = []
    rejected: list[Rejected] = []
    exact = np.asarray(block.vectors, dtype=np.float64).reshape(len(block.vectors), -1)
    with np.errstate(all="ignore"):  # vectors that are zero or not finite are rejected below
        lengths = np.linalg.norm(exact, axis=1)
        far = np.abs(lengths - 1.0) > TOLERANCE  # the index normalises the rest
        units = exact.astype(np.float32)
        units[far] = exact[far] / lengths[far, None]
    for place, length, unit, facts in zip(block.rows, lengths.tolist(), units, block.facts, strict=True):
        key, payload = _payload(facts, block.kind, root, key_column)
        digest = hash(unit.tobytes())
        reason = _wrong(length, key, seen.get(key), digest)
        if reason:
            rejected.append(Rejected(f"{block.place}:{place}", reason))
            continue
        seen[key] = digest
        rows.append(Row(key, unit, payload))
    return rows, rejected


def _wrong(length: float, key: str, before: int | None, digest: int) -> str:
    if not math.isfinite(length) or length == 0:
        return "its vector is zero or not finite"
    if not key:
        return f"has no name in any of the columns {', '.join(KEYS)}: choose one with --key-column"
    if before in (None, digest):
        return ""
    return f"has the name {key!r} of an earlier row, but another vector: choose another --key-column"


def _payload(facts: Mapping[str, Fact], kind: str, root: Path, column: str | None) -> tuple[str, Payload]:
    """A row's key and payload."""
    stored = storable(facts)
    named = next((stored[name] for name in ((column,) if column else KEYS) if stored.get(name) not in (None, "")), "")
    key = str(named)
    if os.path.isabs(key) and Path(key).is_absolute():  # noqa: PTH117  (the first answer is quick, and mostly no)
        key = key_of(Path(key), root)
    if kind == "text" and stored.get("type", "image") == "image":
        text = str(facts.get("text") or facts.get("caption") or key)
        key = f"{key}#{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:12]}" if key else text
        return key, text_payload(key, text, float(stored.get("modified", 0.0) or 0.0))
    folder, _, name = key.rpartition("/")
    return key, {"folder": folder, "name": name, "type": "image", **stored, "path": key}


def export_vectors(index: VectorIndex, out: Path, layout: str, *, where: str | None, dtype: str) -> Generator[int]:
    """Write an index's rows in another tool's layout, in the order of their keys. An interrupted export leaves no file.

    Args:
        index: opened, with or without a model.
        out: a folder for `clip-retrieval`, otherwise a file; the names of `.npy` go to a `.txt` file beside it.
        layout: one of `LAYOUTS`.
        where: a filter for the rows.
        dtype: `float32`, or `float16`, which is not exact.

    Yields:
        The number of rows written so far.

    Raises:
        InvalidInput: `out` or its file of names exists already; or the index has both images and texts, which the
            layout keeps apart.
    """
    names = out.with_suffix(".txt")
    if layout == "npy" and out == names:
        raise InvalidInput(f"{out} is the file for the names of the rows: the name must end in .npy", value=out)
    for path in (out, names) if layout == "npy" else (out,):
        if path.exists():
            raise InvalidInput(f"{path} exists already: choose another name", value=path)
    aside = out.with_name(f".{out.name}.part")
    writer = _Writer(index, aside, dtype, list(_described(index, where)), where)
    with ExitStack() as undo:
        undo.callback(_removed, aside)
        yield from {"clip-retrieval": writer.folder, "parquet": writer.table, "npy": writer.array}[layout]()
        if layout == "npy":
            aside.with_suffix(".txt").replace(names)
        aside.replace(out)


def _one_line(name: str) -> str:
    if "\n" in name or "\r" in name:
        raise InvalidInput(
            f"{name!r} contains a line break, and there is one name per line: use --format parquet", value=name
        )
    return name


def _removed(aside: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    if aside.is_file():
        aside.unlink()
    aside.with_suffix(".txt").unlink(missing_ok=True)


def _described(index: VectorIndex, where: str | None) -> Iterator[tuple[str, type]]:
    """The names of all payload fields, each with the type of its column."""
    kinds: dict[str, set[type]] = {}
    for row in index.list(where=where):
        for name, value in row.payload.items():
            kinds.setdefault(name, set()).add(type(value))
    for name in sorted(kinds):
        several = kinds[name]
        yield name, several.pop() if len(several) == 1 else float if several == {int, float} else str


class _Writer:
    """Writes an index's rows."""

    def __init__(
        self, index: VectorIndex, out: Path, dtype: str, columns: Sequence[tuple[str, type]], where: str | None
    ) -> None:
        self._index = index
        self._out = out
        self._dtype = dtype
        self._columns = columns
        self._where = where

    def folder(self) -> Generator[int]:
        """clip-retrieval's layout: images in img_emb, or texts in text_emb."""
        pq = require("pyarrow.parquet", extra="bulk")
        kinds = [kind for kind in sorted(self._index.values("type")) if self._index.count(self._of(kind))]
        if len(kinds) > 1:
            raise InvalidInput(
                "this index has rows of images and of texts, which this layout pairs row by row: export one of them "
                """with --where 'type == "image"', or use --format parquet"""
            )
        name = "text_emb" if kinds == ["text"] else "img_emb"
        (self._out / name).mkdir(parents=True)
        (self._out / "metadata").mkdir()
        done, listed = 0, self._index.list(where=self._where)
        files = max(1, -(-self._index.count(self._where) // A_FILE))
        for number in range(files):
            rows = list(islice(listed, A_FILE))
            suffix = str(number).zfill(len(str(files)))
            np.save(self._out / name / f"{name}_{suffix}.npy", self._vectors(rows))
            pq.write_table(self._described(rows, "image_path"), self._out / "metadata" / f"metadata_{suffix}.parquet")
            done += len(rows)
            yield done

    def table(self) -> Generator[int]:
        """One Parquet file with a column of vectors."""
        pa, pq = require("pyarrow", extra="bulk"), require("pyarrow.parquet", extra="bulk")
        info = self._index.info()
        kind = pa.list_(pa.float16() if self._dtype == "float16" else pa.float32(), info.dim)
        schema = self._described([], "path").schema.append(pa.field("vector", kind))
        schema = schema.with_metadata({"tuwen.model": info.model, "tuwen.fingerprint": info.fingerprint})
        done = 0
        with pq.ParquetWriter(self._out, schema) as writer:
            for rows in batched(self._index.list(where=self._where), _AT_ONCE):
                flat = pa.array(self._vectors(rows).reshape(-1))
                vectors = pa.FixedSizeListArray.from_arrays(flat, info.dim)
                writer.write_table(self._described(rows, "path").append_column("vector", vectors).cast(schema))
                done += len(rows)
                yield done

    def array(self) -> Generator[int]:
        """One numpy file, and the rows' keys beside it."""
        total, dim = self._index.count(self._where), self._index.info().dim
        with self._out.open("wb") as file, self._out.with_suffix(".txt").open("w", encoding="utf-8") as names:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(self._dtype)), "fortran_order": False}
            np.lib.format.write_array_header_2_0(file, {**header, "shape": (total, dim)})
            done = 0
            for rows in batched(self._index.list(where=self._where), _AT_ONCE):
                file.write(self._vectors(rows).tobytes())
                names.writelines(f"{_one_line(str(row.payload['path']))}\n" for row in rows)
                done += len(rows)
                yield done

    def _of(self, kind: str) -> str:
        """The filter for the exported rows of one type."""
        return f"type == {quoted(kind)}" + (f" and ({self._where})" if self._where else "")

    def _vectors(self, rows: Sequence[Stored]) -> Vectors:
        found = self._index.vectors([row.id for row in rows])
        vectors = np.array([found[row.id] for row in rows], dtype=self._dtype)
        return vectors.reshape(len(rows), self._index.info().dim)

    def _described(self, rows: Sequence[Stored], key: str) -> _Table:
        """The payloads as columns, with `path` renamed to `key`; null where a row lacks a field."""
        pa = require("pyarrow", extra="bulk")
        types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        columns = {}
        for name, kind in self._columns:
            values = [row.payload.get(name) for row in rows]
            cells = [None if value is None else kind(value) for value in values]
            columns[key if name == "path" else name] = pa.array(cells, types[kind])
        return pa.table(columns)
