"""Disk space: what writing to an index needs, reserving it, and one error for a full disk.

Qdrant Edge maps its files and writes to their holes: where the disk is full, the system ends the process. So space is
checked before each write, and once it becomes scarce the holes are filled. A small file is kept in each index, to be
given up when rows are removed from it on a full disk.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tuwen.errors import DiskFull

ROOM = 128 * 2**20
"""bytes that Qdrant Edge may need for its next files, besides the rows"""
FAISS_ROOM = 8 * 2**20
"""bytes that SQLite may need for its log, besides the rows"""
SCARCE = 256 * 2**20
"""free bytes, besides those that are needed, below which holes are filled"""
TOO_SMALL = "the whole disk is smaller: use another one, or make the index with --store faiss, which needs 8 MiB"
"""what to do on a disk on which Qdrant Edge has no room: the sizes of its log and pages cannot be set"""
RESERVE, RESERVED = "reserve", 4 * 2**20
"""the file that is given up when rows are removed on a full disk, and its bytes"""


def check_space(folder: Path, size: int, *, mapped: bool, named: Path | None = None) -> None:
    """Check that rows can be written to an index, and reserve space where it is scarce.

    Args:
        folder: the index, or where it will be.
        size: bytes of the rows.
        mapped: whether its store maps its files.
        named: what the error names, in place of a temporary folder.

    Raises:
        DiskFull: there is not enough space; nothing was written.
    """
    needed = 3 * size + (ROOM if mapped else FAISS_ROOM)  # in the log, in the store, and while files are rewritten
    disk = shutil.disk_usage(folder)
    free = disk.free
    holes = sum(size for _, size in _holes(folder)) if mapped and free < needed + 2 * SCARCE else 0
    if free < needed + holes:
        hint = TOO_SMALL if mapped and disk.total < needed + holes else ""
        raise disk_full(folder, needed=needed + holes, hint=hint, named=named)
    if holes and free < needed + holes + SCARCE:
        _fill_holes(folder)
    if size and not (folder / RESERVE).exists():
        _allocate(folder / RESERVE, RESERVED)


def give_up_reserve(folder: Path) -> None:
    """Make room for opening an index and for removing rows, if the disk is full. The next write takes it again."""
    if shutil.disk_usage(folder).free < RESERVED:
        (folder / RESERVE).unlink(missing_ok=True)


def disk_full(folder: Path, needed: int = 0, hint: str = "", named: Path | None = None) -> DiskFull:
    """The error for a full disk.

    Args:
        folder: a folder on it.
        needed: bytes; 0 if unknown.
        hint: what to do other than to free space.
        named: what the error names, if that is not the folder.
    """
    named = named or folder
    free = shutil.disk_usage(folder).free
    wanted = f"writing needs {needed:,} bytes" if needed else "that is not enough"
    hint = hint or "free some space, or move the index, and run the command again"
    return DiskFull(
        f"{named} is on a full disk: {free:,} bytes are free, {wanted}; no row is lost; {hint}",
        value=free,
        where=named,
        hint=hint,
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the system, of SQLite, of FAISS or of Qdrant Edge says that the disk is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return "No space left on device" in str(error)


def _holes(folder: Path) -> Iterator[tuple[Path, int]]:
    """The sparse files of an index, and the bytes that they lack on the disk."""
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                state = Path(path, name).stat()
                lacking = state.st_size - getattr(state, "st_blocks", state.st_size) * 512
                if lacking > 0:
                    yield Path(path, name), lacking


def _fill_holes(folder: Path) -> None:
    for path, _ in _holes(folder):
        with suppress(FileNotFoundError):
            _allocate(path, path.stat().st_size)


def _allocate(path: Path, size: int) -> None:
    """Give a file its blocks on the disk; its content stays. Does nothing where the system cannot do that."""
    if not hasattr(os, "posix_fallocate"):
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(path.parent, needed=size) from error
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(handle)
