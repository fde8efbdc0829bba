"""What int8 measures its ranges on: pictures and texts as the towers read them, one at a time.

Knows samples and specs. Does not know NNCF.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuwen.bundle.layout import Tower
from tuwen.bundle.manifest import ImageSpec, TextSpec
from tuwen.export.qdq import Feeds
from tuwen.export.samples import TEXTS, Samples, drawn
from tuwen.prepare.pixels import to_pixels
from tuwen.prepare.texts import Tokenizer
from tuwen.types import Pixels, Tokens

MOST = 64
"""More pictures or texts than this change the ranges no more."""
FEWEST = 16
"""With fewer pictures than this, drawn ones join them."""
CHECKED = 32
"""On how many of the samples int8 is compared with fp32 while activations are left out, one after the other."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A tower's inputs.

    Attributes:
        measured: what ranges are measured on, one at a time.
        checked: what the outcome is compared on; half of it, or more, is not in `measured`.
    """

    measured: Sequence[Feeds]
    checked: Sequence[Feeds]


def calibration(
    samples: Samples, image_spec: ImageSpec, text_spec: TextSpec, tokenizer: Tokenizer
) -> dict[Tower, Calibration]:
    """Every second picture and text of the samples, and those built in: the other half is to check on.

    Texts stand at their own length where they may be cut, else padded: as they are encoded.

    Args:
        samples: given ones, or the built-in set.
        image_spec: how pictures become pixels.
        text_spec: with `cut_exact` as it was proved.
        tokenizer: how texts become tokens.
    """
    images, texts = samples.images[::2][:MOST], list(samples.texts[::2][:MOST])
    if len(images) < FEWEST:
        images = [*images, *drawn(2 * FEWEST - len(images))]
    measured = {
        "vision": _pixel_feeds(to_pixels(image_spec, images), 1),
        "text": _token_feeds(tokenizer.to_tokens(list(dict.fromkeys([*texts, *TEXTS]))), text_spec),
    }
    picked, said = samples.images[:CHECKED], list(samples.texts[:CHECKED])
    checked = {
        "vision": _pixel_feeds(to_pixels(image_spec, picked), 8),
        "text": _token_feeds(tokenizer.to_tokens(said), text_spec),
    }
    towers: tuple[Tower, ...] = ("vision", "text")
    return {tower: Calibration(measured[tower], checked[tower]) for tower in towers}


def _pixel_feeds(pixels: Pixels, batch: int) -> list[Feeds]:
    return [{"pixel_values": pixels[start : start + batch]} for start in range(0, len(pixels), batch)]


def _token_feeds(tokens: Tokens, spec: TextSpec) -> list[Feeds]:
    feeds: list[Feeds] = []
    for ids, length in zip(tokens.ids, tokens.lengths, strict=True):
        wide = int(length) if spec.cut_exact else spec.context_length
        row = np.full((1, wide), spec.pad_id, dtype=np.int64)
        row[0, :length] = ids[:length]
        mask = (np.arange(wide) < length).astype(np.int64)[None, :]
        feeds.append({"input_ids": row, "attention_mask": mask} if spec.mask else {"input_ids": row})
    return feeds
