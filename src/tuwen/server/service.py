"""What handlers share: the model, the index, and the queues before them.

Begun before the first request, ended after the last. Knows what there is; does not know what is asked.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import Depends, Request

from tuwen.data.decode import reading_for
from tuwen.server.batcher import Pool
from tuwen.server.catalogue import Catalogue
from tuwen.server.collection import Collection
from tuwen.server.config import ServerConfig
from tuwen.server.encoding import Pictures, Texts
from tuwen.server.fetching import Fetcher, PublicOnly
from tuwen.server.images import Thumbnails

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder
    from tuwen.server.metrics import Metrics

CALLERS, AWAY = 4, 16
"""threads that call the index: where it is in this process they hold the interpreter, so more would only wait; in a
cluster each waits for an answer"""


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service.

    Attributes:
        config: how it is to behave.
        encoder: the model.
        index: the rows.
        root: the collection's folder.
        texts: the text tower.
        pictures: the image tower.
        catalogue: rows by key.
        thumbnails: small pictures.
        collection: what comes and goes.
        fetcher: gets pictures by their addresses; None where that is not allowed.
        graph: whether rows are in this process and found through a graph, so that a search is quick.
        decoding: threads that read pictures.
        calling: threads that call the index.
    """

    config: ServerConfig
    encoder: "Encoder"
    index: "VectorIndex"
    root: Path
    texts: Texts
    pictures: Pictures
    catalogue: Catalogue
    thumbnails: Thumbnails
    collection: Collection
    fetcher: Fetcher | None
    graph: bool
    decoding: Pool
    calling: Pool

    async def close(self) -> None:
        """Finish what was accepted, then end."""
        await self.collection.close()
        await self.texts.batcher.close()
        await self.pictures.batcher.close()
        self.decoding.close()
        self.calling.close()


@asynccontextmanager
async def running(
    config: ServerConfig, encoder: "Encoder", index: "VectorIndex", metrics: "Metrics"
) -> AsyncIterator[Service]:
    """A service with both towers loaded, from here to the end of the block."""
    decoding = Pool("decoding", config.threads, config.queue)
    calling = Pool("the index", AWAY if index.folder is None else CALLERS, config.queue)
    reading = reading_for(encoder.image_spec, exact=False, max_pixels=config.max_pixels)
    catalogue, thumbnails = Catalogue(index), Thumbnails(config.cache, config.max_pixels)
    service = Service(
        config,
        encoder,
        index,
        config.root or index.root,
        Texts(encoder, config, metrics.batch_sizes("text")),
        Pictures(encoder, reading, config, decoding, metrics.batch_sizes("image")),
        catalogue,
        thumbnails,
        Collection(index, catalogue, thumbnails, calling, config),
        Fetcher(config.max_picture, PublicOnly()) if config.allow_url else None,
        isinstance(index.folder, Path) and (await calling.run(index.info)).kind == "hnsw",
        decoding,
        calling,
    )
    try:
        if config.allow_upload:
            await service.collection.mend()
        await service.texts.batcher.do(["warm"])
        await service.pictures.batcher.do([np.zeros((1, 3, *encoder.image_spec.size), np.float32)])
        yield service
    finally:
        await service.close()


async def service_of(request: Request) -> Service:
    """The service that a request is for. A coroutine, because anything else would be called in a thread."""
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(service_of)]
"""what a handler asks for"""
