"""Hits that are too similar: folded into one, or replaced by more different ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuwen.types import Hit

_ROUNDING = 1e-6
"""how far below 1 the cosine of a float32 vector with itself may come out"""


def folded(hits: Sequence[Hit], vectors: Mapping[str, NDArray[np.float32]], unique: float) -> list[Hit]:
    """Keep only the first of hits that are nearly the same, with the others' ids as its `similar`.

    Each hit joins the first one kept so far that it has a cosine of `unique` or more with; else it is kept itself.

    Args:
        hits: best first; order is kept.
        vectors: id -> (dim,) of length 1, of every hit.
        unique: a cosine.
    """
    kept: list[Hit] = []
    similar: list[list[str]] = []
    matrix = np.empty((len(hits), len(vectors[hits[0].id]) if hits else 0), np.float32)
    for hit in hits:
        vector = vectors[hit.id]
        near = np.flatnonzero(matrix[: len(kept)] @ vector >= unique - _ROUNDING)
        if len(near):
            similar[near[0]].append(hit.id)
        else:
            matrix[len(kept)] = vector
            kept.append(hit)
            similar.append([])
    return [replace(hit, similar=tuple(ids)) for hit, ids in zip(kept, similar, strict=True)]


def spread(hits: Sequence[Hit], vectors: Mapping[str, NDArray[np.float32]], diversity: float, k: int) -> list[Hit]:
    """The k hits by maximal marginal relevance (Carbonell and Goldstein, 1998), in the order of choice.

    With S what is chosen already and lambda = 1 - diversity, the next one is the hit d of highest

        lambda * score(d) - (1 - lambda) * max over s in S of cosine(d, s)

    The first is the best hit.

    Args:
        hits: candidates, best first, more than k if there is to be a choice.
        vectors: id -> (dim,) of length 1, of every hit.
        diversity: 0 (the order of the scores) to 1 (the score counts for the first alone).
        k: how many at most.
    """
    if not hits:
        return []
    matrix = np.stack([vectors[hit.id] for hit in hits])
    relevance = (1 - diversity) * np.array([hit.score for hit in hits])
    nearest = np.full(len(hits), -np.inf)
    left = np.ones(len(hits), bool)
    chosen = [0]
    while len(chosen) < min(k, len(hits)):
        left[chosen[-1]] = False
        nearest = np.maximum(nearest, matrix @ matrix[chosen[-1]])
        chosen.append(int(np.argmax(np.where(left, relevance - diversity * nearest, -np.inf))))
    return [hits[place] for place in chosen]
