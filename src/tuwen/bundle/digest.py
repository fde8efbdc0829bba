"""sha256 of files, remembered per path, size and time of change, so that a large graph is read through once."""

import hashlib
import json
import os
import tempfile
from pathlib import Path


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
    known = _read(entry)
    if known is not None and known[0] == stamp:
        return str(known[1])
    digest = sha256(path)
    _write(entry, [stamp, digest])
    return digest


def _read(entry: Path) -> list[object] | None:
    try:
        content = json.loads(entry.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, list) and len(content) == 2 else None


def _write(entry: Path, content: list[object]) -> None:
    """Aside, then renamed: two processes may remember the same file at once.

    A cache that can't be written (a read-only home) costs time, not correctness.
    """
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, delete=False) as file:
            json.dump(content, file)
        Path(file.name).replace(entry)
    except OSError:
        return
