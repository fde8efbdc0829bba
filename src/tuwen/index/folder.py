"""An index's folder: made as a whole or not at all, and measured. Knows files; does not know what is in them."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuwen.disk import sync
from tuwen.errors import IndexFault, InvalidInput
from tuwen.index.manifest import MANIFEST

ROOM = 128 * 2**20
"""bytes that must be free before rows are written: the store maps its files, and dies where one cannot grow"""
_ABANDONED = 3600
"""seconds after which a folder that was never finished belongs to nobody"""


@contextmanager
def creating(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to build an index in, of files put on the disk; renamed when the block ends well.

    A block that raises, or a process that is killed, leaves no index. What earlier kills have left beside it is
    removed, once it is an hour old.

    Raises:
        InvalidInput: `folder` is an index already, or holds something else.
        IndexFault: nothing can be written there, or `folder` is empty and must stay: a mount, or a link.
    """
    _check_free(folder)
    aside = _aside(folder)
    try:
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
        raise IndexFault(f"{folder} cannot be made ({error.strerror}): choose a place to write to") from error


def _make_way(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        raise IndexFault(
            f"{folder} is empty, but cannot be replaced by the index ({error.strerror}): name a folder in it, such "
            f"as {folder / 'index.tuwen'}"
        ) from error


def check_room(folder: Path) -> None:
    """See that the disk has room for more rows.

    Raises:
        IndexFault: it is full.
    """
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        raise IndexFault(
            f"{folder} is on a disk with {free // 2**20} MiB left, and writing needs {ROOM // 2**20}: make room, "
            "then go on; no row is lost"
        )


def disk_usage(folder: Path) -> int:
    """The bytes that a folder takes on the disk. Files with holes take less than their length.

    What goes away meanwhile, as files do while rows are written, takes none.
    """
    return sum(_taken(Path(path, name)) for path, folders, files in os.walk(folder) for name in (*folders, *files))


def _check_free(folder: Path) -> None:
    if (folder / MANIFEST).exists():
        raise InvalidInput(f"{folder} is an index already: open it, or remove the folder first")
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder):
        raise InvalidInput(f"{folder} exists and is not an index: choose another folder")


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
