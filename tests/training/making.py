"""Pairs to train on: small pictures, each another, and streams over them that need no model."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import tiny
from tuwen.bundle.manifest import TextSpec
from tuwen.data.tokens import Tokenizer
from tuwen.training.augment import Augment
from tuwen.training.config import AugmentConfig, DataConfig, PairSource
from tuwen.training.data import Batch, Collate, Examples, Plan, Stream
from tuwen.training.pairs import Listing, key_of

WORDS = ("the dog", "cat on the", "the cat on the dog", "dog dog cat", "on")
PLAIN = AugmentConfig(crop="none")


def picture(number: int, size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture file, another for every number."""
    stream = io.BytesIO()
    levels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(levels).resize(size).save(stream, "JPEG")
    return stream.getvalue()


def caption(number: int) -> str:
    return f"{WORDS[number % len(WORDS)]} {number}"


def write_pairs(folder: Path, numbers: Sequence[int]) -> Path:
    """`00007.jpg` with `00007.txt`, below two folders."""
    for number in numbers:
        base = folder / f"{number % 2}" / f"{number:05d}"
        base.parent.mkdir(parents=True, exist_ok=True)
        base.with_suffix(".jpg").write_bytes(picture(number))
        base.with_suffix(".txt").write_text(caption(number), encoding="utf-8")
    return folder


def stream_of(
    data: DataConfig | Path, augment: AugmentConfig = PLAIN, text: TextSpec = tiny.TEXT, **plan: Any
) -> Stream:
    """A stream over a folder or whatever a configuration names, for the tiny model."""
    data = data if isinstance(data, DataConfig) else DataConfig(train=(PairSource(path=data),))
    settings: dict[str, Any] = {"batch": 4, "seed": 1, "max_bad": data.max_bad, "drop_last": data.drop_last} | plan
    collate = Collate(text, Tokenizer(tiny.tokenizer_json(), text).to_tokens, cut=data.cut and text.cut_exact)
    examples = Examples(data, Augment(augment, tiny.IMAGE), settings["seed"])
    return Stream(Listing(data.train), examples, collate, Plan(**settings))


def numbers_of(batches: Sequence[Batch], among: Sequence[int]) -> list[int]:
    """Which pictures are in these batches, by their keys."""
    known = {key_of(picture(number)): number for number in among}
    return [known[int(key)] for batch in batches for key in batch.image_keys]


def same(ours: Sequence[Batch], theirs: Sequence[Batch]) -> bool:
    """Whether two runs of batches are equal to the bit."""
    fields = ("pixels", "ids", "mask", "image_keys", "text_keys")
    return len(ours) == len(theirs) and all(
        getattr(one, name).equal(getattr(other, name))
        for one, other in zip(ours, theirs, strict=True)
        for name in fields
    )
