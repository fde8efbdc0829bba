"""A model written for another runtime: its files, what it was made from and with what, and the proof.

A folder beside the bundle, with `converted.json`. Knows the folder; does not know how a runtime reads its files.
"""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tuwen.bundle.bundle import Bundle, check_file, first_fault
from tuwen.bundle.manifest import Check, Facts, File, Tower
from tuwen.errors import BundleInvalid, BundleNotFound

MANIFEST = "converted.json"

Target = Literal["openvino", "mnn", "ncnn", "tensorrt", "om"]

MODELS: dict[Target, str] = {
    "openvino": ".xml",
    "mnn": ".mnn",
    "ncnn": ".ncnn.param",
    "tensorrt": ".engine",
    "om": ".om",
}
"""What the file of a tower ends with that a runtime is given; weights may lie beside it."""


class Input(Facts):
    """One input of a tower: its name, and each axis' fixed length, None where it may be any."""

    name: str
    shape: tuple[int | None, ...]


class Converted(Facts):
    """The whole of `converted.json`."""

    format: Literal[1] = 1
    """the version of this file's own shape."""
    to: Target
    precision: Literal["fp32", "fp16"]
    """what the weights are stored in; engines and OM files compute in it."""
    model: str
    """the bundle's name."""
    fingerprint: str
    """the bundle's."""
    dim: int
    tool: str
    """what converted it, with its version."""
    commands: tuple[tuple[str, ...], ...]
    """what was run; empty where a library did it within this process."""
    inputs: dict[Tower, tuple[Input, ...]]
    """of each tower that was converted."""
    outputs: dict[Tower, str]
    """the name of each tower's embedding."""
    unit_length: bool | None
    """whether its own output has rows of length 1, alone and in a batch; None where that was not tried."""
    checks: tuple[Check, ...]
    """each tower against the bundle's; empty where this machine cannot run it."""
    files: dict[str, File]
    """every file beside this one."""


def read_converted(folder: Path, bundle: Bundle) -> Converted:
    """Read what a bundle was converted to, and check every file.

    Raises:
        BundleNotFound: there is no `converted.json`.
        BundleInvalid: a field is missing or unknown, or it was made from another model.
        BundleChanged: a file is not the one that was written.
    """
    path = folder / MANIFEST
    try:
        converted = Converted.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleNotFound(f"there is nothing converted at {folder}: {MANIFEST} is missing") from error
    except ValidationError as error:
        raise BundleInvalid(f"{path}: {first_fault(error)} (convert the bundle again)") from error
    if converted.fingerprint != bundle.manifest.fingerprint():
        raise BundleInvalid(
            f"{folder} was converted from {converted.model} ({converted.fingerprint}), not from "
            f"{bundle.manifest.name} ({bundle.manifest.fingerprint()}): convert this bundle"
        )
    for name, file in converted.files.items():
        check_file(folder / name, file, None)
    return converted


def model_files(to: Target, tower: Tower) -> tuple[str, ...]:
    """The names of a tower's files that a runtime reads."""
    weights = {"openvino": ".bin", "ncnn": ".ncnn.bin"}.get(to)
    return (f"{tower}{MODELS[to]}", *([f"{tower}{weights}"] if weights else []))
