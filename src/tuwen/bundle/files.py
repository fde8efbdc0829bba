"""Files on disk: small facts in the cache folder, sha256 digests, and flushing to disk."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to disk (on POSIX systems).

    A later rename then never points to content that is not on disk yet, even after a power failure.
    """
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str, mode: int | None = None) -> None:
    """Replace a file, or create it: written aside, flushed and renamed.

    Whoever reads it, and whatever ends the process or the power, the file is the old one or the new one, and on return
    the new one. Nobody else may write to it meanwhile. What a kill leaves aside is overwritten by the next write.

    Args:
        path: the file.
        text: its content.
        mode: its permissions; None: as the process creates files.

    Raises:
        OSError: it cannot be written; it is as it was.
    """
    aside = path.with_name(f".{path.name}.new")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            aside.chmod(mode)
        aside.replace(path)
    except BaseException:  # a full disk, say
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def recall(entry: Path) -> Any:  # noqa: ANN401
    """The value stored in a file by `remember`; None if there is none or it cannot be read."""
    try:
        return json.loads(entry.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def remember(entry: Path, value: object) -> None:
    """Store a value; written to a temporary file and renamed, since two processes may store the same at once."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, encoding="utf-8", delete=False) as file:
            json.dump(value, file)
        Path(file.name).replace(entry)
    except OSError:
        return


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path, cache: Path | None) -> str:
    """As `sha256`, but taken from `cache` if size, modification time and inode are unchanged.

    Args:
        path: the file.
        cache: the folder where digests are stored; None stores nothing.
    """
    if cache is None:
        return sha256(path)
    state = path.stat()
    entry = cache / "digests" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}.json"
    stamp = [state.st_size, state.st_mtime_ns, state.st_ino]
    known = recall(entry)
    if isinstance(known, list) and len(known) == 2 and known[0] == stamp:
        return str(known[1])
    digest = sha256(path)
    remember(entry, [stamp, digest])
    return digest
