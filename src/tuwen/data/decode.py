"""A picture file to an upright, opaque RGB picture, or to the reason why it cannot be one.

Knows limits, and decoding at reduced scale. Does not know what a model makes of a picture (`pixels.py`), nor what
else is in a collection. Safe in any number of threads: no state, and Pillow's is left as it is.
"""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from tuwen.bundle.manifest import ImageSpec
from tuwen.data.files import open_file
from tuwen.data.formats import HEAD, format_of_content, format_of_name
from tuwen.data.pillow_warnings import quiet
from tuwen.types import Rejected

# ---- Which way up a picture is

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


# ---- HEIC and HEIF through pi-heif, but for files that it is known to crash on.


def open_heif(stream: IO[bytes]) -> "ImageFile":
    """The header read, the pixels not yet. They will come upright: libheif turns and mirrors them itself.

    Raises:
        ValueError: an item's type is no text, which pi-heif takes for granted.
        NotImplementedError: the picture is grey of more than 8 bits, by its header. pi-heif then widens the pixels
            in place, whatever depth they were really decoded to, beyond the end of their memory. (Colour is brought
            to 8 bits by libheif, which does look.)
    """
    from pi_heif import HeifImageFile

    content = stream.read()
    if not all(map(_is_text, _item_types(content))):
        raise ValueError("an item's type is no text")
    image: ImageFile = HeifImageFile(io.BytesIO(content))
    if image.mode.startswith("I"):
        raise NotImplementedError("grey of more than 8 bits in HEIF")
    return image


def _item_types(content: bytes) -> Iterator[bytes]:
    """The types, and the media types, that the file's item entries (`infe`, ISO 14496-12) give.

    Entries are found by their name, not by walking the boxes around them: in a damaged file those lie.
    """
    place = content.find(b"infe")
    while place >= 0:
        size = int.from_bytes(content[max(0, place - 4) : place], "big")
        entry = content[place + 4 : place - 4 + size]
        version = entry[0] if entry else 0
        if version < 2:  # version, flags, id, protection; then name and media type
            yield from entry[8:].split(b"\0")[1:2]
        else:  # a longer id since version 3; then type, name and media type
            rest = entry[8 if version == 2 else 10 :]
            yield rest[:4]
            yield from rest[4:].split(b"\0")[1:2]
        place = content.find(b"infe", place + 4)


def _is_text(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# ---- Any mode of Pillow to 8-bit RGB: transparency on white, deep greys scaled to what is white in them.

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


# ---- A picture file to an upright, opaque RGB picture, or to the reason why it cannot be one.

GAP = 3
"""a picture decoded at reduced scale keeps at least this many pixels, each way, for one that the resize makes"""
MAX_SLOW_PIXELS = 2**24
"""the most pixels in formats that Pillow decodes in Python, about a microsecond each"""
MAX_SCANS = 64
"""the most scans of a progressive JPEG: encoders make about 10, and each costs a pass over all pixels"""

_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\n\x02|\x0c\x03|\x0e\x04)")
_WHOLE = "tuwen_whole"


@dataclass(frozen=True, slots=True)
class Reading:
    """How pictures are read.

    Attributes:
        near: (height, width) that the picture will be resized to, or to cover: it may be decoded at reduced scale,
            never below `GAP` times that. None: every pixel is decoded.
        max_pixels: a picture of more is rejected before it is decoded.
    """

    near: tuple[int, int] | None
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that has been read.

    Attributes:
        image: mode RGB, upright, opaque. Where it was decoded at reduced scale, its `info` says what it stands for
            (see `whole_of`).
        width: of the upright picture in the file.
        height: of the upright picture in the file.
        format: of the file, e.g. `JPEG`.
    """

    image: Image.Image
    width: int
    height: int
    format: str


@dataclass(frozen=True, slots=True)
class Whole:
    """What an image decoded at reduced scale stands for.

    Attributes:
        width: of the whole picture.
        height: of the whole picture.
        box: the part of the image that the picture covers: its outer columns and rows may be cut short.
        size: (width, height) of the image that this is about.
    """

    width: int
    height: int
    box: Box
    size: tuple[int, int]


class _Refused(Exception):
    """The message is the reason."""


def reading_for(spec: ImageSpec, *, exact: bool, max_pixels: int) -> Reading:
    """How to read pictures for a model. `exact`: as the reference libraries, every pixel; else at reduced scale."""
    near = (spec.edge, spec.edge) if spec.edge else spec.size
    return Reading(near=None if exact else near, max_pixels=max_pixels)


def read_image(content: bytes | Path | Image.Image, path: str, reading: Reading) -> Picture | Rejected:
    """Read a picture: told by its content, its first frame decoded, turned upright, made opaque on white.

    Args:
        content: a file's bytes, a file, or an image of Pillow, which is loaded but not changed.
        path: what to call it. Its ending counts where a format has no mark of its own (TGA, PhotoCD).
        reading: how.

    Returns:
        The picture; or, whatever is wrong with it, the reason in a few words. Nothing is raised.
    """
    try:
        with quiet():
            if isinstance(content, Image.Image):
                return _read_pillow(content, reading)
            with _stream(content) as stream:
                return _read_stream(stream, path, reading)
    except Exception as error:  # a decoder may raise anything on a hostile file
        return Rejected(path, _reason(error))


def whole_of(image: Image.Image) -> Whole:
    """What an image stands for: itself, unless `read_image` made it at reduced scale and it still has that size."""
    whole = image.info.get(_WHOLE)
    if isinstance(whole, Whole) and whole.size == image.size:
        return whole
    return Whole(image.width, image.height, (0, 0, *image.size), image.size)


def _read_pillow(image: Image.Image, reading: Reading) -> Picture:
    _check_size(image.size, reading.max_pixels)
    image.load()
    return _finished(image, image.size, 1, reading)


def _read_stream(stream: BinaryIO, path: str, reading: Reading) -> Picture:
    image = _opened(stream, path)
    size = image.size
    _check_size(size, reading.max_pixels)
    _check_effort(image, stream)
    scale = _draft(image, reading)
    image.load()
    if scale == 1 and image.size != size:  # icons and HEIF say their true size only now
        size = image.size
        _check_size(size, reading.max_pixels)
    return _finished(image, size, scale, reading)


def _stream(content: bytes | Path) -> AbstractContextManager[BinaryIO]:
    return io.BytesIO(content) if isinstance(content, bytes) else open_file(content)


def _opened(stream: BinaryIO, path: str) -> ImageFile:
    """The header, read by the one reader that the first bytes call for."""
    head = stream.read(HEAD)
    stream.seek(0)
    if not head:
        raise _Refused("is empty")
    found = format_of_content(head) or format_of_name(path)
    if found is None:
        raise _Refused("is no picture of a known format")
    if found.why_not:
        raise _Refused(f"is {found.name}, which is not read: {found.why_not}")
    if found.mark and not found.mark.match(head):
        raise _Refused(f"is named like {found.name} but is no picture of a known format")
    return found.open(stream)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise _Refused(f"has no pixels ({width}x{height})")
    if width * height > max_pixels:
        raise _Refused(f"has {width * height:,} pixels ({width}x{height}), over the limit max_pixels={max_pixels:,}")


def _check_effort(image: ImageFile, stream: BinaryIO) -> None:
    """A small file must not keep a thread busy for minutes."""
    if image.width * image.height > MAX_SLOW_PIXELS and any(tile[0] in Image.DECODERS for tile in image.tile):
        raise _Refused(f"has over {MAX_SLOW_PIXELS:,} pixels in {image.format}, which is slow: convert it to PNG")
    if image.info.get("progressive"):
        place = stream.seek(0, io.SEEK_CUR)
        stream.seek(0)
        scans = sum(1 for _ in _SCAN.finditer(stream.read()))
        stream.seek(place)
        if scans > MAX_SCANS:
            raise _Refused(f"is a progressive JPEG of {scans} scans, over the limit of {MAX_SCANS}")


def _draft(image: ImageFile, reading: Reading) -> int:
    """Let the JPEG decoder leave out what the resize would: all but each 2nd, 4th or 8th pixel, averaged.

    Returns:
        By what the sides will be divided: 1, 2, 4 or 8.
    """
    if reading.near is None or image.format != "JPEG":
        return 1
    height, width = _near(reading.near, orientation_of(image))
    before = image.width
    drafted = image.draft(None, (GAP * width, GAP * height))
    return round(before / drafted[1][2]) if drafted else 1


def _near(near: tuple[int, int], orientation: int) -> tuple[int, int]:
    """`near` as it lies in the file, before the picture is turned upright."""
    return near[::-1] if is_sideways(orientation) else near


def _finished(image: Image.Image, size: tuple[int, int], scale: int, reading: Reading) -> Picture:
    """Colours, reduction, orientation. `size`: (width, height) in the file, of which `image` is a `scale`-th."""
    orientation = orientation_of(image)
    rgb = to_rgb(image)
    factor = 1
    if reading.near is not None:
        height, width = _near(reading.near, orientation)
        factor = max(1, min(rgb.width // (GAP * width), rgb.height // (GAP * height)))
    reduced = rgb.reduce(factor) if factor > 1 else rgb
    upright = turned(reduced, orientation)
    if upright is not image:
        upright.info = {}  # what was copied from the file, orientation and transparency, is no longer so
    width, height = size[::-1] if is_sideways(orientation) else size
    if scale * factor > 1:
        covered: Box = (0, 0, size[0] / (scale * factor), size[1] / (scale * factor))
        box = turned_box(covered, reduced.size, orientation)
        upright.info[_WHOLE] = Whole(width, height, box, upright.size)
    return Picture(upright, width, height, image.format or "")


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (_Refused, "{}"),
    (MemoryError, "needs more memory than there is"),
    (Image.DecompressionBombError, "has too many pixels: {}"),
    (NotImplementedError, "is of a kind that is not read: {}"),
)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    message = " ".join(str(error).split()) or type(error).__name__
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason.format(message)
    if isinstance(error, SyntaxError) and error.__cause__:  # the end, or nonsense, where a header should go on
        message = "its header cannot be read"
    return f"is damaged or cut short: {message[:120]}"
