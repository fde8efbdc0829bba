"""What a converted model computes against what its bundle computes. Knows encoders, not how either was made."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.converted import Converted
from tuwen.bundle.layout import Tower
from tuwen.bundle.manifest import Check, Precision
from tuwen.errors import TuwenError
from tuwen.export.samples import built_in
from tuwen.prepare.pixels import to_pixels
from tuwen.runtime.converted import converted_encoder, open_converted
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.plan import Choice, make_plan, open_session
from tuwen.types import Tokens

LARGEST = {"fp32": 1e-5, "fp16": float("inf")}
"""difference of any number in a vector of length 1: as `tuwen verify` has it"""
COSINE = {"fp32": 0.9999, "fp16": 0.999}
"""the worst vector's"""
UNIT = 1e-3
"""how far a row's own length may be from 1"""


Stage: TypeAlias = Literal["image", "text"]
Encode: TypeAlias = Callable[[Encoder], list[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found: a check for each tower, and whether its own output is of length 1 (None: not tried)."""

    checks: tuple[Check, ...]
    unit_length: bool | None


def prove(bundle: Bundle, converted: Converted, folder: Path, threads: int) -> Proof:
    """Run both on the built-in pictures and texts, all at once and one by one."""
    file = next(name for name in bundle.precisions if name != "int8")
    ours, theirs = _of_bundle(bundle, file, threads), converted_encoder(bundle, converted, folder, threads)
    samples, towers = built_in(), tuple(converted.inputs)
    pixels, tokens = to_pixels(ours.image_spec, samples.images), ours.to_tokens(samples.texts)

    def images(encoder: Encoder) -> list[NDArray[np.float32]]:
        each = [encoder.encode_pixels(pixels[row : row + 1]) for row in range(len(pixels))]
        return [encoder.encode_pixels(pixels), np.concatenate(each)]

    def texts(encoder: Encoder) -> list[NDArray[np.float32]]:
        each = [encoder.encode_tokens(row) for row in _rows(tokens)]
        return [encoder.encode_tokens(tokens), np.concatenate(each)]

    encoded: dict[Tower, Encode] = {"vision": images, "text": texts}
    checks = tuple(
        _check(tower, converted, partial(encoded[tower], theirs), encoded[tower](ours)) for tower in towers
    )
    if not all(check.passed for check in checks):
        return Proof(checks, None)
    return Proof(checks, all(_is_unit(converted, folder, tower, threads) for tower in towers))


def _of_bundle(bundle: Bundle, file: Precision, threads: int) -> Encoder:
    plan = make_plan(bundle, Choice("onnxruntime", "cpu", file, threads))
    return Encoder(bundle, lambda tower: open_session(bundle, tower, plan, None), precision=plan.precision)


def _rows(tokens: Tokens) -> list[Tokens]:
    return [Tokens(tokens.ids[row : row + 1], tokens.lengths[row : row + 1]) for row in range(len(tokens.ids))]


def _check(
    tower: Tower,
    converted: Converted,
    compute: Callable[[], list[NDArray[np.float32]]],
    expected: list[NDArray[np.float32]],
) -> Check:
    """Failed where it gives no vectors at all."""
    stage: Stage = "image" if tower == "vision" else "text"
    named = partial(Check, stage=stage, runtime=converted.to, precision=converted.precision, top1=None, top10=None)
    try:
        vectors = np.stack(compute())
    except TuwenError:
        return named(worst_cosine=None, mean_cosine=None, max_abs=float("inf"), passed=False)
    cosines = (vectors.astype(np.float64) * np.stack(expected)).sum(axis=-1)
    largest, worst = float(np.abs(vectors - np.stack(expected)).max()), float(cosines.min())
    passed = largest <= LARGEST[converted.precision] and worst >= COSINE[converted.precision]
    return named(worst_cosine=worst, mean_cosine=float(cosines.mean()), max_abs=largest, passed=passed)


def _is_unit(converted: Converted, folder: Path, tower: Tower, threads: int) -> bool:
    """Whether the rows of its own output are of length 1, also in a batch: not every runtime gets this right."""
    session = open_converted(converted, folder, tower, threads)
    rng = np.random.default_rng(0)
    feeds = {}
    for port in session.inputs:
        shape = tuple(axis or fallback for axis, fallback in zip(port.shape, (3, 8, 8, 8), strict=False))
        feeds[port.name] = (
            rng.standard_normal(shape).astype(np.float32) if tower == "vision" else np.ones(shape, dtype=port.dtype)
        )
    return bool(np.abs(np.linalg.norm(session.run(feeds), axis=1) - 1).max() < UNIT)
