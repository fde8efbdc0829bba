"""Metadata: what EXIF, XMP and IPTC say, the rules for time zones, and files whose metadata is damaged."""

import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from tuwen.data.decode import Reading, read_image, read_metadata_of
from tuwen.data.metadata import with_sidecar
from tuwen.types import Payload, Rejected

READING = Reading(near=(32, 32), max_pixels=10**6, metadata=True)
NOON = "2023:07:01 12:00:00"


@pytest.fixture(autouse=True)
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()


def exif(tags: dict[int, object] | None = None, inner: dict[int, object] | None = None, gps: object = None) -> bytes:
    made = Image.Exif()
    made.update(tags or {})
    if inner:
        made.get_ifd(IFD.Exif).update(inner)
    if gps:
        made.get_ifd(IFD.GPSInfo).update(gps)
    return made.tobytes()


def saved(kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, kind, **options)
    return file.getvalue()


def xmp(body: str) -> bytes:
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
        'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:aux="http://ns.adobe.com/exif/1.0/aux/">'
        f"{body}</rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    ).encode()


def metadata(content: bytes) -> Payload:
    """What decoding gives, which is what reading the metadata alone gives."""
    picture = read_image(content, "a.jpg", READING)
    assert not isinstance(picture, Rejected)
    assert read_metadata_of(content, "a.jpg") == picture.metadata
    return picture.metadata


FULL = {
    "tags": {Base.Make: "NIKON CORPORATION\0", Base.Model: "NIKON D90 ", Base.Orientation: 6, 0x4746: 4},
    "inner": {
        Base.DateTimeOriginal: NOON,
        Base.OffsetTimeOriginal: "+02:00",
        Base.LensModel: "AF-S 18-105mm",
        Base.FocalLength: IFDRational(105, 2),
        Base.ISOSpeedRatings: 400,
    },
    "gps": {
        GPS.GPSLatitudeRef: "S",
        GPS.GPSLatitude: (33.0, 51.0, 54.0),
        GPS.GPSLongitudeRef: "E",
        GPS.GPSLongitude: (151.0, 12.0, 36.0),
    },
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_is_read_from_every_format(kind: str) -> None:
    found = metadata(saved(kind, exif=exif(**FULL)))
    assert {**found, "orientation": 6} == {
        "taken": utc(2023, 7, 1, 10),
        "taken_zone": "+02:00",
        "taken_from": "exif",
        "camera": "NIKON D90",
        "lens": "AF-S 18-105mm",
        "focal_length": 52.5,
        "iso": 400,
        "orientation": 6,
        "latitude": pytest.approx(-33.865),
        "longitude": pytest.approx(151.21),
        "rating": 4,
    }


def test_xmp_is_read_in_both_of_its_forms() -> None:
    lists = xmp(
        '<rdf:Description rdf:about="" xmp:Rating="3" exif:DateTimeOriginal="2020-02-03T04:05:06+01:00" '
        'tiff:Make="Canon" tiff:Model="EOS R5" aux:Lens="RF 50">'
        "<dc:subject><rdf:Bag><rdf:li>beach</rdf:li><rdf:li>猫</rdf:li></rdf:Bag></dc:subject>"
        '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">A day</rdf:li></rdf:Alt></dc:title></rdf:Description>'
    )
    wanted = {
        "taken": utc(2020, 2, 3, 3, 5, 6),
        "taken_zone": "+01:00",
        "taken_from": "xmp",
        "camera": "Canon EOS R5",
        "lens": "RF 50",
        "rating": 3,
        "keywords": "beach; 猫",
        "title": "A day",
    }
    assert metadata(saved("JPEG", xmp=lists)) == metadata(saved("WEBP", xmp=lists)) == wanted
    element = xmp("<rdf:Description><xmp:Rating>5</xmp:Rating></rdf:Description>")
    assert metadata(saved(xmp=element)) == {"rating": 5}


def test_a_place_and_an_exposure_in_xmp_are_read() -> None:
    body = (
        '<rdf:Description exif:GPSLatitude="33,51.9S" exif:GPSLongitude="151,12,36E" exif:FocalLength="105/2">'
        "<exif:ISOSpeedRatings><rdf:Seq><rdf:li>400</rdf:li></rdf:Seq></exif:ISOSpeedRatings></rdf:Description>"
    )
    there = {"latitude": pytest.approx(-33.865), "longitude": pytest.approx(151.21), "focal_length": 52.5, "iso": 400}
    assert metadata(saved(xmp=xmp(body))) == there
    wrong = xmp('<rdf:Description exif:GPSLatitude="33.8" exif:GPSLongitude="151.2" exif:FocalLength="1/0"/>')
    assert metadata(saved(xmp=wrong)) == {}


SIDECAR = (
    '<rdf:Description rdf:about="" xmp:Rating="5" exif:GPSLatitude="52,31.2N" exif:GPSLongitude="13,24E" {date}>'
    "<dc:subject><rdf:Bag><rdf:li>beach</rdf:li><rdf:li>lake</rdf:li></rdf:Bag></dc:subject></rdf:Description>"
)


def test_what_a_sidecar_states_counts_more_than_the_image() -> None:
    image = {"taken": 1.0, "taken_zone": "+00:00", "taken_from": "exif", "camera": "C", "rating": 1, "latitude": 1.0}
    image |= {"longitude": 2.0, "keywords": "sea; beach", "iso": 100, "orientation": 6}
    found = with_sidecar(image, xmp(SIDECAR.format(date='exif:DateTimeOriginal="2020-02-03T04:05:06+01:00"')))
    assert found == {
        "taken": utc(2020, 2, 3, 3, 5, 6),
        "taken_zone": "+01:00",
        "taken_from": "sidecar",
        "camera": "C",
        "rating": 5,
        "latitude": pytest.approx(52.52),
        "longitude": pytest.approx(13.4),
        "keywords": "sea; beach; lake",
        "iso": 100,
        "orientation": 6,
    }
    assert with_sidecar(image, b"<no xmp") == image


@pytest.mark.parametrize(
    ("date", "taken", "zone", "source"),
    [
        ("2023-07-01T12:00:00", (2023, 7, 1, 10), "+02:00", "exif"),  # the image's, and less exact
        ("2023-07-01T12:00:01", (2023, 7, 1, 3, 0, 1), "local", "sidecar"),
        ("2023-07-01T12:00:00+01:00", (2023, 7, 1, 11), "+01:00", "sidecar"),
    ],
)
def test_a_date_in_a_sidecar(date: str, taken: tuple[int, ...], zone: str, source: str) -> None:
    image = {"taken": utc(2023, 7, 1, 10), "taken_zone": "+02:00", "taken_from": "exif"}
    found = with_sidecar(image, xmp(SIDECAR.format(date=f'exif:DateTimeOriginal="{date}"')))
    assert (found["taken"], found["taken_zone"], found["taken_from"]) == (utc(*taken), zone, source)


def test_a_time_without_a_zone_takes_it_from_the_gps() -> None:
    gps = {GPS.GPSDateStamp: "2023:07:01", GPS.GPSTimeStamp: (16.0, 3.0, 21.0)}  # a fix of four minutes ago
    found = metadata(saved(exif=exif(inner={Base.DateTimeOriginal: NOON}, gps=gps)))
    assert (found["taken"], found["taken_zone"]) == (utc(2023, 7, 1, 16), "-04:00")
    stale = gps | {GPS.GPSDateStamp: "2023:07:03"}
    assert metadata(saved(exif=exif(inner={Base.DateTimeOriginal: NOON}, gps=stale)))["taken_zone"] == "local"


def test_a_time_of_an_unknown_zone_is_that_of_this_machine_and_says_so() -> None:
    found = metadata(saved(exif=exif(inner={Base.DateTimeOriginal: NOON})))
    assert found == {"taken": utc(2023, 7, 1, 3), "taken_zone": "local", "taken_from": "exif"}


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("", "X100", "X100"),
        ("Leica Camera AG", "LEICA Q2", "LEICA Q2"),
        ("Müller", "Ü1", "Müller Ü1"),
    ],
)
def test_a_camera_is_its_make_and_model(make: str, model: str, camera: str) -> None:
    tags = {Base.Make: make.encode(), Base.Model: model.encode()}
    assert metadata(saved(exif=exif(tags)))["camera"] == camera


def test_the_tags_of_windows_are_read() -> None:
    tags = {0x9C9E: "sea;猫\0".encode("utf-16-le"), 0x9C9B: "Title\0".encode("utf-16-le")}
    assert metadata(saved(exif=exif(tags))) == {"keywords": "sea; 猫", "title": "Title"}


@pytest.mark.parametrize(
    "content",
    [
        saved(),
        saved(exif=exif(inner={Base.DateTimeOriginal: "0000:00:00 00:00:00", Base.FocalLength: IFDRational(0, 0)})),
        saved(exif=exif(gps={GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)})),
        saved(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        saved(exif=b"Exif\0\0nonsense"),
        saved(xmp=b"<x:xmpmeta"),
        saved(xmp=b'<!DOCTYPE a [<!ENTITY b "c">]>' + xmp('<rdf:Description xmp:Rating="3"/>')[54:]),
        saved("GIF"),
    ],
)
def test_what_is_damaged_or_meaningless_is_left_out(content: bytes) -> None:
    assert metadata(content) == {}


def test_a_file_that_is_no_image_is_rejected(tmp_path: Path) -> None:
    assert isinstance(read_metadata_of(b"nothing", "a.jpg"), Rejected)
    assert isinstance(read_metadata_of(tmp_path / "gone.jpg", "gone.jpg"), Rejected)
