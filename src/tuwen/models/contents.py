"""What lies at a path, as far as it tells which family a checkpoint is of. Knows files, no family."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import read_tensors


@dataclass(frozen=True)
class Contents:
    """A checkpoint's file or folder; each part is read when it is first asked for.

    Attributes:
        path: where it is.
    """

    path: Path

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The folder's `config.json`; empty where there is none.

        Raises:
            InvalidInput: it is no JSON object.
        """
        place = self.path / "config.json"
        if not place.is_file():
            return {}
        return read_json(place)

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


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InvalidInput: there is no such file, or it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(f"{path} is missing: it belongs to the model's folder") from error
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: get it again") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} holds no JSON object: get it again")
    return found
