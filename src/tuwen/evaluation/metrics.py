"""Metrics of retrieval and classification, with bootstrap intervals: vectors -> ranks -> figures.

retrieval(images, texts, owners)      ranks both ways, with any number of captions for each image
classification(images, classes, labels)  the rank of each image's class, and what was predicted
multi_label(images, classes, targets)    average precision of each class
interval(result), difference(one, other) 95 % intervals over images

Names and definitions follow CLIP_benchmark, except that ties count against the model: a result that scores as high as
the right one stands before it. A model that gives everything the same vector finds nothing. Scores that differ by
less than the rounding of a float32 product are compared in float64, so identical vectors always tie and ranks do not
depend on the size of a block.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.runtime.machine import usable_cores
from tuwen.types import Vectors

KS = (1, 5, 10)
"""the k of recall at k"""

Counts: TypeAlias = NDArray[np.int64]
Weights: TypeAlias = NDArray[np.int64]
"""how often each image is in a resample"""

_BLOCK = 4096
_ROUNDING = 1e-6
"""more than a float32 product of two unit vectors is off by"""
_EQUAL = 1e-12
"""less than this between two float64 scores is rounding"""
_TILE = (255, 2040)
"""rows and columns compared at a time: in the cache, and sums of bytes in eight lanes do not overflow"""


class Result(Protocol):
    """Something measured on images, whose metrics can be computed again on a resample of them."""

    @property
    def images(self) -> int:
        """How many images it is measured on."""

    def metrics(self, weights: Weights | None = None) -> dict[str, float]:
        """The figures, with each image counted as often as `weights` says; None: once."""


@dataclass(frozen=True, eq=False)
class Retrieval:
    """The ranks of what belongs together, 1 the best.

    Attributes:
        images: how many images there are; those without captions can be found, and are not asked with.
        owners: (m,) the image that each caption belongs to.
        image_ranks: (m,) the rank of its image, for each caption.
        ahead: (m,) for each caption, how many captions of other images its image is at least as similar to.
    """

    images: int
    owners: NDArray[np.int64]
    image_ranks: Counts
    ahead: Counts

    @cached_property
    def text_ranks(self) -> Counts:
        """(images,) the rank of the best of its captions, for each image; 0 for an image without captions."""
        best = np.full(self.images, np.iinfo(np.int64).max)
        np.minimum.at(best, self.owners, self.ahead + 1)
        best[self._captions == 0] = 0
        return best

    @cached_property
    def text_average_precision(self) -> NDArray[np.float64]:
        """(images,) mean over its captions of (captions of its own so far) / (captions so far), best first."""
        order = np.lexsort((self.ahead, self.owners))
        first = np.cumsum(self._captions) - self._captions
        number = np.arange(len(order)) - first[self.owners[order]] + 1
        precision = number / (number + self.ahead[order])
        totals = np.bincount(self.owners[order], precision, self.images)
        return np.asarray(totals / np.maximum(self._captions, 1))

    def metrics(self, weights: Weights | None = None) -> dict[str, float]:
        """Recall at k, mean average precision and median rank, from captions to images and from images to captions."""
        weights = np.ones(self.images, dtype=np.int64) if weights is None else weights
        sums, of_images = weights @ self._per_image, weights[self.text_ranks > 0].sum()
        of_texts = weights @ self._captions
        names = [f"recall@{k}" for k in KS] + ["map"]
        half = len(names)
        image = {f"image_retrieval_{name}": float(sums[place] / of_texts) for place, name in enumerate(names)}
        text = {f"text_retrieval_{name}": float(sums[half + place] / of_images) for place, name in enumerate(names)}
        image["image_retrieval_median_rank"] = _median(self.image_ranks, weights[self.owners], self._image_order)
        text["text_retrieval_median_rank"] = _median(self.text_ranks, weights * (self.text_ranks > 0), self._text_order)
        return image | text

    @cached_property
    def _captions(self) -> Counts:
        return np.bincount(self.owners, minlength=self.images)

    @cached_property
    def _per_image(self) -> NDArray[np.float64]:
        """(images, 8): what each image adds to the sums behind the metrics."""
        by_text = [self.image_ranks <= k for k in KS] + [1 / self.image_ranks]
        by_image = [(self.text_ranks > 0) & (self.text_ranks <= k) for k in KS] + [self.text_average_precision]
        summed = [np.bincount(self.owners, values, self.images) for values in by_text]
        return np.stack([*summed, *by_image], axis=1).astype(np.float64)

    @cached_property
    def _image_order(self) -> NDArray[np.int64]:
        return np.argsort(self.image_ranks, kind="stable")

    @cached_property
    def _text_order(self) -> NDArray[np.int64]:
        return np.argsort(self.text_ranks, kind="stable")


@dataclass(frozen=True, eq=False)
class Classification:
    """What was predicted for images of one class each.

    Attributes:
        classes: how many classes there are to choose from.
        labels: (n,) the class of each image.
        ranks: (n,) the rank of that class, 1 the best.
        predicted: (n,) the best class; where several are equally good, a wrong one.
    """

    classes: int
    labels: NDArray[np.int64]
    ranks: Counts
    predicted: NDArray[np.int64]

    @property
    def images(self) -> int:
        """How many images were classified."""
        return len(self.labels)

    def metrics(self, weights: Weights | None = None) -> dict[str, float]:
        """`acc1`, `acc5` (of at least five classes) and `mean_per_class_recall`, over the classes that images have."""
        weights = np.ones(self.images, dtype=np.int64) if weights is None else weights
        total = weights.sum()
        figures = {
            f"acc{k}": float(weights[self.ranks <= k].sum() / total) for k in (1, 5) if k == 1 or self.classes > 4
        }
        recalls = self.per_class(weights)
        return figures | {"mean_per_class_recall": float(np.nanmean(recalls))}

    def per_class(self, weights: Weights | None = None) -> NDArray[np.float64]:
        """(classes,) the share of each class' images that were recognised; NaN for a class without images."""
        weights = np.ones(self.images, dtype=np.int64) if weights is None else weights
        right = np.bincount(self.labels, weights * (self.ranks == 1), self.classes)
        total = np.bincount(self.labels, weights, self.classes)
        return np.asarray(np.divide(right, total, out=np.full(self.classes, np.nan), where=total > 0))

    def confusions(self, count: int) -> list[tuple[int, int, int]]:
        """The `count` most frequent mistakes: class, the class that was predicted instead, how often."""
        wrong = self.ranks > 1
        pairs = self.labels[wrong] * self.classes + self.predicted[wrong]
        values, often = np.unique(pairs, return_counts=True)
        order = np.argsort(-often, kind="stable")[:count]
        return [(*divmod(int(values[place]), self.classes), int(often[place])) for place in order]


@dataclass(frozen=True, eq=False)
class MultiLabel:
    """Scores of images that may belong to several classes.

    Attributes:
        targets: (n, classes) whether the image belongs to the class.
        order: (n, classes) the images from the best to the worst of each class; of equals, the wrong ones first.
    """

    targets: NDArray[np.bool_]
    order: NDArray[np.int64]

    @property
    def images(self) -> int:
        """How many images were classified."""
        return len(self.targets)

    def metrics(self, weights: Weights | None = None) -> dict[str, float]:
        """`mean_average_precision`, over all classes; a class without images counts as 0, as in CLIP_benchmark."""
        return {"mean_average_precision": float(self.per_class(weights).mean())}

    def per_class(self, weights: Weights | None = None) -> NDArray[np.float64]:
        """(classes,) the average precision of each class; an image in a resample k times stands k times in a row."""
        found = np.zeros(self.targets.shape[1])
        for place in range(len(found)):
            rows = self.order[:, place]
            rows = rows if weights is None else np.repeat(rows, weights[rows])
            right = self.targets[rows, place]
            precision = np.cumsum(right) / np.arange(1, len(rows) + 1)
            found[place] = precision[right].sum() / max(right.sum(), 1)
        return found


def retrieval(images: Vectors, texts: Vectors, owners: NDArray[np.int64], *, block: int = _BLOCK) -> Retrieval:
    """Rank every image for every caption, and every caption for every image.

    Each product is computed once and serves both directions. Memory does not grow with images x captions: it holds
    a block of scores and a few numbers for each row, and the vectors may be memory-mapped.

    Args:
        images: (n, dim) unit rows.
        texts: (m, dim) unit rows.
        owners: (m,) the image that each caption belongs to.
        block: rows and columns of a product that are computed at a time.
    """
    if not len(texts):
        raise ValueError("there is no caption to rank")
    order = np.argsort(owners, kind="stable")
    sorted_owners = owners[order].astype(np.int64)
    own = np.concatenate([_exact(texts, images, rows, owners[rows]) for rows in _blocks(order, block)])
    wanted = _Wanted(images, texts, order, sorted_owners, own)
    image_ahead, text_ahead = np.zeros(len(order), dtype=np.int64), np.zeros(len(order), dtype=np.int64)
    with ThreadPoolExecutor(usable_cores()) as pool:
        for first in range(0, len(order), block):
            rows = slice(first, min(first + block, len(order)))
            left = _rows(texts, order[rows])
            for start in range(0, len(images), block):
                columns = slice(start, min(start + block, len(images)))
                scores = left @ np.asarray(images[columns], dtype=np.float32).T
                wanted.count(scores, rows, columns, image_ahead, text_ahead, pool)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return Retrieval(len(images), owners.astype(np.int64), image_ahead[back] + 1, text_ahead[back])


class _Wanted:
    """The scores that others are compared with: those of what belongs together, captions in the order of images."""

    def __init__(
        self,
        images: Vectors,
        texts: Vectors,
        order: NDArray[np.int64],
        owners: NDArray[np.int64],
        own: NDArray[np.float64],
    ) -> None:
        self._images, self._texts, self._order, self._owners, self._own = images, texts, order, owners, own
        counts = np.bincount(owners, minlength=len(images))
        self._first = np.cumsum(counts) - counts
        self._counts = counts

    def count(
        self,
        scores: NDArray[np.float32],
        rows: slice,
        columns: slice,
        image_ahead: Counts,
        text_ahead: Counts,
        pool: ThreadPoolExecutor,
    ) -> None:
        """Add how many scores of a block are at least as high as the wanted ones."""
        owners = self._owners[rows]
        inside = np.flatnonzero((owners >= columns.start) & (owners < columns.stop))
        scores[inside, owners[inside] - columns.start] = -np.inf  # never ahead of itself, nor of another right one
        own = self._own[rows]

        def exact_rows(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float64]:
            return _exact(self._texts, self._images, self._order[rows][row], columns.start + column)

        image_ahead[rows] += _ahead(scores, own[:, None], exact_rows, 1, pool)
        counts = self._counts[columns]
        for number in range(int(counts.max(initial=0))):
            has = counts > number
            place = np.where(has, self._first[columns] + number, 0)
            level = np.where(has, self._own[place], np.inf)
            found = _ahead(scores, level[None, :], exact_rows, 0, pool)
            text_ahead[place[has]] += found[has]


def _ahead(
    scores: NDArray[np.float32],
    levels: NDArray[np.float64],
    exact: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
    axis: int,
    pool: ThreadPoolExecutor,
) -> Counts:
    """How many scores along an axis are at least as high as their level, compared exactly where rounding matters."""
    above = (levels + _ROUNDING).astype(np.float32)
    near = (levels - _ROUNDING).astype(np.float32)

    def tile(place: tuple[int, int]) -> tuple[Counts, NDArray[np.int64], NDArray[np.int64]]:
        row, column = place
        part = scores[row : row + _TILE[0], column : column + _TILE[1]]
        across = slice(row, row + _TILE[0]) if axis == 1 else slice(column, column + _TILE[1])
        high = above[across] if axis == 1 else above[:, across]
        low = near[across] if axis == 1 else near[:, across]
        candidates = part >= low
        if not candidates.any():  # the most frequent case, where a model is good
            return np.zeros(part.shape[1 - axis], dtype=np.int64), _NONE, _NONE
        surely, maybe = _sum(part > high, axis), _sum(candidates, axis)
        if (surely == maybe).all():
            return surely, _NONE, _NONE
        close_row, close_column = np.nonzero((part >= low) & (part <= high))
        return surely, close_row + row, close_column + column

    total = np.zeros(scores.shape[1 - axis], dtype=np.int64)
    places = [(i, j) for i in range(0, scores.shape[0], _TILE[0]) for j in range(0, scores.shape[1], _TILE[1])]
    for place, (surely, row, column) in zip(places, pool.map(tile, places), strict=True):
        start = place[1 - axis]
        total[start : start + len(surely)] += surely
        for part in _blocks(np.arange(len(row)), _BLOCK):
            level = levels[row[part], 0] if axis == 1 else levels[0, column[part]]
            ahead = exact(row[part], column[part]) >= level
            where = row if axis == 1 else column
            total += np.bincount(where[part][ahead], minlength=len(total))
    return total


_NONE = np.empty(0, dtype=np.int64)


def _sum(mask: NDArray[np.bool_], axis: int) -> Counts:
    """How many are true along an axis of at most a tile: bytes are added eight at a time."""
    more = -mask.shape[1] % 8
    bytes8 = (np.pad(mask, ((0, 0), (0, more))) if more else mask).view(np.uint64)
    if axis == 0:
        return np.asarray(np.add.reduce(bytes8, axis=0).view(np.uint8)[: mask.shape[1]], dtype=np.int64)
    return np.asarray(np.add.reduce(bytes8, axis=1)[:, None].view(np.uint8).sum(axis=1, dtype=np.int64))


def _exact(left: Vectors, right: Vectors, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Products of pairs of rows in float64, each the same wherever it is computed."""
    products = _rows(left, rows).astype(np.float64) * _rows(right, columns)
    return np.asarray(products.sum(axis=1))


def _rows(vectors: Vectors, rows: NDArray[np.int64]) -> Vectors:
    return np.asarray(vectors[rows], dtype=np.float32)


def _blocks(values: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def classification(images: Vectors, classes: Vectors, labels: NDArray[np.int64]) -> Classification:
    """Rank every image's class among all classes.

    Args:
        images: (n, dim) unit rows.
        classes: (c, dim) unit rows, one for each class.
        labels: (n,) the class of each image.
    """
    columns = classes.T.astype(np.float64)
    parts = [
        scored(images[first : first + _BLOCK].astype(np.float64) @ columns, labels[first : first + _BLOCK])
        for first in range(0, len(images), _BLOCK)
    ]
    return Classification(
        len(classes),
        labels.astype(np.int64),
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.predicted for part in parts]),
    )


def scored(scores: NDArray[Any], labels: NDArray[np.int64]) -> Classification:
    """As `classification`, of scores (n, classes) that are already known."""
    rows = np.arange(len(scores))
    own = scores[rows, labels]
    ranks = (scores >= own[:, None] - _EQUAL).sum(axis=1)
    others = np.where(ranks[:, None] > 1, scores, -np.inf)
    others[rows, labels] = np.where(ranks > 1, -np.inf, np.inf)
    return Classification(scores.shape[1], labels.astype(np.int64), ranks, others.argmax(axis=1))


def multi_label(scores: NDArray[Any], targets: NDArray[np.bool_]) -> MultiLabel:
    """Order the images of each class by their scores.

    Args:
        scores: (n, classes).
        targets: (n, classes) whether the image belongs to the class.
    """
    return MultiLabel(targets, np.lexsort((targets, -scores), axis=0))


def _median(values: Counts, weights: Weights, order: NDArray[np.int64]) -> float:
    """The median of values that are there `weights` times; between two, their mean."""
    sums = np.cumsum(weights[order])
    low = np.searchsorted(sums, sums[-1] / 2, side="left")
    high = np.searchsorted(sums, sums[-1] / 2, side="right")
    return float(values[order[low]] + values[order[min(high, len(order) - 1)]]) / 2


RESAMPLES = 1000
LEVEL = 0.95


def interval(result: Result, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % bootstrap interval of each metric: percentiles over resamples of the images, with replacement.

    All captions of an image are drawn with it. Efron, Tibshirani: An Introduction to the Bootstrap, chapter 13.
    """
    return _percentiles(result.images, result.metrics, resamples, seed)


def difference(one: Result, other: Result, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, "Difference"]:
    """How much better the first is than the second on the same images, with paired bootstrap intervals."""

    def both(weights: Weights | None = None) -> dict[str, float]:
        second = other.metrics(weights)
        return {name: value - second[name] for name, value in one.metrics(weights).items() if name in second}

    if one.images != other.images:
        raise ValueError(f"{one.images} images are not paired with {other.images}")
    bounds = _percentiles(one.images, both, resamples, seed)
    return {name: Difference(value, *bounds[name]) for name, value in both().items()}


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of one model minus that of another, and its 95 % interval."""

    value: float
    low: float
    high: float


def _percentiles(
    images: int, metrics: Callable[[Weights], Mapping[str, float]], resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    chance = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(resamples):
        weights = np.bincount(chance.integers(images, size=images), minlength=images)
        for name, value in metrics(weights).items():
            found.setdefault(name, []).append(value)
    ends = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
    return {name: tuple(float(end) for end in np.nanpercentile(values, ends)) for name, values in found.items()}  # type: ignore[misc]


def top_k(queries: Vectors, rows: Vectors, k: int, *, block: int = _BLOCK) -> NDArray[np.int64]:
    """(n, k) the rows most similar to each query, best first; of equals, the first. Blockwise, as `retrieval`."""
    k = min(k, len(rows))
    found = []
    for first in range(0, len(queries), block):
        left = np.asarray(queries[first : first + block], dtype=np.float32)
        best, places = np.empty((len(left), 0), np.float32), np.empty((len(left), 0), np.int64)
        for start in range(0, len(rows), block):
            scores = left @ np.asarray(rows[start : start + block], dtype=np.float32).T
            best, places = _best(
                np.concatenate([best, scores], axis=1),
                np.concatenate([places, np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)], 1),
                k,
            )
        found.append(places)
    return np.concatenate(found) if found else np.empty((0, k), np.int64)


def _best(
    scores: NDArray[np.float32], places: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if k < scores.shape[1]:
        kept = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, places = np.take_along_axis(scores, kept, 1), np.take_along_axis(places, kept, 1)
    order = np.lexsort((places, -scores), axis=1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)


def overlap(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """The mean share of results that two lists of results (n, k) have in common, query by query."""
    shared = [len(np.intersect1d(first, second)) for first, second in zip(one, other, strict=True)]
    return float(np.mean(shared) / one.shape[1]) if len(one) else float("nan")
