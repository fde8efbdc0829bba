"""Image preprocessing: decoded images to the pixels that an image tower reads.

Resizing, cropping or padding, scaling and normalisation follow open_clip and transformers, and equal them within
1e-6 on images that were decoded at full scale.
"""

from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen.bundle.manifest import ImageSpec
from tuwen.data.decode import original_of
from tuwen.data.exif import Box
from tuwen.errors import InvalidInput
from tuwen.types import Pixels

MAX_RESIZED = 2**25
"""the most pixels that an image is resized to before the crop. Of longer strips (over 600:1) only the crop is computed,
which may differ from the references by one grey level, because Pillow's boxes are float32"""

Channels: TypeAlias = tuple[float, float, float]

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


def to_pixels(spec: ImageSpec, images: Sequence[Image.Image]) -> Pixels:
    """Preprocess images for a model's image tower.

    Args:
        spec: the model's image spec.
        images: mode RGB, upright, opaque, as `read_image` returns them.

    Returns:
        (n, 3, height, width) float32.

    Raises:
        InvalidInput: an image has another mode.
    """
    pixels = np.empty((len(images), 3, *spec.size), dtype=np.float32)
    for index, image in enumerate(images):
        if image.mode != "RGB":
            message = f"image {index} has the mode {image.mode}, not RGB: decode it with read_image first"
            raise InvalidInput(message, value=image.mode, where=index)
        normalise(spec, framed(spec, image), pixels[index])
    return pixels


def normalise(spec: ImageSpec, picture: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Scale and normalise an image that has the tower's size.

    Args:
        spec: the model's image spec.
        picture: (height, width, 3) uint8.
        out: (3, height, width) float32, receives the result.
    """
    for channel, levels in enumerate(_levels(spec.mean, spec.std)):
        np.take(levels, picture[:, :, channel], out=out[channel], mode="clip")  # "raise" would be slower


def resized_size(spec: ImageSpec, height: int, width: int) -> tuple[int, int]:
    """(height, width) that an image is resized to before it is cropped or padded.

    With `resize_rounding` `floor` as torchvision's `Resize(int)` and transformers' `shortest_edge`; with `round`,
    and for `pad`, as open_clip's `ResizeKeepRatio`, in its order of operations, which decides ties. At least 1, where
    open_clip fails on a narrow strip.
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
    """The normalised value of each of the 256 levels, per channel: in float32 and in torchvision's order."""
    scaled = np.arange(256, dtype=np.float32) / np.float32(255)
    return [(scaled - np.float32(low)) / np.float32(wide) for low, wide in zip(mean, std, strict=True)]


def framed(spec: ImageSpec, image: Image.Image) -> NDArray[np.uint8]:
    """The image resized, and cropped or padded to the tower's size, (h, w, 3)."""
    original = original_of(image)
    resized = resized_size(spec, original.height, original.width)
    if spec.resize == "pad":
        return _padded(spec, _resized(spec, image, resized, original.box))
    top, left = (_start(spec, have - want) for have, want in zip(resized, spec.size, strict=True))
    is_reduced = image.size != (original.width, original.height)
    if is_reduced or resized[0] * resized[1] > MAX_RESIZED:  # only the crop is computed: a quarter less work
        return _resized(spec, image, spec.size, _within(original.box, (top, left), spec.size, resized))
    return _resized(spec, image, resized, original.box)[top : top + spec.size[0], left : left + spec.size[1]]


def _resized(spec: ImageSpec, image: Image.Image, size: tuple[int, int], box: Box) -> NDArray[np.uint8]:
    return np.asarray(image.resize(size[::-1], FILTERS[spec.interpolation], box=box))


def _start(spec: ImageSpec, margin: int) -> int:
    """Where a centre crop starts: half the margin, rounded to even or down."""
    return round(margin / 2) if spec.crop_rounding == "round" else margin // 2


def _within(box: Box, start: tuple[int, int], size: tuple[int, int], resized: tuple[int, int]) -> Box:
    """The part of `box` that a crop of `size` at `start` shows, after all of `box` is resized to `resized`."""
    left, top, right, bottom = box
    across, down = (right - left) / resized[1], (bottom - top) / resized[0]
    edge = left + start[1] * across, top + start[0] * down
    return *edge, min(right, edge[0] + size[1] * across), min(bottom, edge[1] + size[0] * down)


def _padded(spec: ImageSpec, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Centred on a background; an odd border is wider at the right and at the bottom."""
    height, width = picture.shape[:2]
    top, left = (spec.size[0] - height) // 2, (spec.size[1] - width) // 2
    background = np.full((*spec.size, 3), spec.fill, dtype=np.uint8)
    background[top : top + height, left : left + width] = picture
    return background
