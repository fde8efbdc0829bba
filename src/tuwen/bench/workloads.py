"""What a benchmark works on: pictures as files, captions all different, the job of the AltCLIP notes.

Made here, the same on every machine, where none are given. Knows no model.
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
"""width and height of the pictures that are made"""
MADE = 8
"""how many different ones"""
FIVE, FIFTY = 5, 50
"""the job: five pictures, and for each five questions in English and in Chinese, all fifty of them different"""

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
    """What all contenders are given.

    Attributes:
        photos: contents of picture files, at least one; as many as are wanted are taken in turn.
        captions: texts of one's own; empty: made ones, others in every round.
    """

    photos: Sequence[bytes]
    captions: Sequence[str] = ()

    def pictures(self, count: int) -> list[bytes]:
        """So many pictures."""
        return [self.photos[place % len(self.photos)] for place in range(count)]

    def texts(self, count: int, turn: int) -> list[str]:
        """So many texts for that round: different ones as far as there are."""
        if not self.captions:
            return captions(count, turn)
        return [self.captions[(turn * count + place) % len(self.captions)] for place in range(count)]


def material(images: Sequence[Path], texts: Path | None) -> Material:
    """Pictures and captions of one's own; made ones for what is not given.

    Args:
        images: pictures, or folders of pictures.
        texts: a file with one caption a line, in UTF-8; empty lines are left out.

    Raises:
        InvalidInput: there is no picture, or no caption.
    """
    found = [item.path for item in find_sources(images, Path.cwd()) if isinstance(item, Source)] if images else []
    lines = [] if texts is None else [line for line in _lines(texts) if line.strip()]
    if images and not found:
        raise InvalidInput(f"there is no picture in {', '.join(map(str, images))}: name pictures, or a folder of them")
    if texts is not None and not lines:
        raise InvalidInput(f"{texts} has no caption: write one a line")
    return Material([path.read_bytes() for path in found] or [photo(seed) for seed in range(MADE)], lines)


def photo(seed: int) -> bytes:
    """A JPEG of soft colours and a little noise, which costs about what a photograph does to decode."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(PHOTO, Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = smooth + rng.integers(-10, 11, smooth.shape, dtype=np.int16)
    stream = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def captions(count: int, seed: int) -> list[str]:
    """So many captions of 6 to 14 words, no two alike; others for every seed."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(draw.choices(_WORDS, k=draw.randint(6, 14)))] = None
    return list(found)


def questions(seed: int) -> list[str]:
    """Fifty label sentences as the AltCLIP notes ask them, half of them Chinese; others for every seed."""
    chosen = random.Random(seed).sample(list(product(_KINDS, _THINGS)), FIFTY // 2)
    english = [f"a photo of a {kind} {thing}" for (kind, _), (thing, _) in chosen]
    return english + [f"一张{kind}的{thing}的图片" for (_, kind), (_, thing) in chosen]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8: {error.reason} at byte {error.start}; convert it") from error
