"""The space that photos and words share, computed from the classifier's own weights.

A photo is seen in two ways, its pooled features and its probabilities of classes. A word is a mixture of classes, and
each class has its place in both: its row of the classifier, and itself. The directions kept are those in which words
differ most.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

DIM = 256
WHITENING = -0.25
"""features are whitened by this power of the covariance of the classifier's rows; so are the rows"""

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Space:
    """The projections of photos and of words; the last of `DIM` numbers is 0 for photos.

    Attributes:
        whitening: (1280, 1280), see `ImageTower`.
        features: (DIM, 1280), likewise.
        classes: (DIM, 1000), likewise.
        words: (DIM, 1000) projects mixtures of classes.
    """

    whitening: Tensor
    features: Tensor
    classes: Tensor
    words: Tensor


def make_space(net: nn.Module, meanings: Matrix) -> Space:
    """Compute the projections.

    Args:
        net: the classifier.
        meanings: (n, 1000) mixtures of classes that words are made of.
    """
    rows = net._fc.weight.detach().numpy().astype(np.float64)
    rows = rows - rows.mean(axis=0)
    covariance = rows.T @ rows / len(rows)
    covariance += np.eye(len(covariance)) * 1e-4 * np.trace(covariance) / len(covariance)
    values, directions = np.linalg.eigh(covariance)
    whitening = (directions * values**WHITENING) @ directions.T
    prototypes = rows @ whitening
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    some = meanings[:: max(1, len(meanings) // 20_000)].astype(np.float64)
    some /= np.linalg.norm(some, axis=1, keepdims=True).clip(1e-9)
    balance = 1 / np.linalg.norm(some @ prototypes, axis=1).mean()
    places = np.vstack([balance * prototypes.T, np.eye(len(rows))])  # (1280 + 1000, 1000)
    spread, axes = np.linalg.eigh(some.T @ some / len(some))
    root = (axes * np.sqrt(spread.clip(0))) @ axes.T
    kept = np.linalg.svd(places @ root, full_matrices=False)[0][:, : DIM - 1].T  # (DIM - 1, 1280 + 1000)
    basis = np.vstack([kept, np.zeros((1, kept.shape[1]))])
    features, classes = np.split(basis, [len(covariance)], axis=1)
    tensors = (whitening, features, classes, basis @ places)
    return Space(*(torch.from_numpy(np.ascontiguousarray(tensor, dtype=np.float32)) for tensor in tensors))
