"""Any mode of Pillow to 8-bit RGB: transparency on white, deep greys scaled to what is white in them.

Knows pixel values. Does not know files, sizes or orientation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_WHITE = (255, 255, 255, 255)
_DEPTHS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture as mode RGB, opaque; `image` itself if it is that already.

    Transparency is composed on white, as transformers' image processors do it. Greys of 16 bits are scaled so that
    65535 is white, but in a TIFF the greatest value of as many bits as are in use (8, 10, 12, 14 or 16), since
    cameras and microscopes fill only those. Where no value is white by itself (floats, 32-bit integers), the first
    of 1 (floats), 255, 65535 that none exceeds is; else the range is from the least to the greatest value.
    """
    if image.mode in _DEEP:
        return _deep_grey(image).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    layer = image.convert("LA") if image.mode == "La" else image
    layer = layer.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image)  # (h, w)
    low, high = _range(image, values)
    with np.errstate(all="ignore"):  # floats may be anything: infinite, not a number, too large to subtract
        scaled = np.subtract(values, low, dtype=np.float32)
        scaled *= np.float32(255) / np.float32(high - low)
        np.nan_to_num(scaled, copy=False)
        grey = np.rint(scaled, out=scaled).clip(0, 255).astype(np.uint8)
    if _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _range(image: Image.Image, values: NDArray[Any]) -> tuple[float, float]:
    """The values that are black and white."""
    if image.mode.startswith("I;16"):
        in_use = _DEPTHS if _tags(image) else _DEPTHS[-1:]
        return 0.0, next(white for white in in_use if values.max() <= white)
    if image.format in ("PNG", "PPM") and image.mode == "I":
        return 0.0, 65535.0
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0:
        whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        for white in whites:
            if high <= white:
                return 0.0, white
    return low, high if high > low else low + 1


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """A TIFF's tags by number; of anything else, none."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    return tags
