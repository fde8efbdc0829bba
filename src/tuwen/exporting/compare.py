"""Compares a bundle with a reference, stage by stage: pixels, tokens, vectors, similarities, probabilities."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import Check, ImageSpec, Precision, Report, Scoring
from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import TuwenError
from tuwen.exporting.checks import (
    Stage,
    check_labels,
    check_pixels,
    check_similarity,
    check_tokens,
    check_vectors,
    failed,
    probabilities,
)
from tuwen.exporting.graph import UnitLength
from tuwen.exporting.runs import Device, Run, image_vectors, lower, run_on, runs, text_vectors
from tuwen.exporting.samples import Samples
from tuwen.models.towers import Towers, vectors
from tuwen.types import Pixels, Tokens, Vectors

log = logging.getLogger(__name__)

AT_A_TIME = 2
"""how many runs are compared at a time: loading a model keeps a single core busy"""

_Computed: TypeAlias = Callable[[], NDArray[np.float32]]
_Compared: TypeAlias = Callable[[NDArray[np.float32]], Check]


@dataclass(frozen=True, slots=True)
class Reference:
    """What a bundle is compared with: what its checkpoint computes from samples, in PyTorch at fp32.

    Attributes:
        samples: the images and texts.
        pixels: (n, 3, h, w), the images as the authors' own preprocessing prepares them.
        tokens: the texts as the authors' own tokenizer reads them, padded to the context length.
        images: (n, dim), one unit vector per image.
        texts: (m, dim), one unit vector per text.
        scoring: how cosines become probabilities.
        own: whether this was computed by the bundle itself (see `baseline`): its pixels and tokens are not compared.
        precision: what it was computed in.
    """

    samples: Samples
    pixels: Pixels
    tokens: Tokens
    images: Vectors
    texts: Vectors
    scoring: Scoring
    own: bool = False
    precision: str = "fp32"


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
    """What the bundle's own best files compute on ONNX Runtime: a reference if there is no checkpoint."""
    return of_run(next(runs(bundle, bundle.precisions[0])), samples)


def of_run(run: Run, samples: Samples) -> Reference:
    """What one run computes, as a reference for other runs."""
    encoder = run.encoder
    pixels, tokens = to_pixels(encoder.image_spec, samples.images), encoder.to_tokens(samples.texts)
    images, texts = encoder.encode_pixels(pixels), encoder.encode_tokens(tokens)
    return Reference(samples, pixels, tokens, images, texts, encoder.scoring, own=True, precision=run.precision)


def compare(bundle: Bundle, known: Reference) -> dict[Precision, Report]:
    """Run a bundle at each precision on each runtime of this machine: one report for each precision."""
    tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.text)
    inputs = [] if known.own else check_inputs(known, bundle.manifest.image, tokenizer)

    def outputs(run: Run) -> list[Check]:
        return list(check_outputs(known, run))

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = {precision: pool.map(outputs, runs(bundle, precision)) for precision in bundle.precisions}
        return {precision: report([*inputs, *chain.from_iterable(found[precision])]) for precision in found}


def report(checks: Sequence[Check]) -> Report:
    """A report of these checks, which passes if all of them do."""
    return Report(passed=all(check.passed for check in checks), checks=tuple(checks))


def compare_devices(bundle: Bundle, devices: Sequence[Device], samples: Samples) -> list[Report]:
    """Run a bundle on each device, and compare the others with the first: one report for each of the others.

    Raises:
        RuntimeUnavailable: a device is not available on this machine.
    """
    first, *others = [run_on(bundle, device) for device in devices]
    known = of_run(first, samples)
    return [report(list(check_outputs(known, run))) for run in others]


def check_inputs(known: Reference, image_spec: ImageSpec, tokenizer: Tokenizer) -> list[Check]:
    """The stages before any runtime: pixels within `PIXELS_MAX`, equal token ids."""
    pixels = to_pixels(image_spec, known.samples.images)
    tokens = tokenizer.to_tokens(known.samples.texts)
    return [check_pixels(pixels, known.pixels), check_tokens(tokens, known.tokens)]


def check_outputs(known: Reference, run: Run) -> Iterator[Check]:
    """The stages that a runtime computes: each tower on the reference's inputs, then everything from files on.

    Each tower runs with all inputs in one batch, then with each input by itself, and must be right both times.
    """
    encoder, samples = run.encoder, known.samples
    runtime, precision = run.runtime, lower(run.precision, known.precision)
    cosines = known.images @ known.texts.T

    @cache
    def scores() -> NDArray[np.float32]:
        return encoder.encode_images(samples.images) @ encoder.encode_texts(samples.texts).T

    def labels(found: NDArray[np.float32]) -> Check:
        ours, theirs = probabilities(encoder.scoring, found), probabilities(known.scoring, cosines)
        return check_labels(runtime, precision, ours, theirs, own=samples.labelled)

    stages: dict[Stage, tuple[_Computed, _Compared]] = {
        "image": (
            lambda: image_vectors(encoder, known.pixels),
            lambda found: check_vectors("image", runtime, precision, found, known.images),
        ),
        "text": (
            lambda: text_vectors(encoder, known.tokens),
            lambda found: check_vectors("text", runtime, precision, found, known.texts),
        ),
        "similarity": (scores, lambda found: check_similarity(runtime, precision, found, cosines)),
        "labels": (scores, labels),
    }
    for stage, (compute, compare) in stages.items():
        try:
            yield compare(compute())
        except TuwenError as error:  # no vectors, or vectors that are not finite
            log.warning("stage %s on %s (%s): %s", stage, runtime, precision, error)
            yield failed(stage, runtime, precision)
