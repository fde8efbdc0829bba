"""Images in folders, with the captions and fields beside them: `cat.jpg`, `cat.txt`, `cat.json`.

Files belong together if they have the same name without extension in the same folder; their order is irrelevant.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuwen.data.files import Skipped, find_sources, key_of
from tuwen.data.samples import Listed, Span, span_of
from tuwen.types import Rejected, Source

ARCHIVES = frozenset({".tar", ".parquet"})
"""extensions of files that contain samples themselves"""


@dataclass(slots=True)
class _Group:
    """The files of one name in one folder: images, and the captions and fields beside them."""

    images: list[Source] = field(default_factory=list)
    beside: dict[str, Path] = field(default_factory=dict)


def list_pairs(folders: Sequence[Path], root: Path) -> Iterator[Listed | Rejected | Skipped | Path]:
    """List the samples below folders, and archives as paths, always in the same order.

    Two images of one name (`cat.jpg`, `cat.png`) are two samples with the same caption, whose keys keep the extension;
    so does the key of an image that is named like another one plus an extension (`cat.jpg.webp`). A text without an
    image is skipped. So is a Parquet file beside a folder or archive of the same name, which is img2dataset's index.

    Raises:
        InvalidInput: a folder does not exist.
    """
    open_: dict[Path, dict[str, _Group]] = {}
    for item in find_sources(folders, root):
        if isinstance(item, Skipped) and item.reason and item.path.is_dir():
            yield Rejected(key_of(item.path, root), item.reason)
            continue
        if isinstance(item, Skipped) and item.excluded:
            yield item
            continue
        parent = item.path.parent
        if parent not in open_:
            yield from _closed(open_, parent)
        group = open_.setdefault(parent, {}).setdefault(item.path.stem, _Group())
        extension = item.path.suffix.lower()
        if isinstance(item, Source):
            group.images.append(item)
        elif extension in {".txt", ".json", *ARCHIVES} and extension not in group.beside:
            group.beside[extension] = item.path
        else:
            yield item
    yield from _closed(open_, None)


def _closed(open_: dict[Path, dict[str, _Group]], parent: Path | None) -> Iterator[Listed | Rejected | Skipped | Path]:
    """The groups of folders that are complete, because `parent` is not inside them."""
    for folder in [folder for folder in reversed(open_) if parent is None or folder not in parent.parents]:
        groups = open_.pop(folder)
        names = {source.path.name for group in groups.values() for source in group.images}
        for stem, group in groups.items():
            yield from _listed(folder / stem, group, shared=stem in names)


def _listed(base: Path, group: _Group, *, shared: bool) -> Iterator[Listed | Skipped | Path]:
    """The samples of a group; `shared`: another image in the folder would have the same key."""
    beside = dict(group.beside)
    tar, parquet = beside.pop(".tar", None), beside.pop(".parquet", None)
    if tar is not None:
        yield tar
    if parquet is not None:
        yield Skipped(parquet) if tar is not None or base.is_dir() else parquet
    if not group.images:
        yield from (Skipped(path) for path in beside.values())
        return
    caption, facts = _span(beside.get(".txt")), _span(beside.get(".json"))
    for source in group.images:
        alone = len(group.images) == 1 and not shared and source.key.endswith(source.path.suffix)
        key = source.key.removesuffix(source.path.suffix) if alone else source.key
        yield Listed(key, source.key, str(source.path), span_of(source.path), caption, facts)


def _span(path: Path | None) -> Span | None:
    return None if path is None else span_of(path)
