"""Image formats: recognised by a file's first bytes, or by its extension if a format has no signature.

Each format names the class that reads it, of Pillow or of another library. That class is called directly, so no other
reader ever sees the file: none that starts a program (EPS, WMF), none that passes it on to another (IPTC).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

RAW = "RAW"
"""the name of the format of all cameras' raw files"""
HEAD = 64
"""how many of a file's first bytes are needed to recognise its format"""


@dataclass(frozen=True, slots=True)
class Format:
    """An image format.

    Attributes:
        name: Pillow's name for it.
        reader: the module and class, or function, that reads it; empty if it is not supported.
        extensions: of its files, lower case, separated by spaces.
        signature: what its files begin with; None if only the extension tells.
        unsupported: why it cannot be read; empty if it can.
    """

    name: str
    reader: str
    extensions: str
    signature: re.Pattern[bytes] | None
    unsupported: str = ""

    def open(self, stream: IO[bytes]) -> "ImageFile":
        """Read the header, not yet the pixels. Raises whatever the reader raises for a broken file."""
        return _reader(self.reader)(stream)


@cache
def _reader(name: str) -> "Callable[[IO[bytes]], ImageFile]":
    module, _, kind = name.rpartition(".")
    reader: Callable[[IO[bytes]], ImageFile] = getattr(import_module(module), kind)
    return reader


def _supported(name: str, plugin: str, extensions: str, signature: bytes | None) -> Format:
    return Format(name, f"PIL.{plugin}", extensions, re.compile(signature, re.DOTALL) if signature else None)


def _unsupported(name: str, extensions: str, signature: bytes, why: str) -> Format:
    return Format(name, "", extensions, re.compile(signature, re.DOTALL), why)


_HEIF_BRANDS = rb"(?:hei[cxms]|hev[cxms]|mif1|msf1)"
_PROGRAM = "reading it takes another program, and tuwen starts none"
_NO_READER = "no library here reads it"

# Short signatures are extended by what else the header must contain, or a text that begins with "BM" would be a bitmap.
FORMATS = (
    _supported("JPEG", "JpegImagePlugin.JpegImageFile", "jpg jpeg jpe jfif mpo", rb"\xff\xd8\xff"),
    _supported("PNG", "PngImagePlugin.PngImageFile", "png apng", rb"\x89PNG\r\n\x1a\n"),
    _supported("WEBP", "WebPImagePlugin.WebPImageFile", "webp", rb"RIFF....WEBP"),
    _supported("GIF", "GifImagePlugin.GifImageFile", "gif", rb"GIF8[79]a"),
    _supported("AVIF", "AvifImagePlugin.AvifImageFile", "avif avifs", rb"....ftyp(?:....)*?avi[fs]"),
    Format(
        "HEIF",
        "tuwen.data.decode.open_heif",
        "heic heics heif heifs hif",
        re.compile(rb"....ftyp(?:....)*?" + _HEIF_BRANDS, re.DOTALL),
    ),
    Format(
        RAW,
        "tuwen.data.extra_formats.open_raw",
        "cr2 cr3 crw nef nrw arw srf sr2 raf dng orf rw2 pef srw 3fr iiq erf mef mrw x3f kdc dcr",
        re.compile(
            rb"II\*\x00....CR|....ftypcrx |FUJIFILMCCD-RAW|II(?:RO|RS|U\x00)|MMOR|II....HEAPCCDR|\x00MRM|FOVb",
            re.DOTALL,
        ),
    ),
    _supported(
        "TIFF",
        "TiffImagePlugin.TiffImageFile",
        "tif tiff",
        rb"MM(?:\x00\*|\*\x00|\x00\+)|II(?:\x00\*|\*\x00|\+\x00)",
    ),
    _supported("BMP", "BmpImagePlugin.BmpImageFile", "bmp", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00"),
    _supported("DIB", "BmpImagePlugin.DibImageFile", "dib", None),
    _supported(
        "PPM",
        "PpmImagePlugin.PpmImageFile",
        "ppm pgm pbm pnm pfm",
        rb"P[1-6f]\s[\s\d#]|P(?:0CMYK|yP|yRGBA|yCMYK)\s",
    ),
    _supported(
        "JPEG2000",
        "Jpeg2KImagePlugin.Jpeg2KImageFile",
        "jp2 j2k jpc jpf jpx j2c",
        rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  \r\n\x87\n",
    ),
    _supported("PSD", "PsdImagePlugin.PsdImageFile", "psd", rb"8BPS"),
    _supported("ICO", "IcoImagePlugin.IcoImageFile", "ico", rb"\x00\x00\x01\x00[^\x00]\x00...\x00"),
    _supported("CUR", "CurImagePlugin.CurImageFile", "cur", rb"\x00\x00\x02\x00[^\x00]\x00...\x00"),
    _supported("ICNS", "IcnsImagePlugin.IcnsImageFile", "icns", rb"icns"),
    _supported("DDS", "DdsImagePlugin.DdsImageFile", "dds", rb"DDS "),
    _supported("BLP", "BlpImagePlugin.BlpImageFile", "blp", rb"BLP[12]"),
    _supported("FTEX", "FtexImagePlugin.FtexImageFile", "ftc ftu", rb"FTEX"),
    _supported("QOI", "QoiImagePlugin.QoiImageFile", "qoi", rb"qoif"),
    _supported("TGA", "TgaImagePlugin.TgaImageFile", "tga icb vda", None),
    _supported(
        "SGI", "SgiImagePlugin.SgiImageFile", "sgi rgb rgba bw", rb"\x01\xda[\x00\x01][\x01\x02]\x00[\x01\x02\x03]"
    ),
    _supported("SUN", "SunImagePlugin.SunImageFile", "ras", rb"\x59\xa6\x6a\x95"),
    _supported("PCX", "PcxImagePlugin.PcxImageFile", "pcx", rb"\n[\x00\x02\x03\x05][\x00\x01][\x01\x02\x04\x08]"),
    _supported("DCX", "DcxImagePlugin.DcxImageFile", "dcx", rb"\xb1\x68\xde\x3a"),
    _supported("FLI", "FliImagePlugin.FliImageFile", "fli flc", rb"....[\x11\x12]\xaf.{8}[\x00\x03]\x00"),
    _supported("FITS", "FitsImagePlugin.FitsImageFile", "fit fits", rb"SIMPLE  ="),
    _supported("GBR", "GbrImagePlugin.GbrImageFile", "gbr", rb".{20}GIMP"),
    _supported("MSP", "MspImagePlugin.MspImageFile", "msp", rb"DanM|LinS"),
    _supported("PCD", "PcdImagePlugin.PcdImageFile", "pcd", None),
    _supported("PIXAR", "PixarImagePlugin.PixarImageFile", "pxr", rb"\x80\xe8\x00\x00"),
    _supported("XBM", "XbmImagePlugin.XbmImageFile", "xbm", rb"\s*#define[ \t]+\w+_width\s"),
    _supported("XPM", "XpmImagePlugin.XpmImageFile", "xpm", rb"/\* XPM \*/"),
    _unsupported("EPS", "eps epsf epsi", rb"%!PS-Adobe-[\d.]+ EPSF|\xc5\xd0\xd3\xc6", _PROGRAM),
    _unsupported("WMF", "wmf", rb"\xd7\xcd\xc6\x9a", _PROGRAM),
    _unsupported("EMF", "emf", rb"\x01\x00\x00\x00.{36} EMF", _PROGRAM),
    _unsupported("SVG", "svg svgz", rb"(?:\xef\xbb\xbf)?\s*<svg", _NO_READER),
    Format(
        "JPEG XL",
        "tuwen.data.extra_formats.open_jxl",
        "jxl",
        re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n"),
    ),
)

_BY_EXTENSION = {extension: format_ for format_ in FORMATS for extension in format_.extensions.split()}


def format_of(head: bytes, name: str) -> Format | None:
    """The format of a file: by its content, or else by its extension.

    Most RAW files begin like a TIFF, which is then that of a thumbnail: there the extension decides.
    """
    content, named = format_of_content(head), format_of_name(name)
    return named if content and content.name == "TIFF" and named and named.name == RAW else content or named


def format_of_content(head: bytes) -> Format | None:
    """The format whose signature a file begins with. `head`: its first `HEAD` bytes."""
    return next((format_ for format_ in FORMATS if format_.signature and format_.signature.match(head)), None)


def format_of_name(name: str) -> Format | None:
    """The format that a file's extension claims, in any case."""
    return _BY_EXTENSION.get(name.rpartition(".")[2].lower()) if "." in name else None
