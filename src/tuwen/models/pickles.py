"""Read pickles that torch's own restricted loader does not support: TorchScript modules and Paddle's arrays.

The unpicklers build tensors, arrays and plain containers, and refuse every other name in the file before it is looked
up. No code in a file is ever run.
"""

import collections
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

_NUMBERS = re.compile(r"[<=|]?([fiu][1248]|b1)")
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Refused(Exception):
    """A pickle contains something other than numbers and containers; the message is its name."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the numpy arrays of a pickled mapping, as Paddle saves a state dict; its table of names is left out.

    Raises:
        Refused: the pickle contains anything but arrays.
        ValueError: it is not a pickle, or not a mapping.
    """
    with path.open("rb") as file:
        found = _load(_Arrays(file))
    if not isinstance(found, dict):
        raise ValueError("not a mapping")
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}


def read_archive(path: Path) -> dict[str, torch.Tensor]:
    """Read the parameters and buffers of a TorchScript archive, by their dotted names.

    Raises:
        Refused: it contains anything but modules and tensors.
        ValueError: it is not such an archive.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl"]
        root = PurePosixPath(min(names, key=len)).parent
        if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("written on a big-endian machine")
        with archive.open(f"{root}/data.pkl") as file:
            module = _load(_Script(file, lambda key: archive.read(f"{root}/data/{key}")))
    return dict(_tensors(module, ""))


def _load(unpickler: pickle.Unpickler) -> Any:  # noqa: ANN401  (whatever a file holds)
    try:
        return unpickler.load()
    except (AttributeError, ImportError, MemoryError, TypeError, OverflowError, pickle.UnpicklingError) as error:
        raise ValueError(f"not a pickle of the expected kind: {error}") from error


class _Arrays(pickle.Unpickler):
    """An unpickler that only builds numpy arrays of numbers."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  (the base class's type)
        module = module.replace("numpy._core", "numpy.core")
        found = _ARRAYS.get((module, name))
        if found is None:
            raise Refused(f"{module}.{name}")
        return found

    def persistent_load(self, pid: object) -> Any:  # noqa: ANN401  (the base class's type)
        raise Refused(f"something outside the file, {pid!r:.40}")


def _dtype(code: object, *_: object) -> np.dtype[Any]:
    if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
        raise Refused(f"an array of {code!r:.20}")
    return np.dtype(code, copy=True)  # a pickle sets its byte order on it


def _empty(_subtype: object, _shape: object, _code: object) -> NDArray[Any]:
    """The empty array with which numpy's pickles start; its real shape and content follow as its state."""
    return np.empty(0, np.int8)


def _from_buffer(buffer: object, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> NDArray[Any]:  # noqa: ANN401
    return np.frombuffer(buffer, dtype).reshape(shape, order=order).copy()  # type: ignore[call-overload, no-any-return]


def _latin1(text: str, encoding: str) -> bytes:
    """Decode bytes as pickle protocol 2 writes them."""
    if encoding != "latin1":
        raise Refused(f"text in {encoding!r:.20}")
    return text.encode("latin1")


class _Nothing:
    """An inert placeholder for the array class that a pickle names."""


_ARRAYS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _Nothing,
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _latin1,
}


class _Module:
    """A TorchScript object: its attributes without its code."""

    attributes: dict[str, Any]

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Script(pickle.Unpickler):
    """An unpickler that builds modules without code, and tensors from an archive's storages."""

    def __init__(self, file: IO[bytes], storage: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._storage = storage
        self._read: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  (the base class's type)
        if module.startswith("__torch__"):
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        found = _SCRIPT.get((module, name))
        if found is None:
            raise Refused(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> torch.Tensor:  # noqa: ANN401  (the base class's type)
        """Return a storage as a flat tensor; tensors that share a storage share the result."""
        _, dtype, key, *_ = pid
        if key not in self._read:
            content = bytearray(self._storage(key))
            self._read[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return self._read[key]


def _rebuilt(storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Any:  # noqa: ANN401
    return storage.as_strided(size, stride, offset)


def _same(value: object, *_: object) -> object:
    return value


_SCRIPT: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch.jit._pickle", "build_intlist"): _same,
    ("torch.jit._pickle", "build_doublelist"): _same,
    ("torch.jit._pickle", "build_boollist"): _same,
    ("torch.jit._pickle", "build_tensorlist"): _same,
    ("torch.jit._pickle", "restore_type_tag"): _same,
}


def _tensors(module: object, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a module and its submodules, depth first. A module that contains itself is refused."""
    if not isinstance(module, _Module):
        raise ValueError("not a module")
    for name, value in module.attributes.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
