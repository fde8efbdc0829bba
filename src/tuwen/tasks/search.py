"""What is looked for -> one vector -> hits.

Knows how texts and pictures are weighed against each other. Does not know what an index is made of.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import InvalidInput
from tuwen.types import Hit

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.runtime.encoder import Encoder

_WEIGHT = re.compile(r"(?P<what>.*):(?P<weight>[0-9]*\.[0-9]+)", re.DOTALL)
"""A weight is a final colon with a decimal number that has a decimal point; `ratio 16:9` has none."""


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that hits shall be like, or unlike where `weight` is negative: a text, or a picture's file."""

    what: str | Path
    weight: float = 1.0

    def __str__(self) -> str:
        """As people read it: `0.5 * cat.jpg`."""
        factor = "" if abs(self.weight) == 1 else f"{abs(self.weight):g} * "
        return f"{'- ' if self.weight < 0 else ''}{factor}{self.what}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many hits, and which. `where` is a filter such as `width >= 1024 and folder == "2023"`."""

    k: int = 10
    min_score: float | None = None
    where: str | None = None
    exact: bool = False


def parse_term(operand: str) -> Term:
    """A text or a file's path, with a weight of its own if it ends so: `cat.jpg:0.5`, `at night:2.0`.

    An operand that is an existing file is a picture, also where its name looks as if it had a weight.
    """
    match = None if Path(operand).is_file() else _WEIGHT.fullmatch(operand)
    if match is None:
        return Term(_text_or_file(operand))
    return Term(_text_or_file(match["what"]), float(match["weight"]))


def describe(terms: Sequence[Term]) -> str:
    """What is looked for, in one line: `at night + 0.5 * cat.jpg - people`."""
    first, *others = [str(term) for term in terms]
    return first + "".join(f" {other}" if other.startswith("- ") else f" + {other}" for other in others)


def query_vector(terms: Sequence[Term], encoder: "Encoder") -> NDArray[np.float32]:
    """The weighted sum of the terms' unit vectors, brought to length 1.

    Returns:
        (dim,) float32.

    Raises:
        InvalidInput: there is no term, a text is empty, or the terms cancel each other out.
        RejectedImages: a picture cannot be read.
    """
    if any(isinstance(term.what, str) and not term.what.strip() for term in terms):
        raise InvalidInput("an empty text finds nothing: say what to look for")
    total = np.zeros(encoder.dim, np.float64)
    for term in terms:
        vectors = (
            encoder.encode_texts([term.what]) if isinstance(term.what, str) else encoder.encode_images([term.what])
        )
        total += term.weight * vectors[0].astype(np.float64)
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise InvalidInput(
            f"nothing is left to look for: the terms cancel each other out ({describe(terms)})"
            if terms
            else "nothing to look for: give a text, a picture, or something that hits shall be like"
        )
    return (total / length).astype(np.float32)


def search(terms: Sequence[Term], encoder: "Encoder", index: "Index", wanted: Wanted) -> list[Hit]:
    """The rows nearest to the terms, best first. `Hit.score` is the cosine.

    Raises:
        InvalidInput: see `query_vector`; or the filter cannot be understood.
        RejectedImages: a picture of the query cannot be read.
    """
    vector = query_vector(terms, encoder)
    return index.search(vector, k=wanted.k, min_score=wanted.min_score, where=wanted.where, exact=wanted.exact)


def _text_or_file(operand: str) -> str | Path:
    path = Path(operand)
    return path if path.is_file() else operand
