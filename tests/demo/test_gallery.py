"""The packaged gallery of photos: small, readable, credited, under licences that allow it."""

import re

import pytest
from PIL import Image

from tuwen.demo import photo_credits, photo_gallery

LICENCES = {"CC0-1.0", "CC-BY-2.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "MIT", "Public domain"}


@pytest.fixture(scope="module")
def photos() -> dict[str, bytes]:
    files = [path for path in photo_gallery().rglob("*") if path.is_file()]
    return {path.relative_to(photo_gallery()).as_posix(): path.read_bytes() for path in files}


def test_every_photo_is_credited(photos) -> None:
    credits_of = photo_credits()
    assert credits_of.keys() == photos.keys()
    for path, credit in credits_of.items():
        assert credit["title"], path
        assert credit["author"], path
        assert credit["licence"] in LICENCES, path
        assert credit["source"].startswith("http"), path
        assert credit["licence_url"].startswith("https://"), path


def test_every_photo_can_be_read_by_any_browser(photos) -> None:
    for path in photos:
        assert re.fullmatch(r"[a-z]+/[a-z]+(-[a-z]+)*\.jpg", path)
        with Image.open(photo_gallery() / path) as image:
            image.load()
            assert image.format == "JPEG"
            assert max(image.size) <= 480, path


def test_they_are_many_and_small(photos) -> None:
    assert 80 <= len(photos) <= 150
    assert sum(map(len, photos.values())) <= 6_000_000
    assert len(set(photos.values())) == len(photos)
    assert len({path.split("/")[0] for path in photos}) == 10
