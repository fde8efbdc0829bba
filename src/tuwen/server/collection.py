"""Pictures into the index and out of it, while it is served. What is acknowledged is in the index and on the disk.

    bytes --read (pool)--> pixels --tower (batch)--> vector; file aside --> row (batch, flushed) --> file in place

Knows the order. Does not know HTTP.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from tuwen.data.formats import HEAD, format_of_content, format_of_name
from tuwen.errors import IndexFault, RejectedImages
from tuwen.index.store import Stored, Vector, row_id
from tuwen.ingest.payloads import image_payload
from tuwen.server.batcher import Batcher, Pool
from tuwen.server.catalogue import Catalogue
from tuwen.server.config import ServerConfig
from tuwen.server.encoding import Pictures
from tuwen.server.errors import Fault
from tuwen.server.images import Thumbnails
from tuwen.server.uploads import Uploads
from tuwen.types import Rejected, Row, Source

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex

T = TypeVar("T")

HOUR = 3600.0
"""seconds that a file aside may be the work of another service of the same index"""


@dataclass(frozen=True, slots=True)
class Added:
    """A picture that is in the index now. `new`: it was not before."""

    id: str
    key: str
    new: bool


class Collection:
    """An index that pictures are added to and removed from, each picture by one request at a time."""

    def __init__(
        self,
        index: "VectorIndex",
        catalogue: Catalogue,
        thumbnails: Thumbnails,
        calling: Pool,
        config: ServerConfig,
    ) -> None:
        self._index = index
        self._catalogue = catalogue
        self._thumbnails = thumbnails
        self._calling = calling
        self._uploads = Uploads(config.root or index.root)
        self._grace = HOUR if index.folder is None else 0.0
        self._mending: asyncio.Task[None] | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._begun: set[asyncio.Task[Any]] = set()
        self._writes: Batcher[Row, None] = Batcher(
            "writing", self._upsert, most=256, wait=config.batch_wait, limit=config.queue
        )

    @property
    def writing(self) -> bool:
        """Whether pictures are coming or going just now."""
        return bool(self._begun)

    async def mend(self) -> None:
        """Finish what a kill has interrupted; in an index that services share, again every hour."""
        await self._calling.run(self._uploads.mend, self._index, self._grace)
        if self._grace:
            self._mending = asyncio.create_task(self._mend_on())

    async def add(self, data: bytes, name: str, pictures: Pictures) -> Added | Rejected:
        """Store a picture below the collection's root and index it. The same bytes again change nothing.

        Args:
            data: a file's bytes.
            name: what the client calls it.
            pictures: the image tower.

        Returns:
            Its row; or why it cannot be read.

        Raises:
            Fault: 413, it is too long; 429, too much is waiting.
        """
        content = await self._calling.run(_sha256, data)
        key = self._uploads.key(content, _ending(data, name))
        async with self._lock(key):
            if await self._calling.run(self._has, key):
                return Added(str(row_id(key)), key, new=False)
            try:
                picture, pixels = await pictures.read(data, name)
            except RejectedImages as error:
                return error.rejected[0]
            known = await self._calling.run(self._index.known, content)
            vector = known.vector if known else (await pictures.batcher.do([pixels]))[0]
            facts: dict[str, str | int] = {
                "width": picture.width,
                "height": picture.height,
                "format": picture.format,
            }
            return await self._whole(self._store(key, data, content, facts, vector))

    async def remove(self, row: Stored) -> None:
        """Take a row out, and its file where it was added here."""
        async with self._lock(str(row.payload["path"])):
            await self._whole(self._take_out(row))

    async def close(self) -> None:
        """Finish what has begun."""
        if self._mending:
            self._mending.cancel()
        if self._begun:
            await asyncio.wait(self._begun)
        await self._writes.close()

    async def _mend_on(self) -> None:
        while True:
            await asyncio.sleep(self._grace)
            with suppress(Fault, IndexFault, OSError):  # what cannot be reached now is there in an hour
                await self._calling.run(self._uploads.mend, self._index, self._grace)

    async def _store(self, key: str, data: bytes, content: str, facts: dict[str, str | int], vector: Vector) -> Added:
        part = await self._calling.run(self._uploads.stage, key, data)
        source = Source(key, part, len(data), part.stat().st_mtime)
        async with self._settled(part, key):
            await self._writes.do([Row(key, vector, image_payload(source, content, facts))])
        await self._calling.run(self._uploads.publish, part, key)
        self._catalogue.came(key)
        return Added(str(row_id(key)), key, new=True)

    async def _take_out(self, row: Stored) -> None:
        key = str(row.payload["path"])
        part = await self._calling.run(self._uploads.retract, key) if self._uploads.owns(row.payload) else None
        async with self._settled(part, key):
            await self._calling.run(self._index.remove, [key])
        if part is not None:
            await self._calling.run(part.unlink)
        self._catalogue.went(key)
        content = str(row.payload.get("content", ""))
        if await self._calling.run(self._index.known, content) is None:
            await self._calling.run(self._thumbnails.forget, content)

    @asynccontextmanager
    async def _settled(self, part: Path | None, key: str) -> AsyncIterator[None]:
        """Where the index fails, a file that stands aside does not stay there until the next start."""
        try:
            yield
        except Exception:
            if part is not None:
                await asyncio.to_thread(self._uploads.settle, part, key, self._index)
            raise

    def _has(self, key: str) -> bool:
        return bool(self._index.payloads([key])) and self._uploads.path(key).is_file()

    def _upsert(self, rows: Sequence[Row]) -> list[None]:
        self._index.upsert(rows)
        return [None] * len(rows)

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    async def _whole(self, steps: Coroutine[Any, Any, T]) -> T:
        """Steps that belong together: they go on where the caller is cancelled."""
        task = asyncio.create_task(steps)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await asyncio.shield(task)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _ending(data: bytes, name: str) -> str:
    """The right ending for a file: by content, else as its name claims where a format has no mark of its own."""
    found = format_of_content(data[:HEAD]) or format_of_name(name)
    return found.extensions.split()[0] if found else "bin"
