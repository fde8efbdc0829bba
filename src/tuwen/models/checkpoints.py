"""Read the tensors of checkpoint files without running code that they may contain.

Formats are told apart by content: safetensors, torch's files (zipped, and from before 1.6), TorchScript archives,
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
"""How torch's files of before 1.6 begin: a pickled magic number."""
_FOLDER = ("model.safetensors", "pytorch_model.bin")
"""What a folder's weights are called, best first; what is split has an index of this name beside its pieces."""
_WRAPPERS = ("state_dict", "model", "module")
"""Under which keys trainers keep a model beside their optimizer."""


@dataclass(frozen=True)
class Contents:
    """The content of a checkpoint's file or folder, as far as it tells the family; parts are read on first access.

    Attributes:
        path: the file or folder.
    """

    path: Path

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The folder's `config.json`; empty where there is none.

        Raises:
            BundleInvalid: it is no JSON object.
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
    """All tensors of a checkpoint on the CPU, each of the type it was saved in.

    A trainer's wrapping (`state_dict`, `model`, `module`; a `module.` before every name) is taken off, and what
    is no tensor is left out. Tensors lie in the file until they are used, where the format allows it.

    Raises:
        InvalidInput: there is no such file, it is damaged or no checkpoint, or it holds pickled objects that could
            run code.
    """
    try:
        found = _read(path)
    except FileNotFoundError as error:
        raise InvalidInput(f"there are no weights at {path}") from error
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
    """All tensors of a folder, from one file or from the pieces that an index names.

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
    raise InvalidInput(f"{folder} has no weights: none of {', '.join(_FOLDER)}, nor an index of their pieces")


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip that carries code beside its tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _index(path: Path) -> Iterable[str]:
    """The file of every tensor, as an index of pieces names it."""
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
    """Paddle has no numpy type for bfloat16, and saves it as the 16 bits that it is."""
    arrays = read_arrays(path)
    return {
        name: torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if array.dtype == np.uint16
        else torch.from_numpy(array)
        for name, array in arrays.items()
    }


def _named(path: Path, found: object) -> dict[str, torch.Tensor]:
    """The mapping of names to tensors within what a file holds."""
    while isinstance(found, Mapping) and not any(isinstance(value, torch.Tensor) for value in found.values()):
        inner: Any = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    values = found.items() if isinstance(found, Mapping) else ()
    tensors = {str(name): value for name, value in values if isinstance(value, torch.Tensor)}
    if not tensors:
        raise InvalidInput(f"{path} holds no tensors by name: give the file of a model's weights")
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _unsafe(path: Path, what: str) -> InvalidInput:
    return InvalidInput(
        f"{path} holds more than tensors ({what}), and is not read because loading it could run code: "
        "save its state dict alone, or as .safetensors"
    )


def _damaged(path: Path) -> InvalidInput:
    return InvalidInput(f"{path} is no checkpoint, or is damaged: get it again")
