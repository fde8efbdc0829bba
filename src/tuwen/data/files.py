"""The files of a collection: found in folders, named by keys, opened without ever waiting on a pipe.

Knows folders, links and endings, and looks at the first bytes of files whose ending says nothing. Does not know
how to read a picture.
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
from tuwen.errors import InvalidInput
from tuwen.types import Rejected, Source

_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is of no picture format by content and by ending; or a row that says so itself.

    Attributes:
        path: where it is.
        reason: empty for these; else why a folder or a file could not be looked at, and whatever is in it is not
            known.
    """

    path: Path
    reason: str = ""


def find_sources(paths: Sequence[Path], root: Path) -> Iterator[Source | Skipped]:
    """The pictures among files and in folders, in the order of `paths`, folders from top to bottom and by name.

    A link to a file is followed. A link to a folder is followed unless the folder lies within one of `paths` and so
    is searched as itself; no folder is searched twice, so loops end. What is neither a file nor a folder (pipes,
    devices, sockets) is skipped and never opened. A file whose ending claims a picture is a source, even if it
    cannot be opened: reading it tells why.

    Args:
        paths: files and folders. One that lies within another is not searched twice.
        root: what keys are relative to, see `key_of`.

    Raises:
        InvalidInput: one of `paths` does not exist.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise InvalidInput(f"{path} does not exist: name files or folders of pictures")
    return _found(_outermost(paths), root)


def key_of(path: Path, root: Path) -> str:
    """What names a file in a collection: its path relative to `root` with `/`, or the absolute path if not below.

    A path that is not UTF-8 has its stray bytes percent-encoded, e.g. `caf%E9.jpg`; so has one that could be taken
    for such a key. `path_of` gives the path back.
    """
    absolute, base = _absolute(path), _absolute(root)
    inside = absolute.relative_to(base) if absolute.is_relative_to(base) else absolute
    text = os.fsencode(inside.as_posix()).decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff%]", _escaped, text) if _needs_escapes(text) else text


def path_of(key: str, root: Path) -> Path:
    """The file that a key names: the inverse of `key_of` for the same `root`, as an absolute path."""
    raw = key.encode("utf-8", "surrogateescape")
    text = os.fsdecode(unquote_to_bytes(raw) if _needs_escapes(key) else raw)
    return _absolute(root) / text


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading, but nothing else: a pipe, a device or a folder would hang or answer nonsense.

    Raises:
        OSError: it cannot be opened, or is no file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a file", str(path))
    file = os.fdopen(os.open(path, os.O_RDONLY | _NO_WAITING), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not a file", str(path))


def is_file(path: Path) -> bool:
    """Whether there is such a file. What is too long for a name, or has letters that no name has, is none."""
    return _is_of(path, stat.S_ISREG)


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; likewise."""
    return _is_of(path, stat.S_ISDIR)


def _is_of(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _absolute(path: Path) -> Path:
    """Without `..`, and without following links: a collection keeps the names that its owner gave it."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _needs_escapes(text: str) -> bool:
    """Whether a key for `text` is written with escapes.

    It is, if it is not UTF-8, or if undoing escapes that it happens to contain would end in what is not.
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
    """`paths` as absolute paths, without those that lie within another of them."""
    whole = list(dict.fromkeys(map(_absolute, paths)))
    given = set(whole)
    return [path for path in whole if not any(parent in given for parent in path.parents)]


def _found(paths: list[Path], root: Path) -> Iterator[Source | Skipped]:
    walk = _Walk(paths)
    for path in paths:
        for found in walk.below(path):
            yield found if isinstance(found, Skipped) else _looked_at(found, root)


class _Walk:
    """Folders, each once, whatever links lead to it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._bases = [Path(os.path.realpath(path)) for path in paths]
        self._seen: set[tuple[int, int]] = set()

    def below(self, path: Path) -> Iterator[Path | Skipped]:
        """All that is no folder, and the folders that cannot be opened. Not recursive: trees may be deep."""
        waiting: list[Path] = [path]
        while waiting:
            current = waiting.pop()
            if not is_folder(current):
                yield current
            elif current == path or not self._is_walked_anyway(current):
                try:
                    waiting += self._children(current)
                except OSError as error:
                    yield Skipped(current, f"the folder cannot be opened: {error.strerror}")

    def _children(self, folder: Path) -> list[Path]:
        """What a folder holds, in reverse order; nothing where it has been seen before."""
        state = folder.stat()
        identity = (state.st_dev, state.st_ino)
        if identity in self._seen:
            return []
        self._seen.add(identity)
        return sorted(folder.iterdir(), key=os.fsencode, reverse=True)

    def _is_walked_anyway(self, folder: Path) -> bool:
        """Whether it is a link to a folder within the searched paths: found there by its own name."""
        if not folder.is_symlink():
            return False
        real = Path(os.path.realpath(folder))
        return any(real.is_relative_to(base) for base in self._bases)


def _looked_at(path: Path, root: Path) -> Source | Skipped:
    claims = format_of_name(path.name) is not None
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or not (claims or _is_marked(path)):
            return Skipped(path)
    except OSError as error:
        return Source(key_of(path, root), path, 0, 0.0) if claims else Skipped(path, f"{error.strerror}")
    return Source(key_of(path, root), path, state.st_size, state.st_mtime)


def _is_marked(path: Path) -> bool:
    with open_file(path) as file:
        return format_of_content(file.read(HEAD)) is not None


# ---- The files that a task will see, with a folder that cannot be opened as an input that is rejected.


def find_files(paths: Sequence[Path], root: Path, *, but: Path | None = None) -> Iterator[Source | Rejected | Skipped]:
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
