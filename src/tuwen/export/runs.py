"""The ways to run a bundle that verification goes through: all that this machine's CPU has, or places by name."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.layout import Tower
from tuwen.bundle.manifest import Precision
from tuwen.errors import InvalidInput
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.openvino import native_precisions
from tuwen.runtime.plan import RUNTIMES, Choice, make_plan, open_session
from tuwen.runtime.session import Session
from tuwen.types import Pixels, Tokens

_FROM_BEST = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class Run:
    """A bundle's files of one precision on one runtime.

    Attributes:
        runtime: its name, or its place's.
        precision: the lesser of what the files hold and what the runtime computes in, which bounds the error.
        encoder: the bundle, ready to run.
    """

    runtime: str
    precision: str
    encoder: Encoder


@dataclass(frozen=True, slots=True)
class Place:
    """A device, perhaps with the runtime and the precision, as it was written.

    Attributes:
        name: e.g. `cuda`, `cpu:openvino`, `cpu@int8`.
        choice: what it says.
    """

    name: str
    choice: Choice


def read_places(text: str) -> list[Place]:
    """`cpu,cuda:1,cpu:openvino@int8` to places: DEVICE[:RUNTIME][@PRECISION] each; `auto` where nothing is said.

    Raises:
        InvalidInput: fewer than two, one twice, or a part that is no device, runtime or precision.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if len(set(names)) < max(2, len(names)):
        raise InvalidInput(f"{text!r} names no two different devices to compare: write e.g. cpu,cuda")
    return [Place(name, _choice(name)) for name in names]


def run_at(bundle: Bundle, place: Place) -> Run:
    """The bundle at a place.

    Raises:
        RuntimeUnavailable: it is not on this machine, or the bundle has no file for it.
    """
    plan = make_plan(bundle, place.choice)
    return Run(place.name, lesser(plan.file, plan.precision), _encoder(bundle, place.choice))


def lesser(one: str, other: str) -> str:
    """Of two precisions, the one that bounds the error."""
    return max(one, other, key=_FROM_BEST.index)


def runs(bundle: Bundle, precision: Precision) -> Iterator[Run]:
    """The bundle's files of `precision` by each runtime; fp32 ones in bf16 too, where the CPU has it."""
    graphs = {place: path for place, path in bundle.graphs.items() if place[1] == precision}
    files = replace(bundle, graphs=graphs)
    computed = "int8" if precision == "int8" else "fp32"
    for runtime in ("onnxruntime", "openvino"):
        yield Run(runtime, precision, _encoder(files, Choice(runtime, "cpu", computed)))
    if precision == "fp32" and "bf16" in native_precisions("cpu"):
        yield Run("openvino", "bf16", _encoder(files, Choice("openvino", "cpu", "bf16")))


def _choice(name: str) -> Choice:
    place, _, precision = name.partition("@")
    device, _, runtime = place.rpartition(":")
    if device and runtime in RUNTIMES:
        return Choice(runtime, device, precision or "auto")
    return Choice("auto", place, precision or "auto")


def _encoder(bundle: Bundle, choice: Choice) -> Encoder:
    """Exact decoding, as the checkpoint's own; no cache of compiled models: what was just written is verified."""
    plan = make_plan(bundle, choice)

    def load(tower: Tower) -> Session:
        return open_session(bundle, tower, plan, cache=None)

    return Encoder(bundle, load, precision=plan.precision, exact_decode=True)


def image_vectors(encoder: Encoder, pixels: Pixels) -> NDArray[np.float32]:
    """(2, n, dim): all at once, and one by one."""
    each = [encoder.encode_pixels(pixels[row : row + 1]) for row in range(len(pixels))]
    return np.stack([encoder.encode_pixels(pixels), np.concatenate(each)])


def text_vectors(encoder: Encoder, tokens: Tokens) -> NDArray[np.float32]:
    """(2, n, dim): all at once, and one by one."""
    rows = (Tokens(tokens.ids[row : row + 1], tokens.lengths[row : row + 1]) for row in range(len(tokens.ids)))
    each = [encoder.encode_tokens(row) for row in rows]
    return np.stack([encoder.encode_tokens(tokens), np.concatenate(each)])
