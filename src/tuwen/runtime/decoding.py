"""Pictures as people hand them over, decoded in a few threads, a batch ahead of who encodes them.

Knows paths, bytes and images of Pillow. Does not know models.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from tuwen.errors import InvalidInput
from tuwen.prepare.images import Picture, Reading, read_image
from tuwen.runtime.machine import usable_cores
from tuwen.types import Rejected

AnyImage: TypeAlias = Path | str | bytes | Image.Image
Decoded: TypeAlias = Picture | Rejected


def decode(images: Sequence[AnyImage], reading: Reading, batch: int) -> Iterator[list[Decoded]]:
    """Decode pictures, in order, `batch` at a time; the next batch is decoded while the caller has this one.

    Args:
        images: paths, contents of files, or images of Pillow. One of the latter two is called `images[N]` where it
            is rejected.
        reading: how.
        batch: at least 1.

    Raises:
        InvalidInput: one picture where several are wanted.
    """
    if isinstance(images, str | bytes | Path | Image.Image):
        raise InvalidInput("one picture was given where several are wanted: put it into a list")
    with ThreadPoolExecutor(min(usable_cores(), batch), "tuwen-decode") as pool:
        waiting: list[Future[Decoded]] = []
        for start in range(0, len(images), batch):
            numbered = enumerate(images[start : start + batch], start)
            following = [pool.submit(_decode, number, image, reading) for number, image in numbered]
            if waiting:
                yield [future.result() for future in waiting]
            waiting = following
        if waiting:
            yield [future.result() for future in waiting]


def _decode(number: int, image: AnyImage, reading: Reading) -> Decoded:
    if isinstance(image, str | Path):
        return read_image(Path(image), str(image), reading)
    return read_image(image, f"images[{number}]", reading)
