"""A bundle converted for another runtime: a folder with `converted.json`, which names its files, origin and checks."""

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
"""the extension of the file that a runtime loads for a tower; weights may be beside it"""


class Input(Facts):
    """An input of a tower: its name, and the length of each axis (None: any)."""

    name: str
    shape: tuple[int | None, ...]


class Converted(Facts):
    """The content of `converted.json`."""

    format: Literal[1] = 1
    """the version of the file's format."""
    to: Target
    precision: Literal["fp32", "fp16"]
    """the precision of the weights; engines and OM files compute in it."""
    model: str
    """the bundle's name."""
    fingerprint: str
    """the bundle's."""
    dim: int
    tool: str
    """the tool that converted it, with its version."""
    commands: tuple[tuple[str, ...], ...]
    """the commands that were run; empty if a library converted in this process."""
    inputs: dict[Tower, tuple[Input, ...]]
    """the inputs of each tower that was converted."""
    outputs: dict[Tower, str]
    """the name of each tower's embedding."""
    unit_length: bool | None
    """whether the rows of its own output have length 1, alone and in a batch; None if not tried."""
    checks: tuple[Check, ...]
    """each tower compared with the bundle's; empty if tuwen cannot run it."""
    files: dict[str, File]
    """every other file in the folder."""


def read_converted(folder: Path, bundle: Bundle) -> Converted:
    """Read a converted bundle, and check every file.

    Raises:
        BundleNotFound: there is no `converted.json`.
        BundleInvalid: a field is missing or unknown, or it was converted from another model.
        BundleChanged: a file was changed.
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
    """The names of the files of a tower that a runtime reads."""
    weights = {"openvino": ".bin", "ncnn": ".ncnn.bin"}.get(to)
    return (f"{tower}{MODELS[to]}", *([f"{tower}{weights}"] if weights else []))
