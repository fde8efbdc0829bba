"""The packaged demo: `tuwen-emoji`, a small multilingual model of pictograms, and a gallery to search with it.

Knows where the two folders stand. Does not read them. Made by `recipes/emoji`; licences are in `NOTICE`.
"""

from importlib.resources import files
from pathlib import Path


def demo_bundle() -> Path:
    """The folder of the bundle `tuwen-emoji`."""
    return Path(str(files(__name__) / "bundle"))


def demo_gallery() -> Path:
    """The folder of the gallery: pictures in folders by group, `animals-and-nature/dog-face.webp`."""
    return Path(str(files(__name__) / "gallery"))
