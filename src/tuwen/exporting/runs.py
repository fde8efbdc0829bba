"""The ways to run a bundle on this machine: its files at one precision, on one runtime and device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import Precision, Tower
from tuwen.errors import InvalidInput
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.machine import native_precisions
from tuwen.runtime.selection import RUNTIMES, Choice, make_plan, open_session
from tuwen.runtime.session import Session
from tuwen.types import Pixels, Tokens

_FROM_BEST = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class Run:
    """A bundle at one precision on one runtime.

    Attributes:
        runtime: its name, or the device's as it was written.
        precision: the lower of the files' and the one that the runtime computes in, which bounds the error.
        encoder: the bundle, ready to run.
    """

    runtime: str
    precision: str
    encoder: Encoder


@dataclass(frozen=True, slots=True)
class Device:
    """A device, perhaps with a runtime and a precision.

    Attributes:
        name: as it was written, e.g. `cuda`, `cpu:openvino`, `cpu@int8`.
        choice: what the name says.
    """

    name: str
    choice: Choice


def parse_devices(text: str) -> list[Device]:
    """Parse a list of DEVICE[:RUNTIME][@PRECISION], e.g. `cpu,cuda:1,cpu:openvino@int8`.

    Raises:
        InvalidInput: fewer than two different devices, or an unknown device, runtime or precision.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if len(set(names)) < max(2, len(names)):
        hint = "write e.g. cpu,cuda"
        raise InvalidInput(f"{text!r} does not name two different devices; {hint}", value=text, hint=hint)
    return [Device(name, _choice(name)) for name in names]


def run_on(bundle: Bundle, device: Device) -> Run:
    """The bundle on a device.

    Raises:
        RuntimeUnavailable: the device is not available on this machine, or the bundle has no file for it.
    """
    plan = make_plan(bundle, device.choice)
    return Run(device.name, lower(plan.file, plan.precision), _encoder(bundle, device.choice))


def lower(one: str, other: str) -> str:
    """The lower of two precisions, which bounds the error."""
    return max(one, other, key=_FROM_BEST.index)


def runs(bundle: Bundle, precision: Precision) -> Iterator[Run]:
    """The bundle's files of a precision on each runtime; fp32 files also in bf16 if the CPU computes in it."""
    graphs = {key: path for key, path in bundle.graphs.items() if key[1] == precision}
    files = replace(bundle, graphs=graphs)
    computed = "int8" if precision == "int8" else "fp32"
    for runtime in ("onnxruntime", "openvino"):
        yield Run(runtime, precision, _encoder(files, Choice(runtime, "cpu", computed)))
    if precision == "fp32" and "bf16" in native_precisions("cpu"):
        yield Run("openvino", "bf16", _encoder(files, Choice("openvino", "cpu", "bf16")))


def _choice(name: str) -> Choice:
    device, _, precision = name.partition("@")
    before, _, runtime = device.rpartition(":")
    if before and runtime in RUNTIMES:
        return Choice(runtime, before, precision or "auto")
    return Choice("auto", device, precision or "auto")


def _encoder(bundle: Bundle, choice: Choice) -> Encoder:
    """Decodes exactly, as the reference does, and ignores the cache of compiled models, to check what is on disk."""
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
