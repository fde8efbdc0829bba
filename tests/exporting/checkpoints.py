"""A small checkpoint with random weights that is built and exported exactly as large ones are."""

from tuwen.models.openclip import load
from tuwen.models.towers import Towers

OVERRIDES = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 16},
    "text_cfg": {"layers": 2, "width": 64, "heads": 4},
}


def causal(seed: int = 0) -> Towers:
    """open_clip's ViT-B-32, two layers of width 64."""
    return load("ViT-B-32", overrides=OVERRIDES, seed=seed)
