"""Sync: make an index equal to a folder, with its new, changed, moved and deleted images.

    folder --find_files--> files --ImageIngest--> rows written --gone--> rows removed

Rows are removed last: a moved file's vector is found by its content while the old row is still there. Files that
could not be looked at keep their rows, and so do those of a disk below the folder that is not mounted. A folder that is
missing (not mounted, deleted, not readable) never empties an index; nor does one that has lost many of its images,
unless this is allowed.
"""

import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Protocol
from unicodedata import normalize

from tuwen.data.files import find_files, is_folder, key_of, path_of
from tuwen.data.sidecars import images_of, is_sidecar
from tuwen.errors import InvalidInput, TooManyRemoved
from tuwen.index.filters import quoted
from tuwen.ingest.images import Found, ImageIngest
from tuwen.ingest.mounts import is_mounted, keep_mounts, read_mounts
from tuwen.ingest.writer import IngestReport
from tuwen.types import Rejected, Source

MAX_REMOVED = 0.2
"""the largest share of a folder's rows that are removed at once, unless more is allowed"""
FEW = 10
"""so many rows may go whatever their share is, if the folders that they were in are still there"""


def sync(
    folder: Path, images: ImageIngest, *, max_removed: float = MAX_REMOVED, only: Sequence[Path] | None = None
) -> Generator[IngestReport]:
    """Make the rows of all images below a folder equal to the files. Rows of texts stay as they are.

    Interrupted at any moment and run again, it ends with the rows of an uninterrupted run.

    Args:
        folder: the folder. Rows of images that are not below it stay.
        images: reads and writes; its index is opened for writing.
        max_removed: the largest share of the folder's rows that may be removed, without those of moved images; 1:
            all may go.
        only: look only at these paths within the folder, existing or not; None: at all of it.

    Yields:
        A report after every write, which is flushed by then; the last report is that of the whole run. A moved image
        counts as one indexed and one removed.

    Raises:
        InvalidInput: the folder does not exist, cannot be read, or was replaced meanwhile. No row was removed.
        TooManyRemoved: more than `max_removed` would go. No row was removed.
        TuwenError: from the encoder or the index. Rows of earlier reports are in the index.
    """
    before = identity_of(folder)
    scope = _Scope(folder, images, only)
    yield from images.add(scope.found(), below=[folder])
    gone = scope.gone()
    if max_removed < 1:
        gone, away = scope.without_away(gone)
        yield from images.add(away)
    else:
        scope.forget_mounts()
    if identity_of(folder) != before:
        raise InvalidInput(f"{folder} was replaced during the run; was it unmounted? No row was removed", where=folder)
    if gone and max_removed < 1:
        scope.check_removal(gone, max_removed)
    yield from images.writer.remove(gone)
    if only is None:
        images.keep_selection()
    images.index.optimize()
    yield images.writer.report()


class _Scope:
    """A folder, or some paths in it: the files there, and the rows that the index has of them."""

    def __init__(self, folder: Path, images: ImageIngest, only: Sequence[Path] | None) -> None:
        self._folder = folder
        self._images = images
        self._index = images.index
        self._selection = images.selection
        self._paths = _with_images([_absolute(path) for path in ([folder] if only is None else only)])
        self._whole = _absolute(folder) in self._paths
        self.seen: set[str] = set()
        self._unknown: list[str] = []
        self._empty: dict[Path, bool] = {}

    def found(self) -> Iterator[Found]:
        """The files; notes their keys, and the places that cannot be read."""
        there = [path for path in self._paths if os.path.lexists(path)]
        index = self._index
        found = find_files(there, index.root, but=index.folder, selection=self._selection, within=self._folder)
        yield from self._noted(found)

    def _noted(self, found: Iterable[Found]) -> Iterator[Found]:
        own = key_of(self._folder, self._index.root)
        for item in found:
            if isinstance(item, Source):
                if item.modified == 0 and not os.path.lexists(item.path):
                    continue  # it went away since the folder was listed
                self.seen.add(item.key)
            elif isinstance(item, Rejected):
                if item.path == own:
                    raise InvalidInput(
                        f"{self._folder} cannot be read: {item.reason}. No row was removed", where=self._folder
                    )
                self._unknown.append(str(path_of(item.path, self._index.root)))
            elif item.reason and os.path.lexists(item.path):
                self._unknown.append(str(item.path))
            yield item

    def gone(self) -> list[str]:
        """The keys of images that the index has and that are gone."""
        tops = [str(path) for path in self._paths]
        return [key for key in self._stored() if key not in self.seen and self._is_gone(key, tops)]

    def without_away(self, gone: Sequence[str]) -> tuple[list[str], list[Rejected]]:
        """Those of the keys that are not on a disk that is away, and the folders whose disks are away.

        A disk is taken to be away if one was mounted at a folder when it was indexed, and none is now; or if a folder
        below the synced one has more than `FEW` rows and no entry, as a mount point without its disk.
        """
        unmounted = {*self._unmounted()}
        places = {}
        for key in self._lost(gone):
            folder = path_of(key, self._index.root).parent
            around = next((each for each in (folder, *folder.parents) if each in unmounted), None)
            places[key] = around or self._empty_around(folder)
        rows = Counter(place for place in places.values() if place)
        away = {folder: number for folder, number in sorted(rows.items()) if folder in unmounted or number > FEW}
        reason = (
            "is empty or missing, as where a disk is not mounted: {:,} rows of it are kept; mount the disk, or add "
            "--yes (in Python: max_removed=1) if the images are gone for good"
        )
        told = [Rejected(key_of(folder, self._index.root), reason.format(number)) for folder, number in away.items()]
        return [key for key in gone if places.get(key) not in away], told

    def forget_mounts(self) -> None:
        """Forget the disks that are away."""
        away = {key_of(path, self._index.root) for path in self._unmounted()}
        keep_mounts(self._index.folder, read_mounts(self._index.folder) - away)

    def _unmounted(self) -> list[Path]:
        """Where disks were mounted below the folder when it was indexed, and none are now. Files show that one is."""
        mounts = [path_of(key, self._index.root) for key in read_mounts(self._index.folder)]
        there = {parent for key in self.seen for parent in path_of(key, self._index.root).parents} if mounts else set()
        top = [str(_absolute(self._folder))]
        return [path for path in mounts if is_below(str(path), top) and path not in there and not is_mounted(path)]

    def _empty_around(self, folder: Path) -> Path | None:
        """Of a folder and those around it the innermost that is there, if it is empty and not the synced one."""
        top = _absolute(self._folder)
        while folder != top and folder.is_relative_to(top) and not is_folder(folder):
            folder = folder.parent
        if folder not in self._empty:
            inner = folder != top and folder.is_relative_to(top)
            self._empty[folder] = inner and os.access(folder, os.R_OK) and not os.listdir(folder)  # noqa: PTH208
        return folder if self._empty[folder] else None

    def _lost(self, gone: Sequence[str]) -> list[str]:
        """Those of the keys whose images were not moved."""
        payloads = self._index.payloads(gone)
        moved = self._images.writer.found_again
        return [key for key in gone if payloads.get(key, {}).get("content") not in moved]

    def check_removal(self, gone: Sequence[str], max_removed: float) -> None:
        """Raise `TooManyRemoved` if the rows of too many images would go; those of moved images do not count."""
        lost = self._lost(gone)
        folders = {path_of(key, self._index.root).parent for key in lost}
        is_empty = self._whole and not self.seen
        if not lost or (len(lost) <= FEW and not is_empty and all(map(is_folder, folders))):
            return
        top = [str(_absolute(self._folder))]
        keys = self._index.keys('type == "image"')
        stored = sum(is_below(str(path_of(key, self._index.root)), top) for key in keys)
        if len(lost) > max_removed * stored:
            hint = (
                "mount what is missing; or add --yes (in Python: max_removed=1) if the images were deleted on purpose"
            )
            raise TooManyRemoved(
                f"{len(lost):,} of the {stored:,} images in {self._folder} are gone, more than {max_removed:.0%}. "
                f"No row was removed: {hint}",
                value=len(lost),
                where=self._folder,
                hint=hint,
            )

    def _is_gone(self, key: str, tops: list[str]) -> bool:
        path = str(path_of(key, self._index.root))
        return is_below(path, tops) and not is_below(path, self._unknown)

    def _stored(self) -> Iterator[str]:
        """The stored keys that may be in this scope; for a few paths, not all keys are read."""
        keys = [key_of(path, self._index.root) for path in self._paths]
        if self._whole or any("%" in key for key in keys):  # a key with escapes does not begin like its folder's
            yield from self._index.keys('type == "image"')
            return
        yield from (key for key, row in self._index.payloads(keys).items() if row.get("type") != "text")
        for path, key in zip(self._paths, keys, strict=True):
            if not path.is_file():
                below = f"folder == {quoted(key)} or folder startswith {quoted(key + '/')}"
                yield from self._index.keys(f'type == "image" and ({below})')


def identity_of(folder: Path) -> tuple[int, int]:
    """What distinguishes a folder from another one at the same path, such as a mount from its mount point.

    Raises:
        InvalidInput: there is no folder, or it cannot be looked at.
    """
    try:
        state = folder.stat()
        if not folder.is_dir():
            raise NotADirectoryError
    except OSError as error:
        reason = error.strerror or "it is no folder"
        raise InvalidInput(
            f"{folder} cannot be read: {reason}. Is it mounted? No row was removed; tuwen index remove "
            "removes the rows of a folder that is gone for good",
            where=folder,
        ) from error
    return state.st_dev, state.st_ino


def is_below(path: str, tops: Iterable[str]) -> bool:
    """Whether an absolute path is one of some, or within one of them that is a folder."""
    return any(path == top or path.startswith(f"{top.rstrip(os.sep)}{os.sep}") for top in tops)


def _with_images(paths: Sequence[Path]) -> list[Path]:
    """Paths, and the images whose sidecars are among them."""
    return list(dict.fromkeys([*paths, *(image for path in paths if is_sidecar(path) for image in images_of(path))]))


def _absolute(path: Path) -> Path:
    """Without `..`, and without following links, as keys are made."""
    return Path(os.path.abspath(path))  # noqa: PTH100


class Rows(Protocol):
    """Rows that can be removed, as in a `VectorIndex`."""

    def remove(self, keys: Sequence[str], /) -> int: ...  # noqa: D102
    def keys(self) -> Sequence[str]: ...  # noqa: D102


def remove(paths: Sequence[str], index: Rows, root: Path) -> IngestReport:
    """Remove the rows of each path: of a key, a file, or everything below a folder, existing or not.

    A path is first taken as a key or a folder of keys, as `Index.keys` has them, and else as a path on disk.

    Args:
        paths: the paths.
        index: opened for writing.
        root: the folder that keys are relative to.

    Returns:
        The counts. A path that the index has nothing of is in `rejected`.
    """
    start = monotonic()
    stored = index.keys()
    doomed: set[str] = set()
    rejected = []
    for path in paths:
        found = keys_at(path, root, stored)
        doomed.update(found)
        if not found:
            rejected.append(Rejected(path, "the index has nothing of that path"))
    removed = index.remove(sorted(doomed)) if doomed else 0
    return IngestReport(
        rows=len(stored) - removed, removed=removed, rejected=tuple(rejected), seconds=monotonic() - start
    )


def keys_at(path: str, root: Path, stored: Sequence[str]) -> list[str]:
    """The stored keys that a path stands for: a key or a folder of keys, else a file or a folder on disk."""
    names = list(_names(path, root))
    exact = next((keys for name in names if (keys := _below(name, stored))), [])
    if exact or path.isascii():
        return exact
    by_form = {normalize("NFC", key): key for key in stored}  # `é` may be typed as one character, and stored as two
    forms = list(by_form)
    return [by_form[key] for key in next(filter(None, (_below(normalize("NFC", name), forms) for name in names)), [])]


def _names(path: str, root: Path) -> Iterator[str]:
    """The keys that a path may have: as given, and as a path on disk."""
    if path:
        if path.rstrip("/") != ".":  # the working folder, which need not be the root, is no folder of keys
            yield path.rstrip("/")
        yield key_of(Path(path), root)


def _below(name: str, stored: Sequence[str]) -> list[str]:
    """The keys of a file or below a folder; below the root are all relative keys."""
    if name == ".":
        return [key for key in stored if not Path(key).is_absolute()]
    return [key for key in stored if key == name or key.startswith(f"{name}/")]
