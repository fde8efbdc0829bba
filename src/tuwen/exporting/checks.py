"""The checks of verification: values found against values expected, and how far apart they may be."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.manifest import Check, Scoring
from tuwen.types import Pixels, Tokens, Vectors

Stage = Literal["pixels", "tokens", "image", "text", "similarity", "labels"]

PIXELS_MAX = 1e-6
"""of values between about -2 and 2: a rounding of fp32, far less than one grey level (0.015)"""
FP32_MAX = 1e-5
"""the largest difference of any number in a vector of length 1, in fp32"""
WORST_COSINE = {"fp16": 0.999, "bf16": 0.999, "int8": 0.99}
"""the lowest cosine of a vector to its reference, at lower precisions"""
LABELS_COSINE = 0.99
"""the lowest cosine of an image's probabilities over the texts to their reference"""
INT8_LABELS_MEAN = 0.6
"""The mean of that cosine at int8. With vectors at a cosine of 0.99 to their reference, similarities move by about
0.14 / sqrt(dim), and a scale of 100 turns that into nearly 1 in a logit: labels that are about equally likely, as with
random weights, can agree no better. Rankings are kept, and are reported."""


def check_pixels(found: Pixels, expected: Pixels) -> Check:
    """Compare preprocessed images, (n, 3, h, w): within `PIXELS_MAX`."""
    if found.shape != expected.shape:
        return failed("pixels", "prepare", "fp32")
    worst = float(np.abs(found - expected).max())
    cosines = _cosines(found.reshape(len(found), -1), expected.reshape(len(found), -1))
    return _check("pixels", "prepare", "fp32", cosines=cosines, max_abs=worst, passed=worst <= PIXELS_MAX)


def check_tokens(found: Tokens, expected: Tokens) -> Check:
    """Compare token ids up to each text's length; `max_abs` is the number of texts that differ."""
    differing = sum(
        not np.array_equal(ours[:length], theirs[:reference_length])
        for ours, length, theirs, reference_length in zip(
            found.ids, found.lengths, expected.ids, expected.lengths, strict=True
        )
    )
    return _check("tokens", "prepare", "int64", cosines=None, max_abs=float(differing), passed=differing == 0)


def check_scoring(found: Scoring | None, expected: Scoring) -> Check:
    """Compare how cosines become probabilities, which must be exactly the same."""
    differences = (abs(found.scale - expected.scale), abs(found.bias - expected.bias)) if found else (math.inf,)
    worst = max(differences)
    return _check("labels", "prepare", "float64", cosines=None, max_abs=worst, passed=found == expected)


def check_vectors(stage: Stage, runtime: str, precision: str, found: NDArray[np.float32], expected: Vectors) -> Check:
    """Compare unit vectors (ways, n, dim) with (n, dim); all ways, in a batch and one by one, must be right."""
    worst = float(np.abs(found - expected).max())
    cosines = np.concatenate([_cosines(each, expected) for each in found])
    exact = precision == "fp32"
    passed = worst <= FP32_MAX if exact else float(cosines.min()) >= WORST_COSINE[precision]
    return _check(stage, runtime, precision, cosines=cosines, max_abs=worst, passed=passed)


def check_similarity(runtime: str, precision: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> Check:
    """Compare cosines (images, texts), and the rankings of texts that they give."""
    worst = float(np.abs(found - expected).max())
    # Two unit vectors, each at cosine c to its original: their product moves by at most 2 sqrt(2 - 2c).
    bound = FP32_MAX if precision == "fp32" else 2 * math.sqrt(2 - 2 * WORST_COSINE[precision])
    cosines = _cosines(found, expected)
    check = _check("similarity", runtime, precision, cosines=cosines, max_abs=worst, passed=worst <= bound)
    agreement = {"top1": _agreement(found, expected, 1), "top10": _agreement(found, expected, 10)}
    return check.model_copy(update=agreement)


def check_labels(
    runtime: str, precision: str, found: NDArray[np.float64], expected: NDArray[np.float64], *, own: bool
) -> Check:
    """Compare probabilities (images, labels).

    Args:
        runtime: what computed them.
        precision: in which precision.
        found: the probabilities.
        expected: their reference.
        own: whether the labels are the user's own; else, at int8, the mean over images decides.
    """
    cosines, worst = _cosines(found, expected), float(np.abs(found - expected).max())
    lenient = precision == "int8" and not own
    passed = cosines.mean() >= INT8_LABELS_MEAN if lenient else cosines.min() > LABELS_COSINE
    return _check("labels", runtime, precision, cosines=cosines, max_abs=worst, passed=bool(passed))


def probabilities(scoring: Scoring, cosines: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines (images, texts) to probabilities: with softmax a row sums to 1, with sigmoid each stands alone."""
    logits = cosines.astype(np.float64) * scoring.scale + scoring.bias
    if scoring.kind == "sigmoid":
        alone: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
        return alone
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def _agreement(found: NDArray[np.float32], expected: NDArray[np.float32], k: int) -> float:
    """The mean share of each row's k best columns that both have in common."""
    k = min(k, found.shape[1])
    ours = np.argsort(-found, axis=1)[:, :k]
    theirs = np.argsort(-expected, axis=1)[:, :k]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(ours, theirs, strict=True)]))


def _cosines(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    cosines: NDArray[np.float64] = (a64 * b64).sum(axis=1) / norms
    return cosines


def _check(
    stage: Stage,
    runtime: str,
    precision: str,
    *,
    cosines: NDArray[np.float64] | None,
    max_abs: float,
    passed: bool,
) -> Check:
    return Check(
        stage=stage,
        runtime=runtime,
        precision=precision,
        worst_cosine=None if cosines is None else float(cosines.min()),
        mean_cosine=None if cosines is None else float(cosines.mean()),
        max_abs=max_abs,
        top1=None,
        top10=None,
        passed=passed,
    )


def failed(stage: Stage, runtime: str, precision: str) -> Check:
    """A failed check of a stage without an outcome, or with one of another shape."""
    return _check(stage, runtime, precision, cosines=None, max_abs=float("inf"), passed=False)
