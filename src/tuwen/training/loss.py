"""How far pictures and captions are from their pairs: InfoNCE over softmax, and SigLIP's sigmoid over all pairs.

Knows unit vectors and keys, of this process and of all others. Does not know towers. Both losses are a mean over
this process' rows; the mean over the processes is the loss of the whole batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from tuwen.training.distributed import gathered, rank, world


@dataclass(frozen=True, slots=True)
class Vectors:
    """One batch as the losses see it.

    Attributes:
        images: (n, dim), rows of length 1.
        texts: (n, dim), likewise; row i is the caption of picture i.
        scale: (), what a cosine is multiplied by.
        bias: (), what is added then; None where there is none.
    """

    images: Tensor
    texts: Tensor
    scale: Tensor
    bias: Tensor | None = None


Loss: TypeAlias = Callable[[Vectors, Tensor, Tensor], Tensor]
"""Vectors, image keys (n,) int64, text keys (n,) int64 to a scalar."""


def info_nce(vectors: Vectors, image_keys: Tensor, text_keys: Tensor) -> Tensor:
    """The symmetric cross-entropy of finding each picture's caption and each caption's picture (Radford 2021).

    A pair of the same picture or the same caption is no negative: it is left out of the sum under the fraction.
    """
    all_images, all_texts = _everyone(vectors)
    repeated, own = _repeated(image_keys, text_keys)
    to_texts = _logits(vectors, vectors.images @ all_texts.T).masked_fill(repeated, -torch.inf)
    to_images = _logits(vectors, vectors.texts @ all_images.T).masked_fill(repeated, -torch.inf)
    return (functional.cross_entropy(to_texts, own) + functional.cross_entropy(to_images, own)) / 2


def sigmoid(vectors: Vectors, image_keys: Tensor, text_keys: Tensor) -> Tensor:
    """SigLIP's loss: each picture with each caption is a question of its own, pair or no pair (Zhai 2023).

    Summed over all captions, a mean over pictures. A pair of the same picture or the same caption is not asked.
    """
    _, all_texts = _everyone(vectors)
    repeated, own = _repeated(image_keys, text_keys)
    logits = _logits(vectors, vectors.images @ all_texts.T)
    signs = torch.full_like(logits, -1.0).scatter_(1, own[:, None], 1.0)
    return -functional.logsigmoid(signs * logits).masked_fill(repeated, 0.0).sum() / len(logits)


LOSSES: dict[str, Loss] = {"infonce": info_nce, "siglip": sigmoid}
"""By the name that the configuration has for them."""


def _everyone(vectors: Vectors) -> tuple[Tensor, Tensor]:
    """The pictures and texts of all processes, in one exchange."""
    if world() == 1:
        return vectors.images, vectors.texts
    images, texts = gathered(torch.cat([vectors.images, vectors.texts], dim=1)).chunk(2, dim=1)
    return images, texts


def _logits(vectors: Vectors, cosines: Tensor) -> Tensor:
    logits = vectors.scale * cosines
    return logits if vectors.bias is None else logits + vectors.bias


def _repeated(image_keys: Tensor, text_keys: Tensor) -> tuple[Tensor, Tensor]:
    """Which of all columns repeat a row's picture or caption, (n, all) bool; and which is its own, (n,) int64."""
    columns = gathered(torch.stack([image_keys, text_keys], dim=1))
    own = torch.arange(len(image_keys), device=image_keys.device) + rank() * len(image_keys)
    repeated = (image_keys[:, None] == columns[None, :, 0]) | (text_keys[:, None] == columns[None, :, 1])
    return repeated.scatter_(1, own[:, None], False), own
