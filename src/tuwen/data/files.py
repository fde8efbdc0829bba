"""Finding image files in folders, and the keys that name them in a collection.

A file is recognised by its extension, or else by its first bytes. Only regular files are opened: opening a pipe or a
device could block.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from tuwen.data.formats import HEAD, format_of_content, format_of_name
from tuwen.data.selection import EMPTY, IgnoreRules, Selection
from tuwen.errors import InvalidInput
from tuwen.types import Rejected, Source

DEFAULT = Selection()
"""all images but what `DEFAULT_EXCLUDES` lists"""

_NON_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not an image, neither by its content nor by its extension; or what the selection leaves out.

    Attributes:
        path: where it is.
        reason: why a folder or file could not be examined, so that its content is unknown; usually empty.
        excluded: why the selection leaves it out, e.g. `system folder`, `--exclude`; empty if it does not.
    """

    path: Path
    reason: str = ""
    excluded: str = ""


def find_sources(
    paths: Sequence[Path], root: Path, selection: Selection = DEFAULT, within: Path | None = None
) -> Iterator[Source | Skipped]:
    """Find images among files and in folders, in the order of `paths`; folders top down, sorted by name.

    Links to files are followed. A link to a folder is followed unless the folder lies within one of `paths`, where it
    is found anyway; no folder is searched twice, so loops end. Pipes, devices and sockets are skipped and never
    opened. A file with an image's extension is a source even if it cannot be opened: decoding it gives the reason.

    Args:
        paths: files and folders. One that lies within another is not searched twice.
        root: the folder that keys are relative to, see `key_of`.
        selection: which files below the folders are taken. `paths` themselves are always taken.
        within: a folder that contains `paths`, if they are only the part of it that is to be searched: the selection
            applies as if all of it were searched.

    Raises:
        InvalidInput: one of `paths` does not exist.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise InvalidInput(f"{path} does not exist; give files or folders of images", value=path)
    return _found(_outermost(paths), root, selection, within)


def key_of(path: Path, root: Path) -> str:
    """A file's key in a collection: its path relative to `root` with `/`, or its absolute path if it is not below.

    In a path that is not UTF-8, invalid bytes are percent-encoded, e.g. `caf%E9.jpg`; so are those of a path that
    could be mistaken for such a key. `path_of` is the inverse.
    """
    absolute, base = _absolute(path), _absolute(root)
    inside = absolute.relative_to(base) if absolute.is_relative_to(base) else absolute
    text = os.fsencode(inside.as_posix()).decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff%]", _escaped, text) if _needs_escapes(text) else text


def path_of(key: str, root: Path) -> Path:
    """The absolute path of the file that a key names: the inverse of `key_of` for the same `root`."""
    raw = key.encode("utf-8", "surrogateescape")
    text = os.fsdecode(unquote_to_bytes(raw) if _needs_escapes(key) else raw)
    return _absolute(root) / text


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading. Pipes and devices are refused, because reading them could block.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a file", str(path))
    file = os.fdopen(os.open(path, os.O_RDONLY | _NON_BLOCKING), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not a file", str(path))


def is_file(path: Path) -> bool:
    """Whether there is such a file. False, too, for a path that is too long or has invalid characters."""
    return _is_of(path, stat.S_ISREG)


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; as `is_file`."""
    return _is_of(path, stat.S_ISDIR)


def _is_of(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _absolute(path: Path) -> Path:
    """Without `..`, and without resolving links: keys keep the names that the user gave."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _needs_escapes(text: str) -> bool:
    """Whether the key of `text` is percent-encoded.

    It is if `text` is not UTF-8, or if decoding the escapes that it happens to contain would not give UTF-8.
    """
    raw = text.encode("utf-8", "surrogateescape")
    while True:
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            return True
        before, raw = raw, unquote_to_bytes(raw)
        if raw == before:
            return False


def _escaped(match: re.Match[str]) -> str:
    return f"%{match[0].encode('utf-8', 'surrogateescape')[0]:02X}"


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """`paths` as absolute paths, without those within another one of them."""
    whole = list(dict.fromkeys(map(_absolute, paths)))
    given = set(whole)
    return [path for path in whole if not any(parent in given for parent in path.parents)]


def _found(paths: list[Path], root: Path, selection: Selection, within: Path | None) -> Iterator[Source | Skipped]:
    walk = _Walk(paths, selection, None if within is None else _absolute(within))
    for path in paths:
        for found in walk.below(path):
            if isinstance(found, Skipped):
                yield found
            else:
                named = found == path and within is None
                yield _examined(found, root, takes_empty=named or not selection.default_excludes)


class _Walk:
    """Walks folders, each once, however many links lead to it."""

    def __init__(self, paths: Sequence[Path], selection: Selection, within: Path | None) -> None:
        self._bases = [Path(os.path.realpath(path)) for path in paths]
        self._selection = selection
        self._within = within
        self._seen: set[tuple[int, int]] = set()

    def below(self, path: Path) -> Iterator[Path | Skipped]:
        """Everything but folders, the folders that cannot be opened, and what the selection leaves out.

        Not recursive, because trees may be deep.
        """
        top, reason, ignore = self._above(path)
        if reason:
            yield Skipped(path, excluded=reason)
            return
        waiting = [(path, ignore)]
        while waiting:
            current, ignore = waiting.pop()
            inner = is_folder(current)
            reason = "" if current == path else self._selection.excluded(current, top, ignore, is_folder=inner)
            if reason:
                yield Skipped(current, excluded=reason)
            elif not inner:
                yield current
            elif current == path or not self._is_walked_anyway(current):
                try:
                    children = self._children(current)
                except OSError as error:
                    yield Skipped(current, f"the folder cannot be opened: {error.strerror}")
                    continue
                rules = IgnoreRules.of(current)
                ignore = (*ignore, rules) if rules else ignore
                waiting += [(child, ignore) for child in children]

    def _above(self, path: Path) -> tuple[Path, str, tuple[IgnoreRules, ...]]:
        """The folder that the selection is relative to, why it leaves `path` out, and the ignore files above it."""
        if self._within is None or self._within == path or not path.is_relative_to(self._within):
            return path, "", ()
        ignore: tuple[IgnoreRules, ...] = ()
        for folder in reversed([path, *path.parents][: len(path.relative_to(self._within).parts)]):
            rules = IgnoreRules.of(folder.parent)
            ignore = (*ignore, rules) if rules else ignore
            reason = self._selection.excluded(folder, self._within, ignore, is_folder=is_folder(folder))
            if reason:
                return self._within, reason, ignore
        return self._within, "", ignore

    def _children(self, folder: Path) -> list[Path]:
        """A folder's entries in reverse order; none if the folder has been walked before."""
        state = folder.stat()
        identity = (state.st_dev, state.st_ino)
        if identity in self._seen:
            return []
        self._seen.add(identity)
        return sorted(folder.iterdir(), key=os.fsencode, reverse=True)

    def _is_walked_anyway(self, folder: Path) -> bool:
        """Whether it is a link to a folder within the searched paths, which is found under its own name."""
        if not folder.is_symlink():
            return False
        real = Path(os.path.realpath(folder))
        return any(real.is_relative_to(base) for base in self._bases)


def _examined(path: Path, root: Path, *, takes_empty: bool) -> Source | Skipped:
    claims = format_of_name(path.name) is not None
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or not (claims or _has_signature(path)):
            return Skipped(path)
        if state.st_size == 0 and not takes_empty:  # its row stays: cloud drives empty files that are still there
            return Skipped(path, "the file is empty", EMPTY)
    except OSError as error:
        return Source(key_of(path, root), path, 0, 0.0) if claims else Skipped(path, f"{error.strerror}")
    return Source(key_of(path, root), path, state.st_size, state.st_mtime)


def _has_signature(path: Path) -> bool:
    with open_file(path) as file:
        return format_of_content(file.read(HEAD)) is not None


def find_files(
    paths: Sequence[Path],
    root: Path,
    *,
    but: Path | None = None,
    selection: Selection = DEFAULT,
    within: Path | None = None,
) -> Iterator[Source | Rejected | Skipped]:
    """As `find_sources`, but a folder that cannot be opened is rejected, because its images would be missing.

    Args:
        paths: files and folders.
        root: the folder that keys are relative to.
        but: a folder to leave out, such as the index that is being written.
        selection: which files are taken, see `find_sources`.
        within: see `find_sources`.
    """
    own = None if but is None else Path(os.path.abspath(but))  # noqa: PTH100  (as `find_sources` has it)
    for item in find_sources(paths, root, selection, within):
        if own in item.path.parents:
            continue
        if isinstance(item, Skipped) and item.reason and item.path.is_dir():
            yield Rejected(key_of(item.path, root), item.reason)
        else:
            yield item
