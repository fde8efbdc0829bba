"""Which way up a picture is, and turning it: EXIF orientation, with the box that a picture covers in its image.

Knows the eight orientations. Does not know files.
"""

from PIL import ExifTags, Image

Box = tuple[float, float, float, float]
"""left, top, right, bottom, in pixels"""

_ON_ITS_SIDE = (5, 6, 7, 8)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """1 (upright) to 8, from EXIF or XMP; 1 where there is none, or none that can be read.

    Readers that turn a picture themselves (TIFF, HEIF) leave 1 behind once it is loaded.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF raises anything, and says nothing about the pixels
        return 1
    return orientation if orientation in _TURNS else 1


def is_sideways(orientation: int) -> bool:
    """Whether turning it upright exchanges width and height."""
    return orientation in _ON_ITS_SIDE


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned upright; `image` itself where it is."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def turned_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a box comes to lie when an image of `size` (width, height) is turned upright."""
    left, top, right, bottom = box
    width, height = size
    if is_sideways(orientation):  # first as if by TRANSPOSE, which exchanges the axes; the rest are flips after it
        left, top, right, bottom = top, left, bottom, right
        width, height = height, width
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
