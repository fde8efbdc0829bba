"""A service in a thread, and a client of it."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from httpx2 import Client
from uvicorn import Server

from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ingest
from tuwen.runtime.encoder import Encoder
from tuwen.server.app import make_app
from tuwen.server.config import ServerConfig
from tuwen.server.service import Service
from tuwen.server.serving import address, listen, server_of


@dataclass(frozen=True)
class Served:
    """A running service: who calls it, its index, its collection's folder, what its handlers share."""

    server: Server
    client: Client
    index: VectorIndex
    root: Path
    service: Service
    url: str

    def stop(self) -> None:
        """As a signal does."""
        self.server.should_exit = True


@contextmanager
def serving(encoder: Encoder, photos: Path, place: Path, **options: object) -> Iterator[Served]:
    """A service of its own copy of some photos, below `place`, from here to the end of the block."""
    root = place / "photos"
    if not root.exists():
        shutil.copytree(photos, root)
    with indexed(encoder, root, place / "photos.tuwen") as index:
        config = replace(ServerConfig(cache=place / "cache", port=0, log="none"), **options)
        with serving_index(config, encoder, index) as served:
            yield served


@contextmanager
def serving_index(config: ServerConfig, encoder: Encoder, index: VectorIndex) -> Iterator[Served]:
    """A service of an index that is open."""
    app = make_app(config, encoder, index)
    with listen(config) as listening:
        server = server_of(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            url = address(listening)
            with Client(base_url=url, timeout=60) as client:
                yield Served(server, client, index, app.state.service.root, app.state.service, url)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def indexed(encoder: Encoder, root: Path, folder: Path) -> Iterator[VectorIndex]:
    """The index of some photos: as it is if it is there."""
    if folder.exists():
        with VectorIndex.open(folder, encoder=encoder) as index:
            yield index
        return
    with VectorIndex.create(folder, encoder=encoder, root=root) as index:
        for _ in ingest([root], encoder, index):
            pass
        yield index
