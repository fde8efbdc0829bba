"""EXIF orientation: reading it, and turning images and boxes upright."""

from PIL import ExifTags, Image

Box = tuple[float, float, float, float]
"""left, top, right, bottom, in pixels"""

_TRANSPOSED = (5, 6, 7, 8)
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8, from EXIF or XMP; 1 if there is none, or none that can be read.

    Pillow's TIFF reader and libheif apply the orientation themselves, and then report 1 once the image is loaded.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF can raise anything, and says nothing about the pixels
        return 1
    return orientation if orientation in _TRANSPOSE else 1


def swaps_axes(orientation: int) -> bool:
    """Whether applying the orientation exchanges width and height."""
    return orientation in _TRANSPOSED


def apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned upright; `image` itself if it is upright already."""
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def orient_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a box lies after an image of `size` (width, height) has been turned upright."""
    left, top, right, bottom = box
    width, height = size
    if swaps_axes(orientation):  # transpose first; what remains are flips
        left, top, right, bottom = top, left, bottom, right
        width, height = height, width
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
