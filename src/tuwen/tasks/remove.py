"""Rows out of an index, by key, by file or by folder. The files themselves are not touched."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Protocol

from tuwen.prepare.sources import key_of
from tuwen.tasks.report import IngestReport
from tuwen.types import Rejected


class Rows(Protocol):
    """Rows that can be taken out. An `Index` opened here has them."""

    @property
    def root(self) -> Path: ...  # noqa: D102
    def remove(self, keys: Sequence[str]) -> int: ...  # noqa: D102
    def keys(self) -> Sequence[str]: ...  # noqa: D102


def remove(paths: Sequence[str], index: Rows) -> IngestReport:
    """Take out the rows of each path: a key, or a file, or all that is below a folder, whether it exists or not.

    A path is first taken as a key or a folder of keys, as `Index.keys` has them, and else as a path on disk.

    Args:
        paths: what to take out.
        index: opened for writing.

    Returns:
        The counts. A path that the index has nothing of is in `rejected`.
    """
    start = monotonic()
    stored = index.keys()
    doomed: set[str] = set()
    rejected = []
    for path in paths:
        found = next((keys for name in _names(path, index.root) if (keys := _below(name, stored))), [])
        doomed.update(found)
        if not found:
            rejected.append(Rejected(path, "the index has nothing of that path"))
    removed = index.remove(sorted(doomed)) if doomed else 0
    return IngestReport(
        rows=len(stored) - removed, removed=removed, rejected=tuple(rejected), seconds=monotonic() - start
    )


def _names(path: str, root: Path) -> Iterator[str]:
    """What a path may be called in the index: as it is given, and as the path on disk that it is."""
    if path:
        if path.rstrip("/") != ".":  # the working folder, which need not be the root, is no folder of keys
            yield path.rstrip("/")
        yield key_of(Path(path), root)


def _below(name: str, stored: Sequence[str]) -> list[str]:
    """The keys of a file, or below a folder; below the root are all that are relative."""
    if name == ".":
        return [key for key in stored if not Path(key).is_absolute()]
    return [key for key in stored if key == name or key.startswith(f"{name}/")]
