"""Read vectors of other tools: clip-retrieval's folders, `.npy` with names, Parquet files with columns of vectors."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.bulk.job import JOB, STATE
from tuwen.data.samples import Fact, facts_of
from tuwen.errors import InvalidInput, require

AT_ONCE = 4_096
"""rows read at a time, and written with one flush"""
COLUMNS = {
    "image": ("image_vector", "vector", "vectors", "embedding", "embeddings", "emb"),
    "text": ("text_vector",),
}
"""usual names of columns of vectors of images and of texts"""
TYPED = frozenset({"image_vector", "text_vector"})
"""those of them that imply images or texts"""
KEYS = ("path", "image_path", "key", "id", "url")
"""usual names of the column that names a row"""

_File: TypeAlias = Any
"""`pyarrow.parquet.ParquetFile`: pyarrow has no types"""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows.

    Attributes:
        kind: `image` or `text`, unless a row has its own type.
        vectors: (n, dim) as in the file.
        facts: the other fields of each row.
        place: the file, for messages.
        rows: the number of each row in the file.
    """

    kind: str
    vectors: NDArray[Any]
    facts: Sequence[Mapping[str, Fact]]
    place: str
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class VectorFiles:
    """Files of vectors.

    Attributes:
        path: a folder or a file.
        names: the file of names, for `.npy`.
        column: the column of vectors, for Parquet.
        texts: whether they are vectors of texts, if the files do not say; a name is then the text.
    """

    path: Path
    names: Path | None = None
    column: str | None = None
    texts: bool = False

    def fingerprints(self) -> Iterator[tuple[Path, str]]:
        """The files that name their model, with the model's fingerprint."""
        job = self.path / STATE / JOB
        if job.is_file():
            yield self.path, str(json.loads(job.read_bytes())["fingerprint"])
        for table in self._tables() or sorted(self.path.glob("metadata/*.parquet")):
            with _opened(table) as file:
                recorded = (file.schema_arrow.metadata or {}).get(b"tuwen.fingerprint")
            if recorded is not None:
                yield table, str(recorded.decode())

    def blocks(self) -> Iterator[Block]:
        """The rows, in the order of the files. Can be read repeatedly.

        Raises:
            InvalidInput: the path has none of these layouts, or its files do not belong together.
        """
        if self.path.is_dir():
            yield from self._folder()
        elif self.path.suffix == ".npy":
            yield from _named(self.path, self.names, "text" if self.texts else "image")
        elif self.path.suffix == ".parquet":
            yield from self._table(self.path)
        else:
            raise InvalidInput(
                f"{self.path} is not a folder of clip-retrieval (img_emb, metadata) or of Parquet files, nor an .npy "
                "or .parquet file",
                value=self.path,
            )

    def _folder(self) -> Iterator[Block]:
        """clip-retrieval's layout, or Parquet files."""
        tables = self._tables()
        for table in tables:
            yield from self._table(table)
        if not tables and self.texts:
            raise InvalidInput(f"{self.path} keeps vectors of texts in text_emb: leave out --texts", value=self.path)
        if not tables:
            yield from _clip_retrieval(self.path)

    def _tables(self) -> list[Path]:
        """The Parquet files that hold vectors."""
        if self.path.is_dir():
            return sorted(self.path.glob("*.parquet"), key=_number)
        return [self.path] if self.path.suffix == ".parquet" else []

    def _table(self, path: Path) -> Iterator[Block]:
        with _opened(path) as file:
            columns = _columns(file.schema_arrow.names, path, self.column)
            typed = columns.keys() & TYPED
            if self.texts and typed and columns.keys() != {"text_vector"}:
                raise InvalidInput(
                    f"{path} distinguishes images and texts by its columns ({', '.join(sorted(typed))}); leave out "
                    "--texts",
                    where=path,
                )
            for block in _blocks(file, path, columns):
                yield replace(block, kind="text") if self.texts else block


def _clip_retrieval(folder: Path) -> Iterator[Block]:
    found = False
    for kind, name in (("image", "img_emb"), ("text", "text_emb")):
        for file in sorted((folder / name).glob(f"{name}_*.npy"), key=_number):
            found = True
            metadata = folder / "metadata" / f"metadata_{file.stem.removeprefix(f'{name}_')}.parquet"
            vectors = _array(file)
            if not metadata.is_file():
                raise InvalidInput(f"{metadata} is missing: it has the names of the rows of {file}", where=metadata)
            with _opened(metadata) as table:
                _check_length(file, len(vectors), metadata, table.metadata.num_rows)
                first = 0
                for batch in table.iter_batches(AT_ONCE):
                    rows = batch.to_pylist()
                    numbers = range(first, first + len(rows))
                    yield Block(kind, vectors[first : first + len(rows)], _facts(rows), str(file), numbers)
                    first += len(rows)
    if not found:
        raise InvalidInput(
            f"{folder} has neither img_emb/img_emb_*.npy nor text_emb/text_emb_*.npy nor *.parquet", where=folder
        )


def _named(file: Path, names: Path | None, kind: str) -> Iterator[Block]:
    if names is None:
        raise InvalidInput(f"{file} has no names: add --names FILE, with one name per line", where=file)
    try:
        text = names.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{names} cannot be read as UTF-8 text: {error}", where=names) from error
    lines = text.removesuffix("\n").split("\n") if text else []
    vectors = _array(file)
    _check_length(file, len(vectors), names, len(lines))
    for first in range(0, len(lines), AT_ONCE):
        facts = [{"text" if kind == "text" else "path": name} for name in lines[first : first + AT_ONCE]]
        numbers = range(first, first + len(facts))
        yield Block(kind, vectors[first : first + AT_ONCE], facts, str(file), numbers)


def _columns(names: Sequence[str], path: Path, column: str | None) -> dict[str, str]:
    """The columns of vectors to read -> `image` or `text`."""
    usual = _usual(names)
    wanted = usual if column is None else {column: usual.get(column, "image")}
    if not wanted or not wanted.keys() <= set(names):
        raise InvalidInput(
            f"{path} has no known column of vectors: choose --vector-column from {', '.join(names)}", where=path
        )
    return wanted


def _usual(names: Sequence[str]) -> dict[str, str]:
    return {name: kind for kind, several in COLUMNS.items() for name in several if name in names}


def _blocks(file: _File, path: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    names = file.schema_arrow.names
    beside = [name for name in names if name not in {*columns, *_usual(names)}]
    first = 0
    for batch in file.iter_batches(AT_ONCE):
        facts = _facts(batch.select(beside).to_pylist())
        for name, kind in columns.items():
            there = np.flatnonzero(batch.column(name).is_valid().to_numpy(zero_copy_only=False))
            vectors = _matrix(batch.column(name).drop_null(), path, name)
            yield Block(kind, vectors, [facts[place] for place in there], str(path), (first + there).tolist())
        first += batch.num_rows


def _matrix(column: Any, path: Path, name: str) -> NDArray[Any]:  # noqa: ANN401  (an array of Arrow)
    """A column of lists of numbers, all of one length, as (n, length)."""
    if not len(column):
        return np.empty((0, 0))
    try:
        rows: NDArray[Any] = np.stack([row.values.to_numpy(zero_copy_only=False) for row in column])
        rows = rows if rows.dtype.kind in "fiu" else rows.astype(np.float64)
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidInput(f"{path}: the column {name} does not have vectors of one length", where=path) from error
    return rows


def _facts(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Fact]]:
    return [facts_of({name: value for name, value in row.items() if not isinstance(value, bytes)}) for row in rows]


def _array(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read as a numpy array: {error}", where=file) from error
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InvalidInput(
            f"{file} has shape {array.shape} and dtype {array.dtype}; vectors are (n, dim) numbers", where=file
        )
    return array


def _check_length(file: Path, vectors: int, other: Path, rows: int) -> None:
    if vectors != rows:
        raise InvalidInput(
            f"{file} has {vectors} vectors and {other} has {rows} rows: they do not belong together", where=file
        )


def _number(file: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", file.stem)
    return (int(digits[-1]) if digits else 0, file.name)


def _opened(path: Path) -> _File:
    arrow = require("pyarrow", extra="bulk")
    try:
        return require("pyarrow.parquet", extra="bulk").ParquetFile(path, pre_buffer=False)
    except (OSError, arrow.ArrowInvalid) as error:
        raise InvalidInput(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", where=path) from error
