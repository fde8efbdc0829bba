"""What a file is: told by its first bytes, and by its ending only where a format has no mark of its own.

Knows the formats that are read, and by which class of Pillow or pi-heif. That class is called directly, so no
other reader ever sees the file: none that starts a program (EPS, WMF), none that hands it on to another (IPTC).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

HEAD = 64
"""how many of a file's first bytes tell what it is"""


@dataclass(frozen=True, slots=True)
class Format:
    """One format of picture files.

    Attributes:
        name: as people and Pillow call it.
        reader: the module and class, or function, that reads it; empty where it is known but not read.
        endings: of its files, lower case, separated by spaces.
        mark: what its files begin with; None where only the ending tells.
        why_not: why it is not read.
    """

    name: str
    reader: str
    endings: str
    mark: re.Pattern[bytes] | None
    why_not: str = ""

    def open(self, stream: IO[bytes]) -> "ImageFile":
        """The picture's header read, its pixels not yet. Raises whatever the reader raises on a broken file."""
        return _reader(self.reader)(stream)


@cache
def _reader(name: str) -> "Callable[[IO[bytes]], ImageFile]":
    module, _, kind = name.rpartition(".")
    reader: Callable[[IO[bytes]], ImageFile] = getattr(import_module(module), kind)
    return reader


def _read(name: str, plugin: str, endings: str, mark: bytes | None) -> Format:
    return Format(name, f"PIL.{plugin}", endings, re.compile(mark, re.DOTALL) if mark else None)


def _unread(name: str, endings: str, mark: bytes, why_not: str) -> Format:
    return Format(name, "", endings, re.compile(mark, re.DOTALL), why_not)


_HEIF_BRANDS = rb"(?:hei[cxms]|hev[cxms]|mif1|msf1)"
_PROGRAM = "it can only be read by starting another program, which is never done"
_NO_READER = "there is no reader for it"

# Short marks are lengthened by what else a header must say, or every text that begins with "BM" would be a bitmap.
FORMATS = (
    _read("JPEG", "JpegImagePlugin.JpegImageFile", "jpg jpeg jpe jfif mpo", rb"\xff\xd8\xff"),
    _read("PNG", "PngImagePlugin.PngImageFile", "png apng", rb"\x89PNG\r\n\x1a\n"),
    _read("WEBP", "WebPImagePlugin.WebPImageFile", "webp", rb"RIFF....WEBP"),
    _read("GIF", "GifImagePlugin.GifImageFile", "gif", rb"GIF8[79]a"),
    _read("AVIF", "AvifImagePlugin.AvifImageFile", "avif avifs", rb"....ftyp(?:....)*?avi[fs]"),
    Format(
        "HEIF",
        "tuwen.data.decode.open_heif",
        "heic heics heif heifs hif",
        re.compile(rb"....ftyp(?:....)*?" + _HEIF_BRANDS, re.DOTALL),
    ),
    _read(
        "TIFF",
        "TiffImagePlugin.TiffImageFile",
        "tif tiff",
        rb"MM(?:\x00\*|\*\x00|\x00\+)|II(?:\x00\*|\*\x00|\+\x00)",
    ),
    _read("BMP", "BmpImagePlugin.BmpImageFile", "bmp", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00"),
    _read("DIB", "BmpImagePlugin.DibImageFile", "dib", None),
    _read(
        "PPM",
        "PpmImagePlugin.PpmImageFile",
        "ppm pgm pbm pnm pfm",
        rb"P[1-6f]\s[\s\d#]|P(?:0CMYK|yP|yRGBA|yCMYK)\s",
    ),
    _read(
        "JPEG2000",
        "Jpeg2KImagePlugin.Jpeg2KImageFile",
        "jp2 j2k jpc jpf jpx j2c",
        rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  \r\n\x87\n",
    ),
    _read("PSD", "PsdImagePlugin.PsdImageFile", "psd", rb"8BPS"),
    _read("ICO", "IcoImagePlugin.IcoImageFile", "ico", rb"\x00\x00\x01\x00[^\x00]\x00...\x00"),
    _read("CUR", "CurImagePlugin.CurImageFile", "cur", rb"\x00\x00\x02\x00[^\x00]\x00...\x00"),
    _read("ICNS", "IcnsImagePlugin.IcnsImageFile", "icns", rb"icns"),
    _read("DDS", "DdsImagePlugin.DdsImageFile", "dds", rb"DDS "),
    _read("BLP", "BlpImagePlugin.BlpImageFile", "blp", rb"BLP[12]"),
    _read("FTEX", "FtexImagePlugin.FtexImageFile", "ftc ftu", rb"FTEX"),
    _read("QOI", "QoiImagePlugin.QoiImageFile", "qoi", rb"qoif"),
    _read("TGA", "TgaImagePlugin.TgaImageFile", "tga icb vda", None),
    _read("SGI", "SgiImagePlugin.SgiImageFile", "sgi rgb rgba bw", rb"\x01\xda[\x00\x01][\x01\x02]\x00[\x01\x02\x03]"),
    _read("SUN", "SunImagePlugin.SunImageFile", "ras", rb"\x59\xa6\x6a\x95"),
    _read("PCX", "PcxImagePlugin.PcxImageFile", "pcx", rb"\n[\x00\x02\x03\x05][\x00\x01][\x01\x02\x04\x08]"),
    _read("DCX", "DcxImagePlugin.DcxImageFile", "dcx", rb"\xb1\x68\xde\x3a"),
    _read("FLI", "FliImagePlugin.FliImageFile", "fli flc", rb"....[\x11\x12]\xaf.{8}[\x00\x03]\x00"),
    _read("FITS", "FitsImagePlugin.FitsImageFile", "fit fits", rb"SIMPLE  ="),
    _read("GBR", "GbrImagePlugin.GbrImageFile", "gbr", rb".{20}GIMP"),
    _read("MSP", "MspImagePlugin.MspImageFile", "msp", rb"DanM|LinS"),
    _read("PCD", "PcdImagePlugin.PcdImageFile", "pcd", None),
    _read("PIXAR", "PixarImagePlugin.PixarImageFile", "pxr", rb"\x80\xe8\x00\x00"),
    _read("XBM", "XbmImagePlugin.XbmImageFile", "xbm", rb"\s*#define[ \t]+\w+_width\s"),
    _read("XPM", "XpmImagePlugin.XpmImageFile", "xpm", rb"/\* XPM \*/"),
    _unread("EPS", "eps epsf epsi", rb"%!PS-Adobe-[\d.]+ EPSF|\xc5\xd0\xd3\xc6", _PROGRAM),
    _unread("WMF", "wmf", rb"\xd7\xcd\xc6\x9a", _PROGRAM),
    _unread("EMF", "emf", rb"\x01\x00\x00\x00.{36} EMF", _PROGRAM),
    _unread("SVG", "svg svgz", rb"(?:\xef\xbb\xbf)?\s*<svg", _NO_READER),
    _unread("JPEG XL", "jxl", rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n", _NO_READER),
)

_BY_ENDING = {ending: format_ for format_ in FORMATS for ending in format_.endings.split()}


def format_of_content(head: bytes) -> Format | None:
    """The format whose mark a file begins with. `head`: its first `HEAD` bytes."""
    return next((format_ for format_ in FORMATS if format_.mark and format_.mark.match(head)), None)


def format_of_name(name: str) -> Format | None:
    """The format that a file's ending claims, whatever its case."""
    return _BY_ENDING.get(name.rpartition(".")[2].lower()) if "." in name else None
