"""Metrics of retrieval and classification, with bootstrap intervals: vectors -> ranks -> figures.

retrieval(images, texts, owners)      ranks both ways, with any number of captions for each image
classification(images, classes, labels)  the rank of each image's class, and what was predicted
multi_label(scores, targets)             average precision of each class
false_accepts, false_rejects             of a threshold on scores; `fewest_errors` chooses one
interval(result), difference(one, other) 95 % intervals over images

Names and definitions follow CLIP_benchmark, except that ties count against the model: a result that scores as high as
the right one stands before it. A model that gives everything the same vector finds nothing. Scores that differ by
less than the rounding of a float32 product are compared in float64, so identical vectors always tie and ranks do not
depend on the size of a block.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tuwen.runtime.machine import usable_cores
from tuwen.types import Vectors

KS = (1, 5, 10)
"""the k of recall at k"""

Counts: TypeAlias = NDArray[np.int64]
Weights: TypeAlias = NDArray[np.int64]
"""how often each image is in a resample"""

_BLOCK = 2040
"""columns of a product: as fast as a product of everything; with more, sums of bytes would overflow"""
_ROWS = 1024
"""rows of a product"""
_ROUNDING = 1e-6
"""more than a float32 product of two unit vectors is off by"""
_EQUAL = 1e-12
"""less than this between two float64 scores is rounding"""
_CLOSE = 512
"""products that are computed in float64 at a time"""
_TILE = 64
"""rows that are compared at a time: they stay in the cache of a core; above 255, sums of bytes would overflow"""


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
        ks: the k of recall at k.
    """

    images: int
    owners: NDArray[np.int64]
    image_ranks: Counts
    ahead: Counts
    ks: Sequence[int] = KS

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
        names = [f"recall@{k}" for k in self.ks] + ["map"]
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
        """(images, 2 x (ks + 1)): what each image adds to the sums behind the metrics."""
        by_text = [self.image_ranks <= k for k in self.ks] + [1 / self.image_ranks]
        by_image = [(self.text_ranks > 0) & (self.text_ranks <= k) for k in self.ks] + [self.text_average_precision]
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
        prefix: what the names of the metrics begin with.
        ks: the k of accuracies.
    """

    classes: int
    labels: NDArray[np.int64]
    ranks: Counts
    predicted: NDArray[np.int64]
    prefix: str = ""
    ks: Sequence[int] = (1, 5)

    @property
    def images(self) -> int:
        """How many images were classified."""
        return len(self.labels)

    def metrics(self, weights: Weights | None = None) -> dict[str, float]:
        """`acc1`, `acc5` (of at least five classes) and `mean_per_class_recall`, over the classes that images have."""
        weights = np.ones(self.images, dtype=np.int64) if weights is None else weights
        total = weights.sum()
        figures = {
            f"{self.prefix}acc{k}": float(weights[self.ranks <= k].sum() / total)
            for k in self.ks
            if k == 1 or k <= self.classes
        }
        recalls = self.per_class(weights)
        return figures | {f"{self.prefix}mean_per_class_recall": float(np.nanmean(recalls))}

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


def retrieval(
    images: Vectors,
    texts: Vectors,
    owners: NDArray[np.int64],
    *,
    ks: Sequence[int] = KS,
    block: int = _BLOCK,
    on_progress: Callable[[int, int], None] | None = None,
) -> Retrieval:
    """Rank every image for every caption, and every caption for every image.

    Each product is computed once and serves both directions. Memory does not grow with images x captions: each core
    holds a block of scores, and there are a few numbers for each row. The vectors may be memory-mapped.

    Args:
        images: (n, dim) unit rows.
        texts: (m, dim) unit rows.
        owners: (m,) the image that each caption belongs to.
        ks: the k of recall at k.
        block: the most rows and columns of a product that are computed at a time.
        on_progress: called with how many captions have been compared, and how many there are.
    """
    if not len(texts):
        raise ValueError("there is no caption to rank")
    cores, block = usable_cores(), min(block, _BLOCK)
    rows = min(block, _ROWS, max(len(texts) // (4 * cores), _TILE))
    wanted = _Wanted(images, texts, owners, rows, block)
    strips = [slice(first, min(first + rows, len(texts))) for first in range(0, len(texts), rows)]
    image_ahead, text_ahead = np.zeros(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.int64)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cores) as pool:
        for strip, (of_rows, of_texts) in zip(strips, pool.map(wanted.count, strips), strict=True):
            image_ahead[wanted.order[strip]] = of_rows
            text_ahead[wanted.order] += of_texts
            if on_progress is not None:
                on_progress(strip.stop, len(texts))
    return Retrieval(len(images), owners.astype(np.int64), image_ahead + 1, text_ahead, ks)


class _Levels(NamedTuple):
    """Scores that others are compared with.

    Attributes:
        values: the scores.
        near: above this, a float32 product may be at least as high.
        above: above this, it is.
    """

    values: NDArray[np.float64]
    near: NDArray[np.float32]
    above: NDArray[np.float32]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "_Levels":
        return cls(values, (values - _ROUNDING).astype(np.float32), (values + _ROUNDING).astype(np.float32))


class _Wanted:
    """The scores of what belongs together, and how many others are at least as high.

    Attributes:
        order: the captions image by image, those of an image from the least similar to the most.
    """

    def __init__(self, images: Vectors, texts: Vectors, owners: NDArray[np.int64], rows: int, block: int) -> None:
        self._images, self._texts, self._rows, self._block = images, texts, rows, block
        parts = _blocks(np.arange(len(texts)), _CLOSE)
        own = np.concatenate([_exact(texts, images, part, owners[part]) for part in parts])
        self.order = np.lexsort((own, owners))
        self._owners, self._own = owners[self.order], own[self.order]
        self._counts = np.bincount(owners, minlength=len(images))
        self._first = np.cumsum(self._counts) - self._counts
        self._buffers = threading.local()

    def count(self, strip: slice) -> tuple[Counts, Counts]:
        """Compare some captions, places in `order`, with all images.

        Returns:
            for each of these captions, how many other images are at least as similar as its own; and for each
            caption of all, in `order`, how many of these captions are at least as similar to its image.
        """
        left, owners = _rows(self._texts, self.order[strip]), self._owners[strip]
        of_rows, of_texts = np.zeros(len(left), dtype=np.int64), np.zeros(len(self.order), dtype=np.int64)
        for start in range(0, len(self._images), self._block):
            columns = slice(start, min(start + self._block, len(self._images)))
            scores, mask = self._product(left, _rows(self._images, columns))
            inside = np.flatnonzero((owners >= columns.start) & (owners < columns.stop))
            scores[inside, owners[inside] - start] = -np.inf  # never ahead of itself, nor of another right one
            counts = self._counts[columns]
            has = np.arange(int(counts.max(initial=0)))[:, None] < counts
            places = np.where(has, self._first[columns] + np.arange(len(has))[:, None], 0)
            values = np.full((len(has), scores.shape[1]), np.inf)
            values[:, : len(counts)] = np.where(has, self._own[places], np.inf)

            def exact(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float64]:
                return _exact(self._texts, self._images, self.order[strip][row], start + column)  # noqa: B023

            in_rows, in_columns = _ahead(scores, mask, _Levels.of(self._own[None, strip]), _Levels.of(values), exact)
            of_rows += in_rows
            of_texts[places[has]] += in_columns[:, : len(counts)][has]
        return of_rows, of_texts

    def _product(self, left: Vectors, right: Vectors) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The products of two blocks, filled up to whole words of eight columns; and space to compare a tile of them.

        Both are used again by the same thread: new memory costs more than a comparison.
        """
        width = -(-len(right) // 8) * 8
        if not hasattr(self._buffers, "scores"):
            self._buffers.scores = np.empty(self._rows * (self._block + 7), dtype=np.float32)
            self._buffers.mask = np.empty(_TILE * (self._block + 7), dtype=np.bool_)
        scores = self._buffers.scores[: len(left) * width].reshape(len(left), width)
        np.matmul(left, right.T, out=scores[:, : len(right)])
        scores[:, len(right) :] = -np.inf
        return scores, self._buffers.mask[: _TILE * width].reshape(_TILE, width)


_Exact: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]


def _ahead(
    scores: NDArray[np.float32], mask: NDArray[np.bool_], rows: _Levels, columns: _Levels, exact: _Exact
) -> tuple[Counts, Counts]:
    """How many scores of a block are at least as high as the level of their row, and as each level of their column.

    A level is compared with twice, a little below and a little above. Only where the two counts differ are there scores
    too near to tell, which are computed in float64.

    Args:
        scores: (n, m), m a multiple of 8.
        mask: (tile, m) for comparisons.
        rows: levels (1, n).
        columns: levels (k, m), ascending.
        exact: computes scores, given their rows and columns.
    """
    near = [np.zeros(each.values.shape, dtype=np.int64) for each in (rows, columns)]
    ahead = [np.zeros_like(each) for each in near]
    for first in range(0, len(scores), _TILE):
        part = scores[first : first + _TILE]
        tile, space = slice(first, first + len(part)), mask[: len(part)]
        found = _sum(np.greater_equal(part, rows.near[0, tile, None], out=space), 1)
        if found.any():
            near[0][0, tile] = found
            ahead[0][0, tile] = _sum(np.greater(part, rows.above[0, tile, None], out=space), 1)
        for level in range(len(columns.values)):
            found = _sum(np.greater_equal(part, columns.near[level], out=space), 0)
            if not found.any():
                break
            near[1][level] += found
            ahead[1][level] += _sum(np.greater(part, columns.above[level], out=space), 0)
    _add_close(ahead[0], near[0], lambda row: scores[row], rows, exact)
    _add_close(
        ahead[1], near[1], lambda column: scores.take(column, 1).T, columns, lambda one, other: exact(other, one)
    )
    return ahead[0][0], ahead[1]


def _add_close(
    ahead: Counts,
    near: Counts,
    scores: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    levels: _Levels,
    exact: _Exact,
) -> None:
    """Add the scores that are too near to their level to tell: of n lines of `scores`, whose levels are (k, n)."""
    for level, values in enumerate(levels.values):
        lines = np.flatnonzero(near[level] != ahead[level])
        if not len(lines):
            continue
        part, low, high = scores(lines), levels.near[level, lines, None], levels.above[level, lines, None]
        for close in _blocks(np.flatnonzero((part >= low) & (part <= high)), _CLOSE):
            line, other = lines[close // part.shape[1]], close % part.shape[1]
            ahead[level] += np.bincount(line[exact(line, other) >= values[line]], minlength=len(values))


def _sum(mask: NDArray[np.bool_], axis: int) -> Counts:
    """How many are true along an axis of at most a tile: bytes are added eight at a time."""
    words = np.add.reduce(mask.view(np.uint64), axis=axis)
    if axis == 0:
        return np.asarray(words.view(np.uint8), dtype=np.int64)
    return np.asarray(words[:, None].view(np.uint8).sum(axis=1, dtype=np.int64))


def _exact(left: Vectors, right: Vectors, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Products of pairs of rows in float64, each the same wherever it is computed."""
    return np.asarray(np.einsum("ij,ij->i", left[rows].astype(np.float64), right[columns].astype(np.float64)))


def _rows(vectors: Vectors, rows: NDArray[np.int64] | slice) -> Vectors:
    return np.asarray(vectors[rows], dtype=np.float32)


def _blocks(values: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def classification(
    images: Vectors, classes: Vectors, labels: NDArray[np.int64], *, ks: Sequence[int] = (1, 5)
) -> Classification:
    """Rank every image's class among all classes.

    Args:
        images: (n, dim) unit rows.
        classes: (c, dim) unit rows, one for each class.
        labels: (n,) the class of each image.
        ks: the k of accuracies.
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
        ks=ks,
    )


def scored(scores: NDArray[Any], labels: NDArray[np.int64], *, prefix: str = "") -> Classification:
    """As `classification`, of scores (n, classes) that are already known."""
    rows = np.arange(len(scores))
    own = scores[rows, labels]
    ranks = (scores >= own[:, None] - _EQUAL).sum(axis=1)
    others = np.where(ranks[:, None] > 1, scores, -np.inf)
    others[rows, labels] = np.where(ranks > 1, -np.inf, np.inf)
    return Classification(scores.shape[1], labels.astype(np.int64), ranks, others.argmax(axis=1), prefix)


def multi_label(scores: NDArray[Any], targets: NDArray[np.bool_]) -> MultiLabel:
    """Order the images of each class by their scores.

    Args:
        scores: (n, classes).
        targets: (n, classes) whether the image belongs to the class.
    """
    return MultiLabel(targets, np.lexsort((targets, -scores), axis=0))


def false_rejects(matching: NDArray[np.float64], thresholds: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """For each threshold, the share of scores below it.

    Args:
        matching: (n,) sorted scores of what belongs together.
        thresholds: a number, or an array of any shape.
    """
    return np.asarray(np.searchsorted(matching, thresholds) / len(matching))


def false_accepts(unmatching: NDArray[np.float64], thresholds: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """For each threshold, the share of scores that reach it: (n,) sorted scores of what does not belong together."""
    return 1 - false_rejects(unmatching, thresholds)


def fewest_errors(matching: NDArray[np.float64], unmatching: NDArray[np.float64]) -> float:
    """The threshold with the lowest sum of false accepts and false rejects: of equals the middle of the widest gap.

    Args:
        matching: (n,) sorted scores of what belongs together, at least one.
        unmatching: (m,) sorted scores of what does not, at least one.
    """
    values = np.unique(np.concatenate([matching, unmatching]))
    edges = np.concatenate([[values[0] - 0.01], values, [values[-1] + 0.01]])
    cuts = (edges[:-1] + edges[1:]) / 2
    errors = false_rejects(matching, cuts) + false_accepts(unmatching, cuts)
    best = np.flatnonzero(errors <= errors.min() + 1e-12)
    return float(cuts[best[np.argmax(np.diff(edges)[best])]])


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
