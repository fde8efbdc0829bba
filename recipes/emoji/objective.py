"""The first stage of training: images and captions are pulled towards anchors, and towards each other.

Each emoji has an anchor, a learned vector that is discarded at the end. Images and captions are pulled towards the
anchors of their emoji (softmax over all emoji, not only those in the batch) and towards each other (softmax within the
batch). Once the images have settled, captions are pulled towards a moving average of the images of their emoji instead
of the anchors. Other images and captions of the same emoji are never negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from recipes.emoji.data import Batch, Batches, Material, material, pad
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

from tuwen.training.config import RunConfig
from tuwen.training.model import Pair
from tuwen.training.objective import Objective
from tuwen.training.pairs import Part

OUT = -1e4
"""a logit without influence"""
AT_ONCE = 128
"""number of texts of similar length that are encoded together"""


@dataclass(frozen=True, slots=True)
class Pull:
    """The strength and the targets of the loss.

    Attributes:
        anchor_scale: scale for cosines with anchors. It is deliberately low: with a scale of 30, the loss vanishes at
            cosines of 0.4, and an image and its caption, both at 0.4 of their anchor, need not be near each other.
        direct_from: the batch from which captions are pulled towards the average of images instead of the anchors.
        direct_scale: scale for cosines with those averages.
        follow: the weight of each new image of an emoji in its moving average.
    """

    anchor_scale: float = 14.0
    direct_from: int = 600
    direct_scale: float = 20.0
    follow: float = 0.3


class Anchored(Objective):
    """Pulls images and captions towards anchors and towards each other."""

    def __init__(self, pair: Pair, batches: Batches, pull: Pull) -> None:
        super().__init__(pair, batches)
        self.pull = pull
        count, dim = len(batches.captions.emoji), pair.vision.head.out_features
        self.anchors = nn.Parameter(torch.randn(count, dim) * 0.1)
        self.register_buffer("places", torch.zeros(count, dim))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> Tensor:
        batch = batch.to(self.anchors.device)
        pixels = batch.pixels.contiguous(memory_format=torch.channels_last)
        images = normalize(self.pair.vision(pixels), dim=-1)
        texts = normalize(encode(self.pair.text, batch.said.texts), dim=-1)
        anchors = normalize(self.anchors, dim=-1)
        hidden = batch.said.unseen.float() * OUT
        aims = self._aims(batch.shown, images.detach(), anchors)
        image = cross_entropy(self.pull.anchor_scale * images @ anchors.T, batch.shown)
        text = cross_entropy(texts @ aims.T + hidden, batch.said.meant)
        return image + text + self._pairs(batch, images, texts, hidden)

    def _aims(self, shown: Tensor, images: Tensor, anchors: Tensor) -> Tensor:
        """The scaled targets of captions: the anchors, and later the moving averages of images."""
        if self.seen == self.pull.direct_from:
            self.places.copy_(anchors.detach())
        self.seen += 1
        if self.seen <= self.pull.direct_from:
            return anchors * self.pull.anchor_scale
        alone = (shown == 1).any(-1)
        positions = shown[alone].argmax(-1)
        moved = torch.lerp(self.places[positions], images[alone], self.pull.follow)
        self.places[positions] = normalize(moved, dim=-1)
        return self.places * self.pull.direct_scale

    def _pairs(self, batch: Batch, images: Tensor, texts: Tensor, hidden: Tensor) -> Tensor:
        """The contrastive loss within the batch, in both directions; captions and images of one emoji are positive."""
        logits = self.pair.log_scale.exp() * texts @ images.T
        positive = (batch.said.meant > 0).float() @ (batch.shown > 0).float().T > 0
        logits = logits + ((hidden @ batch.shown.T) < 0) * ~positive * OUT
        return 0.5 * (any_of(logits, positive) + any_of(logits.T, positive.T))


def anchored(
    pair: Pair, run: RunConfig, part: Part, *, work: str, texts: int, scenes: float, **pull: float
) -> Anchored:
    """The objective of `configs/tuwen_emoji.yaml`.

    Args:
        pair: the towers.
        run: the run's settings; `batch` is the number of images.
        part: the rank of this process.
        work: the folder for downloads and intermediate files.
        texts: number of captions per batch.
        scenes: the share of images with two or three emoji.
        pull: see `Pull`.
    """
    known: Material = material(Path(work))
    batches = Batches(known, (run.seed, part.rank), pictures=run.batch, texts=texts, scenes=scenes)
    return Anchored(pair, batches, Pull(**pull))


def any_of(logits: Tensor, positive: Tensor) -> Tensor:
    """The negative logarithm of the total probability of all positives; rows without a positive are ignored."""
    rows = positive.any(-1)
    chosen = log_softmax(logits[rows], -1).masked_fill(~positive[rows], OUT)
    return -chosen.logsumexp(-1).mean()


def encode(tower: nn.Module, texts: Sequence[list[int]], at_once: int = AT_ONCE) -> Tensor:
    """Encode texts in chunks of similar length; the vectors are in the order of the texts."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    device = next(tower.parameters()).device
    starts = range(0, len(order), at_once)
    padded = (pad([texts[row] for row in order[i : i + at_once]]) for i in starts)
    chunks = [tower(ids.to(device), mask.to(device)) for ids, mask in padded]
    back = torch.empty(len(order), dtype=torch.int64)
    back[order] = torch.arange(len(order))
    return torch.cat(chunks)[back.to(device)]
