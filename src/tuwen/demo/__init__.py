"""What is packaged with tuwen to be tried at once: models, and galleries of pictures to search with them.

    pictograms   emoji in 18 languages, made by `recipes/emoji`: `bundle/`, `gallery/`; licences are in `NOTICE`
    photo        photos, made by `recipes/photo`: beside this package, in `tuwen/photo`, with `NOTICE` and `CREDITS.tsv`

An index of the pictograms from before it had this name calls its model `demo` or `tuwen-emoji`.
"""

import csv
from importlib.resources import files
from pathlib import Path

PHOTO = "photo"
"""the name of the packaged model of photos"""
PICTOGRAMS = "pictograms"
"""the name of the packaged model of pictograms"""
ALIASES = ("demo", "tuwen-emoji")
"""its earlier names"""


def packaged_bundles() -> dict[str, Path]:
    """The folders of the packaged models, by every name that loads them."""
    return {PHOTO: photo_bundle(), **dict.fromkeys((PICTOGRAMS, *ALIASES), demo_bundle())}


def packaged_names(folder: Path) -> list[str]:
    """The names of the packaged model in this folder, its own first; empty if there is none."""
    return [name for name, place in packaged_bundles().items() if place.resolve() == folder.resolve()]


def demo_bundle() -> Path:
    """The folder of the bundle `pictograms`."""
    return Path(str(files(__name__) / "bundle"))


def demo_gallery() -> Path:
    """The folder of the gallery of pictograms: pictures in folders by group, `animals-and-nature/dog-face.webp`."""
    return Path(str(files(__name__) / "gallery"))


def photo_bundle() -> Path:
    """The folder of the bundle `photo`."""
    return _photo() / "bundle"


def photo_gallery() -> Path:
    """The folder of the gallery of photos: in folders by kind, `animals/kingfisher.jpg`."""
    return _photo() / "gallery"


def photo_credits() -> dict[str, dict[str, str]]:
    """Path within the gallery of photos -> its `title`, `author`, `licence`, `licence_url`, `source` and `changes`."""
    with (_photo() / "CREDITS.tsv").open(encoding="utf-8", newline="") as file:
        return {row.pop("path"): row for row in csv.DictReader(file, delimiter="\t")}


def _photo() -> Path:
    return Path(str(files("tuwen") / "photo"))
