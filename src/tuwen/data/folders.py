"""Pictures in folders with the captions and facts beside them: `cat.jpg`, `cat.txt`, `cat.json`.

Files are joined by their names without ending, within one folder, never by their order. Knows such names. Does not
read any of the files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuwen.data.files import Skipped, find_sources, key_of
from tuwen.data.samples import Listed, Span, span_of
from tuwen.types import Rejected, Source

ARCHIVES = frozenset({".tar", ".parquet"})
"""endings of files that hold samples themselves"""


@dataclass(slots=True)
class _Group:
    """What has one name in one folder: pictures, and what is beside them."""

    pictures: list[Source] = field(default_factory=list)
    beside: dict[str, Path] = field(default_factory=dict)


def list_pairs(folders: Sequence[Path], root: Path) -> Iterator[Listed | Rejected | Skipped | Path]:
    """The samples below folders, and the archives among them as paths, in an order that is always the same.

    Two pictures of one name (`cat.jpg`, `cat.png`) are two samples with the same caption, and have their whole
    names as keys; so has one that is called as another with an ending (`cat.jpg.webp`). A text without a picture is
    skipped. A Parquet file beside a folder or an archive of its name is img2dataset's list of what is in that one:
    it is passed over.

    Raises:
        InvalidInput: a folder does not exist.
    """
    open_: dict[Path, dict[str, _Group]] = {}
    for item in find_sources(folders, root):
        if isinstance(item, Skipped) and item.reason and item.path.is_dir():
            yield Rejected(key_of(item.path, root), item.reason)
            continue
        parent = item.path.parent
        if parent not in open_:
            yield from _closed(open_, parent)
        group = open_.setdefault(parent, {}).setdefault(item.path.stem, _Group())
        if isinstance(item, Source):
            group.pictures.append(item)
        elif item.path.suffix.lower() in {".txt", ".json", *ARCHIVES} and item.path.suffix.lower() not in group.beside:
            group.beside[item.path.suffix.lower()] = item.path
        else:
            yield item
    yield from _closed(open_, None)


def _closed(open_: dict[Path, dict[str, _Group]], parent: Path | None) -> Iterator[Listed | Rejected | Skipped | Path]:
    """The groups of all folders that `parent` is not within: nothing more will come of them."""
    for folder in [folder for folder in reversed(open_) if parent is None or folder not in parent.parents]:
        groups = open_.pop(folder)
        whole = {source.path.name for group in groups.values() for source in group.pictures}
        for stem, group in groups.items():
            yield from _listed(folder / stem, group, shared=stem in whole)


def _listed(base: Path, group: _Group, *, shared: bool) -> Iterator[Listed | Skipped | Path]:
    """`shared`: another picture in the folder has the whole name that these would have as their key."""
    beside = dict(group.beside)
    tar, parquet = beside.pop(".tar", None), beside.pop(".parquet", None)
    if tar is not None:
        yield tar
    if parquet is not None:
        yield Skipped(parquet) if tar is not None or base.is_dir() else parquet
    if not group.pictures:
        yield from (Skipped(path) for path in beside.values())
        return
    caption, facts = _span(beside.get(".txt")), _span(beside.get(".json"))
    for source in group.pictures:
        alone = len(group.pictures) == 1 and not shared and source.key.endswith(source.path.suffix)
        key = source.key.removesuffix(source.path.suffix) if alone else source.key
        yield Listed(key, source.key, str(source.path), span_of(source.path), caption, facts)


def _span(path: Path | None) -> Span | None:
    return None if path is None else span_of(path)
