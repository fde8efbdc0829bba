"""Small towers to train: open_clip's own, two blocks each."""

import torch

from tuwen.models import openclip
from tuwen.models.towers import Towers
from tuwen.training.model import Inputs, Pair

SIZE, CONTEXT = 32, 77
OVERRIDES = {
    "embed_dim": 32,
    "vision_cfg": {"layers": 2, "width": 64, "head_width": 16, "patch_size": 8, "image_size": SIZE},
    "text_cfg": {"layers": 2, "width": 32, "heads": 2},
}


def small_towers(seed: int = 0, **overrides: object) -> Towers:
    return openclip.load("ViT-B-32", seed=seed, overrides=OVERRIDES | overrides, tag="openai")


def small_pair(seed: int = 0, loss: str = "infonce", **overrides: object) -> Pair:
    return Pair(small_towers(seed, **overrides), loss, None)


def inputs(count: int, seed: int = 0) -> Inputs:
    random = torch.Generator().manual_seed(seed)
    ids = torch.zeros(count, CONTEXT, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row in range(count):
        length = int(torch.randint(5, 15, (), generator=random))
        ids[row, :length] = torch.randint(1, 49000, (length,), generator=random)
        ids[row, 0], ids[row, length - 1] = 49406, 49407
        mask[row, :length] = 1
    return Inputs(torch.randn(count, 3, SIZE, SIZE, generator=random), ids, mask)


def keys(count: int, *, repeated: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Of pictures and texts: all different; or the first and the last picture, the second and third text alike."""
    images, texts = torch.arange(count), torch.arange(count) + 1000
    if repeated:
        images[-1], texts[2] = images[0], texts[1]
    return images, texts
