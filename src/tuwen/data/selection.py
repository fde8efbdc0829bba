"""Which files of a folder are taken: the default excludes, `.tuwenignore` files, and the user's patterns.

`.tuwenignore` files and the user's patterns have the syntax of `.gitignore`. Later rules override earlier ones, in
this order: the default excludes, `.tuwenignore` files from the outermost to the innermost folder,
`Selection.exclude`. So the pattern `!.cache/` takes in a folder that the default excludes leave out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self
from unicodedata import normalize

from tuwen.errors import InvalidInput

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".tuwenignore"
"""a file with patterns for the folder that it is in"""

DEFAULT_EXCLUDES: Mapping[str, tuple[str, ...]] = {
    "system folder": (
        *("@eaDir/", "#recycle/", "#snapshot/", "@Recycle/", "@Recently-Snapshot/", ".@__thumb/"),  # NAS
        *("$RECYCLE.BIN/", "RECYCLER/", "System Volume Information/"),  # Windows
        *(".Trash*/", ".Spotlight-V100/", ".fseventsd/", ".TemporaryItems/", ".DocumentRevisions-V100/"),  # macOS
        *("lost+found/", ".snapshot/", ".snapshots/", ".zfs/", ".stfolder/", ".stversions/", ".dropbox.cache/"),
        *(".thumbnails/", ".thumbs/", ".cache/", ".git/", ".hg/", ".svn/", ".dtrash/", ".picasaoriginals/"),
    ),
    "previews of another program": (
        *("*.lrdata/", "*.lrcat-data/"),  # Lightroom
        *(f"*.photoslibrary/{name}/" for name in ("database", "private", "resources", "scopes")),  # Apple Photos
        *(f"*.photolibrary/{name}/" for name in ("Database", "Previews", "Thumbnails")),  # iPhoto
        *(f"*.aplibrary/{name}/" for name in ("Database", "Previews", "Thumbnails")),  # Aperture
        "CaptureOne/Cache/",
    ),
    "system file": ("._*", ".DS_Store", "Thumbs.db", "desktop.ini", "~$*"),
    "partial download": ("*.part", "*.partial", "*.crdownload", "*.download/", "*.!ut", "*.aria2", "*.opdownload"),
}
"""what is left out by default, by the reason; upper and lower case are the same, a pattern with `/` at its end is for
folders"""
EMPTY = "empty file"
"""the reason for a file of zero bytes, which cloud drives put in place of one that is not on this machine"""


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The patterns of a `.tuwenignore` file, relative to its folder."""

    folder: Path
    spec: "GitIgnoreSpec"

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """The rules of a folder; None if it has no `.tuwenignore` that can be read."""
        try:
            lines = (folder / IGNORE_FILE).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except OSError:
            return None
        return cls(folder, _spec(lines))

    def excludes(self, path: Path, *, is_folder: bool) -> bool | None:
        """Whether a path below the folder is left out; None if no pattern matches it."""
        return self.spec.check_file(_name(path, self.folder, is_folder=is_folder)).include


@dataclass(frozen=True)
class Selection:
    """Which files below a folder are taken. Patterns have the syntax of `.gitignore`.

    Attributes:
        exclude: patterns of files and folders to leave out, relative to the folder that is searched.
        include: patterns of files to take; if there are any, all other files are left out.
        default_excludes: whether to leave out what `DEFAULT_EXCLUDES` lists, and empty files.

    >>> tuwen.Selection(exclude=["drafts/", "*.gif"])
    Selection(exclude=('drafts/', '*.gif'), include=(), default_excludes=True)
    """

    exclude: Sequence[str] = ()
    include: Sequence[str] = ()
    default_excludes: bool = True

    def __post_init__(self) -> None:
        """Take any sequences; a single pattern as `str` is an error."""
        for name in ("exclude", "include"):
            patterns = getattr(self, name)
            if isinstance(patterns, str):
                raise InvalidInput(f"{name} is a list of patterns: write [{patterns!r}]", value=patterns, where=name)
            object.__setattr__(self, name, tuple(patterns))

    def excluded(self, path: Path, top: Path, ignore: Iterable[IgnoreRules], *, is_folder: bool) -> str:
        """Why a path below a folder is left out; empty if it is taken.

        Args:
            path: a file or folder below `top`.
            top: the folder that is searched.
            ignore: the `.tuwenignore` files of the folders around the path, from the outermost to the innermost.
            is_folder: whether the path is a folder.
        """
        reason = _default_reason(path, is_folder=is_folder) if self.default_excludes else ""
        for rules in ignore:
            excludes = rules.excludes(path, is_folder=is_folder)
            reason = reason if excludes is None else IGNORE_FILE if excludes else ""
        name = _name(path, top, is_folder=is_folder)
        if self.exclude:
            excludes = self._exclude.check_file(name).include
            reason = reason if excludes is None else "--exclude" if excludes else ""
        if not reason and self.include and not is_folder and not self._include.match_file(name):
            return "--include"
        return reason

    @cached_property
    def _exclude(self) -> "GitIgnoreSpec":
        return _spec(self.exclude)

    @cached_property
    def _include(self) -> "GitIgnoreSpec":
        return _spec(self.include)


def _spec(patterns: Iterable[str]) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec  # takes longer to import than most folders to search

    return GitIgnoreSpec.from_lines(normalize("NFC", pattern) for pattern in patterns)


def _name(path: Path, folder: Path, *, is_folder: bool) -> str:
    """What patterns are matched with, in the Unicode normalization in which people type."""
    return normalize("NFC", path.relative_to(folder).as_posix() + ("/" if is_folder else ""))


def _default_pattern() -> re.Pattern[str]:
    """One expression for all default excludes, matched with `parent/name`; the group that matches is the reason."""

    def expression(pattern: str) -> str:
        escaped = re.escape(pattern).replace(r"\*", "[^/]*")
        return escaped if "/" in pattern[:-1] else f"[^/]*/{escaped}"

    groups = ("|".join(map(expression, patterns)) for patterns in DEFAULT_EXCLUDES.values())
    return re.compile("|".join(f"({group})" for group in groups), re.IGNORECASE)


_DEFAULT = _default_pattern()
_REASONS = tuple(DEFAULT_EXCLUDES)


def _default_reason(path: Path, *, is_folder: bool) -> str:
    match = _DEFAULT.fullmatch(f"{path.parent.name}/{path.name}{'/' if is_folder else ''}")
    return _REASONS[match.lastindex - 1] if match and match.lastindex else ""
