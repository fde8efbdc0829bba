"""What lies at a path, as far as it tells which family a checkpoint is of. Knows files, no family."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tuwen.bundle.config import read_object
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
