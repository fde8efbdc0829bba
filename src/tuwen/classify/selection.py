"""Choosing a method and its parameters inside the support: every image is judged by a classifier that has not seen it.

With up to four images of each class, each fold leaves out one image of every class; else there are five stratified
folds. Nothing else is looked at. With one image of a class nothing is tuned: the first parameters of each method.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from tuwen.classify.methods import METHODS, Floats, Parameters, Support, candidates, softmax
from tuwen.types import Vectors

FOLDS = 5
PREFERRED = ("proker", "gda")
"""what `auto` takes where nothing can be tuned, or nothing else is clearly better: the first that is there"""
FEW = 2
"""images of each class up to which methods are not compared on folds"""
MOST_PRODUCTS = 2e9
"""images x classes x dimensions above which `auto` leaves out the trained methods, and uses a single fold"""
MOST_KERNEL = 6000
"""images above which `auto` leaves out the method that solves a system of that size"""
ORDER = ("zero-shot", "gda", "proker", "tip", "linear", "tip-f")
"""the methods that `auto` chooses among, the simplest first; a linear probe, which forgets the names, is not one"""


@dataclass(frozen=True, eq=False)
class Choice:
    """A method with its parameters, and how it judged the images that were left out.

    Attributes:
        method: its name.
        parameters: as `methods` names them, with `alpha`.
        rows: (m,) the support images that were left out once; none where nothing could be.
        logits: (m, classes) of these.
        right: (m,) whether the best class was the right one.
    """

    method: str
    parameters: Parameters
    rows: NDArray[np.int64]
    logits: Floats
    right: NDArray[np.bool_]

    @property
    def accuracy(self) -> float | None:
        """The share of the left-out images that was right; None where there are none."""
        return float(self.right.mean()) if len(self.right) else None


def choose(support: Support, methods: Sequence[str], *, seed: int = 0) -> dict[str, Choice]:
    """The best parameters of each method, measured on left-out support images."""
    folds = list(splits(support.labels, seed, single=_is_large(support)))
    return {name: _tuned(support, name, folds) for name in methods}


def best_of(choices: Mapping[str, Choice]) -> Choice:
    """The preferred method, or the most accurate one where it is better by more than noise.

    Zero-shot where it is better than that by more than noise, or where the two differ on no image. Noise is a standard
    deviation of the difference: of the images that only one of the two got right, the square root of their number
    (McNemar, 1947). With few images the highest of several accuracies is mostly luck.
    """
    ordered = sorted(choices.values(), key=lambda choice: (*ORDER, choice.method).index(choice.method))
    preferred = next((choices[name] for name in PREFERRED if name in choices), ordered[-1])
    if preferred.accuracy is None:
        return preferred
    best = max(ordered, key=lambda choice: int(choice.right.sum()))
    found = best if _is_better(best, preferred) else preferred
    zero = choices["zero-shot"]
    return zero if _is_better(zero, found) or np.array_equal(zero.right, found.right) else found


def _is_better(one: Choice, other: Choice) -> bool:
    """Whether it got more images right, by more than noise."""
    gained, lost = int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum())
    return gained - lost > sqrt(gained + lost)


def for_auto(support: Support, *, by_folds: bool = True) -> tuple[str, ...]:
    """The methods that `auto` chooses among.

    Args:
        support: the images.
        by_folds: whether they are judged on folds of the support. With up to two images of each class, folds learn from
            one: what is best there is mostly luck, so only the preferred method and zero-shot are compared.
    """
    large = _is_large(support)
    left_out = ({"linear", "tip-f"} if large else set()) | ({"proker"} if len(support.labels) > MOST_KERNEL else set())
    able = tuple(name for name in ORDER if name not in left_out)
    if by_folds and np.bincount(support.labels).max() <= FEW:
        return ("zero-shot", next(name for name in PREFERRED if name in able))
    return able


def _is_large(support: Support) -> bool:
    return len(support.labels) * support.texts.size > MOST_PRODUCTS


def splits(labels: NDArray[np.int64], seed: int, *, single: bool = False) -> Iterator[NDArray[np.int64]]:
    """The images that each fold leaves out: of every class, a share; never all, so a single image is never left out."""
    chance = np.random.default_rng(seed)
    most = int(np.bincount(labels).max())
    folds = 0 if most < 2 else most if most <= 4 else FOLDS
    fold = np.full(len(labels), -1)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) > 1:
            fold[chance.permutation(rows)] = np.arange(len(rows)) % folds
    for number in range(min(folds, 1) if single else folds):
        if (fold == number).any():
            yield np.flatnonzero(fold == number)


def choose_on(
    support: Support, vectors: Vectors, labels: NDArray[np.int64], methods: Sequence[str]
) -> dict[str, Choice]:
    """The best parameters of each method, measured on other images: what papers often do on their test set."""

    def tuned(name: str) -> Choice:
        def residual(parameters: Parameters) -> Floats:
            return METHODS[name].fit(support, parameters).of(vectors)

        return _best(name, support.zero_shot(vectors), labels, np.arange(len(labels)), residual)

    return {name: tuned(name) for name in methods}


def _tuned(support: Support, name: str, folds: Sequence[NDArray[np.int64]]) -> Choice:
    if not folds:
        parameters, alphas = next(candidates(name))
        nothing = np.empty(0, dtype=np.int64)
        logits, right = np.empty((0, len(support.texts))), np.empty(0, dtype=np.bool_)
        return Choice(name, {**parameters, "alpha": alphas[0]}, nothing, logits, right)
    rows = np.concatenate(folds)

    def residual(parameters: Parameters) -> Floats:
        return np.concatenate([_left_out(support, name, parameters, fold) for fold in folds])

    return _best(name, support.zero_shot(support.vectors[rows]), support.labels[rows], rows, residual)


def _best(
    name: str,
    base: Floats,
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    residual: Callable[[Parameters], Floats],
) -> Choice:
    """The most accurate of a method's candidates; of equals the first."""
    best: Choice | None = None
    for parameters, alphas in candidates(name):
        added = residual(parameters)
        for alpha in alphas:
            logits = base + alpha * added
            right = logits.argmax(axis=1) == labels
            if best is None or right.sum() > best.right.sum():
                best = Choice(name, {**parameters, "alpha": alpha}, rows, logits, right)
    assert best is not None, name
    return best


def _left_out(support: Support, name: str, parameters: Parameters, fold: NDArray[np.int64]) -> Floats:
    """The residual of images by a classifier that has not seen them."""
    seen = np.setdiff1d(np.arange(len(support.labels)), fold)
    return METHODS[name].fit(support.only(seen), parameters).of(support.vectors[fold])


def temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The number that logits are divided by so that their probabilities are right on average; 1 without logits.

    It minimises the negative log-likelihood (On Calibration of Modern Neural Networks, Guo et al., ICML 2017). As in
    Platt (Probabilistic Outputs for Support Vector Machines, 1999), the right class of each of n images counts
    (n + 1) / (n + 2), and the others share the rest: a few images that are all right are no proof of certainty.
    """
    if not len(labels):
        return 1.0
    rows, share = np.arange(len(labels)), 1 / (len(labels) + 2)
    targets = np.full(logits.shape, share / max(logits.shape[1] - 1, 1))
    targets[rows, labels] = 1 - share

    def loss(logarithm: float) -> float:
        found = softmax(logits / np.exp(logarithm))
        return float(-(targets * np.log(np.maximum(found, 1e-300))).sum(axis=1).mean())

    low, high = np.log(0.01), np.log(1000.0)
    inner = (np.sqrt(5) - 1) / 2
    for _ in range(40):  # golden-section search: the loss has one minimum
        left, right = high - inner * (high - low), low + inner * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))
