"""The two towers of a model as everybody shares them: texts and pictures in, unit vectors out, in batches.

Knows what is cached and what is decoded where. Does not know what vectors are for.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tuwen.data.decode import Picture, Reading, read_image
from tuwen.data.pixels import to_pixels
from tuwen.errors import RejectedImages
from tuwen.index.store import Vector
from tuwen.server.batcher import Batcher, Pool
from tuwen.server.config import ServerConfig
from tuwen.server.errors import Fault
from tuwen.types import Pixels, Rejected, Vectors

if TYPE_CHECKING:
    from tuwen.runtime.encoder import Encoder


class Texts:
    """Texts to vectors. The vectors of the latest texts are kept."""

    def __init__(self, encoder: "Encoder", config: ServerConfig, observe: Callable[[int], object]) -> None:
        self._dim = encoder.dim
        self.batcher: Batcher[str, Vector] = Batcher(
            "the text tower",
            partial(_encoded, encoder),
            most=config.max_batch,
            wait=config.batch_wait,
            limit=config.queue,
            observe=observe,
        )
        self._kept: OrderedDict[str, Vector] = OrderedDict()
        self._size = config.text_cache
        self.found = 0
        """texts that did not have to be encoded"""

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, every row of length 1."""
        known = {text: self._kept[text] for text in dict.fromkeys(texts) if text in self._kept}
        self.found += len(known)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known |= zip(missing, await self.batcher.do(missing), strict=True)
        self._keep(known)
        return np.stack([known[text] for text in texts]) if texts else np.empty((0, self._dim), np.float32)

    def _keep(self, vectors: dict[str, Vector]) -> None:
        for text, vector in vectors.items():
            self._kept[text] = vector
            self._kept.move_to_end(text)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)


class Pictures:
    """Pictures to vectors: decoded in a pool, then encoded in batches."""

    def __init__(
        self,
        encoder: "Encoder",
        reading: Reading,
        config: ServerConfig,
        decoding: Pool,
        observe: Callable[[int], object],
    ) -> None:
        self._spec = encoder.image_spec
        self._reading = reading
        self._most = config.max_picture
        self._decoding = decoding
        self.batcher: Batcher[Pixels, Vector] = Batcher(
            "the image tower",
            partial(_encoded_pixels, encoder),
            most=config.max_batch,
            wait=config.batch_wait,
            limit=config.queue,
            observe=observe,
        )

    async def read(self, data: bytes, name: str) -> tuple[Picture, Pixels]:
        """A picture, and what the tower sees of it: (1, 3, height, width).

        Raises:
            Fault: 413, it is too long.
            RejectedImages: it cannot be read.
        """
        if len(data) > self._most:
            raise Fault(413, "too_large", f"{name} has {len(data):,} bytes; the most is {self._most:,}")
        return await self._decoding.run(self._read, data, name)

    async def encode(self, data: bytes, name: str) -> Vector:
        """(dim,) float32 of length 1; errors as `read`."""
        _, pixels = await self.read(data, name)
        return (await self.batcher.do([pixels]))[0]

    def _read(self, data: bytes, name: str) -> tuple[Picture, Pixels]:
        picture = read_image(data, name, self._reading)
        if isinstance(picture, Rejected):
            raise RejectedImages([picture])
        return picture, to_pixels(self._spec, [picture.image])


def _encoded(encoder: "Encoder", texts: Sequence[str]) -> list[Vector]:
    return list(encoder.encode_texts(list(texts)))


def _encoded_pixels(encoder: "Encoder", pixels: Sequence[Pixels]) -> list[Vector]:
    return list(encoder.encode_pixels(np.concatenate(pixels)))
