"""Queries: texts, images, vectors and rows, each with a weight; parsed from text, and turned into vectors."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen.data.files import is_file, is_folder
from tuwen.data.formats import format_of_name
from tuwen.errors import InvalidInput, InvalidVectors
from tuwen.index.rows import unit_vector
from tuwen.index.store import Vector, row_id
from tuwen.types import Hit, Payload, Vectors

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.pipeline import AnyImage

_WEIGHT = re.compile(r"(?P<what>.*):(?P<weight>[0-9]*\.[0-9]+)", re.DOTALL)
"""a weight is a final colon and a number with a decimal point; `ratio 16:9` has none"""
_TAIL = re.compile(r":[-+]?[0-9.]+")
"""what may be meant as a weight"""
_ID = "id:"


class Named(Protocol):
    """Rows that can be looked up by their keys, as in a `VectorIndex`."""

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class RowId:
    """A row of the index, by its id (`Hit.id`). Its vector is stored, so it needs no model."""

    id: str

    def __str__(self) -> str:
        """As on the command line: `id:1b671a64-40d5-591e-99b0-da01ff1f3341`."""
        return f"{_ID}{self.id}"


@dataclass(frozen=True, slots=True)
class Term:
    """Something that hits should resemble, or should not if `weight` is negative.

    Attributes:
        what: a text, an image (a path, a file's content, a Pillow image), a row, or a (dim,) vector of length 1.
        weight: its weight in the query.
    """

    what: str | Path | bytes | Image.Image | RowId | Vector
    weight: float = 1.0

    def __str__(self) -> str:
        """As in `describe`: `0.5 * cat.jpg`."""
        factor = "" if abs(self.weight) == 1 else f"{abs(self.weight):g} * "
        shown = "an image" if isinstance(self.what, bytes | Image.Image) else self.what
        shown = "a vector" if isinstance(shown, np.ndarray) else shown
        return f"{'- ' if self.weight < 0 else ''}{factor}{shown}"


Strategy: TypeAlias = Literal["average", "best"]
Operand: TypeAlias = str | Path | bytes | Image.Image | Vector | RowId | Hit
"""What a query is made of: a text, an image (a path, a file's content, an image of Pillow), a vector, or a row."""


@dataclass(frozen=True, slots=True)
class Query:
    """What hits should resemble, and what they should not.

    Attributes:
        like: operands, each alone or in a pair with a weight above 0.
        unlike: likewise.
        strategy: `average`: near the weighted mean of all operands; `best`: near any one of them.
    """

    like: Sequence[Operand | tuple[Operand, float]] = ()
    unlike: Sequence[Operand | tuple[Operand, float]] = ()
    strategy: Strategy = "average"


def terms_of(query: Operand | Query) -> list[Term]:
    """A query as terms: what it is like, then what it is unlike with negative weights.

    Raises:
        InvalidInput: an operand is of no known type, a text is the path of an existing image, or a weight is not a
            finite number above 0.
        InvalidVectors: a vector is not one-dimensional and finite, or is zero.
    """
    whole = query if isinstance(query, Query) else Query(like=[query])
    for name, operands in (("like", whole.like), ("unlike", whole.unlike)):
        if isinstance(operands, str | Path | bytes | Image.Image | np.ndarray | RowId | Hit):
            raise InvalidInput(f"{name} is a single operand: write [{operands!r}]", value=operands, where=name)
    liked = [_term_of(operand, "like") for operand in whole.like]
    unliked = [_term_of(operand, "unlike") for operand in whole.unlike]
    return [*liked, *(replace(term, weight=-term.weight) for term in unliked)]


def _term_of(operand: Operand | tuple[Operand, float], where: str) -> Term:
    what, weight = operand if isinstance(operand, tuple) else (operand, 1.0)
    if not 0 < weight < float("inf"):
        raise InvalidInput(f"the weight {weight!r} is not a finite number above 0", value=weight, where=where)
    if isinstance(what, Hit):
        return Term(RowId(what.id), float(weight))
    if isinstance(what, np.ndarray):
        return Term(unit_vector(what), float(weight))
    if isinstance(what, str):
        refuse_path(what, where)
    if isinstance(what, str | Path | bytes | Image.Image | RowId):
        return Term(what, float(weight))
    raise InvalidInput(
        f"cannot search for a value of type {type(what).__name__}: give a text, a Path, bytes, a Pillow image, a "
        "vector, a Hit or a RowId",
        value=what,
        where=where,
    )


def parse_term(operand: str, index: "Named | None" = None) -> Term:
    """Parse an operand of `--like`: `cat.jpg:0.5`, `at night:2.0`, `id:1b671a64-40d5-591e-99b0-da01ff1f3341`.

    An existing file is an image, even if its name looks as if it had a weight; the key of a row of `index` is that
    row; `id:` is followed by a row's id; anything else is a text.

    Raises:
        InvalidInput: nothing follows `id:`.
    """
    whole = _not_a_text(operand, index)
    match = None if whole else _WEIGHT.fullmatch(operand)
    if match is None:
        return Term(whole or operand)
    return Term(_not_a_text(match["what"], index) or match["what"], float(match["weight"]))


def path_kind(text: str) -> Literal["file", "folder"] | None:
    """Whether a text is the path of something that exists, so that a person may not have meant it as a text.

    A file counts if its name has an image's extension or the text has a separator, as in `photos/cat`.
    """
    path = Path(text)
    if is_file(path):
        return "file" if format_of_name(text) or len(path.parts) > 1 else None
    return "folder" if text and is_folder(path) else None


def path_instead_of_text(text: str) -> Literal["file", "folder"] | None:
    """As `path_kind`, for a query: a folder counts only if the text has a separator, since `cat` may well be one."""
    kind = path_kind(text)
    return None if kind == "folder" and len(Path(text).parts) < 2 else kind


def refuse_path(text: str, where: str) -> None:
    """Refuse a text that is the path of an existing image or folder: a path is never silently searched as a text.

    Raises:
        InvalidInput: it is one; `where` names the argument.
    """
    kind = path_instead_of_text(text)
    if kind == "file":
        raise InvalidInput(
            f"{text} is a file, and a str is searched for as a text", value=text, where=where, hint=f"Path({text!r})"
        )
    if kind == "folder":
        raise InvalidInput(
            f"{text} is a folder, not a query", value=text, where=where, hint="the Path of an image in it"
        )


def doubts(texts: Sequence[str]) -> list[str]:
    """A line about each operand that is taken as a text but looks like the name of an image file."""
    named = [text for text in texts if format_of_name(_TAIL.sub("", text))]
    return [
        f"{text} is neither a file nor a row: it is searched for as a text; weights are written :0.5" for text in named
    ]


def describe(terms: Sequence[Term]) -> str:
    """A query in one line: `at night + 0.5 * cat.jpg - people`."""
    first, *others = [str(term) for term in terms]
    return first + "".join(f" {other}" if other.startswith("- ") else f" + {other}" for other in others)


def _not_a_text(operand: str, index: "Named | None") -> Path | RowId | None:
    """The file or row that an operand names; None if it is a text, or ends in a weight."""
    path = Path(operand)
    if is_file(path):
        return path
    if operand.startswith(_ID):
        return None if _WEIGHT.fullmatch(operand) else _row(operand.removeprefix(_ID))
    if index is not None and operand and index.payloads([operand]):
        return RowId(str(row_id(operand)))
    return None


def _row(given: str) -> RowId:
    if not given.strip():
        raise InvalidInput(
            "id: must be followed by a row's id: copy one from tuwen search --json", value=f"{_ID}{given}"
        )
    return RowId(given.strip().lower())


_OPERATOR = re.compile(r"(?:(?<=\s)|^)[+-](?=\s|$)")
"""a plus or minus surrounded by white space or an end, so not the ones in `T-shirt` and `C++`"""
_FACTOR = re.compile(r"(?P<weight>\d+(?:\.\d+)?|\.\d+)\s+\*\s+(?P<what>.*)", re.DOTALL)


def parse_compose(text: str, index: "Named | None" = None) -> list[Term]:
    """Parse terms that are added and subtracted, with weights as in `0.5 * sunset` or `sunset:0.5`.

    Args:
        text: the query; `+` and `-` are surrounded by spaces, operands are those of `parse_term`.
        index: to look up keys of rows, see `parse_term`.

    Raises:
        InvalidInput: an operand is missing, or has two weights; the message shows where.
    """
    return [_term(text, sign, start, end, index) for sign, start, end in _operands(text)]


def _operands(text: str) -> Iterator[tuple[int, int, int]]:
    """The sign, the start and the end of each operand. A sign may stand before the first."""
    sign, start = 1, 0
    for operator in _OPERATOR.finditer(text):
        if text[: operator.start()].strip():
            yield sign, start, operator.start()
        sign, start = 1 if operator.group() == "+" else -1, operator.end()
    yield sign, start, len(text)


def _term(text: str, sign: int, start: int, end: int, index: "Named | None") -> Term:
    operand = text[start:end].strip()
    if not operand:
        raise InvalidInput(_at(text, start, "a text, a file or a row's id is missing"))
    match = _FACTOR.fullmatch(operand)
    term = parse_term(match["what"].strip() if match else operand, index)
    if not match:
        return replace(term, weight=sign * term.weight)
    if term.weight != 1 or _FACTOR.fullmatch(str(term.what)):
        raise InvalidInput(_at(text, start, f"two weights for one operand: {operand}; write one of them"))
    return replace(term, weight=sign * float(match["weight"]))


def _at(text: str, place: int, problem: str) -> str:
    """A problem and its place, in one line: `the composed query, character 8: …: beach +►- people`."""
    return f"the composed query, character {place + 1}: {problem}: {text[:place]}►{text[place:]}"


class Encodes(Protocol):
    """Computes the vectors of texts and images, as an `Encoder` does."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, every row of length 1."""
        ...

    def encode_images(self, images: "Sequence[AnyImage]") -> Vectors:
        """Likewise. RejectedImages: some cannot be read."""
        ...


def term_vectors(terms: Sequence[Term], encoder: Encodes | None, index: "VectorIndex | None" = None) -> Vectors:
    """The vector of each term, regardless of its weight.

    Args:
        terms: one or more.
        encoder: the model; may be None if all terms are rows or vectors.
        index: the index of the rows; may be None if there are none.

    Returns:
        (n, dim) float32, every row of length 1.

    Raises:
        InvalidInput: there is no term, a text is empty, the index has no such row, or the encoder is missing.
        InvalidVectors: the vectors have different dimensions.
        RejectedImages: an image cannot be read.
    """
    if not terms:
        raise InvalidInput("the query is empty: give a text, an image, or something that hits should resemble")
    if any(isinstance(term.what, str) and not term.what.strip() for term in terms):
        raise InvalidInput("a text of the query is empty: say what to search for")
    stored = _stored([term.what for term in terms if isinstance(term.what, RowId)], index)
    found = [stored[it.what] if isinstance(it.what, RowId) else _computed(it, encoder) for it in terms]
    shapes = {vector.shape for vector in found}
    if len(shapes) > 1:
        raise InvalidVectors(f"the query has vectors of different dimensions: {sorted(shapes)}", value=shapes)
    return np.stack(found).astype(np.float32)


def query_vector(
    terms: Sequence[Term], encoder: Encodes | None, index: "VectorIndex | None" = None
) -> NDArray[np.float32]:
    """The weighted sum of the terms' unit vectors, scaled to length 1.

    Returns:
        (dim,) float32.

    Raises:
        InvalidInput: see `term_vectors`; or the terms cancel each other out.
        RejectedImages: an image cannot be read.
    """
    return weighted_sum(terms, term_vectors(terms, encoder, index))


def weighted_sum(terms: Sequence[Term], vectors: Vectors) -> NDArray[np.float32]:
    """As `query_vector`, of terms whose vectors are known: (n, dim) float32."""
    total = np.array([term.weight for term in terms]) @ vectors.astype(np.float64)
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise InvalidInput(f"the terms of the query cancel each other out ({describe(terms)})")
    found: NDArray[np.float32] = (total / length).astype(np.float32)
    return found


def _stored(rows: Sequence[RowId], index: "VectorIndex | None") -> dict[RowId, NDArray[np.float32]]:
    if not rows:
        return {}
    if index is None:
        raise InvalidInput(f"{rows[0]} is a row, but there is no index to look it up in", value=rows[0].id)
    found = index.vectors([row.id for row in rows])
    for row in rows:
        if row.id not in found:
            raise InvalidInput(f"the index has no row {row}: tuwen index list --json shows the ids", value=row.id)
    return {row: found[row.id] for row in rows}


def _computed(term: Term, encoder: Encodes | None) -> NDArray[np.float32]:
    if isinstance(term.what, np.ndarray):
        return term.what
    if encoder is None:
        raise InvalidInput(
            f"{term} is not a row of the index: its vector has to be computed by the index's model", value=term.what
        )
    assert not isinstance(term.what, RowId | np.ndarray)
    vector: NDArray[np.float32] = (
        encoder.encode_texts([term.what]) if isinstance(term.what, str) else encoder.encode_images([term.what])
    )[0]
    return vector
