"""Animations: the frame that stands for the whole. Many begin with an empty or a black frame."""

from contextlib import suppress

from PIL import Image
from PIL.ImageFile import ImageFile

from tuwen.data.colour import to_rgb

ANIMATED = frozenset({"GIF", "PNG", "WEBP", "AVIF", "FLI"})
"""formats whose further images are frames; those of TIFF, PSD or icons are pages, layers or sizes"""
CONTRAST = 48
"""the difference of the darkest and the brightest value, 0 to 255, from which a frame shows something"""
MAX_FRAMES = 100
"""the most frames that are looked at"""


def frame_to_show(image: ImageFile, max_pixels: int) -> Image.Image:
    """The first frame that shows something, in mode RGB; if none does, the first.

    Args:
        image: loaded, at its first frame.
        max_pixels: the most pixels to decode for this.
    """
    first = to_rgb(image)
    if _shows(first):
        return first
    if first is image:
        first = image.copy()  # the next frame takes the place of this one
    with suppress(Exception):  # the animation ends, or what follows is damaged
        for number in range(1, min(MAX_FRAMES, max_pixels // (image.width * image.height))):
            image.seek(number)
            if _shows(frame := to_rgb(image)):
                return frame
    return first


def _shows(image: Image.Image) -> bool:
    return max(high - low for low, high in image.getextrema()) >= CONTRAST  # type: ignore[misc]
