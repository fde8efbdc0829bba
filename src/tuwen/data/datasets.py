"""What a person names as input of a bulk job, to one stream of samples.

Knows which reader lists what: folders, tar files, Parquet, tables, texts. Does not read a sample.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuwen.data.files import Skipped, is_folder, key_of
from tuwen.data.folders import list_pairs
from tuwen.data.parquet import PARQUET, list_parquet
from tuwen.data.samples import Listed
from tuwen.data.tables import TABLES, TEXTS, Columns, list_table, list_texts
from tuwen.data.webdataset import list_tar
from tuwen.errors import InvalidInput
from tuwen.types import Rejected

TAR = frozenset({".tar"})
ENDINGS = TAR | PARQUET | TABLES | TEXTS
"""endings of the files that hold many samples"""


def is_bulk(path: Path) -> bool:
    """Whether a path names many samples: a folder, or a file with one of `ENDINGS`."""
    return is_folder(path) or path.suffix.lower() in ENDINGS


def list_samples(sources: Sequence[Path], columns: Columns) -> Iterator[Listed | Rejected | Skipped]:
    """All samples of all sources, in an order that only depends on what is there. No two have the same key.

    Keys begin with the place of their file within the folder that holds all sources; of one source alone, within
    that source.

    Raises:
        InvalidInput: a source does not exist, is of no kind that holds samples, is named twice, or lies in another.
    """
    places = [Path(os.path.abspath(source)) for source in sources]  # noqa: PTH100  (links keep their names)
    for source, place in zip(sources, places, strict=True):
        _check(source, place, places)
    root = root_of(sources)
    for place in places:
        if not place.is_dir():
            yield from _archive(place, place if len(places) == 1 else root, columns)
            continue
        for found in list_pairs([place], root):
            if isinstance(found, Path):
                yield from _archive(found, root, columns)
            else:
                yield found


def root_of(sources: Sequence[Path]) -> Path:
    """The folder that keys are relative to: the only source, if it is a folder; else what holds all of them."""
    places = [Path(os.path.abspath(source)) for source in sources]  # noqa: PTH100
    if len(places) == 1 and places[0].is_dir():
        return places[0]
    return Path(os.path.commonpath([place.parent for place in places]))


def _check(source: Path, place: Path, places: Sequence[Path]) -> None:
    if not place.exists():
        raise InvalidInput(f"{source} does not exist: name folders or files of samples")
    if not is_bulk(place):
        raise InvalidInput(f"{source} is no folder and no {' '.join(sorted(ENDINGS))}: name one of these")
    if places.count(place) > 1 or any(parent in places for parent in place.parents):
        raise InvalidInput(f"{source} is named twice, or lies in another source: name it once")


def _archive(path: Path, root: Path, columns: Columns) -> Iterator[Listed | Rejected | Skipped]:
    prefix = "" if path == root else f"{key_of(path, root)}/"
    ending = path.suffix.lower()
    if ending in TAR:
        yield from list_tar(path, prefix)
    elif ending in PARQUET:
        yield from list_parquet(path, prefix, columns)
    elif ending in TABLES:
        yield from list_table(path, prefix, columns)
    else:
        yield from list_texts(path, prefix)
