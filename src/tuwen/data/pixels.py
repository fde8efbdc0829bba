"""Pictures to the numbers that a vision tower reads: resized, cropped or padded, scaled, normalised.

Knows the geometry and arithmetic of open_clip's and transformers' preprocessing, and equals them (1e-6) on pictures
that were decoded exactly. Does not know files.
"""

from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen.bundle.manifest import ImageSpec
from tuwen.data.decode import Box, whole_of
from tuwen.errors import InvalidInput
from tuwen.types import Pixels

MAX_RESIZED = 2**25
"""the most pixels that are made only to be cropped away. Of a strip longer than that allows (over 600:1) only what
the crop shows is made, which may differ from the references by a grey level, since Pillow's boxes are float32"""

Channels: TypeAlias = tuple[float, float, float]

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


def to_pixels(spec: ImageSpec, images: Sequence[Image.Image]) -> Pixels:
    """Prepare pictures for a model's vision tower.

    Args:
        spec: how.
        images: RGB, upright, opaque, as `read_image` gives them.

    Returns:
        (n, 3, height, width) float32.

    Raises:
        InvalidInput: an image is of another mode.
    """
    pixels = np.empty((len(images), 3, *spec.size), dtype=np.float32)
    for index, image in enumerate(images):
        if image.mode != "RGB":
            raise InvalidInput(f"picture {index} is of mode {image.mode}, not RGB: read it with read_image first")
        normalise(spec, framed(spec, image), pixels[index])
    return pixels


def normalise(spec: ImageSpec, picture: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Scale and normalise a picture of the tower's size.

    Args:
        spec: how.
        picture: (height, width, 3) uint8.
        out: (3, height, width) float32, which is filled.
    """
    for channel, levels in enumerate(_levels(spec.mean, spec.std)):
        np.take(levels, picture[:, :, channel], out=out[channel], mode="clip")  # every grey level is there


def resized_size(spec: ImageSpec, height: int, width: int) -> tuple[int, int]:
    """(height, width) that a picture is resized to before it is cropped or padded.

    With `resize_rounding` `floor` as torchvision's `Resize(int)` and transformers' `shortest_edge`; with `round`,
    and for `pad`, as open_clip's `ResizeKeepRatio`, whose order of operations decides ties. Never 0, where
    open_clip fails on a strip.
    """
    if spec.resize == "squash":
        return spec.size
    if spec.resize == "shortest" and spec.resize_rounding == "floor":
        edge = spec.edge or spec.size[0]
        longer = int(edge * max(height, width) / min(height, width))
        return (longer, edge) if width <= height else (edge, longer)
    ratios = (height / spec.size[0], width / spec.size[1])
    ratio = max(ratios) if spec.resize == "pad" else min(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


@cache
def _levels(mean: Channels, std: Channels) -> list[NDArray[np.float32]]:
    """What each of the 256 grey levels becomes, per channel: computed in float32 and in torchvision's order."""
    scaled = np.arange(256, dtype=np.float32) / np.float32(255)
    return [(scaled - np.float32(low)) / np.float32(wide) for low, wide in zip(mean, std, strict=True)]


def framed(spec: ImageSpec, image: Image.Image) -> NDArray[np.uint8]:
    """The picture resized and brought to the tower's size, (h, w, 3)."""
    whole = whole_of(image)
    resized = resized_size(spec, whole.height, whole.width)
    if spec.resize == "pad":
        return _padded(spec, _resized(spec, image, resized, whole.box))
    top, left = (_start(spec, have - want) for have, want in zip(resized, spec.size, strict=True))
    is_reduced = image.size != (whole.width, whole.height)
    if is_reduced or resized[0] * resized[1] > MAX_RESIZED:  # only what the crop shows: a quarter less work
        return _resized(spec, image, spec.size, _within(whole.box, (top, left), spec.size, resized))
    return _resized(spec, image, resized, whole.box)[top : top + spec.size[0], left : left + spec.size[1]]


def _resized(spec: ImageSpec, image: Image.Image, size: tuple[int, int], box: Box) -> NDArray[np.uint8]:
    return np.asarray(image.resize(size[::-1], FILTERS[spec.interpolation], box=box))


def _start(spec: ImageSpec, margin: int) -> int:
    """Where a centre crop starts: half the margin, of which a tie goes to the even side, or down."""
    return round(margin / 2) if spec.crop_rounding == "round" else margin // 2


def _within(box: Box, start: tuple[int, int], size: tuple[int, int], resized: tuple[int, int]) -> Box:
    """The part of `box` that a crop of `size` at `start` shows, once the whole of `box` is `resized`."""
    left, top, right, bottom = box
    across, down = (right - left) / resized[1], (bottom - top) / resized[0]
    edge = left + start[1] * across, top + start[0] * down
    return *edge, min(right, edge[0] + size[1] * across), min(bottom, edge[1] + size[0] * down)


def _padded(spec: ImageSpec, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """In the middle of a grey field; of an odd border, the right and lower side has more."""
    height, width = picture.shape[:2]
    top, left = (spec.size[0] - height) // 2, (spec.size[1] - width) // 2
    field = np.full((*spec.size, 3), spec.fill, dtype=np.uint8)
    field[top : top + height, left : left + width] = picture
    return field
