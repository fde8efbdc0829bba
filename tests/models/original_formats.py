"""Small checkpoints in the formats of their authors, each with towers that open_clip and transformers define.

The towers are put together here from other classes than the families use, so that a wrong name, a matrix left
unturned or a wrong pooling shows.
"""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuwen.models.torchvision import import_open_clip, import_transformers

from . import tiny_transformers

Vectors = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Original:
    """A checkpoint on disk, and what it computes."""

    path: Path
    image: Vectors
    text: Vectors
    scale: float


def _shaken(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random in every tensor: norms of 1 and biases of 0 would hide what is misplaced."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.parameters():
        spread = max(0.08, tensor[0].numel() ** -0.5) if tensor.ndim > 1 else 0.08  # a ResNet fades away else
        tensor.data.copy_(spread * torch.randn(tensor.shape, generator=generator) + (tensor.ndim == 1))
    for tensor in module.buffers():  # running means and variances
        if tensor.ndim == 1 and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return module.eval()


def _clip(vision: dict[str, Any], text: dict[str, Any], dim: int) -> Any:
    """open_clip's CLIP with QuickGELU."""
    made = import_open_clip().CLIP(embed_dim=dim, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    return _shaken(made, 0)


VISION = {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8, "head_width": 64}


RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "patch_size": None, "head_width": 64}


def chinese_clip(folder: Path, vision: dict[str, Any] = VISION) -> Original:
    """As the authors' training saves it: `module.` before all, half of it fp16, BERT's unused pooling included."""
    transformers = import_transformers()
    visual = _clip(vision, {"context_length": 8, "vocab_size": 16, "width": 64, "heads": 1, "layers": 1}, 24).visual
    settings = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 256}
    config = transformers.BertConfig(vocab_size=21128, **settings)
    bert = _shaken(transformers.BertModel(config), 1)
    for word in (bert.embeddings.word_embeddings.weight,):
        word.data.copy_(word.data.half().float())
    projection = torch.randn(64, 24, generator=torch.Generator().manual_seed(2))
    state = {f"module.visual.{name}": tensor for name, tensor in visual.state_dict().items()}
    state |= {f"module.bert.{name}": tensor for name, tensor in bert.state_dict().items()}
    state |= {"module.text_projection": projection, "module.logit_scale": torch.tensor(4.1)}
    state["module.bert.embeddings.word_embeddings.weight"] = bert.embeddings.word_embeddings.weight.data.half()
    torch.save({"epoch": 2, "name": "finetune", "state_dict": state}, folder / "clip_cn.pt")

    def text(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return bert(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0] @ projection

    return Original(folder / "clip_cn.pt", visual, text, 4.1)


def flagai(folder: Path, text_type: str = "xlm-roberta") -> Original:
    """A folder as FlagAI's AutoLoader leaves it."""
    transformers = import_transformers()
    words = tiny_transformers.TOKENIZERS["altclip"](folder)
    text = {"model_type": text_type, "vocab_size": words, "max_position_embeddings": 90, "type_vocab_size": 1}
    text |= tiny_transformers.TEXT | {"layer_norm_eps": 1e-5, "pad_token_id": 1, "project_dim": 20}
    roberta = _shaken(transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**text)), 0)
    head = torch.nn.ModuleDict(
        {
            "pre_LN": torch.nn.LayerNorm(32, eps=1e-5),
            "transformation": torch.nn.Linear(32, 20),
            "text_projection": torch.nn.Linear(20, 24, bias=False),
        }
    )
    _shaken(head, 1)
    vision = transformers.CLIPVisionConfig(**tiny_transformers.VISION, projection_dim=24)
    image = _shaken(transformers.CLIPVisionModelWithProjection(vision), 2)
    names = {"text_projection.weight": "text_projection.weight"}
    state = {f"text_model.roberta.{name}": tensor for name, tensor in roberta.state_dict().items()}
    state |= {names.get(name, f"text_model.{name}"): tensor for name, tensor in head.state_dict().items()}
    state |= image.state_dict() | {"logit_scale": torch.tensor(3.2)}
    torch.save(state, folder / "pytorch_model.bin")
    config = {"text_config": text, "vision_config": tiny_transformers.VISION, "projection_dim": 24}
    config |= {"model_type": "clip", "architectures": ["CLIPHF"], "num_layers": 3, "variant": "invert"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(tiny_transformers.processor("altclip")))

    def text_vectors(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = head["pre_LN"](roberta(input_ids=ids, attention_mask=mask).last_hidden_state)[:, 0]
        return head["text_projection"](head["transformation"](states))

    return Original(folder, lambda pixels: image(pixel_values=pixels).image_embeds, text_vectors, 3.2)


def paddle(folder: Path, *, one_matrix: bool = True) -> Original:
    """As `paddle.save` writes it; queries, keys and values in one linear layer, or in three, as Paddle's own."""
    clip = _clip(VISION, {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}, 24)
    clip.logit_scale.data.fill_(3.9)
    arrays: dict[str, Any] = {}
    for name, tensor in clip.state_dict().items():
        for new, piece in _in_paddle(name, tensor, one_matrix):
            arrays[new] = piece.contiguous().numpy()
    arrays["logit_scale"] = arrays["logit_scale"].reshape(1)
    table = {"StructuredToParameterName@@": {name: f"create_parameter_{i}.w_0" for i, name in enumerate(arrays)}}
    path = folder / "best_model.pdparams"
    path.write_bytes(pickle.dumps(arrays | table, protocol=4))
    return Original(path, clip.encode_image, clip.encode_text, 3.9)


def _in_paddle(name: str, tensor: torch.Tensor, one_matrix: bool) -> list[tuple[str, torch.Tensor]]:
    """Paddle's linear layers hold (in, out)."""
    if name == "attn_mask":
        return []
    turned = tensor.T if name.endswith(("out_proj.weight", "c_fc.weight", "c_proj.weight")) else tensor
    if ".in_proj_" not in name:
        return [(name, turned)]
    place, ending = name.split(".in_proj_")
    if one_matrix:
        return [(f"{place}.in_proj.{ending}", tensor.T if tensor.ndim == 2 else tensor)]
    pieces = zip("qkv", tensor.chunk(3), strict=True)
    return [(f"{place}.{letter}_proj.{ending}", piece.T if piece.ndim == 2 else piece) for letter, piece in pieces]
