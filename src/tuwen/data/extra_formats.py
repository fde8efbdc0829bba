"""Formats that an extra of the installation reads: RAW files of cameras (rawpy), and JPEG XL (pylibjxl)."""

import io
from typing import IO, Any

from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PpmImagePlugin import PpmImageFile

from tuwen.data.formats import RAW
from tuwen.errors import require

PREVIEW = 1024
"""pixels of the longer side below which an embedded preview is a thumbnail, and the photo is developed instead"""
SECONDS = 60.0
"""the longest that one JPEG XL file may take"""

RAW_EXIF = "tuwen_raw_exif"
"""under this name, an image's `info` has the EXIF of the RAW file that it is the preview of"""
MOST_EXIF = 2**24
"""bytes at the beginning of a RAW file within which its metadata is read"""

_TIFF_LIKE = {b"II*\0": (b"II*\0", b"IIRO", b"IIRS", b"IIU\0"), b"MM\0*": (b"MM\0*", b"MMOR")}
_MAKE, _SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 271, 254, 330, 50706


def open_raw(stream: IO[bytes]) -> ImageFile:
    """Open the preview in a RAW file, which the camera developed; most cameras embed one of full size.

    A file without a preview, or with a thumbnail only, is developed at half its size.

    Raises:
        MissingExtra: rawpy is not installed.
    """
    rawpy = require("rawpy", extra="raw")
    exif = _exif(stream)
    with rawpy.imread(stream) as raw:
        image = _preview(rawpy, raw)
        least = min(PREVIEW, max(raw.sizes.width, raw.sizes.height) // 2)
        if image is None or max(image.size) < least:
            image = _developed(raw)
        image.info[RAW_EXIF] = exif or _exif_by_libraw(raw)
    image.format = RAW
    return image


def _exif(stream: IO[bytes]) -> Image.Exif | None:
    """The EXIF around the preview; None if the file is no TIFF (CR3, RAF). ORF and RW2 differ in their first bytes."""
    content = stream.read(MOST_EXIF)
    stream.seek(0)
    order = next((order for order, heads in _TIFF_LIKE.items() if content.startswith(heads)), None)
    if order is None:
        return None
    exif = Image.Exif()
    try:
        exif.load(order + content[4:])
    except Exception:  # damaged metadata can raise anything, and says nothing about the pixels
        return None
    return exif


def _exif_by_libraw(raw: Any) -> Image.Exif:  # noqa: ANN401
    """What LibRaw tells of a photo, as EXIF has it."""
    exif, other = Image.Exif(), raw.other
    found = {
        ExifTags.Base.DateTimeOriginal: f"{other.timestamp:%Y:%m:%d %H:%M:%S}" if other.timestamp else None,
        ExifTags.Base.ISOSpeedRatings: round(other.iso_speed),
        ExifTags.Base.FocalLength: other.focal_length,
        ExifTags.Base.LensModel: raw.lens.model,
    }
    exif.update({tag: value for tag, value in found.items() if value})
    return exif


def _preview(rawpy: Any, raw: Any) -> ImageFile | None:  # noqa: ANN401  (an optional package)
    """The largest JPEG in the file; LibRaw gives it the orientation of the photo."""
    try:
        preview = raw.extract_thumb()
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        return None
    return JpegImageFile(io.BytesIO(preview.data)) if preview.format == rawpy.ThumbFormat.JPEG else None


def _developed(raw: Any) -> ImageFile:  # noqa: ANN401
    """Developed with the camera's white balance, upright, at half the size."""
    file = io.BytesIO()
    Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True)).save(file, "PPM")
    file.seek(0)
    return PpmImageFile(file)


def is_raw(image: ImageFile) -> bool:
    """Whether a file that begins like a TIFF is a RAW file: a DNG, or a camera's thumbnail before further images."""
    tags = getattr(image, "tag_v2", {})
    reduced = tags.get(_SUBFILE_TYPE) == 1 and _SUB_IFDS in tags and _MAKE in tags
    return _DNG_VERSION in tags or reduced


def open_jxl(stream: IO[bytes]) -> ImageFile:
    """Open a JPEG XL file: the header is read, the pixels not yet. Of an animation, the first frame is decoded.

    Raises:
        MissingExtra: pylibjxl is not installed.
    """
    require("pylibjxl", extra="jxl")
    return _JxlFile(stream)


class _JxlFile(ImageFile):
    """A JPEG XL file. libjxl applies the orientation, whatever EXIF says."""

    format = "JPEG XL"
    _content = b""

    def _open(self) -> None:
        assert self.fp is not None
        self._content = self.fp.read()
        facts = require("pylibjxl", extra="jxl").probe(self._content)
        self._size = facts["width"], facts["height"]
        self._mode = "RGB"

    def load(self) -> Any:  # noqa: ANN401  (Pillow's type for its pixels)
        if self._content:
            values, metadata = require("pylibjxl", extra="jxl").decode(self._content, metadata=True, timeout=SECONDS)
            decoded = Image.fromarray(values.squeeze(-1) if values.ndim == 3 and values.shape[2] == 1 else values)
            self._content = b""
            self._mode, self.im = decoded.mode, decoded.im
            names = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
            self.info.update({names[name]: value for name, value in metadata.items() if name in names})
        return Image.Image.load(self)

    def getexif(self) -> Image.Exif:
        exif = super().getexif()
        exif.pop(ExifTags.Base.Orientation, None)
        return exif
