"""A lock on an index's folder: one process at a time may write to it.

A process that waits learns which process holds the lock. The lock is the operating system's own, on an open file, so it
ends with its process; a forked child keeps it. The holder's name is in `lock.json`.
"""

import errno
import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from tuwen.errors import IndexFault, IndexLocked
from tuwen.index.space import is_disk_full

POLL = 0.05
"""seconds between attempts"""
_TOKEN = uuid4().hex
"""tells this process from another of the same number: on another host, in another container, before a crash"""

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _try(handle: int, *, shared: bool) -> None:  # noqa: ARG001  (Windows has no shared locks here)
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try(handle: int, *, shared: bool) -> None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock, as it has written itself."""

    pid: int
    host: str
    token: str
    command: str
    since: str

    def __str__(self) -> str:
        here = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.pid}{here} ({self.command}, since {self.since})"


class Lock:
    """The lock on one folder: the file `lock` in it, and `lock.json` that names the holder."""

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        """Create a lock, not taken yet.

        Args:
            folder: what is locked.
            shared: keep out only those that write, without writing: for a read-only folder.
        """
        self._folder = folder
        self._shared = shared
        self._file: BinaryIO | None = None

    def acquire(self, timeout: float) -> None:
        """Take the lock, waiting up to `timeout` seconds for another process to release it.

        Raises:
            IndexLocked: it did not, and the message names it; or this process has the lock itself.
            IndexFault: the folder cannot be written to.
        """
        deadline = time.monotonic() + timeout
        file = self._open()
        try:
            while not _taken(file.fileno(), shared=self._shared):
                holder = self._holder()
                if holder is not None and _is_this_process(holder):
                    raise IndexLocked(
                        f"this process already has {self._folder} open; use that Index, or close it",
                        value=os.getpid(),
                        where=self._folder,
                    )
                if time.monotonic() >= deadline:
                    raise self._refusal(holder, timeout)
                time.sleep(POLL)
        except BaseException:
            file.close()
            raise
        try:
            if not self._shared:
                self._sign()
        except OSError as error:
            if not is_disk_full(error):  # there, others are not told who has the lock
                file.close()
                raise self._unwritable(error) from error
        self._file = file

    def release(self) -> None:
        """Release the lock. May be called twice."""
        if self._file is None:
            return
        if not self._shared:
            (self._folder / "lock.json").unlink(missing_ok=True)
        self._file.close()
        self._file = None

    def _open(self) -> BinaryIO:
        try:
            return (self._folder / "lock").open("rb" if self._shared else "ab")
        except OSError as error:
            raise self._unwritable(error) from error

    def _sign(self) -> None:
        words = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        command = " ".join(word for word in words.split() if word.isprintable())
        holder = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            token=_TOKEN,
            command=command if len(command) <= 80 else f"{command[:79]}…",
            since=datetime.now().isoformat(sep=" ", timespec="seconds"),
        )
        text = json.dumps(asdict(holder))
        (self._folder / "lock.json").write_text(text, encoding="utf-8")

    def _holder(self) -> Holder | None:
        """The recorded holder; None if it cannot be the one: incomplete, or a process that has ended."""
        try:
            holder = Holder(**json.loads((self._folder / "lock.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return holder if holder.host != socket.gethostname() or _is_alive(holder.pid) else None

    def _unwritable(self, error: OSError) -> IndexFault:
        return IndexFault(
            f"{self._folder} cannot be locked ({error.strerror}): check its permissions, and the disk's free space",
            where=self._folder,
        )

    def _refusal(self, holder: Holder | None, timeout: float) -> IndexLocked:
        who = str(holder) if holder is not None else "another process"
        return IndexLocked(
            f"{self._folder} is in use by {who}; waited {timeout:g} s: try again when it has ended",
            value=None if holder is None else holder.pid,
            where=self._folder,
        )


def _taken(handle: int, *, shared: bool) -> bool:
    try:
        _try(handle, shared=shared)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True


def _is_this_process(holder: Holder) -> bool:
    return holder.token == _TOKEN and holder.pid == os.getpid()


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover  (os.kill would end it)
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
