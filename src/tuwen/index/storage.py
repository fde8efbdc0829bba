"""Where an index is stored: a folder that this process has locked, or a collection that many processes use."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuwen.bundle.files import sync
from tuwen.errors import IndexFault, InvalidInput
from tuwen.index.calibration import Calibration, read_calibration, write_calibration
from tuwen.index.location import Cluster, Location
from tuwen.index.lock import POLL, Lock
from tuwen.index.manifest import MANIFEST, Manifest, write_manifest
from tuwen.index.space import check_space, disk_full, give_up_reserve, is_disk_full
from tuwen.index.stores import qdrant_collection as cluster_collection
from tuwen.index.stores.qdrant_collection import Link

_BLOCK = 2**16
"""bytes of zeros that are left out of a copy"""
_GENERATION = re.compile(r"rows-(\d+)|\.rows-\d+-new-.*")
"""the subfolder of a generation's rows; or what a killed creation of one leaves behind"""
_ABANDONED = 3600
"""seconds after which an unfinished folder is taken to be abandoned"""


@contextmanager
def creating(folder: Path, *, mapped: bool = False) -> Iterator[Path]:
    """A temporary folder beside `folder` to create an index in; flushed and renamed when the block succeeds.

    A block that raises, or a process that is killed, leaves no index. What earlier kills left behind is removed, once
    it is an hour old. `mapped`: whether its store maps its files.

    Raises:
        DiskFull: there is not enough space.
        InvalidInput: `folder` is an index already, or holds something else.
        IndexFault: nothing can be written there, or `folder` is empty and must stay: a mount, or a link.
    """
    _check_free(folder)
    aside = _aside(folder)
    try:
        check_space(aside, 0, mapped=mapped, named=folder)
        yield aside
        aside.chmod(0o755)
        sync(aside)
        if folder.is_dir():
            _make_way(folder)
        aside.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(folder)
        return Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(folder.parent) from error
        raise IndexFault(
            f"cannot create {folder} ({error.strerror}); choose a folder that you can write to", where=folder
        ) from error


def _make_way(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        hint = f"use a folder below it, such as {folder / 'index.tuwen'}"
        raise IndexFault(
            f"the empty folder {folder} cannot be replaced by the index ({error.strerror}): {hint}",
            where=folder,
            hint=hint,
        ) from error


READ_ONCE = frozenset({"matrix.dat", "links_compressed.bin", "graph.bin"})
"""files that Qdrant Edge opens for reading alone; so does FAISS with all of its own"""


def is_read_only(folder: Path) -> bool:
    """Whether nothing can be written to a folder: it is on a read-only file system, or belongs to somebody else."""
    return not os.access(folder, os.W_OK)


COPY = "tuwen-copy-"
"""what the names of private copies begin with"""
_LOCK_FILES = frozenset({"lock", "lock.json"})


@dataclass(frozen=True, slots=True)
class PrivateCopy:
    """A copy of an index that this process alone uses. It is locked, so that others can tell whether it is in use."""

    folder: Path
    lock: Lock

    def delete(self) -> None:
        """Delete it. May be called twice."""
        shutil.rmtree(self.folder, ignore_errors=True)  # while it is locked: nobody takes it for an abandoned one
        self.lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)  # Windows deletes no open file


def private_copy(folder: Path, but: str = "") -> PrivateCopy:
    """A folder in the system's temporary folder that looks like an index, whose files can be written to.

    The engines open most of their files for writing, even to search. Of a read-only index these are copied, without
    their holes; vectors and graphs, the largest, are links. Copies of processes that were killed are deleted.

    Args:
        folder: the index.
        but: the name of a subfolder to leave out.
    """
    copy = _new_copy()
    try:
        for path, names in _walk(folder, but):
            inside = copy.folder / path.relative_to(folder)
            inside.mkdir(exist_ok=True)
            for name in names:
                if name in READ_ONCE or name.endswith(".faiss"):
                    (inside / name).symlink_to((path / name).absolute())
                elif path != folder or name not in _LOCK_FILES:
                    _copy_sparse(path / name, inside / name)
    except BaseException:
        copy.delete()
        raise
    return copy


def _new_copy() -> PrivateCopy:
    """An empty folder, after those of killed processes are deleted: the system has released their locks."""
    for left in Path(tempfile.gettempdir()).glob(f"{COPY}*"):
        if left.is_dir() and _is_own(left):
            with suppress(IndexFault):
                lock = Lock(left)
                lock.acquire(0.0)
                PrivateCopy(left, lock).delete()
    while True:
        copy = PrivateCopy(folder := Path(tempfile.mkdtemp(prefix=COPY)), Lock(folder))
        try:
            copy.lock.acquire(POLL)
        except IndexFault:
            copy.delete()
            raise
        if folder.is_dir():  # else another process has just taken it for an abandoned one
            return copy


def _is_own(path: Path) -> bool:
    """Whether a path is no link and belongs to this user: others can write to the temporary folder, too."""
    return not path.is_symlink() and (not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid())


def snapshot(folder: Path, but: str) -> PrivateCopy:
    """As `private_copy`, of an index that another process has open.

    Raises:
        IndexFault: it was written to meanwhile.
    """
    before = _states(folder, but)
    try:
        copy = private_copy(folder, but)
    except FileNotFoundError as error:
        raise _written_to(folder) from error
    if _states(folder, but) != before:
        copy.delete()
        raise _written_to(folder)
    return copy


def _written_to(folder: Path) -> IndexFault:
    return IndexFault(f"{folder} is being written to by another process: try again", where=folder)


def _states(folder: Path, but: str) -> dict[Path, tuple[int, int]]:
    """When the files of an index changed, and their sizes."""
    found = {}
    for path, names in _walk(folder, but):
        for name in names:
            with suppress(FileNotFoundError):
                state = (path / name).stat()
                found[path / name] = state.st_mtime_ns, state.st_size
    return found


def _walk(folder: Path, but: str) -> Iterator[tuple[Path, list[str]]]:
    """Each folder of an index and the names of its files, but for one subfolder."""
    for path, folders, names in os.walk(folder):
        if Path(path) == folder and but in folders:
            folders.remove(but)
        yield Path(path), names


def _copy_sparse(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        while block := read.read(_BLOCK):
            if block.count(0) == len(block):
                written.seek(len(block), os.SEEK_CUR)
            else:
                written.write(block)
        written.truncate()


def rows_folder(folder: Path, generation: int) -> Path:
    """The folder with the rows of a generation, see `Manifest.generation`: the index's own until it was migrated."""
    return folder / f"rows-{generation}" if generation else folder


def clear_generations(folder: Path, kept: int, stores: Sequence[str]) -> None:
    """Delete the rows of all generations before the one that is kept. `stores`: the subfolders of the first one.

    They are deleted after the manifest names the next generation. Killed in between, they are deleted when the index
    is opened again.
    """
    for path in folder.iterdir() if kept else ():
        found = _GENERATION.fullmatch(path.name)
        if path.name in stores or (found and (found[1] is None or int(found[1]) < kept)):
            shutil.rmtree(path, ignore_errors=True)


def disk_usage(folder: Path) -> int:
    """The bytes that a folder takes on the disk; sparse files take less than their length.

    Files may disappear meanwhile, as they do while rows are written.
    """
    return sum(_taken(Path(path, name)) for path, folders, files in os.walk(folder) for name in (*folders, *files))


def _check_free(folder: Path) -> None:
    if (folder / MANIFEST).exists():
        raise InvalidInput(f"{folder} is already an index; open it, or remove the folder first", where=folder)
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder):
        raise InvalidInput(f"{folder} exists but is not an index; choose another folder", where=folder)


def _prefix(folder: Path) -> str:
    return f".{folder.name}-new-"


def _clear_abandoned(folder: Path) -> None:
    for path in folder.parent.iterdir():
        if path.name.startswith(_prefix(folder)) and time.time() - path.stat().st_mtime > _ABANDONED:
            shutil.rmtree(path, ignore_errors=True)


def _taken(path: Path) -> int:
    try:
        state = path.lstat()
    except FileNotFoundError:
        return 0
    return state.st_blocks * 512 if hasattr(state, "st_blocks") else state.st_size


class Storage(Protocol):
    """Where an index is stored: its manifest, its thresholds, its lock."""

    @property
    def place(self) -> Location:
        """Where that is."""
        ...

    def write(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        ...

    def calibration(self, fingerprint: str) -> Calibration | None:
        """The thresholds that were measured with that model; None if there are none."""
        ...

    def calibrate(self, calibration: Calibration) -> None:
        """Replace the thresholds."""
        ...

    def check_writable(self) -> None:
        """Check that it can be written to (else IndexFault)."""
        ...

    def check_space(self, size: int) -> None:
        """Check that it can be written to, and has space for more rows of that many bytes (else IndexFault)."""
        ...

    def give_up_reserve(self) -> None:
        """Make room for removing rows, if the disk is full."""
        ...

    def bytes(self) -> int | None:
        """Its size on the disk; None where that is unknown."""
        ...

    def release(self) -> None:
        """Release the lock. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class FolderStorage:
    """A folder, while this process holds its lock.

    Attributes:
        place: the folder.
        lock: its lock.
        mapped: whether its store maps its files.
        copy: where it is opened in its place, if it is read-only.
    """

    place: Path
    lock: Lock
    mapped: bool = True
    copy: PrivateCopy | None = None

    def write(self, manifest: Manifest) -> None:
        """See `Storage`."""
        write_manifest(self.place, manifest)

    def calibration(self, fingerprint: str) -> Calibration | None:
        """See `Storage`."""
        return read_calibration(self.place, fingerprint)

    def calibrate(self, calibration: Calibration) -> None:
        """See `Storage`."""
        write_calibration(self.place, calibration)

    def check_writable(self) -> None:
        """See `Storage`."""
        if self.copy is not None:
            hint = "copy the index to a folder that can be written to"
            raise IndexFault(f"{self.place} is read-only: it can be searched, not changed; {hint}", where=self.place)

    def check_space(self, size: int) -> None:
        """See `Storage`."""
        self.check_writable()
        check_space(self.place, size, mapped=self.mapped)

    def give_up_reserve(self) -> None:
        """See `Storage`."""
        self.check_writable()
        give_up_reserve(self.place)

    def bytes(self) -> int:
        """See `Storage`."""
        return disk_usage(self.place)

    def release(self) -> None:
        """See `Storage`."""
        if self.copy is not None:
            self.copy.delete()
        self.lock.release()


@dataclass(frozen=True, slots=True)
class ClusterStorage:
    """A collection of a cluster. There is no lock: many processes use it at once."""

    place: Cluster
    link: Link

    def write(self, manifest: Manifest) -> None:
        """See `Storage`. Precisions that others have added meanwhile stay."""
        now = cluster_collection.read(self.link, self.place)
        precisions = tuple(sorted({*now.precisions, *manifest.precisions}))
        cluster_collection.write(self.link, manifest.model_copy(update={"precisions": precisions}))

    def calibration(self, fingerprint: str) -> Calibration | None:
        """See `Storage`."""
        return cluster_collection.read_calibration(self.link, self.place, fingerprint)

    def calibrate(self, calibration: Calibration) -> None:
        """See `Storage`."""
        cluster_collection.write_calibration(self.link, calibration)

    def check_writable(self) -> None:
        """The cluster refuses by itself."""

    def check_space(self, size: int) -> None:
        """Likewise."""

    def give_up_reserve(self) -> None:
        """Likewise."""

    def bytes(self) -> None:
        """A cluster does not report it."""
        return

    def release(self) -> None:
        """See `Storage`."""
        self.link.close()
