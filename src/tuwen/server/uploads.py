"""Add images to a served index and remove them. Acknowledged images are in the index and on disk.

    bytes --prepare (pool)--> pixels --tower (batch)--> vector; file aside --> row (batch, flushed) --> file in place

Uploaded files live in `uploads/` below the collection's folder, named after their content. A file has a temporary
name, `.NAME.…part`, until its row is in the index, and again before its row is removed. After a kill, `mend` renames
the temporary files that have a row and removes those that have none. No other file is ever touched.
"""

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from tuwen.bundle.files import sync
from tuwen.data.formats import HEAD, format_of
from tuwen.errors import IndexFault
from tuwen.index.store import Stored, Vector, row_id
from tuwen.ingest.images import prepare_image
from tuwen.ingest.writer import Ready
from tuwen.server.batching import Batcher, ImageEncoding, Pool
from tuwen.server.config import ServerConfig
from tuwen.server.images import Thumbnails
from tuwen.server.listing import Listing
from tuwen.server.responses import APIError
from tuwen.types import Payload, Pixels, Rejected, Row, Source

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder

T = TypeVar("T")

FOLDER = "uploads"
COMMIT_WAIT = 0.05
"""seconds that rows wait to be flushed together with those of other uploads in progress: a flush takes as long for many
rows as for one, and the whole service waits for it"""
GRACE = 3600.0
"""seconds during which a temporary file may belong to another service of the same index"""
_NAME = re.compile(r"([0-9a-f]{64})\.[0-9a-z]{1,8}")
_PART = re.compile(rf"\.({_NAME.pattern})\.\w+\.part")


@dataclass(frozen=True, slots=True)
class Added:
    """An image that is in the index now. `new`: whether it was added by this call."""

    id: str
    key: str
    new: bool


class Uploads:
    """Adds and removes images; each image is changed by one request at a time."""

    def __init__(
        self,
        index: "VectorIndex",
        encoder: "Encoder",
        listing: Listing,
        thumbnails: Thumbnails,
        calling: Pool,
        config: ServerConfig,
    ) -> None:
        self._index = index
        self._encoder = encoder
        self._listing = listing
        self._thumbnails = thumbnails
        self._calling = calling
        self._files = UploadedFiles(config.root or index.root)
        self._grace = GRACE if index.folder is None else 0.0
        self._mending: asyncio.Task[None] | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._begun: set[asyncio.Task[Any]] = set()
        self._writes: Batcher[Row, None] = Batcher(
            "writing", self._upsert, most=256, wait=COMMIT_WAIT, limit=config.queue, more=self._more
        )
        self._adding = 0

    @property
    def writing(self) -> bool:
        """Whether images are being added or removed right now."""
        return bool(self._begun)

    async def mend(self) -> None:
        """Complete work that a kill interrupted; if services share the index, again every hour."""
        await self._calling.run(self._files.mend, self._index, self._grace)
        if self._grace:
            self._mending = asyncio.create_task(self._mend_hourly())

    async def add(self, data: bytes, name: str, encoding: ImageEncoding, decoding: Pool) -> Added | Rejected:
        """Store an image below the collection's folder and index it. Adding the same bytes again changes nothing.

        Args:
            data: a file's bytes.
            name: the client's name for it.
            encoding: the image tower.
            decoding: threads that read images.

        Returns:
            Its row, or the reason why it cannot be read.

        Raises:
            APIError: 413, it has too many bytes; 429, too many inputs are waiting.
        """
        encoding.check_size(data, name)
        self._adding += 1
        try:
            return await self._add(data, name, encoding, decoding)
        finally:
            self._adding -= 1

    async def _add(self, data: bytes, name: str, encoding: ImageEncoding, decoding: Pool) -> Added | Rejected:
        content = await self._calling.run(lambda: hashlib.sha256(data).hexdigest())
        key = self._files.key(content, _extension(data, name))
        async with self._lock(key):
            if await self._calling.run(self._has, key):
                return Added(str(row_id(key)), key, new=False)
            # Whole seconds, which every file system can store: an index compares a file's time with its row's.
            source = Source(key, self._files.path(key), len(data), float(int(time())))
            ready = await decoding.run(prepare_image, source, content, data, None, self._index, self._encoder)
            if isinstance(ready, Rejected):
                return replace(ready, path=name)
            vector = ready.vector if ready.raw is None else (await encoding.batcher.do([ready.raw]))[0]
            assert vector is not None  # new images have pixels, known ones have a vector
            return await self._to_the_end(self._store(source, data, ready, vector))

    async def remove(self, row: Stored) -> None:
        """Remove a row, and its file if it was uploaded."""
        async with self._lock(str(row.payload["path"])):
            await self._to_the_end(self._take_out(row))

    async def close(self) -> None:
        """Finish the work in progress."""
        if self._mending:
            self._mending.cancel()
        if self._begun:
            await asyncio.wait(self._begun)
        await self._writes.close()

    async def _mend_hourly(self) -> None:
        while True:
            await asyncio.sleep(self._grace)
            with suppress(APIError, IndexFault, OSError):  # tried again in an hour
                await self._calling.run(self._files.mend, self._index, self._grace)

    async def _store(self, source: Source, data: bytes, ready: Ready[Pixels], vector: Vector) -> Added:
        key = source.key
        part = await self._calling.run(self._files.stage, key, data, source.modified)
        async with self._settled(part, key):
            await self._writes.do([Row(key, vector, ready.payload)])
        await self._calling.run(self._files.publish, part, key)
        self._listing.added(key)
        return Added(str(row_id(key)), key, new=True)

    async def _take_out(self, row: Stored) -> None:
        key = str(row.payload["path"])
        part = await self._calling.run(self._files.retract, key) if self._files.owns(row.payload) else None
        async with self._settled(part, key):
            await self._calling.run(self._index.remove, [key])
        if part is not None:
            await self._calling.run(part.unlink)
        self._listing.removed(key)
        content = str(row.payload.get("content", ""))
        if await self._calling.run(self._index.known, content) is None:
            await self._calling.run(self._thumbnails.forget, content)

    @asynccontextmanager
    async def _settled(self, part: Path | None, key: str) -> AsyncIterator[None]:
        """Remove a temporary file if the index fails."""
        try:
            yield
        except Exception:
            if part is not None:
                await asyncio.to_thread(self._files.settle, part, key, self._index)
            raise

    def _more(self) -> bool:
        """Whether images are being added that have not come to be written yet."""
        return self._adding > self._writes.waiting

    def _has(self, key: str) -> bool:
        return bool(self._index.payloads([key])) and self._files.path(key).is_file()

    def _upsert(self, rows: Sequence[Row]) -> list[None]:
        self._index.upsert(rows)
        return [None] * len(rows)

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    async def _to_the_end(self, steps: Coroutine[Any, Any, T]) -> T:
        """Run steps that belong together; they continue even if the caller is cancelled."""
        task = asyncio.create_task(steps)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await asyncio.shield(task)


class UploadedFiles:
    """The folder `uploads/` of one collection. Safe in several threads."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER

    @staticmethod
    def key(content: str, extension: str) -> str:
        """The key of the row, which depends only on the content."""
        return f"{FOLDER}/{content}.{extension}"

    @staticmethod
    def owns(payload: Payload) -> bool:
        """Whether a row's file was uploaded."""
        folder, _, name = str(payload["path"]).partition("/")
        match = _NAME.fullmatch(name)
        return folder == FOLDER and match is not None and match[1] == payload.get("content")

    def path(self, key: str) -> Path:
        """The file of a row."""
        return self._folder / key.partition("/")[2]

    def stage(self, key: str, data: bytes, modified: float) -> Path:
        """Write a file under a temporary name; on return it is on disk."""
        self._folder.mkdir(exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{self.path(key).name}.", suffix=".part", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.utime(part, (modified, modified))
                os.fsync(file.fileno())
            Path(part).chmod(0o644)
        except BaseException:
            Path(part).unlink()  # frees the space if the disk is full
            raise
        return Path(part)

    def publish(self, part: Path, key: str) -> None:
        """Rename a file to its final name, once its row is in the index."""
        part.replace(self.path(key))
        sync(self._folder)

    def retract(self, key: str) -> Path | None:
        """Rename a file to a temporary name before its row is removed; None if the file is gone."""
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
        """Complete work that a kill interrupted.

        Args:
            index: the index whose rows decide which files stay.
            grace: seconds during which a temporary file may belong to another service; 0 if there is none.
        """
        for part in self._folder.glob(".*.part"):
            match = _PART.fullmatch(part.name)
            if match is None:
                continue
            with suppress(FileNotFoundError):  # another service mends, too
                if time() - _touched(part) >= grace:
                    self.settle(part, f"{FOLDER}/{match[1]}", index)

    def settle(self, part: Path, key: str, index: "VectorIndex") -> None:
        """Rename a temporary file to its final name if its row is in the index and has no file; else remove it."""
        if index.payloads([key]) and not self.path(key).exists():
            self.publish(part, key)
        else:
            part.unlink()


def _touched(part: Path) -> float:
    """The time when a file was written or renamed; a rename only changes the ctime."""
    facts = part.stat()
    return max(facts.st_mtime, facts.st_ctime)


def _extension(data: bytes, name: str) -> str:
    """The right extension for a file: by its content, or by its name if the format has no signature."""
    found = format_of(data[:HEAD], name)
    return found.extensions.split()[0] if found else "bin"
