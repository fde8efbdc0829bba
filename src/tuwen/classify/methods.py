"""Few-shot methods: from the vectors of a few labelled images to a classifier, without torch.

Every method adds something to the zero-shot logits `s f·t_c` (`f` an image, `t_c` the text vector of class c, `s` the
model's scale):

    logits = s f·t_c + alpha r_c(f)

zero-shot   r = 0
tip         a cache of the support images, weighted by similarity
tip-f       the same cache with trained keys
gda         Gaussians with a common covariance
proker      kernel ridge regression on what zero-shot leaves over
linear      logistic regression that is held near the text vectors
probe       logistic regression on the images alone: the names of the classes do not count
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import require
from tuwen.types import Vectors

Floats: TypeAlias = NDArray[np.float64]
Parameters: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Support:
    """Labelled images as a method sees them.

    Attributes:
        vectors: (n, dim) unit rows.
        labels: (n,) class numbers, every class at least once.
        texts: (classes, dim) unit rows, the zero-shot classifier.
        scale: what the model multiplies cosines with.
    """

    vectors: Vectors
    labels: NDArray[np.int64]
    texts: Vectors
    scale: float

    def only(self, rows: NDArray[np.int64]) -> "Support":
        """Some of the images."""
        return replace(self, vectors=self.vectors[rows], labels=self.labels[rows])

    @property
    def one_hot(self) -> Floats:
        """(n, classes) 1 where the image is of the class."""
        return np.eye(len(self.texts))[self.labels]

    @property
    def unit(self) -> float:
        """What residuals of papers are multiplied with, which all were tuned beside logits with a scale of 100."""
        return self.scale / 100

    def zero_shot(self, vectors: Vectors) -> Floats:
        """(n, classes) zero-shot logits."""
        return np.asarray(self.scale * (vectors @ self.texts.T), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Residual:
    """What a method adds: linear in the image's vector, or a weighted sum over a cache.

    Attributes:
        weight: (classes, dim).
        bias: (classes,).
        keys: (m, dim); None: no cache.
        values: (m, classes).
        beta: how fast a key's weight falls with distance.
    """

    weight: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    keys: NDArray[np.float32] | None = None
    values: NDArray[np.float32] | None = None
    beta: float = 0.0

    def of(self, vectors: Vectors) -> Floats:
        """(n, classes) for (n, dim)."""
        if self.keys is not None and self.values is not None:
            return np.asarray(kernel(vectors, self.keys, self.beta) @ self.values, dtype=np.float64)
        if self.weight is not None and self.bias is not None:
            return np.asarray(vectors @ self.weight.T + self.bias, dtype=np.float64)
        return np.zeros((len(vectors), 1))


def kernel(left: NDArray[Any], right: NDArray[Any], beta: float) -> NDArray[Any]:
    """exp(-beta (1 - x·y)): 1 for equal unit vectors, less for others."""
    return np.asarray(np.exp(-beta * (1 - left @ right.T)))


def zero_shot(_support: Support, _parameters: Parameters) -> Residual:
    """Nothing is added: the text classifier alone, as in CLIP (Radford et al., 2021, section 3.1)."""
    return Residual()


def tip(support: Support, parameters: Parameters) -> Residual:
    """Tip-Adapter: Training-free Adaption of CLIP (Zhang et al., ECCV 2022), equation 5.

    r(f) = sum_i exp(-beta (1 - f·f_i)) onehot(y_i): each support image votes for its class.
    """
    values = support.unit * support.one_hot
    return Residual(keys=support.vectors, values=values.astype(np.float32), beta=parameters["beta"])


def tip_f(support: Support, parameters: Parameters) -> Residual:
    """Tip-Adapter-F (the same paper, section 3.2): the keys of the cache are trained by cross-entropy on the support.

    Here by L-BFGS, with (ridge / 2) ||K - K_0||² to hold the keys near the images.
    """
    start, values = support.vectors.astype(np.float64), support.unit * support.one_hot
    base, alpha, beta = support.zero_shot(support.vectors), parameters["alpha"], parameters["beta"]

    def loss(flat: Floats) -> tuple[float, Floats]:
        keys = flat.reshape(start.shape)
        weights = kernel(start, keys, beta)
        value, error = cross_entropy(base + alpha * (weights @ values), support.labels)
        pull = keys - start
        gradient = ((alpha * error @ values.T) * weights * beta).T @ start + parameters["ridge"] * pull
        return value + parameters["ridge"] / 2 * float((pull**2).sum()), gradient.ravel()

    keys = _minimise(loss, start.ravel(), 20).reshape(start.shape).astype(np.float32)
    return Residual(keys=keys, values=values.astype(np.float32), beta=beta)


def gda(support: Support, _parameters: Parameters) -> Residual:
    """Gaussian discriminant analysis.

    A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation (Wang et al., ICLR 2024):
    r_c(f) = f·P m_c - m_c·P m_c / 2 with class means m_c and the precision of their common covariance S, estimated
    as in equation 6: P = D ((n - 1) S + tr(S) I)^-1. With one image of each class there is no S; the covariance of all
    images stands in for its trace, so that P, and with it the best alpha, is of the same size as with more images.
    """
    vectors, dim = support.vectors.astype(np.float64), support.vectors.shape[1]
    counts = np.bincount(support.labels, minlength=len(support.texts))
    means = support.one_hot.T @ vectors / np.maximum(counts, 1)[:, None]
    centred = vectors - means[support.labels]
    scatter = centred.T @ centred
    trace = np.trace(scatter) / max(len(vectors) - 1, 1)
    if trace < 1e-9:
        trace = max(float(vectors.var(axis=0).sum()), 1e-9)
    precision = dim * np.linalg.inv(scatter + trace * np.eye(dim))
    weight = support.unit * means @ precision
    bias = -0.5 * np.einsum("cd,cd->c", weight, means)
    return Residual(weight=weight.astype(np.float32), bias=bias.astype(np.float32))


def proker(support: Support, parameters: Parameters) -> Residual:
    """ProKeR: A Kernel Perspective on Few-Shot Adaptation of Large Vision-Language Models (Bendou et al., CVPR 2025).

    The minimiser of sum_i ||g(f_i) - onehot(y_i)||² + ridge ||g - g_0||² in the space of the kernel, where g_0(f) = f·t
    are the zero-shot cosines: g(f) = g_0(f) + k(f, F) (k(F, F) + ridge I)^-1 (Y - g_0(F)). Multiplied by `s`, as all
    logits.
    """
    gram = kernel(support.vectors, support.vectors, parameters["beta"]).astype(np.float64)
    left = gram + parameters["ridge"] * np.eye(len(gram))
    missing = support.one_hot - support.vectors @ support.texts.T
    values = support.scale * np.linalg.solve(left, missing)
    return Residual(keys=support.vectors, values=values.astype(np.float32), beta=parameters["beta"])


def linear(support: Support, parameters: Parameters) -> Residual:
    """Logistic regression with class-wise constraints (CLAP).

    A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models (Silva-Rodríguez et al., CVPR 2024).
    Minimises cross-entropy(s f·w) + ridge / C sum_c l_c ||w_c - t_c||², from w = t. l_c is the mean zero-shot
    probability of class c over its own support images: a class that its name finds well stays near the name.
    """
    vectors, texts = support.vectors.astype(np.float64), support.texts.astype(np.float64)
    probabilities = softmax(support.zero_shot(support.vectors))[np.arange(len(vectors)), support.labels]
    counts = np.bincount(support.labels, minlength=len(texts))
    trust = np.bincount(support.labels, probabilities, len(texts)) / np.maximum(counts, 1)
    hold = parameters["ridge"] / len(texts) * trust[:, None]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(texts.shape)
        value, error = cross_entropy(support.scale * vectors @ weights.T, support.labels)
        pull = weights - texts
        gradient = support.scale * error.T @ vectors + 2 * hold * pull
        return value + float((hold * pull**2).sum()), gradient.ravel()

    weights = _minimise(loss, texts.ravel(), 100).reshape(texts.shape)
    change = support.scale * (weights - texts)
    return Residual(weight=change.astype(np.float32), bias=np.zeros(len(texts), dtype=np.float32))


def probe(support: Support, parameters: Parameters) -> Residual:
    """A linear probe, as in CLIP (Radford et al., 2021, section 3.2): logistic regression on the images' vectors.

    Minimises cross-entropy(f·W + b) + ridge / 2 ||W||² by L-BFGS. What zero-shot adds is taken away again: with
    `alpha` 1 only the images count.
    """
    vectors, scale = support.vectors.astype(np.float64), support.scale
    shape = (len(support.texts), vectors.shape[1] + 1)
    inputs = np.concatenate([vectors, np.full((len(vectors), 1), 1 / scale)], axis=1)

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        value, error = cross_entropy(scale * inputs @ weights.T, support.labels)
        held = parameters["ridge"] * scale**2 * weights
        held[:, -1] = 0
        gradient = scale * error.T @ inputs + held
        return value + float((held * weights).sum()) / 2, gradient.ravel()

    weights = _minimise(loss, np.zeros(shape).ravel(), 200).reshape(shape)
    change = scale * (weights[:, :-1] - support.texts)
    return Residual(weight=change.astype(np.float32), bias=weights[:, -1].astype(np.float32))


def cross_entropy(logits: Floats, labels: NDArray[np.int64]) -> tuple[float, Floats]:
    """The mean negative log-likelihood of the labels, and its gradient by the logits."""
    rows = np.arange(len(labels))
    found = softmax(logits)
    loss = float(-np.log(np.maximum(found[rows, labels], 1e-300)).mean())
    found[rows, labels] -= 1
    return loss, found / len(labels)


def softmax(logits: Floats) -> Floats:
    """Rows that sum to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _minimise(loss: Callable[[Floats], tuple[float, Floats]], start: Floats, steps: int) -> Floats:
    optimize = require("scipy.optimize", extra="adapt")
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return np.asarray(found.x)


@dataclass(frozen=True)
class Method:
    """A method with the parameters that are tried for it, the constants for one image a class first.

    Attributes:
        fit: computes the residual.
        grid: parameters other than `alpha`, each set fitted on its own.
        alphas: how much of the residual is added, none: `alpha` is in the grid.
    """

    fit: Callable[[Support, Parameters], Residual]
    grid: Sequence[Parameters] = ({},)
    alphas: Sequence[float] = (1.0,)


_BETAS = (5.5, 1.0, 3.0, 10.0, 20.0)
METHODS: Mapping[str, Method] = {
    "zero-shot": Method(zero_shot),
    "tip": Method(tip, [{"beta": beta} for beta in _BETAS], (1.0, 0.3, 3.0, 10.0, 30.0, 100.0)),
    "tip-f": Method(
        tip_f,
        [{"beta": 5.5, "ridge": 0.01, "alpha": alpha} for alpha in (1.0, 10.0, 30.0, 100.0)],
        (),
    ),
    "gda": Method(gda, [{}], (0.1, 0.01, 0.03, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)),
    "proker": Method(
        proker, [{"beta": beta, "ridge": ridge} for beta in (1.0, 3.0, 10.0) for ridge in (1.0, 0.1, 0.3, 3.0, 10.0)]
    ),
    "linear": Method(linear, [{"ridge": ridge} for ridge in (10.0, 1.0, 100.0)]),
    "probe": Method(probe, [{"ridge": ridge} for ridge in (1e-4, 1e-2, 1e-3, 1e-5, 1e-6)]),
}
"""Every method by its name."""


def candidates(name: str) -> Iterator[tuple[Parameters, Sequence[float]]]:
    """What is tried for a method: parameters to fit with, and the alphas to try with each fit."""
    method = METHODS[name]
    for parameters in method.grid:
        yield parameters, method.alphas or [parameters["alpha"]]
