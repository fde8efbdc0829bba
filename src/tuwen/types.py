"""The data types that the packages exchange, from a file to a hit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.float32]
"""(n, 3, height, width) float32, scaled and normalised as the model's image spec says"""

Vectors: TypeAlias = NDArray[np.float32]
"""(n, dim) float32, every row of length 1"""

Payload: TypeAlias = Mapping[str, str | int | float]
"""what an index stores beside a vector"""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokenized texts, padded to one length as the model's text spec says.

    Attributes:
        ids: (n, length) int64.
        lengths: (n,) int64, each row's number of tokens, including start and end tokens but not padding.
        truncated: how many texts were truncated to the model's context length (their end token is kept).
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Port:
    """An input of a tower.

    Attributes:
        name: its name in the graph.
        shape: the length of each axis; None for a dynamic one.
        dtype: its type, to which the encoder casts.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A file of XMP beside an image. `modified`: in seconds since 1970."""

    path: Path
    modified: float


@dataclass(frozen=True, slots=True)
class Source:
    """An image file of a collection.

    Attributes:
        key: its path relative to the collection's root, with `/`; percent-encoded if it is not UTF-8.
        path: the file.
        size: in bytes.
        modified: its modification time, in seconds since 1970.
        sidecar: its XMP sidecar, None if it has none or nobody looked for one.
    """

    key: str
    path: Path
    size: int
    modified: float
    sidecar: Sidecar | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that claims to be an image and cannot be read, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row to be written to an index: its key, a (dim,) float32 vector of length 1, and its payload."""

    key: str
    vector: NDArray[np.float32]
    payload: Payload


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result.

    Attributes:
        id: the row's id.
        score: the cosine of the query and the row.
        payload: what the index stores of the row; `path` is its key.
        similar: ids of near-duplicate rows that were folded into this one, if the search groups them.
    """

    id: str
    score: float
    payload: Payload = field(default_factory=dict)
    similar: tuple[str, ...] = ()
