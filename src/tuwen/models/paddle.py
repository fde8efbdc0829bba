"""CLIP as PaddleClas trains it: one `.pdparams` of OpenAI's towers, by OpenAI's names in Paddle's layout.

Knows the four published architectures and that Paddle keeps the matrix of a linear layer the other way round. The
towers are those of transformers' CLIP; a text is pooled at its end token, as CLIP's are, and not at its first one,
where PaddleClas' own text tower gives every text the same vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuwen.bundle.manifest import ImageSpec
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import read_tensors
from tuwen.models.openclip_tokens import reading
from tuwen.models.openclip_weights import State, depth, text_state, vision_state
from tuwen.models.sources import Contents
from tuwen.models.tokenizers import import_transformers
from tuwen.models.towers import Towers
from tuwen.models.transformers import Pictures, Texts, build, processed_by, towers_of

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEAD = 64
"""How wide a head of attention is, in both towers of all four."""
_LINEAR = (".in_proj.", ".q_proj.", ".k_proj.", ".v_proj.", ".out_proj.", ".c_fc.", ".c_proj.")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What tells the architectures apart."""

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
"""PaddleClas' names, of which `_with_TextEncoder` is left off."""


def load(weights: Path, arch: str | None = None) -> Towers:
    """Load a checkpoint.

    Args:
        weights: the `.pdparams`.
        arch: which of `ARCHITECTURES` it must be; the shapes tell it without.

    Raises:
        InvalidInput: it is no such checkpoint, has no text tower, is of another architecture than said, or could
            run code.
    """
    state = read_tensors(weights)
    if not _is_whole(state):
        raise InvalidInput(f"{weights} is no CLIP of PaddleClas: it lacks the tensors of its two towers")
    sizes = _sizes(state)
    name = next((name for name, known in ARCHITECTURES.items() if known == sizes), weights.stem)
    said = None if arch is None else arch.removesuffix("_with_TextEncoder")
    if said not in (None, name):
        raise InvalidInput(f"{weights} is {name}, not {arch}: leave --arch out, or give the other file")
    model = build(_config(sizes, state), _renamed(state), str(weights))
    pictures = _pictures(model.config.vision_config.image_size)
    texts = reading({"context_length": len(state["positional_embedding"])}, None)  # as PaddleClas copies it
    return towers_of(model, f"paddle:{name}", pictures, Texts(texts.spec, texts.tokenizer, texts.to_tokens))


def is_here(contents: Contents) -> bool:
    """Whether this is a file of such names in Paddle's layout."""
    return contents.path.is_file() and _is_whole(contents.tensors)


def _is_whole(state: Mapping[str, torch.Tensor]) -> bool:
    """OpenAI has one `in_proj_weight` and a linear `c_fc` of (4w, w); Paddle has a layer `in_proj`, and (w, 4w)."""
    up = state.get("visual.transformer.resblocks.0.mlp.c_fc.weight")
    return up is not None and up.shape[0] < up.shape[1] and "token_embedding.weight" in state


def _sizes(state: Mapping[str, torch.Tensor]) -> Sizes:
    width, _, patch, _ = state["visual.conv1.weight"].shape
    layers = depth(state, "visual.transformer.resblocks.")
    return Sizes(width, layers, patch, state["token_embedding.weight"].shape[1])


def _config(sizes: Sizes, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """As `config.json` of transformers' CLIP."""
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
    """By transformers' names, every linear layer turned round; Paddle's `in_proj` is a layer, OpenAI's a pair."""
    ours = {
        name.replace(".in_proj.", ".in_proj_"): tensor.T if tensor.ndim == 2 and _is_linear(name) else tensor
        for name, tensor in state.items()
    }
    return vision_state(ours) | text_state(ours) | {"logit_scale": state["logit_scale"].reshape(())}


def _is_linear(name: str) -> bool:
    return any(part in name for part in _LINEAR)


def _pictures(side: int) -> Pictures:
    """As PaddleClas' CLIP was meant to be fed: OpenAI's preprocessing."""
    spec = ImageSpec(size=(side, side), resize="shortest", crop_rounding="floor", mean=MEAN, std=STD)
    square = {"height": side, "width": side}
    processor = import_transformers().CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size=square, image_mean=list(MEAN), image_std=list(STD)
    )
    return Pictures(spec, processed_by(processor))
