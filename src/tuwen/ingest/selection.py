"""The selection of an index's images, kept in its folder: the next run takes the same files, unless told otherwise."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tuwen.data.selection import Selection
from tuwen.errors import IndexInvalid
from tuwen.index.manifest import write_json

FILE = "selection.json"


@dataclass(frozen=True, slots=True)
class KeptSelection:
    """What an index keeps.

    Attributes:
        selection: which files are taken.
        left_out: how many files and folders the last run left out, by reason, e.g. `{"system folder": 3}`.
    """

    selection: Selection = field(default_factory=Selection)
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_selection(folder: Path | None) -> KeptSelection:
    """What an index keeps; the defaults if it keeps nothing. `folder`: the index's, None for one in a cluster.

    Raises:
        IndexInvalid: the file cannot be read.
    """
    path = None if folder is None else folder / FILE
    if path is None or not path.exists():
        return KeptSelection()
    try:
        kept = json.loads(path.read_bytes())
        selection = Selection(tuple(kept["exclude"]), tuple(kept["include"]), bool(kept["default_excludes"]))
        return KeptSelection(selection, {str(reason): int(count) for reason, count in kept["left_out"].items()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "delete the file, and give --exclude and --include again"
        raise IndexInvalid(f"{path} cannot be read: {hint}", where=path, hint=hint) from error


def keep_selection(folder: Path | None, kept: KeptSelection) -> None:
    """Keep a selection in an index's folder, unless it is there already. In a cluster, nothing is kept."""
    if folder is None or (kept == read_selection(folder)):
        return
    write_json(folder / FILE, {**asdict(kept.selection), "left_out": dict(kept.left_out)})
