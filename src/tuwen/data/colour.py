"""Colour conversion: any Pillow mode to opaque 8-bit RGB."""

import io
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_WHITE = (255, 255, 255, 255)
_DEPTHS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to mode RGB, opaque. An image that is so already is returned as it is.

    Transparency is composed on white, as the image processors of transformers do it. 16-bit greys are scaled so that
    65535 is white; in a TIFF, white is the largest value of the bit depth in use (8, 10, 12, 14 or 16), because
    cameras and microscopes fill only those bits. Floats and 32-bit integers have no white of their own: it is the
    first of 1 (floats only), 255 and 65535 that no value exceeds, or else the range of the values is stretched.
    """
    if image.mode in _DEEP:
        return _deep_grey(image).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    layer = image.convert("LA") if image.mode == "La" else image
    layer = layer.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")


def profile_of(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The colour profile of an RGB or CMYK image, such as Display P3; None if it has sRGB, none, or a damaged one."""
    raw = image.info.get("icc_profile")
    if not isinstance(raw, bytes) or not raw:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        facts: Any = profile.profile
        space = facts.xcolor_space.strip()
        known = "srgb" in (facts.profile_description or "").lower().replace(" ", "")
    except (OSError, ImageCms.PyCMSError, AttributeError):
        return None
    fits = space == "CMYK" if image.mode == "CMYK" else space == "RGB" and image.mode not in ("L", "LA", "1", *_DEEP)
    return profile if fits and not known else None


def to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """Convert the colours of an RGB or CMYK image from those of its profile to sRGB; mode RGB."""
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        made = ImageCms.profileToProfile(image, profile, _srgb(), intent, "RGB", flags=flags)
    except ImageCms.PyCMSError:  # a profile that cannot be converted from
        made = None
    return image.convert("RGB") if made is None else made


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image)  # (h, w)
    low, high = _range(image, values)
    with np.errstate(all="ignore"):  # floats may be infinite, not a number, or too large to subtract
        scaled = np.subtract(values, low, dtype=np.float32)
        scaled *= np.float32(255) / np.float32(high - low)
        np.nan_to_num(scaled, copy=False)
        grey = np.rint(scaled, out=scaled).clip(0, 255).astype(np.uint8)
    if _tiff_tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _range(image: Image.Image, values: NDArray[Any]) -> tuple[float, float]:
    """The values of black and white."""
    if image.mode.startswith("I;16"):
        in_use = _DEPTHS if _tiff_tags(image) else _DEPTHS[-1:]
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


def _tiff_tags(image: Image.Image) -> Mapping[int, Any]:
    """A TIFF's tags by number; empty for other formats."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    return tags
