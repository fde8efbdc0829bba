"""Validate rows and queries: vectors of length 1, payloads of strings and finite numbers, keys in UTF-8."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import InvalidInput, InvalidVectors
from tuwen.index.filters import FIELDS, TYPES, is_of
from tuwen.index.store import Vector
from tuwen.types import Payload, Row, Vectors

TOLERANCE = 1e-3
"""how far a vector's length may be from 1"""
LAST_DIGIT = 1.2e-7
"""how far a vector's length may be from 1 after normalisation in float32; such vectors are not normalised again"""
SHORTEST = 1e-12
"""vectors shorter than this count as zero"""
_LARGEST = 2**63


def checked_rows(rows: Sequence[Row], dim: int) -> list[Row]:
    """Validate rows for storage: keep the last row of each key, and normalise vectors to float32's last digit.

    Raises:
        InvalidVectors: a vector is not (dim,) float32, not finite or not of length 1; `.where` is the row's key.
        InvalidInput: a key or a payload cannot be stored; `.where` is the row's key.
    """
    last = {row.key: row for row in rows}
    if not last:
        return []
    for row in last.values():
        if not _is_vector(row.vector, dim):
            _check_vector(row.vector, f"the vector of {row.key!r}", dim, row.key)
    vectors = np.stack([row.vector for row in last.values()])
    lengths = _lengths(vectors)
    for place in np.flatnonzero(~(np.abs(lengths - 1.0) <= TOLERANCE))[:1]:  # NaN included
        key = list(last)[place]
        _check_length(float(lengths[place]), f"the vector of {key!r}", key)
    off = np.abs(lengths - 1.0) >= LAST_DIGIT  # vectors that are normalised already keep every bit
    vectors[off] = vectors[off] / lengths[off, None]
    return [
        Row(row.key, vector, checked_payload(row.key, row.payload))
        for row, vector in zip(last.values(), vectors, strict=True)
    ]


def checked_query(vector: Vector, dim: int) -> Vector:
    """Validate the vector of a query and normalise it to float32's last digit.

    Raises:
        InvalidVectors: it is not (dim,) float32, not finite or not of length 1; `.where` is "query".
    """
    _check_vector(vector, "the query's vector", dim, "query")
    wide = vector.astype(np.float64)
    length = math.sqrt(wide @ wide)
    _check_length(length, "the query's vector", "query")
    exact: Vector = (wide / length).astype(np.float32)
    return exact


def unit_vector(numbers: object) -> Vector:
    """Scale numbers of any type to a (dim,) float32 vector of length 1.

    Raises:
        InvalidVectors: they are not finite numbers in one dimension, or all zero.
    """
    try:
        wide = np.asarray(numbers, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidVectors(f"the query's vector cannot be read as numbers: {error}", value=numbers) from error
    with np.errstate(over="ignore", invalid="ignore"):
        length = float(np.linalg.norm(wide))
    if wide.ndim != 1 or not math.isfinite(length) or length < SHORTEST:
        raise InvalidVectors(
            f"the query's vector has the shape {wide.shape} and the length {length:.3g}: give finite numbers in one "
            "dimension, not all zero",
            value=numbers,
        )
    exact: Vector = (wide / length).astype(np.float32)
    return exact


def checked_limits(k: int, min_score: float | None) -> None:
    """Validate the limits of a search.

    Raises:
        InvalidInput: k is below 1, or min_score is not a number.
    """
    if k < 1:
        raise InvalidInput(f"k is {k}; it must be at least 1", value=k, where="k")
    if min_score is not None and math.isnan(min_score):
        raise InvalidInput(
            "min_score is not a number; give a cosine between -1 and 1, or None", value=min_score, where="min_score"
        )


def checked_payload(key: str, payload: Payload) -> dict[str, str | int | float]:
    """Validate a row's payload, and add the key as `path` and the default `type` (image).

    Raises:
        InvalidInput: the key is empty or not UTF-8; a value is not a string in UTF-8, a finite float or an int of
            64 bits; a field that rows are filtered by has another type; a field's name begins with `_`; or the type
            is unknown, or is `text` without a field `text`. `.where` is the key and `.value` the value.
    """
    if not key or not _is_utf8(key):
        raise InvalidInput(f"invalid key {key!r}: a row's key must be a non-empty string in UTF-8", value=key)
    if payload.get("path", key) != key:
        path = payload["path"]
        raise InvalidInput(f"the row {key!r} has the path {path!r}; the two must be the same", value=path, where=key)
    for field, value in payload.items():
        if _takes(field, type(value)) and _is_storable(value):  # type: ignore[arg-type]  # a type is hashable
            continue
        if wrong := _what_is_wrong(field, value):
            raise InvalidInput(f"the row {key!r} has {field} = {value!r}: {wrong}", value=value, where=key)
    stored = {"type": "image", **payload, "path": key}
    if stored["type"] not in TYPES or (stored["type"] == "text" and "text" not in stored):
        raise InvalidInput(
            f"the row {key!r} has the type {stored['type']!r}; it must be image, or text with a field text",
            value=stored["type"],
            where=key,
        )
    return stored


def _is_vector(vector: object, dim: int) -> bool:
    return isinstance(vector, np.ndarray) and vector.dtype == np.float32 and vector.shape == (dim,)


def _check_vector(vector: object, what: str, dim: int, where: str) -> None:
    if not isinstance(vector, np.ndarray) or vector.dtype != np.float32:
        kind = str(vector.dtype) if isinstance(vector, np.ndarray) else type(vector).__name__
        raise InvalidVectors(f"{what} must be an array of float32, not {kind}", value=kind, where=where)
    if vector.shape != (dim,):
        raise InvalidVectors(
            f"{what} has the shape {vector.shape}; this index needs ({dim},)", value=vector.shape, where=where
        )


def _lengths(vectors: Vectors) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", over="ignore"):
        lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return lengths


def _check_length(length: float, what: str, where: str) -> None:
    if not math.isfinite(length):
        raise InvalidVectors(f"{what} is not finite: encoding failed", value=length, where=where)
    if abs(length - 1.0) > TOLERANCE:
        raise InvalidVectors(
            f"{what} has the length {length:.4g}, not 1; divide it by its length", value=length, where=where
        )


@lru_cache(1024)
def _takes(field: str, kind: type) -> bool:
    """Whether a field of that name may hold values of a type: the same few for all rows, so looked up once."""
    zeros: dict[type, str | int | float] = {str: "", int: 0, float: 0.0}
    return kind in zeros and not _what_is_wrong(field, zeros[kind])


def _is_storable(value: str | int | float) -> bool:
    """Whether a value of a type that its field takes can be stored."""
    if isinstance(value, str):
        return value.isascii() or _is_utf8(value)
    return -_LARGEST <= value < _LARGEST if isinstance(value, int) else math.isfinite(value)


def _what_is_wrong(field: str, value: object) -> str:
    kind = FIELDS.get(field)
    if field.startswith("_") or not _is_utf8(field):
        return "names that begin with _ are reserved" if field.startswith("_") else "the name is not UTF-8"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"values must be str, int or float, not {type(value).__name__}"
    if kind is not None and not is_of(field, value):
        return f"{field} must be {kind.__name__}, not {type(value).__name__}"
    if isinstance(value, str):
        return "" if _is_utf8(value) else "the string is not UTF-8"
    if isinstance(value, int):
        return "" if -_LARGEST <= value < _LARGEST else "the number has more than 64 bits"
    return "" if math.isfinite(value) else "the number is not finite"


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
