"""What a camera and a photo manager wrote into an image: when and where it was taken, with what, rating, keywords.

EXIF is read by Pillow, XMP by the standard library, IPTC by Pillow. XMP, which people edit, is preferred for rating,
keywords and title, EXIF for everything else. A sidecar, the file of XMP beside an image, is preferred to the image for
all that it states. What is damaged or meaningless is left out.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import Any, TypeAlias
from xml.etree import ElementTree

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.ImageFile import ImageFile
from PIL.IptcImagePlugin import getiptcinfo

from tuwen.data.extra_formats import RAW_EXIF
from tuwen.types import Payload

METADATA = (
    "taken",
    "taken_zone",
    "taken_from",
    "camera",
    "lens",
    "focal_length",
    "iso",
    "orientation",
    "latitude",
    "longitude",
    "rating",
    "keywords",
    "title",
)
"""the fields of a payload that come from metadata"""
MAX_XMP = 4 * 2**20
"""the most bytes of XMP that are read"""
MAX_TEXT = 4096
"""characters after which a text is cut off"""

Facts: TypeAlias = dict[str, str | int | float | None]
Tags: TypeAlias = Mapping[int, Any]
"""EXIF values by tag"""
Properties: TypeAlias = Mapping[str, list[str]]
"""XMP values by `{namespace}name`; a list as it is there, a text as its only item"""

_ZONE_STEP = timedelta(minutes=15)
_WIDEST_ZONE = timedelta(hours=14)
_DATE = re.compile(r"(\d{4})\D(\d\d)\D(\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?")
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)|Z")
_DATES = (
    (Base.DateTimeOriginal, Base.OffsetTimeOriginal),
    (Base.DateTimeDigitized, Base.OffsetTimeDigitized),
    (Base.DateTime, Base.OffsetTime),
)
_XP_TITLE, _XP_KEYWORDS, _RATING = 0x9C9B, 0x9C9E, 0x4746
_IPTC_TITLE, _IPTC_KEYWORDS = (2, 5), (2, 25)
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_TIFF = "{http://ns.adobe.com/tiff/1.0/}"
_EXIF = "{http://ns.adobe.com/exif/1.0/}"
_AUX = "{http://ns.adobe.com/exif/1.0/aux/}"
_EXIF_EX = "{http://cipa.jp/exif/1.0/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_XMP_DEGREES = re.compile(r"(\d+),(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?([NSEW])")
_DATE_FIELDS = {"taken", "taken_zone", "taken_from"}


def read_metadata(image: Image.Image) -> Payload:
    """What is known of an image from its EXIF, XMP and IPTC.

    `taken` is in seconds since 1970. Its time zone is that of `OffsetTimeOriginal`; or else the difference between
    the camera's clock and the time of the GPS; or else unknown, and the clock is read as one in this machine's zone.
    `taken_zone` says which: e.g. `+02:00`, or `local`.

    Args:
        image: loaded, because a PNG may have its metadata at its end.

    Returns:
        Those of `taken`, `taken_zone`, `taken_from`, `camera`, `lens`, `focal_length` (mm), `iso`, `orientation`,
        `latitude`, `longitude` (degrees), `rating`, `keywords` (joined by `; `) and `title` that the image has.
        Nothing is raised.
    """
    tags = _or_empty(lambda: _exif_of(image))
    gps = _or_empty(lambda: _gps_of(image))
    xmp = _or_empty(lambda: read_xmp(_packet_of(image)))
    iptc = _or_empty(lambda: getiptcinfo(image) or {}) if isinstance(image, ImageFile) else {}
    return _facts(
        lambda: _taken(tags, gps, xmp),
        lambda: _camera(tags, xmp),
        lambda: _exposure(tags, xmp),
        lambda: _position_by_xmp(xmp),
        lambda: _position(gps),
        lambda: _orientation(tags, image),
        lambda: _labels(tags, xmp, iptc),
    )


def with_sidecar(metadata: Payload, packet: bytes) -> Payload:
    """The metadata of an image, with what its XMP sidecar states in place of what the image says.

    Keywords are those of both. A date in the sidecar that is the image's, without its time zone, leaves that as it is.

    Args:
        metadata: what `read_metadata` gave.
        packet: the sidecar's content. One that cannot be read states nothing.
    """
    xmp = _or_empty(lambda: read_xmp(packet))
    stated = dict(
        _facts(
            lambda: _taken({}, {}, xmp),
            lambda: _camera({}, xmp),
            lambda: _exposure({}, xmp),
            lambda: _position_by_xmp(xmp),
            lambda: _labels({}, xmp, {}),
        )
    )
    if stated.get("taken_zone") == "local" and _shown(stated) == _shown(metadata):
        stated = {name: value for name, value in stated.items() if name not in _DATE_FIELDS}
    if "taken" in stated:
        stated["taken_from"] = "sidecar"
    words = [word for each in (metadata, stated) for word in str(each.get("keywords", "")).split("; ")]
    return {**metadata, **stated, **({"keywords": _joined(words)} if any(words) else {})}


def _facts(*readers: Callable[[], Facts]) -> Payload:
    """What the readers find, later ones before earlier ones; those that fail find nothing."""
    found: Facts = {}
    for read in readers:
        with suppress(ValueError, TypeError, OverflowError, ArithmeticError, LookupError, OSError):
            found |= read()
    return {name: value for name, value in found.items() if value is not None and value != ""}


def _shown(metadata: Payload) -> datetime | None:
    """What the camera's clock showed."""
    if "taken" not in metadata:
        return None
    offset = _offset(metadata.get("taken_zone"))
    zone = None if offset is None else timezone(offset)
    return datetime.fromtimestamp(float(metadata["taken"]), zone).replace(tzinfo=None)


def read_xmp(packet: bytes) -> Properties:
    """The properties of an XMP packet.

    Raises:
        ValueError: it is too large, or has a document type, which XMP never has and entities need.
        xml.etree.ElementTree.ParseError: it is no XML.
    """
    if len(packet) > MAX_XMP:
        raise ValueError("the XMP is too large")
    parser = ElementTree.XMLParser(target=_WithoutDoctype())
    parser.feed(packet.strip(b"\0 \n\r\t"))
    found: dict[str, list[str]] = {}
    for description in parser.close().iter(f"{_RDF}Description"):
        for name, text in description.attrib.items():
            found[name] = [text]
        for element in description:
            items = [item.text or "" for item in element.iter(f"{_RDF}li")]
            found[element.tag] = items or [element.text or ""]
    return found


class _WithoutDoctype(ElementTree.TreeBuilder):
    def doctype(self, *_: object) -> None:
        raise ValueError("the XMP has a document type")


def _exif_of(image: Image.Image) -> Tags:
    exif, around = image.getexif(), image.info.get(RAW_EXIF, {})
    inner = around.get_ifd(IFD.Exif) if around else {}
    return {**exif, **exif.get_ifd(IFD.Exif), **around, **inner}


def _gps_of(image: Image.Image) -> Tags:
    around = image.info.get(RAW_EXIF)
    return (around and around.get_ifd(IFD.GPSInfo)) or image.getexif().get_ifd(IFD.GPSInfo)


def _packet_of(image: Image.Image) -> bytes:
    """The XMP packet, under the names that Pillow's readers of JPEG, PNG, WebP, AVIF and TIFF give it."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if not packet:
        packet = getattr(image, "tag_v2", image.info.get(RAW_EXIF, {})).get(700, b"")
    return packet.encode() if isinstance(packet, str) else bytes(packet)


def _or_empty(read: Callable[[], Mapping[Any, Any]]) -> Mapping[Any, Any]:
    try:
        return read()
    except Exception:  # damaged metadata can raise anything, and says nothing about the pixels
        return {}


@dataclass(frozen=True, slots=True)
class _Clock:
    """What a camera's clock showed. `offset`: from UTC, None if unknown."""

    wall: datetime
    offset: timedelta | None
    source: str

    def facts(self) -> dict[str, str | float]:
        if self.offset is None:
            return {"taken": self.wall.timestamp(), "taken_zone": "local", "taken_from": self.source}
        moment = self.wall.replace(tzinfo=timezone(self.offset))
        return {"taken": moment.timestamp(), "taken_zone": _zone_name(self.offset), "taken_from": self.source}


def _zone_name(offset: timedelta) -> str:
    minutes = round(offset / timedelta(minutes=1))
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _taken(tags: Tags, gps: Tags, xmp: Properties) -> Facts:
    clock = next(_clocks(tags, xmp), None)
    if clock is None:
        return {}
    if clock.offset is None:
        with suppress(ValueError, TypeError, LookupError, ArithmeticError):
            clock = _Clock(clock.wall, _zone_by_gps(clock.wall, gps), clock.source)
    return {**clock.facts()}


def _clocks(tags: Tags, xmp: Properties) -> Iterator[_Clock]:
    """The times that are stated, the best first."""
    for date, offset in _DATES[:2]:
        if wall := _wall(tags.get(date)):
            yield _Clock(wall, _offset(tags.get(offset)), "exif")
    for name in (f"{_EXIF}DateTimeOriginal", f"{_PHOTOSHOP}DateCreated", f"{_XMP}CreateDate"):
        for text in xmp.get(name, [])[:1]:
            with suppress(ValueError):
                moment = datetime.fromisoformat(text.strip())
                yield _Clock(moment.replace(tzinfo=None), moment.utcoffset(), "xmp")
    date, offset = _DATES[2]
    if wall := _wall(tags.get(date)):
        yield _Clock(wall, _offset(tags.get(offset)), "exif")


def _wall(value: object) -> datetime | None:
    match = _DATE.match(_text(value))
    if match is None:
        return None
    try:
        return datetime(*(int(part or 0) for part in match.groups()))  # type: ignore[arg-type]
    except ValueError:  # 0000:00:00, where a camera's clock was never set
        return None


def _offset(value: object) -> timedelta | None:
    match = _OFFSET.fullmatch(_text(value))
    if match is None:
        return None
    offset = timedelta(hours=int(match[2] or 0), minutes=int(match[3] or 0))
    return None if offset > _WIDEST_ZONE else -offset if match[1] == "-" else offset


def _zone_by_gps(wall: datetime, gps: Tags) -> timedelta | None:
    """The zone of a clock, by the time of the GPS, which is UTC; the last fix may be some minutes old."""
    year, month, day = (int(part) for part in re.split(r"\D", _text(gps[GPS.GPSDateStamp])))
    hour, minute, second = (int(part) for part in gps[GPS.GPSTimeStamp])
    steps = round((wall - datetime(year, month, day, hour, minute, second)) / _ZONE_STEP)
    return steps * _ZONE_STEP if abs(steps * _ZONE_STEP) <= _WIDEST_ZONE else None


def _camera(tags: Tags, xmp: Properties) -> Facts:
    make = _text(tags.get(Base.Make)) or _first(xmp, f"{_TIFF}Make")
    model = _text(tags.get(Base.Model)) or _first(xmp, f"{_TIFF}Model")
    named = make and model.casefold().startswith(make.casefold().split()[0])  # NIKON CORPORATION, NIKON D90
    lens = _text(tags.get(Base.LensModel)) or _first(xmp, f"{_EXIF_EX}LensModel") or _first(xmp, f"{_AUX}Lens")
    return {"camera": model if named else f"{make} {model}".strip(), "lens": lens}


def _exposure(tags: Tags, xmp: Properties) -> Facts:
    length = float(tags.get(Base.FocalLength) or Fraction(_first(xmp, f"{_EXIF}FocalLength") or 0))
    by_xmp = _first(xmp, f"{_EXIF_EX}PhotographicSensitivity") or _first(xmp, f"{_EXIF}ISOSpeedRatings")
    sensitivity = tags.get(Base.ISOSpeedRatings) or by_xmp or 0
    iso = int(sensitivity[0] if isinstance(sensitivity, tuple) else sensitivity)
    if iso == 65535:  # what does not fit is in another tag
        iso = int(tags.get(Base.ISOSpeed) or tags.get(Base.RecommendedExposureIndex) or 0)
    return {
        "focal_length": round(length, 3) if 0 < length < math.inf else None,
        "iso": iso if 0 < iso < 2**31 else None,
    }


def _position(gps: Tags) -> Facts:
    latitude = _degrees(gps[GPS.GPSLatitude], _text(gps[GPS.GPSLatitudeRef]) == "S")
    longitude = _degrees(gps[GPS.GPSLongitude], _text(gps[GPS.GPSLongitudeRef]) == "W")
    return _place(latitude, longitude)


def _position_by_xmp(xmp: Properties) -> Facts:
    return _place(_xmp_degrees(xmp[f"{_EXIF}GPSLatitude"][0]), _xmp_degrees(xmp[f"{_EXIF}GPSLongitude"][0]))


def _xmp_degrees(text: str) -> float:
    """Degrees in XMP: `52,31.2N` or `52,31,12N`."""
    match = _XMP_DEGREES.fullmatch(text.strip())
    if match is None:
        raise ValueError("the position is in no form of XMP")
    return _degrees((match[1], match[2], match[3] or 0), match[4] in "SW")


def _place(latitude: float, longitude: float) -> Facts:
    there = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0, 0)  # no fix is 0, 0
    return {"latitude": latitude, "longitude": longitude} if there else {}


def _degrees(parts: Any, negative: bool) -> float:  # noqa: ANN401
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(value):
        raise ValueError("the position is not finite")
    return round(-value if negative else value, 7)


def _orientation(tags: Tags, image: Image.Image) -> Facts:
    orientation = image.info.get("original_orientation") or tags.get(Base.Orientation)
    return {"orientation": orientation if orientation in range(1, 9) else None}


def _labels(tags: Tags, xmp: Properties, iptc: Mapping[Any, Any]) -> Facts:
    rating = _first(xmp, f"{_XMP}Rating") or tags.get(_RATING)
    stars = None if rating is None or rating == "" else round(float(rating))
    words = xmp.get(f"{_DC}subject") or _utf16(tags.get(_XP_KEYWORDS)).split(";")
    if not any(words):
        there = iptc.get(_IPTC_KEYWORDS, [])
        words = [_text(word) for word in (there if isinstance(there, list) else [there])]
    title = _first(xmp, f"{_DC}title") or _utf16(tags.get(_XP_TITLE)) or _text(iptc.get(_IPTC_TITLE))
    return {
        "rating": stars if stars is not None and -1 <= stars <= 5 else None,
        "keywords": _joined(words),
        "title": title,
    }


def _joined(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(word.strip() for word in words if word.strip()))[:MAX_TEXT]


def _first(xmp: Properties, name: str) -> str:
    return next((text.strip()[:MAX_TEXT] for text in xmp.get(name, []) if text.strip()), "")


def _text(value: object) -> str:
    """A text of EXIF or IPTC: ASCII by the standard, UTF-8 in practice, which Pillow decodes as Latin-1."""
    raw = value.encode("latin-1", "replace") if isinstance(value, str) else value
    if not isinstance(raw, bytes):
        return ""
    raw = raw.split(b"\0")[0]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.strip()[:MAX_TEXT]


def _utf16(value: object) -> str:
    """A text of the tags that Windows writes."""
    raw = bytes(value) if isinstance(value, bytes | tuple) else b""
    return raw.decode("utf-16-le", "ignore").split("\0")[0].strip()[:MAX_TEXT]
