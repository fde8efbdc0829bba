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

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.runtime.machine import usable_cores
from tuwen.types import Vectors

KS = (1, 5, 10)
"""the k of recall at k"""

Counts: TypeAlias = NDArray[np.int64]
Weights: TypeAlias = NDArray[np.int64]
"""how often each image is in a resample"""

_BLOCK = 2048
"""rows and columns of a product: large enough to be fast; its scores are still in the cache when they are counted"""
_ROUNDING = 1e-6
"""more than a float32 product of two unit vectors is off by"""
_EQUAL = 1e-12
"""less than this between two float64 scores is rounding"""
_TILE = (63, 1024)
"""rows and columns compared at a time: they stay in the cache of a core; above 255 and 2040, sums of bytes overflow"""
_SPARSE = 16
"""where fewer than one in so many scores is a candidate, only candidates are looked at"""


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
        prefix: what the names of the metrics begin with.
    """

    classes: int
    labels: NDArray[np.int64]
    ranks: Counts
    predicted: NDArray[np.int64]
    prefix: str = ""

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
            for k in (1, 5)
            if k == 1 or self.classes > 4
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
    scores = np.empty((min(block, len(order)), min(block, len(images))), dtype=np.float32)
    with ThreadPoolExecutor(usable_cores()) as pool:
        for first in range(0, len(order), block):
            rows = slice(first, min(first + block, len(order)))
            left = _rows(texts, order[rows])
            for start in range(0, len(images), block):
                columns = slice(start, min(start + block, len(images)))
                right = np.asarray(images[columns], dtype=np.float32)
                product = scores.ravel()[: len(left) * len(right)].reshape(len(left), len(right))
                np.matmul(left, right.T, out=product)
                wanted.count(product, rows, columns, image_ahead, text_ahead, pool)
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

        counts = self._counts[columns]
        has = np.arange(int(counts.max(initial=0)))[:, None] < counts
        places = np.where(has, self._first[columns] + np.arange(len(has))[:, None], 0)
        levels = [_Levels(own[None], 1), _Levels(np.where(has, self._own[places], np.inf), 0)]
        of_rows, of_columns = _ahead(scores, levels[: 1 + bool(len(has))], exact_rows, pool)
        image_ahead[rows] += of_rows[0]
        text_ahead[places[has]] += of_columns[has]


class _Levels:
    """What the rows, or the columns, of a block of scores are compared with: k levels for each of them.

    Attributes:
        values: (k, rows) or (k, columns).
        axis: that scores are counted along: 1 for levels of rows, 0 for levels of columns.
    """

    def __init__(self, values: NDArray[np.float64], axis: int) -> None:
        self.values, self.axis = values, axis
        shape = (len(values), -1, 1) if axis else (len(values), 1, -1)
        self._above = (values + _ROUNDING).astype(np.float32).reshape(shape)
        self._near = (values - _ROUNDING).astype(np.float32).reshape(shape)
        self._lowest = self._near.min(axis=0, initial=np.inf)

    def compare(self, part: NDArray[np.float32], row: int, column: int) -> "_Compared | None":
        """Compare the scores of a tile; None if none is as high as the lowest level, as often if a model is good."""
        start = (column, row)[self.axis]
        across = slice(start, start + part.shape[1 - self.axis])
        lowest = self._lowest[across] if self.axis else self._lowest[:, across]
        candidates = part >= lowest
        often = np.count_nonzero(candidates)
        if not often:
            return None
        above, near = (each[:, across] if self.axis else each[:, :, across] for each in (self._above, self._near))
        if often * _SPARSE > part.size:
            surely = [part > each for each in above]
            maybe = [part >= each for each in near] if len(near) > 1 else [candidates]
            close = [np.flatnonzero(one ^ other) for one, other in zip(surely, maybe, strict=True)]
            return _Compared(np.stack([_sum(each, self.axis) for each in surely]), close)
        places = np.flatnonzero(candidates)  # nonzero of two dimensions is 20x slower
        rows, columns = divmod(places, part.shape[1])
        scores, where = part[rows, columns], rows if self.axis else columns
        counts, close = [], []
        for high, low in zip(above.reshape(len(above), -1), near.reshape(len(near), -1), strict=True):
            ahead = scores > high[where]
            counts.append(np.bincount(where[ahead], minlength=across.stop - across.start))
            close.append(places[(scores >= low[where]) & ~ahead])
        return _Compared(np.stack(counts), close)


class _Compared(NamedTuple):
    """Of a tile of scores, for each of k levels.

    Attributes:
        surely: (k, rows) or (k, columns) how many scores are ahead by more than rounding.
        close: places in the tile, flattened, whose scores are too near to tell.
    """

    surely: Counts
    close: Sequence[NDArray[np.int64]]


def _ahead(
    scores: NDArray[np.float32],
    levels: Sequence[_Levels],
    exact: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
    pool: ThreadPoolExecutor,
) -> list[Counts]:
    """How many scores are at least as high as each of the levels, compared exactly where rounding matters."""

    def compare(places: Sequence[tuple[int, int]]) -> list[list[_Compared | None]]:
        parts = (scores[row : row + _TILE[0], column : column + _TILE[1]] for row, column in places)
        return [[each.compare(part, *place) for each in levels] for part, place in zip(parts, places, strict=True)]

    totals = [np.zeros(each.values.shape, dtype=np.int64) for each in levels]
    places = [(i, j) for i in range(0, scores.shape[0], _TILE[0]) for j in range(0, scores.shape[1], _TILE[1])]
    share = -(-len(places) // usable_cores())
    shares = pool.map(compare, [places[first : first + share] for first in range(0, len(places), share)])
    for place, results in zip(places, chain.from_iterable(shares), strict=True):
        width = min(_TILE[1], scores.shape[1] - place[1])
        for each, total, found in zip(levels, totals, results, strict=True):
            if found is None:
                continue
            start = place[1 - each.axis]
            total[:, start : start + found.surely.shape[1]] += found.surely
            for number, close in enumerate(found.close):
                for part in _blocks(close, _BLOCK):
                    row, column = place[0] + part // width, place[1] + part % width
                    where = row if each.axis else column
                    ahead = exact(row, column) >= each.values[number, where]
                    total[number] += np.bincount(where[ahead], minlength=len(total[number]))
    return totals


def _sum(mask: NDArray[np.bool_], axis: int) -> Counts:
    """How many are true along an axis of at most a tile: bytes are added eight at a time."""
    if mask.shape[1] % 8:
        return np.asarray(np.count_nonzero(mask, axis=axis))
    bytes8 = mask.view(np.uint64)
    if axis == 0:
        return np.asarray(np.add.reduce(bytes8, axis=0).view(np.uint8), dtype=np.int64)
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
