"""Augment training images: random crop, flip, colour jitter and grey, then the model's own normalisation.

All random choices come from the generator that is passed in, so an image is the same in whichever thread it is made.
The last step is exactly the scaling and normalisation of the model's image spec.
"""

import math
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen.bundle.manifest import ImageSpec
from tuwen.data.decode import Reading
from tuwen.data.pixels import framed, normalise
from tuwen.errors import require
from tuwen.models.torchvision import make_torchvision_importable
from tuwen.training.config import AugmentConfig, Jitter

TRIES = 10
"""attempts to draw a crop that lies within the image, as in torchvision"""


class Augment:
    """Turns images into pixels for training. Thread-safe."""

    def __init__(self, config: AugmentConfig, spec: ImageSpec) -> None:
        """Prepare.

        Raises:
            MissingExtra: torchvision is not installed.
        """
        make_torchvision_importable()
        self._functional = require("torchvision.transforms.v2.functional", extra="train")
        self._interpolation = require("torchvision.transforms", extra="train").InterpolationMode(spec.interpolation)
        self._config, self._spec = config, spec

    def reading(self, *, exact: bool, max_pixels: int) -> Reading:
        """How to decode images: at reduced scale, unless `exact`, but large enough for the smallest crop."""
        height, width = self._spec.size
        edge = self._spec.edge or 0
        grown = 1 / math.sqrt(self._config.scale[0]) if self._config.crop == "random" else 1.0
        near = (math.ceil(max(height, edge) * grown), math.ceil(max(width, edge) * grown))
        return Reading(near=None if exact else near, max_pixels=max_pixels, srgb=not exact)

    def __call__(self, image: Image.Image, random: Random) -> NDArray[np.float32]:
        """Augment an image from `read_image` to (3, height, width) float32."""
        picture = self._coloured(self._mirrored(self._part(image, random), random), random)
        pixels = np.empty((3, *self._spec.size), dtype=np.float32)
        normalise(self._spec, np.asarray(picture), pixels)
        return pixels

    def _part(self, image: Image.Image, random: Random) -> Image.Image:
        if self._config.crop == "none":
            return Image.fromarray(framed(self._spec, image))
        top, left, height, width = part_of(image.height, image.width, self._config, random)
        size = list(self._spec.size)
        part: Image.Image = self._functional.resized_crop(
            image, top, left, height, width, size, self._interpolation, antialias=True
        )
        return part

    def _mirrored(self, image: Image.Image, random: Random) -> Image.Image:
        mirrored = self._config.flip > random.random()
        return self._functional.horizontal_flip(image) if mirrored else image

    def _coloured(self, image: Image.Image, random: Random) -> Image.Image:
        if self._config.jitter.probability > random.random():
            image = self._jittered(image, self._config.jitter, random)
        if self._config.grayscale > random.random():
            image = self._functional.rgb_to_grayscale(image, num_output_channels=3)
        return image

    def _jittered(self, image: Image.Image, jitter: Jitter, random: Random) -> Image.Image:
        """Apply colour jitter in random order, as torchvision's ColorJitter does."""
        changes = [
            (self._functional.adjust_brightness, 1.0, jitter.brightness),
            (self._functional.adjust_contrast, 1.0, jitter.contrast),
            (self._functional.adjust_saturation, 1.0, jitter.saturation),
            (self._functional.adjust_hue, 0.0, jitter.hue),
        ]
        random.shuffle(changes)
        for change, middle, width in changes:
            if width:
                image = change(image, random.uniform(middle - width, middle + width))
        return image


def part_of(height: int, width: int, config: AugmentConfig, random: Random) -> tuple[int, int, int, int]:
    """Draw a crop by area and aspect ratio, as torchvision's RandomResizedCrop does: (top, left, height, width).

    If none of ten attempts lies within the image, it is a central crop with the nearest allowed ratio.
    """
    low, high = config.ratio
    for _ in range(TRIES):
        area = height * width * random.uniform(*config.scale)
        ratio = math.exp(random.uniform(math.log(low), math.log(high)))
        down, across = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < across <= width and 0 < down <= height:
            return random.randint(0, height - down), random.randint(0, width - across), down, across
    ratio = min(max(width / height, low), high)
    down, across = min(height, round(width / ratio)), min(width, round(height * ratio))
    down, across = max(down, 1), max(across, 1)
    return (height - down) // 2, (width - across) // 2, down, across
