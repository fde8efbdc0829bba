"""The tensors of a transformer as OpenAI's CLIP names them, by the names that transformers gives them.

A Vision Transformer, and a text tower of the same blocks. Knows names and layouts, no family: OpenAI keeps queries,
keys and values in one matrix, and writes its projections the other way round.
"""

from collections.abc import Iterator, Mapping

import torch

State = dict[str, torch.Tensor]

_VISION = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final": "final_layer_norm",
}
_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def vision_state(state: Mapping[str, torch.Tensor]) -> State:
    """A Vision Transformer's tensors, from names below `visual.`, with its projection."""
    inner = _below(state, "visual.")
    projection = {"visual_projection.weight": inner.pop("proj").T}
    return {f"vision_model.{name}": tensor for name, tensor in _tower(inner, _VISION)} | projection


def text_state(state: Mapping[str, torch.Tensor]) -> State:
    """A causal text tower's tensors, from names without a prefix, with its projection."""
    inner = {name: tensor for name, tensor in state.items() if not name.startswith(("visual.", "logit_"))}
    projection = {"text_projection.weight": inner.pop("text_projection").T}
    return {f"text_model.{name}": tensor for name, tensor in _tower(inner, _TEXT)} | projection


def depth(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    """How many numbered modules there are below `prefix`."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)})


def _below(state: Mapping[str, torch.Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _tower(state: State, around: Mapping[str, str]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in state.items():
        if name.startswith("transformer.resblocks."):
            _, _, number, part = name.split(".", 3)
            for new, piece in _block(part, tensor):
                yield f"encoder.layers.{number}.{new}", piece
        else:
            yield _renamed(name, around), tensor


def _block(part: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """One tensor of a block; of `in_proj`, its three parts."""
    if part.startswith("attn.in_proj"):
        ending = part.removeprefix("attn.in_proj")[1:]
        for letter, piece in zip("qkv", tensor.chunk(3), strict=True):
            yield f"self_attn.{letter}_proj.{ending}", piece
    else:
        yield _renamed(part, _BLOCK), tensor


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """The new name of a tensor, or of the module it belongs to. One without keeps its own, and fits nowhere."""
    if name in names:
        return names[name]
    module, _, ending = name.rpartition(".")
    return f"{names[module]}.{ending}" if module in names else name
