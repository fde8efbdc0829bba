"""The files that a task will see, with a folder that cannot be opened as an input that is rejected."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuwen.prepare.sources import Skipped, find_sources, key_of
from tuwen.types import Rejected, Source


def find_files(
    paths: Sequence[Path], root: Path, *, but: Path | None = None
) -> Iterator[Source | Rejected | Skipped]:
    """As `find_sources`, but a folder that cannot be opened is rejected: what is in it would be missed in silence.

    Args:
        paths: files and folders.
        root: what keys are relative to.
        but: a folder that is passed over, such as the index that is being filled.
    """
    own = None if but is None else Path(os.path.abspath(but))  # noqa: PTH100  (as `find_sources` has it)
    for item in find_sources(paths, root):
        if own in item.path.parents:
            continue
        if isinstance(item, Skipped) and item.reason and item.path.is_dir():
            yield Rejected(key_of(item.path, root), item.reason)
        else:
            yield item
