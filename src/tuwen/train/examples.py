"""A listed pair to an example: its picture read and augmented, one of its captions drawn.

Everything random depends on seed, epoch and key alone. Knows files, rows and captions. Does not know batches.
"""

from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import NDArray

from tuwen.prepare.images import read_image
from tuwen.prepare.rowgroups import RowGroups
from tuwen.prepare.samples import Listed, Sample, read_sample
from tuwen.train.augment import Augment
from tuwen.train.captions import captions_of, draw
from tuwen.train.chance import chance, key_of
from tuwen.train.config_data import DataConfig
from tuwen.train.listing import Pair
from tuwen.types import Rejected


@dataclass(frozen=True, slots=True)
class Example:
    """A pair that has been read: pixels (3, h, w) float32, one caption, and a number of the picture's content."""

    pixels: NDArray[np.float32]
    text: str
    image_key: int


class Examples:
    """Reads pairs. May be used by many threads at once."""

    def __init__(self, config: DataConfig, augment: Augment, seed: int) -> None:
        self._weights, self._seed = config.languages, seed
        self._augment = augment
        self._reading = augment.reading(exact=config.exact, max_pixels=config.max_pixels)
        self._rows = RowGroups()

    def read(self, pair: Pair, epoch: int) -> Example | Rejected:
        """An epoch's example of a pair, or why there is none. Nothing is raised for what is wrong with a pair."""
        sample = read_pair(pair, self._rows)
        if isinstance(sample, Rejected):
            return sample
        text = draw(
            captions_of(pair.listed, sample, pair.source),
            self._weights,
            Random(chance(self._seed, epoch, pair.key, "caption")),
        )
        if text is None:
            wanted = f" in {', '.join(self._weights)}" if self._weights else ""
            return Rejected(pair.listed.key, f"has no caption{wanted}")
        if sample.image is None:
            return Rejected(pair.listed.key, "has no picture")
        picture = read_image(sample.image, sample.name, self._reading)
        if isinstance(picture, Rejected):
            return Rejected(pair.listed.key, picture.reason)
        random = Random(chance(self._seed, epoch, pair.key, "augment"))
        return Example(self._augment(picture.image, random), text, key_of(sample.image))


def read_pair(pair: Pair, rows: RowGroups) -> Sample | Rejected:
    """A pair's picture and captions as stored, or why they cannot be read; `rows` reads those of tables."""
    listed: Listed | Sample | Rejected = pair.listed
    if pair.source.captions is None and pair.source.language_column is None:
        listed = replace(pair.listed, facts=None)  # a caption's file is all that is needed of what is beside
    if isinstance(listed, Listed) and listed.row is not None:
        listed = rows.read(listed, listed.row)
    return read_sample(listed) if isinstance(listed, Listed) else listed
