"""Vectors that lie as CLIP's do: not noise, in which every index looks bad and every filter good.

Pictures share a large mean (two of them have a cosine of 0.5), stand in clusters of very different sizes, and vary
within a cluster along few directions. Texts have another mean, so that the best picture for a text has a cosine of
0.3 or so, and its neighbours hardly less.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

RANK = 64
"""directions in which pictures vary"""


@dataclass(frozen=True)
class Collection:
    """Pictures, and queries for them; all of length 1."""

    pictures: Vectors
    picture_queries: Vectors
    text_queries: Vectors


def unit(vectors: NDArray[np.floating]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_collection(rows: int, dim: int, queries: int, seed: int = 0) -> Collection:
    random = np.random.default_rng(seed)
    mean = unit(random.normal(size=(1, dim)))
    spectrum = (1 / np.sqrt(1 + np.arange(RANK))).astype(np.float32)
    basis = np.linalg.qr(random.normal(size=(dim, RANK)))[0].T.astype(np.float32)
    centres = unit(_directions(random, max(20, rows // 200), spectrum) @ basis)
    sizes = 1 / (1 + np.arange(len(centres))) ** 0.7
    pictures = np.empty((rows, dim), np.float32)
    for start in range(0, rows, 50_000):  # a million in float64 at once would not fit
        block = pictures[start : start + 50_000]
        cluster = random.choice(len(centres), size=len(block), p=sizes / sizes.sum())
        inner = _directions(random, len(block), spectrum) @ basis
        block[:] = unit(0.72 * mean + 0.5 * centres[cluster] + 0.4 * inner + 0.25 * _noise(random, len(block), dim))
    return Collection(
        pictures,
        picture_queries=unit(_some(random, pictures, queries) + 0.3 * _noise(random, queries, dim)),
        text_queries=_texts(random, _some(random, pictures, queries), mean),
    )


def nearest(pictures: Vectors, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
    """The exact k nearest of each query, by numpy: their places and cosines, best first."""
    places = np.empty((len(queries), k), np.int64)
    cosines = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), 100):
        scores = queries[start : start + 100] @ pictures.T
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        places[start : start + 100] = np.take_along_axis(best, order, 1)
        cosines[start : start + 100] = np.take_along_axis(scores, places[start : start + 100], 1)
    return places, cosines


def _texts(random: np.random.Generator, pictures: Vectors, mean: Vectors) -> Vectors:
    content = unit(pictures - (pictures @ mean.T) * mean)
    other = random.normal(size=mean.shape)
    other = unit(other - (other @ mean.T) * mean)
    return unit(0.86 * other + 0.33 * content + 0.1 * mean + 0.25 * _noise(random, *pictures.shape))


def _directions(random: np.random.Generator, count: int, spectrum: Vectors) -> Vectors:
    return unit(random.normal(size=(count, RANK)).astype(np.float32) * spectrum)


def _noise(random: np.random.Generator, count: int, dim: int) -> Vectors:
    return random.normal(size=(count, dim)).astype(np.float32) / np.float32(np.sqrt(dim))


def _some(random: np.random.Generator, pictures: Vectors, count: int) -> Vectors:
    return pictures[random.choice(len(pictures), count)]
