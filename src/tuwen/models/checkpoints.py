"""Read the tensors of checkpoint files without running code that they may contain.

Formats are distinguished by content: safetensors, torch's files (zipped, and from before 1.6), TorchScript archives,
and Paddle's `.pdparams`.
"""

import json
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from tuwen.bundle.huggingface import read_object
from tuwen.errors import InvalidInput
from tuwen.models.pickles import Refused, read_archive, read_arrays

_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The first bytes of files written by torch before 1.6: a pickled magic number."""
_FOLDER = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in a folder, best first; split weights have an index of this name beside the pieces."""
_WRAPPERS = ("state_dict", "model", "module")
"""Keys under which trainers store the model beside their optimizer."""


@dataclass(frozen=True)
class Inspection:
    """The content of a checkpoint's file or folder by which its family is recognised; read on first access.

    Attributes:
        path: the file or folder.
    """

    path: Path

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The folder's `config.json`; empty if there is none.

        Raises:
            BundleInvalid: it is not a JSON object.
        """
        place = self.path / "config.json"
        return read_object(place) if place.is_file() else {}

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The file's tensors by name; empty for a folder.

        Raises:
            InvalidInput: as `read_tensors`.
        """
        return {} if self.path.is_dir() else read_tensors(self.path)

    def has(self, *names: str) -> bool:
        """Whether all these files are in the folder."""
        return all((self.path / name).is_file() for name in names)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a checkpoint on the CPU, with the types in which they were saved.

    A trainer's wrapping (`state_dict`, `model`, `module`; a `module.` before every name) is removed, and values
    other than tensors are left out. If the format allows it, tensors are only read when they are used.

    Raises:
        InvalidInput: there is no such file, it is damaged or not a checkpoint, or it contains pickled objects that
            could run code; `.where` is the file.
    """
    try:
        found = _read(path)
    except FileNotFoundError as error:
        raise InvalidInput(f"there are no weights at {path}", where=path) from error
    except Refused as error:
        raise _unsafe(path, str(error)) from error
    except UnpicklingError as error:
        if "GLOBAL" in str(error) or "nsupported" in str(error):
            raise _unsafe(path, "objects") from error
        raise _damaged(path) from error
    except (RuntimeError, ValueError, LookupError, EOFError, OSError, struct.error) as error:
        raise _damaged(path) from error
    return _named(path, found)


def read_folder(folder: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a folder, from one file or from the pieces that an index names.

    Raises:
        InvalidInput: there are none, or a piece is missing or damaged.
    """
    for name in _FOLDER:
        if (folder / name).is_file():
            return read_tensors(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            pieces = sorted(set(_index(index)))
            parts = [read_tensors(folder / Path(piece).name) for piece in pieces]
            return {key: tensor for part in parts for key, tensor in part.items()}
    names = ", ".join(_FOLDER)
    raise InvalidInput(f"{folder} has no weights: none of {names}, nor an index of their pieces", where=folder)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip file with code beside its tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _index(path: Path) -> Iterable[str]:
    """The file of each tensor, from an index of pieces."""
    try:
        found: dict[str, str] = json.loads(path.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    return found.values()


def _read(path: Path) -> object:
    with path.open("rb") as file:
        head = file.read(16)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if is_torchscript(path):
        return read_archive(path)
    if zipfile.is_zipfile(path):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if head.startswith(_LEGACY):
        return torch.load(path, map_location="cpu", weights_only=True)
    return _read_arrays(path)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _read_arrays(path: Path) -> dict[str, torch.Tensor]:
    """Read Paddle's arrays. numpy has no bfloat16, so Paddle saves it as uint16."""
    arrays = read_arrays(path)
    return {
        name: torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if array.dtype == np.uint16
        else torch.from_numpy(array)
        for name, array in arrays.items()
    }


def _named(path: Path, found: object) -> dict[str, torch.Tensor]:
    """Find the mapping of names to tensors in the content of a file."""
    while isinstance(found, Mapping) and not any(isinstance(value, torch.Tensor) for value in found.values()):
        inner: Any = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    values = found.items() if isinstance(found, Mapping) else ()
    tensors = {str(name): value for name, value in values if isinstance(value, torch.Tensor)}
    if not tensors:
        raise InvalidInput(f"{path} contains no named tensors; give the file of a model's weights", where=path)
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _unsafe(path: Path, what: str) -> InvalidInput:
    hint = "save only its state dict, or save it as .safetensors"
    return InvalidInput(
        f"{path} contains objects other than tensors ({what}); loading it could run code, so it is not read: {hint}",
        value=what,
        where=path,
        hint=hint,
    )


def _damaged(path: Path) -> InvalidInput:
    return InvalidInput(f"{path} is not a checkpoint, or is damaged; get it again", where=path)
