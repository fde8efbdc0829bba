"""The proof beside a bundle: stage by stage, what it computes against what its checkpoint computes in torch.

Knows the towers and an encoder that runs the bundle. Does not know how either was made.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import Check, ImageSpec, Precision, Report, Scoring
from tuwen.errors import TuwenError
from tuwen.export.graph import UnitLength
from tuwen.export.runs import Run, runs
from tuwen.export.samples import Samples
from tuwen.models.cut import vectors
from tuwen.models.towers import Towers
from tuwen.prepare.pixels import to_pixels
from tuwen.prepare.texts import Tokenizer
from tuwen.types import Pixels, Tokens, Vectors

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Reference:
    """What the checkpoint itself makes of the samples, in torch at fp32.

    Attributes:
        samples: the pictures and texts.
        pixels: (n, 3, h, w), the authors' own preprocessing of the pictures.
        tokens: the authors' own tokens of the texts, padded to the context length.
        images: (n, dim), a unit vector a picture.
        texts: (m, dim), a unit vector a text.
        scoring: how their cosines become probabilities.
        own: whether it comes from the bundle itself (`baseline`): then its pixels and tokens prove nothing.
    """

    samples: Samples
    pixels: Pixels
    tokens: Tokens
    images: Vectors
    texts: Vectors
    scoring: Scoring
    own: bool = False


def reference(towers: Towers, samples: Samples) -> Reference:
    """Run the checkpoint's own preprocessing, tokenizer and towers on the samples."""
    pixels = towers.to_pixels(samples.images)
    tokens = towers.to_tokens(samples.texts)
    tower = UnitLength(towers.vision).eval()
    with torch.inference_mode():
        images = [tower(torch.from_numpy(pixels[start : start + 8])).numpy() for start in range(0, len(pixels), 8)]
    texts = vectors(towers.text, tokens, mask=towers.text_spec.mask)
    return Reference(samples, pixels, tokens, np.concatenate(images), texts, towers.scoring)


def baseline(bundle: Bundle, samples: Samples) -> Reference:
    """What the bundle's own best files make of the samples on ONNX Runtime, where its checkpoint is not at hand."""
    encoder = next(runs(bundle, bundle.precisions[0])).encoder
    pixels, tokens = to_pixels(encoder.image_spec, samples.images), encoder.to_tokens(samples.texts)
    images, texts = encoder.encode_pixels(pixels), encoder.encode_tokens(tokens)
    return Reference(samples, pixels, tokens, images, texts, encoder.scoring, own=True)


def verify(bundle: Bundle, known: Reference) -> dict[Precision, Report]:
    """Run every file of a bundle on every runtime here, and compare: one report a precision."""
    reports: dict[Precision, Report] = {}
    tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.text)
    inputs = [] if known.own else check_inputs(known, bundle.manifest.image, tokenizer)
    for precision in bundle.precisions:
        outputs = [check for run in runs(bundle, precision) for check in check_outputs(known, run)]
        passed = all(check.passed for check in (*inputs, *outputs))
        reports[precision] = Report(passed=passed, checks=(*inputs, *outputs))
    return reports


def check_inputs(known: Reference, image_spec: ImageSpec, tokenizer: Tokenizer) -> list[Check]:
    """The stages before any runtime: pixels within `PIXELS_MAX`, token ids equal one by one."""
    pixels = to_pixels(image_spec, known.samples.images)
    tokens = tokenizer.to_tokens(known.samples.texts)
    return [_check_pixels(pixels, known.pixels), _check_tokens(tokens, known.tokens)]


def check_outputs(known: Reference, run: Run) -> Iterator[Check]:
    """The stages that a runtime computes: each tower on the checkpoint's own inputs, then the whole way.

    Each tower runs once with everything in one batch and once alone, and must be right both times.

    Args:
        known: the checkpoint's outcome.
        run: the bundle on one runtime at one precision.
    """
    encoder, tokens, samples = run.encoder, known.tokens, known.samples

    def images() -> NDArray[np.float32]:
        each = [encoder.encode_pixels(known.pixels[row : row + 1]) for row in range(len(known.pixels))]
        return np.stack([encoder.encode_pixels(known.pixels), np.concatenate(each)])

    def texts() -> NDArray[np.float32]:
        rows = (Tokens(tokens.ids[row : row + 1], tokens.lengths[row : row + 1]) for row in range(len(tokens.ids)))
        each = [encoder.encode_tokens(row) for row in rows]
        return np.stack([encoder.encode_tokens(tokens), np.concatenate(each)])

    def scores() -> NDArray[np.float32]:
        return encoder.encode_images(samples.images) @ encoder.encode_texts(samples.texts).T

    yield _attempted("image", run, images, lambda found: _check_vectors("image", run, found, known.images))
    yield _attempted("text", run, texts, lambda found: _check_vectors("text", run, found, known.texts))
    yield _attempted("similarity", run, scores, lambda found: _check_similarity(known, run, found))
    yield _attempted("labels", run, scores, lambda found: _check_labels(known, run, found))


def _attempted(
    stage: Stage,
    run: Run,
    compute: Callable[[], NDArray[np.float32]],
    check: Callable[[NDArray[np.float32]], Check],
) -> Check:
    """The check of what is computed; failed where the bundle gives no vectors at all, or such as are not finite."""
    try:
        return check(compute())
    except TuwenError as error:
        log.warning("stage %s on %s (%s): %s", stage, run.runtime, run.precision, error)
        return _failed(stage, run.runtime, run.precision)


def _check_pixels(found: Pixels, expected: Pixels) -> Check:
    if found.shape != expected.shape:
        return _failed("pixels", "prepare", "fp32")
    worst = float(np.abs(found - expected).max())
    cosines = _cosines(found.reshape(len(found), -1), expected.reshape(len(found), -1))
    return _check("pixels", "prepare", "fp32", cosines=cosines, max_abs=worst, passed=worst <= PIXELS_MAX)


def _check_tokens(found: Tokens, expected: Tokens) -> Check:
    """Compared up to each text's length: what pads a row beyond it is the text spec's affair."""
    differing = sum(
        not np.array_equal(ours[:length], theirs[:reference_length])
        for ours, length, theirs, reference_length in zip(
            found.ids, found.lengths, expected.ids, expected.lengths, strict=True
        )
    )
    return _check("tokens", "prepare", "int64", cosines=None, max_abs=float(differing), passed=differing == 0)


def _check_vectors(stage: Stage, run: Run, found: NDArray[np.float32], expected: Vectors) -> Check:
    """`found` (2, n, dim): all at once, and one by one."""
    worst = float(np.abs(found - expected).max())
    cosines = np.concatenate([_cosines(each, expected) for each in found])
    exact = run.precision == "fp32"
    passed = worst <= FP32_MAX if exact else float(cosines.min()) >= WORST_COSINE[run.precision]
    return _check(stage, run.runtime, run.precision, cosines=cosines, max_abs=worst, passed=passed)


def _check_similarity(known: Reference, run: Run, found: NDArray[np.float32]) -> Check:
    """Pictures against texts, from files and strings on: the cosines, and which texts come first."""
    expected = known.images @ known.texts.T
    worst = float(np.abs(found - expected).max())
    # Two unit vectors, each at cosine c to its original: their product moves by at most 2 sqrt(2 - 2c).
    bound = FP32_MAX if run.precision == "fp32" else 2 * math.sqrt(2 - 2 * WORST_COSINE[run.precision])
    cosines = _cosines(found, expected)
    check = _check("similarity", run.runtime, run.precision, cosines=cosines, max_abs=worst, passed=worst <= bound)
    agreement = {"top1": _agreement(found, expected, 1), "top10": _agreement(found, expected, 10)}
    return check.model_copy(update=agreement)


def _check_labels(known: Reference, run: Run, found: NDArray[np.float32]) -> Check:
    """The texts as labels: the distribution over them that each picture gets."""
    ours = probabilities(run.encoder.scoring, found)
    theirs = probabilities(known.scoring, known.images @ known.texts.T)
    cosines, worst = _cosines(ours, theirs), float(np.abs(ours - theirs).max())
    small = run.precision == "int8"
    passed = cosines.mean() >= INT8_LABELS_MEAN if small else cosines.min() > LABELS_COSINE
    return _check("labels", run.runtime, run.precision, cosines=cosines, max_abs=worst, passed=bool(passed))


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


def _failed(stage: Stage, runtime: str, precision: str) -> Check:
    """A stage that has no outcome to compare, or one of another shape."""
    return _check(stage, runtime, precision, cosines=None, max_abs=float("inf"), passed=False)
