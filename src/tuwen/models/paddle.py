"""CLIP as PaddleClas trains it: one `.pdparams` file with OpenAI's names, and linear layers transposed.

The towers are those of transformers' CLIP. A text is pooled at its end token, as in CLIP, and not at its first token,
where PaddleClas' own text tower gives every text the same vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tuwen.bundle.manifest import ImageSpec
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import Inspection, read_tensors
from tuwen.models.openclip_tokens import reading
from tuwen.models.openclip_weights import State, depth, text_state, vision_state
from tuwen.models.towers import Towers
from tuwen.models.transformers import Pictures, Texts, build, towers_of
from tuwen.types import Pixels

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEAD = 64
"""the width of an attention head, in both towers of all four"""
_LINEAR = (".in_proj.", ".q_proj.", ".k_proj.", ".v_proj.", ".out_proj.", ".c_fc.", ".c_proj.")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that distinguish the architectures."""

    width: int
    layers: int
    patch: int
    text_width: int


ARCHITECTURES = {
    "CLIP_vit_base_patch32_224": Sizes(768, 12, 32, 512),
    "CLIP_vit_base_patch16_224": Sizes(768, 12, 16, 512),
    "CLIP_vit_large_patch14_224": Sizes(1024, 24, 14, 768),
    "CLIP_vit_large_patch16_224": Sizes(1024, 24, 16, 768),
}
"""PaddleClas' names, without the suffix `_with_TextEncoder`"""


def load(weights: Path, arch: str | None = None) -> Towers:
    """Load a checkpoint.

    Args:
        weights: the `.pdparams`.
        arch: the architecture that it must have, one of `ARCHITECTURES`; by default it is inferred from the shapes.

    Raises:
        InvalidInput: it is not such a checkpoint, has no text tower, is of another architecture than `arch`, or could
            run code.
    """
    state = read_tensors(weights)
    if not _is_whole(state):
        raise InvalidInput(
            f"{weights} is not a CLIP checkpoint of PaddleClas: it lacks tensors of the two towers", where=weights
        )
    sizes = _sizes(state)
    name = next((name for name, known in ARCHITECTURES.items() if known == sizes), weights.stem)
    wanted = None if arch is None else arch.removesuffix("_with_TextEncoder")
    if wanted not in (None, name):
        raise InvalidInput(
            f"{weights} is {name}, not {arch}; leave --arch out, or give the other file", value=arch, where=weights
        )
    model = build(_config(sizes, state), _renamed(state), str(weights))
    pictures = _pictures(model.config.vision_config.image_size)
    texts = reading({"context_length": len(state["positional_embedding"])}, None)  # as PaddleClas copies it
    return towers_of(model, f"paddle:{name}", pictures, Texts(texts.spec, texts.tokenizer, texts.to_tokens))


def recognises(found: Inspection) -> bool:
    """Whether this is a file with these names in Paddle's layout."""
    return found.path.is_file() and _is_whole(found.tensors)


def _is_whole(state: Mapping[str, torch.Tensor]) -> bool:
    """OpenAI has one `in_proj_weight` and a linear `c_fc` of (4w, w); Paddle has a layer `in_proj`, and (w, 4w)."""
    up = state.get("visual.transformer.resblocks.0.mlp.c_fc.weight")
    return up is not None and up.shape[0] < up.shape[1] and "token_embedding.weight" in state


def _sizes(state: Mapping[str, torch.Tensor]) -> Sizes:
    width, _, patch, _ = state["visual.conv1.weight"].shape
    layers = depth(state, "visual.transformer.resblocks.")
    return Sizes(width, layers, patch, state["token_embedding.weight"].shape[1])


def _config(sizes: Sizes, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The configuration as in `config.json` of transformers' CLIP."""
    words = len(state["token_embedding.weight"])
    grid = int((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    return {
        "model_type": "clip",
        "projection_dim": state["text_projection"].shape[1],
        "vision_config": _tower(sizes.width, sizes.layers)
        | {"image_size": grid * sizes.patch, "patch_size": sizes.patch},
        "text_config": _tower(sizes.text_width, depth(state, "transformer.resblocks."))
        | {
            "vocab_size": words,
            "max_position_embeddings": len(state["positional_embedding"]),
            "bos_token_id": words - 2,
            "eos_token_id": words - 1,
            "pad_token_id": 0,
        },
    }


def _tower(width: int, layers: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD,
        "hidden_act": "quick_gelu",
    }


def _renamed(state: Mapping[str, torch.Tensor]) -> State:
    """Renamed for transformers, linear layers transposed; Paddle's `in_proj` is a layer, OpenAI's a pair of tensors."""
    ours = {
        name.replace(".in_proj.", ".in_proj_"): tensor.T if tensor.ndim == 2 and _is_linear(name) else tensor
        for name, tensor in state.items()
    }
    return vision_state(ours) | text_state(ours) | {"logit_scale": state["logit_scale"].reshape(())}


def _is_linear(name: str) -> bool:
    return any(part in name for part in _LINEAR)


def _pictures(side: int) -> Pictures:
    """PaddleClas' own operators, in `ppcls/data/preprocess/ops/operators.py`, with the backend `pil` and bicubic.

    `ResizeImage` rounds both sides, `CropImage` rounds the margin down: transformers rounds both down, open_clip
    rounds the margin.
    """
    spec = ImageSpec(
        size=(side, side), resize="shortest", crop_rounding="floor", resize_rounding="round", mean=MEAN, std=STD
    )

    def prepared(images: Sequence[Image.Image]) -> Pixels:
        return np.stack([_prepared(image, side) for image in images])

    return Pictures(spec, prepared)


def _prepared(image: Image.Image, side: int) -> Pixels:
    """One image to (3, side, side) float32."""
    scale = side / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    resized = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    left, top = ((length - side) // 2 for length in size)
    cropped = resized[top : top + side, left : left + side].astype(np.float32) * np.float32(1 / 255)
    mean, std = np.asarray(MEAN, dtype=np.float32), np.asarray(STD, dtype=np.float32)
    normalised: Pixels = (cropped - mean) / std
    return normalised.transpose(2, 0, 1)
