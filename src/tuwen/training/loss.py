"""Contrastive losses: InfoNCE (softmax) and SigLIP (a sigmoid for each pair).

Each loss is a mean over the rows of this process; its mean over the processes is the loss of the whole batch.
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
    """The vectors of a batch, with the scale and bias of the loss.

    Attributes:
        images: (n, dim), rows of length 1.
        texts: (n, dim), rows of length 1; row i is the caption of image i.
        scale: (), factor for the cosines.
        bias: (), added to the scaled cosines; None if there is none.
    """

    images: Tensor
    texts: Tensor
    scale: Tensor
    bias: Tensor | None = None


Loss: TypeAlias = Callable[[Vectors, Tensor, Tensor], Tensor]
"""From vectors, image keys (n,) int64 and text keys (n,) int64 to a scalar."""


def info_nce(vectors: Vectors, image_keys: Tensor, text_keys: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy between each image and its caption (Radford et al. 2021).

    Pairs with the same image or the same caption are not negatives: they are left out of the denominator.
    """
    all_images, all_texts = _everyone(vectors)
    repeated, own = _repeated(image_keys, text_keys)
    to_texts = _logits(vectors, vectors.images @ all_texts.T).masked_fill(repeated, -torch.inf)
    to_images = _logits(vectors, vectors.texts @ all_images.T).masked_fill(repeated, -torch.inf)
    return (functional.cross_entropy(to_texts, own) + functional.cross_entropy(to_images, own)) / 2


def sigmoid(vectors: Vectors, image_keys: Tensor, text_keys: Tensor) -> Tensor:
    """SigLIP's loss: a binary classification of every image and caption as a pair or not (Zhai et al. 2023).

    It is summed over all captions and averaged over images. Other pairs of the same image or caption are left out.
    """
    _, all_texts = _everyone(vectors)
    repeated, own = _repeated(image_keys, text_keys)
    logits = _logits(vectors, vectors.images @ all_texts.T)
    signs = torch.full_like(logits, -1.0).scatter_(1, own[:, None], 1.0)
    return -functional.logsigmoid(signs * logits).masked_fill(repeated, 0.0).sum() / len(logits)


LOSSES: dict[str, Loss] = {"infonce": info_nce, "siglip": sigmoid}
"""Losses by their name in the configuration."""


def _everyone(vectors: Vectors) -> tuple[Tensor, Tensor]:
    """Gather the image and text vectors of all processes in one exchange."""
    if world() == 1:
        return vectors.images, vectors.texts
    images, texts = gathered(torch.cat([vectors.images, vectors.texts], dim=1)).chunk(2, dim=1)
    return images, texts


def _logits(vectors: Vectors, cosines: Tensor) -> Tensor:
    logits = vectors.scale * cosines
    return logits if vectors.bias is None else logits + vectors.bias


def _repeated(image_keys: Tensor, text_keys: Tensor) -> tuple[Tensor, Tensor]:
    """Columns that repeat a row's image or caption, (n, all) bool, and the column of each row's pair, (n,) int64."""
    columns = gathered(torch.stack([image_keys, text_keys], dim=1))
    own = torch.arange(len(image_keys), device=image_keys.device) + rank() * len(image_keys)
    repeated = (image_keys[:, None] == columns[None, :, 0]) | (text_keys[:, None] == columns[None, :, 1])
    return repeated.scatter_(1, own[:, None], False), own
