"""One check: what was found against what was expected, and how far apart the two may be.

Knows numbers alone. Does not know what computed them.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.manifest import Check, Scoring
from tuwen.types import Pixels, Tokens, Vectors

Stage = Literal["pixels", "tokens", "image", "text", "similarity", "labels"]

PIXELS_MAX = 1e-6
"""Of values of about -2 to 2: a rounding of fp32, far under one grey level (0.015)."""
FP32_MAX = 1e-5
"""The largest difference of any number in a vector of length 1, where the bundle computes in fp32."""
WORST_COSINE = {"fp16": 0.999, "bf16": 0.999, "int8": 0.99}
"""The worst vector's cosine to torch's, where it computes in less."""
LABELS_COSINE = 0.99
"""The worst picture's distribution over the texts as labels."""
INT8_LABELS_MEAN = 0.6
"""The mean picture's, at int8. Vectors 0.99 alike move a cosine by about 0.14 / sqrt(dim), and a scale of 100 makes
of that nearly 1 in a logit: over labels that are about equally likely, as those of random weights, no more is left.
Rankings stay, and are reported."""


def check_pixels(found: Pixels, expected: Pixels) -> Check:
    """Prepared pictures, (n, 3, h, w) each: within `PIXELS_MAX`."""
    if found.shape != expected.shape:
        return failed("pixels", "prepare", "fp32")
    worst = float(np.abs(found - expected).max())
    cosines = _cosines(found.reshape(len(found), -1), expected.reshape(len(found), -1))
    return _check("pixels", "prepare", "fp32", cosines=cosines, max_abs=worst, passed=worst <= PIXELS_MAX)


def check_tokens(found: Tokens, expected: Tokens) -> Check:
    """Equal one by one; `max_abs` counts the texts that are not.

    Compared up to each text's length: what pads a row beyond it is the text spec's affair.
    """
    differing = sum(
        not np.array_equal(ours[:length], theirs[:reference_length])
        for ours, length, theirs, reference_length in zip(
            found.ids, found.lengths, expected.ids, expected.lengths, strict=True
        )
    )
    return _check("tokens", "prepare", "int64", cosines=None, max_abs=float(differing), passed=differing == 0)


def check_vectors(stage: Stage, runtime: str, precision: str, found: NDArray[np.float32], expected: Vectors) -> Check:
    """Unit vectors (n, dim), found in ways (ways, n, dim) that must all be right: at once, and one by one."""
    worst = float(np.abs(found - expected).max())
    cosines = np.concatenate([_cosines(each, expected) for each in found])
    exact = precision == "fp32"
    passed = worst <= FP32_MAX if exact else float(cosines.min()) >= WORST_COSINE[precision]
    return _check(stage, runtime, precision, cosines=cosines, max_abs=worst, passed=passed)


def check_similarity(runtime: str, precision: str, found: NDArray[np.float32], expected: NDArray[np.float32]) -> Check:
    """Cosines (pictures, texts), from files and strings on, and which texts come first."""
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
    """The distributions (pictures, labels) over labels.

    Args:
        runtime: what computed them.
        precision: in what.
        found: each picture's probabilities.
        expected: what they should be.
        own: whether the labels are a person's own; else, at int8, the mean picture decides.
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
    """The share of each row's k best columns that both have, on average."""
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
    """A stage that has no outcome to compare, or one of another shape."""
    return _check(stage, runtime, precision, cosines=None, max_abs=float("inf"), passed=False)
