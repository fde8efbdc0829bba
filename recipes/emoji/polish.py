"""The second stage of training: the image tower is locked, and only the text tower is trained.

Captions cost half as much as images and have more to learn. The target of each emoji is the vector that the finished
image tower gives it.
"""

from pathlib import Path

import numpy as np
import torch
from recipes.emoji.augment import MEAN, STD
from recipes.emoji.data import CaptionBatches, Captioned, Material, draw, material
from recipes.emoji.gallery import picture
from recipes.emoji.glyphs import noto
from recipes.emoji.model import IMAGE_SIZE
from recipes.emoji.objective import AT_ONCE, OUT, encode
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from tuwen.training.config import RunConfig
from tuwen.training.model import Pair
from tuwen.training.objective import Objective
from tuwen.training.pairs import Part

VIEWS = 4
"""number of augmented images per emoji; their mean has the same weight in its target as the original drawing"""


class Polished(Objective):
    """Pulls captions towards the vectors of their emoji."""

    def __init__(self, pair: Pair, batches: CaptionBatches, places: Tensor, scale: float) -> None:
        super().__init__(pair, batches)
        self.scale = scale
        self.register_buffer("places", places)

    def forward(self, batch: Captioned) -> Tensor:
        batch = batch.to(self.places.device)
        texts = normalize(encode(self.pair.text, batch.texts), dim=-1)
        return cross_entropy(self.scale * texts @ self.places.T + batch.unseen.float() * OUT, batch.meant)


def polished(pair: Pair, run: RunConfig, part: Part, *, work: str, scenes: float, scale: float) -> Polished:
    """The objective of `configs/tuwen_emoji_polish.yaml`.

    Args:
        pair: the towers.
        run: the run's settings; `batch` is the number of captions.
        part: the rank of this process.
        work: the folder for downloads and intermediate files.
        scenes: the share of captions that name two emoji.
        scale: scale for cosines with the targets.
    """
    known = material(Path(work))
    batches = CaptionBatches(known, (run.seed, part.rank), texts=run.batch, scenes=scenes)
    return Polished(pair, batches, standing_places(pair.vision, known, run.seed), scale)


def standing_places(vision: nn.Module, known: Material, seed: int) -> Tensor:
    """The targets, (emoji, dim) unit rows: each emoji's mean vector of gallery images and augmented images."""
    vision.eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        varied = [normalize(_varied(vision, known, rng), dim=-1) for _ in range(VIEWS)]
        clean = normalize(_clean(vision, known), dim=-1)
        return normalize(clean + torch.stack(varied).mean(0), dim=-1)


def _varied(vision: nn.Module, known: Material, rng: np.random.Generator) -> Tensor:
    positions = range(len(known.captions.emoji))
    starts = range(0, len(positions), AT_ONCE)
    drawn = (draw(known.art, [[p] for p in positions[i : i + AT_ONCE]], rng) for i in starts)
    return torch.cat([_seen(vision, pixels) for pixels in drawn])


def _clean(vision: nn.Module, known: Material) -> Tensor:
    drawn = noto()
    drawings = (drawn(e) for e in known.captions.emoji)
    small = [np.asarray(picture(d).resize((IMAGE_SIZE, IMAGE_SIZE))) for d in drawings if d is not None]
    pixels = (torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 255 - MEAN) / STD
    return torch.cat([_seen(vision, part) for part in pixels.split(AT_ONCE)])


def _seen(vision: nn.Module, pixels: Tensor) -> Tensor:
    return vision(pixels.to(next(vision.parameters()).device))
