"""The files of pictures that were added through the service: `uploads/` below the collection's root, by content.

A file stands aside, as `.NAME.…part`, until its row is in the index, and again before its row is taken out. So what
a kill leaves is told by the index: `mend` gives a file with a row its name, and removes one without. No other file
is ever touched. Knows files and rows' keys; does not know pictures.
"""

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from tuwen.bundle.files import sync
from tuwen.types import Payload

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex

FOLDER = "uploads"
_NAME = re.compile(r"([0-9a-f]{64})\.[0-9a-z]{1,8}")
_PART = re.compile(rf"\.({_NAME.pattern})\.\w+\.part")


class Uploads:
    """The folder of one collection. Safe in several threads."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER

    @staticmethod
    def key(content: str, ending: str) -> str:
        """The key of the row: the same content is the same row."""
        return f"{FOLDER}/{content}.{ending}"

    @staticmethod
    def owns(payload: Payload) -> bool:
        """Whether a row's file is one of these."""
        folder, _, name = str(payload["path"]).partition("/")
        match = _NAME.fullmatch(name)
        return folder == FOLDER and match is not None and match[1] == payload.get("content")

    def path(self, key: str) -> Path:
        """The file of a row that is there."""
        return self._folder / key.partition("/")[2]

    def stage(self, key: str, data: bytes) -> Path:
        """Write a file aside; on return it is on the disk."""
        self._folder.mkdir(exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{self.path(key).name}.", suffix=".part", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(part).chmod(0o644)
        except BaseException:
            Path(part).unlink()  # of no use, and where the disk is full in the way
            raise
        return Path(part)

    def publish(self, part: Path, key: str) -> None:
        """Give a file its name: its row is in the index."""
        part.replace(self.path(key))
        sync(self._folder)

    def retract(self, key: str) -> Path | None:
        """Take a file's name away, before its row is taken out; None where it has gone."""
        handle, part = tempfile.mkstemp(prefix=f".{self.path(key).name}.", suffix=".part", dir=self._folder)
        os.close(handle)
        try:
            self.path(key).replace(part)
        except FileNotFoundError:
            Path(part).unlink()
            return None
        sync(self._folder)
        return Path(part)

    def mend(self, index: "VectorIndex", grace: float = 0.0) -> None:
        """Finish what a kill has interrupted.

        Args:
            index: whose rows decide.
            grace: seconds since a file was put aside, or taken aside, in which it may be somebody's work; 0 where
                nobody else writes.
        """
        for part in self._folder.glob(".*.part"):
            match = _PART.fullmatch(part.name)
            if match is None:
                continue
            with suppress(FileNotFoundError):  # another service mends, too
                if time() - _touched(part) >= grace:
                    self.settle(part, f"{FOLDER}/{match[1]}", index)

    def settle(self, part: Path, key: str, index: "VectorIndex") -> None:
        """Give a file its name if its row is in the index and has none; else remove it."""
        if index.payloads([key]) and not self.path(key).exists():
            self.publish(part, key)
        else:
            part.unlink()


def _touched(part: Path) -> float:
    """When a file was written or renamed. The content may be years old: a new name does not change its time."""
    facts = part.stat()
    return max(facts.st_mtime, facts.st_ctime)
