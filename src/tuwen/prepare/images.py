"""A picture file to an upright, opaque RGB picture, or to the reason why it cannot be one.

Knows limits, and decoding at reduced scale. Does not know what a model makes of a picture (`pixels.py`), nor what
else is in a collection. Safe in any number of threads: no state, and Pillow's is left as it is.
"""

import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.ImageFile import ImageFile

from tuwen.bundle.manifest import ImageSpec
from tuwen.prepare.colours import to_rgb
from tuwen.prepare.formats import HEAD, format_of_content, format_of_name
from tuwen.prepare.quiet import quiet
from tuwen.prepare.sources import open_file
from tuwen.prepare.upright import Box, is_sideways, orientation_of, turned, turned_box
from tuwen.types import Rejected

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
        raise _Refused(
            f"has {width * height:,} pixels ({width}x{height}), over the limit max_pixels={max_pixels:,}"
        )


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
