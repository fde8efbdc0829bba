"""Watching a folder: which paths changed, and when to look at them.

    events --watched--> paths --Pending--> paths that have settled, or the whole folder

A path has settled when nothing has happened to it for a second, so a file that is still being written is not read.
The system drops events when too many come at once, without a sign; but lost events never come alone. So once nothing
has happened for a while after changes, the whole folder is compared once. A folder that goes away and comes back, such
as a disk that is mounted again, is watched again and compared as a whole.
"""

import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from tuwen import errors as extras

REST = 1.0
"""seconds without an event after which a file is taken to be finished"""
QUIET = 10.0
"""seconds without any event after which the whole folder is compared, once"""
MANY = 1000
"""paths at a time above which the whole folder is compared instead"""
_TICK = 0.25


@dataclass(frozen=True, slots=True)
class Due:
    """What to look at now: `paths`, existing or not; None: the whole folder."""

    paths: tuple[Path, ...] | None


class Pending:
    """Changes that have not been looked at yet."""

    def __init__(self, folder: Path) -> None:
        """At first, the whole folder is due."""
        self._folder = folder
        self._times: dict[Path, float] = {}
        self._whole = True
        self._check_at: float | None = None

    def note(self, paths: "set[Path] | None", now: float) -> None:
        """These paths changed; None: unknown ones did."""
        if paths is None:
            self._whole = True
        elif paths:
            self._times |= dict.fromkeys(paths, now)
            self._check_at = now + QUIET

    def take(self, now: float) -> Due | None:
        """What is due by now; `give_back` it if it cannot be looked at."""
        if self._whole or (self._check_at is not None and now >= self._check_at):
            self._whole, self._check_at = False, None
            self._times.clear()
            return Due(None)
        ripe = [path for path, time in self._times.items() if now >= time + REST]
        if not ripe:
            return None
        for path in ripe:
            del self._times[path]
        if len(ripe) > MANY or any(self._is_behind_a_link(path) for path in ripe):
            return Due(None)
        return Due(tuple(sorted(ripe)))

    def give_back(self, due: Due, now: float) -> None:
        """Look at it later."""
        self.note(None if due.paths is None else set(due.paths), now)

    def _is_behind_a_link(self, path: Path) -> bool:
        """Whether links to folders are involved: then only the whole folder shows which path counts."""
        inside = path.parent if path.is_file() else path
        if not inside.is_relative_to(self._folder):
            return True
        return inside.resolve() != self._folder.resolve() / inside.relative_to(self._folder)


def watched(folder: Path, own: Path | None, poll: float | None = None) -> Generator[set[Path] | None]:
    """The paths that changed, several times a second even if none did; None: some changes were lost.

    Args:
        folder: an absolute path.
        own: an absolute path whose changes are ignored: the index, which may be in the folder.
        poll: compare all files so often, in seconds, where the system reports no changes, as on network drives.

    Raises:
        MissingExtra: the package watchfiles is missing.
        OSError: the folder cannot be watched.
    """
    watchfiles = extras.require("watchfiles", extra="watch")
    inner = f"{own}{os.sep}"
    while True:
        before = _identity(folder)
        try:
            for events in watchfiles.watch(
                folder,
                watch_filter=lambda _, path: not f"{path}{os.sep}".startswith(inner),
                rust_timeout=int(_TICK * 1000),
                yield_on_timeout=True,
                force_polling=poll is not None,
                poll_delay_ms=int(1000 * (poll or 1)),
                ignore_permission_denied=True,
            ):
                yield {Path(path) for _, path in events}
                if _identity(folder) != before:
                    break
        except RuntimeError:  # what watchfiles raises for its own faults, such as a name that is not UTF-8
            sleep(REST)
        yield None
        if _identity(folder) is None:
            while _identity(folder) is None:
                yield set()
                sleep(_TICK)
            yield None


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another one that is mounted or made in its place; None if it is away."""
    try:
        state = folder.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
