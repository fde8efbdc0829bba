"""Inputs of a benchmark: image files, captions that all differ, and the job of the AltCLIP notes.

Synthetic unless a user names their own, and then the same on every machine.
"""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from tuwen.data.files import find_sources
from tuwen.errors import InvalidInput
from tuwen.types import Source

PHOTO = (1280, 960)
"""width and height of synthetic images"""
MADE = 8
"""how many of them"""
FIVE, FIFTY = 5, 50
"""the job: five images, and for each five questions in English and five in Chinese, all fifty of them different"""

_WORDS = (
    *("a", "the", "two", "three", "small", "large", "old", "young", "red", "green", "blue", "black", "wooden"),
    *("dog", "cat", "bird", "horse", "child", "woman", "man", "boat", "train", "house", "tree", "flower", "street"),
    *("river", "mountain", "beach", "snow", "rain", "night", "sky", "water", "grass", "table", "chair", "running"),
    *("sitting", "sleeping", "playing", "walking", "standing", "near", "under", "over", "behind", "with", "on"),
)
_KINDS = (("red", "红色"), ("black", "黑色"), ("small", "小"), ("large", "大"), ("old", "旧"), ("wet", "湿"))
_THINGS = (
    *(("dog", "狗"), ("cat", "猫"), ("rat", "老鼠"), ("man", "男人"), ("woman", "女人"), ("bird", "鸟")),
    *(("horse", "马"), ("boat", "船"), ("house", "房子"), ("tree", "树"), ("flower", "花"), ("car", "汽车")),
)


@dataclass(frozen=True, slots=True)
class Material:
    """The inputs that all targets are given.

    Attributes:
        photos: contents of image files, at least one; used in turn.
        captions: texts to use in turn; empty: synthetic ones, different in every round.
    """

    photos: Sequence[bytes]
    captions: Sequence[str] = ()

    def pictures(self, count: int) -> list[bytes]:
        """The contents of so many image files."""
        return [self.photos[place % len(self.photos)] for place in range(count)]

    def texts(self, count: int, turn: int) -> list[str]:
        """So many texts for that round, different as far as there are."""
        if not self.captions:
            return captions(count, turn)
        return [self.captions[(turn * count + place) % len(self.captions)] for place in range(count)]


def material(images: Sequence[Path], texts: Path | None) -> Material:
    """A user's images and captions, and synthetic ones for what they do not name.

    Args:
        images: image files, or folders of images.
        texts: a UTF-8 file with one caption per line; empty lines are ignored.

    Raises:
        InvalidInput: no image or no caption is found there.
    """
    found = [item.path for item in find_sources(images, Path.cwd()) if isinstance(item, Source)] if images else []
    lines = [] if texts is None else _lines(texts)
    if images and not found:
        names = ", ".join(map(str, images))
        raise InvalidInput(f"no image found in {names}: name image files, or a folder of them", value=names)
    if texts is not None and not lines:
        raise InvalidInput(f"{texts} has no caption: write one per line", where=texts)
    return Material([path.read_bytes() for path in found] or [photo(seed) for seed in range(MADE)], lines)


def photo(seed: int) -> bytes:
    """A JPEG of soft colours with a little noise, which takes about as long to decode as a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(PHOTO, Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = smooth + rng.integers(-10, 11, smooth.shape, dtype=np.int16)
    stream = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def captions(count: int, seed: int) -> list[str]:
    """So many different captions of 6 to 14 words; each seed gives others."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(draw.choices(_WORDS, k=draw.randint(6, 14)))] = None
    return list(found)


def questions(seed: int) -> list[str]:
    """Fifty label sentences in the style of the AltCLIP notes, half of them Chinese; each seed gives others."""
    chosen = random.Random(seed).sample(list(product(_KINDS, _THINGS)), FIFTY // 2)
    english = [f"a photo of a {kind} {thing}" for (kind, _), (thing, _) in chosen]
    return english + [f"一张{kind}的{thing}的图片" for (_, kind), (_, thing) in chosen]


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path} is not UTF-8: {error.reason} at byte {error.start}; convert it", where=path
        ) from error
