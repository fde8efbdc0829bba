"""Decode image files: to an upright, opaque RGB image, or to the reason why a file cannot be read.

JPEGs can be decoded at reduced scale, which is several times faster. Safe in any number of threads.
"""

import io
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO, BinaryIO

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from tuwen.bundle.manifest import ImageSpec
from tuwen.data.animation import ANIMATED, frame_to_show
from tuwen.data.colour import profile_of, to_rgb, to_srgb
from tuwen.data.exif import Box, apply_orientation, orient_box, orientation_of, swaps_axes
from tuwen.data.extra_formats import is_raw, open_raw
from tuwen.data.files import open_file
from tuwen.data.formats import HEAD, format_of, format_of_content
from tuwen.data.metadata import read_metadata
from tuwen.data.pillow_warnings import ignore_warnings
from tuwen.data.repair import without_metadata
from tuwen.errors import MissingExtra
from tuwen.types import Payload, Rejected

GAP = 4
"""a JPEG decoded at reduced scale keeps at least this many pixels, each way, for each one after the resize: then the
cosine to vectors of full decoding is at least 0.99999 for most models (docs/decisions/0005)"""
MAX_JPEG_PIXELS = 2**30
"""the most pixels of a JPEG that is decoded at reduced scale: 10 seconds"""
LARGE_PIXELS = 2**26
"""images of more pixels in memory are decoded one at a time, in however many threads"""
MAX_SLOW_PIXELS = 2**24
"""the most pixels in formats that Pillow decodes in Python, which takes about a microsecond each"""
MAX_SCANS = 64
"""the most scans of a progressive JPEG: encoders make about 10, and each costs a pass over all pixels"""
MAX_REPAIRED = 2**28
"""the most bytes of a file that is read again without its metadata"""

_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\n\x02|\x0c\x03|\x0e\x04)")
_ORIGINAL = "tuwen_original"
_one_large = Lock()


@dataclass(frozen=True, slots=True)
class Reading:
    """How images are decoded.

    Attributes:
        near: (height, width) that the image will be resized to, or to cover: a JPEG may be decoded at reduced scale,
            but not below `GAP` times that. None: at full scale.
        max_pixels: images that would need more pixels in memory are rejected before they are decoded. A JPEG that is
            decoded at reduced scale needs as many as it is reduced to, unless it is progressive.
        metadata: also read when and where it was taken, and with what.
        srgb: convert colours from the image's own profile to sRGB; the reference libraries ignore profiles.
    """

    near: tuple[int, int] | None
    max_pixels: int
    metadata: bool = False
    srgb: bool = True


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image.

    Attributes:
        image: mode RGB, upright, opaque. If it was decoded at reduced scale, `original_of` tells its full size.
        width: of the upright image in the file.
        height: of the upright image in the file.
        format: of the file, e.g. `JPEG`.
        metadata: see `metadata.read_metadata`; empty if it was not asked for.
    """

    image: Image.Image
    width: int
    height: int
    format: str
    metadata: Payload = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Original:
    """The full-size image that an image decoded at reduced scale represents.

    Attributes:
        width: of the full-size image.
        height: of the full-size image.
        box: the part of the reduced image that the original covers: its last column and row may be partial.
        size: (width, height) of the reduced image.
    """

    width: int
    height: int
    box: Box
    size: tuple[int, int]


class _Refused(Exception):
    """The message is the reason."""


def reading_for(spec: ImageSpec, *, exact: bool, max_pixels: int, reduced: bool = True) -> Reading:
    """How to decode images for a model.

    Args:
        spec: the model's image spec.
        exact: as the reference libraries, at full scale.
        max_pixels: see `Reading`.
        reduced: whether JPEGs may be decoded at reduced scale.
    """
    near = (spec.edge, spec.edge) if spec.edge else spec.size
    return Reading(near if reduced and not exact else None, max_pixels, metadata=True, srgb=not exact)


def read_image(content: bytes | Path | Image.Image, path: str, reading: Reading) -> Picture | Rejected:
    """Decode an image. Its format is recognised by its content; of an animation, the first frame that is not blank.

    Args:
        content: a file's content, a file, or a Pillow image, which is loaded but not modified.
        path: what to call it if it is rejected. Its extension decides for formats without a signature (TGA, PhotoCD).
        reading: how to decode it.

    Returns:
        The image; or the reason why it cannot be read. Nothing is raised, whatever is wrong with the file.
    """
    try:
        with ignore_warnings():
            if isinstance(content, Image.Image):
                return _read_pillow(content, reading)
            with _stream(content) as stream:
                return _read_sound(stream, path, reading)
    except Exception as error:  # a decoder may raise anything on a hostile file
        return Rejected(path, _reason(error))


def read_metadata_of(content: bytes | Path, path: str) -> Payload | Rejected:
    """The metadata of an image, see `metadata.read_metadata`, mostly without decoding it.

    A PNG may have it at its end, and Pillow applies the orientation of a TIFF: these are decoded.

    Args:
        content: as of `read_image`.
        path: likewise.

    Returns:
        The metadata; or the reason why the file cannot be read. Nothing is raised.
    """
    try:
        with ignore_warnings(), _stream(content) as stream:
            image = _opened(stream, path)
            if image.format in ("PNG", "TIFF"):
                image.load()
            return read_metadata(image)
    except Exception as error:  # as in `read_image`
        return Rejected(path, _reason(error))


def original_of(image: Image.Image) -> Original:
    """The full size of an image that `read_image` decoded at reduced scale; of any other image, its own size."""
    original = image.info.get(_ORIGINAL)
    if isinstance(original, Original) and original.size == image.size:
        return original
    return Original(image.width, image.height, (0, 0, *image.size), image.size)


def _read_pillow(image: Image.Image, reading: Reading) -> Picture:
    _check_size(image.size, reading.max_pixels)
    image.load()
    return _finished(image, to_rgb(image), image.size, 1, reading)


def _read_sound(stream: BinaryIO, path: str, reading: Reading) -> Picture:
    """Read an image; if that fails, read it without its metadata, which may be all that is damaged or too large."""
    try:
        return _read_stream(stream, path, reading)
    except _Refused:
        raise
    except Exception:  # as in `read_image`
        if stream.seek(0, io.SEEK_END) > MAX_REPAIRED:
            raise
        stream.seek(0)
        pixels = without_metadata(stream.read())
        if pixels is None:
            raise
        with suppress(Exception):  # the first error says what is wrong
            return _read_stream(io.BytesIO(pixels), path, reading)
        raise


def _read_stream(stream: BinaryIO, path: str, reading: Reading) -> Picture:
    image = _opened(stream, path)
    size = image.size
    scale = _draft(image, reading)
    _check_size(size, reading.max_pixels, 1 if image.info.get("progressive") else scale)
    _check_effort(image, stream)
    with _one_large if image.width * image.height > LARGE_PIXELS else nullcontext():
        return _loaded(image, size, scale, reading)


def _loaded(image: ImageFile, size: tuple[int, int], scale: int, reading: Reading) -> Picture:
    image.load()
    if scale == 1 and image.size != size:  # the true size of icons and HEIF is known only after loading
        size = image.size
        _check_size(size, reading.max_pixels)
    rgb = frame_to_show(image, reading.max_pixels) if image.format in ANIMATED else to_rgb(image)
    return _finished(image, rgb, size, scale, reading)


def _stream(content: bytes | Path) -> AbstractContextManager[BinaryIO]:
    return io.BytesIO(content) if isinstance(content, bytes) else open_file(content)


def _opened(stream: BinaryIO, path: str) -> ImageFile:
    """The image with its header read, by the reader of the format that the first bytes show."""
    head = stream.read(HEAD)
    stream.seek(0)
    if not head:
        raise _Refused("is empty")
    found = format_of(head, path)
    if found is None:
        raise _Refused("is not a recognised image format")
    if found.unsupported:
        raise _Refused(f"is in the format {found.name}, which is not supported: {found.unsupported}")
    if found.signature and format_of_content(head) is None:
        raise _Refused(f"has a {found.name} extension but is not a recognised image format")
    image = found.open(stream)
    if found.name == "TIFF" and is_raw(image):
        stream.seek(0)
        return open_raw(stream)
    return image


def _check_size(size: tuple[int, int], max_pixels: int, scale: int = 1) -> None:
    """Refuse an image that would need too many pixels in memory. `scale`: the factor by which it is reduced before."""
    width, height = size
    if width < 1 or height < 1:
        raise _Refused(f"has no pixels ({width}x{height})")
    if width * height > min(max_pixels * scale**2, max(max_pixels, MAX_JPEG_PIXELS)):
        raise _Refused(f"has {width * height:,} pixels ({width}x{height}), over the limit max_pixels={max_pixels:,}")


def _check_effort(image: ImageFile, stream: BinaryIO) -> None:
    """Refuse small files that would keep a thread busy for minutes."""
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
    """Let the JPEG decoder reduce the image, as far as the resize would anyway.

    Returns:
        The factor: 1, 2, 4 or 8.
    """
    if reading.near is None or not isinstance(image, JpegImageFile):
        return 1
    height, width = _in_file(reading.near, orientation_of(image))
    before = image.width
    drafted = image.draft(None, (GAP * width, GAP * height))
    return round(before / drafted[1][2]) if drafted else 1


def _in_file(near: tuple[int, int], orientation: int) -> tuple[int, int]:
    """`near` for the image as it is stored, before its orientation is applied."""
    return near[::-1] if swaps_axes(orientation) else near


def _finished(image: Image.Image, rgb: Image.Image, size: tuple[int, int], scale: int, reading: Reading) -> Picture:
    """Convert colours to sRGB if that is asked for, and apply the orientation.

    Args:
        image: as it was loaded.
        rgb: its pixels, in mode RGB.
        size: (width, height) in the file.
        scale: the factor by which `image` was reduced when it was decoded.
        reading: how to decode it.
    """
    orientation = orientation_of(image)
    metadata = read_metadata(image) if reading.metadata else {}
    profile = profile_of(image) if reading.srgb else None
    if profile:
        rgb = to_srgb(image if image.mode == "CMYK" else rgb, profile)
    upright = apply_orientation(rgb, orientation)
    if upright is not image:
        upright.info = {}  # what was copied from the file, such as orientation and transparency, no longer holds
    width, height = size[::-1] if swaps_axes(orientation) else size
    if scale > 1:
        covered: Box = (0, 0, size[0] / scale, size[1] / scale)
        box = orient_box(covered, rgb.size, orientation)
        upright.info[_ORIGINAL] = Original(width, height, box, upright.size)
    return Picture(upright, width, height, image.format or "", metadata)


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (_Refused, "{}"),
    (MissingExtra, "is in a format that needs an optional package: {}"),
    (MemoryError, "needs more memory than is available"),
    (Image.DecompressionBombError, "has too many pixels: {}"),
    (NotImplementedError, "is of a kind that is not supported: {}"),
)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    said = error.args[0] if error.args else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(error)  # LibRaw's errors are bytes
    message = " ".join(text.split()) or type(error).__name__
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason.format(message)
    if isinstance(error, SyntaxError) and error.__cause__:  # the file ends, or has nonsense, within a header
        message = "its header cannot be read"
    return f"is damaged or truncated: {message[:120]}"


def open_heif(stream: IO[bytes]) -> ImageFile:
    """Open HEIC or HEIF with pi-heif: the header is read, the pixels not yet. libheif applies the orientation.

    Files that are known to crash pi-heif are refused.

    Raises:
        ValueError: an item's type is not UTF-8, which pi-heif takes for granted.
        NotImplementedError: the header says grey of more than 8 bits. pi-heif would widen the pixels in place,
            whatever their decoded depth, past the end of their memory. (libheif itself reduces colour to 8 bits.)
    """
    from pi_heif import HeifImageFile

    content = stream.read()
    if not all(map(_is_utf8, _item_types(content))):
        raise ValueError("an item's type is not UTF-8")
    image: ImageFile = HeifImageFile(io.BytesIO(content))
    if image.mode.startswith("I"):
        raise NotImplementedError("grey of more than 8 bits in HEIF")
    return image


def _item_types(content: bytes) -> Iterator[bytes]:
    """The types and media types in a file's item entries (`infe`, ISO 14496-12).

    Entries are found by name, not by walking the boxes around them: in a damaged file, the boxes' sizes are wrong.
    """
    place = content.find(b"infe")
    while place >= 0:
        size = int.from_bytes(content[max(0, place - 4) : place], "big")
        entry = content[place + 4 : place - 4 + size]
        version = entry[0] if entry else 0
        if version < 2:  # version, flags, id, protection; then name and media type
            yield from entry[8:].split(b"\0")[1:2]
        else:  # the id is longer from version 3; then type, name and media type
            rest = entry[8 if version == 2 else 10 :]
            yield rest[:4]
            yield from rest[4:].split(b"\0")[1:2]
        place = content.find(b"infe", place + 4)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
