"""Disks that are mounted below a folder of images: an index remembers them, so that it notices when one is away."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tuwen.data.files import key_of
from tuwen.errors import IndexInvalid
from tuwen.index.manifest import write_json

FILE = "mounts.json"


def read_mounts(folder: Path | None) -> frozenset[str]:
    """The keys of the folders at which disks were mounted. `folder`: the index's, None for one in a cluster.

    Raises:
        IndexInvalid: the file cannot be read.
    """
    path = None if folder is None else folder / FILE
    if path is None or not path.exists():
        return frozenset()
    try:
        return frozenset(map(str, json.loads(path.read_bytes())["mounts"]))
    except (ValueError, KeyError, TypeError) as error:
        hint = "delete the file, while all disks are mounted"
        raise IndexInvalid(f"{path} cannot be read: {hint}", where=path, hint=hint) from error


def keep_mounts(folder: Path | None, mounts: Iterable[str]) -> None:
    """Remember these, and no others. In a cluster, nothing is kept."""
    if folder is None or (kept := sorted(mounts)) == sorted(read_mounts(folder)):
        return
    write_json(folder / FILE, {"mounts": kept})


def is_mounted(folder: Path) -> bool:
    """Whether another disk begins at a folder, or at the folder that a link leads to."""
    try:
        return folder.stat().st_dev != folder.parent.stat().st_dev
    except OSError:
        return False


class Mounts:
    """Remembers the mounts around the images that are found, before their rows are written."""

    def __init__(self, index: Path | None, root: Path) -> None:
        """Those that an index remembers. `index`: its folder. `root`: the folder that its keys are relative to."""
        self._index, self._root = index, root
        self._known = read_mounts(index)
        self._looked_at: set[Path] = set()

    def note(self, images: Iterable[Path], tops: Sequence[Path]) -> None:
        """Remember the mounts between `tops`, absolute paths, and images below them."""
        new = {key_of(each, self._root) for path in {image.parent for image in images} for each in self._at(path, tops)}
        if not new <= self._known:
            self._known |= new
            keep_mounts(self._index, self._known)

    def _at(self, folder: Path, tops: Sequence[Path]) -> Iterable[Path]:
        while folder not in self._looked_at and any(folder != top and folder.is_relative_to(top) for top in tops):
            self._looked_at.add(folder)
            if is_mounted(folder):
                yield folder
            folder = folder.parent
