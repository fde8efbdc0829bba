"""What a converted model computes against what its bundle computes. Knows encoders, not how either was made."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.converted import Converted
from tuwen.bundle.layout import Tower
from tuwen.bundle.manifest import Check, Precision
from tuwen.errors import TuwenError
from tuwen.export.checks import Stage, check_vectors, failed
from tuwen.export.runs import image_vectors, text_vectors
from tuwen.export.samples import built_in
from tuwen.prepare.pixels import to_pixels
from tuwen.runtime.converted import converted_encoder, open_converted
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.plan import Choice, make_plan, open_session
from tuwen.types import Pixels, Tokens

UNIT = 1e-3
"""how far a row's own length may be from 1"""


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
    inputs: dict[Tower, Pixels | Tokens] = {"vision": pixels, "text": tokens}
    checks = tuple(_check(tower, converted, inputs[tower], ours, theirs) for tower in towers)
    if not all(check.passed for check in checks):
        return Proof(checks, None)
    return Proof(checks, all(_is_unit(converted, folder, tower, threads) for tower in towers))


def _of_bundle(bundle: Bundle, file: Precision, threads: int) -> Encoder:
    plan = make_plan(bundle, Choice("onnxruntime", "cpu", file, threads))
    return Encoder(bundle, lambda tower: open_session(bundle, tower, plan, None), precision=plan.precision)


def _check(tower: Tower, converted: Converted, inputs: Pixels | Tokens, ours: Encoder, theirs: Encoder) -> Check:
    """The bars of `tuwen verify`; failed where it gives no vectors at all."""
    stage: Stage = "image" if tower == "vision" else "text"
    expected = _vectors(ours, inputs)[0]
    try:
        return check_vectors(stage, converted.to, converted.precision, _vectors(theirs, inputs), expected)
    except TuwenError:
        return failed(stage, converted.to, converted.precision)


def _vectors(encoder: Encoder, inputs: Pixels | Tokens) -> NDArray[np.float32]:
    return text_vectors(encoder, inputs) if isinstance(inputs, Tokens) else image_vectors(encoder, inputs)


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
