"""The values in the pipe, from a file to a hit. All are plain and frozen; none knows how it is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.float32]
"""(n, 3, height, width) float32, scaled and normalised as the model's image spec says."""

Vectors: TypeAlias = NDArray[np.float32]
"""(n, dim) float32, every row of length 1."""

Payload: TypeAlias = Mapping[str, str | int | float]
"""What an index stores beside a vector."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Texts as a text tower reads them, padded to one length as the model's text spec says.

    Attributes:
        ids: (n, length) int64.
        lengths: (n,) int64, how many of each row's ids are real: start and end tokens count, padding does not.
        truncated: how many of the texts were cut to fit the model's context length (their end token is kept).
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Port:
    """One input of a tower.

    Attributes:
        name: as the tower calls it.
        shape: each axis' fixed length, or None where it is dynamic.
        dtype: what it takes; the encoder casts to it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a collection.

    Attributes:
        key: its path relative to the collection's root, with `/`, percent-encoded if it is not UTF-8.
        path: where to open it.
        size: bytes.
        modified: seconds since the epoch.
    """

    key: str
    path: Path
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that claims to be a picture and cannot be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """What is written to an index: the source key, a (dim,) float32 vector of length 1, and the payload."""

    key: str
    vector: NDArray[np.float32]
    payload: Payload


@dataclass(frozen=True, slots=True)
class Hit:
    """What a search returns. `score` is the cosine; `payload["path"]` is the source key.

    `similar`: the ids of rows that are nearly the same and were folded into this one, where that was asked for.
    """

    id: str
    score: float
    payload: Payload = field(default_factory=dict)
    similar: tuple[str, ...] = ()
