"""sha256 of files, remembered per path, size and time of change, so that a large graph is read through once."""

import hashlib
import os
from pathlib import Path

from tuwen.bundle.remembered import recall, remember


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path, cache: Path | None) -> str:
    """As `sha256`, but answered from `cache` if size and modification time are as they were.

    Args:
        path: the file.
        cache: a folder for the remembered digests, made if absent; None remembers nothing.
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
