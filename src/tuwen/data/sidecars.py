"""XMP sidecars: `cat.jpg.xmp` or `cat.xmp` beside `cat.jpg`, where photo managers keep what people say of an image."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from tuwen.types import Sidecar

EXTENSION = ".xmp"
_FOLDERS = 64
"""folders whose sidecars are remembered: those around the images that are being looked at"""


class Sidecars:
    """Finds the sidecars of images. Folders are listed once, not asked for each image's possible sidecars."""

    def __init__(self) -> None:
        """No folder is listed yet."""
        self._in = lru_cache(_FOLDERS)(_listed)

    def of(self, image: Path) -> Sidecar | None:
        """The sidecar of an image: `cat.jpg.xmp`, or else `cat.xmp`, as Adobe's programs write it; None without one."""
        there = self._in(image.parent)
        name = there.get(f"{image.name}{EXTENSION}") or there.get(f"{image.stem}{EXTENSION}")
        if name is None:
            return None
        path = image.with_name(name)
        try:
            return Sidecar(path, path.stat().st_mtime)
        except OSError:
            return None


def images_of(sidecar: Path) -> list[Path]:
    """The files whose sidecar this may be, existing or not: `cat.jpg` of `cat.jpg.xmp`, all `cat.*` of `cat.xmp`."""
    try:
        beside = [Path(entry.path) for entry in os.scandir(sidecar.parent)]
    except OSError:
        beside = []
    return [sidecar.with_suffix(""), *(path for path in beside if path.stem == sidecar.stem and path != sidecar)]


def is_sidecar(path: Path) -> bool:
    """Whether a file is called like a sidecar."""
    return path.suffix.lower() == EXTENSION


def _listed(folder: Path) -> Mapping[str, str]:
    """The names of a folder's sidecars, by the name with the extension in lower case."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  (names are wanted, and many are dropped)
    except OSError:
        return {}
    return {f"{name[: -len(EXTENSION)]}{EXTENSION}": name for name in sorted(names) if name.lower().endswith(EXTENSION)}
