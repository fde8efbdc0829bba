"""A running service: the model, the index and the queues in front of them, shared by all routes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import Depends, Request

from tuwen.classify.adapter import Adapter
from tuwen.data.tokens import FEW
from tuwen.server.batching import ImageEncoding, Pool, TextEncoding
from tuwen.server.config import ServerConfig
from tuwen.server.fetching import Fetcher, PublicOnly
from tuwen.server.images import Thumbnails
from tuwen.server.listing import Listing
from tuwen.server.uploads import Uploads

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder
    from tuwen.server.monitoring import Metrics

LOCAL_CALLS, CLUSTER_CALLS = 4, 16
"""threads that call the index: calls to a local index hold the interpreter lock, so more threads would only wait for
each other; calls to a cluster wait for its response"""


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service.

    Attributes:
        config: its configuration.
        encoder: the model.
        index: the rows.
        root: the folder of the images.
        texts: the text tower.
        images: the image tower.
        listing: rows by key.
        thumbnails: cached thumbnails.
        uploads: adds and removes images.
        fetcher: fetches images by URL; None if that is not allowed.
        adapters: classifiers learnt by `tuwen adapt`, by their names.
        graph: whether the rows are in this process and searched with a graph, so that searches are quick.
        decoding: threads that decode images.
        calling: threads that call the index.
    """

    config: ServerConfig
    encoder: "Encoder"
    index: "VectorIndex"
    root: Path
    texts: TextEncoding
    images: ImageEncoding
    listing: Listing
    thumbnails: Thumbnails
    uploads: Uploads
    fetcher: Fetcher | None
    adapters: Mapping[str, Adapter]
    graph: bool
    decoding: Pool
    calling: Pool

    async def close(self) -> None:
        """Finish the accepted work, then stop."""
        await self.uploads.close()
        await self.texts.batcher.close()
        await self.images.batcher.close()
        self.decoding.close()
        self.calling.close()


@asynccontextmanager
async def running(
    config: ServerConfig,
    encoder: "Encoder",
    index: "VectorIndex",
    adapters: Mapping[str, Adapter],
    metrics: "Metrics",
) -> AsyncIterator[Service]:
    """Run a service with both towers loaded until the block ends."""
    decoding = Pool("decoding", config.threads, config.queue)
    calling = Pool("the index", CLUSTER_CALLS if index.folder is None else LOCAL_CALLS, config.queue)
    listing, thumbnails = Listing(index), Thumbnails(config.cache, encoder.reading.max_pixels)
    service = Service(
        config,
        encoder,
        index,
        config.root or index.root,
        TextEncoding(encoder, config, metrics.batch_sizes("text")),
        ImageEncoding(encoder, config, decoding, metrics.batch_sizes("image")),
        listing,
        thumbnails,
        Uploads(index, encoder, listing, thumbnails, calling, config),
        Fetcher(config.max_picture, PublicOnly()) if config.allow_url else None,
        adapters,
        isinstance(index.folder, Path) and (await calling.run(index.info)).kind == "hnsw",
        decoding,
        calling,
    )
    try:
        if config.allow_upload:
            await service.uploads.mend()
        await service.texts.batcher.do(["warm up"] * (FEW + 1))  # more than would be tokenized without all pieces
        await service.images.batcher.do([np.zeros((1, 3, *encoder.image_spec.size), np.float32)])
        yield service
    finally:
        await service.close()


async def service_of(request: Request) -> Service:
    """The service that a request is for. A coroutine: FastAPI would call a function in a thread."""
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(service_of)]
"""the type of a route's parameter that receives the service"""
