"""Rows in an SQLite database: key, id, payload and vector, durable when a call returns.

Every row has a number that is never reused; a replaced row gets a new one. A FAISS file built from all rows up to some
number is brought up to date by two lists: rows with higher numbers are missing from it, and the numbers in `gone` must
be skipped.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen.index.filters import FIELDS, And, Compare, Condition, Near, Not, OneOf, Or, distance, is_of, is_place
from tuwen.index.store import row_id
from tuwen.index.stores.qdrant_edge import rounded
from tuwen.types import Payload, Row, Vectors

Value: TypeAlias = str | int | float | bytes
Compiled: TypeAlias = tuple[str, list[Value]]
"""An SQL expression that is 0 or 1, and the values of its placeholders."""


def compiled(condition: Condition) -> Compiled:
    """Compile a condition to an SQL expression."""
    match condition:
        case And(parts):
            return _joined(" AND ", parts)
        case Or(parts):
            return _joined(" OR ", parts)
        case Not(part):
            words, values = compiled(part)
            return f"NOT {words}", values
        case OneOf(field, among):
            marks = ", ".join("?" * len(among))
            return _known(f'"{field}" IN ({marks})'), [comparable(field, value) for value in among]
        case Near(latitude, longitude, metres):
            return _known("distance(?, ?, latitude, longitude) <= ?"), [latitude, longitude, metres]
        case Compare():
            return _compared(condition)


def comparable(field: str, value: str | int | float) -> str | int | float:
    """The value to compare with a field's column: floats have 15 digits, as in all stores."""
    return rounded(float(value)) if FIELDS[field] is float else value


def _compared(condition: Compare) -> Compiled:
    column = f'"{condition.field}"'
    value = comparable(condition.field, condition.value)
    match condition.operator:
        case "startswith" | "contains" if not value:
            return f"{column} IS NOT NULL", []  # SQLite treats an empty blob as NULL here
        case "startswith":
            prefix = str(value).encode()
            return _known(f"substr(CAST({column} AS BLOB), 1, {len(prefix)}) = ?"), [prefix]
        case "contains":
            return _known(f"instr(CAST({column} AS BLOB), ?) > 0"), [str(value).encode()]
        case operator:
            return _known(f"{column} {operator} ?"), [value]


def _joined(word: str, parts: Sequence[Condition]) -> Compiled:
    words, values = zip(*map(compiled, parts), strict=True)
    return f"({word.join(words)})", [value for each in values for value in each]


def _known(words: str) -> str:
    return f"coalesce({words}, 0)"


PAGE = 1_000
"""rows, or values of one statement, per page"""
BLOCK = 8_192
"""vectors read at a time"""
_COLUMNS = ", ".join(f'"{field}"' for field in FIELDS)
_KINDS = {str: "TEXT", int: "INTEGER", float: "REAL"}
_SCHEMA = f"""
CREATE TABLE rows (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, payload TEXT NOT NULL,
    {", ".join(f'"{field}" {_KINDS[kind]}' for field, kind in FIELDS.items())}
);
CREATE UNIQUE INDEX by_path ON rows (path);
CREATE INDEX by_content ON rows (content);
CREATE TABLE vectors (number INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE built (file TEXT NOT NULL, top INTEGER NOT NULL);
INSERT INTO built VALUES ('', 0);
CREATE TABLE gone (number INTEGER PRIMARY KEY);
CREATE TRIGGER removed AFTER DELETE ON rows BEGIN
    DELETE FROM vectors WHERE number = old.number;
    INSERT INTO gone SELECT old.number WHERE old.number <= (SELECT top FROM built);
END;
"""
_as_json = json.JSONEncoder(ensure_ascii=False).encode
T = TypeVar("T")


class Rows:
    """An open database, for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._database = _connect(path)
        self._database.create_function("distance", 4, _distance, deterministic=True)
        self._add_columns()

    @staticmethod
    def create(path: Path) -> None:
        """Create an empty database."""
        database = _connect(path)
        database.executescript(_SCHEMA)
        database.close()

    def count(self, above: int = 0) -> int:
        """The number of rows whose number is greater than `above`."""
        return int(self._one("SELECT count(*) FROM rows WHERE number > ?", above))

    def keys(self, where: Condition | None) -> list[str]:
        """The sorted keys of the rows that match a condition."""
        words, values = _condition(where)
        return [key for (key,) in self._database.execute(f"SELECT path FROM rows WHERE {words} ORDER BY path", values)]

    def values(self, field: str) -> dict[str, int]:
        """The values of a field with the number of their rows."""
        words = f'SELECT "{field}", count(*) FROM rows WHERE "{field}" IS NOT NULL GROUP BY "{field}"'
        return dict(self._database.execute(words).fetchall())

    def bounds(self, field: str) -> tuple[float, float] | None:
        """The smallest and the largest number of a field, unrounded; None if there is none."""
        ends = []
        for function in ("min", "max"):
            words = f'SELECT payload FROM rows WHERE "{field}" = (SELECT {function}("{field}") FROM rows) LIMIT 1'
            ends += [json.loads(payload)[field] for (payload,) in self._database.execute(words)]
        return (float(ends[0]), float(ends[1])) if ends else None

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write all rows or none."""
        with self._transaction() as database:
            for page in _pages(rows):
                self._delete([row.key for row in page])
                last = self._one("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'rows'")
                numbered = list(enumerate(page, last + 1))
                values = [(number, str(row_id(row.key)), *_written(row.payload)) for number, row in numbered]
                vectors = [(number, row.vector.astype("<f4").tobytes()) for number, row in numbered]
                marks = ", ".join("?" * len(values[0]))
                database.executemany(f"INSERT INTO rows (number, id, payload, {_COLUMNS}) VALUES ({marks})", values)
                database.executemany("INSERT INTO vectors VALUES (?, ?)", vectors)

    def remove(self, keys: Sequence[str]) -> int:
        """Remove all of these rows or none; returns how many there were."""
        with self._transaction():
            return sum(self._delete(page) for page in _pages(keys))

    def set_payloads(self, payloads: Mapping[str, Payload]) -> None:
        """Replace the payloads of existing rows."""
        columns = ", ".join(f'"{field}" = ?' for field in FIELDS)
        with self._transaction() as database:
            for key, payload in payloads.items():
                values = (*_written(payload), key)
                database.execute(f"UPDATE rows SET payload = ?, {columns} WHERE path = ?", values)

    def where(self, column: str, values: Sequence[Any]) -> Iterator[tuple[int, str, Payload]]:
        """Number, id and payload of the rows with one of these values in a column."""
        for page in _pages(list(dict.fromkeys(values))):
            words = f"SELECT number, id, payload FROM rows WHERE {column} IN ({', '.join('?' * len(page))})"
            for number, name, payload in self._database.execute(words, page).fetchall():
                yield number, name, json.loads(payload)

    def after(self, key: str, where: Condition | None) -> list[tuple[str, Payload]]:
        """Id and payload of the next page of rows after `key` that match a condition."""
        words, values = _condition(where)
        found = self._database.execute(
            f"SELECT id, payload FROM rows WHERE path > ? AND {words} ORDER BY path LIMIT {PAGE}", (key, *values)
        )
        return [(name, json.loads(payload)) for name, payload in found]

    def firsts(self, contents: Sequence[str]) -> list[int]:
        """The number of the first row of each of these contents, if there is one."""
        found = []
        for page in _pages(list(dict.fromkeys(contents))):
            marks = ", ".join("?" * len(page))
            words = f"SELECT min(number) FROM rows WHERE content IN ({marks}) GROUP BY content"
            found += [number for (number,) in self._database.execute(words, page)]
        return found

    def numbers(self, where: Condition) -> NDArray[np.int64]:
        """The ascending numbers of the rows that match a condition."""
        words, values = compiled(where)
        found = self._database.execute(f"SELECT number FROM rows WHERE {words} ORDER BY number", values)
        return np.fromiter((number for (number,) in found), np.int64)

    def vectors(self, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Get vectors by number."""
        found: dict[int, NDArray[np.float32]] = {}
        for page in _pages(numbers):
            words = f"SELECT number, vector FROM vectors WHERE number IN ({', '.join('?' * len(page))})"
            found.update((number, np.frombuffer(raw, "<f4")) for number, raw in self._database.execute(words, page))
        return found

    def blocks(self, above: int = 0) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        """Yield the numbers greater than `above`, ascending, with their vectors, block by block."""
        words = "SELECT number, vector FROM vectors WHERE number > ? ORDER BY number"
        found = self._database.execute(words, (above,))
        while page := found.fetchmany(BLOCK):
            vectors = np.frombuffer(b"".join(raw for _, raw in page), "<f4").reshape(len(page), -1)
            yield np.array([number for number, _ in page], np.int64), vectors

    def built(self) -> tuple[str, int]:
        """The name of the FAISS file that was built last ("" if there is none), and the last number in it."""
        file, top = self._database.execute("SELECT file, top FROM built").fetchone()
        return file, top

    def set_built(self, file: str, *, clear: bool) -> None:
        """Record the FAISS file built from all rows ("": none). `clear`: it does not contain removed rows."""
        with self._transaction() as database:
            if clear:
                database.execute("DELETE FROM gone")
            top = "SELECT coalesce(max(number), 0) FROM rows" if file else "SELECT 0"
            database.execute(f"UPDATE built SET file = ?, top = ({top})", (file,))

    def gone(self) -> list[int]:
        """The numbers of removed rows that the FAISS file still contains."""
        return [number for (number,) in self._database.execute("SELECT number FROM gone ORDER BY number")]

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _add_columns(self) -> None:
        """Add the columns of fields that are newer than the file."""
        there = {name for _, name, *_ in self._database.execute("PRAGMA table_info(rows)")}
        missing = [field for field in FIELDS if field not in there]
        if not missing:
            return
        with self._transaction() as database:
            for field in missing:
                database.execute(f'ALTER TABLE rows ADD COLUMN "{field}" {_KINDS[FIELDS[field]]}')
                rows = database.execute(f"SELECT number, payload FROM rows WHERE payload ->> '$.{field}' IS NOT NULL")
                values = [(json.loads(payload)[field], number) for number, payload in rows.fetchall()]
                fitting = [(comparable(field, value), number) for value, number in values if is_of(field, value)]
                database.executemany(f'UPDATE rows SET "{field}" = ? WHERE number = ?', fitting)

    def _one(self, words: str, *values: object) -> Any:  # noqa: ANN401
        return self._database.execute(words, values).fetchone()[0]

    def _delete(self, keys: Sequence[str]) -> int:
        marks = ", ".join("?" * len(keys))
        return self._database.execute(f"DELETE FROM rows WHERE path IN ({marks})", keys).rowcount

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def _distance(latitude: float, longitude: float, other: float | None, another: float | None) -> float | None:
    if other is None or another is None or not is_place(other, another):
        return None
    return distance(latitude, longitude, other, another)


def _condition(where: Condition | None) -> Compiled:
    return ("1", []) if where is None else compiled(where)


def _connect(path: Path) -> sqlite3.Connection:
    """Connect so that a commit is on disk when it returns (in the write-ahead log)."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


def _written(payload: Payload) -> list[Any]:
    """The values of a payload's columns: JSON that preserves every bit, and the fields for filters."""
    fields = [None if field not in payload else comparable(field, payload[field]) for field in FIELDS]
    return [_as_json(dict(payload)), *fields]


def _pages(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), PAGE):
        yield items[start : start + PAGE]
