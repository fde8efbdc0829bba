"""The space that photos and words share, computed from the classifier's own weights.

A photo is seen in two ways, its pooled features and its probabilities of classes. A word is a mixture of classes, and
each class has its place in both: its row of the classifier, and itself. So a photo, too, is a number for each class:
how well a word that means this class alone would fit. The directions kept are those in which the fit of words to
photos differs most; for how photos differ, photos under free licences stand, those of the packaged gallery.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from recipes.photo.towers import CLASSES, seen
from torch import Tensor, nn

DIM = 512
WHITENING = -0.25
"""features are whitened by this power of the covariance of the classifier's rows; so are the rows"""
WORDS_WHITENING = -0.2
"""and words by this power of their covariance: what many words share counts less"""
ANY_PHOTOS = 0.5
"""the share of photos that differ in all features equally, beside those of the gallery, which are few"""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Space:
    """The projections of photos and of words; the last of `DIM` numbers is 0 for photos.

    Attributes:
        image: the tensors of `ImageTower`, by name.
        words: (DIM, 1000) projects mixtures of classes.
    """

    image: dict[str, Tensor]
    words: Tensor


def make_space(net: nn.Module, meanings: NDArray[np.float32], maps: Tensor) -> Space:
    """Compute the projections.

    Args:
        net: the classifier.
        meanings: (n, 1000) mixtures of classes that words are made of.
        maps: (photos, 1280, h, w) the classifier's last maps of some photos.
    """
    rows = net._fc.weight.detach().numpy().astype(np.float64)
    rows = rows - rows.mean(axis=0)
    covariance = rows.T @ rows / len(rows)
    covariance += np.eye(len(covariance)) * 1e-4 * np.trace(covariance) / len(covariance)
    whitening = _power(covariance, WHITENING)
    prototypes = rows @ whitening
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    some = meanings[:: max(1, len(meanings) // 20_000)].astype(np.float64)
    some /= np.linalg.norm(some, axis=1, keepdims=True).clip(1e-9)
    balance = 1 / np.linalg.norm(some @ prototypes, axis=1).mean()
    places = np.hstack([balance * prototypes, np.eye(CLASSES)])  # (1000, 1280 + 1000)

    mean = maps.mean((0, 2, 3))
    with torch.no_grad():
        views = np.hstack([view.numpy() for view in seen(net, maps, mean, _tensor(whitening))])
    photos = views.astype(np.float64) @ places.T  # (photos, 1000)
    middle = photos.mean(axis=0)
    photos -= middle
    of_words = _scaled(some.T @ some)
    of_photos = (1 - ANY_PHOTOS) * _scaled(photos.T @ photos) + ANY_PHOTOS * _scaled(places @ places.T)

    fit = _power(of_words, 0.5 + WORDS_WHITENING) @ _power(of_photos, 0.5)
    left, strengths, right = np.linalg.svd(fit)
    spread = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM - 1, DIM - 1)))[0]  # see `table.py`
    spread *= np.sqrt(strengths[: DIM - 1])[:, None]
    words = _power(of_words, -0.5) @ left[:, : DIM - 1] @ spread  # (1000, DIM - 1)
    projection = _power(of_photos, -0.5) @ right[: DIM - 1].T @ spread
    both = _row_of_zeros(projection.T @ places)
    features, classes = np.split(both, [len(covariance)], axis=1)
    image = {
        "mean": mean.numpy(),
        "whitening": whitening,
        "features": features,
        "classes": classes,
        "middle": _row_of_zeros((middle @ projection)[:, None])[:, 0],
    }
    return Space({name: _tensor(values) for name, values in image.items()}, _tensor(_row_of_zeros(words.T)))


def _power(matrix: Matrix, power: float) -> Matrix:
    values, directions = np.linalg.eigh(matrix)
    raised: Matrix = (directions * values.clip(values.max() * 1e-9) ** power) @ directions.T
    return raised


def _scaled(matrix: Matrix) -> Matrix:
    scaled: Matrix = matrix / np.trace(matrix)
    return scaled


def _row_of_zeros(matrix: Matrix) -> Matrix:
    return np.vstack([matrix, np.zeros((1, matrix.shape[1]))])


def _tensor(values: Matrix) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
