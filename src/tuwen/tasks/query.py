"""What is looked for -> vectors.

Knows where the vector of a text, a picture and a row comes from. Does not know search.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import InvalidInput
from tuwen.tasks.terms import RowId, Term, describe
from tuwen.types import Vectors

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.runtime.decoding import AnyImage


class Encodes(Protocol):
    """What computes the vectors of texts and pictures. An `Encoder` does."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, every row of length 1."""
        ...

    def encode_images(self, images: "Sequence[AnyImage]") -> Vectors:
        """Likewise. RejectedImages: some cannot be read."""
        ...


def term_vectors(terms: Sequence[Term], encoder: Encodes | None, index: "Index | None" = None) -> Vectors:
    """The vector of each term, whatever its weight.

    Args:
        terms: one or more.
        encoder: the model; None where all terms are rows.
        index: what the rows are of; None where there are none.

    Returns:
        (n, dim) float32, every row of length 1.

    Raises:
        InvalidInput: there is no term, a text is empty, the index has no such row, or the encoder is missing.
        RejectedImages: a picture cannot be read.
    """
    if not terms:
        raise InvalidInput("nothing to look for: give a text, a picture, or something that hits shall be like")
    if any(isinstance(term.what, str) and not term.what.strip() for term in terms):
        raise InvalidInput("an empty text finds nothing: say what to look for")
    stored = _stored([term.what for term in terms if isinstance(term.what, RowId)], index)
    return np.stack(
        [stored[it.what] if isinstance(it.what, RowId) else _computed(it, encoder) for it in terms]
    ).astype(np.float32)


def query_vector(
    terms: Sequence[Term], encoder: Encodes | None, index: "Index | None" = None
) -> NDArray[np.float32]:
    """The weighted sum of the terms' unit vectors, brought to length 1.

    Returns:
        (dim,) float32.

    Raises:
        InvalidInput: see `term_vectors`; or the terms cancel each other out.
        RejectedImages: a picture cannot be read.
    """
    return weighted_sum(terms, term_vectors(terms, encoder, index))


def weighted_sum(terms: Sequence[Term], vectors: Vectors) -> NDArray[np.float32]:
    """As `query_vector`, of terms whose vectors are known: (n, dim) float32."""
    total = np.array([term.weight for term in terms]) @ vectors.astype(np.float64)
    length = float(np.linalg.norm(total))
    if length < 1e-6:
        raise InvalidInput(f"nothing is left to look for: the terms cancel each other out ({describe(terms)})")
    found: NDArray[np.float32] = (total / length).astype(np.float32)
    return found


def _stored(rows: Sequence[RowId], index: "Index | None") -> dict[RowId, NDArray[np.float32]]:
    if not rows:
        return {}
    if index is None:
        raise InvalidInput(f"{rows[0]} is a row, and there is no index to look it up in")
    found = index.vectors([row.id for row in rows])
    for row in rows:
        if row.id not in found:
            raise InvalidInput(f"the index has no row {row}: tuwen index list --json shows the ids that it has")
    return {row: found[row.id] for row in rows}


def _computed(term: Term, encoder: Encodes | None) -> NDArray[np.float32]:
    if encoder is None:
        raise InvalidInput(f"{term} is no row of the index: its vector takes the index's model")
    assert not isinstance(term.what, RowId)
    vector: NDArray[np.float32] = (
        encoder.encode_texts([term.what]) if isinstance(term.what, str) else encoder.encode_images([term.what])
    )[0]
    return vector
